//! Which process a run is: a number that cannot be mistaken for another process which got it later.

use crate::sys::pidfd::PidFd;
use crate::sys::procfs;

/// The process itself: with its start time, its number is an identity. All zero: no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Leader {
    pub pid: u32,
    pub start_ticks: u64,
}

impl Leader {
    /// The child with this number. The pidfd, opened by its parent, tells whether the number was still its
    /// own after its start time was read; if not, it is gone, and what is returned matches no process.
    pub fn of(pid: u32, pidfd: &PidFd) -> Self {
        let stat = procfs::stat(pid).filter(|_| pidfd.has_number());
        stat.map_or_else(Self::default, |s| Self { pid, start_ticks: s.start_ticks })
    }

    /// Itself, if it is still there.
    pub fn open(&self) -> Option<PidFd> {
        let fd = PidFd::open(self.pid).ok()?;
        (procfs::stat(self.pid)?.start_ticks == self.start_ticks).then_some(fd)
    }
}
