//! A process by descriptor: it cannot be mistaken for another one that got its number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::cerr_long;

/// A handle to one process, dead or alive.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// pidfd_open(2). Only the parent of `pid`, before it reaps, knows for certain whom it gets; everyone
    /// else checks afterwards (start time, cgroup) that it is the one that was meant.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: touches no memory; the descriptor returned is new and ours.
        unsafe {
            let fd = cerr_long(libc::syscall(libc::SYS_pidfd_open, pid.cast_signed(), 0))?;
            Ok(Self(OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor"))))
        }
    }

    /// Takes over a descriptor that is known to be one.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Whether the process still has its number: it runs, or nobody has reaped it.
    #[must_use]
    pub fn has_number(&self) -> bool {
        !matches!(self.signal(0), Ok(false))
    }

    /// Sends a signal; false when the process is gone.
    pub fn signal(&self, signal: u32) -> io::Result<bool> {
        // SAFETY: a null siginfo asks for the usual one.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal.cast_signed(),
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match cerr_long(result) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
