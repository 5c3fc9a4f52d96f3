//! The life of a process: one record, one function that changes it. `step` takes what happened and the time,
//! changes the record, and returns what is to be done and told; the process's thread does it. Nothing here
//! waits, reads a clock or touches the system.
//!
//! ```text
//!            start                executed               exited, or stop
//! stopped ----------> starting -----------> running ------------------------> stopping
//!    ^                    | exec failed        ^                                  | tree empty
//!    |                    v                    | (--no-kill: grace is over)       v
//!    +--- no restart -- (end of the run: stopping until its tree is empty) -- what next?
//!    failed <-- too many within the window --+-- restart due later --> backoff --> starting
//! ```
//!
//! `wanted` says whether a client wants it to run. Start and restart set it. A stop clears it, except the one
//! at the end of the service; so does a run that ends for good without a failure.
//!
//! | state | wanted | not wanted |
//! |---|---|---|
//! | stopped | failed without a restart, or stopped with the service: a later service may start it | never started, stopped by a client, or done |
//! | starting, running | as asked | after a stop with `--no-kill` that was in vain: it ran on, or its policy restarted it |
//! | stopping | ended by itself, to be restarted, or the service ends | a client stopped it, or it ended by itself in the case above |
//! | backoff | the next attempt is due | the next attempt is due, in the case above |
//! | failed | restarted too often: a later service may start it | stopped by a client since, or it gave up in the case above |
//! | scheduled | never | it has a schedule, and no run |
//!
//! A schedule is not known here: while one is kept, the record has `next_run_at`, and what would be stopped
//! is `scheduled`. The thread starts it when that has come.

mod end;

use std::time::Duration;

use crate::engine::process::input::{Child, Input, Rules, StopOrder};
use crate::engine::process::now::Now;
use crate::engine::process::restart;
use crate::sys::signal;
use crate::wire::event::{EventKind, NewEvent, READY_AGAIN, STOPPED_SCHEDULE, STOPPED_WAITING};
use crate::wire::process::{Exit, StartFailure, State};
use crate::wire::record::{AfterStop, Record, StopInProgress, StopPhase, cut};
use crate::wire::spec::Scope;
use crate::wire::time::{Timestamp, millis};

/// How long after SIGKILL before what is left is called stuck, ms.
const KILL_MS: u64 = 2000;

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the keeper for the run that the record names.
    Spawn,
    /// Send the signal to the scope, and SIGCONT so that it can act on it.
    Signal { signal: u32, scope: Scope, whom: Whom },
    /// SIGKILL to the scope.
    Kill { scope: Scope },
    /// See whether anything of the scope is left; if not, `TreeEmpty` follows.
    Look { scope: Scope },
    /// The service is to end, with this exit code.
    EndService { code: u8 },
}

/// Who of a scope gets the signal of a stop: everybody, or those that did not get it in this stop yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    All,
    Untold,
}

/// What a step leads to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Transition {
    pub actions: Vec<Action>,
    pub events: Vec<NewEvent>,
}

/// The one function that changes a state.
pub fn step(record: &mut Record, rules: &Rules, input: Input, cause: &str, now: Now) -> Transition {
    let mut s = Step { record, rules, cause, now, transition: Transition::default() };
    s.apply(input);
    s.transition
}

struct Step<'a> {
    record: &'a mut Record,
    rules: &'a Rules,
    cause: &'a str,
    now: Now,
    transition: Transition,
}

