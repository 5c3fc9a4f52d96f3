//! How much of requests has come that are not at their end. The gRPC core keeps it until they are, and takes
//! no share of it from anybody: so one connection has a limit, and all together have one, beyond which the
//! connection that holds the most is ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::tls::closer::Closer;

/// So many of the largest messages may have come of requests that are not at their end: over one connection,
/// and over all.
const MESSAGES: u64 = 3;
const MESSAGES_ALL: u64 = 6;
/// The most bytes of a request that one frame of its answer shows to be taken: a short message. A stream of
/// them, each answered, can go on for ever.
const ANSWERED_LEN: u64 = 1 << 10;

/// What all connections hold together.
#[derive(Clone, Default)]
pub struct Budget(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    next: u64,
    /// In bytes.
    all: u64,
    by_connection: BTreeMap<u64, (u64, Closer)>,
}

/// One connection's part of it, for as long as it lives.
pub struct Unfinished {
    budget: Budget,
    number: u64,
    /// Bytes that this connection may hold, and all.
    limits: (u64, u64),
    /// Bytes by the number of the stream.
    by_stream: BTreeMap<u32, u64>,
    sum: u64,
}

impl Budget {
    /// A connection that `closer` ends, and whose messages have at most this length, in bytes.
    pub fn enter(&self, closer: Closer, message_len_max: u64) -> Unfinished {
        self.enter_with(closer, (MESSAGES * message_len_max, MESSAGES_ALL * message_len_max))
    }

    /// `limits`: bytes that it may hold, and all connections.
    fn enter_with(&self, closer: Closer, limits: (u64, u64)) -> Unfinished {
        let mut held = self.0.lock();
        let number = held.next;
        held.next += 1;
        held.by_connection.insert(number, (0, closer));
        drop(held);
        Unfinished { budget: self.clone(), number, limits, by_stream: BTreeMap::new(), sum: 0 }
    }

    /// What one connection holds now; beyond the limit who holds the most has to go.
    fn set(&self, number: u64, sum: u64, limit: u64) {
        let mut held = self.0.lock();
        let Some((own, _)) = held.by_connection.get_mut(&number) else { return };
        let before = std::mem::replace(own, sum);
        held.all = held.all + sum - before;
        if held.all <= limit || sum <= before {
            return;
        }
        let Some((&most, _)) = held.by_connection.iter().max_by_key(|(_, (sum, _))| *sum) else { return };
        // It counts no more: one that is on its way out is not followed by the next at once.
        if let Some((sum, closer)) = held.by_connection.remove(&most) {
            held.all -= sum;
            closer.close();
        }
    }
}

impl Unfinished {
    /// Bytes of a request that goes on. Fails when it is more than one connection may hold.
    pub fn add(&mut self, stream: u32, len: u32) -> Result<(), &'static str> {
        if len == 0 {
            return Ok(());
        }
        *self.by_stream.entry(stream).or_default() += u64::from(len);
        self.sum += u64::from(len);
        if self.sum > self.limits.0 {
            return Err("it sent too much of requests that it did not end");
        }
        self.budget.set(self.number, self.sum, self.limits.1);
        Ok(())
    }

    /// A part of an answer goes out on this stream, whose request may go on.
    pub fn answered(&mut self, stream: u32) {
        if let Some(len) = self.by_stream.get_mut(&stream) {
            let taken = ANSWERED_LEN.min(*len);
            *len -= taken;
            self.sum -= taken;
            self.budget.set(self.number, self.sum, self.limits.1);
        }
    }

    /// The request is at its end, or given up.
    pub fn end(&mut self, stream: u32) {
        if let Some(len) = self.by_stream.remove(&stream) {
            self.sum -= len;
            self.budget.set(self.number, self.sum, self.limits.1);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut held = self.budget.0.lock();
        if let Some((sum, _)) = held.by_connection.remove(&self.number) {
            held.all -= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(budget: &Budget) -> (Unfinished, Closer) {
        let closer = Closer::default();
        (budget.enter_with(closer.clone(), (100, 250)), closer)
    }

    #[test]
    fn one_connection_holds_so_much_and_not_more() {
        let budget = Budget::default();
        let (mut one, _) = enter(&budget);
        assert!(one.add(1, 60).is_ok() && one.add(3, 40).is_ok());
        one.end(1);
        one.end(1);
        assert!(one.add(5, 60).is_ok());
        assert!(one.add(7, 1).is_err());
        drop(one);
        assert_eq!(budget.0.lock().all, 0);
    }

    #[test]
    fn a_stream_of_answered_messages_goes_on_for_ever() {
        let budget = Budget::default();
        let (mut one, _) = enter(&budget);
        for _ in 0..1000 {
            assert!(one.add(1, 60).is_ok());
            one.answered(1);
        }
        assert_eq!(budget.0.lock().all, 0);
        // An answer frees a short message, not a long one.
        let mut long = budget.enter_with(Closer::default(), (4000, 4000));
        assert!(long.add(1, 4000).is_ok());
        (0..2).for_each(|_| long.answered(1));
        assert!(long.add(1, 2048).is_ok() && long.add(1, 1).is_err());
        long.answered(3);
    }

    #[test]
    fn of_all_connections_the_one_with_the_most_goes() {
        let budget = Budget::default();
        let mut all: Vec<_> = (0..4).map(|_| enter(&budget)).collect();
        for (n, len) in [(0, 60), (1, 90), (2, 60), (3, 40)] {
            assert!(all[n].0.add(1, len).is_ok());
        }
        assert!(all.iter().all(|(_, closer)| !closer.is_wanted()), "that is all there is");
        assert!(all[3].0.add(3, 1).is_ok());
        let wanted: Vec<_> = all.iter().map(|(_, closer)| closer.is_wanted()).collect();
        assert_eq!(wanted, [false, true, false, false]);
        // What it still sends counts no more, nor what it gives up.
        assert!(all[1].0.add(3, 1).is_ok());
        all[1].0.end(1);
        assert_eq!(budget.0.lock().all, 161);
        drop(all);
        let left = budget.0.lock();
        assert_eq!((left.all, left.by_connection.len()), (0, 0));
    }
}
