//! Records that do not come from a step: of a process that was just made known, and of one whose tree an
//! earlier service has left.

use crate::engine::process::now::Now;
use crate::wire::id::{Name, ProcessId};
use crate::wire::process::State;
use crate::wire::record::{AfterStop, Orders, Record, StopInProgress, StopPhase};
use crate::wire::spec::{Scope, StopRules};
use crate::wire::time::{Timestamp, millis};

/// A process that was just made known.
#[must_use]
pub fn fresh(id: ProcessId, name: Option<Name>, instance: Option<u32>) -> Record {
    Record {
        id,
        name,
        instance,
        state: State::Stopped,
        run: 0,
        pid: None,
        ready: false,
        restarts: 0,
        created_at: Timestamp::now(),
        started_at: None,
        stopped_at: None,
        started_mono: 0,
        bound_mono: 0,
        exit: None,
        start_failure: None,
        attempts: 0,
        window_start: 0,
        window_restarts: 0,
        deadline: None,
        deadline_at: None,
        stop: StopInProgress::default(),
        leader_gone: false,
        stuck: false,
        wanted: false,
        start_ticks: None,
        tree: None,
        pipes: None,
        adopted: false,
        left: false,
        internal: false,
        outdated: false,
        was_ready: false,
        awaits_main: false,
        first_ticks: None,
        unfit: String::new(),
        status: String::new(),
        waits_for: String::new(),
        is_blocked: false,
        cause: String::new(),
        events: Vec::new(),
        output_from: 0,
        held: false,
        orders: Orders::default(),
        next_run_at: None,
        last_due_at: None,
        ends_service: None,
        hook: None,
        limits_trouble: String::new(),
        oom_kills: 0,
        memory_restarts: 0,
    }
}

/// A process whose tree has outlived its service: the stop that ends it is under way, and a run follows if it
/// is wanted.
#[must_use]
pub fn to_be_ended(past: &Record, rules: &StopRules, is_wanted: bool, now: Now) -> Record {
    let timeout_ms = millis(rules.time_of(0));
    Record {
        state: State::Stopping,
        leader_gone: true,
        stop: StopInProgress {
            phase: StopPhase::Asked,
            then: if is_wanted { AfterStop::Run } else { AfterStop::Rest },
            signal: rules.signal,
            step: 0,
            timeout_ms,
            scope: Scope::Tree,
            no_kill: false,
        },
        deadline: Some(now.mono_ms.saturating_add(timeout_ms)),
        deadline_at: Some(Timestamp(now.wall.0.saturating_add(timeout_ms))),
        ..past.clone()
    }
}
