//! The limit on the calls of one provider, and since when there has been none.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::provider::failure::Failure;
use crate::sys::clock;

/// Calls of one provider at once.
const CALLS_MAX: usize = 64;
/// Calls that wait for one of them to end.
const WAITING_MAX: usize = 256;

/// The calls of one provider: a limit on them, and on those that wait.
#[derive(Debug, Default)]
pub struct Calls {
    counts: Mutex<CallCounts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct CallCounts {
    running: usize,
    waiting: usize,
    /// No call begins: the provider is being replaced.
    is_shut: bool,
    /// When the last one ended, or there was another use, ms.
    used_ms: u64,
}

/// A call, for as long as it lasts.
pub struct Entered<'a>(&'a Calls);

impl Calls {
    /// Waits for its turn, so long at most.
    pub fn enter(&self, timeout: Duration) -> Result<Entered<'_>, Failure> {
        let deadline = Instant::now() + timeout;
        let mut counts = self.counts.lock();
        if counts.waiting >= WAITING_MAX {
            return Err(Failure::Busy { max: WAITING_MAX });
        }
        counts.waiting += 1;
        while counts.is_shut || counts.running >= CALLS_MAX {
            if self.changed.wait_until(&mut counts, deadline).timed_out() {
                counts.waiting -= 1;
                return Err(Failure::Deadline { call: "Fetch", after: timeout });
            }
        }
        counts.waiting -= 1;
        counts.running += 1;
        Ok(Entered(self))
    }

    /// A use that is no call.
    pub fn touch(&self) {
        self.counts.lock().used_ms = clock::now_ms();
    }

    /// Since when there has been no call, ms; none while there is one.
    pub fn idle_since(&self) -> Option<u64> {
        let counts = self.counts.lock();
        (counts.running + counts.waiting == 0).then_some(counts.used_ms)
    }

    /// Lets those that run come to their end, so long at most, does the work, and lets the others begin.
    pub fn drain<T>(&self, timeout: Duration, work: impl FnOnce() -> T) -> T {
        let deadline = Instant::now() + timeout;
        let mut counts = self.counts.lock();
        counts.is_shut = true;
        while counts.running > 0 && !self.changed.wait_until(&mut counts, deadline).timed_out() {}
        drop(counts);
        self.reopen_after(work)
    }

    /// Does the work unless there was a use after `since_ms`, and lets calls that come meanwhile wait.
    pub fn unless_used(&self, since_ms: u64, work: impl FnOnce()) {
        let mut counts = self.counts.lock();
        if counts.is_shut || counts.running + counts.waiting > 0 || counts.used_ms != since_ms {
            return;
        }
        counts.is_shut = true;
        drop(counts);
        self.reopen_after(work);
    }

    fn reopen_after<T>(&self, work: impl FnOnce() -> T) -> T {
        let result = work();
        self.counts.lock().is_shut = false;
        self.changed.notify_all();
        result
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        {
            let mut counts = self.0.counts.lock();
            counts.running -= 1;
            counts.used_ms = clock::now_ms();
        }
        self.0.changed.notify_all();
    }
}
