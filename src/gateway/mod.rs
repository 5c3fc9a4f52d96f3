//! Everything that speaks gRPC to others: a process of its own that reaches processes only through the client
//! library.
//!
//! | thread | where | owns | woken by |
//! |---|---|---|---|
//! | `provost` (gateway) | `mod.rs` | what is read from files | signals, changed files |
//! | `grpc-listener` | `listener.rs` | the listener | connections |
//! | `grpc-engine` | `behind.rs` | a connection to the engine | the engine's end |
//! | `grpc-local` | `local.rs` | the socket for this machine | connections |
//! | `grpc-conn` | `connection.rs` | one connection and its gRPC server | its two sockets |
//! | `grpc-N` | grpcio | completions of calls: begins them, never waits | the C core |
//! | `work-N` | `pool.rs` | a connection to the engine | calls that are answered at once |
//! | `call` | `calls.rs` | one call that takes long, or a stream | the engine; its client |
//!
//! It may end at any moment: it keeps nothing. The engine starts it again.

#![forbid(unsafe_code)]

#[cfg(test)]
mod access_table;
mod behind;
mod caller;
mod calls;
mod connection;
mod health;
mod listener;
mod live;
mod local;
mod log;
mod login;
mod methods;
mod pool;
mod rate_limit;
mod reflection;
mod response_stream;
mod running;
mod serving;
pub mod settings;
mod shared;
mod shares;
mod threads;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grpcio::EnvBuilder;
use parking_lot::Mutex;

use crate::access::users::Users;
use crate::access::verifier::Verifier;
use crate::gateway::live::Live;
use crate::gateway::log::{Log, Say};
use crate::gateway::pool::Pool;
use crate::gateway::rate_limit::RateLimit;
use crate::gateway::running::Running;
use crate::gateway::serving::Serving;
use crate::gateway::settings::{GatewaySettings, Limits};
use crate::gateway::shared::{Access, Gateway};
use crate::gateway::shares::{LASTING, QUICK, Shares};
use crate::gateway::threads::Threads;
use crate::sys::poll::{self, PollFd, Wait};
use crate::sys::signal::{self, SignalFd};
use crate::sys::watch::Watch;
use crate::sys::{clock, memory, socket, thread};
use crate::wire::error::Error;
use crate::wire::role::GroupRoles;

/// Threads of the C core. One keeps up with the pumps, which do the encryption; a second one would be woken
/// for nothing.
const COMPLETION_THREADS: usize = 1;
/// Files that are changed one by one are read when nothing has changed for so long, ms.
const QUIET_MS: u64 = 200;
/// How long connections that are ended at once may take for it.
const GOODBYE: Duration = Duration::from_secs(2);

/// What its first line of output begins with when it lets clients in.
pub const READY: &str = "gRPC is ready";

/// What the gateway is given.
pub struct Options {
    pub socket: PathBuf,
    /// What holds until it is told otherwise; none: it serves programs on this machine alone.
    pub settings: Option<GatewaySettings>,
    /// Reads the settings again.
    pub load: Load,
    /// Who comes in on this machine besides root and the service's own user.
    pub groups: GroupRoles,
    pub say: Say,
}

/// Reads the settings, if there are any.
pub type Load = Box<dyn Fn() -> Result<Option<GatewaySettings>, Error> + Send>;

