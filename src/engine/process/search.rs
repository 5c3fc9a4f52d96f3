//! The search for the main process of a run whose program has put itself into the background. A plain value;
//! the process's thread looks (`worker/background.rs`).

use crate::wire::keeper::Ended;

/// How long after the end of what was started its main process may still be unknown, ms.
const SEARCH_MS: u64 = 5000;
/// How soon it is looked again, at first and at most, ms. Nothing tells when a file is written by one who
/// keeps it open.
const LOOK_MS: (u64, u64) = (5, 100);

#[derive(Debug)]
pub struct Search {
    /// How what was started has ended.
    pub first: Ended,
    /// What was wrong when it was looked last.
    pub wrong: String,
    until: u64,
    look_at: u64,
    pause: u64,
}

impl Search {
    pub fn new(first: Ended, now: u64) -> Self {
        let wrong = "it went into the background, and has not said MAINPID=".to_owned();
        Self { first, wrong, until: now + SEARCH_MS, look_at: now, pause: LOOK_MS.0 }
    }

    /// When to look again, or to give up (monotonic ms).
    pub fn due(&self) -> u64 {
        self.look_at.min(self.until)
    }

    pub fn is_over(&self, now: u64) -> bool {
        self.until <= now
    }

    /// It was in vain this time.
    pub fn go_on(&mut self, now: u64) {
        self.look_at = now + self.pause;
        self.pause = (self.pause * 2).min(LOOK_MS.1);
    }
}
