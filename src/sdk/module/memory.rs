//! A service in memory, for tests of a provider: it registers, acknowledges, drains and calls, and there is
//! neither a socket nor a process.
//!
//! ```
//! use provost::sdk::module::definition::Module;
//! use provost::sdk::module::memory::Memory;
//! use provost::sdk::module::provider::Provider;
//! use serde_json::json;
//!
//! # fn main() -> Result<(), provost::Error> {
//! let service = Memory::default();
//! let double = Module::new("double", |n: i64| Ok(2 * n));
//! let running = Provider::new("demo").transport(service.clone()).module(double).start()?;
//! assert!(running.wait_active(std::time::Duration::from_secs(10)));
//! assert_eq!(service.call("demo.double", &json!(21)), Ok(json!(42)));
//! running.stop();
//! assert!(service.registrations().is_empty());
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::sdk::module::definition::{Call, Failure};
use crate::sdk::module::schema::Type;
use crate::sdk::module::serializer::{Serializer, TaggedJson};
use crate::sdk::module::transport::{
    Control, Declaration, Execute, Executor, FromService, Later, Registered, Registration, Service,
    ToService, Transport,
};
use crate::wire::error::{Code, Error};

/// A service, and the way to it. Clones are the same service.
#[derive(Clone)]
pub struct Memory {
    serializer: Arc<dyn Serializer>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The last number that was given away, of connections and ports.
    last: u16,
    /// By id.
    connections: BTreeMap<String, Connection>,
    /// By port.
    executors: BTreeMap<u16, Arc<dyn Execute>>,
    /// Why nothing is registered now.
    refusal: Option<String>,
    /// All that providers have said, with the ids of their connections.
    said: Vec<(String, ToService)>,
}

struct Connection {
    registration: Registration,
    stream: Arc<Mutex<Messages>>,
}

/// What a provider has not taken yet.
#[derive(Default)]
struct Messages {
    queue: VecDeque<FromService>,
    is_over: bool,
    waker: Option<Waker>,
}

impl Messages {
    fn put(&mut self, message: FromService) {
        self.queue.push_back(message);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn end(&mut self) {
        self.is_over = true;
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::with(TaggedJson)
    }
}

impl Memory {
    /// With a serializer, which has to be the provider's.
    pub fn with(serializer: impl Serializer) -> Self {
        Self { serializer: Arc::new(serializer), state: Arc::default() }
    }

    /// Has `NAMESPACE.NAME` executed by one of those that have registered it, as a service would.
    pub fn call(&self, name: &str, input: &Value) -> Result<Value, Failure> {
        let none = || Failure { code: "MODULE_NOT_FOUND", message: format!("Module not found: {name}") };
        let (module, execute) = self.find(name).ok_or_else(none)?;
        let parameters = match &module.input {
            of @ Type::Record(_) => self.serializer.write(input.clone(), of),
            of => self.serializer.write(json!({ "input": input }), &Type::Record(of.parameters())),
        };
        let given = parameters.map_err(Failure::of_input)?;
        let output = execute.execute(&module.name, &given, &Call::default())?;
        self.serializer.read(&output, &module.output).map_err(Failure::new)
    }

    fn find(&self, name: &str) -> Option<(Declaration, Arc<dyn Execute>)> {
        let state = self.state.lock();
        let (namespace, short) = name.rsplit_once('.')?;
        let registrations = state.connections.values().map(|connection| &connection.registration);
        let mut found = registrations.filter(|r| r.namespace == namespace).filter_map(|r| {
            let module = r.modules.iter().find(|module| module.name == short)?;
            let port = r.executor_url.rsplit_once(':')?.1.parse().ok()?;
            Some((module.clone(), Arc::clone(state.executors.get(&port)?)))
        });
        found.next()
    }

    /// What is registered now.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.state.lock().connections.values().map(|connection| connection.registration.clone()).collect()
    }

    /// All that providers have said on control streams until now, with the ids of their connections.
    #[must_use]
    pub fn said(&self) -> Vec<(String, ToService)> {
        self.state.lock().said.clone()
    }

