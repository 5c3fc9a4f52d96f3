//! Slows a connection down by what only the calls behind it know: whose logins are refused again and again,
//! its next requests are read later.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::guard::token_bucket::{Rate, TokenBucket};

/// Refused logins. A person who tries passwords is not hindered, and a program that tries thousands has the
/// gateway do little else.
const REFUSED: Rate = Rate { burst: 20, per_second: 10 };

/// Of one connection: what its calls tell, and what its meter asks.
#[derive(Clone)]
pub struct Slowdown(Arc<Mutex<TokenBucket>>);

impl Slowdown {
    /// For a connection that begins now (monotonic ms).
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self(Arc::new(Mutex::new(TokenBucket::full(REFUSED, now_ms))))
    }

    /// A login was refused.
    pub fn refused(&self, now_ms: u64) {
        let mut bucket = self.0.lock();
        bucket.refill(now_ms);
        bucket.take(1);
    }

    /// Until when nothing more is read (monotonic ms); in the past if there is no need.
    pub(super) fn until_ms(&self, now_ms: u64) -> u64 {
        let mut bucket = self.0.lock();
        bucket.refill(now_ms);
        bucket.debt_paid_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{FrameMeter, Quotas};
    use crate::tls::pump::{Meter, MeterDecision};

    #[test]
    fn who_is_refused_often_is_read_slowly() {
        let slowdown = Slowdown::new(1000);
        let mut meter = FrameMeter::new(Quotas::default(), 1000).slowed_by(slowdown.clone());
        (0..REFUSED.burst).for_each(|_| slowdown.refused(1000));
        assert_eq!(meter.inbound(b"PRI", 1000), MeterDecision::Pass, "a person who tries passwords");
        (0..3).for_each(|_| slowdown.refused(1000));
        assert_eq!(meter.inbound(b" * ", 1000), MeterDecision::PauseUntil(1300));
        assert_eq!(meter.inbound(b"HTTP", 1300), MeterDecision::Pass);
        (0..1000).for_each(|_| slowdown.refused(1300));
        assert_eq!(meter.inbound(b"/2.0", 1300), MeterDecision::PauseUntil(3300), "it comes back");
    }
}
