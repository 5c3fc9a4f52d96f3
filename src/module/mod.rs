//! The module plane: programs outside of the service register modules at run time, and what asks for one is
//! answered by whoever executes it.
//!
//! | thread | where | owns | woken by |
//! |---|---|---|---|
//! | `modules` | `plain_listener.rs` | the listening socket, all connections without TLS | they, their gRPC server |
//! | the same | `tls_listener.rs` | the listening socket, who is connected | connections, files of certificates that change |
//! | `modules-conn` | `tls_listener.rs` | one connection with TLS and its gRPC server | its two sockets |
//! | `grpc-N` | `server.rs` | registrations and control streams | the C core |
//! | `modules-time` | `shared.rs` | nothing | the next deadline, what changes it |
//! | `modules-notes` | `shared.rs` | the notes | registrations, their ends |
//! | `modules-probe` | `probe.rs` | probes of executors | probes that are due, their answers |
//! | `modules-dial`, `tls` | `probe.rs`, `dial.rs` | a connection with TLS while it is made; its bytes | its sockets |
//! | `batch-N` | `batch.rs` | one call of a batch after the other | executors |
//!
//! A call runs on the thread of whoever asks. What is known of providers is in memory (`plane/mod.rs`, pure).
//! What the next host has to know of registrations is in notes (`notes.rs`): it restores them, and they are
//! executed for as long as their executors answer.

#![forbid(unsafe_code)]

mod batch;
mod call;
mod canaries;
mod canary;
mod change;
mod convert;
mod credentials;
mod dial;
pub mod executor;
mod executors;
mod helpers;
#[cfg(test)]
mod invariants;
mod listener;
pub mod names;
mod notes;
mod outbox;
mod owner;
mod plain_listener;
mod plain_pump;
mod plane;
mod probe;
mod recorder;
mod request;
mod server;
pub mod settings;
mod shared;
mod tls_listener;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub use crate::module::batch::{Guard, Outcome};
use crate::module::call::call;
use crate::module::credentials::Credentials;
use crate::module::notes::Notes;
use crate::module::plane::connection::Module;
use crate::module::settings::ModuleSettings;
use crate::module::shared::{Say, Shared, Tell};
use crate::sys::{system, thread};
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleBatch;
use crate::wire::module::{ModuleAnswer, ModuleCall, ModuleConnection, ModuleInfo};

/// The module plane of a host.
pub struct Modules {
    /// None: it is not configured.
    shared: Option<Arc<Shared>>,
}

impl Modules {
    /// Listens for providers, if the settings say where. Returns where that is.
    pub fn start(
        settings: ModuleSettings,
        notes: &Path,
        say: Say,
        tell: Tell,
    ) -> Result<(Self, Option<SocketAddr>), Error> {
        let Some(address) = settings.listen else { return Ok((Self { shared: None }, None)) };
        settings.notices.iter().for_each(|notice| say(notice));
        let tls = settings.tls.map(Credentials::read).transpose()?;
        let listener = listener::open(address, tls.is_some())?;
        // Values may be large; the host gives it back when it is at rest.
        system::keep_freed();
        let shared = Arc::new(Shared::new(settings.limits, Notes::open(notes)?, say, tell));
        let threads: [(_, fn(&Shared)); 3] = [
            ("modules-time", Shared::keep_time),
            ("modules-notes", Shared::record),
            ("modules-probe", Shared::probe),
        ];
        for (name, work) in threads {
            let shared = Arc::clone(&shared);
            thread::spawn(name, move || work(&shared)).map_err(|e| Error::failed("start a thread", &e))?;
        }
        let address = listener.local_addr().map_err(|e| Error::failed("listen for modules", &e))?;
        listener::run(listener, tls, &shared)?;
        Ok((Self { shared: Some(shared) }, Some(address)))
    }

    fn shared(&self) -> Result<&Arc<Shared>, Error> {
        self.shared.as_ref().ok_or_else(|| {
            Error::new(Code::Refused, "this service has no module plane")
                .hint("'listen' of [modules] in the configuration says where providers register")
        })
    }

