//! The way to the logs. A process's thread marks that there is more output, without waiting; one thread
//! (`logs/mod.rs`) writes it to the files, and tells here since when it has been at one write.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::sys::clock;
use crate::sys::poll::Waker;
use crate::wire::id::ProcessId;
use crate::wire::log::Log;

/// Where files lie whose path is not absolute, in the directory of the service's state.
const FOLDER: &str = "logs";
/// A write that takes longer holds nobody up, ms.
pub const STUCK_MS: u64 = 1000;

/// Which processes have more output for their logs. Shared by all threads.
#[derive(Debug)]
pub struct LogQueue {
    /// `None`: the service keeps nothing, and a path is absolute.
    dir: Option<PathBuf>,
    inner: Mutex<Inner>,
    /// When the write under way began (monotonic ms); 0: there is none.
    busy_since: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    marked: Vec<ProcessId>,
    thread: Option<Waker>,
}

impl LogQueue {
    /// `state`: the directory of the service's state.
    #[must_use]
    pub fn new(state: Option<&Path>) -> Self {
        Self {
            dir: state.map(|state| state.join(FOLDER)),
            inner: Mutex::default(),
            busy_since: AtomicU64::new(0),
        }
    }

    /// Where files lie whose path is not absolute.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The files of a log, as they are shown.
    pub fn files(&self, log: &Log, label: &str) -> Vec<String> {
        let mut paths: Vec<_> = log.paths_of(label).into_iter().flatten().collect();
        paths.dedup();
        let dir = self.dir.as_deref().unwrap_or(Path::new("/"));
        paths.iter().map(|path| dir.join(path).to_string_lossy().into_owned()).collect()
    }

    /// There is more of this one. It marks itself once until it is looked at.
    pub fn mark(&self, id: ProcessId) {
        let mut inner = self.inner.lock();
        inner.marked.push(id);
        let waker = inner.thread.clone().filter(|_| inner.marked.len() == 1);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the thread that writes: what was marked since the last time.
    pub fn take(&self) -> Vec<ProcessId> {
        let mut inner = self.inner.lock();
        inner.thread.get_or_insert_with(Waker::for_this_thread);
        std::mem::take(&mut inner.marked)
    }

    /// For the thread that writes: a write begins now.
    pub fn begins(&self) {
        self.busy_since.store(clock::now_ms(), Ordering::Release);
    }

    /// For the thread that writes: it waits for more.
    pub fn rests(&self) {
        self.busy_since.store(0, Ordering::Release);
    }

    /// Whether the files do not take what is written to them: nobody waits for them then.
    pub fn is_stuck(&self) -> bool {
        let since = self.busy_since.load(Ordering::Acquire);
        since != 0 && clock::now_ms().saturating_sub(since) >= STUCK_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_taken_once() {
        let queue = LogQueue::new(Some(Path::new("/state")));
        let id = ProcessId::new();
        queue.mark(id);
        assert_eq!((queue.take(), queue.take()), (vec![id], vec![]));
        assert_eq!(queue.dir(), Some(Path::new("/state/logs")));
        assert!(!queue.is_stuck());
        queue.begins();
        assert!(!queue.is_stuck(), "only just begun");
    }
}
