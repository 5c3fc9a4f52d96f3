//! What differs between what the keeper holds, what the store keeps, and what really runs; and what follows
//! from that. Pure: everything that was found comes in, and what is to be done goes out.
//!
//! While a keeper lives, its memory is the truth and the store follows it ([`lacking`]). When a service
//! begins again, the store is all there is, and each process is brought back from it ([`restore`]): stopped
//! what was stopped, started again what is wanted, and never a second copy beside a first one that has
//! survived.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::process::fresh::to_be_ended;
use crate::engine::process::now::Now;
use crate::engine::settings::OrphanPolicy;
use crate::engine::store::Kept;
use crate::sys::cgroup::Cgroup;
use crate::wire::event::{CAUSE_RECONCILER, EventKind, NewEvent};
use crate::wire::id::ProcessId;
use crate::wire::leader::Leader;
use crate::wire::process::State;
use crate::wire::record::Record;
use crate::wire::spec::Spec;

/// The cause of a start with the service.
const CAUSE_AUTOSTART: &str = "autostart";

/// Why what a person wanted is not started with the service.
const NOT_STARTED: &str = "; not started again, since it has no name or was started with --no-autostart";

/// The same of what has a schedule.
const NOT_STARTED_YET: &str = "; its schedule says when it runs again";

/// Compares what the keeper holds with what the store keeps, and returns the processes in which the store is
/// to follow: it does not know them, knows them otherwise, or is alone in knowing them.
#[must_use]
pub fn lacking(held: &[(&Spec, Record)], kept: &[Kept]) -> BTreeSet<ProcessId> {
    let mut lacking: BTreeSet<ProcessId> = kept.iter().map(|k| k.record.id).collect();
    let kept: BTreeMap<ProcessId, &Kept> = kept.iter().map(|k| (k.record.id, k)).collect();
    for (spec, record) in held {
        let bare = Record { events: Vec::new(), ..record.clone() };
        let is_kept = kept.get(&record.id).is_some_and(|k| {
            k.spec == **spec
                && k.wanted == bare.wanted
                && Record { events: Vec::new(), ..k.record.clone() } == bare
        });
        if is_kept {
            lacking.remove(&record.id);
        } else {
            lacking.insert(record.id);
        }
    }
    lacking
}

/// What of a process is still there from an earlier service.
#[derive(Clone, Debug, Default)]
pub struct Survivors {
    /// Numbers of all that carry its mark.
    pub pids: Vec<u32>,
    /// The process itself, by number, start time and boot, if it is one of them or its group or session is
    /// certainly still its own.
    pub leader: Option<Leader>,
    /// Whether it is one of them.
    pub has_leader: bool,
    /// The last run that was spawned, where that is on record; 0: nothing is known of one.
    pub run: u64,
    /// Where the earlier service had them, if anything lives there.
    pub cgroup: Option<Cgroup>,
}

impl Survivors {
    /// The first of its pids, for a message.
    pub fn listed(&self) -> String {
        self.pids.iter().take(8).map(u32::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// What became of a process when the service began again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// It was stopped, and is.
    Stopped,
    Started,
    /// It ran, has ended unseen, and stays so: nothing says that it is to be started.
    Lost,
    /// It ran on, and is looked after again.
    Adopted,
    /// It ran on, and is ended; then it is started if it is wanted.
    Ended,
    /// It runs on, and is left alone.
    Left,
}

impl RestoreOutcome {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Started => "started",
            Self::Lost => "lost",
            Self::Adopted => "adopted",
            Self::Ended => "ended",
            Self::Left => "left",
        }
    }
}

/// A process as the new service holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Before anything is done: how the old run ended.
    pub past: Record,
    /// What is told of that.
    pub events: Vec<NewEvent>,
    pub record: Record,
    pub outcomes: Vec<RestoreOutcome>,
}

/// Brings a process back. Nothing of its record that belonged to a clock, a pid or a keeper of the past is
/// believed.
#[must_use]
pub fn restore(kept: &Kept, survivors: &Survivors, policy: OrphanPolicy, now: Now) -> Restored {
    let mut past = past(kept, now);
    if survivors.run > past.run {
        // It was spawned, and its service did not live to store more of it.
        past.run = survivors.run;
        past.pipes = None;
    }
    if policy == OrphanPolicy::Adopt && survivors.has_leader {
        return adopt(kept, survivors, past);
    }
    if survivors.pids.is_empty() {
        return go_on_alone(kept, past, now);
    }
    match policy {
        OrphanPolicy::Leave => leave(survivors, past),
        OrphanPolicy::Adopt | OrphanPolicy::Kill => end(kept, survivors, past, now),
    }
}

/// Whether it had a run when its service ended.
fn has_run(kept: &Kept) -> bool {
    !kept.record.state.is_at_rest() && kept.record.state != State::Backoff
}

