//! How calls of an executor go, written by the threads of the calls and read by a canary.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::sdk::module::counts::{Call, Counts};
use crate::sys::clock;
use crate::wire::time::millis;

#[derive(Default)]
pub struct Record {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    counts: Counts,
    /// How long a call may take; none: nobody looks.
    latency: Option<Duration>,
    /// When calls began that have not ended, ms.
    under_way: Vec<u64>,
}

impl Record {
    /// Counts from here on.
    pub fn watch(&self, latency: Duration) {
        let mut inner = self.inner.lock();
        (inner.counts, inner.latency) = (Counts::default(), Some(latency));
    }

    /// A call begins; the time, for its end.
    pub fn begin(&self) -> u64 {
        let now_ms = clock::now_ms();
        self.inner.lock().under_way.push(now_ms);
        now_ms
    }

    pub fn end(&self, begun_ms: u64, failed: bool) {
        let mut inner = self.inner.lock();
        if let Some(at) = inner.under_way.iter().position(|begun| *begun == begun_ms) {
            inner.under_way.swap_remove(at);
        }
        let took = Duration::from_millis(clock::now_ms() - begun_ms);
        if let Some(latency) = inner.latency {
            inner.counts.add_call(Call { failed, took }, latency);
        }
        self.changed.notify_all();
    }

    /// With calls that are under way for longer than they may take.
    pub fn counts(&self) -> Counts {
        let (inner, now_ms) = (self.inner.lock(), clock::now_ms());
        let latency_ms = inner.latency.map_or(u64::MAX, millis);
        let overdue = inner.under_way.iter().filter(|begun| now_ms - **begun > latency_ms).count();
        inner.counts.with_overdue(overdue as u64)
    }

    /// Waits until a call has ended, until the deadline (monotonic ms) at most.
    pub fn wait(&self, deadline_ms: u64) {
        let mut inner = self.inner.lock();
        let left = deadline_ms.saturating_sub(clock::now_ms());
        self.changed.wait_for(&mut inner, Duration::from_millis(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_while_somebody_looks() {
        let record = Record::default();
        record.end(record.begin(), true);
        assert_eq!(record.counts(), Counts::default());
        record.watch(Duration::from_secs(3600));
        for failed in [true, false] {
            record.end(record.begin(), failed);
        }
        let counts = record.counts();
        assert_eq!((counts.calls, counts.failures, counts.slow), (2, 1, 0));
        // One that hangs.
        record.inner.lock().latency = Some(Duration::ZERO);
        let begun = record.begin();
        record.wait(begun + 2);
        record.inner.lock().under_way = vec![begun.saturating_sub(1)];
        let counts = record.counts();
        assert_eq!((counts.calls, counts.slow), (3, 1));
    }
}
