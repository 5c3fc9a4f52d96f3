//! A new version of a provider, on one service after the other: each gets the new modules, is watched for a
//! while, and all go back, the last one first, when one is not well. What is done to a service is behind
//! [`Fleet`], so that this needs neither services nor time to be tested.

use std::net::SocketAddr;
use std::time::Duration;

use crate::sdk::module::counts::{Counts, Limits};
use crate::wire::canary::Part;
use crate::wire::error::Error;
use crate::wire::time::millis;

/// So many calls, or as many as are asked for, are enough to end it before the window is over.
const EARLY_CALLS: u32 = 20;
/// After the window: how long until a service that had no calls is looked at again, ms.
const LOOK_MS: u64 = 1000;

/// How a new version is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Canary {
    success_ratio: f64,
    latency: Duration,
    window: Duration,
    min_calls: u32,
    rolls_back: bool,
}

impl Default for Canary {
    /// 30 seconds for each service, in which 0.95 of the calls succeed, and as many within 5 seconds.
    fn default() -> Self {
        Self {
            success_ratio: 0.95,
            latency: Duration::from_secs(5),
            window: Duration::from_secs(30),
            min_calls: 0,
            rolls_back: true,
        }
    }
}

impl Canary {
    /// How long each service is watched at least.
    pub fn window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// The part of the calls that has to succeed, and to be fast enough.
    pub fn success_ratio(self, success_ratio: f64) -> Self {
        Self { success_ratio, ..self }
    }

    /// How long a call may take.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// With how many calls each service is watched at least; it waits for them.
    pub fn min_calls(self, min_calls: u32) -> Self {
        Self { min_calls, ..self }
    }

    /// Services that are well keep the new version when a later one is not.
    pub fn keep_promoted(self) -> Self {
        Self { rolls_back: false, ..self }
    }

