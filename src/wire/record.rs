//! What the engine leaves in the memory that the keeper holds: the record of a life and the global
//! environment. The encoding only; where it lies and in which order it is written is the engine's
//! `engine/memory.rs`.

use prost::Message;

use crate::wire::error::Error;
use crate::wire::event::Event;
use crate::wire::hooks::When;
use crate::wire::id::{Name, OrderKey, ProcessId};
use crate::wire::leader::Leader;
use crate::wire::process::{Exit, StartFailure, State};
use crate::wire::proto::v1 as internal;
use crate::wire::spec::{Scope, pairs_from_wire, pairs_to_wire};
use crate::wire::time::Timestamp;

/// The longest cause and detail that are recorded, in bytes: three events and the rest fit a record's slot.
const TEXT_LEN_MAX: usize = 120;

/// The largest encoded record, in bytes: two of them and a header fill a page.
pub const RECORD_LEN_MAX: usize = 1900;

/// The life of one process as of its last transition. Plain data; the meaning is in
/// `engine/process/state.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: ProcessId,
    pub name: Option<Name>,
    pub instance: Option<u32>,
    pub state: State,
    pub run: u64,
    pub pid: Option<u32>,
    pub ready: bool,
    pub restarts: u64,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    /// Monotonic clock, ms.
    pub started_mono: u64,
    /// When its needs last changed while it ran: it follows others as they were then. Monotonic clock, ms.
    pub bound_mono: u64,
    pub exit: Option<Exit>,
    pub start_failure: Option<StartFailure>,
    pub attempts: u32,
    /// Monotonic clock, ms.
    pub window_start: u64,
    pub window_restarts: u32,
    /// Monotonic clock, ms: of the stop or the restart in progress.
    pub deadline: Option<u64>,
    /// The same by the wall clock, for people.
    pub deadline_at: Option<Timestamp>,
    pub stop: StopInProgress,
    pub leader_gone: bool,
    pub stuck: bool,
    /// A person wants it to run; the end of the service does not change that.
    pub wanted: bool,
    /// When the process of this pid started, in clock ticks since boot: with the pid, its identity.
    pub start_ticks: Option<u64>,
    /// Whose tree the last run is or was, until nothing is left of it: its group and session are known by
    /// this, also after its end, to another engine and to another service.
    pub tree: Option<Leader>,
    /// The pipes of its output, by their inodes, where the run is to outlive its service.
    pub pipes: Option<[u64; 2]>,
    /// It is not the keeper's child but a survivor of another one.
    pub adopted: bool,
    /// Survivors of an earlier service were left alone, by policy: nothing is started beside them.
    pub left: bool,
    /// The service runs it for itself.
    pub internal: bool,
    /// Its run is of an older spec than the present one.
    pub outdated: bool,
    /// The present run was ready before.
    pub was_ready: bool,
    /// Why the latest run was ended by a probe; empty: it was not.
    pub unfit: String,
    /// It is to put itself into the background, and has not yet.
    pub awaits_main: bool,
    /// When the first process of the run started, in clock ticks since boot, where another is the main one by
    /// now.
    pub first_ticks: Option<u64>,
    /// What it last said of itself; empty: nothing.
    pub status: String,
    /// For whom its start waits; empty: for nobody.
    pub waits_for: String,
    /// Those do not come by themselves.
    pub is_blocked: bool,
    pub cause: String,
    pub events: Vec<Event>,
    /// Where the output of the present run begins.
    pub output_from: u64,
    /// A reader held its output when it began.
    pub held: bool,
    /// The last restarts and signals that had a key.
    pub orders: Orders,
    /// When it runs by itself next; none: its schedule is suspended, or it has none.
    pub next_run_at: Option<Timestamp>,
    /// The last time of its schedule that has come.
    pub last_due_at: Option<Timestamp>,
    /// It was essential and has ended for good: the service ends with this exit code.
    pub ends_service: Option<u8>,
    /// The hook that runs.
    pub hook: Option<When>,
    /// Why the machine does not see to the limits of the run; empty: it does.
    pub limits_trouble: String,
    /// How many of the kills for memory that its cgroup counts are known.
    pub oom_kills: u64,
    /// Restarts above its threshold of memory, in a row.
    pub memory_restarts: u32,
}

/// The keys of the last orders, the newest at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders(Vec<OrderKey>);

impl Orders {
    /// How many are kept: whoever asks again does it at once.
    const MAX: usize = 4;

    /// Whether this one came before.
    pub fn has(&self, key: Option<OrderKey>) -> bool {
        key.is_some_and(|key| self.0.contains(&key))
    }

