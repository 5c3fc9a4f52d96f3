//! A future of grpcio's, awaited by a thread that blocks: its completion threads wake ours.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sys::poll;

/// Wakes a thread of ours.
struct Thread(poll::Waker);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// Wakes the calling thread.
pub(crate) fn waker() -> Waker {
    Waker::from(Arc::new(Thread(poll::Waker::for_this_thread())))
}

/// Waits for a future, until `deadline` (monotonic ms) at most; `None`: it has come.
pub(crate) fn wait<F: Future>(future: F, deadline: Option<u64>) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // An error of the wait is like being woken for nothing.
        if let Ok(poll::Wait::Deadline) = poll::wait(&mut [], deadline) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_future_is_awaited_until_the_deadline_and_no_longer() {
        assert_eq!(wait(std::future::ready(7), None), Some(7));
        assert_eq!(wait(std::future::pending::<()>(), Some(clock::now_ms() + 1)), None);
    }
}
