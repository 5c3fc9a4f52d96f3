//! The wish that something ends, for threads that wait for something else at the same time.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(in crate::sdk::module) struct Stop(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_set: bool,
    /// The last number that was given to a wait.
    last: u64,
    /// Whom to wake, by the number of their wait.
    waiting: BTreeMap<u64, Waker>,
}

/// One wait. However it ends, its waker goes with it.
struct Waiting<'a>(&'a Stop, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.lock().waiting.remove(&self.1);
    }
}

impl Stop {
    pub fn set(&self) {
        let waiting = {
            let mut inner = self.0.lock();
            inner.is_set = true;
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    pub fn is_set(&self) -> bool {
        self.0.lock().is_set
    }

    /// Until it is set.
    pub async fn wait(&self) {
        let number = {
            let mut inner = self.0.lock();
            inner.last += 1;
            inner.last
        };
        let _waiting = Waiting(self, number);
        poll_fn(|context| {
            let mut inner = self.0.lock();
            if inner.is_set {
                return Poll::Ready(());
            }
            inner.waiting.insert(number, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::block;
    use crate::sys::clock;

    #[test]
    fn a_wait_that_is_over_leaves_nothing() {
        let stop = Stop::default();
        for _ in 0..3 {
            assert_eq!(block::wait(stop.wait(), Some(clock::now_ms() + 1)), None);
        }
        assert_eq!(stop.0.lock().waiting.len(), 0);
        stop.set();
        assert!(stop.is_set());
        assert_eq!(block::wait(stop.wait(), None), Some(()));
    }

    #[test]
    fn all_that_wait_are_woken() {
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| block::wait(stop.wait(), None)));
            stop.set();
            assert_eq!(threads.map(|thread| thread.join().unwrap()), [Some(()); 2]);
        });
    }
}