    pub fn add(&mut self, key: OrderKey) {
        if self.0.len() == Self::MAX {
            self.0.remove(0);
        }
        self.0.push(key);
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let keys = bytes.chunks_exact(16).filter_map(|key| Some(OrderKey::from_bytes(key.try_into().ok()?)));
        Self(keys.take(Self::MAX).collect())
    }
}

// Which fields of a record mean something in which state. All others always do, or are of the last run.
//
// | field | state |
// |---|---|
// | `pid`, `start_ticks`, `adopted` | starting once it is spawned, running, stopping; until its end |
// | `ready`, `was_ready` | running, and stopping until the end of the process itself |
// | `stopped_at` | stopping from the end of the process itself, stopped, failed, backoff |
// | `stop`, `leader_gone`, `stuck` | stopping |
// | `deadline`, `deadline_at` | running: until when it has to be ready; stopping: of the grace period, then of |
// | | SIGKILL; backoff: the next attempt |
// | `status` | running, stopping |
// | `awaits_main` | running; a start sets it where the definition says so |
// | `first_ticks` | running, stopping; a start clears it |
// | `waits_for`, `is_blocked` | starting, before it is spawned |
// | `unfit` | of the present run, or of the last one; a start clears it |
// | `left` | stopped, failed, backoff, and starting until it is spawned |
// | `pipes` | starting once it is spawned, running, stopping; a start clears it |
// | `tree` | starting once it is spawned, running, stopping; and as long as `left` holds |
// | `outdated` | starting once it is spawned, running, stopping; a start clears it |
// | `limits_trouble` | of the present run, or of the last one |
// | `start_failure` | of the present run, or of the last one; a start clears it |
// | `exit` | of the last run that ended: it stays during the next one |

/// How far a stop has come. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StopPhase {
    /// The stop signal was sent; the grace period runs.
    #[default]
    Asked = 0,
    Killed = 1,
    /// SIGKILL has not ended it in time, or it is not to be killed.
    Stuck = 2,
}

impl StopPhase {
    /// A number that only a newer program knows is taken for the last phase, which sends nothing by itself.
    fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Asked,
            1 => Self::Killed,
            _ => Self::Stuck,
        }
    }
}

/// What follows when nothing of the run is left. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AfterStop {
    /// What the restart policy says.
    #[default]
    Decide = 0,
    /// Nothing: the process is at rest.
    Rest = 1,
    Run = 2,
}

impl AfterStop {
    /// A number that only a newer program knows leaves it to the policy.
    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Rest,
            2 => Self::Run,
            _ => Self::Decide,
        }
    }
}

/// The stop in progress; meaningless in other states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StopInProgress {
    pub phase: StopPhase,
    pub then: AfterStop,
    /// The last that was sent.
    pub signal: u32,
    /// Its place among those of the rules; the first is 0, and [`StopInProgress::ONLY`] has no others.
    pub step: u32,
    /// From that signal on.
    pub timeout_ms: u64,
    pub scope: Scope,
    pub no_kill: bool,
}

impl StopInProgress {
    /// The place of a signal that no other follows, whatever the rules say: a client has asked for it.
    pub const ONLY: u32 = u32::MAX;
}

impl Record {
    /// How far a stop is that may be in progress.
    #[must_use]
    pub fn stop_phase(&self) -> StopPhase {
        if self.state == State::Stopping { self.stop.phase } else { StopPhase::Asked }
    }

    /// Whose tree its last run is, if anything may be left of it.
    #[must_use]
    pub fn leader(&self) -> Option<Leader> {
        // A program before this one recorded no more than what runs.
        let running = self.pid.zip(self.start_ticks);
        self.tree.or(running.map(|(pid, start_ticks)| Leader { pid, start_ticks }))
    }

