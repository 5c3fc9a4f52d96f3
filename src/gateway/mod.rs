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
//! | `password` | `access/verifier.rs` | one password that is looked at, behind all others | nobody |
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
pub mod setup;
mod shared;
mod shares;
mod threads;
mod turns;
mod unread;

use std::convert::Infallible;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::access::verifier::Verifier;
use crate::client::{Address, Client};
use crate::gateway::live::Live;
use crate::gateway::log::{Log, Say};
use crate::gateway::pool::Pool;
use crate::gateway::rate_limit::RateLimit;
use crate::gateway::running::Running;
use crate::gateway::serving::Serving;
use crate::gateway::settings::Limits;
use crate::gateway::setup::Setup;
use crate::gateway::shared::{Access, Gateway, Notes};
use crate::gateway::shares::{LASTING, QUICK, Shares};
use crate::gateway::threads::Threads;
use crate::meter::unfinished;
use crate::sys::poll::{self, PollFd, Wait};
use crate::sys::signal::{self, SignalFd};
use crate::sys::watch::Watch;
use crate::sys::{clock, confine, grpc, landlock, memory, rest, socket, thread};
use crate::wire::error::{Code, Error};

/// Threads of the C core. One keeps up with the pumps, which do the encryption; a second one would be woken
/// for nothing.
const COMPLETION_THREADS: usize = 1;
/// Files that are changed one by one are read when nothing has changed for so long, ms.
const QUIET_MS: u64 = 200;
/// Between two attempts to reload while there is no engine, ms.
const RETRY_MS: u64 = 1000;
/// How long connections that are ended at once may take for it.
const GOODBYE: Duration = Duration::from_secs(2);

/// What its first line of output begins with when it lets clients in.
pub const READY: &str = "gRPC is ready";

/// What the gateway is given.
pub struct Options {
    /// Of the engine behind it.
    pub address: Address,
    /// Where the service listens, for messages.
    pub socket: PathBuf,
    /// For whom it was started.
    pub serves: Serves,
    pub say: Say,
}

/// For whom a gateway is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Others, over the network.
    Network,
    /// Programs on this machine alone.
    ThisMachine,
}

