//! Who has registered what: connections of providers, the modules that they have brought, and whose turn it
//! is to execute one. Pure: it is told what time it is, and knows nothing of sockets.
//!
//! A namespace belongs to a provider alone, or to the members of a group. What a request that is rejected
//! whole has asked for leaves no trace; everything that is taken in is taken in at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::module::executor::ExecutorAddress;
use crate::module::names::{check_module, check_namespace, is_reserved};
use crate::module::schema::Type;
use crate::module::settings::ModuleLimits;
use crate::wire::time::{Timestamp, millis};

/// The version that is spoken.
pub const PROTOCOL_VERSION: i32 = 1;
/// The most connections.
const CONNECTIONS_MAX: usize = 2000;
/// The most modules of one registration.
const MODULES_MAX: usize = 1000;
/// The longest version and description together, in bytes.
const TEXT_LEN_MAX: usize = 4096;
/// The most calls of one executor at once.
const CALLS_MAX: u32 = 64;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its control stream is awaited.
    Registered,
    Active,
    /// It gets no new calls.
    Draining,
    /// It is removed.
    Disconnected,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its control stream has begun.
    Bound,
    DrainBegun,
    /// The provider does not accept the drain.
    DrainRefused,
    /// Stream, heartbeats or patience with it have ended.
    Ended,
}

impl State {
    /// The state after this; none: it cannot happen now, and changes nothing.
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Registered, Event::Bound) | (Self::Draining, Event::DrainRefused) => Some(Self::Active),
            (Self::Active, Event::DrainBegun) => Some(Self::Draining),
            (Self::Registered | Self::Active | Self::Draining, Event::Ended) => Some(Self::Disconnected),
            (Self::Registered, Event::DrainBegun | Event::DrainRefused)
            | (Self::Active, Event::Bound | Event::DrainRefused)
            | (Self::Draining, Event::Bound | Event::DrainBegun)
            | (Self::Disconnected, _) => None,
        }
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
        }
    }

    fn takes_calls(self) -> bool {
        matches!(self, Self::Registered | Self::Active)
    }
}

/// A module, as one provider has declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub input: Type,
    pub output: Type,
    pub version: String,
    pub description: String,
}

/// A provider that has registered.
#[derive(Clone, Debug)]
pub struct Connection {
    pub namespace: String,
    pub group: Option<String>,
    pub executor: ExecutorAddress,
    /// By name, without the namespace.
    pub modules: BTreeMap<String, Arc<Module>>,
    pub state: State,
    pub registered_at: Timestamp,
    pub last_heartbeat_at: Option<Timestamp>,
    pub in_flight: u32,
    pub requests: u64,
    pub errors: u64,
    pub last_error: String,
    /// By when something has to have come, ms: its stream, a heartbeat, or the end of its drain.
    deadline_ms: u64,
    next_report_ms: u64,
}

/// What a provider asks to be registered.
#[derive(Debug)]
pub struct Registration {
    pub namespace: String,
    /// None: alone.
    pub group: Option<String>,
    pub executor_url: String,
    pub modules: Vec<Declared>,
    pub protocol_version: i32,
    /// The connection that this one follows, if the provider says so.
    pub replaces: Option<String>,
}

/// One module of a registration; a schema that cannot be read is the reason why not.
#[derive(Debug)]
pub struct Declared {
    pub name: String,
    pub input: Result<Type, String>,
    pub output: Result<Type, String>,
    pub version: String,
    pub description: String,
}

/// What became of a registration.
#[derive(Debug)]
pub struct Registered {
    /// For each module in its order; an error is the reason of the rejection.
    pub results: Vec<(String, Result<(), String>)>,
    /// The connection in whose place it came.
    pub replaced: Option<String>,
}

/// Whose turn it is.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub executor: ExecutorAddress,
    pub module: Arc<Module>,
}

/// Why there is no member for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMember {
    Unknown,
    /// What is wrong with each.
    NoneHealthy(String),
}

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
}

/// Those that execute a module, in the order in which they came.
#[derive(Debug, Default)]
struct Pool {
    members: Vec<String>,
    /// Whose turn is next.
    next: usize,
}

