//! Answers of one connection that its client has not taken yet. Each has a time for it, by its length; then
//! the connection ends: the gRPC core keeps what is not taken for as long as the connection lives.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use grpcio::UnarySinkResult;
use parking_lot::Mutex;

use crate::sys::clock;
use crate::sys::poll::Waker as Thread;
use crate::wire::time::millis;

/// What a client is to take in a millisecond, in bytes, beside the time that it may take nothing.
const LEN_PER_MS: u64 = 64;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    next: u64,
    /// Who looks when they are due; none: it is looked whenever bytes pass.
    watcher: Option<Thread>,
    /// When each has to be out (monotonic ms), and its number.
    due: BTreeSet<(u64, u64)>,
}

impl Unread {
    /// For this thread to watch, which is woken by each answer.
    pub fn watched() -> Self {
        let unread = Self::default();
        unread.0.lock().watcher = Some(Thread::for_this_thread());
        unread
    }

    /// Keeps the response of a call until it is out. `stall`: how long the client may take nothing of it.
    pub fn keep(&self, response: UnarySinkResult, len: usize, stall: Duration) {
        let due = clock::now_ms() + millis(stall) + len as u64 / LEN_PER_MS;
        let mut answers = self.0.lock();
        answers.next += 1;
        let place = (due, answers.next);
        answers.due.insert(place);
        answers.watcher.iter().for_each(Thread::wake);
        drop(answers);
        let kept = Kept { unread: self.clone(), place, response: Mutex::new(Some(response)) };
        Arc::new(kept).look();
    }

    /// When the first of them has to be out.
    pub fn due_ms(&self) -> Option<u64> {
        self.0.lock().due.first().map(|&(due, _)| due)
    }
}

/// The completion thread, which learns that it is out, lets it go.
struct Kept {
    unread: Unread,
    place: (u64, u64),
    response: Mutex<Option<UnarySinkResult>>,
}

impl Kept {
    fn look(self: Arc<Self>) {
        let mut response = self.response.lock();
        let waker = Waker::from(Arc::clone(&self));
        if let Some(sent) = response.as_mut()
            && Pin::new(sent).poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *response = None;
            self.unread.0.lock().due.remove(&self.place);
        }
    }
}

impl Wake for Kept {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
