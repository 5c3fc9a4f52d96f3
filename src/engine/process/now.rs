//! The moment at which something is decided. Decisions are pure, so they are given it.

use crate::wire::time::Timestamp;

/// The moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: u64,
    pub wall: Timestamp,
    /// -100 to 100: thousandths by which a delay is stretched.
    pub jitter: i64,
}
