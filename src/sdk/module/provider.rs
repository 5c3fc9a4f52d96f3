//! A provider of modules: what it registers, and where. [`Provider::start`] runs it beside what the program
//! does, [`Provider::serve`] until a signal comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sdk::module::canary::{self, Canary, Fleet, Rollout};
use crate::sdk::module::connection::{Common, Connection};
use crate::sdk::module::counts::Counts;
use crate::sdk::module::definition::Module;
use crate::sdk::module::executor::{Executor, Parts};
use crate::sdk::module::grpc::Grpc;
use crate::sdk::module::record::Record;
use crate::sdk::module::serializer::{Serializer, TaggedJson};
use crate::sdk::module::stop::Stop;
use crate::sdk::module::transport::{Declaration, Registration, Transport};
use crate::sys::poll::{self, PollFd};
use crate::sys::signal::{self, SignalFd};
use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::time::millis;

pub use crate::sdk::module::connection::{State, Status};

/// The most services of one provider.
const INSTANCES_MAX: usize = 64;
/// Of a service, where none is given.
const PORT_DEFAULT: u16 = 9090;
/// How long a service may take to know another version.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be provided, and how. Methods change it; nothing happens before it is started.
#[derive(Clone)]
#[must_use]
pub struct Provider {
    namespace: String,
    group: String,
    modules: Vec<Module>,
    instances: Vec<String>,
    executor_host: String,
    executor: SocketAddr,
    heartbeat: Duration,
    heartbeat_limit: Duration,
    pause: Duration,
    pause_max: Duration,
    attempts: Option<u32>,
    transport: Arc<dyn Transport>,
    serializer: Arc<dyn Serializer>,
}