/// Runs until a signal or an error ends it.
pub fn run(options: Options) -> Result<Infallible, Error> {
    let signals = SignalFd::new(&[signal::TERM, signal::INT, signal::HUP])
        .map_err(|e| Error::failed("receive signals", &e))?;
    let Options { socket, settings, load, groups, say } = options;
    let users = settings.as_ref().map_or_else(|| Ok(Users::default()), |settings| settings.users.load())?;
    let gateway = Arc::new(Gateway {
        limits: settings.as_ref().map_or_else(Limits::default, |settings| settings.limits),
        access: Mutex::new(settings.as_ref().map(Access::load).transpose()?.map(Arc::new)),
        verifier: Arc::new(Verifier::new(users)?),
        rate_limit: RateLimit::default(),
        live: Live::default(),
        running: Running::default(),
        env: Arc::new(EnvBuilder::new().cq_count(COMPLETION_THREADS).name_prefix("grpc").build()),
        pool: Pool::new(&socket).map_err(|e| Error::failed("start a thread", &e))?,
        threads: Threads::new(LASTING.network + LASTING.local),
        lasting: Shares::new(LASTING),
        quick: Shares::new(QUICK),
        serving: Serving::default(),
        log: Log::new(say),
        notes: Mutex::default(),
        groups,
        socket,
    });
    let mut addresses = Vec::new();
    let listener =
        settings.as_ref().map(|settings| listener::open(settings.listen)).transpose()?.map(Arc::new);
    if let Some((settings, listener)) = settings.as_ref().zip(listener.clone()) {
        let ours = Arc::clone(&gateway);
        thread::spawn("grpc-listener", move || listener::run(&ours, &listener))
            .map_err(|e| Error::failed("start a thread", &e))?;
        addresses.push(settings.listen.to_string());
    }
    addresses.extend(local::begin(&gateway, settings.is_none())?);
    behind::begin(&gateway)?;
    gateway.log.event(&format!("{READY} on {}", addresses.join(" and ")));
    memory::forget_code();
    if let Some(warning) = settings.as_ref().and_then(|settings| settings.users.warning()) {
        gateway.log.event(warning);
    }
    let paths = settings.as_ref().map_or_else(Vec::new, GatewaySettings::paths);
    let watch = watch(&paths).map_err(|e| Error::failed("watch the certificates", &e))?;
    let mut due = None;
    loop {
        let mut fds = [PollFd::readable(signals.as_fd()), PollFd::readable(watch.as_fd())];
        let woken = poll::wait(&mut fds, due).map_err(|e| Error::failed("wait", &e))?;
        if watch.drain() {
            due = Some(clock::now_ms() + QUIET_MS);
        }
        match signals.read().map_err(|e| Error::failed("receive signals", &e))? {
            Some(signal::HUP) => due = Some(0),
            Some(_) => end(&gateway, listener.as_deref()),
            None => {}
        }
        if woken == Wait::Deadline || due == Some(0) {
            due = None;
            reload(&gateway, load.as_ref());
        }
    }
}

/// Watches the directories of these files.
fn watch(paths: &[PathBuf]) -> io::Result<Watch> {
    let watch = Watch::new()?;
    let directories: BTreeSet<_> =
        paths.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
    directories.iter().try_for_each(|directory| watch.add(directory))?;
    Ok(watch)
}

/// Takes on what the files say now. What is bad leaves everything as it was, and is said.
fn reload(gateway: &Gateway, load: &dyn Fn() -> Result<Option<GatewaySettings>, Error>) {
    let loaded = load().and_then(|settings| {
        let Some(settings) = settings else { return Ok(None) };
        let access = gateway.access().map_or_else(|| Access::load(&settings), |a| a.replace_by(&settings))?;
        Ok(Some((access, settings.users.load()?)))
    });
    let (access, users) = match loaded {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return gateway.log.event("reloaded: programs on this machine need no certificates"),
        Err(e) => {
            gateway.log.event(&format!("not reloaded, going on as before: {}", e.message));
            return;
        }
    };
    let access = Arc::new(access);
    *gateway.access.lock() = Some(Arc::clone(&access));
    gateway.verifier.replace(users);
    let ended = gateway.live.close_if(|peer| !access.clients.accept(peer));
    let mut ended = match ended {
        0 => String::new(),
        count => format!("; ended {count} connections of clients that would not be let in now"),
    };
    let calls = gateway.running.judge(|names, user| gateway.rights(names, user));
    if calls > 0 {
        let _ = write!(ended, "; ended {calls} calls of users whose rights are not what they were");
    }
    gateway.log.event(&format!("reloaded certificates, users and roles{ended}"));
}

/// Lets nobody in any more, gives the calls under way their time, and goes.
fn end(gateway: &Gateway, listener: Option<&TcpListener>) -> ! {
    gateway.serving.end();
    if let Some(listener) = listener {
        socket::shutdown(listener.as_fd());
    }
    gateway.live.drain();
    if !gateway.live.until_none(gateway.limits.grace) {
        gateway.live.close();
        gateway.live.until_none(GOODBYE);
    }
    std::process::exit(0)
}
