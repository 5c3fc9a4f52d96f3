//! What can happen to a process, and the rules that it lives by. What follows is decided in `state.rs`.

use std::time::Duration;

use crate::sys::signal;
use crate::wire::hooks::When;
use crate::wire::leader::Leader;
use crate::wire::probes::Readiness;
use crate::wire::process::{Exit, StartFailure};
use crate::wire::spec::{RestartRules, Scope, Spec, StopRules};

/// The rules a process lives by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub restart: RestartRules,
    pub stop: StopRules,
    /// Whether something must show that it is ready.
    pub proves_ready: bool,
    /// ... and within which time.
    pub ready_limit: Option<Duration>,
    /// ... which is its end, with success.
    pub is_job: bool,
    /// Whether it puts itself into the background.
    pub forks: bool,
    /// Whether the service ends when it has ended for good.
    pub is_essential: bool,
}

impl From<&Spec> for Rules {
    fn from(spec: &Spec) -> Self {
        let forks = spec.background.forking;
        Self {
            forks,
            restart: spec.restart.clone(),
            stop: spec.stop.clone(),
            proves_ready: spec.ready.is_some() || forks || spec.hooks.get(When::PostStart).is_some(),
            ready_limit: spec.ready_rules.timeout.filter(|_| spec.ready.is_some() || forks),
            is_job: spec.ready == Some(Readiness::Exit),
            is_essential: spec.essential,
        }
    }
}

/// How to stop, where it differs from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StopOrder {
    pub signal: Option<u32>,
    pub timeout: Option<Duration>,
    pub scope: Option<Scope>,
    pub no_kill: bool,
    /// What has a schedule keeps it: only its run ends.
    pub keep_schedule: bool,
    /// Its schedule has run it so far, and does not any more.
    pub suspends: bool,
    /// The service ends; a later one is to start it again.
    pub for_now: bool,
}

impl StopOrder {
    #[must_use]
    pub fn at_once() -> Self {
        Self { signal: Some(signal::KILL), timeout: Some(Duration::ZERO), ..Self::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client wants it to run.
    Start,
    /// A client, or the end of the service, wants it to be gone.
    Stop(StopOrder),
    /// A client wants it gone, then running.
    Restart,
    /// The keeper made a child.
    Spawned {
        pid: u32,
    },
    /// There is no child, or it ended before its exec. An exit follows if there was one.
    SpawnFailed {
        failure: StartFailure,
        child: Child,
    },
    Executed,
    Ready,
    /// It is ready no more, and why.
    Unready(String),
    /// It needs so much longer until it is ready, or until it has ended.
    Extend(Duration),
    /// The time within which it has to be ready is another one.
    NewLimit,
    /// A probe says that the run has failed, and why.
    Unfit(String),
    /// Another process of its tree is its main one from here on; how that is known.
    Forked(Leader, String),
    /// The process itself ended.
    Exited(Exit),
    /// The process itself ended, and how was not seen.
    Lost,
    /// Nothing of it is left.
    TreeEmpty,
    /// The deadline has come.
    Deadline,
    /// Its schedule is kept from now on, or is no longer.
    Schedule,
}

/// Whether a failed spawn left a child whose exit is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    None,
    Exits,
}
