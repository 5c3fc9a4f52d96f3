//! How many connections there are, and how many of them have not authenticated yet.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLimits {
    pub all: usize,
    /// Of them, still in their handshake.
    pub unproven: usize,
    /// Of them, of one certificate.
    pub each: usize,
}

/// From which part of the unproven slots on some connections are turned away at random, in percent.
const CROWDED_PERCENT: usize = 50;
/// How many of a hundred it turns away then; all when the last slot is taken.
const TURNED_AWAY_MIN: usize = 30;

pub struct Slots {
    limits: SlotLimits,
    taken: Mutex<SlotsTaken>,
    random: RandomState,
}

#[derive(Default)]
struct SlotsTaken {
    asked: u64,
    proven: usize,
    unproven: usize,
    /// How many of the unproven are of one address, or with version 6 of one network: half of the slots at
    /// most.
    of: BTreeMap<IpAddr, usize>,
    /// How many of the proven have a certificate of this name.
    with: BTreeMap<String, usize>,
}

/// A slot, given back when it is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
    is_proven: bool,
    /// The certificate's name, if one of its connections is counted here.
    certificate: Option<String>,
}

impl Slots {
    pub fn new(limits: SlotLimits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default(), random: RandomState::new() })
    }

    /// A slot for a new connection, if it is let in. The fuller it gets, the more are turned away at random:
    /// so a crowd that does nothing cannot keep out all others.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let address = network(address);
        let mut taken = self.taken.lock();
        taken.asked += 1;
        if taken.proven + taken.unproven >= self.limits.all {
            return None;
        }
        if taken.of.get(&address).is_some_and(|&n| n >= self.limits.unproven.div_ceil(2)) {
            return None;
        }
        let dice = usize::try_from(self.random.hash_one(taken.asked) % 100).unwrap_or(0);
        if dice < self.turned_away(taken.unproven) {
            return None;
        }
        taken.unproven += 1;
        *taken.of.entry(address).or_default() += 1;
        Some(Slot { slots: Arc::clone(self), address, is_proven: false, certificate: None })
    }

    /// How many of a hundred are turned away while so many are unproven.
    fn turned_away(&self, unproven: usize) -> usize {
        let (begin, end) = (self.limits.unproven * CROWDED_PERCENT / 100, self.limits.unproven);
        match unproven {
            n if n >= end => 100,
            n if n < begin.max(1) => 0,
            n => TURNED_AWAY_MIN + (100 - TURNED_AWAY_MIN) * (n - begin) / (end - begin).max(1),
        }
    }
}

impl SlotsTaken {
    fn leave_unproven(&mut self, address: IpAddr) {
        self.unproven -= 1;
        if let Some(n) = self.of.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                self.of.remove(&address);
            }
        }
    }
}

impl Slot {
    /// The client has authenticated, with a certificate of this name. False: that one has all connections
    /// that one may have.
    pub fn prove(&mut self, certificate: &str) -> bool {
        if std::mem::replace(&mut self.is_proven, true) {
            return true;
        }
        let mut taken = self.slots.taken.lock();
        taken.leave_unproven(self.address);
        taken.proven += 1;
        let count = taken.with.entry(certificate.to_owned()).or_default();
        if *count >= self.slots.limits.each {
            return false;
        }
        *count += 1;
        self.certificate = Some(certificate.to_owned());
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        if let Some(name) = self.certificate.take()
            && let Some(count) = taken.with.get_mut(&name)
        {
            *count -= 1;
            if *count == 0 {
                taken.with.remove(&name);
            }
        }
        if self.is_proven { taken.proven -= 1 } else { taken.leave_unproven(self.address) }
    }
}

/// With version 6, a customer has a network and not an address.
pub fn network(address: IpAddr) -> IpAddr {
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
    fn g8_the_unproven_cannot_take_all_seats() {
        let slots = Slots::new(SlotLimits { all: 200, unproven: 64, each: 100 });
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let one: Vec<_> = (0..2000).filter_map(|_| slots.take(address(1))).collect();
        assert_eq!(one.len(), 32, "of one address");
        let mut crowd: Vec<_> = (0..2000).filter_map(|_| slots.take(address(2))).collect();
        assert!(crowd.len() <= 32 && crowd.len() > 5, "{}", crowd.len());
        drop(one);
        crowd.iter_mut().for_each(|slot| assert!(slot.prove("dns:a")));
        assert!(slots.take(address(2)).is_some());
        drop(crowd);
        let taken = slots.taken.lock();
        assert_eq!((taken.proven, taken.unproven, taken.of.len(), taken.with.len()), (0, 0, 0, 0));
    }

    #[test]
    fn one_certificate_has_a_share_and_not_more() {
        let slots = Slots::new(SlotLimits { all: 200, unproven: 64, each: 3 });
        let prove = |name: &str| {
            let mut slot = slots.take(IpAddr::from([127, 0, 0, 1])).expect("there is room");
            slot.prove(name).then_some(slot)
        };
        let ones: Vec<_> = (0..9).filter_map(|_| prove("dns:a")).collect();
        assert_eq!(ones.len(), 3);
        assert!(prove("dns:b").is_some());
        drop(ones);
        assert!(prove("dns:a").is_some());
        assert!(slots.taken.lock().with.is_empty());
    }

    #[test]
    fn a_customers_network_is_one_address() {
        let slots = Slots::new(SlotLimits { all: 200, unproven: 8, each: 100 });
        let of = |net: u128, host: u128| IpAddr::V6((0x2001_0db8 << 96 | net << 64 | host).into());
        let one: Vec<_> = (0..2000).filter_map(|host| slots.take(of(1, host))).collect();
        assert_eq!(one.len(), 4, "of one network");
        assert!((0..2000).any(|_| slots.take(of(2, 1)).is_some()), "another one has room");
    }

    #[test]
    fn more_are_turned_away_the_fuller_it_gets() {
        let slots = Slots::new(SlotLimits { all: 200, unproven: 64, each: 100 });
        let rates: Vec<_> = [0, 31, 32, 48, 63, 64].map(|n| slots.turned_away(n)).into();
        assert_eq!(rates, [0, 0, 30, 65, 97, 100]);
    }
}
