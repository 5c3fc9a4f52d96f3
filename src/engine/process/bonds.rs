//! How a process is bound to others: those that it needs, and those that need it. Owned by its thread;
//! `worker/needs.rs` acts on it.

use crate::engine::board::Watch;
use crate::engine::process::handle::{AnswerTo, Ask};

/// How a process is bound to others while it is active.
#[derive(Debug, Default)]
pub struct Bonds {
    /// Tells when one of the others has changed.
    pub watch: Option<Watch>,
    /// Its start waits for others.
    pub is_held: bool,
    /// Those that it requires, with the run that each had when it was looked at first.
    pub seen: Vec<(String, u64)>,
    /// A stop or a restart that waits until those have gone that need it, and what was ordered since.
    pub deferred: Vec<Deferred>,
}

/// The most orders that wait for one process.
pub const DEFERRED_MAX: usize = 64;

/// What is done when those have gone, or at this time (monotonic ms).
#[derive(Debug)]
pub struct Deferred {
    pub what: Ask,
    pub cause: String,
    pub answer: Option<AnswerTo>,
    pub until: u64,
}

impl Bonds {
    /// When it goes, whoever is left.
    pub fn due(&self) -> Option<u64> {
        self.deferred.last().map(|deferred| deferred.until)
    }
}