#[derive(Debug)]
pub struct Plane {
    limits: ModuleLimits,
    connections: HashMap<String, Connection>,
    /// By qualified name.
    pools: HashMap<String, Pool>,
}

impl Plane {
    pub fn new(limits: ModuleLimits) -> Self {
        Self { limits, connections: HashMap::new(), pools: HashMap::new() }
    }

    /// All connections by their id, in the order of their ids.
    pub fn connections(&self) -> BTreeMap<&str, &Connection> {
        self.connections.iter().map(|(id, connection)| (&**id, connection)).collect()
    }

    /// All modules by qualified name, with how many execute each.
    pub fn modules(&self) -> BTreeMap<String, (Arc<Module>, usize)> {
        let mut all = BTreeMap::new();
        for connection in self.connections.values() {
            for (name, module) in &connection.modules {
                let entry = all
                    .entry(format!("{}.{name}", connection.namespace))
                    .or_insert_with(|| (Arc::clone(module), 0));
                entry.1 += usize::from(connection.state.takes_calls());
            }
        }
        all
    }

    /// Validates, installs and records under the one lock of the caller: `id` is the new connection's.
    pub fn register(&mut self, r: Registration, id: &str, now_ms: u64) -> Registered {
        let names: Vec<String> = r.modules.iter().map(|module| module.name.clone()).collect();
        let reject_all = |why: String| Registered {
            results: names.iter().map(|name| (name.clone(), Err(why.clone()))).collect(),
            replaced: None,
        };
        let executor = match self.check_whole(&r) {
            Ok(executor) => executor,
            Err(why) => return reject_all(why),
        };
        let replaced = self.replaced(&r, &executor);
        let (mut accepted, mut results) = (BTreeMap::new(), Vec::new());
        for declared in r.modules {
            let name = declared.name.clone();
            let checked = self.check_one(&r.namespace, r.group.as_deref(), declared, replaced.as_deref());
            let result = checked.and_then(|module| match accepted.contains_key(&name) {
                true => Err(format!("Module {name} is declared twice")),
                false => {
                    accepted.insert(name.clone(), Arc::new(module));
                    Ok(())
                }
            });
            results.push((name, result));
        }
        if accepted.is_empty() && !results.is_empty() {
            return Registered { results, replaced: None };
        }
        if let Some(old) = &replaced {
            self.remove(old);
        }
        let connection = Connection {
            namespace: r.namespace,
            group: r.group,
            executor,
            modules: accepted,
            state: State::Registered,
            registered_at: Timestamp::now(),
            last_heartbeat_at: None,
            in_flight: 0,
            requests: 0,
            errors: 0,
            last_error: String::new(),
            deadline_ms: now_ms + millis(self.limits.control_timeout),
            next_report_ms: u64::MAX,
        };
        self.connections.insert(id.to_owned(), connection);
        self.join(id);
        Registered { results, replaced }
    }

    /// What rejects all modules of a request.
    fn check_whole(&self, r: &Registration) -> Result<ExecutorAddress, String> {
        if r.protocol_version < PROTOCOL_VERSION {
            return Err(format!("protocol_version {} is below {PROTOCOL_VERSION}", r.protocol_version));
        }
        let executor = ExecutorAddress::parse(&r.executor_url)?;
        if executor.loopback().is_empty() {
            let why = "executor_url has to be of this machine (localhost, 127.0.0.1 or [::1])";
            return Err(format!("{why}: {executor}"));
        }
        check_namespace(&r.namespace)?;
        if r.modules.len() > MODULES_MAX {
            return Err(format!("a registration has at most {MODULES_MAX} modules"));
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(format!("there are {CONNECTIONS_MAX} connections already"));
        }
        Ok(executor)
    }

    /// The connection in whose place a registration comes: one of the same executor in the same namespace, or
    /// the one that it names.
    fn replaced(&self, r: &Registration, executor: &ExecutorAddress) -> Option<String> {
        let is_same = |id: &str, c: &Connection| {
            c.namespace == r.namespace
                && (c.executor == *executor || r.replaces.as_deref() == Some(id))
                && c.group == r.group
        };
        self.connections.iter().find(|(id, c)| is_same(id, c)).map(|(id, _)| id.clone())
    }

