//! How often something may happen: a bucket of tokens that fills up again with time. Pure: the caller says
//! what time it is.

/// So many at once, and so many in each second after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub per_second: u32,
}

/// Tokens in thousandths, so that a millisecond brings as many as the rate is per second. What is taken
/// beyond the last one is a debt, of one full bucket at most.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    level: i64,
    full: i64,
    per_ms: i64,
    /// When `level` was right (monotonic ms).
    at_ms: u64,
}

impl TokenBucket {
    #[must_use]
    pub fn full(rate: Rate, now_ms: u64) -> Self {
        let full = i64::from(rate.burst) * 1000;
        Self { level: full, full, per_ms: i64::from(rate.per_second).max(1), at_ms: now_ms }
    }

    /// Adds what the time since the last call has brought.
    pub fn refill(&mut self, now_ms: u64) {
        let elapsed = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(elapsed.saturating_mul(self.per_ms)).min(self.full);
        self.at_ms = now_ms;
    }

    pub fn take(&mut self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(1000);
        self.level = self.level.saturating_sub(count).max(-self.full);
    }

    /// Gives tokens back, up to the full bucket.
    pub fn give(&mut self, count: u32) {
        self.level = (self.level + i64::from(count) * 1000).min(self.full);
    }

    #[must_use]
    pub fn is_in_debt(&self) -> bool {
        self.level < 0
    }

    /// When the debt is paid (monotonic ms); in the past if there is none.
    #[must_use]
    pub fn debt_paid_ms(&self) -> u64 {
        self.reaches_ms(0)
    }

    /// When all tokens are there again (monotonic ms).
    #[must_use]
    pub fn full_ms(&self) -> u64 {
        self.reaches_ms(self.full)
    }

    fn reaches_ms(&self, level: i64) -> u64 {
        let missing = u64::try_from(level - self.level).unwrap_or(0);
        self.at_ms + missing.div_ceil(self.per_ms.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_a_debt_has_an_end() {
        let mut bucket = TokenBucket::full(Rate { burst: 10, per_second: 5 }, 1000);
        bucket.take(10);
        assert_eq!((bucket.is_in_debt(), bucket.debt_paid_ms(), bucket.full_ms()), (false, 1000, 3000));
        bucket.take(1);
        assert_eq!((bucket.is_in_debt(), bucket.debt_paid_ms(), bucket.full_ms()), (true, 1200, 3200));
        bucket.give(1);
        assert!(!bucket.is_in_debt());
        bucket.take(u64::MAX);
        assert_eq!((bucket.debt_paid_ms(), bucket.full_ms()), (3000, 5000), "no more than one bucket");
        bucket.refill(2999);
        assert!(bucket.is_in_debt());
        bucket.refill(u64::MAX / 2);
        assert_eq!(bucket.full_ms(), u64::MAX / 2, "no more than it holds");
    }
}