impl Provider {
    /// For the namespace, with an executor at a free port of this machine.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            group: String::new(),
            modules: Vec::new(),
            instances: Vec::new(),
            executor_host: "localhost".to_owned(),
            executor: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            heartbeat: Duration::from_secs(5),
            heartbeat_limit: Duration::from_secs(15),
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(3),
            attempts: None,
            transport: Arc::new(Grpc),
            serializer: Arc::new(TaggedJson),
        }
    }

    /// Shares the namespace with others of this group. Without it the provider is alone there.
    pub fn group(self, group: &str) -> Self {
        Self { group: group.to_owned(), ..self }
    }

    pub fn module(mut self, module: Module) -> Self {
        self.modules.push(module);
        self
    }

    /// A service to register with, as HOST:PORT, or HOST with port 9090; every address that the name has when
    /// the provider starts, of version 4 and 6. Can be given again.
    pub fn instance(mut self, address: &str) -> Self {
        self.instances.push(address.to_owned());
        self
    }

    /// Where modules are executed (127.0.0.1, any free port), and the host by which services reach it
    /// ("localhost"). The port that they are given is the one that was bound.
    pub fn executor(self, listen: SocketAddr, host: &str) -> Self {
        Self { executor: listen, executor_host: host.to_owned(), ..self }
    }

    /// How often it beats (5 s), and for how long a service waits for that (15 s): at least three times as
    /// long. A service that acknowledges none for that long is lost.
    pub fn heartbeat(self, every: Duration, limit: Duration) -> Self {
        Self { heartbeat: every, heartbeat_limit: limit, ..self }
    }

    /// The first pause before a lost service is tried again (500 ms), and the longest (3 s): it doubles,
    /// and is tried for ever.
    pub fn reconnect(self, first: Duration, longest: Duration) -> Self {
        Self { pause: first, pause_max: longest, ..self }
    }

    /// A service that could not be registered with so many times in a row is given up.
    pub fn attempts(self, most: u32) -> Self {
        Self { attempts: Some(most), ..self }
    }

    /// Another way to services than gRPC, as [`Memory`](crate::sdk::module::memory::Memory) for tests.
    pub fn transport(self, transport: impl Transport) -> Self {
        Self { transport: Arc::new(transport), ..self }
    }

    /// How values are written, if not as services do.
    pub fn serializer(self, serializer: impl Serializer) -> Self {
        Self { serializer: Arc::new(serializer), ..self }
    }

    /// Starts the executor and a thread for each service. Services that cannot be reached are tried again and
    /// again.
    pub fn start(self) -> Result<Running, Error> {
        let addresses = self.check()?;
        let declared = self.modules.iter().map(declaration).collect::<Result<_, _>>()?;
        let (transport, serializer) = (Arc::clone(&self.transport), self.serializer);
        let parts = Parts { transport, serializer, calls: Arc::default() };
        let executor = Executor::start(self.executor, self.modules, &parts)?;
        let offer = Arc::new(Registration {
            namespace: self.namespace,
            group: self.group,
            executor_url: format!("{}:{}", self.executor_host, executor.port),
            modules: declared,
        });
        let common = Arc::new(Common {
            heartbeat: self.heartbeat,
            silence: self.heartbeat_limit,
            pause: self.pause,
            pause_max: self.pause_max,
            attempts: self.attempts,
            transport: self.transport,
            calls: Arc::clone(&parts.calls),
            stop: Stop::default(),
        });
        let (mut connections, mut threads) = (Vec::new(), Vec::new());
        for address in addresses {
            let connection = Arc::new(Connection::new(address, Arc::clone(&offer)));
            let (ours, theirs) = (Arc::clone(&connection), Arc::clone(&common));
            let started = thread::spawn("module-conn", move || ours.run(&theirs));
            threads.push(started.map_err(|e| {
                common.stop.set();
                Error::failed("start a thread", &e)
            })?);
            connections.push(connection);
        }
        let (host, address) = (self.executor_host, SocketAddr::new(self.executor.ip(), 0));
        Ok(Running { common, connections, threads, executors: vec![executor], parts, host, address })
    }

    /// Starts it, and stops it at SIGTERM or SIGINT. Call it from `main`, before other threads are started,
    /// so that signals come here.
    pub fn serve(self) -> Result<(), Error> {
        let signals =
            SignalFd::new(&[signal::TERM, signal::INT]).map_err(|e| Error::failed("receive signals", &e))?;
        let running = self.start()?;
        loop {
            poll::wait(&mut [PollFd::readable(signals.as_fd())], None)
                .map_err(|e| Error::failed("wait", &e))?;
            if signals.read().map_err(|e| Error::failed("receive signals", &e))?.is_some() {
                running.stop();
                return Ok(());
            }
        }
    }

    /// What is wrong is said before anything is started; else the addresses of the services.
    fn check(&self) -> Result<Vec<SocketAddr>, Error> {
        if self.heartbeat * 3 > self.heartbeat_limit {
            return Err(Error::usage(format!(
                "a heartbeat every {:?} is too seldom: services wait {:?}, three should fit into that",
                self.heartbeat, self.heartbeat_limit
            )));
        }
        check_modules(&self.modules)?;
        let mut addresses = Vec::new();
        for instance in &self.instances {
            let found = with_port(instance)
                .to_socket_addrs()
                .map_err(|e| Error::failed(&format!("find the service {instance}"), &e))?;
            addresses.extend(found.filter(|address| !addresses.contains(address)).collect::<Vec<_>>());
        }
        if self.instances.is_empty() {
            addresses.extend(self.transport.only_service());
        }
        if addresses.is_empty() || addresses.len() > INSTANCES_MAX {
            let count = addresses.len();
            return Err(Error::usage(format!(
                "the provider has {count} services, and 1 to {INSTANCES_MAX} fit"
            )));
        }
        Ok(addresses)
    }
}

