//! Guessing made slow: after some failures in a row, answers come without a look at the password, for ever
//! longer. Pure: it is told what time it is.

use std::collections::HashMap;

use crate::guard::token_bucket::{Rate, TokenBucket};

/// The most entries; the oldest goes first.
const ENTRIES_MAX: usize = 10_000;
/// The longest time for which nothing is looked at, in milliseconds.
const LOCK_MAX_MS: u64 = 60_000;
/// Failures that a source has free, over all users, and how fast they come back: with more, one certificate
/// and invented names would keep others from having their passwords looked at.
const OF_SOURCE: Rate = Rate { burst: 16, per_second: 1 };
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

/// Who tries to log in: what is counted for it.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// The user from this source.
    pub pair: FailureCounter,
    /// The user from wherever.
    pub user: FailureCounter,
    /// The source, whatever the user.
    pub source: Key,
}

#[derive(Default)]
pub struct Throttle {
    entries: HashMap<Key, Entry>,
    sources: HashMap<Key, TokenBucket>,
    /// Pairs that were right once, and when last. What others do does not lock them out.
    proven: HashMap<Key, u64>,
}

#[derive(Clone, Copy)]
struct Entry {
    failures: u32,
    last_ms: u64,
    until_ms: u64,
}

impl Throttle {
    /// For how long nothing is looked at yet; none when a try is due.
    pub fn locked(&self, login: &Login, now_ms: u64) -> Option<u64> {
        let pair = self.counted(&[login.pair], now_ms);
        if self.proven.contains_key(&login.pair.key) {
            return pair;
        }
        let source = self.sources.get(&login.source);
        let source = source.map(|bucket| bucket.debt_paid_ms().saturating_sub(now_ms)).filter(|ms| *ms > 0);
        pair.max(self.counted(&[login.user], now_ms)).max(source)
    }

    pub fn failed(&mut self, login: &Login, now_ms: u64) {
        self.count(&[login.pair, login.user], now_ms);
        if self.sources.len() >= ENTRIES_MAX && !self.sources.contains_key(&login.source) {
            let fullest = self.sources.iter().min_by_key(|(_, bucket)| bucket.full_ms()).map(|(key, _)| *key);
            fullest.map(|key| self.sources.remove(&key));
        }
        let bucket = self.sources.entry(login.source).or_insert_with(|| TokenBucket::full(OF_SOURCE, now_ms));
        bucket.refill(now_ms);
        bucket.take(1);
    }

    /// A try was right. What the source has failed with others stays counted.
    pub fn succeeded(&mut self, login: &Login, now_ms: u64) {
        self.entries.remove(&login.pair.key);
        self.entries.remove(&login.user.key);
        if self.proven.insert(login.pair.key, now_ms).is_none() && self.proven.len() > ENTRIES_MAX {
            let oldest = self.proven.iter().min_by_key(|(_, at_ms)| **at_ms).map(|(key, _)| *key);
            oldest.map(|key| self.proven.remove(&key));
        }
    }

    fn counted(&self, all: &[FailureCounter], now_ms: u64) -> Option<u64> {
        let entries = all.iter().filter_map(|counted| self.entries.get(&counted.key));
        entries.map(|entry| entry.until_ms.saturating_sub(now_ms)).max().filter(|ms| *ms > 0)
    }

    fn count(&mut self, all: &[FailureCounter], now_ms: u64) {
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
            throttle.count(&one, now);
            let lock = throttle.counted(&one, now).unwrap_or(0);
            locks.push(lock / 1000);
            assert!(lock == 0 || throttle.counted(&one, now + lock - 1) == Some(1));
            now += lock;
            assert_eq!(throttle.counted(&one, now), None);
        }
        assert_eq!(locks, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(throttle.counted(&[counted(2, 5)], now), None);
        throttle.entries.remove(&one[0].key);
        throttle.count(&one, now);
        assert_eq!(throttle.counted(&one, now), None);
    }

    #[test]
    fn the_longest_of_all_counts_and_old_failures_are_forgotten() {
        let mut throttle = Throttle::default();
        let (pair, user) = (counted(1, 1), counted(2, 2));
        throttle.count(&[pair, user], 0);
        assert_eq!(throttle.counted(&[pair, user], 0), Some(1000));
        assert_eq!(throttle.counted(&[user], 0), None);
        throttle.count(&[pair, user], 1000);
        assert_eq!(throttle.counted(&[pair, user], 1000), Some(2000));
        assert_eq!(throttle.counted(&[counted(3, 1), user], 1000), Some(1000));
        throttle.count(&[pair], 1000 + FORGET_MS);
        assert_eq!(throttle.counted(&[pair], 1000 + FORGET_MS), Some(1000), "it begins anew");
    }

    #[test]
    fn it_is_bounded_and_the_oldest_goes() {
        let mut throttle = Throttle::default();
        for n in 0..=u32::try_from(ENTRIES_MAX).unwrap() {
            throttle.count(&[counted(n, 1)], u64::from(n));
        }
        assert_eq!(throttle.entries.len(), ENTRIES_MAX);
        assert_eq!(throttle.counted(&[counted(0, 1)], 0), None);
        assert!(throttle.counted(&[counted(1, 1)], 1).is_some());
    }

    fn login(source: u32, user: u32) -> Login {
        let pair = counted(1000 * source + user, 5);
        Login { pair, user: counted(1_000_000 + user, 25), source: counted(2_000_000 + source, 1).key }
    }

    #[test]
    fn a_source_that_invents_users_waits_and_others_do_not() {
        let mut throttle = Throttle::default();
        let looked_at = (0..1000).filter(|user| {
            let login = login(1, *user);
            let is_free = throttle.locked(&login, 5000).is_none();
            if is_free {
                throttle.failed(&login, 5000);
            }
            is_free
        });
        assert_eq!(looked_at.count(), 17);
        assert_eq!(throttle.locked(&login(1, 5000), 5000), Some(1000));
        assert_eq!(throttle.locked(&login(1, 5000), 6000), None);
        assert_eq!(throttle.locked(&login(2, 5000), 5000), None);
        // To be right with one's own name does not give failures with others back.
        throttle.succeeded(&login(1, 7), 5000);
        assert_eq!(throttle.locked(&login(1, 5000), 5000), Some(1000));
    }

    #[test]
    fn who_was_right_before_is_not_locked_out_by_others() {
        let mut throttle = Throttle::default();
        throttle.succeeded(&login(1, 1), 0);
        for source in 2..=7 {
            (0..5).for_each(|_| throttle.failed(&login(source, 1), 0));
        }
        assert!(throttle.locked(&login(8, 1), 0).is_some(), "the user is locked");
        assert_eq!(throttle.locked(&login(1, 1), 0), None);
        // Its own failures count.
        (0..5).for_each(|_| throttle.failed(&login(1, 1), 0));
        assert_eq!(throttle.locked(&login(1, 1), 0), Some(1000));
    }
}
