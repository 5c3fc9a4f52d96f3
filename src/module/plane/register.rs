//! Registration: validated, installed and recorded under the one lock of the caller, with no trace of what is
//! rejected whole. What an earlier host has left comes in the same way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::guard::breaker::{Breaker, BreakerSettings};
use crate::module::canary::Standing;
use crate::module::change::{differences, text};
use crate::module::executor::ExecutorAddress;
use crate::module::names::{check_module, check_namespace, is_reserved};
use crate::module::owner::Owner;
use crate::module::plane::Plane;
use crate::module::plane::connection::{Connection, Module, Reach};
use crate::module::plane::state::State;
use crate::sdk::module::protocol::PROTOCOL_VERSION;
use crate::sdk::module::schema::Type;
use crate::wire::time::{Timestamp, millis};

/// The most connections.
const CONNECTIONS_MAX: usize = 2000;
/// The most modules of one registration.
pub const MODULES_MAX: usize = 1000;
/// The longest name of a group, in bytes.
const GROUP_LEN_MAX: usize = 200;
/// What all registrations that hold may come to, in bytes of their messages.
const REGISTRATIONS_LEN_MAX: usize = 16 << 20;
/// The most connections of one certificate.
const CONNECTIONS_OF_ONE_MAX: usize = 500;
/// The longest version and description together, in bytes.
const TEXT_LEN_MAX: usize = 4096;
/// A member that fails so often within so long is ejected for so long, and up to eight times that.
const OUTLIER: BreakerSettings = BreakerSettings {
    failure_threshold: 5,
    monitoring_period: Duration::from_secs(30),
    failure_percent: None,
    slow_after: None,
    slow_percent: 100,
    calls_needed: 1,
    recovery_timeout: Duration::from_secs(10),
    probe_timeout: Duration::from_secs(30),
    probes: 1,
    probes_needed: 1,
};

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
    pub owner: Owner,
    /// Over which it came, as the C core calls it; empty: over none that is there now.
    pub channel: String,
    /// Of its message, in bytes.
    pub len: usize,
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
    /// By module, how its types differ from those of that one, in words.
    pub changes: BTreeMap<String, String>,
}

/// What a connection begins as.
#[derive(Clone, Copy)]
struct Begin {
    state: State,
    registered_at: Timestamp,
    deadline_ms: u64,
}

impl Registered {
    /// Nothing of it was taken, for this reason.
    fn rejected(r: Registration, why: &str) -> Self {
        let results = r.modules.into_iter().map(|module| (module.name, Err(why.to_owned()))).collect();
        Self { results, replaced: None, changes: BTreeMap::new() }
    }
}

impl Plane {
    /// A provider registers: `id` is the new connection's.
    pub fn register(&mut self, r: Registration, id: &str, now_ms: u64) -> Registered {
        let deadline_ms = now_ms + millis(self.limits.control_timeout);
        let begin = Begin { state: State::Registered, registered_at: Timestamp::now(), deadline_ms };
        self.enter(r, id, begin, now_ms)
    }

    /// An earlier host has had this connection.
    pub fn restore(
        &mut self,
        r: Registration,
        id: &str,
        registered_at: Timestamp,
        now_ms: u64,
    ) -> Registered {
        let deadline_ms = now_ms + millis(self.limits.heartbeat_timeout);
        self.enter(r, id, Begin { state: State::Restored, registered_at, deadline_ms }, now_ms)
    }

