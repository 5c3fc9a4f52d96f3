//! How many calls are under way, and whose they are. Each takes a thread here and a connection of the
//! service behind, of which there are fewer than callers could ask for: so a certificate has its share, and
//! a user, and all of the network together leave places for programs on this machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most calls at once, of each kind of callers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShareLimits {
    pub network: usize,
    pub local: usize,
    /// Of those of the network, for one certificate, and for one user.
    pub each: usize,
    /// Of the local ones, for one user who is in by a group; half of them for all who are.
    pub member: usize,
}

/// Calls that have threads of their own. With the threads of the pool they are fewer than the connections
/// that the engine gives, so that the command line always finds one.
pub(super) const LASTING: ShareLimits = ShareLimits { network: 224, local: 96, each: 100, member: 24 };
/// Calls that wait for a thread of the pool, or have one.
pub(super) const QUICK: ShareLimits = ShareLimits { network: 384, local: 128, each: 256, member: 32 };

/// Who has a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Holder {
    Certificate(Arc<str>),
    User(Arc<str>),
    /// Root, or the service's own user.
    Uid(u32),
    /// Of this machine, in by a group.
    Member(u32),
}

#[derive(Clone)]
pub(super) struct Shares {
    limits: ShareLimits,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    network: usize,
    local: usize,
    /// Of the local ones.
    members: usize,
    by_holder: BTreeMap<Holder, usize>,
}

/// A call's place among them, until it is dropped.
pub(super) struct Place {
    shares: Shares,
    holders: Vec<Holder>,
}

impl Shares {
    pub fn new(limits: ShareLimits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// A place for a call of this caller, if its share has one left.
    pub fn take(&self, holder: Holder) -> Option<Place> {
        let mut taken = self.taken.lock();
        let limits = self.limits;
        let (is_left, each) = match holder {
            Holder::Certificate(_) | Holder::User(_) => (taken.network < limits.network, limits.each),
            Holder::Uid(_) => (taken.local < limits.local, limits.local),
            Holder::Member(_) => {
                (taken.local < limits.local && taken.members < limits.local / 2, limits.member)
            }
        };
        if !is_left || !taken.add(&holder, each) {
            return None;
        }
        taken.count(&holder, |count| *count += 1);
        drop(taken);
        Some(Place { shares: self.clone(), holders: vec![holder] })
    }
}

impl Taken {
    fn count(&mut self, holder: &Holder, change: impl Fn(&mut usize)) {
        match holder {
            Holder::Certificate(_) | Holder::User(_) => change(&mut self.network),
            Holder::Uid(_) => change(&mut self.local),
            Holder::Member(_) => {
                change(&mut self.local);
                change(&mut self.members);
            }
        }
    }

    fn add(&mut self, holder: &Holder, max: usize) -> bool {
        let count = self.by_holder.get(holder).copied().unwrap_or(0);
        if count < max {
            self.by_holder.insert(holder.clone(), count + 1);
        }
        count < max
    }
}

impl Place {
    /// The same call is also this one's, which is found out later. False: there is nothing left of its share.
    pub fn is_also_of(&mut self, holder: Holder) -> bool {
        let is_left = self.shares.taken.lock().add(&holder, self.shares.limits.each);
        if is_left {
            self.holders.push(holder);
        }
        is_left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        taken.count(&self.holders[0], |count| *count -= 1);
        for holder in &self.holders {
            if let Some(count) = taken.by_holder.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    taken.by_holder.remove(holder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> Holder {
        Holder::Certificate(name.into())
    }

    fn user(name: &str) -> Holder {
        Holder::User(name.into())
    }

    #[test]
    fn nobody_has_more_than_a_share_and_nothing_is_left_over() {
        let shares = Shares::new(ShareLimits { network: 5, local: 4, each: 3, member: 1 });
        let mut of_a: Vec<_> = (0..9).filter_map(|_| shares.take(certificate("a"))).collect();
        assert_eq!(of_a.len(), 3, "the share of a certificate");
        assert!(of_a.iter_mut().all(|place| place.is_also_of(user("u"))));
        // Another certificate of the same user.
        let mut of_b = shares.take(certificate("b")).unwrap();
        assert!(!of_b.is_also_of(user("u")), "the share of a user");
        assert!(of_b.is_also_of(user("v")));
        let _c = shares.take(certificate("c")).unwrap();
        assert!(shares.take(certificate("d")).is_none(), "the network's part");
        let members: Vec<_> = (0..9).filter_map(|n| shares.take(Holder::Member(1000 + n / 2))).collect();
        assert_eq!(members.len(), 2, "one each, and half of them together");
        let local: Vec<_> = (0..9).filter_map(|_| shares.take(Holder::Uid(0))).collect();
        assert_eq!(local.len(), 2, "programs on this machine have places of their own");
        drop(members);
        drop(of_a.pop());
        assert!(of_b.is_also_of(user("u")));
        drop((of_a, of_b, local));
        assert_eq!(shares.taken.lock().by_holder.len(), 1);
    }
}
