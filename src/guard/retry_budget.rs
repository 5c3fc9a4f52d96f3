//! How often what has failed may be tried again: retries are earned by calls, so that they stay a small part
//! of them where everything fails. Pure: the caller says what time it is.

/// What is earned at most, in tenths of a retry: each call brings one.
const TENTHS_MAX: u32 = 100;
/// Who has none left has one more after so long, ms: who seldom calls is not to be without any.
const FLOOR_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    tenths: u32,
    /// When there is one that was not earned; none: it is not needed yet.
    free_ms: Option<u64>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: TENTHS_MAX, free_ms: None }
    }
}

impl RetryBudget {
    /// A call is made for the first time.
    pub fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(TENTHS_MAX);
    }

    /// Whether it may be made once more.
    pub fn spend(&mut self, now_ms: u64) -> bool {
        if let Some(left) = self.tenths.checked_sub(10) {
            self.tenths = left;
            return true;
        }
        let is_free = self.free_ms.is_some_and(|at| now_ms >= at);
        if is_free || self.free_ms.is_none() {
            self.free_ms = Some(now_ms.saturating_add(FLOOR_MS));
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i16_ten_calls_bring_one_retry_and_time_brings_a_few() {
        let mut budget = RetryBudget::default();
        let spent = |budget: &mut RetryBudget, now_ms| (0..20).filter(|_| budget.spend(now_ms)).count();
        assert_eq!(spent(&mut budget, 0), 10);
        (0..9).for_each(|_| budget.earn());
        assert_eq!(spent(&mut budget, FLOOR_MS - 1), 0);
        budget.earn();
        assert_eq!(spent(&mut budget, FLOOR_MS - 1), 1);
        assert_eq!(spent(&mut budget, FLOOR_MS), 1);
        assert_eq!((spent(&mut budget, 2 * FLOOR_MS - 1), spent(&mut budget, 2 * FLOOR_MS)), (0, 1));
        (0..1000).for_each(|_| budget.earn());
        assert_eq!(spent(&mut budget, 0), 10);
    }
}
