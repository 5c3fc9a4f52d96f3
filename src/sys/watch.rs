//! inotify(7): learns that something in a directory, or about a file, has changed, without looking.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::cerr;

/// Watches directories. Readable when something has changed.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new descriptor, which nobody else owns.
        unsafe {
            Ok(Self(OwnedFd::from_raw_fd(cerr(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?)))
        }
    }

    /// Also watches this directory: for files that were written, came, went or got other rights.
    pub fn add(&self, directory: &Path) -> io::Result<()> {
        let mask = libc::IN_CLOSE_WRITE
            | libc::IN_MOVED_FROM
            | libc::IN_MOVED_TO
            | libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_ATTRIB
            | libc::IN_ONLYDIR;
        self.add_with(directory, mask)
    }

    /// Also watches this one file, whatever kind it is: that a name of it went, or its rights changed.
    pub fn add_file(&self, file: &Path) -> io::Result<()> {
        self.add_with(
            file,
            libc::IN_ATTRIB | libc::IN_MOVE_SELF | libc::IN_DELETE_SELF | libc::IN_DONT_FOLLOW,
        )
    }

    fn add_with(&self, path: &Path, mask: u32) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the path is a C string that lives through the call.
        cerr(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) }).map(drop)
    }

    /// Forgets what has changed until now. Whether there was anything.
    pub fn drain(&self) -> bool {
        let mut buf = [0u8; 4096];
        let mut any = false;
        loop {
            // SAFETY: the buffer and its length belong together.
            let n = unsafe { libc::read(self.0.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
            if n <= 0 {
                return any;
            }
            any = true;
        }
    }
}

impl From<OwnedFd> for Watch {
    /// One that another process has made.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Watch> for OwnedFd {
    fn from(watch: Watch) -> Self {
        watch.0
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_socket_that_loses_its_name_is_noticed_and_others_beside_it_are_not() {
        let scratch = tempfile::tempdir().unwrap();
        let [socket, other] = ["socket", "other"].map(|name| scratch.path().join(name));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let watch = Watch::new().unwrap();
        watch.add_file(&socket).unwrap();
        fs::write(&other, "x").unwrap();
        fs::remove_file(&other).unwrap();
        assert!(!watch.drain());
        fs::remove_file(&socket).unwrap();
        assert!(watch.drain());
    }

    #[test]
    fn a_replaced_file_is_noticed() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let watch = Watch::new().unwrap();
        watch.add(dir).unwrap();
        assert!(!watch.drain());
        fs::write(dir.join("new"), "x").unwrap();
        fs::rename(dir.join("new"), dir.join("file")).unwrap();
        assert!(watch.drain());
        assert!(!watch.drain());
        assert!(watch.add(&dir.join("file")).is_err());
    }
}
