//! When each process with a schedule is due. Its thread tells; one thread (`engine/schedules.rs`) waits for
//! the first of them.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::sys::poll::Waker;
use crate::wire::id::ProcessId;
use crate::wire::time::Timestamp;

/// Shared by all threads.
#[derive(Debug, Default)]
pub struct ScheduleQueue(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    due: BTreeMap<ProcessId, Timestamp>,
    thread: Option<Waker>,
}

impl ScheduleQueue {
    /// This process is due then; none: it is not any more.
    pub fn put(&self, id: ProcessId, due: Option<Timestamp>) {
        let mut inner = self.0.lock();
        let first = inner.due.values().min().copied();
        match due {
            Some(due) => inner.due.insert(id, due),
            None => inner.due.remove(&id),
        };
        // Later than planned, its thread wakes once for nothing.
        let is_first = due.is_some_and(|due| first.is_none_or(|first| due < first));
        let waker = inner.thread.clone().filter(|_| is_first);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the thread that waits: takes out those that are due, and tells when the next one is.
    pub fn take_due(&self, now: Timestamp) -> (Vec<ProcessId>, Option<Timestamp>) {
        let mut inner = self.0.lock();
        inner.thread.get_or_insert_with(Waker::for_this_thread);
        let due: Vec<_> = inner.due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        inner.due.retain(|_, at| *at > now);
        (due, inner.due.values().min().copied())
    }

    /// For the thread that waits: all of them, after the clock was set.
    pub fn all(&self) -> Vec<ProcessId> {
        self.0.lock().due.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_taken_once() {
        let queue = ScheduleQueue::default();
        let [a, b] = [ProcessId::new(), ProcessId::new()];
        queue.put(a, Some(Timestamp(5)));
        queue.put(b, Some(Timestamp(9)));
        assert_eq!(queue.take_due(Timestamp(4)), (vec![], Some(Timestamp(5))));
        assert_eq!(queue.take_due(Timestamp(5)), (vec![a], Some(Timestamp(9))));
        assert_eq!(queue.all(), [b]);
        queue.put(b, None);
        assert_eq!(queue.take_due(Timestamp(10)), (vec![], None));
    }
}
