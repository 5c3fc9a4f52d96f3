//! How many are in, and who has not said hello yet. The listener takes slots, the connections leave them; one
//! lock, never held while waiting.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::listener::limits::Limits;
use crate::sys::clock;
use crate::sys::poll::Waker;

pub(super) struct Slots {
    limits: Limits,
    /// Wakes the thread that accepts.
    listener: Waker,
    taken: Mutex<Occupancy>,
}

#[derive(Default)]
struct Occupancy {
    /// The number of the next slot; they only grow, so the lowest is the oldest.
    next: u64,
    /// Who has not said hello yet.
    silent: BTreeMap<u64, Silent>,
    greeted: usize,
    /// How many connections each user has who is in by a group.
    by_other: BTreeMap<u32, usize>,
    /// How many were sent away and still have a thread.
    leaving: usize,
    /// The listener waits for a client to say hello or to leave.
    call: bool,
}

struct Silent {
    client: Arc<UnixStream>,
    /// When it came, monotonic ms.
    since: u64,
    /// Its thread waits for bytes. If not, it may have the hello in hand.
    is_idle: bool,
}

/// What came of asking for a slot.
pub(super) enum Admission {
    Free(Slot),
    /// There was not; one of these, who have not said hello yet, has to go first. The oldest is in front.
    Silent(Vec<(u64, Arc<UnixStream>)>),
    /// There was not, and everybody has said hello.
    None,
    /// The user has all that one may have, or users like that have all that is for them.
    OverShare,
}

impl Slots {
    pub(super) fn new(limits: Limits, listener: Waker) -> Self {
        Self { limits, listener, taken: Mutex::new(Occupancy::default()) }
    }

    /// `other`: the user, if it is neither root nor the service's own.
    pub(super) fn take(self: &Arc<Self>, client: &Arc<UnixStream>, other: Option<u32>) -> Admission {
        let mut state = self.taken.lock();
        if let Some(uid) = other {
            let its = state.by_other.get(&uid).copied().unwrap_or(0);
            let all: usize = state.by_other.values().sum();
            if its >= self.limits.other || all >= self.limits.others {
                return Admission::OverShare;
            }
        }
        let is_full = state.silent.len() >= self.limits.silent
            || state.silent.len() + state.greeted >= self.limits.connections;
        if is_full && state.silent.is_empty() {
            return Admission::None;
        }
        if is_full {
            // Already here: the change may come before the caller waits for it.
            state.call = true;
            return Admission::Silent(
                state.silent.iter().map(|(&n, s)| (n, Arc::clone(&s.client))).collect(),
            );
        }
        let number = state.next;
        state.next += 1;
        state
            .silent
            .insert(number, Silent { client: Arc::clone(client), since: clock::now_ms(), is_idle: false });
        other.into_iter().for_each(|uid| *state.by_other.entry(uid).or_default() += 1);
        drop(state);
        Admission::Free(Slot { slots: Arc::clone(self), number, other, has_greeted: false })
    }

    /// Takes the slot from a client that has sent nothing since then (monotonic ms). False: it came later, is
    /// about to say hello, just did, or is gone.
    pub(super) fn dismiss(&self, number: u64, since: u64) -> bool {
        let mut state = self.taken.lock();
        let is_idle = state.silent.get(&number).is_some_and(|s| s.is_idle && s.since <= since);
        if is_idle {
            state.silent.remove(&number);
            state.leaving += 1;
        }
        is_idle
    }

    /// Whether so many are leaving that the listener had better wait; it is woken when one has left.
    pub(super) fn is_crowded(&self) -> bool {
        let mut state = self.taken.lock();
        let is_crowded = state.leaving >= self.limits.silent;
        state.call |= is_crowded;
        is_crowded
    }

    /// Wakes the listener when the next client has said hello or left.
    pub(super) fn call_at_next_change(&self) {
        self.taken.lock().call = true;
    }

    fn changed(&self, mut state: MutexGuard<'_, Occupancy>) {
        let call = std::mem::take(&mut state.call);
        drop(state);
        if call {
            self.listener.wake();
        }
    }
}

/// A place among the connections, until it is dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    other: Option<u32>,
    has_greeted: bool,
}

impl Slot {
    /// The thread begins to wait for the client's hello.
    pub(super) fn begin_idle(&self) {
        self.set_idle(true);
    }

    /// The thread is about to read what has come.
    pub(super) fn end_idle(&self) {
        self.set_idle(false);
    }

    fn set_idle(&self, is_idle: bool) {
        let mut state = self.slots.taken.lock();
        if let Some(silent) = state.silent.get_mut(&self.number) {
            silent.is_idle = is_idle;
        }
        self.slots.changed(state);
    }