    fn enter(&mut self, r: Registration, id: &str, begin: Begin, now_ms: u64) -> Registered {
        let executor = match self.check_whole(&r) {
            Ok(executor) => executor,
            Err(why) => return Registered::rejected(r, &why),
        };
        let replaced = self.replaced(&r, &executor);
        if let Err(why) = self.check_room(&r, replaced.as_deref()) {
            return Registered::rejected(r, &why);
        }
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
            return Registered { results, replaced: None, changes: BTreeMap::new() };
        }
        let changes = match replaced.as_deref().map(|old| self.changes(old, &accepted)) {
            None => BTreeMap::new(),
            Some(Ok(changes)) => changes,
            Some(Err(broken)) => {
                // Whole: what callers have stays as it is.
                let results = results.into_iter().map(|(name, result)| {
                    let other = "another module of this registration is refused".to_owned();
                    let why = || broken.get(&name).cloned().unwrap_or(other);
                    let result = result.and_then(|()| Err(why()));
                    (name, result)
                });
                return Registered { results: results.collect(), replaced: None, changes: BTreeMap::new() };
            }
        };
        for name in changes.keys() {
            self.allowed.remove(&format!("{}.{name}", r.namespace));
        }
        if let Some(old) = &replaced {
            self.remove(old);
        }
        let connection = Connection {
            owner: r.owner,
            channel: r.channel,
            len: r.len,
            namespace: r.namespace,
            group: r.group,
            executor,
            modules: accepted,
            changes: changes.clone(),
            state: begin.state,
            reach: Reach::Unproven,
            registered_at: begin.registered_at,
            last_heartbeat_at: None,
            in_flight: 0,
            counters: HashMap::new(),
            last_error: String::new(),
            standing: Standing::Usual,
            why_held: String::new(),
            breaker: Breaker::new(OUTLIER, now_ms),
            deadline_ms: begin.deadline_ms,
            next_report_ms: u64::MAX,
            probe_due_ms: Some(now_ms),
            is_probing: false,
        };
        self.connections.insert(id.to_owned(), connection);
        self.join(id);
        Registered { results, replaced, changes }
    }

    /// What rejects all modules of a request.
    fn check_whole(&self, r: &Registration) -> Result<ExecutorAddress, String> {
        if r.protocol_version < PROTOCOL_VERSION {
            return Err(format!("protocol_version {} is below {PROTOCOL_VERSION}", r.protocol_version));
        }
        let executor = ExecutorAddress::parse(&r.executor_url)?;
        let elsewhere = self.limits.elsewhere.as_ref();
        if !executor.is_here() && !elsewhere.is_some_and(|e| e.hosts.contains(executor.host())) {
            let why = "executor_url has to be of this machine (localhost, 127.0.0.1 or [::1]), or of a host that \
                       [modules.executors] names";
            return Err(format!("{why}: {executor}"));
        }
        check_namespace(&r.namespace)?;
        r.owner.check(&r.namespace, &self.limits.namespaces)?;
        if r.group.as_ref().is_some_and(|group| group.len() > GROUP_LEN_MAX) {
            return Err(format!("group_id has more than {GROUP_LEN_MAX} bytes"));
        }
        if r.modules.len() > MODULES_MAX {
            return Err(format!("a registration has at most {MODULES_MAX} modules"));
        }
        Ok(executor)
    }

    /// What connections may take, beside the one that is replaced.
    fn check_room(&self, r: &Registration, replaced: Option<&str>) -> Result<(), String> {
        let others =
            || self.connections.iter().filter(|(id, _)| Some(id.as_str()) != replaced).map(|(_, c)| c);
        if others().count() >= CONNECTIONS_MAX {
            return Err(format!("there are {CONNECTIONS_MAX} connections already"));
        }
        let own = others().filter(|c| c.owner == r.owner).count();
        if !r.owner.is_local() && own >= CONNECTIONS_OF_ONE_MAX {
            return Err(format!("this certificate has {CONNECTIONS_OF_ONE_MAX} connections already"));
        }
        if others().map(|c| c.len).sum::<usize>() + r.len > REGISTRATIONS_LEN_MAX {
            return Err(format!("all registrations together have more than {REGISTRATIONS_LEN_MAX} bytes"));
        }
        Ok(())
    }

    /// The connection in whose place a registration comes: one of the same executor in the same namespace, or
    /// the one that it names.
    fn replaced(&self, r: &Registration, executor: &ExecutorAddress) -> Option<String> {
        let is_same = |id: &str, c: &Connection| {
            c.owner == r.owner
                && c.namespace == r.namespace
                && (c.executor == *executor || r.replaces.as_deref() == Some(id))
                && c.group == r.group
        };
        self.connections.iter().find(|(id, c)| is_same(id, c)).map(|(id, _)| id.clone())
    }

    /// How the types of modules differ from those of the connection that is replaced, in words. Where callers
    /// would fail, and nobody has allowed it, an error has the reason by module.
    fn changes(
        &self,
        old: &str,
        accepted: &BTreeMap<String, Arc<Module>>,
    ) -> Result<BTreeMap<String, String>, BTreeMap<String, String>> {
        let (mut changes, mut broken) = (BTreeMap::new(), BTreeMap::new());
        let Some(old) = self.connections.get(old) else { return Ok(changes) };
        for (name, before) in &old.modules {
            let found = accepted.get(name).map(|after| differences(before, after)).unwrap_or_default();
            if found.is_empty() {
                continue;
            }
            let (qualified, what) = (format!("{}.{name}", old.namespace), text(&found));
            if found.iter().any(|one| one.is_breaking) && !self.allowed.contains(&qualified) {
                let why = format!(
                    "its types change so that callers may fail: {what} ('provost module allow {qualified}' lets it)"
                );
                broken.insert(name.clone(), why);
            } else {
                changes.insert(name.clone(), what);
            }
        }
        if broken.is_empty() { Ok(changes) } else { Err(broken) }
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
}
