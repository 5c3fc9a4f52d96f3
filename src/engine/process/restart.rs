//! What follows the end of a run that nobody asked for. Pure: rules, record and time in, decision out.

use crate::engine::process::now::Now;
use crate::sys::errno::ENOENT;
use crate::wire::probes::Readiness;
use crate::wire::process::{End, State};
use crate::wire::record::{AfterStop, Record};
use crate::wire::spec::{RestartPolicy, RestartRules, Spec};
use crate::wire::time::millis;

/// The shortest time between a start that came to nothing and the next one, ms: without it a program that is
/// missing would keep a processor busy, and its process's thread from reading messages.
const FAILED_START_MS: u64 = 100;
/// The shortest time before the second restart in a row, and those that follow, ms.
const AGAIN_MS: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is done, or its policy says so.
    Rest,
    /// Nothing: it was restarted too often.
    GiveUp,
    Run {
        after_ms: u64,
    },
}

/// Whether the run that just ended counts as a failure.
#[must_use]
pub fn failed(record: &Record, rules: &RestartRules) -> bool {
    if record.start_failure.is_some() || !record.unfit.is_empty() {
        return true;
    }
    match record.exit.map(|e| e.end) {
        Some(End::Code(code)) if rules.success_codes.is_empty() => code != 0,
        Some(End::Code(code)) => !rules.success_codes.contains(&code),
        Some(End::Signal(_)) | None => true,
    }
}

/// Whether it is a job, and its work is done: the last run ended by itself, with success.
#[must_use]
pub fn is_done(record: &Record, spec: &Spec) -> bool {
    spec.ready == Some(Readiness::Exit)
        && matches!(record.state, State::Stopped | State::Scheduled)
        && record.run > 0
        && record.stop.then == AfterStop::Decide
        && !failed(record, &spec.restart)
}

/// With which exit code a service ends that this process was essential for: its own, or as a shell has it.
#[must_use]
pub fn end_code(record: &Record) -> u8 {
    if let Some(failure) = &record.start_failure {
        return if failure.errno == ENOENT { 127 } else { 126 };
    }
    match record.exit.map(|exit| exit.end) {
        Some(End::Code(0)) if !record.unfit.is_empty() => 1,
        Some(End::Code(code)) => code,
        Some(End::Signal(signal)) => 128_u8.saturating_add(signal),
        None => 1,
    }
}

/// Decides. Changes nothing; [`count`] does.
#[must_use]
pub fn next(record: &Record, rules: &RestartRules, now: Now) -> Next {
    let is_oom = record.start_failure.is_none() && record.exit.is_some_and(|exit| exit.oom);
    let named = rules.on_oom.filter(|_| is_oom);
    match rules.policy {
        _ if named == Some(true) => {}
        _ if named == Some(false) => return Next::Rest,
        RestartPolicy::Never => return Next::Rest,
        RestartPolicy::OnFailure if !failed(record, rules) => return Next::Rest,
        RestartPolicy::OnFailure | RestartPolicy::Always => {}
    }
    let restarts = if window_is_over(record, rules, now) { 0 } else { record.window_restarts };
    if rules.max_restarts.is_some_and(|max| restarts >= max) {
        return Next::GiveUp;
    }
    let attempts = if was_healthy(record, rules, now) { 0 } else { record.attempts };
    let floor_ms = match (&record.start_failure, attempts) {
        (Some(_), _) => FAILED_START_MS,
        (None, 0) => 0,
        (None, _) => AGAIN_MS,
    };
    Next::Run { after_ms: delay_ms(rules, attempts, now.jitter).max(floor_ms) }
}

/// A client wants it to run: what was counted of earlier attempts is forgotten.
pub fn forget_attempts(record: &mut Record) {
    record.attempts = 0;
    record.window_restarts = 0;
    record.memory_restarts = 0;
}

