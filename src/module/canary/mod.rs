//! The canary of one group, purely: which member of the new version is on trial, whether it passes, and what
//! becomes of those before it. Time, calls and members come from outside.
//!
//! One member after the other is on trial with the canary's share of the calls: for the window at least, and
//! with so many calls. Who passes takes turns like the members of other versions do; the first who fails
//! takes all back, the last one first. Members are known by where they execute: one that registers again is
//! the same.

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod tests;
pub mod track;
mod view;

use std::collections::VecDeque;

use crate::sdk::module::counts::{Counts, Limits};
use crate::wire::canary::{CanaryOrder, CanaryStep};
use crate::wire::time::{Timestamp, millis};

pub use crate::sdk::module::counts::Call;

/// The most steps that are kept: the latest.
const STEPS_MAX: usize = 200;
/// The most members that are remembered: as many as there can be connections.
const TRIED_MAX: usize = 2000;

/// The cause of what a canary does by itself.
const CAUSE: &str = "canary";

/// The time.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic.
    pub ms: u64,
    /// For people.
    pub at: Timestamp,
}

/// A member of the group that takes calls, as far as its provider is concerned.
#[derive(Clone, Debug)]
pub struct Seen {
    pub executor: String,
    /// Of its modules, each once.
    pub versions: Vec<String>,
    /// Why it gets none, if so.
    pub out: Option<String>,
}

/// Where a canary is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    /// All members of the version have passed.
    Promoted,
    RolledBack,
    /// A member has failed; those that had passed stay.
    PartialFailure,
    Aborted,
}

/// What became of a member that was on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    OnTrial { begun_ms: u64 },
    Promoted,
    RolledBack,
}

/// Which calls a member gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Its turns, as if there was no canary.
    #[default]
    Usual,
    /// Its turns, which are counted.
    Promoted,
    /// The canary's share.
    OnTrial,
    /// None.
    Held,
}

/// What has happened, for whoever notes and tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Started,
    OnTrial,
    /// The member on trial has left.
    Gone,
    Promoted,
    Failed,
    RolledBack,
    Aborted,
    /// Another host goes on with it.
    Resumed,
}

/// A step, and on whose behalf it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub what: What,
    pub cause: String,
    pub step: CanaryStep,
}

/// A member that was on trial, or is.
#[derive(Clone, Debug)]
struct Tried {
    executor: String,
    outcome: Outcome,
    since: Timestamp,
    /// Since its trial began.
    counts: Counts,
    /// Since the trial began that is under way.
    recent: Counts,
    /// When calls of it began that have not ended, ms.
    under_way: Vec<u64>,
}

/// A canary, running or ended.
#[derive(Clone, Debug)]
pub struct Canary {
    pub order: CanaryOrder,
    pub stage: Stage,
    /// Whether members that have not passed get no calls, though it has ended.
    pub holds: bool,
    /// Among all of this host.
    pub serial: u64,
    by: String,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    reason: String,
    tried: Vec<Tried>,
    /// Calls of members that left during their trial: who replaces them answers for these, too.
    carried: Counts,
    steps: VecDeque<CanaryStep>,
    /// When it was last looked at, ms.
    looked_ms: u64,
    /// On whose behalf steps happen now.
    cause: String,
    /// Steps that nobody was given yet.
    news: Vec<News>,
}

impl Canary {
    pub fn begin(order: CanaryOrder, by: &str, serial: u64, now: Now) -> Self {
        let mut canary = Self {
            stage: Stage::Running,
            holds: false,
            serial,
            by: by.to_owned(),
            started_at: now.at,
            ended_at: None,
            reason: String::new(),
            tried: Vec::new(),
            carried: Counts::default(),
            steps: VecDeque::new(),
            looked_ms: now.ms,
            cause: by.to_owned(),
            news: Vec::new(),
            order,
        };
        let share = canary.order.share.percent();
        canary.step(What::Started, "", &format!("{share} of the calls, for one member after the other"), now);
        canary
    }

    pub fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    fn is_new(&self, seen: &Seen) -> bool {
        seen.versions.contains(&self.order.version)
    }

    /// Which calls a member gets, as far as this canary is concerned.
    pub fn standing(&self, seen: &Seen) -> Standing {
        if !self.is_new(seen) {
            return Standing::Usual;
        }
        let outcome = self.tried.iter().find(|tried| tried.executor == seen.executor).map(|t| t.outcome);
        match (self.stage, outcome) {
            (Stage::Running, Some(Outcome::OnTrial { .. })) => Standing::OnTrial,
            (Stage::Running, Some(Outcome::Promoted)) => Standing::Promoted,
            (Stage::Running, _) => Standing::Held,
            (Stage::Promoted, _) => Standing::Usual,
            (Stage::PartialFailure, Some(Outcome::Promoted)) => Standing::Usual,
            (Stage::RolledBack | Stage::PartialFailure | Stage::Aborted, _) if self.holds => Standing::Held,
            (Stage::RolledBack | Stage::PartialFailure | Stage::Aborted, _) => Standing::Usual,
        }
    }

