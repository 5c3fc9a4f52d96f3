//! What a client may take of the service: connections, and time.

use std::time::Duration;

use crate::sys::clock;
use crate::wire::request::CONNECTIONS_MAX;
use crate::wire::time::millis;

/// The limits of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. Each is a thread of some 20 KiB.
    pub connections: usize,
    /// Of them, for users who are let in by their groups: all of them together, and each.
    pub others: usize,
    pub other: usize,
    /// How many may not have said hello yet. For one more, the oldest has to go.
    pub silent: usize,
    /// Since the connection: who came no longer ago than that does not have to go. A client that says hello
    /// at once may be held up for so long by a machine with much to do.
    pub moment: Duration,
    /// From the connection to the whole hello.
    pub hello: Duration,
    /// From the first byte of a frame to the last.
    pub frame: Duration,
    /// Without one byte taken by a client that has replies to read.
    pub write: Duration,
    /// For a client that broke the rules, to read that it did.
    pub goodbye: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            others: 96,
            other: 24,
            silent: 64,
            moment: Duration::from_millis(100),
            hello: Duration::from_secs(5),
            frame: Duration::from_secs(10),
            write: Duration::from_secs(10),
            goodbye: Duration::from_secs(1),
        }
    }
}

/// The moment that is so far from now, on the monotonic clock.
pub(super) fn after(duration: Duration) -> u64 {
    clock::now_ms().saturating_add(millis(duration))
}
