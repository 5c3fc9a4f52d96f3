//! Who has registered what: connections of providers, the modules that they have brought, and whose turn it
//! is to execute one. Pure: it is told what time it is, and knows nothing of sockets.
//!
//! A namespace belongs to a provider alone, or to the members of a group. What a request that is rejected
//! whole has asked for leaves no trace; everything that is taken in is taken in at once.

mod canaries;
pub mod canary_news;
pub mod connection;
mod expect;
pub mod expected;
mod pool;
pub mod register;
mod state;
pub mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::module::canary::track::Track;
use crate::module::executor::ExecutorAddress;
use crate::module::owner::Owner;
use crate::module::plane::canary_news::CanaryNews;
use crate::module::plane::connection::{Connection, Counters, Module, Reach};
use crate::module::plane::expected::{Change, Expected};
use crate::module::plane::pool::Pool;
use crate::module::plane::state::{Event, State};
use crate::module::settings::ModuleLimits;
use crate::wire::time::{Timestamp, millis};

/// Which part of the limit of heartbeats others have when it was this process that was late.
const EXCUSE_PART: u64 = 3;

/// Why a control stream is none of a connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    Unknown,
    /// It has one already.
    Twice,
}

/// What a look at the time has found.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Connections that are gone, and why.
    pub ended: Vec<(String, String)>,
    /// Connections that are to be told which of their modules are active.
    pub reports: Vec<(String, Vec<String>)>,
    /// Executors that are to be probed.
    pub probes: Vec<(String, ExecutorAddress)>,
    /// What has changed about modules that are expected.
    pub expected: Vec<(String, Change)>,
}

/// A module, over all that have registered it.
#[derive(Debug)]
pub struct Offered {
    pub module: Arc<Module>,
    /// How many execute it now.
    pub members: usize,
    pub counters: Counters,
    /// How its types differ from those that it had before, in words; empty: they do not.
    pub changes: String,
}

#[derive(Debug)]
pub struct Plane {
    limits: ModuleLimits,
    connections: HashMap<String, Connection>,
    /// By qualified name.
    pools: HashMap<String, Pool>,
    /// The last one that was given to a call that waits.
    last_number: u64,
    /// By namespace.
    canaries: BTreeMap<String, Track>,
    /// Namespaces with canaries in which something has changed since they were looked at.
    stale: BTreeSet<String>,
    /// What nobody was given yet.
    news: Vec<CanaryNews>,
    expected: Vec<Expected>,
    /// Modules, by qualified name, whose next registration may break callers.
    allowed: BTreeSet<String>,
}

impl Plane {
    pub fn new(limits: ModuleLimits) -> Self {
        let expected = Expected::all(&limits);
        Self {
            limits,
            connections: HashMap::new(),
            pools: HashMap::new(),
            last_number: 0,
            canaries: BTreeMap::new(),
            stale: BTreeSet::new(),
            news: Vec::new(),
            expected,
            allowed: BTreeSet::new(),
        }
    }

    /// All connections by their id, in the order of their ids.
    pub fn connections(&self) -> BTreeMap<&str, &Connection> {
        self.connections.iter().map(|(id, connection)| (&**id, connection)).collect()
    }

    /// All modules by qualified name.
    pub fn modules(&self) -> BTreeMap<String, Offered> {
        let mut all = BTreeMap::new();
        for connection in self.connections.values() {
            for (name, module) in &connection.modules {
                let entry = all.entry(format!("{}.{name}", connection.namespace));
                let offered = entry.or_insert_with(|| Offered {
                    module: Arc::clone(module),
                    members: 0,
                    counters: Counters::default(),
                    changes: String::new(),
                });
                if let Some(changes) = connection.changes.get(name) {
                    offered.changes.clone_from(changes);
                }
                offered.members += usize::from(connection.out().is_none());
                connection.counters.get(name).into_iter().for_each(|each| offered.counters.add(each));
            }
        }
        all
    }

    /// The next registration of this module may change its types so that callers fail; whether there is one.
    pub fn allow_change(&mut self, qualified: &str) -> bool {
        let mut allowed = std::mem::take(&mut self.allowed);
        allowed.insert(qualified.to_owned());
        // Those that are gone are free to come back as they like.
        allowed.retain(|name| self.module(name).is_some());
        self.allowed = allowed;
        self.allowed.contains(qualified)
    }

    pub fn connection(&self, id: &str) -> Option<&Connection> {
        self.connections.get(id)
    }

    /// Whether there is such a connection.
    pub fn knows(&self, id: &str) -> bool {
        self.connections.contains_key(id)
    }

    /// The control stream of a connection has begun.
    pub fn bind(&mut self, id: &str, owner: &Owner, now_ms: u64) -> Result<(), Unbound> {
        let report_ms = millis(self.limits.report_interval);
        let connection = self.connections.get_mut(id).filter(|c| c.owner == *owner);
        let connection = connection.ok_or(Unbound::Unknown)?;
        connection.state = connection.state.after(Event::Bound).ok_or(Unbound::Twice)?;
        connection.next_report_ms = now_ms + report_ms;
        // From here on its calls show how it is.
        if connection.reach == Reach::Answers {
            connection.probe_due_ms = None;
        }
        self.heartbeat(id, now_ms);
        Ok(())
    }

    /// Whether there is such a connection.
    pub fn heartbeat(&mut self, id: &str, now_ms: u64) -> bool {
        let timeout_ms = millis(self.limits.heartbeat_timeout);
        let Some(connection) = self.connections.get_mut(id) else { return false };
        connection.last_heartbeat_at = Some(Timestamp::now());
        if connection.state == State::Active {
            connection.deadline_ms = now_ms + timeout_ms;
        }
        true
    }