impl Step<'_> {
    /// A state that does nothing with an input has it too late or twice: a new engine repeats what the last
    /// one may have received.
    fn apply(&mut self, input: Input) {
        match input {
            Input::Start => self.asked_to_start(),
            Input::Restart => self.asked_to_restart(),
            Input::Stop(order) => self.asked_to_stop(order),
            Input::Spawned { pid } => self.reported_spawned(pid),
            Input::SpawnFailed { failure, child } => match self.record.state {
                State::Starting | State::Running | State::Stopping => self.spawn_failed(failure, child),
                State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
            },
            Input::Executed => self.reported_executed(),
            Input::Ready => self.reported_ready(),
            Input::Unready(why) => self.reported_unready(&why),
            Input::Extend(time) => self.extended(time),
            Input::NewLimit => self.limited(),
            Input::Unfit(why) => self.reported_unfit(&why),
            Input::Forked(main, how) if self.record.state == State::Running => {
                self.record.follow(main);
                self.add_event(EventKind::Forked, &how);
            }
            Input::Forked(..) => {}
            Input::Exited(exit) => self.reported_end(Some(exit)),
            Input::Lost => self.reported_end(None),
            Input::TreeEmpty => match self.record.state {
                State::Stopping if self.record.pid.is_none() => self.end_of_run(),
                State::Starting | State::Running | State::Stopping => {}
                State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
            },
            Input::Schedule => match self.record.state {
                State::Stopped | State::Scheduled => self.enter_quietly(self.at_rest()),
                State::Failed | State::Backoff => {}
                State::Starting | State::Running | State::Stopping => {}
            },
            Input::Deadline => match self.record.state {
                State::Stopping => self.grace_over(),
                State::Backoff => self.start(),
                State::Starting | State::Running | State::Stopped | State::Scheduled | State::Failed => {}
            },
        }
    }

    // ---- what clients ask for

    fn asked_to_start(&mut self) {
        self.record.wanted = true;
        match self.record.state {
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => self.start_over(),
            State::Starting | State::Running => {}
            State::Stopping => self.set_then(AfterStop::Run),
        }
    }

    fn asked_to_restart(&mut self) {
        self.record.wanted = true;
        match self.record.state {
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => self.start_over(),
            State::Starting | State::Running => self.begin_stop(StopOrder::default(), AfterStop::Run),
            State::Stopping => self.set_then(AfterStop::Run),
        }
    }

    fn asked_to_stop(&mut self, order: StopOrder) {
        self.record.wanted &= order.for_now;
        match self.record.state {
            // Of an earlier service, and left alone until a client stops it.
            State::Stopped | State::Scheduled | State::Failed if self.record.left => {
                self.record.left = false;
                self.record.leader_gone = true;
                self.begin_stop(StopOrder { scope: Some(Scope::Tree), ..order }, AfterStop::Rest);
                self.look(Whom::All);
            }
            State::Stopped | State::Failed => {}
            State::Scheduled if self.record.next_run_at.is_some() => {}
            State::Scheduled => {
                self.enter(State::Stopped);
                self.add_event(EventKind::Stopped, STOPPED_SCHEDULE);
            }
            State::Backoff => {
                self.enter(self.at_rest());
                self.add_event(EventKind::Stopped, STOPPED_WAITING);
            }
            State::Starting | State::Running => self.begin_stop(order, AfterStop::Rest),
            State::Stopping => self.hasten_stop(order),
        }
    }

    // ---- what is reported of the run

    fn reported_spawned(&mut self, pid: u32) {
        match self.record.state {
            // A new engine learns what the last one had on record.
            State::Starting | State::Stopping if self.record.pid == Some(pid) => {}
            State::Starting => self.spawned(pid),
            State::Stopping => self.spawned_too_late(pid),
            State::Running | State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
        }
    }

    fn reported_executed(&mut self) {
        match self.record.state {
            State::Starting => {
                self.enter(State::Running);
                self.record.ready = !self.rules.proves_ready;
                self.record.was_ready = self.record.ready;
                if let Some(limit) = self.rules.ready_limit {
                    self.set_deadline(millis(limit));
                }
                self.add_event(EventKind::Started, "");
            }
            State::Running | State::Stopping => {}
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
        }
    }

    fn reported_ready(&mut self) {
        match self.record.state {
            State::Running if !self.record.ready => {
                let again = if self.record.was_ready { READY_AGAIN } else { "" };
                (self.record.ready, self.record.was_ready) = (true, true);
                self.clear_deadline();
                self.add_event(EventKind::Ready, again);
            }
            State::Running | State::Starting | State::Stopping => {}
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
        }
    }

    fn reported_unready(&mut self, why: &str) {
        match self.record.state {
            State::Running if self.record.ready => {
                self.record.ready = false;
                self.add_event(EventKind::Unready, why);
            }
            State::Running | State::Starting | State::Stopping => {}
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
        }
    }

    /// It never shortens what it has.
    fn extended(&mut self, time: Duration) {
        let is_asked = self.record.stop.phase == StopPhase::Asked;
        let counts = match self.record.state {
            State::Running => true,
            State::Stopping => is_asked && !self.record.leader_gone,
            State::Starting | State::Stopped | State::Scheduled | State::Failed | State::Backoff => false,
        };
        let until = self.now.mono_ms.saturating_add(millis(time));
        if counts && self.record.deadline.is_some_and(|deadline| deadline < until) {
            self.set_deadline(millis(time));
        }
    }

    /// The new time counts from the same start.
    fn limited(&mut self) {
        if self.record.state != State::Running || self.record.ready || self.record.was_ready {
            return;
        }
        match self.rules.ready_limit {
            None => self.clear_deadline(),
            Some(limit) => {
                let until = self.record.started_mono.saturating_add(millis(limit));
                self.set_deadline(until.saturating_sub(self.now.mono_ms));
            }
        }
    }

    /// The run has failed: it is ended, and the rules decide what is next.
    fn reported_unfit(&mut self, why: &str) {
        match self.record.state {
            State::Running => {
                self.record.unfit = cut(why);
                self.add_event(EventKind::Unfit, why);
                self.begin_stop(StopOrder::default(), AfterStop::Decide);
            }
            State::Starting | State::Stopping => {}
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
        }
    }

    /// `None`: how it ended was not seen.
    fn reported_end(&mut self, exit: Option<Exit>) {
        match self.record.state {
            State::Starting | State::Running => {
                self.ended(exit);
                // What it left behind goes the way of a stop. No client asked for one, so the rules decide
                // what is next.
                self.record.stop = self.stop_for(StopOrder::default(), AfterStop::Decide);
                self.enter_quietly(State::Stopping);
                self.set_deadline(self.record.stop.timeout_ms);
                self.look(Whom::All);
            }
            // On record already, but the keeper did not know that.
            State::Stopping if self.record.leader_gone => {}
            State::Stopping => {
                self.ended(exit);
                self.look(Whom::Untold);
            }
            State::Stopped | State::Scheduled | State::Failed | State::Backoff => {}
        }
    }

    // ---- what they lead to

    fn start_over(&mut self) {
        restart::forget_attempts(self.record);
        self.start();
    }

    fn enter(&mut self, state: State) {
        self.enter_quietly(state);
        self.record.cause = cut(self.cause);
    }

    /// Into a state that the process itself caused: the cause of its run stays on record.
    fn enter_quietly(&mut self, state: State) {
        self.record.state = state;
        self.clear_deadline();
    }

    fn set_deadline(&mut self, after_ms: u64) {
        self.record.deadline = Some(self.now.mono_ms.saturating_add(after_ms));
        self.record.deadline_at = Some(Timestamp(self.now.wall.0.saturating_add(after_ms)));
    }

    fn clear_deadline(&mut self) {
        self.record.deadline = None;
        self.record.deadline_at = None;
    }

    fn add_event(&mut self, kind: EventKind, detail: &str) {
        self.transition.events.push(NewEvent { kind, detail: cut(detail) });
    }

    fn act(&mut self, action: Action) {
        self.transition.actions.push(action);
    }

    fn start(&mut self) {
        self.enter(State::Starting);
        let record = &mut *self.record;
        record.run += 1;
        record.pid = None;
        record.start_ticks = None;
        record.adopted = false;
        record.pipes = None;
        (record.ready, record.was_ready) = (false, false);
        record.start_failure = None;
        record.unfit.clear();
        record.status.clear();
        record.waits_for.clear();
        record.is_blocked = false;
        record.ends_service = None;
        (record.awaits_main, record.first_ticks) = (self.rules.forks, None);
        record.leader_gone = false;
        record.stuck = false;
        record.outdated = false;
        record.stopped_at = None;
        record.started_at = Some(self.now.wall);
        record.started_mono = self.now.mono_ms;
        self.act(Action::Spawn);
    }

    fn spawned(&mut self, pid: u32) {
        self.record.left = false;
        self.record.pid = Some(pid);
        self.record.started_at = Some(self.now.wall);
        self.record.started_mono = self.now.mono_ms;
    }

    /// Stopped before its spawn was reported: it gets the signal that it missed.
    fn spawned_too_late(&mut self, pid: u32) {
        self.spawned(pid);
        if self.record.stop.phase == StopPhase::Asked {
            self.send_stop_signal(Whom::All);
        } else {
            self.record.stuck = false;
            self.kill();
        }
    }

    fn spawn_failed(&mut self, failure: StartFailure, child: Child) {
        let detail = failure.in_words();
        self.record.start_failure = Some(failure);
        self.add_event(EventKind::StartFailed, &detail);
        if child == Child::None {
            self.record.pid = None;
            self.record.stopped_at = Some(self.now.wall);
            if self.record.state != State::Stopping {
                self.record.stop = self.stop_for(StopOrder::default(), AfterStop::Decide);
            }
            self.end_of_run();
        }
    }

    fn ended(&mut self, exit: Option<Exit>) {
        self.record.pid = None;
        self.record.start_ticks = None;
        self.record.adopted = false;
        self.record.leader_gone = true;
        self.record.ready = false;
        self.record.stopped_at = Some(self.now.wall);
        if exit.is_none() {
            self.record.exit = None;
            self.add_event(EventKind::Lost, "it ended, and nobody saw how");
        } else if self.record.start_failure.is_none() {
            self.record.exit = exit;
            self.add_event(EventKind::Exited, "");
            if self.rules.is_job && !restart::failed(self.record, &self.rules.restart) {
                self.add_event(EventKind::Ready, "its work is done");
            }
        }
    }

    fn stop_for(&self, order: StopOrder, then: AfterStop) -> StopInProgress {
        let rules = &self.rules.stop;
        let is_usual = order.signal.is_none() && order.timeout.is_none();
        let time = if is_usual { rules.time_of(0) } else { order.timeout.unwrap_or(rules.timeout) };
        StopInProgress {
            phase: StopPhase::Asked,
            then,
            signal: order.signal.unwrap_or(rules.signal),
            step: if is_usual { 0 } else { StopInProgress::ONLY },
            timeout_ms: millis(time),
            scope: order.scope.unwrap_or(rules.scope),
            no_kill: order.no_kill,
        }
    }

    fn begin_stop(&mut self, order: StopOrder, then: AfterStop) {
        self.record.stop = self.stop_for(order, then);
        self.enter(State::Stopping);
        self.set_deadline(self.record.stop.timeout_ms);
        let signal = signal::name(self.record.stop.signal);
        let detail = if order.suspends { format!("{signal}; {STOPPED_SCHEDULE}") } else { signal };
        self.add_event(EventKind::Stopping, &detail);
        if self.record.pid.is_some() {
            self.send_stop_signal(Whom::All);
        }
    }

    /// A second order during a stop: it stays stopped, the shorter grace counts, and what was stuck is tried
    /// once more.
    fn hasten_stop(&mut self, order: StopOrder) {
        self.set_then(AfterStop::Rest);
        self.record.cause = cut(self.cause);
        self.record.stuck = false;
        if order.suspends {
            self.add_event(EventKind::Stopping, STOPPED_SCHEDULE);
        }
        let wanted = self.stop_for(order, AfterStop::Rest);
        if self.record.stop.phase != StopPhase::Asked {
            self.kill();
            return;
        }
        self.record.stop.no_kill &= wanted.no_kill;
        // The signals go on in their order.
        if wanted.step == 0 && (1..StopInProgress::ONLY).contains(&self.record.stop.step) {
            return;
        }
        self.record.stop.step = wanted.step;
        let until = self.now.mono_ms.saturating_add(wanted.timeout_ms);
        if self.record.deadline.is_none_or(|d| d > until) {
            self.set_deadline(wanted.timeout_ms);
        }
        if wanted.signal != self.record.stop.signal {
            self.record.stop.signal = wanted.signal;
            self.send_stop_signal(Whom::All);
        }
    }

    fn set_then(&mut self, then: AfterStop) {
        self.record.stop.then = then;
    }

    fn send_stop_signal(&mut self, whom: Whom) {
        let StopInProgress { signal, scope, .. } = self.record.stop;
        self.act(Action::Signal { signal, scope, whom });
    }

    /// After the process itself is gone: see whether it left anything behind, and ask that to go too.
    fn look(&mut self, whom: Whom) {
        let StopInProgress { scope, no_kill, phase, .. } = self.record.stop;
        let is_asked = phase == StopPhase::Asked;
        if is_asked && scope == Scope::Mixed && !no_kill {
            return self.kill();
        }
        self.act(Action::Look { scope });
        if is_asked && scope != Scope::Leader {
            self.send_stop_signal(whom);
        }
    }

    fn grace_over(&mut self) {
        let stop = self.record.stop;
        self.clear_deadline();
        if stop.phase == StopPhase::Asked {
            if self.next_signal() {
                return;
            }
            if stop.no_kill {
                self.abandon_stop();
                return;
            }
            self.add_event(EventKind::Killed, "the grace period is over");
            self.kill();
        } else if stop.phase == StopPhase::Killed {
            self.record.stop.phase = StopPhase::Stuck;
            self.record.stuck = true;
            self.add_event(EventKind::Stuck, "something is still there after SIGKILL");
            // Once more, for what was frozen or forked meanwhile; from here on only its end wakes us.
            self.act(Action::Kill { scope: stop.scope });
        }
    }

    /// Sends the signal that follows the last one, if there is one.
    fn next_signal(&mut self) -> bool {
        let place = self.record.stop.step as usize;
        let Some(next) = self.rules.stop.steps.get(place) else { return false };
        self.record.stop.signal = next.signal;
        self.record.stop.step += 1;
        self.record.stop.timeout_ms = millis(self.rules.stop.time_of(place + 1));
        self.set_deadline(self.record.stop.timeout_ms);
        self.add_event(EventKind::Stopping, &format!("{}, the next signal", signal::name(next.signal)));
        self.send_stop_signal(Whom::All);
        true
    }

    fn kill(&mut self) {
        let scope = self.record.stop.scope;
        self.record.stop.phase = StopPhase::Killed;
        self.set_deadline(KILL_MS);
        self.act(Action::Kill { scope });
        self.act(Action::Look { scope });
    }

    /// `--no-kill`: what will not stop is left as it is, and a later stop goes on from here.
    fn abandon_stop(&mut self) {
        if self.record.leader_gone || self.record.pid.is_none() {
            self.record.stuck = true;
            self.add_event(EventKind::Stuck, "it did not stop, and is not to be killed");
        } else {
            self.enter(State::Running);
            self.record.ready |= !self.rules.proves_ready;
            self.record.unfit.clear();
            self.add_event(EventKind::Stuck, "it did not stop, and is left running");
        }
    }
}

/// Whether a stop is over without the process being gone: what its callers are told then.
#[must_use]
pub fn stop_was_in_vain(record: &Record) -> bool {
    record.stuck || record.state == State::Running
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
