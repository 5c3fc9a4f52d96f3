//! Small files that are read or replaced whole: the configuration, and the secrets, certificates and users
//! that it names. Why one cannot be read is said in words, without its path, which the caller knows how to
//! name.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Component, Path, PathBuf, absolute};

use ring::digest;

use crate::sys::system::euid;
use crate::sys::{O_NOFOLLOW, O_NONBLOCK};

/// The longest password, in bytes.
const SECRET_LEN_MAX: u64 = 4096;

/// How much of a script the kernel looks at for its interpreter, in bytes.
const INTERPRETER_LEN_MAX: usize = 256;

/// How much of a file is hashed at once, in bytes.
const HASHED_LEN: usize = 64 << 10;

/// The most symbolic links on one path, as in path_resolution(7).
const LINKS_MAX: u32 = 40;

/// The first `max` bytes of a regular file, and when it was changed, ms since the epoch.
pub fn beginning(path: &Path, max: u64) -> Result<(Vec<u8>, i64), String> {
    let file = open(path)?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok((bytes, meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000))
}

/// A regular file of at most `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    content(&open(path)?, max)
}

/// A file of at most `max` bytes that nobody but root and ourselves can change or replace. What is checked is
/// what is open, from the root directory on.
pub fn guarded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    content(&guarded_file(path)?, max)
}

/// The same, open, for one that is read or executed by its descriptor.
pub fn guarded_file(path: &Path) -> Result<File, String> {
    let file = open_guarded(path)?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    check(&meta, path)?;
    Ok(file)
}

/// A file of at most `max` bytes that only its owner may read, and that is ours or root's.
pub fn private(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    content(&private_file(path)?, max)
}

/// The same, open to be read.
pub fn private_file(path: &Path) -> Result<File, String> {
    let file = open_guarded(path)?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if meta.mode() & 0o077 != 0 {
        return Err(format!(
            "others than its owner have access to it (mode {:04o}): chmod 600",
            meta.mode() & 0o7777
        ));
    }
    if meta.uid() != 0 && meta.uid() != euid() {
        return Err(format!("it belongs to another user (uid {})", meta.uid()));
    }
    Ok(file)
}

/// What the name of a file ends with while it is written. No name that we make files of can end so.
pub const NEW_SUFFIX: &str = "~new";

/// Whether both paths lead to the same; what is not there is only itself.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Puts a new file in the place of an old one, if there is one: whoever reads it sees the one or the other.
/// It is on the disk when this returns, and belongs to whom the old one did: who may read that may be
/// another user than ours. Its directory is to be locked against others who do the same.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    put(path, mode, bytes, File::sync_all)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// The same for what is of no use when the machine has ended: no disk is waited for.
pub fn replace_for_now(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    put(path, mode, bytes, |_| Ok(()))
}

fn put(path: &Path, mode: u32, bytes: &[u8], keep: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW_SUFFIX);
    let new = Path::new(&new);
    let owner = match fs::symlink_metadata(path) {
        Ok(old) if old.is_file() => Some((old.uid(), old.gid())),
        Ok(_) => None,
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(new);
    let mut file = match open() {
        // The directory is locked: what has this name was left by a crash.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(new)?;
            open()?
        }
        opened => opened?,
    };
    let give = |file: &File| {
        let Some((uid, gid)) = owner else { return Ok(()) };
        let ours = file.metadata()?;
        match fchown(file, Some(uid), Some(gid)) {
            // The group is not what decides who may read it.
            Err(e) if uid != ours.uid() => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    };
    let written = give(&file)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| keep(&file))
        .and_then(|()| fs::rename(new, path));
    if written.is_err() {
        let _ = fs::remove_file(new);
    }
    written
}

/// The password in such a file, without the end of its line.
pub fn password(path: &Path) -> Result<String, String> {
    let bytes = private(path, SECRET_LEN_MAX)?;
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    // In its place: a copy would be left behind in memory.
    for end in ['\n', '\r'] {
        if text.ends_with(end) {
            text.pop();
        }
    }
    if text.is_empty() || text.contains(char::is_control) {
        return Err("it is to hold the password on one line, and nothing else".to_owned());
    }
    Ok(text)
}

/// Opens without waiting, whatever it is, and goes on only with a regular file.
fn open(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let file = file.map_err(|e| e.to_string())?;
    let is_file = file.metadata().map_err(|e| e.to_string())?.is_file();
    if is_file { Ok(file) } else { Err("it is not a regular file".to_owned()) }
}

