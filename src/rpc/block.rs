//! A future of grpcio's, awaited by a thread that blocks: its completion threads wake ours.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::sys::clock;

/// Wakes a thread that waits for nothing else.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future, until `deadline` (monotonic ms) at most; `None`: it has come.
pub(crate) fn wait<F: Future>(future: F, deadline: Option<u64>) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|at| at.saturating_sub(clock::now_ms())) {
            Some(0) => return None,
            Some(left) => thread::park_timeout(Duration::from_millis(left)),
            None => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_is_awaited_until_the_deadline_and_no_longer() {
        assert_eq!(wait(std::future::ready(7), None), Some(7));
        assert_eq!(wait(std::future::pending::<()>(), Some(clock::now_ms() + 1)), None);
    }
}
