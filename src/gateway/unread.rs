//! Answers of one connection that its client has not taken yet. The gRPC core keeps what is not taken for as
//! long as the connection lives: so each has a time for it, by its length, and then the connection ends; and
//! beyond some bytes of them, calls are refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::meter::budget::{Budget, Share};
use crate::rpc::pending;
use crate::sys::clock;
use crate::sys::poll::Waker as Thread;
use crate::wire::time::millis;

/// So many of the largest messages may be kept for one connection, and for all.
const MESSAGES: u64 = 3;
const MESSAGES_ALL: u64 = 12;
/// What a client is to take in a millisecond, in bytes, beside the time that it may take nothing.
const LEN_PER_MS: u64 = 64;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    /// How many bytes they are; none: nobody counts.
    share: Option<Share>,
    next: u64,
    /// Who looks when they are due; none: it is looked whenever bytes pass.
    watcher: Option<Thread>,
    /// When each has to be out (monotonic ms), and its number.
    due: BTreeSet<(u64, u64)>,
}

impl Unread {
    /// Counted in this share.
    pub fn counted(share: Share) -> Self {
        let unread = Self::default();
        unread.0.lock().share = Some(share);
        unread
    }

    /// For this thread to watch, which is woken by each answer.
    pub fn watched() -> Self {
        let unread = Self::default();
        unread.0.lock().watcher = Some(Thread::for_this_thread());
        unread
    }

    /// For an answer of so many bytes; none if the client has to take others first.
    pub fn room(&self, len: u64) -> Option<Room> {
        let is_left = self.0.lock().share.as_mut().is_none_or(|share| share.add(len));
        is_left.then(|| Room { unread: self.clone(), len })
    }

    /// When the first of them has to be out.
    pub fn due_ms(&self) -> Option<u64> {
        self.0.lock().due.first().map(|&(due, _)| due)
    }
}

/// A budget of answers whose messages have at most this length, in bytes.
pub(super) fn budget(message_len_max: u64) -> Budget {
    Budget::new(MESSAGES * message_len_max, MESSAGES_ALL * message_len_max)
}

/// What an answer takes, until it is out or was never sent.
pub(super) struct Room {
    unread: Unread,
    len: u64,
}

impl Room {
    /// Keeps the response of a call until it is out. `stall`: how long the client may take nothing of it.
    pub fn keep<R>(self, response: R, stall: Duration)
    where
        R: Future<Output = grpcio::Result<()>> + Send + Unpin + 'static,
    {
        let due = clock::now_ms() + millis(stall) + self.len / LEN_PER_MS;
        let mut answers = self.unread.0.lock();
        answers.next += 1;
        let place = (due, answers.next);
        answers.due.insert(place);
        answers.watcher.iter().for_each(Thread::wake);
        drop(answers);
        pending::keep(response, Due { room: self, place });
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(share) = &mut self.unread.0.lock().share {
            share.release(self.len);
        }
    }
}

/// The time of an answer, and its room, until it is out.
struct Due {
    room: Room,
    place: (u64, u64),
}

impl Drop for Due {
    fn drop(&mut self) {
        self.room.unread.0.lock().due.remove(&self.place);
    }
}
