//! inotify(7): learns that something in a directory has changed, without looking.

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
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mask = libc::IN_CLOSE_WRITE
            | libc::IN_MOVED_FROM
            | libc::IN_MOVED_TO
            | libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_ATTRIB
            | libc::IN_ONLYDIR;
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
