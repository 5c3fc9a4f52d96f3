//! What a time of a schedule leads to that has come. Pure: record, schedule and time in, decision out; the
//! process's thread does it (`worker/schedule.rs`).

use crate::wire::json;
use crate::wire::process::State;
use crate::wire::record::Record;
use crate::wire::schedule::{Missed, Overlap, Schedule, Times};
use crate::wire::time::{Timestamp, millis};

/// Later than this, a time was missed: there was no service, the machine slept, or its clock was set. ms.
const LATE_MS: u64 = 60_000;

/// What a time leads to that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Run,
    /// A run that makes up for what was missed, and what was.
    MakeUp(String),
    /// No run, and why.
    LeaveOut(String),
}

/// Decides about the time `due`, which has come.
#[must_use]
pub fn turn(record: &Record, schedule: &Schedule, times: &Times, due: Timestamp, now: Timestamp) -> Turn {
    let of = format!("due {}", json::time(due));
    // Others may have passed, too: one run, or none, is for all of them.
    let is_late = now.0.saturating_sub(due.0) >= LATE_MS || times.after(due).is_some_and(|next| next <= now);
    if is_late && schedule.missed == Missed::Skip {
        return Turn::LeaveOut(format!("{of}: left out, as it was missed"));
    }
    if !record.state.is_at_rest() && schedule.overlap == Overlap::Forbid {
        let what = match record.state {
            State::Backoff => "is to be tried again",
            State::Starting => "is starting still",
            State::Running | State::Stopping => "has not ended",
            State::Stopped | State::Scheduled | State::Failed => unreachable!("it is at rest"),
        };
        return Turn::LeaveOut(format!("{of}: left out, run {} {what}", record.run));
    }
    if is_late { Turn::MakeUp(format!("{of}: made up for now")) } else { Turn::Run }
}

/// When it runs by itself next. `chance`: any number, for the jitter.
#[must_use]
pub fn next(
    schedule: &Schedule,
    times: &Times,
    last: Option<Timestamp>,
    now: Timestamp,
    chance: u64,
) -> Option<Timestamp> {
    let next = times.next(last, now)?;
    Some(Timestamp(next.0.saturating_add(chance % millis(schedule.jitter).saturating_add(1))))
}

/// Whether the clock was set such that the next time comes sooner than the one that is planned.
#[must_use]
pub fn comes_sooner(record: &Record, schedule: &Schedule, times: &Times, now: Timestamp) -> bool {
    let latest = times.next(record.last_due_at, now).map(|at| at.0.saturating_add(millis(schedule.jitter)));
    record.next_run_at.is_some_and(|planned| latest.is_some_and(|latest| latest < planned.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::wire::id::ProcessId;
    use std::time::Duration;

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp(u64::try_from(at.as_millisecond()).unwrap())
    }

    fn schedule(when: &str) -> Schedule {
        Schedule { when: Some(when.into()), zone: Some("UTC".into()), ..Schedule::default() }
    }

    fn of(schedule: &Schedule, state: State, due: &str, now: &str) -> Turn {
        let record = Record { state, run: 3, ..fresh(ProcessId::new(), None, None) };
        let times = schedule.times(at("2026-01-01T00:00:00Z")).unwrap().unwrap();
        turn(&record, schedule, &times, at(due), at(now))
    }

    #[test]
    fn a_time_that_has_come_leads_to_a_run() {
        let nightly = schedule("0 3 * * *");
        let turn = |state, now| of(&nightly, state, "2026-05-01T03:00:00Z", now);
        assert_eq!(turn(State::Scheduled, "2026-05-01T03:00:00Z"), Turn::Run);
        assert_eq!(turn(State::Failed, "2026-05-01T03:00:59Z"), Turn::Run, "a little late");
    }

    #[test]
    fn beside_a_run_there_is_no_other() {
        let nightly = schedule("0 3 * * *");
        let turn =
            |schedule: &Schedule, state| of(schedule, state, "2026-05-01T03:00:00Z", "2026-05-01T03:00:00Z");
        for state in [State::Starting, State::Running, State::Stopping, State::Backoff] {
            assert!(matches!(turn(&nightly, state), Turn::LeaveOut(why) if why.contains("run 3")));
        }
        let replacing = Schedule { overlap: Overlap::Replace, ..nightly };
        assert_eq!(turn(&replacing, State::Running), Turn::Run);
    }

    #[test]
    fn what_was_missed_is_made_up_for_once_or_left_out() {
        let nightly = schedule("0 3 * * *");
        let (due, now) = ("2026-05-01T03:00:00Z", "2026-05-03T09:00:00Z");
        let left_out = "due 2026-05-01T03:00:00.000Z: left out, as it was missed";
        assert_eq!(of(&nightly, State::Scheduled, due, now), Turn::LeaveOut(left_out.into()));
        let run = Schedule { missed: Missed::Run, ..nightly };
        let made_up = "due 2026-05-01T03:00:00.000Z: made up for now";
        assert_eq!(of(&run, State::Scheduled, due, now), Turn::MakeUp(made_up.into()));
        assert!(matches!(of(&run, State::Running, due, now), Turn::LeaveOut(_)), "that run is enough");
        // Of one that comes often, the time after it has come as well.
        let often = Schedule { missed: Missed::Run, ..schedule("@every 1s") };
        let turn = |now| of(&often, State::Scheduled, "2026-05-01T03:00:00Z", now);
        assert_eq!(turn("2026-05-01T03:00:00.999Z"), Turn::Run);
        assert!(matches!(turn("2026-05-01T03:00:01Z"), Turn::MakeUp(_)));
    }

    #[test]
    fn a_clock_that_was_set_changes_what_is_next() {
        let nightly = schedule("0 3 * * *");
        let times = nightly.times(at("2026-01-01T00:00:00Z")).unwrap().unwrap();
        let mut record = fresh(ProcessId::new(), None, None);
        record.last_due_at = Some(at("2026-05-02T03:00:00Z"));
        record.next_run_at = Some(at("2026-05-03T03:00:00Z"));
        let sooner = |record: &Record, now: &str| comes_sooner(record, &nightly, &times, at(now));
        assert!(!sooner(&record, "2026-05-02T03:00:01Z"));
        assert!(!sooner(&record, "2026-05-02T01:00:00Z"), "it has run at that three already");
        assert!(!sooner(&record, "2026-05-09T01:00:00Z"), "then it was missed");
        assert!(sooner(&record, "2026-04-09T01:00:00Z"), "the clock was wrong before");
        // Between a time and the end of its jitter, nothing is left out.
        let late = Schedule { jitter: Duration::from_secs(600), ..nightly.clone() };
        record.next_run_at = Some(at("2026-05-03T03:09:00Z"));
        assert!(!comes_sooner(&record, &late, &times, at("2026-05-03T03:01:00Z")));
        assert!(!comes_sooner(&record, &late, &times, at("2026-05-03T02:00:00Z")));
    }

    #[test]
    fn jitter_comes_on_top() {
        let nightly = Schedule { jitter: Duration::from_millis(9), ..schedule("0 3 * * *") };
        let times = nightly.times(at("2026-01-01T00:00:00Z")).unwrap().unwrap();
        let next = |chance| next(&nightly, &times, None, at("2026-05-01T00:00:00Z"), chance).unwrap();
        assert_eq!(next(0), at("2026-05-01T03:00:00Z"));
        assert_eq!((next(9), next(10)), (at("2026-05-01T03:00:00.009Z"), at("2026-05-01T03:00:00Z")));
    }
}