    /// From here on registrations are rejected for this reason; none: they are accepted.
    pub fn refuse(&self, reason: Option<&str>) {
        self.state.lock().refusal = reason.map(str::to_owned);
    }

    /// Tells all providers that they get nothing new.
    pub fn drain(&self, reason: &str) {
        for connection in self.state.lock().connections.values() {
            connection.stream.lock().put(FromService::Drain(reason.to_owned()));
        }
    }

    /// Forgets everything and ends all streams, as a service does that ends.
    pub fn lose_all(&self) {
        for connection in std::mem::take(&mut self.state.lock().connections).into_values() {
            connection.stream.lock().end();
        }
    }
}

impl Transport for Memory {
    fn only_service(&self) -> Option<SocketAddr> {
        Some(([127, 0, 0, 1], 0).into())
    }

    fn connect(&self, _: SocketAddr) -> Result<Box<dyn Service>, String> {
        Ok(Box::new(self.clone()))
    }

    fn serve(&self, _: SocketAddr, execute: Arc<dyn Execute>) -> Result<Box<dyn Executor>, Error> {
        let mut state = self.state.lock();
        let port = state.last.checked_add(1).ok_or_else(|| Error::new(Code::Failed, "no port is left"))?;
        state.last = port;
        state.executors.insert(port, execute);
        Ok(Box::new(InMemory { port, state: Arc::clone(&self.state) }))
    }
}

impl Service for Memory {
    fn register(&self, what: &Registration, replaces: &str) -> Result<Registered, String> {
        let mut state = self.state.lock();
        let result = state.refusal.clone().map_or(Ok(()), Err);
        let results = what.modules.iter().map(|module| (module.name.clone(), result.clone())).collect();
        if result.is_err() {
            return Ok(Registered { connection_id: String::new(), success: false, results });
        }
        state.last = state.last.checked_add(1).ok_or("no id is left")?;
        let connection_id = format!("memory-{}", state.last);
        if let Some(old) = state.connections.remove(replaces) {
            old.stream.lock().end();
        }
        let connection = Connection { registration: what.clone(), stream: Arc::default() };
        state.connections.insert(connection_id.clone(), connection);
        Ok(Registered { connection_id, success: true, results })
    }

    fn deregister(&self, _: &Registration, connection_id: &str) {
        self.state.lock().connections.remove(connection_id);
    }

    fn control(&self, connection_id: &str, _: &str) -> Result<Box<dyn Control>, String> {
        let state = self.state.lock();
        let connection = state.connections.get(connection_id).ok_or("there is no such connection")?;
        let (id, stream) = (connection_id.to_owned(), Arc::clone(&connection.stream));
        drop(state);
        Ok(Box::new(Stream { id, service: self.clone(), stream }))
    }
}

struct Stream {
    id: String,
    service: Memory,
    stream: Arc<Mutex<Messages>>,
}