    /// The hello has come. False: too late, the slot was given to another client.
    pub(super) fn greeted(&mut self) -> bool {
        let mut state = self.slots.taken.lock();
        if state.silent.remove(&self.number).is_some() {
            state.greeted += 1;
            self.has_greeted = true;
        }
        self.slots.changed(state);
        self.has_greeted
    }

    /// At most 15 bytes: so much of a name Linux keeps.
    pub(super) fn thread_name(&self) -> String {
        format!("conn-{}", self.number % 10_000_000_000)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.taken.lock();
        if self.has_greeted {
            state.greeted -= 1;
        } else if state.silent.remove(&self.number).is_none() {
            state.leaving -= 1;
        }
        if let Some((uid, count)) = self.other.and_then(|uid| Some((uid, state.by_other.get_mut(&uid)?))) {
            *count -= 1;
            if *count == 0 {
                state.by_other.remove(&uid);
            }
        }
        self.slots.changed(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(connections: usize, silent: usize) -> Arc<Slots> {
        let limits = Limits { connections, silent, ..Limits::default() };
        Arc::new(Slots::new(limits, Waker::for_this_thread()))
    }

    fn client() -> Arc<UnixStream> {
        Arc::new(UnixStream::pair().unwrap().0)
    }

    fn free(slots: &Arc<Slots>) -> Slot {
        match slots.take(&client(), None) {
            Admission::Free(slot) => slot,
            Admission::Silent(_) | Admission::None | Admission::OverShare => panic!("no free slot"),
        }
    }

    fn silent(slots: &Arc<Slots>) -> Vec<u64> {
        match slots.take(&client(), None) {
            Admission::Silent(silent) => silent.into_iter().map(|(number, _)| number).collect(),
            Admission::Free(_) | Admission::None | Admission::OverShare => panic!("not full"),
        }
    }

    #[test]
    fn a_silent_one_makes_room() {
        let slots = slots(9, 2);
        let (mut first, mut second) = (free(&slots), free(&slots));
        assert_eq!(silent(&slots), [first.number, second.number]);
        // Its thread has not looked yet whether there is a hello.
        assert!(!slots.dismiss(first.number, clock::now_ms()));
        first.begin_idle();
        first.end_idle();
        assert!(!slots.dismiss(first.number, clock::now_ms()));
        first.begin_idle();
        assert!(slots.dismiss(first.number, clock::now_ms()));
        assert!(!slots.dismiss(first.number, clock::now_ms()));
        let third = free(&slots);
        assert!(!first.greeted());
        assert!(second.greeted());
        assert!(!slots.dismiss(second.number, clock::now_ms()));
        drop(free(&slots));
        drop((first, second, third));
        let state = slots.taken.lock();
        assert_eq!((state.silent.len(), state.greeted, state.leaving), (0, 0, 0));
    }

    #[test]
    fn who_has_greeted_stays() {
        let slots = slots(3, 2);
        let mut all: Vec<_> = (0..2).map(|_| free(&slots)).collect();
        assert!(all.iter_mut().all(Slot::greeted));
        let mut last = free(&slots);
        assert_eq!(silent(&slots), [last.number]);
        assert!(last.greeted());
        assert!(matches!(slots.take(&client(), None), Admission::None));
        drop(last);
        free(&slots);
    }

    #[test]
    fn users_by_group_have_a_share_each_and_one_together() {
        let limits = Limits { connections: 9, silent: 9, others: 5, other: 3, ..Limits::default() };
        let slots = Arc::new(Slots::new(limits, Waker::for_this_thread()));
        let take = |uid| match slots.take(&client(), Some(uid)) {
            Admission::Free(slot) => Some(slot),
            Admission::OverShare => None,
            Admission::Silent(_) | Admission::None => panic!("there is room"),
        };
        let first: Vec<_> = (0..9).filter_map(|_| take(1000)).collect();
        let second: Vec<_> = (0..9).filter_map(|_| take(1001)).collect();
        assert_eq!((first.len(), second.len()), (3, 2));
        drop(free(&slots));
        drop(first);
        assert!(take(1001).is_some() && take(1002).is_some());
        drop(second);
        assert!(slots.taken.lock().by_other.is_empty());
    }

    #[test]
    fn a_crowd_of_the_leaving_is_noticed() {
        let slots = slots(9, 1);
        let first = free(&slots);
        assert!(!slots.is_crowded());
        first.begin_idle();
        assert!(slots.dismiss(first.number, clock::now_ms()));
        assert!(slots.is_crowded());
        drop(first);
        assert!(!slots.is_crowded());
    }
}