/// Counts a restart that was decided.
pub fn count(record: &mut Record, rules: &RestartRules, now: Now) {
    if window_is_over(record, rules, now) {
        record.window_start = now.mono_ms;
        record.window_restarts = 0;
    }
    record.window_restarts += 1;
    record.restarts += 1;
    record.attempts = if was_healthy(record, rules, now) { 1 } else { record.attempts.saturating_add(1) };
}

/// The decision in words.
#[must_use]
pub fn plan(next: Next, record: &Record, rules: &RestartRules) -> String {
    let of = rules.max_restarts.map(|max| format!(" of {max}")).unwrap_or_default();
    let n = record.window_restarts + 1;
    match next {
        Next::Rest => String::new(),
        Next::GiveUp => "there will be no other".to_owned(),
        Next::Run { after_ms: 0 } if n > 1 => {
            format!("attempt {n}{of} at once: the run was a healthy one, as of reset_after")
        }
        Next::Run { after_ms: 0 } => format!("attempt {n}{of} at once"),
        Next::Run { after_ms } => format!("attempt {n}{of} in {after_ms} ms"),
    }
}

/// How many restarts it took to give up.
pub fn gave_up(restarts: u32) -> String {
    format!("after {restarts} {} within the window", if restarts == 1 { "restart" } else { "restarts" })
}

/// The window begins with its first restart.
fn window_is_over(record: &Record, rules: &RestartRules, now: Now) -> bool {
    record.window_restarts == 0 || now.mono_ms.saturating_sub(record.window_start) > millis(rules.window)
}

fn was_healthy(record: &Record, rules: &RestartRules, now: Now) -> bool {
    // Not the time that went into ending what the run had left behind. Whose end nobody saw, ended now.
    let ran_ms = match record.exit {
        Some(exit) => millis(exit.ran),
        None => now.mono_ms.saturating_sub(record.started_mono),
    };
    record.start_failure.is_none() && ran_ms >= millis(rules.reset_after)
}