    /// How many members of this namespace take calls, and why each of the others does not.
    #[must_use]
    pub fn members(&self, namespace: &str) -> (usize, Vec<String>) {
        let Some(shared) = &self.shared else { return (0, Vec::new()) };
        shared.with(|plane| {
            let (mut well, mut others) = (0, Vec::new());
            for (_, c) in plane.connections().into_iter().filter(|(_, c)| c.namespace == namespace) {
                match c.out() {
                    None => well += 1,
                    Some(why) => others.push(format!("{}: {why}", c.executor)),
                }
            }
            (well, others)
        })
    }

    /// Executes a batch, each input within `guard`. `each` is given what came of each, in their order; its
    /// error, which is the inner one, ends it. The outer one is that nothing could be executed.
    pub fn batch<C>(
        &self,
        all: ModuleBatch,
        guard: Guard,
        each: impl FnMut(Outcome) -> Result<(), C>,
    ) -> Result<Result<(), C>, Error> {
        Ok(batch::batch(self.shared()?, all, guard, each))
    }

    /// Answers one question of theirs. A call takes as long as its executor needs, within its timeout.
    pub fn answer(&self, question: ModuleCall, who: &str) -> Result<ModuleAnswer, Error> {
        let shared = self.shared()?;
        match question {
            ModuleCall::List => Ok(ModuleAnswer::Modules(shared.with(|plane| {
                let all = plane.modules().into_iter().map(|(name, offered)| ModuleInfo {
                    signature: signature(&name, &offered.module),
                    name,
                    version: offered.module.version.clone(),
                    description: offered.module.description.clone(),
                    members: u32::try_from(offered.members).unwrap_or(u32::MAX),
                    requests: offered.counters.requests,
                    errors: offered.counters.errors,
                    mean_latency_us: offered.counters.mean_us(),
                    changes: offered.changes,
                });
                all.collect()
            }))),
            ModuleCall::Connections => Ok(ModuleAnswer::Connections(shared.with(|plane| {
                let all = plane.connections().into_iter().map(|(id, c)| ModuleConnection {
                    id: id.to_owned(),
                    namespace: c.namespace.clone(),
                    group: c.group.clone().unwrap_or_default(),
                    executor: c.executor.to_string(),
                    state: c.state_name().to_owned(),
                    modules: c.modules.keys().cloned().collect(),
                    registered_at: c.registered_at,
                    last_heartbeat_at: c.last_heartbeat_at,
                    in_flight: c.in_flight,
                    requests: c.totals().requests,
                    errors: c.totals().errors,
                    last_error: c.last_error.clone(),
                    mean_latency_us: c.totals().mean_us(),
                    reason: c.out().unwrap_or_default(),
                });
                all.collect()
            }))),
            ModuleCall::Expected => Ok(ModuleAnswer::Expected(shared.with(|plane| plane.expectations()))),
            ModuleCall::Call(order) => call(shared, &order).map(ModuleAnswer::Value),
            ModuleCall::Canary(call) => canaries::answer(shared, call, who),
            ModuleCall::Allow(name) => {
                if shared.with(|plane| plane.allow_change(&name)) {
                    shared.say(&format!("{name:.200}: its types may change, {who:.80} says"));
                    return Ok(ModuleAnswer::Done);
                }
                Err(Error::new(Code::NotFound, format!("there is no module {name:.200}"))
                    .hint("'provost module list' shows all"))
            }
            ModuleCall::Batch(_) => Err(Error::new(Code::Refused, "a batch has more than one answer")),
            ModuleCall::Drain { connection, reason, deadline } => {
                if shared.drain(&connection, &reason, deadline) {
                    return Ok(ModuleAnswer::Done);
                }
                let is_known = shared.with(|plane| plane.knows(&connection));
                let (code, why) = match is_known {
                    true => (Code::No, "is not active, and cannot be drained"),
                    false => (Code::NotFound, "is not known"),
                };
                Err(Error::new(code, format!("connection {connection:.80} {why}"))
                    .hint("'provost module connections' shows all"))
            }
        }
    }
}

/// `demo.add(a: Int, b: Int) -> Int`.
fn signature(name: &str, module: &Module) -> String {
    let parameters: Vec<_> =
        module.input.parameters().into_iter().map(|(name, of)| format!("{name}: {of}")).collect();
    format!("{name}({}) -> {}", parameters.join(", "), module.output)
}
