//! Waiting for what nothing announces, in the one place where that is allowed.

use std::time::{Duration, Instant};

/// Between two looks. Small against everything that is waited for, and large against the cost of a look.
const TICK: Duration = Duration::from_millis(2);

/// Lets time pass: for a moment that is chosen (a kill at a random instant), never for hope.
pub fn pass(time: Duration) {
    let _ = crossbeam_channel::never::<()>().recv_timeout(time);
}

/// Looks until `condition` holds; whether it did before `limit` was over.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begin.elapsed() >= limit {
            return false;
        }
        pass(TICK);
    }
}

/// Looks until `condition` holds, and fails the test if it does not within `limit`. Returns the time it took.
#[track_caller]
pub fn until(what: &str, limit: Duration, condition: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    assert!(holds_within(limit, condition), "waited {limit:?} in vain until {what}");
    begin.elapsed()
}

/// Looks until `get` gives something, and fails the test if it does not within `limit`.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut get: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, limit, || {
        found = get();
        found.is_some()
    });
    found.expect("the condition held")
}
