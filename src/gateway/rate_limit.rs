//! Which addresses have failed too often to be let in at once. Each has a stock of failures that fills up
//! again with time: a person who tries certificates is not hindered, a program that fails hundreds of times a
//! second soon is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::guard::slots::network;
use crate::guard::token_bucket::{Rate, TokenBucket};

/// How many failures an address has in stock, and how fast they come back.
const FAILURES: Rate = Rate { burst: 100, per_second: 5 };
/// The most addresses that are remembered; beyond, the one that is nearest to having its stock back is
/// forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// What one failure takes from the stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A handshake that was refused.
    Refused = 1,
    /// A connection that the gRPC library found broken.
    Broken = 2,
    /// A handshake that took too long: it kept a place for ten seconds.
    TooSlow = 5,
    /// A connection that broke the limits of traffic.
    Flood = 20,
}

/// How often an address without failures in stock is let in all the same if somebody has come in from there
/// before, ms: others behind the same address may be good, and a storm is slowed down to this.
const PACE_MS: u64 = 100;

#[derive(Default)]
pub(super) struct RateLimit(Mutex<BTreeMap<IpAddr, Entry>>);

struct Entry {
    bucket: TokenBucket,
    /// Somebody has proven who they are from there.
    is_proven: bool,
    /// When it was last let in without failures in stock (monotonic ms).
    let_in_ms: Option<u64>,
}

impl RateLimit {
    pub fn add(&self, address: IpAddr, violation: Violation, now_ms: u64) {
        let mut buckets = self.0.lock();
        let address = network(address);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            buckets.retain(|_, entry| entry.bucket.full_ms() > now_ms);
            if buckets.len() >= ADDRESSES_MAX
                && let Some(least) =
                    buckets.iter().min_by_key(|(_, entry)| entry.bucket.full_ms()).map(|(a, _)| *a)
            {
                buckets.remove(&least);
            }
        }
        let entry = buckets.entry(address).or_insert_with(|| Entry {
            bucket: TokenBucket::full(FAILURES, now_ms),
            is_proven: false,
            let_in_ms: None,
        });
        entry.bucket.refill(now_ms);
        entry.bucket.take(violation as u64);
    }

    /// Somebody has proven who they are: what one refused handshake took is given back.
    pub fn credit(&self, address: IpAddr, now_ms: u64) {
        // An address without failures has nothing to be given back, and needs no memory.
        if let Some(entry) = self.0.lock().get_mut(&network(address)) {
            entry.bucket.refill(now_ms);
            entry.bucket.give(Violation::Refused as u32);
            entry.is_proven = true;
        }
    }

    /// Whether it has failures in stock, or is let in slowly.
    pub fn may_enter(&self, address: IpAddr, now_ms: u64) -> bool {
        let mut entries = self.0.lock();
        let Some(entry) = entries.get_mut(&network(address)) else { return true };
        if entry.bucket.debt_paid_ms() <= now_ms {
            return true;
        }
        let is_due = entry.let_in_ms.is_none_or(|at| now_ms >= at + PACE_MS);
        let is_let_in = entry.is_proven && is_due;
        if is_let_in {
            entry.let_in_ms = Some(now_ms);
        }
        is_let_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g9_who_fails_too_often_waits_and_comes_back() {
        let (rate_limit, bad) = (RateLimit::default(), "10.0.0.1".parse().unwrap());
        for _ in 0..FAILURES.burst {
            assert!(rate_limit.may_enter(bad, 5000));
            rate_limit.add(bad, Violation::Refused, 5000);
        }
        assert!(rate_limit.may_enter(bad, 5000));
        rate_limit.add(bad, Violation::Refused, 5000);
        assert!(!rate_limit.may_enter(bad, 5000));
        assert!(rate_limit.may_enter(bad, 5000 + 200));
        assert!(rate_limit.may_enter("10.0.0.2".parse().unwrap(), 5000));
        (0..1000).for_each(|_| rate_limit.add(bad, Violation::Flood, 5000));
        assert!(rate_limit.may_enter(bad, 5000 + 20_000));
    }

    #[test]
    fn an_address_where_somebody_is_good_is_slowed_down_and_not_shut_out() {
        let (rate_limit, shared) = (RateLimit::default(), "10.0.0.1".parse().unwrap());
        let storm = |times: u32, now_ms| {
            (0..times).for_each(|_| rate_limit.add(shared, Violation::Refused, now_ms));
        };
        storm(FAILURES.burst + 1, 5000);
        rate_limit.credit(shared, 5000);
        assert!(rate_limit.may_enter(shared, 5000), "what a good one is given back");
        storm(1000, 5000);
        let let_in = (5000..6000).filter(|now_ms| rate_limit.may_enter(shared, *now_ms)).count();
        assert_eq!(let_in, 10, "one each {PACE_MS} ms");
        let other = "10.0.0.2".parse().unwrap();
        (0..1000).for_each(|_| rate_limit.add(other, Violation::Refused, 5000));
        assert!((5000..6000).all(|now_ms| !rate_limit.may_enter(other, now_ms)));
    }

    #[test]
    fn addresses_of_one_network_are_one_and_their_number_is_limited() {
        let rate_limit = RateLimit::default();
        for n in 0..2 * ADDRESSES_MAX as u128 {
            rate_limit.add(IpAddr::V6((n << 64 | 7).into()), Violation::Refused, 0);
        }
        assert_eq!(rate_limit.0.lock().len(), ADDRESSES_MAX);
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::2".parse().unwrap()));
        assert_eq!(network("::ffff:1.2.3.4".parse().unwrap()), network("1.2.3.4".parse().unwrap()));
    }
}
