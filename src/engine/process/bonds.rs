//! How a process is bound to others: those that it needs, and those that need it. Owned by its thread;
//! `worker/needs.rs` acts on it.

use crate::engine::board::{Standing, Watch};
use crate::engine::process::handle::{AnswerTo, Ask};
use crate::wire::needs::Needs;

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

/// With which run the last engine has seen this one that a process requires, which has followed it since this
/// time (monotonic ms; 0: not known). A run that began later was not acted upon yet: 0 stands for the run
/// before. None: it was made later, as one of a group, and is not followed.
pub fn seen_since(since: u64, needs: &Needs, other: Standing) -> Option<(String, u64)> {
    if since == 0 || other.started_mono <= since {
        return Some((other.name, other.run));
    }
    let is_later = other.run == 1 && !needs.requires.contains(&other.name);
    (!is_later).then_some((other.name, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_engine_knows_which_run_was_seen() {
        let needs = Needs { requires: vec!["db".into(), "@data".into()], ..Needs::default() };
        let of = |name, run, started_mono| Standing { run, started_mono, ..Standing::running(name) };
        let seen = |since, other| seen_since(since, &needs, other);
        assert_eq!(seen(500, of("db", 3, 400)), Some(("db".into(), 3)));
        assert_eq!(seen(500, of("db", 4, 600)), Some(("db".into(), 0)), "it has ended, and come back");
        assert_eq!(seen(500, of("db", 1, 600)), Some(("db".into(), 0)), "another one of this name");
        assert_eq!(seen(500, of("cache", 2, 600)), Some(("cache".into(), 0)));
        assert_eq!(seen(500, of("cache", 1, 600)), None, "one more of its group");
        assert_eq!(seen(0, of("db", 4, 600)), Some(("db".into(), 4)));
    }
}