/// Opens a file at the end of a path of which others can change no part. The file itself is for the caller to
/// check.
fn open_guarded(path: &Path) -> Result<File, String> {
    let failed = |e: io::Error| e.to_string();
    // A link may lead to the root directory, so the way back is kept.
    let root = File::open("/").map_err(failed)?;
    let mut way = vec![(root, PathBuf::from("/"))];
    let mut left: VecDeque<OsString> = parts(&absolute(path).map_err(failed)?);
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            way.truncate((way.len() - 1).max(1));
            continue;
        }
        let (directory, shown) = way.last().expect("the root directory stays");
        check(&directory.metadata().map_err(failed)?, shown)?;
        let (at, shown) = (below(directory, &part), shown.join(&part));
        let here = OpenOptions::new().read(true).custom_flags(libc::O_PATH | O_NOFOLLOW).open(&at);
        let here = here.map_err(failed)?;
        let meta = here.metadata().map_err(failed)?;
        if meta.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err("there are too many symbolic links on its path".to_owned());
            }
            // In a directory such as /tmp, others' links lead wherever they want.
            owned(&meta, &shown)?;
            let target = fs::read_link(&at).map_err(failed)?;
            if target.is_absolute() {
                way.truncate(1);
            }
            let mut parts = parts(&target);
            parts.append(&mut left);
            left = parts;
        } else if meta.is_dir() && !left.is_empty() {
            way.push((here, shown));
        } else if !left.is_empty() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).to_string());
        } else {
            return open(&PathBuf::from(format!("/proc/self/fd/{}", here.as_raw_fd())));
        }
    }
    Err("it is not a regular file".to_owned())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(part).collect()
}

/// A path into an open directory.
fn below(directory: &File, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

/// Refuses what others can change.
fn check(meta: &Metadata, path: &Path) -> Result<(), String> {
    owned(meta, path)?;
    // In a directory such as /tmp no user can replace another's file.
    let is_sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    if meta.mode() & 0o022 == 0 || is_sticky {
        return Ok(());
    }
    let (mode, path) = (meta.mode() & 0o7777, path.display());
    Err(format!("others can change {path}, which has mode {mode:04o}: chmod go-w {path}"))
}

fn owned(meta: &Metadata, path: &Path) -> Result<(), String> {
    if meta.uid() == 0 || meta.uid() == euid() {
        return Ok(());
    }
    Err(format!("{} belongs to another user (uid {})", path.display(), meta.uid()))
}

/// The SHA-256 of what is left to read of a file, as hexadecimal digits.
pub fn sha256(mut file: &File) -> io::Result<String> {
    let (mut context, mut buffer) = (digest::Context::new(&digest::SHA256), vec![0; HASHED_LEN]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()),
            len => context.update(&buffer[..len]),
        }
    }
}

/// What executes a script, by its first line; none: it is none.
pub fn interpreter(file: &File) -> io::Result<Option<OsString>> {
    let mut head = [0; INTERPRETER_LEN_MAX];
    let len = file.read_at(&mut head, 0)?;
    let Some(line) = head[..len].strip_prefix(b"#!") else { return Ok(None) };
    let line = line.split(|&b| b == b'\n' || b == 0).next().unwrap_or_default().trim_ascii_start();
    // As the kernel: what follows is an argument.
    let path = line.split(|&b| b == b' ' || b == b'\t').next().unwrap_or_default();
    Ok(Some(OsStr::from_bytes(path).to_owned()))
}

/// What is in an open file, at most `max` bytes, from where it stands.
pub fn content(file: &File, max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > max { Err(format!("it is larger than {max} bytes")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_keeps_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        replace(&path, 0o600, b"one").unwrap();
        let ours = fs::metadata(&path).unwrap();
        assert_eq!(ours.uid(), euid());
        if euid() == 0 {
            std::os::unix::fs::chown(&path, Some(65534), Some(65533)).unwrap();
            replace(&path, 0o600, b"two").unwrap();
            let its = fs::metadata(&path).unwrap();
            assert_eq!((its.uid(), its.gid(), its.mode() & 0o7777), (65534, 65533, 0o600));
        }
        assert_ne!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn every_part_of_a_path_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("a"), dir.path().join("a/b"));
        fs::create_dir_all(&lower).unwrap();
        let (file, link) = (lower.join("ca.pem"), dir.path().join("link"));
        fs::write(&file, "x").unwrap();
        symlink("a/b/../b", &link).unwrap();
        let all = || [guarded(&file, 9), guarded(&link.join("ca.pem"), 9)];
        [&upper, &lower].into_iter().for_each(|dir| chmod(dir, 0o755));
        chmod(&file, 0o644);
        assert_eq!(all(), [Ok(b"x".into()), Ok(b"x".into())]);
        for (part, good) in [(&upper, 0o755), (&lower, 0o755), (&file, 0o644)] {
            chmod(part, good | 0o022);
            for read in all() {
                let why = read.unwrap_err();
                assert!(why.contains("others can change") && why.contains("chmod go-w"), "{why}");
            }
            chmod(part, good);
        }
        chmod(&upper, 0o1777);
        assert!(all().iter().all(Result::is_ok), "as /tmp is");
        // What is no file at the end, and links in a circle.
        symlink("round", dir.path().join("round")).unwrap();
        assert!(guarded(&lower, 9).unwrap_err().contains("not a regular file"));
        assert!(guarded(&dir.path().join("round"), 9).unwrap_err().contains("symbolic links"));
        assert!(guarded(&file.join("x"), 9).is_err() && guarded(&upper.join("x"), 9).is_err());
        chmod(&file, 0o600);
        chmod(&upper, 0o777);
        assert!(private(&file, 9).unwrap_err().contains("others can change"));
    }
}
