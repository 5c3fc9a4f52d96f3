//! Output that waits for its reader, as in a pipe: of a process that somebody reads so (`provost run
//! --hold`), nothing is taken that would overwrite what that one has not read yet. Shared by all threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::ring::Ring;
use crate::sys::clock;
use crate::wire::id::ProcessId;

/// How long a new engine waits for a reader whose connection ended with the last one, ms.
const RETURN_MS: u64 = 10_000;
/// How soon it is looked again while a reader is there, who wakes us when he has read, ms.
const LOOK_MS: u64 = 60_000;

/// Whose output waits.
#[derive(Debug, Default)]
pub struct Holds {
    count: AtomicUsize,
    all: Mutex<HashMap<ProcessId, Held>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// The reader is there: one at a time, since it is one offset that the output waits for.
    is_here: bool,
    /// He has read up to this offset.
    read: u64,
    /// Until when he is waited for while he is not there (monotonic ms).
    until: u64,
    /// The run has ended, and its pipes have more.
    has_more: bool,
}

impl Held {
    fn is_there(&self, now: u64) -> bool {
        self.is_here || self.until > now
    }
}

impl Holds {
    /// A reader is there, unless another one is. The process need not be, yet.
    #[must_use]
    pub fn begin(&self, id: ProcessId) -> bool {
        self.change(|all| !std::mem::replace(&mut all.entry(id).or_default().is_here, true))
    }

    /// A reader has gone: nobody waits for him.
    pub fn end(&self, id: ProcessId) {
        self.change(|all| all.remove(&id));
    }

    /// There was a reader when the last engine died, who is expected back. Of what is kept he may have read
    /// nothing: `tail` is where that begins. Of a run that `has_ended` the pipes may have more.
    pub fn expect(&self, id: ProcessId, tail: u64, has_ended: bool) {
        let until = clock::now_ms() + RETURN_MS;
        self.change(|all| {
            all.insert(id, Held { read: tail, until, has_more: has_ended, ..Held::default() });
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<ProcessId, Held>) -> T) -> T {
        let (mut all, now) = (self.all.lock(), clock::now_ms());
        all.retain(|_, held| held.is_there(now));
        let changed = change(&mut all);
        self.count.store(all.len(), Ordering::Release);
        changed
    }

    fn of(&self, id: ProcessId) -> Option<Held> {
        let held =
            if self.count.load(Ordering::Acquire) == 0 { None } else { self.all.lock().get(&id).copied() };
        held.filter(|held| held.is_there(clock::now_ms()))
    }

    pub fn is_held(&self, id: ProcessId) -> bool {
        self.of(id).is_some()
    }

    /// The reader has read up to there.
    pub fn advance(&self, id: ProcessId, read: u64) {
        if let Some(held) = self.all.lock().get_mut(&id) {
            held.read = held.read.max(read);
        }
    }

    /// Until when nothing is taken, unless the reader goes on before (monotonic ms).
    pub fn until(&self, id: ProcessId, ring: &Ring<'_>) -> Option<u64> {
        let held = self.of(id).filter(|held| !ring.spares(held.read))?;
        Some(if held.is_here { clock::now_ms() + LOOK_MS } else { held.until })
    }

    /// Whether the reader's last words of a run are still in its pipes.
    pub fn has_more(&self, id: ProcessId) -> bool {
        self.of(id).is_some_and(|held| held.has_more)
    }

    pub fn set_more(&self, id: ProcessId, has_more: bool) {
        if let Some(held) = self.all.lock().get_mut(&id) {
            held.has_more = has_more;
        }
    }
}