    /// A call of a member begins that counts.
    pub fn begin_call(&mut self, executor: &str, now_ms: u64) {
        if let Some(tried) = self.member(executor) {
            tried.under_way.push(now_ms);
        }
    }

    /// A call that began then has ended; none: it says nothing about the member. Whether it is time for a
    /// look.
    pub fn end_call(&mut self, executor: &str, begun_ms: u64, call: Option<Call>, now_ms: u64) -> bool {
        let latency = self.order.latency;
        if !self.is_running() {
            return false;
        }
        match (self.member(executor), call) {
            (Some(tried), call) => {
                if let Some(at) = tried.under_way.iter().position(|begun| *begun == begun_ms) {
                    tried.under_way.swap_remove(at);
                }
                for counts in [&mut tried.counts, &mut tried.recent] {
                    call.into_iter().for_each(|call| counts.add_call(call, latency));
                }
            }
            (None, Some(call)) => self.carried.add_call(call, latency),
            (None, None) => {}
        }
        // After its window any call may be the one that it waits for, or the one that takes it out.
        self.failing(&[], now_ms).is_some() || self.window_end().is_some_and(|end| now_ms >= end)
    }

    /// Of the trial, ms.
    fn window_end(&self) -> Option<u64> {
        self.trial().and_then(Tried::begun_ms).map(|begun| begun + millis(self.order.window))
    }

    fn member(&mut self, executor: &str) -> Option<&mut Tried> {
        self.tried.iter_mut().find(|tried| tried.executor == executor)
    }

    fn trial(&self) -> Option<&Tried> {
        self.tried.last().filter(|tried| matches!(tried.outcome, Outcome::OnTrial { .. }))
    }

    /// When time alone changes something, ms.
    pub fn due(&self) -> Option<u64> {
        self.window_end().filter(|end| self.is_running() && self.looked_ms < *end)
    }

    /// Does what is due.
    pub fn look(&mut self, seen: &[Seen], now: Now) {
        self.looked_ms = now.ms;
        CAUSE.clone_into(&mut self.cause);
        while self.is_running() {
            self.let_go(seen, now);
            if let Some((executor, why)) = self.failing(seen, now.ms) {
                return self.fail(&executor, &why, seen, now);
            }
            match self.trial() {
                None => {
                    if !self.next_trial(seen, now) {
                        return;
                    }
                }
                Some(trial) if !self.is_done(trial, now.ms) => return,
                Some(_) => self.promote(now),
            }
        }
    }

    /// The member on trial may have left.
    fn let_go(&mut self, seen: &[Seen], now: Now) {
        let is_there = |tried: &Tried| seen.iter().any(|s| s.executor == tried.executor && self.is_new(s));
        if self.trial().is_some_and(|trial| !is_there(trial)) {
            let gone = self.tried.pop().expect("it was the last");
            self.carried = self.carried.with(&gone.recent);
            let counts = gone.counts;
            let detail = format!("it left after {} calls, {} failed", counts.calls, counts.failures);
            self.step(What::Gone, &gone.executor, &detail, now);
        }
    }

    /// Who is not good enough, and why.
    fn failing(&self, seen: &[Seen], now_ms: u64) -> Option<(String, String)> {
        self.tried.iter().find_map(|tried| {
            let overdue = tried.overdue(now_ms, millis(self.order.latency));
            let mut counts = tried.recent.with_overdue(overdue);
            let why = match tried.outcome {
                Outcome::OnTrial { begun_ms } => {
                    counts = counts.with(&self.carried);
                    let out = seen.iter().find(|s| s.executor == tried.executor).and_then(|s| s.out.as_ref());
                    let is_over = now_ms >= begun_ms + millis(self.order.window);
                    let is_out = out.filter(|_| is_over).map(|out| format!("it gets no calls: {out}"));
                    counts.breach(&self.limits()).or(is_out)
                }
                Outcome::Promoted => counts.breach(&self.limits()),
                Outcome::RolledBack => None,
            };
            why.map(|why| (tried.executor.clone(), why))
        })
    }

    fn limits(&self) -> Limits {
        let CanaryOrder { success_ratio, latency, min_calls, .. } = self.order;
        Limits { success_ratio, latency, min_calls }
    }

    /// Whether it has had its time and its calls. That they are good enough is asked elsewhere.
    fn is_done(&self, trial: &Tried, now_ms: u64) -> bool {
        let is_over = self.window_end().is_some_and(|end| now_ms >= end);
        is_over && trial.recent.calls >= u64::from(self.order.min_calls)
    }

