//! Files that are only ever added to, in directories that others may write to: no symbolic link is followed
//! on the way to them, and what is found there is a file with one name, or is refused.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::sys::{O_NOFOLLOW, O_NONBLOCK, cerr_long};

/// Who may read the files.
const FILE_MODE: u32 = 0o640;
/// Who may look into directories that are made for them.
const DIRECTORY_MODE: u32 = 0o750;

/// Whether a directory that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Made,
    Refused,
}

/// A directory that was reached without following a link.
#[derive(Debug)]
pub struct Directory(File);

impl Directory {
    /// The directory at this absolute path. From `made_below` on, what is missing is made.
    pub fn open(path: &Path, made_below: Option<&Path>) -> io::Result<Self> {
        let mut here = File::open("/")?;
        let mut shown = PathBuf::from("/");
        for part in path.components() {
            let Component::Normal(name) = part else {
                if part == Component::RootDir {
                    continue;
                }
                return Err(refusal("its path is not absolute, or leads up again"));
            };
            shown.push(name);
            let missing = made_below.is_some_and(|top| shown.starts_with(top));
            let missing = if missing { Missing::Made } else { Missing::Refused };
            here = below(&here, name, missing).map_err(|e| about(&e, &shown))?;
        }
        Ok(Self(here))
    }

    /// The file of this name, which is made if there is none, open for adding to it.
    pub fn append(&self, name: &OsStr) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        let file = options.open(self.at(name)).map_err(link_refused)?;
        one_file(&file)?;
        Ok(file)
    }

    /// A new file of this name.
    pub fn create(&self, name: &OsStr) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(self.at(name))
    }

    /// The file of this name, for reading.
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(self.at(name));
        let file = file.map_err(link_refused)?;
        one_file(&file)?;
        Ok(file)
    }

    /// Gives a file another name, if nothing has that one.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let c = |name: &OsStr| CString::new(name.as_bytes()).map_err(io::Error::other);
        let (from, to) = (c(from)?, c(to)?);
        let dir = self.0.as_raw_fd();
        // SAFETY: both names end with a NUL and outlive the call, which touches no other memory.
        let renamed = unsafe {
            libc::syscall(libc::SYS_renameat2, dir, from.as_ptr(), dir, to.as_ptr(), libc::RENAME_NOREPLACE)
        };
        cerr_long(renamed).map(drop)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    /// The names of what begins with `prefix`.
    pub fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.at(OsStr::new(".")))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    fn at(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(name)
    }
}

/// The directory and the name of the file at this path.
pub fn split(path: &Path) -> Option<(&Path, OsString)> {
    path.parent().zip(path.file_name().map(ToOwned::to_owned))
}

fn below(directory: &File, name: &OsStr, missing: Missing) -> io::Result<File> {
    let at = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let open = || {
        let flags = libc::O_PATH | libc::O_DIRECTORY | O_NOFOLLOW;
        OpenOptions::new().read(true).custom_flags(flags).open(&at)
    };
    match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound && missing == Missing::Made => {
            match DirBuilder::new().mode(DIRECTORY_MODE).create(&at) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                Ok(()) | Err(_) => open(),
            }
        }
        Err(e) if fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_symlink()) => {
            let _ = e;
            Err(refusal("it is a symbolic link, which is not followed"))
        }
        opened => opened,
    }
}

/// Somebody who may write to the directory could have a file of another's under this name.
fn one_file(file: &File) -> io::Result<()> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(refusal("it is not a regular file"));
    }
    if meta.nlink() > 1 {
        return Err(refusal("it has another name, too (a hard link)"));
    }
    Ok(())
}

fn link_refused(e: io::Error) -> io::Error {
    if e.raw_os_error() == Some(libc::ELOOP) {
        return refusal("it is a symbolic link, which is not followed");
    }
    // A FIFO that nobody reads.
    if e.raw_os_error() == Some(libc::ENXIO) { refusal("it is not a regular file") } else { e }
}

fn refusal(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn about(e: &io::Error, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("provost-append-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::canonicalize(path).unwrap()
    }

    #[test]
    fn no_link_is_followed_and_no_other_file_is_taken() {
        let dir = scratch("links");
        fs::write(dir.join("other"), "x").unwrap();
        symlink(dir.join("other"), dir.join("link")).unwrap();
        symlink(&dir, dir.join("up")).unwrap();
        fs::hard_link(dir.join("other"), dir.join("hard")).unwrap();
        let here = Directory::open(&dir, None).unwrap();
        for name in ["link", "hard", "up"] {
            let e = here.append(OsStr::new(name)).unwrap_err();
            assert!(!e.to_string().is_empty(), "{name}");
        }
        assert!(Directory::open(&dir.join("up"), None).unwrap_err().to_string().contains("symbolic link"));
        assert!(Directory::open(&dir.join("../x"), None).is_err());
        assert_eq!(fs::read(dir.join("other")).unwrap(), b"x");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn directories_are_made_below_one_only() {
        let dir = scratch("made");
        let deep = dir.join("logs/shop");
        assert!(Directory::open(&deep, None).is_err());
        let made = Directory::open(&deep, Some(&dir.join("logs"))).unwrap();
        made.append(OsStr::new("a")).unwrap();
        assert_eq!(fs::metadata(deep.join("a")).unwrap().mode() & 0o777 & !0o640, 0);
        made.append(OsStr::new("b")).unwrap();
        assert!(made.rename(OsStr::new("a"), OsStr::new("b")).is_err(), "nothing is overwritten");
        made.rename(OsStr::new("a"), OsStr::new("c")).unwrap();
        let mut names = made.names("").unwrap();
        names.sort();
        assert_eq!(names, ["b", "c"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
