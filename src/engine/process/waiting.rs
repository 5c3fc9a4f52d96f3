//! Those who wait for a process: what for, whether it has come, and why it never will.

use crate::engine::process::failure;
use crate::engine::process::handle::{AnswerTo, Process};
use crate::engine::process::state::stop_was_in_vain;
use crate::engine::process::tree::Tree;
use crate::wire::error::{Code, Error};
use crate::wire::process::State;
use crate::wire::record::Record;

#[derive(Debug)]
pub struct Waiting {
    pub until: Until,
    pub answer: AnswerTo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// This run, or a later one, executes.
    Running { run: u64 },
    /// Nothing is left of this run.
    Gone { run: u64 },
}

/// What is to be said to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitDecision {
    NotYet,
    Done,
    NotRunning,
    NotGone,
}

impl Until {
    pub fn decision(self, record: &Record) -> WaitDecision {
        let state = record.state;
        match self {
            Self::Running { run } if record.run >= run => match state {
                State::Running => WaitDecision::Done,
                // That is for the others to say: it is told so.
                State::Starting if !record.waits_for.is_empty() => WaitDecision::Done,
                State::Stopped | State::Scheduled | State::Failed | State::Backoff => {
                    WaitDecision::NotRunning
                }
                State::Stopping if record.stuck => WaitDecision::NotGone,
                State::Starting | State::Stopping => WaitDecision::NotYet,
            },
            // A restart whose stop has not ended, or that a later stop has overruled.
            Self::Running { .. } if state.is_at_rest() => WaitDecision::NotRunning,
            Self::Running { .. } if state == State::Stopping && record.stuck => WaitDecision::NotGone,
            Self::Running { .. } => WaitDecision::NotYet,
            // Somebody may have started it again already: the stop was done all the same.
            Self::Gone { run } if state.is_at_rest() || record.run > run => WaitDecision::Done,
            Self::Gone { .. } if stop_was_in_vain(record) => WaitDecision::NotGone,
            Self::Gone { .. } => WaitDecision::NotYet,
        }
    }
}

/// Why a start did not come to a running program. `refusal`: what stood in its way before there was a child.
pub fn why_not_running(process: &Process, record: &Record, refusal: Option<&Error>) -> Error {
    match (refusal, &record.start_failure) {
        (Some(refusal), _) => refusal.clone(),
        (None, Some(f)) => failure::explain(f, &process.spec()),
        (None, None) => Error::new(Code::Failed, format!("{} was stopped meanwhile", process.label())),
    }
}

/// Why a stop did not come to its end.
pub fn why_not_gone(process: &Process, record: &Record, tree: &Tree) -> Error {
    let label = process.label();
    if record.state == State::Running {
        return Error::new(Code::No, format!("{label} did not stop in its time and is left running"))
            .hint("stop it without --no-kill to end it with SIGKILL");
    }
    let listed = |pids: Vec<u32>| pids.iter().take(8).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let refused = tree.refused(record.stop.scope);
    if !refused.is_empty() {
        let pids = listed(refused);
        let what =
            format!("{label} is not gone: the service may not signal pid {pids}, of another user (EPERM)");
        return Error::new(Code::No, what).hint("end it as its user or as root, or run the service as root");
    }
    let left = listed(tree.pids(record.stop.scope));
    Error::new(Code::No, format!("{label} is stuck: SIGKILL was sent, and pid {left} does not end")).hint(
        "it sleeps in the kernel (state D in ps) or is frozen; it will be gone when the kernel lets it go",
    )
}