/// With the port of the protocol, if there is none.
fn with_port(instance: &str) -> String {
    let has_port = instance.rsplit_once(':').is_some_and(|(host, port)| {
        port.bytes().all(|c| c.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
    });
    match instance.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, PORT_DEFAULT).to_string(),
        Err(_) if has_port => instance.to_owned(),
        Err(_) => format!("{instance}:{PORT_DEFAULT}"),
    }
}

fn check_modules(modules: &[Module]) -> Result<(), Error> {
    if modules.is_empty() {
        return Err(Error::usage("the provider has no modules"));
    }
    if let Some(twice) = modules.iter().enumerate().find_map(|(n, module)| {
        modules[..n].iter().any(|other| other.name == module.name).then_some(&module.name)
    }) {
        return Err(Error::usage(format!("there are two modules called {twice}")));
    }
    Ok(())
}

fn declaration(module: &Module) -> Result<Declaration, Error> {
    let (input, output) = module.types.clone().map_err(Error::usage)?;
    Ok(Declaration {
        name: module.name.clone(),
        input,
        output,
        version: module.version.clone(),
        description: module.description.clone(),
    })
}

/// A provider that runs, until it is stopped.
pub struct Running {
    common: Arc<Common>,
    connections: Vec<Arc<Connection>>,
    threads: Vec<JoinHandle<()>>,
    /// The last one has the latest version. Others are there while a service has an earlier one.
    executors: Vec<Executor>,
    parts: Parts,
    /// By which services reach them.
    host: String,
    /// Of those to come: any free port of the same.
    address: SocketAddr,
}

impl Running {
    /// Where it executes the latest version.
    #[must_use]
    pub fn executor_port(&self) -> u16 {
        self.executors.last().map_or(0, |executor| executor.port)
    }

    /// Gives these modules to one service after the other in the place of those that it has, and watches how
    /// calls go there, which takes a window for each. They have an executor of their own, at another port.
    /// What an error says was found before anything was changed.
    pub fn roll_out(&mut self, modules: Vec<Module>, canary: Canary) -> Result<Rollout, Error> {
        let limits = canary.limits()?;
        check_modules(&modules)?;
        let declared = modules.iter().map(declaration).collect::<Result<_, _>>()?;
        let executor = Executor::start(self.address, modules, &self.parts)?;
        let old: Vec<_> = self.connections.iter().map(|connection| connection.offered()).collect();
        let like = old.first().map(|offer| (**offer).clone()).unwrap_or_default();
        let new = Arc::new(Registration {
            modules: declared,
            executor_url: format!("{}:{}", self.host, executor.port),
            ..like
        });
        let mut services = Services {
            connections: &self.connections,
            old,
            new,
            record: executor.record(),
            latency: limits.latency,
        };
        let rollout = canary::roll_out(&mut services, &canary, &limits);
        match &rollout {
            Rollout::Promoted => {
                let before = std::mem::replace(&mut self.executors, vec![executor]);
                before.into_iter().for_each(Executor::stop);
            }
            Rollout::PartialFailure { promoted, .. } if !promoted.is_empty() => self.executors.push(executor),
            Rollout::RolledBack { .. } | Rollout::PartialFailure { .. } => executor.stop(),
        }
        Ok(rollout)
    }

    /// How each of its connections is.
    #[must_use]
    pub fn status(&self) -> Vec<(SocketAddr, Status)> {
        self.connections.iter().map(|connection| (connection.address, connection.status())).collect()
    }

    /// Waits until all connections are active; whether they are.
    #[must_use]
    pub fn wait_active(&self, timeout: Duration) -> bool {
        let deadline_ms = clock::now_ms() + millis(timeout);
        self.connections.iter().all(|connection| connection.wait_for(State::Active, deadline_ms))
    }

    /// Takes its modules back and ends. Calls that are under way have two seconds.
    pub fn stop(self) {
        self.common.stop.set();
        self.threads.into_iter().for_each(|thread| _ = thread.join());
        self.executors.into_iter().for_each(Executor::stop);
    }
}