    fn check_one(
        &self,
        namespace: &str,
        group: Option<&str>,
        declared: Declared,
        replaced: Option<&str>,
    ) -> Result<Module, String> {
        if is_reserved(namespace, &self.limits.reserved) {
            return Err(format!("Namespace {namespace} is reserved"));
        }
        check_module(&declared.name)?;
        let others = self
            .connections
            .iter()
            .filter(|(id, c)| c.namespace == namespace && Some(id.as_str()) != replaced)
            .map(|(_, c)| c);
        let mut same = None;
        for other in others {
            match (other.group.as_deref(), group) {
                (Some(theirs), Some(ours)) if theirs == ours => {
                    same = same.or_else(|| other.modules.get(&declared.name));
                }
                (Some(_), Some(_)) => {
                    return Err(format!("Namespace {namespace} is owned by a different provider group"));
                }
                _ => return Err(format!("Namespace {namespace} is owned by another provider")),
            }
        }
        let input = declared.input.map_err(|why| format!("Invalid input schema: {why}"))?;
        let output = declared.output.map_err(|why| format!("Invalid output schema: {why}"))?;
        if let Some(same) = same
            && (same.input != input || same.output != output)
        {
            return Err("the schemas differ from those of the group's other members".to_owned());
        }
        if declared.version.len() + declared.description.len() > TEXT_LEN_MAX {
            return Err(format!("version and description have more than {TEXT_LEN_MAX} bytes"));
        }
        Ok(Module { input, output, version: declared.version, description: declared.description })
    }

    /// Whether there is such a connection.
    pub fn knows(&self, id: &str) -> bool {
        self.connections.contains_key(id)
    }

    /// The control stream of a connection has begun.
    pub fn bind(&mut self, id: &str, now_ms: u64) -> Result<(), Unbound> {
        let report_ms = millis(self.limits.report_interval);
        let connection = self.connections.get_mut(id).ok_or(Unbound::Unknown)?;
        connection.state = connection.state.after(Event::Bound).ok_or(Unbound::Twice)?;
        connection.next_report_ms = now_ms + report_ms;
        self.heartbeat(id, now_ms);
        Ok(())
    }

