//! Points in wall-clock time as they are stored and sent: whole milliseconds since the Unix epoch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest duration that a definition takes: a year.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Milliseconds since the Unix epoch, UTC. Used to tell people *when*; never to decide anything: decisions
/// use the monotonic clock, which a set clock does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The present moment. A clock set before 1970 reads as 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(millis(since))
    }

    /// `None` for zero, which stands for "never" on the wire.
    pub(in crate::wire) fn from_wire(ms: u64) -> Option<Self> {
        (ms != 0).then_some(Self(ms))
    }

    pub(in crate::wire) fn to_wire(at: Option<Self>) -> u64 {
        at.map_or(0, |t| t.0)
    }
}

/// Whole milliseconds of a duration, at most `u64::MAX`.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
