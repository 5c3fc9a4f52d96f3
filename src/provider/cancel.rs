//! Ends the calls that are under way when their provider is stopped.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Waiting {
    is_cancelled: bool,
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// Cancelled once, for all who wait.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Mutex<Waiting>>);

impl Cancel {
    pub fn cancel(&self) {
        let mut waiting = self.0.lock();
        waiting.is_cancelled = true;
        std::mem::take(&mut waiting.wakers).into_values().for_each(Waker::wake);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.lock().is_cancelled
    }

    /// A future that is ready once it is cancelled.
    pub fn cancelled(&self) -> Cancelled {
        let mut waiting = self.0.lock();
        waiting.next += 1;
        Cancelled { cancel: self.clone(), number: waiting.next }
    }
}

pub struct Cancelled {
    cancel: Cancel,
    number: u64,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.cancel.0.lock();
        if waiting.is_cancelled {
            return Poll::Ready(());
        }
        waiting.wakers.insert(self.number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.cancel.0.lock().wakers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::block;
    use crate::sys::clock;

    #[test]
    fn who_waits_is_woken_and_who_comes_later_does_not_wait() {
        let cancel = Cancel::default();
        assert_eq!(block::wait(cancel.cancelled(), Some(clock::now_ms() + 1)), None);
        assert!(cancel.0.lock().wakers.is_empty(), "what was given up is forgotten");
        let (theirs, later) = (cancel.clone(), Some(clock::now_ms() + 20_000));
        let other = std::thread::spawn(move || block::wait(theirs.cancelled(), later));
        while cancel.0.lock().wakers.is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert_eq!(other.join().unwrap(), Some(()));
        assert_eq!(block::wait(cancel.cancelled(), None), Some(()));
    }
}
