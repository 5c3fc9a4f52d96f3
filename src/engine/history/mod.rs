//! What has happened, beyond the events that are in memory.

pub mod journal;
pub mod sinks;
