//! A process by descriptor: it cannot be mistaken for another one that got its number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::cerr_long;

/// The kernel's `struct pidfd_info` as it was first published, which later ones only add to.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// Numbers and users.
    ids: [u32; 11],
    exit_code: i32,
}

/// PIDFD_GET_INFO: `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: u64 = 0xC000_FF0B | (size_of::<PidfdInfo>() as u64) << 16;
/// PIDFD_INFO_EXIT.
const INFO_EXIT: u64 = 1 << 3;

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

    /// The wait status of a process that has been reaped, by whomever. `None`: it has not, or this kernel
    /// (before 6.15) does not tell.
    #[must_use]
    pub fn exit_status(&self) -> Option<i32> {
        let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the kernel reads and writes one `PidfdInfo`, whose size is part of the request.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO as libc::Ioctl, &raw mut info) };
        (result == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_was_reaped_by_another_tells_its_end() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert_eq!(pidfd.exit_status(), None, "it is not reaped");
        child.wait().unwrap();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
        let is_new = numbers.next().zip(numbers.next()) >= Some((6, 15));
        assert_eq!(pidfd.exit_status(), is_new.then_some(7 << 8));
    }
}
