//! The wish that something ends, for threads that wait for something else at the same time.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(in crate::sdk::module) struct Stop(Mutex<(bool, Vec<Waker>)>);

impl Stop {
    pub fn set(&self) {
        let wakers = {
            let mut inner = self.0.lock();
            inner.0 = true;
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn is_set(&self) -> bool {
        self.0.lock().0
    }

    /// Until it is set.
    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut inner = self.0.lock();
            if inner.0 {
                return Poll::Ready(());
            }
            inner.1.retain(|waker| !waker.will_wake(context.waker()));
            inner.1.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