    pub(in crate::sdk::module) fn limits(&self) -> Result<Limits, Error> {
        let success_ratio = Part::of_fraction(self.success_ratio).ok_or_else(|| {
            Error::usage(format!("a success ratio of {} is not between 0.0001 and 1", self.success_ratio))
        })?;
        Ok(Limits { success_ratio, latency: self.latency, min_calls: self.min_calls })
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// All services have the new version.
    Promoted,
    /// All services have the old one.
    RolledBack { reason: String },
    /// These have the new one, the others the old one.
    PartialFailure { reason: String, promoted: Vec<SocketAddr> },
}

/// The services of a provider, as a canary sees them.
pub(in crate::sdk::module) trait Fleet {
    /// Where they are.
    fn services(&self) -> Vec<SocketAddr>;
    /// Gives one the new version, and waits until it knows it.
    fn upgrade(&mut self, n: usize) -> Result<(), String>;
    /// Gives one the old version.
    fn restore(&mut self, n: usize);
    /// Why the provider is not well there.
    fn fault(&self, n: usize) -> Option<String>;
    /// Calls of the new version are counted from here on.
    fn begin(&mut self);
    fn counts(&self) -> Counts;
    fn now_ms(&self) -> u64;
    /// Until a call has ended, or it is so late.
    fn wait(&mut self, until_ms: u64);
}

/// Tries the new version on one service after the other.
pub(in crate::sdk::module) fn roll_out(fleet: &mut impl Fleet, canary: &Canary, limits: &Limits) -> Rollout {
    let services = fleet.services();
    let mut order: Vec<usize> = (0..services.len()).collect();
    order.sort_by_key(|&n| services[n]);
    let mut promoted: Vec<usize> = Vec::new();
    for n in order {
        let result = fleet.upgrade(n).and_then(|()| watch(fleet, n, canary, limits));
        let Err(why) = result else {
            promoted.push(n);
            continue;
        };
        let reason = format!("Instance {} failed health check: {why}", services[n]);
        fleet.restore(n);
        if !canary.rolls_back {
            let promoted = promoted.into_iter().map(|n| services[n]).collect();
            return Rollout::PartialFailure { reason, promoted };
        }
        promoted.into_iter().rev().for_each(|n| fleet.restore(n));
        return Rollout::RolledBack { reason };
    }
    Rollout::Promoted
}

/// Watches a service that has the new version; why it is not well, if it is not.
fn watch(fleet: &mut impl Fleet, n: usize, canary: &Canary, limits: &Limits) -> Result<(), String> {
    let end_ms = fleet.now_ms() + millis(canary.window);
    let early = Limits { min_calls: limits.min_calls.max(EARLY_CALLS), ..*limits };
    fleet.begin();
    loop {
        let (now_ms, counts) = (fleet.now_ms(), fleet.counts());
        if let Some(why) = counts.breach(&early) {
            return Err(why);
        }
        if now_ms < end_ms {
            fleet.wait(end_ms);
            continue;
        }
        if let Some(why) = fleet.fault(n) {
            return Err(why);
        }
        if counts.calls >= u64::from(limits.min_calls) {
            return counts.breach(limits).map_or(Ok(()), Err);
        }
        fleet.wait(now_ms + LOOK_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdk::module::counts::Call;

    /// Services in memory, with a clock that jumps to what is waited for.
    #[derive(Default)]
    struct Memory {
        now_ms: u64,
        count: u16,
        /// Which have the new version, and all that was done.
        upgraded: Vec<usize>,
        done: Vec<String>,
        counts: Counts,
        /// What each call is like at a service, one every second.
        call: Option<fn(usize, u64) -> Call>,
        refuses: Option<usize>,
        is_down: Option<usize>,
    }

    impl Fleet for Memory {
        fn services(&self) -> Vec<SocketAddr> {
            // The last one first: they are taken in their order.
            (0..self.count).rev().map(|port| SocketAddr::from(([127, 0, 0, 1], port + 1))).collect()
        }

        fn upgrade(&mut self, n: usize) -> Result<(), String> {
            if self.refuses == Some(n) {
                return Err("Registration failed: m: no".to_owned());
            }
            self.upgraded.push(n);
            self.done.push(format!("new {n}"));
            Ok(())
        }

        fn restore(&mut self, n: usize) {
            self.upgraded.retain(|upgraded| *upgraded != n);
            self.done.push(format!("old {n}"));
        }

        fn fault(&self, n: usize) -> Option<String> {
            (self.is_down == Some(n)).then(|| "it is reconnecting".to_owned())
        }

        fn begin(&mut self) {
            self.counts = Counts::default();
        }

        fn counts(&self) -> Counts {
            self.counts
        }

        fn now_ms(&self) -> u64 {
            self.now_ms
        }

        fn wait(&mut self, until_ms: u64) {
            let call = self.call.filter(|_| !self.upgraded.is_empty());
            self.now_ms = call.map_or(until_ms, |_| until_ms.min(self.now_ms + 1000));
            if let (Some(call), Some(&last)) = (call, self.upgraded.last()) {
                self.counts.add_call(call(last, self.counts.calls), Duration::from_secs(5));
            }
        }
    }

    fn run(fleet: &mut Memory, canary: Canary) -> Rollout {
        roll_out(fleet, &canary, &canary.limits().unwrap())
    }

    fn of(count: u16) -> Memory {
        Memory { count, ..Memory::default() }
    }

    fn call(failed: bool, secs: u64) -> Call {
        Call { failed, took: Duration::from_secs(secs) }
    }

    #[test]
    fn each_service_has_its_window_in_their_order() {
        let mut fleet = of(3);
        assert_eq!(run(&mut fleet, Canary::default()), Rollout::Promoted);
        assert_eq!((fleet.done.join(" "), fleet.now_ms), ("new 2 new 1 new 0".to_owned(), 90_000));
        assert_eq!(run(&mut of(0), Canary::default()), Rollout::Promoted);
        // Calls that are asked for are waited for.
        let mut fleet = Memory { call: Some(|_, _| call(false, 0)), ..of(1) };
        assert_eq!(run(&mut fleet, Canary::default().min_calls(100)), Rollout::Promoted);
        assert!(fleet.now_ms >= 100_000, "{}", fleet.now_ms);
    }

    #[test]
    fn the_first_that_is_not_well_takes_all_back_in_reverse_order() {
        let bad: fn(usize, u64) -> Call = |n, at| call(n == 0 && at % 10 == 0, 0);
        let slow: fn(usize, u64) -> Call = |n, _| call(false, if n == 0 { 6 } else { 0 });
        for (fleet, why) in [
            (Memory { call: Some(bad), ..of(3) }, "2 of 20 calls failed, and 0.95 have to succeed"),
            (Memory { call: Some(slow), ..of(3) }, "20 of 20 calls took longer than 5s"),
            (Memory { is_down: Some(0), ..of(3) }, "it is reconnecting"),
            (Memory { refuses: Some(0), ..of(3) }, "Registration failed: m: no"),
        ] {
            let mut fleet = fleet;
            let reason = format!("Instance 127.0.0.1:3 failed health check: {why}");
            assert_eq!(run(&mut fleet, Canary::default()), Rollout::RolledBack { reason });
            assert!(fleet.done.join(" ").ends_with("old 0 old 1 old 2"), "{:?}", fleet.done);
            assert!(fleet.upgraded.is_empty());
        }
    }

    #[test]
    fn those_that_are_well_stay_if_that_is_wanted() {
        let mut fleet = Memory { is_down: Some(1), ..of(3) };
        let Rollout::PartialFailure { promoted, .. } = run(&mut fleet, Canary::default().keep_promoted())
        else {
            panic!("{:?}", fleet.done)
        };
        assert_eq!(promoted, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!((fleet.done.join(" "), fleet.upgraded), ("new 2 new 1 old 1".to_owned(), vec![2]));
    }

    #[test]
    fn few_calls_are_judged_at_the_end_of_the_window() {
        let mut fleet = Memory { call: Some(|_, at| call(at == 0, 0)), ..of(1) };
        let canary = Canary::default().window(Duration::from_secs(10));
        assert!(matches!(run(&mut fleet, canary), Rollout::RolledBack { .. }));
        assert_eq!(fleet.now_ms, 10_000);
        assert!(Canary::default().success_ratio(0.0).limits().is_err());
    }
}
