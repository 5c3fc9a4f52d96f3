//! How calls of a new version went, and whether that is good enough: for a canary of the service's, and for
//! one of a provider's.

use std::time::Duration;

use crate::wire::canary::Part;

/// What calls have to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub success_ratio: Part,
    pub latency: Duration,
    /// Fewer say nothing.
    pub min_calls: u32,
}

/// How one call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub failed: bool,
    pub took: Duration,
}

/// Calls that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub failures: u64,
    /// Those that took longer than they may.
    pub slow: u64,
    /// Of those that did not fail: how many, and what all of them took.
    pub answered: u64,
    pub total_us: u64,
}

impl Counts {
    pub fn add_call(&mut self, call: Call, latency: Duration) {
        self.calls += 1;
        self.slow += u64::from(call.took > latency);
        if call.failed {
            self.failures += 1;
        } else {
            self.answered += 1;
            self.total_us += u64::try_from(call.took.as_micros()).unwrap_or(u64::MAX);
        }
    }

    /// Both together.
    pub fn with(self, other: &Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failures: self.failures + other.failures,
            slow: self.slow + other.slow,
            answered: self.answered + other.answered,
            total_us: self.total_us.saturating_add(other.total_us),
        }
    }

    /// With calls that are under way for longer than they may take.
    pub fn with_overdue(self, overdue: u64) -> Self {
        Self { calls: self.calls + overdue, slow: self.slow + overdue, ..self }
    }

    pub fn mean_us(&self) -> u64 {
        self.total_us.checked_div(self.answered).unwrap_or(0)
    }

    /// Why these are not good enough, once there are enough of them.
    pub fn breach(&self, limits: &Limits) -> Option<String> {
        if self.calls < u64::from(limits.min_calls) {
            return None;
        }
        let is_enough = |bad: u64| {
            let good = u128::from(self.calls - bad) * u128::from(Part::WHOLE);
            good >= u128::from(self.calls) * u128::from(limits.success_ratio.ten_thousandths())
        };
        let calls = self.calls;
        if !is_enough(self.failures) {
            let least = limits.success_ratio;
            return Some(format!("{} of {calls} calls failed, and {least} have to succeed", self.failures));
        }
        if !is_enough(self.slow) {
            return Some(format!("{} of {calls} calls took longer than {:?}", self.slow, limits.latency));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_calls_have_to_succeed_in_time() {
        let success_ratio = Part::of(9500).unwrap();
        let limits = Limits { success_ratio, latency: Duration::from_secs(5), min_calls: 20 };
        let counts = |calls, failures, slow| Counts { calls, failures, slow, ..Counts::default() };
        for (counts, why) in [
            (counts(19, 19, 19), None),
            (counts(20, 1, 1), None),
            (counts(20, 2, 0), Some("2 of 20 calls failed, and 0.95 have to succeed")),
            (counts(20, 0, 2), Some("2 of 20 calls took longer than 5s")),
            (counts(1000, 50, 50), None),
            (counts(1000, 51, 0), Some("51 of 1000 calls failed, and 0.95 have to succeed")),
            (counts(u64::MAX, 0, 0), None),
        ] {
            assert_eq!(counts.breach(&limits).as_deref(), why, "{counts:?}");
        }
        assert!(counts(19, 0, 0).with_overdue(2).breach(&limits).is_some());
    }

    #[test]
    fn calls_are_counted_once() {
        let (mut counts, limit) = (Counts::default(), Duration::from_millis(10));
        for (failed, ms) in [(false, 4), (false, 10), (true, 1), (true, 11)] {
            counts.add_call(Call { failed, took: Duration::from_millis(ms) }, limit);
        }
        assert_eq!(counts, Counts { calls: 4, failures: 2, slow: 1, answered: 2, total_us: 14_000 });
        assert_eq!((counts.mean_us(), Counts::default().mean_us()), (7000, 0));
        assert_eq!(counts.with(&counts).calls, 8);
    }
}
