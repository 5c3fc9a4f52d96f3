//! What a process's thread knows of the memory of its run, and when it looks again. What follows is decided
//! in `above.rs`.

use crate::sys::cgroup::MemoryWatch;
use crate::sys::poll::PollFd;

/// What is known of a run's memory.
#[derive(Debug, Default)]
pub struct MemoryLook {
    pub watch: Option<MemoryWatch>,
    /// How often the kernel had held it at its threshold when it was last looked.
    pub high: u64,
    /// When to look without being told (monotonic ms).
    pub due: Option<u64>,
    /// How much was killed for memory a moment ago, and until when an end counts as by that.
    pub killed: Option<(u64, u64)>,
}

impl MemoryLook {
    /// When to look next, without a word of the kernel.
    #[must_use]
    pub fn wakes(&self) -> Option<u64> {
        self.due.into_iter().chain(self.killed.map(|(_, until)| until)).min()
    }

    /// To wait for a word of it, except in a pause.
    #[must_use]
    pub fn poll_fd(&self) -> PollFd<'_> {
        let watch = self.watch.as_ref().filter(|_| self.due.is_none());
        watch.map_or_else(PollFd::nothing, |watch| PollFd::changed(watch.fd()))
    }
}