    /// Its main process is this one from here on.
    pub fn follow(&mut self, main: Leader) {
        self.awaits_main = false;
        // Unknown where it had ended before anybody could look.
        self.first_ticks = self.first_ticks.or(self.start_ticks).or(Some(1));
        self.pid = Some(main.pid);
        self.start_ticks = (main.start_ticks != 0).then_some(main.start_ticks);
        self.tree = Some(main).filter(|main| main.start_ticks != 0).or(self.tree);
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        internal::Record {
            id: self.id.as_bytes().to_vec(),
            name: self.name.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
            instance: self.instance.unwrap_or(0),
            state: self.state.to_wire() as i32,
            run: self.run,
            pid: self.pid.unwrap_or(0),
            ready: self.ready,
            restarts: self.restarts,
            created_at: self.created_at.0,
            started_at: Timestamp::to_wire(self.started_at),
            stopped_at: Timestamp::to_wire(self.stopped_at),
            started_mono: self.started_mono,
            bound_mono: self.bound_mono,
            exit: self.exit.map(Exit::to_wire),
            start_failure: self.start_failure.as_ref().map(StartFailure::to_wire),
            attempts: self.attempts,
            window_start: self.window_start,
            window_restarts: self.window_restarts,
            deadline: self.deadline.unwrap_or(0),
            deadline_at: Timestamp::to_wire(self.deadline_at),
            stop_phase: self.stop.phase as u32,
            after_stop: self.stop.then as u32,
            stop_signal: self.stop.signal,
            stop_timeout_ms: self.stop.timeout_ms,
            stop_scope: self.stop.scope.to_number(),
            stop_no_kill: self.stop.no_kill,
            stop_step: self.stop.step,
            leader_gone: self.leader_gone,
            stuck: self.stuck,
            wanted: self.wanted,
            start_ticks: self.start_ticks.unwrap_or(0),
            adopted: self.adopted,
            left: self.left,
            tree_pid: self.tree.map_or(0, |leader| leader.pid),
            tree_ticks: self.tree.map_or(0, |leader| leader.start_ticks),
            stdout_pipe: self.pipes.map_or(0, |[stdout, _]| stdout),
            stderr_pipe: self.pipes.map_or(0, |[_, stderr]| stderr),
            own: self.internal,
            outdated: self.outdated,
            was_ready: self.was_ready,
            unfit: self.unfit.clone(),
            awaits_main: self.awaits_main,
            first_ticks: self.first_ticks.unwrap_or(0),
            status: self.status.clone(),
            waits_for: self.waits_for.clone(),
            blocked: self.is_blocked,
            cause: self.cause.clone(),
            events: self.events.iter().map(Event::to_wire).collect(),
            output_from: self.output_from,
            held: self.held,
            orders: self.orders.0.iter().flat_map(|key| *key.as_bytes()).collect(),
            next_run_at: Timestamp::to_wire(self.next_run_at),
            last_due_at: Timestamp::to_wire(self.last_due_at),
            ends_service: self.ends_service.map(u32::from),
            hook: self.hook.map(|when| when as u32),
            limits_trouble: self.limits_trouble.clone(),
            oom_kills: self.oom_kills,
            memory_restarts: self.memory_restarts,
        }
        .encode_to_vec()
    }

    /// Decodes what [`Record::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let w = internal::Record::decode(bytes)
            .map_err(|e| Error::usage(format!("cannot decode a record: {e}")))?;
        Ok(Self {
            id: ProcessId::from_wire(&w.id)?,
            name: if w.name.is_empty() { None } else { Some(w.name.parse()?) },
            instance: (w.instance != 0).then_some(w.instance),
            state: State::from_wire(w.state),
            run: w.run,
            pid: (w.pid != 0).then_some(w.pid),
            ready: w.ready,
            restarts: w.restarts,
            created_at: Timestamp(w.created_at),
            started_at: Timestamp::from_wire(w.started_at),
            stopped_at: Timestamp::from_wire(w.stopped_at),
            started_mono: w.started_mono,
            bound_mono: w.bound_mono,
            exit: w.exit.as_ref().and_then(Exit::from_wire),
            start_failure: w.start_failure.map(StartFailure::from_wire),
            attempts: w.attempts,
            window_start: w.window_start,
            window_restarts: w.window_restarts,
            deadline: (w.deadline != 0).then_some(w.deadline),
            deadline_at: Timestamp::from_wire(w.deadline_at),
            stop: StopInProgress {
                phase: StopPhase::from_number(w.stop_phase),
                then: AfterStop::from_number(w.after_stop),
                signal: w.stop_signal,
                step: w.stop_step,
                timeout_ms: w.stop_timeout_ms,
                scope: Scope::from_number(w.stop_scope),
                no_kill: w.stop_no_kill,
            },
            leader_gone: w.leader_gone,
            stuck: w.stuck,
            wanted: w.wanted,
            start_ticks: (w.start_ticks != 0).then_some(w.start_ticks),
            adopted: w.adopted,
            left: w.left,
            pipes: (w.stdout_pipe != 0).then_some([w.stdout_pipe, w.stderr_pipe]),
            tree: (w.tree_pid != 0).then_some(Leader { pid: w.tree_pid, start_ticks: w.tree_ticks }),
            internal: w.own,
            outdated: w.outdated,
            was_ready: w.was_ready,
            unfit: w.unfit,
            awaits_main: w.awaits_main,
            first_ticks: (w.first_ticks != 0).then_some(w.first_ticks),
            status: w.status,
            waits_for: w.waits_for,
            is_blocked: w.blocked,
            cause: w.cause,
            events: w.events.into_iter().map(Event::from_wire).collect::<Result<_, _>>()?,
            output_from: w.output_from,
            held: w.held,
            orders: Orders::from_bytes(&w.orders),
            next_run_at: Timestamp::from_wire(w.next_run_at),
            last_due_at: Timestamp::from_wire(w.last_due_at),
            ends_service: w.ends_service.and_then(|code| u8::try_from(code).ok()),
            limits_trouble: w.limits_trouble,
            oom_kills: w.oom_kills,
            memory_restarts: w.memory_restarts,
            hook: w.hook.and_then(|n| When::ALL.into_iter().find(|when| *when as u32 == n)),
        })
    }
}

