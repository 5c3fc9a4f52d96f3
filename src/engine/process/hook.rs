//! One hook that runs, and what follows from its end. Owned by the thread of the process, which waits for it
//! where it waits for everything else (`worker/hooks.rs`).

use std::os::fd::AsFd;

use crate::engine::process::pipes::Pipes;
use crate::engine::process::probe::exec::ExecAttempt;
use crate::engine::process::tree::Tree;
use crate::ring::{Ring, Source, Writer};
use crate::sys::poll::PollFd;
use crate::wire::error::{Code, Error};
use crate::wire::hooks::{AGAIN_AFTER, ATTEMPTS_MAX, Hook, OnFailure, When};
use crate::wire::launch::Launch;
use crate::wire::process::State;
use crate::wire::redact::Redactor;
use crate::wire::time::millis;

/// What its cgroup is called, below that of the process.
const CGROUP: &str = "hook";

/// A hook that was begun and is not over.
#[derive(Debug)]
pub struct RunningHook {
    pub when: When,
    /// Beginning with 1.
    pub attempt: u32,
    /// None: it waits for its next attempt.
    program: Option<Box<ExecAttempt>>,
    pub pipes: Pipes,
    /// When it has taken too long, or is tried again (monotonic ms).
    pub due: u64,
    /// Where in the output of the process its own begins.
    pub from: u64,
}

/// What follows from the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// What the hook stood before.
    GoOn,
    Again {
        after_ms: u64,
    },
    Fail,
}

/// Decides.
#[must_use]
pub fn then(hook: &Hook, when: When, attempt: u32, has_failed: bool) -> Then {
    match hook.on_failure {
        _ if !has_failed => Then::GoOn,
        Some(OnFailure::Retry) if attempt < ATTEMPTS_MAX => Then::Again { after_ms: millis(AGAIN_AFTER) },
        Some(OnFailure::Ignore) => Then::GoOn,
        _ if when.is_of_stop() => Then::GoOn,
        Some(OnFailure::Retry | OnFailure::Fail) | None => Then::Fail,
    }
}

/// Whether a process in this state may have this hook run.
#[must_use]
pub fn has_place(when: When, state: State) -> bool {
    match when {
        When::PreStart => state == State::Starting,
        When::PostStart | When::PreStop => state == State::Running,
        When::PostStop => state == State::Stopping,
    }
}

impl RunningHook {
    /// Starts what was prepared as if it were the process.
    pub fn start(self, launch: &Launch, tree: &Tree) -> Result<Self, String> {
        let (program, stdout, stderr) = ExecAttempt::start_heard(launch, tree, CGROUP)?;
        let mut pipes = Pipes::new(stdout, stderr);
        pipes.writer = Writer::Hook;
        Ok(Self { program: Some(Box::new(program)), pipes, ..self })
    }

    /// One that waits for its next attempt, which is this one.
    pub fn waiting(when: When, attempt: u32, due: u64) -> Self {
        Self { when, attempt, program: None, pipes: Pipes::default(), due, from: 0 }
    }

    pub fn is_waiting(&self) -> bool {
        self.program.is_none()
    }

    /// Its end, and what it says unless that is to wait.
    pub fn poll_fds(&self, is_heard: bool) -> Vec<PollFd<'_>> {
        let mut fds: Vec<_> = self.program.iter().flat_map(|program| program.poll_fds()).collect();
        if is_heard && self.pipes.paused_until.is_none() {
            let pipes = [&self.pipes.stdout, &self.pipes.stderr].into_iter().flatten();
            fds.extend(pipes.map(|pipe| PollFd::readable(pipe.as_fd())));
        }
        fds
    }

    /// When something is to be done, whatever happens (monotonic ms).
    pub fn wakes(&self) -> u64 {
        self.due.min(self.pipes.paused_until.unwrap_or(u64::MAX))
    }

    /// How it ended, if it has.
    pub fn look(&mut self) -> Option<Result<(), String>> {
        self.program.as_mut()?.go_on()
    }

    /// Takes one chunk of what it says; none: nothing is there now.
    pub fn take(&mut self, source: Source, ring: &Ring<'_>, redactor: Option<&Redactor>) -> Option<u64> {
        self.pipes.take(source, ring, redactor)
    }
}

/// A start that its hook has not let happen.
pub fn no_start(why: &str) -> Error {
    Error::new(Code::Failed, format!("cannot start: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_as_the_definition_says() {
        let hook = |on_failure| Hook { command: vec!["a".into()], timeout: None, on_failure };
        let of = |on_failure, when, attempt| then(&hook(on_failure), when, attempt, true);
        assert_eq!(then(&hook(None), When::PreStart, 1, false), Then::GoOn);
        assert_eq!(of(None, When::PreStart, 1), Then::Fail);
        assert_eq!(of(Some(OnFailure::Fail), When::PostStart, 1), Then::Fail);
        assert_eq!(of(Some(OnFailure::Ignore), When::PreStart, 1), Then::GoOn);
        let retry = Some(OnFailure::Retry);
        assert_eq!(of(retry, When::PreStart, 1), Then::Again { after_ms: 1000 });
        assert_eq!(of(retry, When::PreStart, 3), Then::Fail);
        assert_eq!(of(retry, When::PreStop, 2), Then::Again { after_ms: 1000 });
        for when in [When::PreStop, When::PostStop] {
            assert_eq!([of(None, when, 1), of(retry, when, 3)], [Then::GoOn, Then::GoOn], "a stop goes on");
        }
    }

    #[test]
    fn a_hook_has_its_place_in_one_state() {
        let places = When::ALL.map(|when| {
            let all = [State::Starting, State::Running, State::Stopping, State::Backoff, State::Stopped];
            all.map(|state| has_place(when, state))
        });
        let [no, yes] = [false, true];
        assert_eq!(places[0], [yes, no, no, no, no]);
        assert_eq!(places[1], [no, yes, no, no, no]);
        assert_eq!(places[2], [no, yes, no, no, no]);
        assert_eq!(places[3], [no, no, yes, no, no]);
    }
}
