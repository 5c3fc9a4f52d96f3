//! A provider that has registered: what it has brought, how it is, and how its calls went.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::guard::breaker::Breaker;
use crate::module::canary::{Seen, Standing};
use crate::module::executor::ExecutorAddress;
use crate::module::owner::Owner;
use crate::module::plane::state::State;
use crate::sdk::module::schema::Type;
use crate::wire::time::Timestamp;

/// A module, as one provider has declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub input: Type,
    pub output: Type,
    pub version: String,
    pub description: String,
}

/// Whether an executor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody has asked it yet.
    Unproven,
    Answers,
    /// It gets no calls until it answers again. Why.
    Deaf(String),
}

/// How calls went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub requests: u64,
    pub errors: u64,
    /// Those that have an answer, and what all of them took, in microseconds.
    pub answered: u64,
    pub total_us: u64,
}

impl Counters {
    pub fn mean_us(&self) -> u64 {
        self.total_us.checked_div(self.answered).unwrap_or(0)
    }

    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.answered += other.answered;
        self.total_us += other.total_us;
    }
}

/// A provider that has registered.
#[derive(Debug)]
pub struct Connection {
    pub owner: Owner,
    /// Over which it was registered; empty: over none that is there now.
    pub channel: String,
    /// Of its registration, in bytes.
    pub len: usize,
    pub namespace: String,
    pub group: Option<String>,
    pub executor: ExecutorAddress,
    /// By name, without the namespace.
    pub modules: BTreeMap<String, Arc<Module>>,
    /// How types of modules differ from those of the registration that this one has replaced, in words.
    pub changes: BTreeMap<String, String>,
    pub state: State,
    pub reach: Reach,
    pub registered_at: Timestamp,
    pub last_heartbeat_at: Option<Timestamp>,
    pub in_flight: u32,
    /// By module.
    pub counters: HashMap<String, Counters>,
    pub last_error: String,
    /// What a canary of its group says, and why if it is held.
    pub(super) standing: Standing,
    pub(super) why_held: String,
    /// Ejects it for a while where calls of it keep failing.
    pub(super) breaker: Breaker,
    /// By when something has to have come, ms: its stream, a heartbeat, an answer of its executor, or the end
    /// of its drain.
    pub(super) deadline_ms: u64,
    pub(super) next_report_ms: u64,
    /// When its executor is to be probed; none: its calls show how it is.
    pub(super) probe_due_ms: Option<u64>,
    pub(super) is_probing: bool,
}

impl Connection {
    /// As it is shown.
    pub fn state_name(&self) -> &'static str {
        match self.reach {
            Reach::Deaf(_) if self.state.takes_calls() => "deaf",
            _ => self.state.name(),
        }
    }

    /// Of all its modules.
    pub fn totals(&self) -> Counters {
        self.counters.values().fold(Counters::default(), |mut sum, each| {
            sum.add(each);
            sum
        })
    }

    /// Whether it is known to answer calls, as far as it is not ejected for a while.
    pub(super) fn is_proven(&self) -> bool {
        self.state.takes_calls() && self.reach == Reach::Answers
    }

    /// Whether the next host is to know of it: one that drains is not to come back.
    pub fn is_kept(&self) -> bool {
        self.state.takes_calls()
    }

    /// When it is to be probed, if it is not being probed already and its answer matters.
    pub(super) fn probe_due(&self) -> Option<u64> {
        self.probe_due_ms.filter(|_| !self.is_probing && self.state.takes_calls())
    }

    /// Why it gets no calls now; none: it does. How many it has already is not looked at.
    pub fn out(&self) -> Option<String> {
        self.fault().or_else(|| (self.standing == Standing::Held).then(|| self.why_held.clone()))
    }

    /// As a canary sees it.
    pub(super) fn seen(&self) -> Seen {
        let mut versions: Vec<_> = self.modules.values().map(|module| module.version.clone()).collect();
        versions.sort();
        versions.dedup();
        Seen { executor: self.executor.to_string(), versions, out: self.fault() }
    }

    /// The same as far as it is its own.
    fn fault(&self) -> Option<String> {
        if !self.state.takes_calls() {
            return Some(self.state.name().to_owned());
        }
        if let Reach::Deaf(why) = &self.reach {
            return Some(format!("deaf, {why}"));
        }
        self.breaker.rejection().map(|rejection| format!("ejected after failures: {}", rejection.why))
    }
}