/// Encodes the global environment.
#[must_use]
pub fn encode_env(env: &[(String, String)]) -> Vec<u8> {
    internal::GlobalEnv { env: pairs_to_wire(env) }.encode_to_vec()
}

/// Decodes what [`encode_env`] made.
pub fn decode_env(bytes: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let w = internal::GlobalEnv::decode(bytes)
        .map_err(|e| Error::usage(format!("cannot decode the environment: {e}")))?;
    Ok(pairs_from_wire(w.env))
}

/// Cut to what a record takes, at a character.
pub fn cut(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_LEN_MAX)).rev().find(|&n| text.is_char_boundary(n)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::EventKind;
    use crate::wire::process::End;

    #[test]
    fn an_order_is_known_when_it_comes_again() {
        let mut orders = Orders::default();
        let keys = [(); 5].map(|()| OrderKey::new());
        for key in &keys[..4] {
            assert!(!orders.has(Some(*key)));
            orders.add(*key);
        }
        let orders_then = orders.clone();
        assert!(keys[..4].iter().all(|key| orders.has(Some(*key))) && !orders.has(None));
        orders.add(keys[4]);
        assert!(orders.has(Some(keys[4])) && !orders.has(Some(keys[0])), "so far back nobody asks again");
        let bytes: Vec<u8> = orders_then.0.iter().flat_map(|key| *key.as_bytes()).collect();
        assert_eq!(Orders::from_bytes(&bytes), orders_then);
    }

    #[test]
    fn stored_numbers_of_a_stop_keep_their_meaning() {
        let phases = [StopPhase::Asked, StopPhase::Killed, StopPhase::Stuck];
        assert_eq!([0, 1, 2].map(StopPhase::from_number), phases);
        assert_eq!(phases.map(|phase| phase as u32), [0, 1, 2]);
        assert_eq!(StopPhase::from_number(7), StopPhase::Stuck);
        let after = [AfterStop::Decide, AfterStop::Rest, AfterStop::Run];
        assert_eq!([0, 1, 2].map(AfterStop::from_number), after);
        assert_eq!(after.map(|then| then as u32), [0, 1, 2]);
        assert_eq!(AfterStop::from_number(7), AfterStop::Decide);
    }

    /// Made by another protobuf library from the messages as they were when these were first stored: numbers
    /// and meanings of fields must never change.
    #[test]
    fn what_was_stored_before_is_read_as_it_was_meant() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
        };
        let stored = bytes(
            "0a10000102030405060708090a0b0c0d0e0f10041807300338e80740d00f48b81750a01f5a0c100920012805\
         3006380740086802700b780180010cba01057569642030ca0103776562e20129080510061a10000102030405\
         060708090a0b0c0d0e0f22037765622807300e3a01634a016450035804e80163f0014df80101",
        );
        let record = Record::decode(&stored).unwrap();
        assert_eq!((record.state, record.run, record.pid, record.restarts), (State::Backoff, 7, None, 3));
        assert_eq!((record.deadline, record.deadline_at), (Some(12), Some(Timestamp(77))));
        assert_eq!((record.attempts, record.window_start, record.window_restarts), (2, 11, 1));
        assert_eq!((record.wanted, record.internal, record.output_from), (true, false, 99));
        let exit = record.exit.unwrap();
        assert_eq!((exit.end, exit.oom, exit.max_rss_kib), (End::Signal(9), true, 8));
        // Also an event of a kind that has another meaning since.
        assert_eq!((record.events[0].kind, record.events[0].seq), (EventKind::Adopted, 5));
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }
}
