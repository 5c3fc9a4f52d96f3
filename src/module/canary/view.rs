//! A canary as it is shown and noted, and back from a note.

use std::collections::VecDeque;
use std::time::Duration;

use crate::module::canary::{CAUSE, Canary, Now, Outcome, Seen, Stage, Standing, Tried, What};
use crate::sdk::module::counts::Counts;
use crate::wire::canary::{Canary as Shown, CanaryMember};
use crate::wire::time::{Timestamp, millis};

/// Names of stages, as they are shown and noted.
const STAGES: [(Stage, &str); 5] = [
    (Stage::Running, "running"),
    (Stage::Promoted, "promoted"),
    (Stage::RolledBack, "rolled-back"),
    (Stage::PartialFailure, "partial-failure"),
    (Stage::Aborted, "aborted"),
];

impl Canary {
    pub fn shown(&self, seen: &[Seen], now_ms: u64) -> Shown {
        let mut members: Vec<_> = seen.iter().map(|s| self.member_shown(s)).collect();
        let gone = self.tried.iter().filter(|t| !seen.iter().any(|s| s.executor == t.executor));
        members.extend(gone.map(|tried| CanaryMember {
            version: self.order.version.clone(),
            reason: "gone".to_owned(),
            ..tried.shown()
        }));
        let name = STAGES.iter().find(|(stage, _)| *stage == self.stage).map_or("", |(_, name)| *name);
        Shown {
            order: self.order.clone(),
            by: self.by.clone(),
            state: name.to_owned(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            reason: self.reason.clone(),
            next: self.next(seen, now_ms),
            holds: self.holds,
            members,
            steps: self.steps.iter().cloned().collect(),
        }
    }

    fn member_shown(&self, seen: &Seen) -> CanaryMember {
        let tried = self.tried.iter().find(|t| t.executor == seen.executor && self.is_new(seen));
        let standing = match self.standing(seen) {
            Standing::Held if self.is_running() => "waiting",
            Standing::Held => "held",
            Standing::OnTrial => "on-trial",
            Standing::Promoted => "promoted",
            Standing::Usual => "stable",
        };
        let shown = tried.map_or_else(
            || CanaryMember { standing: standing.to_owned(), ..CanaryMember::default() },
            Tried::shown,
        );
        CanaryMember {
            executor: seen.executor.clone(),
            version: seen.versions.join(","),
            reason: seen.out.clone().unwrap_or_default(),
            ..shown
        }
    }

    /// What comes next, in words.
    fn next(&self, seen: &[Seen], now_ms: u64) -> String {
        let (order, version) = (&self.order, &self.order.version);
        match self.stage {
            Stage::Running => {}
            Stage::Promoted => return String::new(),
            Stage::RolledBack | Stage::PartialFailure | Stage::Aborted if self.holds => {
                return format!("version {version} gets no calls until another canary of it is started");
            }
            Stage::RolledBack | Stage::PartialFailure | Stage::Aborted => return String::new(),
        }
        let Some(trial) = self.trial() else {
            return format!("a member with a module of version {version} has to register");
        };
        let begun_ms = trial.begun_ms().unwrap_or(0);
        let left_ms = (begun_ms + millis(order.window)).saturating_sub(now_ms);
        let calls = u64::from(order.min_calls).saturating_sub(trial.recent.calls);
        let mut waits = Vec::new();
        if left_ms > 0 {
            waits.push(format!("in {:?}", Duration::from_secs(left_ms.div_ceil(1000))));
        }
        if calls > 0 {
            waits.push(format!("after {calls} more calls"));
        }
        let alone = seen.iter().all(|s| self.is_new(s));
        let alone = if alone { "; it takes all calls, as there is no other version" } else { "" };
        format!("{} is promoted {}{alone}", trial.executor, waits.join(", "))
    }

    /// What an earlier host has left; its trial begins once more.
    pub fn restored(shown: Shown, serial: u64, now: Now) -> Self {
        let stage = STAGES.iter().find(|(_, name)| *name == shown.state).map(|(stage, _)| *stage);
        // One that a newer host has left, in a state that this one does not know, has ended.
        let stage = stage.filter(|stage| *stage != Stage::Running || shown.ended_at.is_none());
        let tried = shown.members.into_iter().filter_map(|member| {
            let outcome = match &*member.standing {
                "promoted" => Outcome::Promoted,
                "rolled-back" => Outcome::RolledBack,
                _ => return None,
            };
            let counts = Counts {
                calls: member.calls,
                failures: member.failures,
                slow: member.slow,
                answered: member.calls.saturating_sub(member.failures),
                total_us: member.mean_latency_us * member.calls.saturating_sub(member.failures),
            };
            Some(Tried {
                executor: member.executor,
                outcome,
                since: member.since.unwrap_or(Timestamp(0)),
                counts,
                recent: Counts::default(),
                under_way: Vec::new(),
            })
        });
        let mut canary = Self {
            stage: stage.unwrap_or(Stage::Aborted),
            holds: shown.holds,
            serial,
            by: shown.by,
            started_at: shown.started_at,
            ended_at: shown.ended_at,
            reason: shown.reason,
            tried: tried.collect(),
            carried: Counts::default(),
            steps: VecDeque::from(shown.steps),
            looked_ms: now.ms,
            cause: CAUSE.to_owned(),
            news: Vec::new(),
            order: shown.order,
        };
        if canary.is_running() {
            canary.step(What::Resumed, "", "the host has begun again, and so does the trial", now);
        }
        canary
    }
}

impl Tried {
    fn shown(&self) -> CanaryMember {
        let standing = match self.outcome {
            Outcome::OnTrial { .. } => "on-trial",
            Outcome::Promoted => "promoted",
            Outcome::RolledBack => "rolled-back",
        };
        CanaryMember {
            executor: self.executor.clone(),
            standing: standing.to_owned(),
            since: Some(self.since),
            calls: self.counts.calls,
            failures: self.counts.failures,
            slow: self.counts.slow,
            mean_latency_us: self.counts.mean_us(),
            ..CanaryMember::default()
        }
    }
}