fn why_not_started(kept: &Kept) -> &'static str {
    if kept.spec.schedule.is_on() { NOT_STARTED_YET } else { NOT_STARTED }
}

fn is_to_start(kept: &Kept) -> bool {
    kept.wanted && kept.spec.starts_with_the_service()
}

/// The record with what its run has become by now, if nothing survived.
fn past(kept: &Kept, now: Now) -> Record {
    let mut past = Record {
        state: match kept.record.state {
            State::Failed => State::Failed,
            _ if kept.record.next_run_at.is_some() => State::Scheduled,
            _ => State::Stopped,
        },
        pid: None,
        start_ticks: None,
        tree: None,
        adopted: false,
        left: false,
        ready: false,
        attempts: 0,
        window_restarts: 0,
        deadline: None,
        deadline_at: None,
        leader_gone: true,
        stuck: false,
        wanted: kept.wanted,
        events: Vec::new(),
        output_from: 0,
        held: false,
        ends_service: None,
        hook: None,
        limits_trouble: String::new(),
        oom_kills: 0,
        memory_restarts: 0,
        ..kept.record.clone()
    };
    if has_run(kept) {
        past.exit = None;
        past.stopped_at = Some(now.wall);
    }
    if has_run(kept) || past.cause.is_empty() {
        past.cause = CAUSE_RECONCILER.to_owned();
    }
    past
}

/// It is looked after again, with all that survived with it.
fn adopt(kept: &Kept, survivors: &Survivors, past: Record) -> Restored {
    let record = Record {
        state: State::Running,
        pid: survivors.leader.map(|leader| leader.pid),
        start_ticks: survivors.leader.map(|leader| leader.start_ticks),
        tree: survivors.leader,
        adopted: true,
        ready: true,
        leader_gone: false,
        stopped_at: None,
        exit: kept.record.exit,
        ..past
    };
    let detail = format!("survived its service: pid {}", survivors.listed());
    let events = vec![NewEvent { kind: EventKind::Adopted, detail }];
    Restored { past: record.clone(), events, record, outcomes: vec![RestoreOutcome::Adopted] }
}

/// What survived goes on, and is not touched.
fn leave(survivors: &Survivors, past: Record) -> Restored {
    let events = vec![lost(format!("its service ended, and pid {} goes on: left alone", survivors.listed()))];
    let record = Record { left: true, tree: survivors.leader, ..past.clone() };
    Restored { past, events, record, outcomes: vec![RestoreOutcome::Lost, RestoreOutcome::Left] }
}

/// What survived is ended before anything is started.
fn end(kept: &Kept, survivors: &Survivors, mut past: Record, now: Now) -> Restored {
    let is_to_start = is_to_start(kept);
    let next = if kept.wanted && !is_to_start { why_not_started(kept) } else { "" };
    let pids = survivors.listed();
    let events = vec![lost(format!("its service ended, and pid {pids} went on: ended now{next}"))];
    past.wanted = is_to_start;
    let record = to_be_ended(&past, &kept.spec.stop, is_to_start, now);
    let record = Record { tree: survivors.leader, ..record };
    let mut outcomes = vec![RestoreOutcome::Lost, RestoreOutcome::Ended];
    outcomes.extend(is_to_start.then_some(RestoreOutcome::Started));
    Restored { past, events, record, outcomes }
}

/// Nothing survived: it is started again, or stays stopped.
fn go_on_alone(kept: &Kept, mut past: Record, now: Now) -> Restored {
    let (has_run, is_to_start) = (has_run(kept), is_to_start(kept));
    let why_lost = if has_run && is_to_start {
        Some("its service ended, and it with it".to_owned())
    } else if kept.wanted && !is_to_start && (has_run || !kept.spec.schedule.is_on()) {
        // Also what was stopped with the service in good order: a person wanted it, and will miss it. A job
        // comes again.
        Some(format!("its service ended{}", why_not_started(kept)))
    } else if has_run {
        Some("its service ended while it was being stopped".to_owned())
    } else {
        None
    };
    past.wanted = is_to_start;
    let mut outcomes: Vec<_> = why_lost.iter().map(|_| RestoreOutcome::Lost).collect();
    let record = if is_to_start {
        outcomes.push(RestoreOutcome::Started);
        // Due at once, and on record: should we end before it is started, the next engine starts it.
        Record {
            state: State::Backoff,
            deadline: Some(now.mono_ms),
            deadline_at: Some(now.wall),
            cause: CAUSE_AUTOSTART.to_owned(),
            ..past.clone()
        }
    } else {
        past.clone()
    };
    if outcomes.is_empty() {
        outcomes.push(RestoreOutcome::Stopped);
    }
    Restored { past, events: why_lost.into_iter().map(lost).collect(), record, outcomes }
}

fn lost(detail: String) -> NewEvent {
    NewEvent { kind: EventKind::Lost, detail }
}
