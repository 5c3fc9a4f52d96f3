//! The host: the process that holds providers. It listens for frames beside the engine's socket, with the
//! same listener, and reaches processes through the client library like any other client.
//!
//! | thread | owns | woken by |
//! |---|---|---|
//! | `provost` (host) | nothing | signals |
//! | `listener`, `conn-N` | see `listener/mod.rs` | clients |
//! | `events` | what is told to the engine of providers | calls and checks |
//! | `exits` | how far it has read the service's events | processes that end |
//! | `refresh` | when providers are discovered again | changes in the directory of plugins; the time |
//! | `health`, `check` | who is to be checked when; some checks of a round | the time; those providers |
//! | `grpc-linger` | the C core's threads between two probes by gRPC | the time |
//! | `handshake`, `provider` | one start; one provider in a recovery or a shutdown | that provider |
//!
//! A question is answered on the thread of its connection. The host may end at any moment: the engine starts
//! it again, and what it has to know of running providers is in notes (`provider/notes.rs`).

#![forbid(unsafe_code)]

mod probe;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::access::policy::allow;
use crate::client::{Client, host_socket};
use crate::listener::{self, Caller, Closed, Limits, Replies, Service, Ways};
use crate::module::settings::ModuleSettings;
use crate::module::{Modules, Outcome};
use crate::provider::{Notes, Providers};
use crate::registry::Registry;
use crate::registry::discovery::Sources;
use crate::registry::records::result;
use crate::registry::settings::RegistrySettings;
use crate::sys::poll::{self, PollFd};
use crate::sys::signal::{self, SignalFd};
use crate::sys::{rest, thread};
use crate::wire::envelope::Envelope;
use crate::wire::error::{Code, Error};
use crate::wire::module::{ModuleAnswer, ModuleCall};
use crate::wire::provider::{Definition, HOST, ProviderName};
use crate::wire::reply::{More, Reply};
use crate::wire::request::{Request, Until, Wait};
use crate::wire::role::{GroupRoles, Role};

/// What its line of output begins with when clients can come in.
pub const READY: &str = "the host of providers is ready";

/// How long the engine may take to know that this process runs.
const KNOWN_MAX: Duration = Duration::from_secs(10);
/// The most entries of the registry in one reply: with all the labels that they may have they fit.
const ENTRIES_MAX: usize = 100;

/// What the host is given.
pub struct Options {
    /// Of the service.
    pub socket: PathBuf,
    /// Where binaries of providers are executed from.
    pub directories: Vec<PathBuf>,
    /// Providers that are known from the start.
    pub definitions: Vec<(ProviderName, Definition)>,
    /// What is noted about them.
    pub labels: BTreeMap<ProviderName, Vec<(String, String)>>,
    /// Those of them that run from the start.
    pub from_start: Vec<ProviderName>,
    /// Where modules are registered, and how.
    pub modules: ModuleSettings,
    /// How entries of the registry are kept.
    pub registry: RegistrySettings,
    /// Who comes in besides root and the service's own user.
    pub groups: GroupRoles,
    /// Where they are discovered.
    pub sources: Sources,
    /// Says a line for the service's log.
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
}

struct Host {
    registry: Arc<Registry>,
    modules: Arc<Modules>,
}

/// Runs until a signal or an error ends it. Providers are left alone then, unless the service ends, too: the
/// next host finds them.
pub fn run(options: Options) -> Result<Infallible, Error> {
    let Options { socket, directories, definitions, labels, from_start, .. } = options;
    let Options { modules, registry, sources, groups, say, .. } = options;
    let signals =
        SignalFd::new(&[signal::TERM, signal::INT]).map_err(|e| Error::failed("receive signals", &e))?;
    let ours = host_socket(&socket);
    let notes = Notes::open(&ours.with_extension("notes"))?;
    let entries = Notes::open(&ours.with_extension("registry"))?;
    let providers = Providers::new(socket.clone(), directories, notes);
    let registry = Registry::new(socket.clone(), providers, entries, registry, Arc::clone(&say))?;
    let registry = Arc::new(registry);
    registry.watch(socket.clone())?;
    let (events, noted) = (Arc::clone(&registry), ours.with_extension("modules"));
    let tell = Arc::new(move |kind, cause: &str, detail: &str| events.tell_of_modules(kind, cause, detail));
    let (modules, address) = Modules::start(modules, &noted, Arc::clone(&say), tell)?;
    let modules = Arc::new(modules);
    registry.use_modules(&modules);
    if let Some(address) = address {
        say(&format!("modules are registered on {address}"));
    }
    let host = Arc::new(Host { registry: Arc::clone(&registry), modules });
    // Only the host may give the names of providers, and has entries kept: by its pid, which the engine knows
    // once it runs.
    if let Ok(mut engine) = Client::connect(&socket) {
        let wait = Wait { targets: vec![HOST.to_owned()], until: Until::Running, timeout: Some(KNOWN_MAX) };
        let _ = engine.wait(wait);
    }
    host.registry.recover(definitions).iter().for_each(|line| say(line));
    registry.label(&labels);
    registry.run_from_the_start(from_start.clone())?;
    registry.discover_from(sources, &from_start)?;
    let mode = if groups.is_empty() { 0o600 } else { 0o666 };
    let listener =
        open(&ours, mode).map_err(|e| Error::failed(&format!("listen on {}", ours.display()), &e))?;
    let service: Arc<dyn Service> = host;
    rest::begin().map_err(|e| Error::failed("start a thread", &e))?;
    let said = Arc::clone(&say);
    thread::spawn("listener", move || {
        let ready = || said(&format!("{READY} on {}", ours.display()));
        let error = listener::run(
            Ways { listener: &listener, gateway: None },
            &service,
            Limits::default(),
            &groups,
            ready,
        );
        // The next host opens it again.
        panic!("the listener cannot be kept: {error}");
    })
    .map_err(|e| Error::failed("start a thread", &e))?;
    loop {
        poll::wait(&mut [PollFd::readable(signals.as_fd())], None).map_err(|e| Error::failed("wait", &e))?;
        if signals.read().map_err(|e| Error::failed("receive signals", &e))?.is_some() {
            let service = Client::connect(&socket).and_then(|mut engine| engine.service());
            if service.is_ok_and(|service| service.is_stopping) {
                registry.end();
            }
            std::process::exit(0);
        }
    }
}

