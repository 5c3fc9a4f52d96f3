//! Pipes between processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::cerr;

/// A pipe: read end, write end. Neither is inherited by programs.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors, which have no other owner.
    unsafe {
        cerr(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Asks for a pipe of this many bytes; refused beyond the user's share (/proc/sys/fs/pipe-user-pages-soft).
pub fn widen_pipe(pipe: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = libc::c_int::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: fcntl with this command touches no memory of ours.
    cerr(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, len) })?;
    Ok(())
}