/// The services of a provider in a rollout.
struct Services<'r> {
    connections: &'r [Arc<Connection>],
    /// What each had before.
    old: Vec<Arc<Registration>>,
    new: Arc<Registration>,
    record: Arc<Record>,
    latency: Duration,
}

impl Fleet for Services<'_> {
    fn services(&self) -> Vec<SocketAddr> {
        self.connections.iter().map(|connection| connection.address).collect()
    }

    fn upgrade(&mut self, n: usize) -> Result<(), String> {
        // Who is not well before is not asked.
        self.fault(n).map_or(Ok(()), Err)?;
        let number = self.connections[n].exchange(Arc::clone(&self.new));
        self.connections[n].wait_exchanged(number, clock::now_ms() + millis(EXCHANGE_TIMEOUT))
    }

    fn restore(&mut self, n: usize) {
        let number = self.connections[n].exchange(Arc::clone(&self.old[n]));
        // A service that is lost gets it when it is back.
        let _ = self.connections[n].wait_exchanged(number, clock::now_ms() + millis(EXCHANGE_TIMEOUT));
    }

    fn fault(&self, n: usize) -> Option<String> {
        let status = self.connections[n].status();
        let why = || format!("it is {:?}: {}", status.state, status.last_error);
        (status.state != State::Active).then(why)
    }

    fn begin(&mut self) {
        self.record.watch(self.latency);
    }

    fn counts(&self) -> Counts {
        self.record.counts()
    }

    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }

    fn wait(&mut self, until_ms: u64) {
        self.record.wait(until_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        Provider::new("demo").module(Module::new("one", |()| Ok(1i64))).instance("127.0.0.1:1")
    }

    #[test]
    fn what_is_wrong_is_said_at_the_start() {
        let seldom = provider().heartbeat(Duration::from_secs(6), Duration::from_secs(15));
        let none = Provider::new("demo").instance("127.0.0.1:1");
        let twice = provider().module(Module::new("one", |()| Ok(2i64)));
        let nowhere = Provider::new("demo").module(Module::new("one", |()| Ok(1i64)));
        let untyped = provider().module(Module::new("two", |_: (i64, i64)| Ok(1i64)));
        for (provider, why) in [
            (seldom, "too seldom"),
            (none, "no modules"),
            (twice, "two modules called one"),
            (nowhere, "0 services"),
            (untyped, "the input of two: a tuple has no type"),
        ] {
            let e = provider.start().map(drop).unwrap_err();
            assert!(e.message.contains(why), "{why}: {e:?}");
        }
    }

    #[test]
    fn a_service_without_a_port_has_that_of_the_protocol() {
        for (given, read) in [
            ("host", "host:9090"),
            ("host:1", "host:1"),
            ("10.0.0.1", "10.0.0.1:9090"),
            ("[::1]", "[::1]:9090"),
            ("::1", "[::1]:9090"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(with_port(given), read);
        }
    }

    #[test]
    fn a_service_is_given_up_after_so_many_attempts_if_that_is_wanted() {
        let pause = Duration::from_millis(1);
        let running = provider().reconnect(pause, pause).attempts(3).start().unwrap();
        let connection = Arc::clone(&running.connections[0]);
        running.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let status = connection.status();
        assert_eq!(status.state, State::Disconnected);
        assert!(status.last_error.starts_with("given up after 3 attempts: cannot connect"), "{status:?}");
    }

    #[test]
    fn a_service_that_is_not_there_is_tried_again_until_the_provider_stops() {
        let pause = Duration::from_millis(1);
        let running = provider().reconnect(pause, pause).start().unwrap();
        let connection = Arc::clone(&running.connections[0]);
        assert!(connection.wait_for(State::Reconnecting, clock::now_ms() + 20_000));
        assert!(connection.status().last_error.contains("cannot connect"), "{:?}", connection.status());
        running.stop();
        assert_eq!(connection.status().state, State::Disconnected);
    }
}
