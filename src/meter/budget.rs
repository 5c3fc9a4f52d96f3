//! Bytes that peers make us keep: one connection has a limit, and all together have one, beyond which the
//! connection that holds the most is ended. The gRPC core keeps what comes and what goes, and takes no share
//! of it from anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::tls::closer::Closer;

/// What all connections hold together.
#[derive(Clone)]
pub struct Budget {
    limits: Limits,
    held: Arc<Mutex<Held>>,
}

/// In bytes.
#[derive(Clone, Copy)]
struct Limits {
    each: u64,
    all: u64,
}

#[derive(Default)]
struct Held {
    next: u64,
    /// In bytes.
    all: u64,
    by_connection: BTreeMap<u64, (u64, Closer)>,
}

/// One connection's part of it, for as long as it lives.
pub struct Share {
    budget: Budget,
    number: u64,
    sum: u64,
}

impl Budget {
    /// `each`: bytes that a connection may hold; `all`: that all of them may.
    #[must_use]
    pub fn new(each: u64, all: u64) -> Self {
        Self { limits: Limits { each, all }, held: Arc::default() }
    }

    /// A connection that `closer` ends.
    pub fn enter(&self, closer: Closer) -> Share {
        let mut held = self.held.lock();
        let number = held.next;
        held.next += 1;
        held.by_connection.insert(number, (0, closer));
        drop(held);
        Share { budget: self.clone(), number, sum: 0 }
    }

    /// What one connection holds now; beyond the limit who holds the most has to go.
    fn set(&self, number: u64, sum: u64) {
        let mut held = self.held.lock();
        let Some((own, _)) = held.by_connection.get_mut(&number) else { return };
        let before = std::mem::replace(own, sum);
        held.all = held.all + sum - before;
        if held.all <= self.limits.all || sum <= before {
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

impl Share {
    /// How many bytes it may be.
    #[must_use]
    pub fn each(&self) -> u64 {
        self.budget.limits.each
    }

    /// So many bytes more. False, and nothing is added, if the connection would hold more than it may.
    #[must_use]
    pub fn add(&mut self, len: u64) -> bool {
        if self.sum.saturating_add(len) > self.budget.limits.each {
            return false;
        }
        self.sum += len;
        self.budget.set(self.number, self.sum);
        true
    }

    /// So many of them are kept no longer.
    pub fn release(&mut self, len: u64) {
        self.sum -= len;
        self.budget.set(self.number, self.sum);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.budget.held.lock();
        if let Some((sum, _)) = held.by_connection.remove(&self.number) {
            held.all -= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(budget: &Budget) -> (Share, Closer) {
        let closer = Closer::default();
        (budget.enter(closer.clone()), closer)
    }

    #[test]
    fn one_connection_holds_so_much_and_not_more() {
        let budget = Budget::new(100, 250);
        let (mut one, closer) = enter(&budget);
        assert!(one.add(60) && one.add(40) && !one.add(1));
        one.release(60);
        assert!(!one.add(61) && one.add(60));
        assert!(!closer.is_wanted(), "what was not added ends nobody");
        drop(one);
        assert_eq!(budget.held.lock().all, 0);
    }

    #[test]
    fn of_all_connections_the_one_with_the_most_goes() {
        let budget = Budget::new(100, 250);
        let mut all: Vec<_> = (0..4).map(|_| enter(&budget)).collect();
        for (n, len) in [(0, 60), (1, 90), (2, 60), (3, 40)] {
            assert!(all[n].0.add(len));
        }
        assert!(all.iter().all(|(_, closer)| !closer.is_wanted()), "that is all there is");
        assert!(all[3].0.add(1));
        let wanted: Vec<_> = all.iter().map(|(_, closer)| closer.is_wanted()).collect();
        assert_eq!(wanted, [false, true, false, false]);
        // What it still sends counts no more, nor what it gives up.
        assert!(all[1].0.add(1));
        all[1].0.release(90);
        assert_eq!(budget.held.lock().all, 161);
        drop(all);
        let left = budget.held.lock();
        assert_eq!((left.all, left.by_connection.len()), (0, 0));
    }
}