    /// Puts the next member on trial, or ends with all promoted. False: there is nobody to be tried.
    fn next_trial(&mut self, seen: &[Seen], now: Now) -> bool {
        let is_tried = |s: &Seen| self.tried.iter().any(|tried| tried.executor == s.executor);
        let new: Vec<&Seen> = seen.iter().filter(|s| self.is_new(s)).collect();
        let open = || new.iter().filter(|s| !is_tried(s));
        let Some(next) = open().find(|s| s.out.is_none()).or_else(|| open().next()) else {
            if !new.is_empty() {
                let version = &self.order.version;
                let detail = format!("all {} members of version {version} have passed", new.len());
                self.end(Stage::Promoted, "", now);
                self.step(What::Promoted, "", &detail, now);
            }
            return false;
        };
        let executor = next.executor.clone();
        if self.tried.len() == TRIED_MAX {
            self.tried.remove(0);
        }
        self.tried.iter_mut().for_each(|tried| tried.recent = Counts::default());
        self.step(What::OnTrial, &executor, "", now);
        self.tried.push(Tried {
            executor,
            outcome: Outcome::OnTrial { begun_ms: now.ms },
            since: now.at,
            counts: Counts::default(),
            recent: Counts::default(),
            under_way: Vec::new(),
        });
        true
    }

    fn promote(&mut self, now: Now) {
        let Some(trial) = self.tried.last_mut() else { return };
        (trial.outcome, trial.since) = (Outcome::Promoted, now.at);
        let (executor, counts) = (trial.executor.clone(), trial.counts);
        self.carried = Counts::default();
        let mean_ms = counts.mean_us() / 1000;
        let detail = format!("{} calls, {} failed, {mean_ms} ms", counts.calls, counts.failures);
        self.step(What::Promoted, &executor, &detail, now);
    }

    fn fail(&mut self, executor: &str, why: &str, seen: &[Seen], now: Now) {
        self.step(What::Failed, executor, why, now);
        let reason = format!("{executor}: {why}");
        if self.order.rolls_back {
            let stage = if self.go_back(seen, now) { Stage::RolledBack } else { Stage::PartialFailure };
            return self.end(stage, &reason, now);
        }
        let stays = |s: &Seen| {
            let is_promoted = |t: &Tried| t.executor == s.executor && t.outcome == Outcome::Promoted;
            !self.is_new(s) || (s.executor != executor && self.tried.iter().any(is_promoted))
        };
        self.holds = seen.iter().any(|s| s.out.is_none() && stays(s));
        if self.holds {
            self.take_back(now, |t| t.executor == executor || t.outcome != Outcome::Promoted);
        }
        self.end(Stage::PartialFailure, &reason, now);
    }

    /// Ends it as somebody wants.
    pub fn abort_by(&mut self, by: &str, seen: &[Seen], now: Now) {
        by.clone_into(&mut self.cause);
        self.step(What::Aborted, "", &format!("by {by}"), now);
        self.go_back(seen, now);
        self.end(Stage::Aborted, &format!("by {by}"), now);
    }

    /// Takes all members of the version back, the last one first, if there is anybody else to take calls.
    fn go_back(&mut self, seen: &[Seen], now: Now) -> bool {
        self.holds = seen.iter().any(|s| s.out.is_none() && !self.is_new(s));
        if self.holds {
            self.take_back(now, |_| true);
        }
        self.holds
    }

    fn take_back(&mut self, now: Now, which: impl Fn(&Tried) -> bool) {
        let mut back = Vec::new();
        for tried in self.tried.iter_mut().rev().filter(|tried| which(tried)) {
            (tried.outcome, tried.since) = (Outcome::RolledBack, now.at);
            back.push(tried.executor.clone());
        }
        back.iter().for_each(|executor| self.step(What::RolledBack, executor, "it gets no calls", now));
    }

    fn end(&mut self, stage: Stage, reason: &str, now: Now) {
        let but = match stage {
            Stage::Running | Stage::Promoted => "",
            _ if self.holds => "",
            _ => "; nobody else is left to take the calls, so that its members go on",
        };
        (self.stage, self.ended_at) = (stage, Some(now.at));
        self.reason = format!("{reason}{but}");
    }

    fn step(&mut self, what: What, executor: &str, detail: &str, now: Now) {
        let (executor, detail) = (executor.to_owned(), detail.to_owned());
        let step = CanaryStep { at: now.at, what: what.name().to_owned(), executor, detail };
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(step.clone());
        self.news.push(News { what, cause: self.cause.clone(), step });
    }
}

impl Tried {
    fn begun_ms(&self) -> Option<u64> {
        match self.outcome {
            Outcome::OnTrial { begun_ms } => Some(begun_ms),
            Outcome::Promoted | Outcome::RolledBack => None,
        }
    }

    /// How many calls are under way for longer than they may take.
    fn overdue(&self, now_ms: u64, latency_ms: u64) -> u64 {
        self.under_way.iter().filter(|begun| now_ms.saturating_sub(**begun) > latency_ms).count() as u64
    }
}

impl What {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::OnTrial => "on-trial",
            Self::Gone => "gone",
            Self::Promoted => "promoted",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
            Self::Aborted => "aborted",
            Self::Resumed => "resumed",
        }
    }
}
