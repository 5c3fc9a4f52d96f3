//! For tests of this crate: what comes about soon, and not at once. A program that another test starts has a
//! copy of every descriptor from its fork to its exec: what was closed last is closed a moment later.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until this holds; fails the test if it does not.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::yield_now();
    }
}