/// 0 for the first, then the delay, doubled each time up to its limit, stretched by up to a tenth either way
/// so that what failed together does not come back together.
fn delay_ms(rules: &RestartRules, attempts: u32, jitter: i64) -> u64 {
    let Some(doublings) = attempts.checked_sub(1) else { return 0 };
    let (delay, max) = (millis(rules.delay), millis(rules.delay_max));
    let delay = delay.checked_shl(doublings).filter(|d| d >> doublings == delay).unwrap_or(max).min(max);
    delay.saturating_add_signed(i64::try_from(delay).unwrap_or(i64::MAX / 1000).saturating_mul(jitter) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::wire::id::ProcessId;
    use crate::wire::process::{Exit, StartFailure};
    use crate::wire::time::Timestamp;
    use std::time::Duration;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall: Timestamp(0), jitter: 0 }
    }

    #[test]
    fn delays_double_up_to_their_limit() {
        let rules = RestartRules::default();
        let delays: Vec<_> = (0..12).map(|n| delay_ms(&rules, n, 0)).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(delay_ms(&rules, u32::MAX, 0), 30000);
        assert_eq!((delay_ms(&rules, 2, 100), delay_ms(&rules, 2, -100)), (220, 180));
    }

    #[test]
    fn the_window_limits_and_then_forgets() {
        let rules = RestartRules {
            policy: RestartPolicy::Always,
            max_restarts: Some(2),
            window: Duration::from_secs(1),
            ..RestartRules::default()
        };
        let mut record = fresh(ProcessId::new(), None, None);
        record.started_mono = 5000;
        for now in [5000, 5100] {
            assert!(matches!(next(&record, &rules, at(now)), Next::Run { .. }));
            count(&mut record, &rules, at(now));
        }
        assert_eq!(next(&record, &rules, at(6000)), Next::GiveUp);
        assert_eq!(next(&record, &rules, at(6001)), Next::Run { after_ms: 200 });
    }

    #[test]
    fn a_kill_for_memory_can_have_its_own_rule() {
        let exit = Exit { oom: true, ..Exit::with(End::Signal(9)) };
        let record = Record { exit: Some(exit), ..fresh(ProcessId::new(), None, None) };
        let other = Record { exit: Some(Exit::with(End::Signal(9))), ..record.clone() };
        let of = |record, policy, on_oom| {
            let rules = RestartRules { policy, on_oom, ..RestartRules::default() };
            next(record, &rules, at(0))
        };
        let again = Next::Run { after_ms: 0 };
        assert_eq!(of(&record, RestartPolicy::Never, Some(true)), again);
        assert_eq!(of(&record, RestartPolicy::Always, Some(false)), Next::Rest);
        assert_eq!(of(&record, RestartPolicy::OnFailure, None), again, "it is a failure");
        assert_eq!(of(&other, RestartPolicy::Never, Some(true)), Next::Rest);
        assert_eq!(of(&other, RestartPolicy::Always, Some(false)), again);
    }

    #[test]
    fn a_healthy_run_resets_the_delay() {
        let rules = RestartRules { policy: RestartPolicy::Always, ..RestartRules::default() };
        let mut record = fresh(ProcessId::new(), None, None);
        record.attempts = 5;
        assert_eq!(next(&record, &rules, at(9_999)), Next::Run { after_ms: 1600 });
        assert_eq!(next(&record, &rules, at(10_000)), Next::Run { after_ms: 0 });
        count(&mut record, &rules, at(10_000));
        assert_eq!(record.attempts, 1);
    }

    #[test]
    fn what_it_left_behind_does_not_make_a_run_healthy() {
        let rules = RestartRules { policy: RestartPolicy::Always, ..RestartRules::default() };
        let exit = Exit { ran: Duration::from_millis(200), ..Exit::with(End::Code(1)) };
        let mut record = Record { exit: Some(exit), attempts: 5, ..fresh(ProcessId::new(), None, None) };
        assert_eq!(next(&record, &rules, at(15_000)), Next::Run { after_ms: 1600 });
        count(&mut record, &rules, at(15_000));
        assert_eq!(record.attempts, 6);
    }

    #[test]
    fn without_a_delay_there_is_time_for_messages() {
        let rules = RestartRules {
            policy: RestartPolicy::Always,
            delay: Duration::ZERO,
            max_restarts: None,
            ..RestartRules::default()
        };
        let mut record = fresh(ProcessId::new(), None, None);
        assert_eq!(next(&record, &rules, at(0)), Next::Run { after_ms: 0 }, "the first is at once");
        record.attempts = 1;
        assert_eq!(next(&record, &rules, at(0)), Next::Run { after_ms: 10 });
        record.attempts = 0;
        record.start_failure =
            Some(StartFailure { step: "prepare".to_owned(), errno: 2, object: String::new() });
        assert_eq!(next(&record, &rules, at(0)), Next::Run { after_ms: 100 }, "nothing was started");
    }

    #[test]
    fn a_service_ends_as_what_was_essential_for_it() {
        let of = |end| Record { exit: end, ..fresh(ProcessId::new(), None, None) };
        let exit = |end| Some(Exit::with(end));
        assert_eq!(end_code(&of(exit(End::Code(3)))), 3);
        assert_eq!(end_code(&of(exit(End::Code(0)))), 0);
        assert_eq!(end_code(&of(exit(End::Signal(9)))), 137);
        assert_eq!(end_code(&of(None)), 1, "how it ended was not seen");
        let unfit = Record { unfit: "port 80".to_owned(), ..of(exit(End::Code(0))) };
        assert_eq!(end_code(&unfit), 1, "a success of what has failed is none");
        let failed = |errno| {
            let failure = StartFailure { step: "exec".to_owned(), errno, object: String::new() };
            Record { start_failure: Some(failure), ..of(exit(End::Code(3))) }
        };
        assert_eq!((end_code(&failed(2)), end_code(&failed(13))), (127, 126));
    }
}