    /// Takes a connection out of the pools; what is under way goes on. Whether it could be.
    pub fn drain(&mut self, id: &str, until_ms: u64) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Some(state) = connection.state.after(Event::DrainBegun) else { return false };
        (connection.state, connection.deadline_ms) = (state, until_ms);
        self.leave(id);
        true
    }

    /// The provider has not accepted its drain: it goes on. Whether it drained.
    pub fn refuse_drain(&mut self, id: &str, now_ms: u64) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Some(state) = connection.state.after(Event::DrainRefused) else { return false };
        connection.state = state;
        self.join(id);
        self.heartbeat(id, now_ms)
    }

    /// Forgets a connection and all that it has brought.
    pub fn remove(&mut self, id: &str) -> Option<Connection> {
        self.leave(id);
        let mut connection = self.connections.remove(id)?;
        connection.state = connection.state.after(Event::Ended).unwrap_or(State::Disconnected);
        Some(connection)
    }

    /// The connection of this namespace that was registered over this channel.
    pub fn over(&self, channel: &str, owner: &Owner, namespace: &str) -> Option<String> {
        let is_it = |c: &Connection| c.channel == channel && c.owner == *owner && c.namespace == namespace;
        let found = self.connections.iter().find(|(_, c)| is_it(c));
        found.filter(|_| !channel.is_empty()).map(|(id, _)| id.clone())
    }

    /// Takes modules back. For each name why it was not removed, if it was not; whether the connection is
    /// gone with its last module.
    pub fn deregister(
        &mut self,
        id: &str,
        owner: &Owner,
        namespace: &str,
        names: &[String],
    ) -> (Vec<Result<(), &'static str>>, bool) {
        let of_namespace = |c: &Connection| c.namespace == namespace;
        if !self.connections.get(id).is_some_and(|c| of_namespace(c) && c.owner == *owner) {
            let is_owned = self.knows(id) || self.connections.values().any(of_namespace);
            let why = if is_owned { "wrong namespace owner" } else { "not found" };
            return (names.iter().map(|_| Err(why)).collect(), false);
        }
        self.leave(id);
        let connection = self.connections.get_mut(id).expect("it was looked up");
        let results =
            names.iter().map(|name| connection.modules.remove(name).map(drop).ok_or("not found")).collect();
        let is_gone = connection.modules.is_empty();
        if is_gone {
            self.remove(id);
        } else {
            self.join(id);
        }
        (results, is_gone)
    }

    /// This process was held up: what has come meanwhile is not read yet. Whoever would be gone has a moment
    /// more.
    pub fn excuse(&mut self, now_ms: u64) {
        let until_ms = now_ms + millis(self.limits.heartbeat_timeout) / EXCUSE_PART;
        for connection in self.connections.values_mut().filter(|c| c.state.takes_calls()) {
            connection.deadline_ms = connection.deadline_ms.max(until_ms);
        }
    }

    /// What has to end, and who is to be told something.
    pub fn sweep(&mut self, now_ms: u64) -> Sweep {
        let mut sweep = Sweep::default();
        self.canaries_due(now_ms);
        let over: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| now_ms > c.deadline_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            let why = match self.connections[&id].state {
                State::Registered => "its control stream did not come",
                State::Restored => "its executor does not answer, and its provider has not registered again",
                State::Draining => "its drain is over",
                State::Active | State::Disconnected => "its heartbeats stopped",
            };
            self.remove(&id);
            sweep.ended.push((id, why.to_owned()));
        }
        sweep.expected = self.look_for_expected(now_ms);
        let report_ms = millis(self.limits.report_interval);
        for (id, connection) in &mut self.connections {
            if connection.state == State::Active && now_ms >= connection.next_report_ms {
                connection.next_report_ms = now_ms + report_ms;
                sweep.reports.push((id.clone(), connection.modules.keys().cloned().collect()));
            }
            if connection.probe_due().is_some_and(|due| now_ms >= due) {
                connection.is_probing = true;
                sweep.probes.push((id.clone(), connection.executor.clone()));
            }
        }
        sweep
    }

    /// When there is something to sweep, ms; none: not before something changes.
    pub fn sweep_due(&self) -> Option<u64> {
        let dues = self.connections.values().map(|c| {
            let deadline_ms = match c.state {
                State::Active => (c.deadline_ms + 1).min(c.next_report_ms),
                State::Registered | State::Restored | State::Draining | State::Disconnected => {
                    c.deadline_ms + 1
                }
            };
            c.probe_due().map_or(deadline_ms, |due| due.min(deadline_ms))
        });
        dues.chain(self.canaries.values().filter_map(Track::due)).chain(self.expected_due()).min()
    }

    /// Puts a connection at the end of the pools of its modules.
    fn join(&mut self, id: &str) {
        let Some(connection) = self.connections.get(id) else { return };
        for name in connection.modules.keys() {
            let pool = self.pools.entry(format!("{}.{name}", connection.namespace)).or_default();
            pool.members.push(id.to_owned());
        }
        self.touch(&connection.namespace.clone());
    }

    /// Takes a connection out of the pools. The turns of the others stay as they are, and the places of calls
    /// that wait: they have to be woken.
    fn leave(&mut self, id: &str) {
        let Some(connection) = self.connections.get(id) else { return };
        for name in connection.modules.keys() {
            let qualified = format!("{}.{name}", connection.namespace);
            let Some(pool) = self.pools.get_mut(&qualified) else { continue };
            pool.leave(id);
            if pool.is_unused() {
                self.pools.remove(&qualified);
            }
        }
        self.touch(&connection.namespace.clone());
    }
}

#[cfg(test)]
mod canary_tests;
#[cfg(test)]
mod tests;
