//! What follows when a process takes more memory than it is to, or something of it was killed for memory.
//! Pure: numbers in, decisions out.

use std::time::Duration;

use crate::sys::signal;
use crate::wire::process::End;
use crate::wire::record::{Record, StopPhase};
use crate::wire::time::millis;

/// An end within this time of a kill for memory is by that, ms: a shell that has started what was killed
/// ends in the same moment.
pub const SAME_MOMENT_MS: u64 = 1000;
/// The longest time between two restarts in a row for memory, ms.
const WAIT_MAX_MS: u64 = 3_600_000;
/// The code with which a shell ends after a child that was killed.
const KILLED_CODE: u8 = 137;

/// Whether the end of a run is by a kill for memory, where there was one in this moment. Not if the stop has
/// come to its own SIGKILL.
pub fn is_oom(record: &Record, end: End) -> bool {
    match end {
        End::Signal(number) => u32::from(number) == signal::KILL && record.stop_phase() == StopPhase::Asked,
        End::Code(code) => code == KILLED_CODE,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Above {
    No,
    /// It is to be restarted when it is so old.
    Later {
        at_age_ms: u64,
    },
    Restart,
}

/// What becomes of a run that holds so much, and was restarted for that so often before. Near the threshold
/// is above it: the kernel gives it nothing more without taking it from somewhere.
pub fn above(held: u64, threshold: u64, age_ms: u64, restarts: u32, reset_after: Duration) -> Above {
    if held < threshold - threshold / 16 {
        return Above::No;
    }
    match wait_ms(restarts, reset_after) {
        at_age_ms if age_ms < at_age_ms => Above::Later { at_age_ms },
        _ => Above::Restart,
    }
}

/// The number of restarts in a row, after another one of a run of this age: one that was soon above it again
/// lets the next wait for longer.
pub fn counted(restarts: u32, age_ms: u64, reset_after: Duration) -> u32 {
    let soon = wait_ms(restarts, reset_after).saturating_mul(2).saturating_add(millis(reset_after));
    if age_ms >= soon { 1 } else { restarts.saturating_add(1) }
}

/// How old a run has to be: at first not at all, then as long as a healthy one, doubling from there.
fn wait_ms(restarts: u32, reset_after: Duration) -> u64 {
    let Some(doublings) = restarts.checked_sub(1) else { return 0 };
    millis(reset_after).saturating_mul(1 << doublings.min(20)).min(WAIT_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::wire::id::ProcessId;
    use crate::wire::process::State;

    const RESET: Duration = Duration::from_secs(10);

    #[test]
    fn never_two_restarts_in_a_storm() {
        let of = |age_ms, restarts| above(100, 100, age_ms, restarts, RESET);
        assert_eq!(above(93, 100, 1, 0, RESET), Above::No);
        assert_eq!(above(94, 100, 1, 0, RESET), Above::Restart);
        assert_eq!((of(0, 0), of(1, 1)), (Above::Restart, Above::Later { at_age_ms: 10_000 }));
        assert_eq!((of(10_000, 1), of(10_000, 2)), (Above::Restart, Above::Later { at_age_ms: 20_000 }));
        assert_eq!(of(3_599_999, u32::MAX), Above::Later { at_age_ms: 3_600_000 });
        assert_eq!((counted(0, 500, RESET), counted(0, 10_000, RESET)), (1, 1));
        assert_eq!(
            (counted(1, 10_001, RESET), counted(1, 29_999, RESET), counted(1, 30_000, RESET)),
            (2, 2, 1)
        );
        assert_eq!(counted(u32::MAX, 0, RESET), u32::MAX);
    }

    #[test]
    fn a_kill_of_our_own_is_not_for_memory() {
        let mut record = fresh(ProcessId::new(), None, None);
        record.state = State::Running;
        assert!(is_oom(&record, End::Signal(9)) && is_oom(&record, End::Code(137)), "also through a shell");
        assert!(!is_oom(&record, End::Signal(15)) && !is_oom(&record, End::Code(1)));
        record.state = State::Stopping;
        assert!(is_oom(&record, End::Signal(9)), "it was asked to end, and killed by the kernel meanwhile");
        record.stop.phase = StopPhase::Killed;
        assert!(!is_oom(&record, End::Signal(9)));
        record.state = State::Running;
        assert!(is_oom(&record, End::Signal(9)), "that stop is over");
    }
}
