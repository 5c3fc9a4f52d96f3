//! A provider of modules: what it registers, and where. [`Provider::start`] runs it beside what the program
//! does, [`Provider::serve`] until a signal comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::rpc::services::constellation as proto;
use crate::sdk::module::canary::{self, Canary, Fleet, Rollout};
use crate::sdk::module::connection::{Common, Connection};
use crate::sdk::module::counts::Counts;
use crate::sdk::module::definition::Module;
use crate::sdk::module::executor::Executor;
use crate::sdk::module::protocol::PROTOCOL_VERSION;
use crate::sdk::module::record::Record;
use crate::sdk::module::stop::Stop;
use crate::sys::poll::{self, PollFd};
use crate::sys::signal::{self, SignalFd};
use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::time::millis;

pub use crate::sdk::module::connection::{State, Status};

/// The most services of one provider.
const INSTANCES_MAX: usize = 64;
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

    /// A service to register with, as HOST:PORT; every address that the name has when the provider starts.
    /// Can be given again.
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

    /// Starts the executor and a thread for each service. Services that cannot be reached are tried again and
    /// again.
    pub fn start(self) -> Result<Running, Error> {
        let addresses = self.check()?;
        let declared = self.modules.iter().map(declaration).collect::<Result<_, _>>()?;
        let calls = Arc::default();
        let executor = Executor::start(self.executor, Arc::new(self.modules), &calls)?;
        let request = Arc::new(proto::RegisterRequest {
            namespace: self.namespace,
            modules: declared,
            protocol_version: PROTOCOL_VERSION,
            executor_url: format!("{}:{}", self.executor_host, executor.port),
            group_id: self.group,
        });
        let common = Arc::new(Common {
            heartbeat: self.heartbeat,
            silence: self.heartbeat_limit,
            pause: self.pause,
            pause_max: self.pause_max,
            calls,
            stop: Stop::default(),
        });
        let (mut connections, mut threads) = (Vec::new(), Vec::new());
        for address in addresses {
            let connection = Arc::new(Connection::new(address, Arc::clone(&request)));
            let (ours, theirs) = (Arc::clone(&connection), Arc::clone(&common));
            let started = thread::spawn("module-conn", move || ours.run(&theirs));
            threads.push(started.map_err(|e| {
                common.stop.set();
                Error::failed("start a thread", &e)
            })?);
            connections.push(connection);
        }
        let (host, address) = (self.executor_host, SocketAddr::new(self.executor.ip(), 0));
        Ok(Running { common, connections, threads, executors: vec![executor], host, address })
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
            let found = instance
                .to_socket_addrs()
                .map_err(|e| Error::failed(&format!("find the service {instance}"), &e))?;
            addresses.extend(found.filter(|address| !addresses.contains(address)).collect::<Vec<_>>());
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

fn declaration(module: &Module) -> Result<proto::ModuleDeclaration, Error> {
    let (input, output) = module.types.as_ref().map_err(|why| Error::usage(why.clone()))?;
    Ok(proto::ModuleDeclaration {
        name: module.name.clone(),
        input_schema: Some(input.to_wire()),
        output_schema: Some(output.to_wire()),
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
        let executor = Executor::start(self.address, Arc::new(modules), &self.common.calls)?;
        let old: Vec<_> = self.connections.iter().map(|connection| connection.request()).collect();
        let like = old.first().map(|request| (**request).clone()).unwrap_or_default();
        let new = Arc::new(proto::RegisterRequest {
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
    old: Vec<Arc<proto::RegisterRequest>>,
    new: Arc<proto::RegisterRequest>,
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