    pub fn heartbeat(&mut self, id: &str, now_ms: u64) {
        let timeout_ms = millis(self.limits.heartbeat_timeout);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.last_heartbeat_at = Some(Timestamp::now());
            if connection.state == State::Active {
                connection.deadline_ms = now_ms + timeout_ms;
            }
        }
    }

    /// Takes a connection out of the pools; what is under way goes on. Whether it could be.
    pub fn drain(&mut self, id: &str, until_ms: u64) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Some(state) = connection.state.after(Event::DrainBegun) else { return false };
        (connection.state, connection.deadline_ms) = (state, until_ms);
        self.leave(id);
        true
    }

    /// The provider has not accepted its drain: it goes on.
    pub fn refuse_drain(&mut self, id: &str, now_ms: u64) {
        if let Some(connection) = self.connections.get_mut(id)
            && let Some(state) = connection.state.after(Event::DrainRefused)
        {
            connection.state = state;
            self.join(id);
            self.heartbeat(id, now_ms);
        }
    }

    /// Forgets a connection and all that it has brought.
    pub fn remove(&mut self, id: &str) -> Option<Connection> {
        self.leave(id);
        let mut connection = self.connections.remove(id)?;
        connection.state = connection.state.after(Event::Ended).unwrap_or(State::Disconnected);
        Some(connection)
    }

    /// Takes modules back. For each name why it was not removed, if it was not; whether the connection is
    /// gone with its last module.
    pub fn deregister(
        &mut self,
        id: &str,
        namespace: &str,
        names: &[String],
    ) -> (Vec<Result<(), &'static str>>, bool) {
        let of_namespace = |c: &Connection| c.namespace == namespace;
        if !self.connections.get(id).is_some_and(of_namespace) {
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

    /// What has to end, and who is to be told something.
    pub fn sweep(&mut self, now_ms: u64) -> Sweep {
        let mut sweep = Sweep::default();
        let over: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| now_ms > c.deadline_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            let why = match self.connections[&id].state {
                State::Registered => "its control stream did not come",
                State::Draining => "its drain is over",
                State::Active | State::Disconnected => "its heartbeats stopped",
            };
            self.remove(&id);
            sweep.ended.push((id, why.to_owned()));
        }
        let report_ms = millis(self.limits.report_interval);
        for (id, connection) in &mut self.connections {
            if connection.state == State::Active && now_ms >= connection.next_report_ms {
                connection.next_report_ms = now_ms + report_ms;
                sweep.reports.push((id.clone(), connection.modules.keys().cloned().collect()));
            }
        }
        sweep
    }

    /// When there is something to sweep, ms; none: not before something changes.
    pub fn sweep_due(&self) -> Option<u64> {
        let dues = self.connections.values().map(|c| match c.state {
            State::Active => (c.deadline_ms + 1).min(c.next_report_ms),
            State::Registered | State::Draining | State::Disconnected => c.deadline_ms + 1,
        });
        dues.min()
    }

    /// Whose turn it is to execute this module, among those that were not tried yet.
    pub fn next(&mut self, qualified: &str, tried: &[String]) -> Result<Member, NoMember> {
        let connections = &mut self.connections;
        let pool = self.pools.get_mut(qualified);
        let (namespace, name) = qualified.rsplit_once('.').ok_or(NoMember::Unknown)?;
        if let Some(pool) = pool {
            let len = pool.members.len();
            for n in 0..len {
                let at = (pool.next + n) % len;
                let id = &pool.members[at];
                let Some(connection) = connections.get_mut(id) else { continue };
                if tried.contains(id) || connection.in_flight >= CALLS_MAX {
                    continue;
                }
                let Some(module) = connection.modules.get(name) else { continue };
                pool.next = (at + 1) % len;
                let member = Member {
                    id: id.clone(),
                    executor: connection.executor.clone(),
                    module: Arc::clone(module),
                };
                connection.in_flight += 1;
                connection.requests += 1;
                return Ok(member);
            }
        }
        let of_it =
            self.connections.iter().filter(|(_, c)| c.namespace == namespace && c.modules.contains_key(name));
        let mut why: Vec<String> = of_it
            .map(|(id, c)| {
                let what = match c.state {
                    _ if !c.last_error.is_empty() && tried.contains(id) => c.last_error.clone(),
                    State::Registered | State::Active => format!("{} calls are under way", c.in_flight),
                    state => state.name().to_owned(),
                };
                format!("{}: {what}", c.executor)
            })
            .collect();
        why.sort();
        if why.is_empty() { Err(NoMember::Unknown) } else { Err(NoMember::NoneHealthy(why.join("; "))) }
    }

    /// A call that [`Plane::next`] gave out has ended; why it failed, if it did. Whether its connection is
    /// still there.
    pub fn done(&mut self, id: &str, error: Option<String>) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        connection.in_flight = connection.in_flight.saturating_sub(1);
        if let Some(error) = error {
            connection.errors += 1;
            connection.last_error = error;
        }
        true
    }

    /// Puts a connection at the end of the pools of its modules.
    fn join(&mut self, id: &str) {
        let Some(connection) = self.connections.get(id) else { return };
        for name in connection.modules.keys() {
            let pool = self.pools.entry(format!("{}.{name}", connection.namespace)).or_default();
            pool.members.push(id.to_owned());
        }
    }

    /// Takes a connection out of the pools. The turns of the others stay as they are.
    fn leave(&mut self, id: &str) {
        let Some(connection) = self.connections.get(id) else { return };
        for name in connection.modules.keys() {
            let qualified = format!("{}.{name}", connection.namespace);
            let Some(pool) = self.pools.get_mut(&qualified) else { continue };
            let Some(at) = pool.members.iter().position(|member| member == id) else { continue };
            pool.members.remove(at);
            if pool.next > at {
                pool.next -= 1;
            }
            if pool.members.is_empty() {
                self.pools.remove(&qualified);
            } else {
                pool.next %= pool.members.len();
            }
        }
    }
}

#[cfg(test)]
#[path = "plane_tests.rs"]
mod tests;