/// The engine runs one host at a time, so what is at this path was left by an earlier one.
fn open(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

impl Service for Host {
    fn call(&self, envelope: Envelope, caller: &Caller, replies: &mut Replies<'_>) -> Result<(), Closed> {
        let who = who(&envelope, caller);
        if let Err(e) = self.admit(&envelope, caller) {
            return replies.send(&Reply::Error(e), More::Last);
        }
        // A call may last longer than a client waits to be greeted.
        replies.flush()?;
        let reply = match &envelope.request {
            Request::Provider(call) => {
                let result = self.registry.answer_provider(call.clone(), &who);
                self.record(&envelope, &who, result.as_ref().err());
                result.map_or_else(Reply::Error, Reply::Provider)
            }
            Request::Registry(call) => {
                let result = self.registry.answer(call.clone(), &who);
                if !call.has_its_own_line() {
                    self.record(&envelope, &who, result.as_ref().err());
                }
                match result.map(|answer| answer.in_parts(ENTRIES_MAX)) {
                    Err(e) => Reply::Error(e),
                    Ok(mut parts) => {
                        let last = parts.pop().unwrap_or_default();
                        for part in parts {
                            replies.send(&Reply::Registry(part), More::Follows)?;
                        }
                        Reply::Registry(last)
                    }
                }
            }
            Request::Module(ModuleCall::Batch(batch)) => {
                // Where no call passes, none of it is tried. Each input is a call of its own then.
                if let Err(e) = self.registry.permit_module(&batch.order.name) {
                    return replies.send(&Reply::Error(e), More::Last);
                }
                let (registry, name) = (Arc::clone(&self.registry), batch.order.name.clone());
                let guard =
                    Arc::new(move |call: &dyn Fn() -> Outcome| registry.call_module(&name, &who, call));
                let outcome = |outcome| {
                    replies.send(&Reply::Module(ModuleAnswer::Outcome(outcome)), More::Follows)?;
                    replies.flush()
                };
                let ended = self.modules.batch(batch.clone(), guard, outcome);
                match ended {
                    Ok(ended) => ended.map(|()| Reply::Module(ModuleAnswer::Done))?,
                    Err(e) => Reply::Error(e),
                }
            }
            Request::Module(ModuleCall::Call(order)) => {
                let call = || self.modules.answer(ModuleCall::Call(order.clone()), &who);
                self.registry.call_module(&order.name, &who, call).map_or_else(Reply::Error, Reply::Module)
            }
            Request::Module(call) => {
                let result = self.modules.answer(call.clone(), &who);
                self.record(&envelope, &who, result.as_ref().err());
                result.map_or_else(Reply::Error, Reply::Module)
            }
            Request::GrpcProbe(probe) => probe::check(probe).map_or_else(Reply::Error, |()| Reply::Done),
            _ => Reply::Error(
                Error::new(Code::Refused, "the host answers only about providers and modules")
                    .hint("the engine's socket is beside this one"),
            ),
        };
        replies.send(&reply, More::Last)
    }
}

impl Host {
    /// Refuses what the caller's role is not enough for, and puts that on record.
    fn admit(&self, envelope: &Envelope, caller: &Caller) -> Result<(), Error> {
        if caller.role != Role::Admin && envelope.on_behalf_of.is_some() {
            let e = format!("user {} may not speak for others", caller.uid);
            return Err(Error::new(Code::Refused, e));
        }
        let asked = envelope.on_behalf_of.as_ref().map_or(caller.role, |behalf| behalf.role.min(caller.role));
        allow(asked, &envelope.request).inspect_err(|e| {
            let what = envelope.request.on_record().unwrap_or_else(|| e.message.clone());
            let records = self.registry.records();
            records.note(&who(envelope, caller), &what, &format!("refused: {}", e.message));
        })
    }

    /// Puts a change into the audit, which the engine keeps.
    fn record(&self, envelope: &Envelope, who: &str, error: Option<&Error>) {
        let Some(what) = envelope.request.change() else { return };
        self.registry.records().note(who, &what, &result(error));
    }
}

/// The caller, or the user that it speaks for.
fn who(envelope: &Envelope, caller: &Caller) -> String {
    match &envelope.on_behalf_of {
        Some(behalf) => behalf.who.clone(),
        None => format!("uid {} pid {}", caller.uid, caller.pid),
    }
}