impl Control for Stream {
    fn send(&mut self, message: ToService) -> Later<'_, bool> {
        let is_beat = matches!(message, ToService::Heartbeat(_));
        self.service.state.lock().said.push((self.id.clone(), message));
        let mut stream = self.stream.lock();
        if is_beat {
            stream.put(FromService::HeartbeatAck);
        }
        let is_open = !stream.is_over;
        Box::pin(std::future::ready(is_open))
    }

    fn next(&mut self) -> Later<'_, Result<Option<FromService>, String>> {
        Box::pin(poll_fn(|context| {
            let mut stream = self.stream.lock();
            if let Some(message) = stream.queue.pop_front() {
                return Poll::Ready(Ok(Some(message)));
            }
            if stream.is_over {
                return Poll::Ready(Ok(None));
            }
            stream.waker = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    /// As with a service: its end is the end of the connection.
    fn close(&mut self) -> Later<'_, ()> {
        self.service.state.lock().connections.remove(&self.id);
        self.stream.lock().end();
        Box::pin(std::future::ready(()))
    }
}

struct InMemory {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Executor for InMemory {
    fn port(&self) -> u16 {
        self.port
    }

    fn stop(self: Box<Self>) {
        self.state.lock().executors.remove(&self.port);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sdk::module::canary::{Canary, Rollout};
    use crate::sdk::module::definition::Module;
    use crate::sdk::module::provider::{Provider, Running, State as Life};
    use crate::sys::clock;

    const SOON: Duration = Duration::from_secs(20);

    fn run(service: &Memory) -> Running {
        let pause = Duration::from_millis(1);
        let double = Module::new("double", |n: i64| Ok(2 * n)).version("1");
        let provider = Provider::new("demo").transport(service.clone()).module(double);
        provider.reconnect(pause, pause).start().unwrap()
    }

    fn until(what: impl Fn() -> bool) {
        let deadline_ms = clock::now_ms() + 20_000;
        while !what() {
            assert!(clock::now_ms() < deadline_ms, "in vain");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_provider_registers_is_called_and_leaves_without_a_socket() {
        let service = Memory::default();
        let running = run(&service);
        assert!(running.wait_active(SOON));
        assert_eq!(service.call("demo.double", &json!(21)), Ok(json!(42)));
        assert!(service.call("demo.double", &json!("x")).is_err_and(|e| e.code == "TYPE_ERROR"));
        assert!(service.call("demo.other", &json!(1)).is_err_and(|e| e.code == "MODULE_NOT_FOUND"));
        let all = service.registrations();
        assert_eq!((all.len(), &*all[0].namespace, &*all[0].modules[0].version), (1, "demo", "1"));
        running.stop();
        assert!(service.registrations().is_empty());
        assert!(matches!(service.said()[0], (_, ToService::Heartbeat(at)) if at > 0));
    }

    #[test]
    fn a_service_that_is_lost_or_refuses_is_tried_again() {
        let service = Memory::default();
        let running = run(&service);
        assert!(running.wait_active(SOON));
        service.refuse(Some("not now"));
        service.lose_all();
        until(|| running.status()[0].1.last_error.contains("Registration failed: double: not now"));
        service.refuse(None);
        until(|| !service.registrations().is_empty());
        assert!(running.wait_active(SOON));
        assert_eq!(service.call("demo.double", &json!(4)), Ok(json!(8)));
        running.stop();
    }

    #[test]
    fn what_is_drained_says_so_and_stays_away() {
        let service = Memory::default();
        let running = run(&service);
        assert!(running.wait_active(SOON));
        service.drain("a new version");
        until(|| running.status()[0].1.state == Life::Draining);
        let ack = ToService::DrainAck { accepted: true, in_flight: 0 };
        until(|| service.said().last().is_some_and(|(_, last)| *last == ack));
        service.lose_all();
        until(|| running.status()[0].1.state == Life::Disconnected);
        assert!(service.registrations().is_empty());
        running.stop();
    }

    #[test]
    fn a_rollout_gives_the_new_version_and_keeps_it_when_it_is_well() {
        let service = Memory::default();
        let mut running = run(&service);
        assert!(running.wait_active(SOON));
        let triple = Module::new("double", |n: i64| Ok(3 * n)).version("2");
        let canary = Canary::default().window(Duration::from_millis(10));
        assert_eq!(running.roll_out(vec![triple], canary), Ok(Rollout::Promoted));
        assert_eq!(service.call("demo.double", &json!(2)), Ok(json!(6)));
        let all = service.registrations();
        assert_eq!((all.len(), &*all[0].modules[0].version), (1, "2"));
        running.stop();
    }

    /// Values as JSON without tags.
    struct Plain;

    impl Serializer for Plain {
        fn write(&self, value: Value, _: &Type) -> Result<Vec<u8>, String> {
            Ok(value.to_string().into_bytes())
        }

        fn read(&self, bytes: &[u8], _: &Type) -> Result<Value, String> {
            serde_json::from_slice(bytes).map_err(|e| e.to_string())
        }
    }

    #[test]
    fn values_go_by_the_serializer_that_is_given() {
        let service = Memory::with(Plain);
        let double = Module::new("double", |n: i64| Ok(2 * n));
        let provider = Provider::new("demo").transport(service.clone()).serializer(Plain).module(double);
        let running = provider.start().unwrap();
        assert!(running.wait_active(SOON));
        assert_eq!(service.call("demo.double", &json!(21)), Ok(json!(42)));
        running.stop();
    }
}
