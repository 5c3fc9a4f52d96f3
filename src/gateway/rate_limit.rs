//! Which addresses have failed too often to be let in at once. Each has a stock of failures that fills up
//! again with time: a person who tries certificates is not hindered, a program that fails hundreds of times a
//! second soon is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use parking_lot::Mutex;

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

#[derive(Default)]
pub(super) struct RateLimit(Mutex<BTreeMap<IpAddr, TokenBucket>>);

impl RateLimit {
    pub fn add(&self, address: IpAddr, violation: Violation, now_ms: u64) {
        let mut buckets = self.0.lock();
        let address = network(address);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| bucket.full_ms() > now_ms);
            if buckets.len() >= ADDRESSES_MAX
                && let Some(least) =
                    buckets.iter().min_by_key(|(_, bucket)| bucket.full_ms()).map(|(a, _)| *a)
            {
                buckets.remove(&least);
            }
        }
        let bucket = buckets.entry(address).or_insert_with(|| TokenBucket::full(FAILURES, now_ms));
        bucket.refill(now_ms);
        bucket.take(violation as u64);
    }

    /// Whether it has failures in stock.
    pub fn may_enter(&self, address: IpAddr, now_ms: u64) -> bool {
        self.0.lock().get(&network(address)).is_none_or(|bucket| bucket.debt_paid_ms() <= now_ms)
    }
}

/// With version 6, a customer has a network and not an address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
        v4 @ IpAddr::V4(_) => v4,
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