/// Runs until a signal or an error ends it.
pub fn run(options: Options) -> Result<Infallible, Error> {
    let signals = SignalFd::new(&[signal::TERM, signal::INT, signal::HUP])
        .map_err(|e| Error::failed("receive signals", &e))?;
    let Options { address, socket, serves, say } = options;
    // Before there is another thread, which would keep what this one gives up.
    confine::drop_capabilities()
        .and_then(|()| landlock::open_nothing())
        .map_err(|e| Error::failed("give up what it does not need", &e))?;
    let mut engine = Client::connect_to(&address)?;
    let Setup { mut network, service_uid, groups } = setup(&mut engine, true)?;
    if serves == Serves::Network && network.is_none() {
        // A file that is just being written may be empty: the next attempt sees what has become of it.
        return Err(Error::usage("the configuration has no [grpc] at the moment"));
    }
    let users = network.as_mut().map(|network| std::mem::take(&mut network.users)).unwrap_or_default();
    let limits = network.as_ref().map_or_else(Limits::default, |network| network.limits);
    let message_len_max = limits.message_size as u64;
    let gateway = Arc::new(Gateway {
        limits,
        access: Mutex::new(network.as_ref().map(Access::of).transpose()?.map(Arc::new)),
        verifier: Arc::new(Verifier::new(users)?),
        rate_limit: RateLimit::default(),
        live: Live::default(),
        running: Running::default(),
        env: Arc::new(grpc::environment(COMPLETION_THREADS).build()),
        rested: Mutex::default(),
        unfinished: unfinished::budget(message_len_max),
        unread: unread::budget(message_len_max),
        pool: Pool::new(&address).map_err(|e| Error::failed("start a thread", &e))?,
        threads: Threads::new(LASTING.network + LASTING.local),
        lasting: Shares::new(LASTING),
        quick: Shares::new(QUICK),
        serving: Serving::default(),
        log: Log::new(say),
        notes: Notes::default(),
        groups,
        service_uid,
        address,
    });
    let mut addresses = Vec::new();
    let listener = network.as_mut().and_then(|network| network.listener.take()).map(Arc::new);
    if let Some((network, listener)) = network.as_ref().zip(listener.clone()) {
        let ours = Arc::clone(&gateway);
        thread::spawn("grpc-listener", move || listener::run(&ours, &listener))
            .map_err(|e| Error::failed("start a thread", &e))?;
        addresses.push(network.listen.to_string());
    }
    addresses.extend(local::begin(&gateway, &socket, network.is_none())?);
    behind::begin(&gateway, engine)?;
    gateway.log.event(&format!("{READY} on {}", addresses.join(" and ")));
    memory::forget_code();
    rest::begin().map_err(|e| Error::failed("start a thread", &e))?;
    if network.as_ref().is_some_and(|network| network.is_demo) {
        gateway.log.event("the users are those of a demonstration: everybody knows their passwords");
    }
    let listen = network.as_ref().map(|network| network.listen);
    let mut watch = network.map(|network| network.watch);
    let mut due = None;
    loop {
        let changes = PollFd::maybe(watch.as_ref().map(AsFd::as_fd), PollFd::readable);
        let mut fds = [PollFd::readable(signals.as_fd()), changes];
        let woken = poll::wait(&mut fds, due).map_err(|e| Error::failed("wait", &e))?;
        if watch.as_ref().is_some_and(Watch::drain) {
            due = Some(clock::now_ms() + QUIET_MS);
        }
        match signals.read().map_err(|e| Error::failed("receive signals", &e))? {
            Some(signal::HUP) => due = Some(0),
            Some(_) => end(&gateway, listener.as_deref()),
            None => {}
        }
        if woken == Wait::Deadline || due == Some(0) {
            // Where the directories are others by now, they are watched.
            (watch, due) = match reload(&gateway, listen) {
                Ok(now) => (now.or(watch), None),
                // What has changed is not forgotten because there is no engine for a moment.
                Err(code) => (watch, (code == Code::Unreachable).then(|| clock::now_ms() + RETRY_MS)),
            };
        }
    }
}

/// What the engine gives now. `listens`: with the listening socket.
fn setup(engine: &mut Client, listens: bool) -> Result<Setup, Error> {
    setup::take(engine.gateway_setup(listens)?)
}

/// Takes on what the files say now, and returns the watch of them. What is bad leaves everything as it was,
/// and is said; so does what needs another listener, which only another gateway has.
fn reload(gateway: &Gateway, listen: Option<SocketAddr>) -> Result<Option<Watch>, Code> {
    let now = Client::connect_to(&gateway.address).and_then(|mut engine| setup(&mut engine, false));
    let loaded = now.and_then(|Setup { network, .. }| {
        if network.as_ref().map(|network| network.listen) != listen {
            let e = Error::usage("'listen' of [grpc] is not what it was");
            return Err(e.hint("'provost reload' has another gateway listen there"));
        }
        let Some(network) = network else { return Ok(None) };
        let access = gateway.access().map_or_else(|| Access::of(&network), |a| a.replace_by(&network))?;
        Ok(Some((access, network)))
    });
    let (access, network) = match loaded {
        Ok(Some(loaded)) => loaded,
        Ok(None) => {
            gateway.log.event("reloaded: programs on this machine need no certificates");
            return Ok(None);
        }
        Err(e) => {
            gateway.log.event(&format!("not reloaded, going on as before: {}", e.message));
            return Err(e.code);
        }
    };
    let access = Arc::new(access);
    *gateway.access.lock() = Some(Arc::clone(&access));
    gateway.verifier.replace(network.users);
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
    Ok(Some(network.watch))
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
