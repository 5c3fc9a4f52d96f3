//! What has happened, beyond the events that are in memory.

pub mod sinks;
