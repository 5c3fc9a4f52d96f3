//! Guessing made slow: after some failures in a row, answers come without a look at the password, for ever
//! longer. Pure: it is told what time it is.

use std::collections::HashMap;

/// The most entries; the oldest goes first.
const ENTRIES_MAX: usize = 10_000;
/// The longest time for which nothing is looked at, in milliseconds.
const LOCK_MAX_MS: u64 = 60_000;
/// A failure this long ago is forgotten, in milliseconds.
const FORGET_MS: u64 = 15 * 60_000;

/// Which failures are counted together. Made by a keyed hash: no names are kept here.
pub type Key = [u8; 32];

/// A key, and how many failures in a row it has free.
#[derive(Clone, Copy, Debug)]
pub struct FailureCounter {
    pub key: Key,
    /// The first lock is at so many failures.
    pub free: u32,
}

#[derive(Default)]
pub struct Throttle {
    entries: HashMap<Key, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    failures: u32,
    last_ms: u64,
    until_ms: u64,
}

impl Throttle {
    /// For how long nothing is looked at yet; none when a try is due.
    pub fn locked(&self, all: &[FailureCounter], now_ms: u64) -> Option<u64> {
        let entries = all.iter().filter_map(|counted| self.entries.get(&counted.key));
        entries.map(|entry| entry.until_ms.saturating_sub(now_ms)).max().filter(|ms| *ms > 0)
    }

    pub fn failed(&mut self, all: &[FailureCounter], now_ms: u64) {
        for FailureCounter { key, free } in all {
            let known =
                self.entries.get(key).filter(|entry| now_ms.saturating_sub(entry.last_ms) < FORGET_MS);
            let failures = known.map_or(0, |entry| entry.failures).saturating_add(1);
            let lock_ms = match failures.checked_sub(*free) {
                None => 0,
                Some(over) => 1000_u64.checked_shl(over.min(16)).unwrap_or(LOCK_MAX_MS).min(LOCK_MAX_MS),
            };
            let entry = Entry { failures, last_ms: now_ms, until_ms: now_ms + lock_ms };
            if self.entries.insert(*key, entry).is_none() && self.entries.len() > ENTRIES_MAX {
                self.drop_oldest();
            }
        }
    }

    /// A try was right.
    pub fn succeeded(&mut self, all: &[FailureCounter]) {
        for counted in all {
            self.entries.remove(&counted.key);
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_ms).map(|(key, _)| *key);
        oldest.map(|key| self.entries.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(n: u32, free: u32) -> FailureCounter {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        FailureCounter { key, free }
    }

    #[test]
    fn locks_grow_to_a_minute_and_end_with_a_success() {
        let mut throttle = Throttle::default();
        let one = [counted(1, 5)];
        let mut locks = Vec::new();
        let mut now = 1_000_000;
        for _ in 0..14 {
            throttle.failed(&one, now);
            let lock = throttle.locked(&one, now).unwrap_or(0);
            locks.push(lock / 1000);
            assert!(lock == 0 || throttle.locked(&one, now + lock - 1) == Some(1));
            now += lock;
            assert_eq!(throttle.locked(&one, now), None);
        }
        assert_eq!(locks, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(throttle.locked(&[counted(2, 5)], now), None);
        throttle.succeeded(&one);
        throttle.failed(&one, now);
        assert_eq!(throttle.locked(&one, now), None);
    }

    #[test]
    fn the_longest_of_all_counts_and_old_failures_are_forgotten() {
        let mut throttle = Throttle::default();
        let (pair, user) = (counted(1, 1), counted(2, 2));
        throttle.failed(&[pair, user], 0);
        assert_eq!(throttle.locked(&[pair, user], 0), Some(1000));
        assert_eq!(throttle.locked(&[user], 0), None);
        throttle.failed(&[pair, user], 1000);
        assert_eq!(throttle.locked(&[pair, user], 1000), Some(2000));
        assert_eq!(throttle.locked(&[counted(3, 1), user], 1000), Some(1000));
        throttle.failed(&[pair], 1000 + FORGET_MS);
        assert_eq!(throttle.locked(&[pair], 1000 + FORGET_MS), Some(1000), "it begins anew");
    }

    #[test]
    fn it_is_bounded_and_the_oldest_goes() {
        let mut throttle = Throttle::default();
        for n in 0..=u32::try_from(ENTRIES_MAX).unwrap() {
            throttle.failed(&[counted(n, 1)], u64::from(n));
        }
        assert_eq!(throttle.entries.len(), ENTRIES_MAX);
        assert_eq!(throttle.locked(&[counted(0, 1)], 0), None);
        assert!(throttle.locked(&[counted(1, 1)], 1).is_some());
    }
}
