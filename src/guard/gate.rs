//! One breaker that threads share: a call enters, holds a permit while it lasts, and says how it ended. A
//! permit that is dropped without a word gives its place back, however the call ended.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::guard::breaker::{Breaker, BreakerState, Change, Outcome, Pass, Rejection};
use crate::guard::group::Member;
use crate::sys::clock;

/// Is told of each change, in their order: under the breaker's lock, so it only hands on.
pub type Tell = Box<dyn Fn(Change) + Send + Sync>;

pub struct Gate {
    breaker: Mutex<Breaker>,
    tell: Tell,
}

/// The right to one call, until it is dropped.
pub struct Permit {
    gate: Arc<Gate>,
    pass: Option<Pass>,
}

/// A breaker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    pub state: BreakerState,
    /// In the window.
    pub failures: u32,
    pub openings: u32,
    /// Why calls do not pass; none: they do.
    pub rejection: Option<Rejection>,
    /// When those in the window were (monotonic ms).
    pub failed_at: Vec<u64>,
}

impl Gate {
    #[must_use]
    pub fn new(breaker: Breaker, tell: Tell) -> Self {
        Self { breaker: Mutex::new(breaker), tell }
    }

    /// Lets a call through, or says why not.
    pub fn enter(self: &Arc<Self>) -> Result<Permit, Rejection> {
        let pass = self.with(|breaker, now| breaker.ask(now))?;
        Ok(Permit { gate: Arc::clone(self), pass: Some(pass) })
    }

    /// See [`Breaker::fail`].
    pub fn fail(&self, why: &str) {
        self.with(|breaker, now| breaker.fail(why, now));
    }

    /// See [`Breaker::join`].
    pub fn join(&self, member: Option<Member>) {
        self.with(|breaker, _| breaker.join(member));
    }

    /// See [`Breaker::set_away`].
    pub fn set_away(&self, is_away: bool) {
        self.with(|breaker, _| breaker.set_away(is_away));
    }

    pub fn hold(&self, why: &str) {
        self.with(|breaker, _| breaker.hold(why));
    }

    pub fn release(&self) {
        self.with(|breaker, _| breaker.release());
    }

    pub fn reset(&self) {
        self.with(|breaker, _| breaker.reset());
    }

    #[must_use]
    pub fn status(&self) -> BreakerStatus {
        self.with(|breaker, now| {
            breaker.look(now);
            BreakerStatus {
                state: breaker.state(),
                failures: breaker.failures(now),
                openings: breaker.openings(),
                rejection: breaker.rejection(),
                failed_at: breaker.failed_at(),
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Breaker, u64) -> T) -> T {
        let mut breaker = self.breaker.lock();
        let result = work(&mut breaker, clock::now_ms());
        // Under the lock: whoever listens hears of changes in their order.
        breaker.take_changes().into_iter().for_each(|change| (self.tell)(change));
        result
    }
}

impl Permit {
    /// Whether the call is to find out if things are better.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_probe)
    }

    /// Says how the call ended.
    pub fn end(mut self, outcome: Outcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            self.gate.with(|breaker, now| breaker.report(pass, outcome, now));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.report(Outcome::Ignored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::breaker::BreakerSettings;
    use std::sync::Barrier;
    use std::time::Duration;

    fn gate(settings: BreakerSettings) -> (Arc<Gate>, Arc<Mutex<Vec<Change>>>) {
        let seen: Arc<Mutex<Vec<Change>>> = Arc::default();
        let into = Arc::clone(&seen);
        let tell = Box::new(move |change| into.lock().push(change));
        (Arc::new(Gate::new(Breaker::new(settings, 1), tell)), seen)
    }

    #[test]
    fn i12_a_thousand_failures_at_once_open_it_once() {
        let (gate, seen) = gate(BreakerSettings::default());
        let barrier = Barrier::new(50);
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    let permits: Vec<_> = (0..20).filter_map(|_| gate.enter().ok()).collect();
                    barrier.wait();
                    permits.into_iter().for_each(|p| p.end(Outcome::Failure("down".into())));
                });
            }
        });
        assert_eq!(gate.status().state, BreakerState::Open);
        assert!(matches!(&seen.lock()[..], [Change::Opened { failures: 5, .. }]), "{:?}", seen.lock());
    }

    #[test]
    fn a_permit_gives_its_place_back_however_the_call_ends() {
        let settings = BreakerSettings { recovery_timeout: Duration::ZERO, ..BreakerSettings::default() };
        let (gate, seen) = gate(settings);
        (0..5).for_each(|_| gate.fail("down"));
        drop(gate.enter().unwrap());
        let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _probe = gate.enter().unwrap();
            panic!("in the middle of the call");
        }));
        assert!(thrown.is_err());
        let probe = gate.enter().unwrap();
        assert!(probe.is_probe() && gate.enter().is_err());
        probe.end(Outcome::Success);
        assert_eq!(gate.status().state, BreakerState::Closed);
        assert!(matches!(&seen.lock()[..], [Change::Opened { .. }, Change::HalfOpened, Change::Closed]));
    }
}
