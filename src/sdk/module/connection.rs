//! The connection to one running service, on a thread of its own: registers, shows with heartbeats that the
//! provider lives, and begins again when the service is lost, for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::{SinkExt, TryStreamExt};
use grpcio::{
    CallOption, ClientDuplexReceiver, ClientDuplexSender, ClientUnaryReceiver, MetadataBuilder, WriteFlags,
};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::rpc::block;
use crate::rpc::client_threads::environment;
use crate::rpc::local_channel::LocalChannel;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::ModuleProviderClient;
use crate::rpc::services::constellation::control_message::Payload;
use crate::sdk::module::protocol::{MESSAGE_LEN_MAX, PROTOCOL_VERSION, REPLACES};
use crate::sdk::module::stop::Stop;
use crate::sys::clock;
use crate::wire::time::{Timestamp, millis};

/// How long connecting, and a call that registers or deregisters, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses are longer or shorter by up to this part of them, so that many providers do not come at one moment.
const JITTER_PART: u64 = 5;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has ended, or was drained.
    Disconnected,
    Registering,
    /// The service has acknowledged a heartbeat.
    Active,
    /// The service gives it nothing new.
    Draining,
    /// The service was lost, or has not accepted the registration: it is tried again.
    Reconnecting,
}

/// How a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Given by the service; empty: it was not reached yet.
    pub connection_id: String,
    /// Why it is not active, or was not the last time.
    pub last_error: String,
}

/// What all connections of a provider have in common.
pub(in crate::sdk::module) struct Common {
    pub request: proto::RegisterRequest,
    pub heartbeat: Duration,
    /// For so long the service may leave heartbeats without an acknowledgement.
    pub silence: Duration,
    pub pause: Duration,
    pub pause_max: Duration,
    /// Calls that are under way.
    pub calls: Arc<AtomicUsize>,
    pub stop: Stop,
}

/// One connection, shared with whoever looks at it.
pub(in crate::sdk::module) struct Connection {
    pub address: SocketAddr,
    status: Mutex<Status>,
    changed: Condvar,
}

/// Why a session with the service has ended.
enum Ended {
    /// We were asked to.
    Stopped,
    /// The service has drained us.
    Drained,
    /// Why; how long it was good for does not matter once it was.
    Lost { why: String, was_active: bool },
}

impl Connection {
    pub fn new(address: SocketAddr) -> Self {
        let status =
            Status { state: State::Disconnected, connection_id: String::new(), last_error: String::new() };
        Self { address, status: Mutex::new(status), changed: Condvar::new() }
    }

    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Waits until it is in this state, until the deadline (monotonic ms) at most; whether it is.
    pub fn wait_for(&self, state: State, deadline_ms: u64) -> bool {
        let mut status = self.status.lock();
        while status.state != state {
            let left = deadline_ms.saturating_sub(clock::now_ms());
            if left == 0 {
                return false;
            }
            self.changed.wait_for(&mut status, Duration::from_millis(left));
        }
        true
    }

    /// Until it is stopped or drained.
    pub fn run(&self, common: &Common) {
        let mut pause = common.pause;
        while !common.stop.is_set() {
            self.enter(State::Registering);
            let (why, was_active) = match self.session(common) {
                Ended::Stopped | Ended::Drained => break,
                Ended::Lost { why, was_active } => (why, was_active),
            };
            self.status.lock().last_error = why;
            self.enter(State::Reconnecting);
            if was_active {
                pause = common.pause;
            }
            let until_ms = clock::now_ms() + jittered(millis(pause));
            let _ = block::wait(common.stop.wait(), Some(until_ms));
            pause = (pause * 2).min(common.pause_max);
        }
        self.enter(State::Disconnected);
    }

    fn enter(&self, state: State) {
        self.status.lock().state = state;
        self.changed.notify_all();
    }

    fn session(&self, common: &Common) -> Ended {
        let lost = |why: String| Ended::Lost { why, was_active: false };
        let channel =
            match LocalChannel::connect(self.address, CONNECT_TIMEOUT, environment(), MESSAGE_LEN_MAX) {
                Ok(channel) => channel,
                Err(e) => return lost(format!("cannot connect to {}: {e}", self.address)),
            };
        let client = ModuleProviderClient(channel.client);
        let registered = match self.register(&client, &common.request) {
            Ok(registered) => registered,
            Err(why) => return lost(why),
        };
        let id = registered.connection_id;
        if !registered.success {
            // What was accepted of it is of no use to anybody.
            let rejected = registered.results.iter().filter(|result| !result.accepted);
            let why: Vec<_> =
                rejected.map(|r| format!("{}: {}", r.module_name, r.rejection_reason)).collect();
            deregister(&client, &common.request, &id);
            return lost(format!("Registration failed: {}", why.join(", ")));
        }
        self.status.lock().connection_id.clone_from(&id);
        let (sender, receiver) = match client.control_plane(CallOption::default()) {
            Ok(stream) => stream,
            Err(e) => return lost(format!("cannot open the control stream: {e}")),
        };
        let mut stream = Stream { id: &id, sender, receiver, common, is_active: false, is_draining: false };
        let ended = stream.carry(self);
        if matches!(ended, Ended::Stopped) {
            // As existing providers do: the stream first.
            let _ = block::wait(stream.sender.close(), Some(clock::now_ms() + millis(CALL_TIMEOUT)));
            deregister(&client, &common.request, &id);
        }
        ended
    }

    fn register(
        &self,
        client: &ModuleProviderClient,
        request: &proto::RegisterRequest,
    ) -> Result<proto::RegisterResponse, String> {
        let before = self.status.lock().connection_id.clone();
        let mut headers = MetadataBuilder::new();
        if !before.is_empty() {
            headers.add_str(REPLACES, &before).map_err(|e| e.to_string())?;
        }
        let option = CallOption::default().timeout(CALL_TIMEOUT).headers(headers.build());
        answered(client.register(request, option)).map_err(|why| format!("cannot register: {why}"))
    }
}

fn answered<A: Unpin>(call: grpcio::Result<ClientUnaryReceiver<A>>) -> Result<A, String> {
    let call = call.map_err(|e| e.to_string())?;
    let answer = block::wait(call, Some(clock::now_ms() + 2 * millis(CALL_TIMEOUT)));
    answer.ok_or("no answer in time")?.map_err(|e| e.to_string())
}

/// What comes of it does not matter: the end of the stream does the same.
fn deregister(client: &ModuleProviderClient, request: &proto::RegisterRequest, id: &str) {
    let request = proto::DeregisterRequest {
        namespace: request.namespace.clone(),
        module_names: request.modules.iter().map(|module| module.name.clone()).collect(),
        connection_id: id.to_owned(),
    };
    let _ = answered(client.deregister(&request, CallOption::default().timeout(CALL_TIMEOUT)));
}

/// An open control stream.
struct Stream<'s> {
    id: &'s str,
    sender: ClientDuplexSender<proto::ControlMessage>,
    receiver: ClientDuplexReceiver<proto::ControlMessage>,
    common: &'s Common,
    is_active: bool,
    is_draining: bool,
}

impl Stream<'_> {
    /// Beats and listens until it ends.
    fn carry(&mut self, connection: &Connection) -> Ended {
        let (mut beat_ms, mut heard_ms) = (clock::now_ms(), clock::now_ms());
        loop {
            let now_ms = clock::now_ms();
            if now_ms >= beat_ms {
                beat_ms = now_ms + millis(self.common.heartbeat);
                let namespace = self.common.request.namespace.clone();
                let timestamp = i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX);
                if !self.send(Payload::Heartbeat(proto::Heartbeat { namespace, timestamp })) {
                    return self.ended("a heartbeat could not be sent");
                }
            }
            if now_ms - heard_ms > millis(self.common.silence) {
                return self.ended("heartbeats are not acknowledged");
            }
            let received = {
                let next = select(self.receiver.try_next(), Box::pin(self.common.stop.wait()));
                match block::wait(next, Some(beat_ms)) {
                    None => continue,
                    Some(Either::Right(_)) => return Ended::Stopped,
                    Some(Either::Left((received, _))) => received,
                }
            };
            match received {
                Ok(Some(message)) => {
                    heard_ms = clock::now_ms();
                    if !self.take(message, connection) {
                        return self.ended("the answer to a drain could not be sent");
                    }
                }
                Ok(None) => return self.ended("the service has ended the control stream"),
                Err(e) => return self.ended(&e.to_string()),
            }
        }
    }

    /// False: it could not be answered.
    fn take(&mut self, message: proto::ControlMessage, connection: &Connection) -> bool {
        match message.payload {
            Some(Payload::HeartbeatAck(_)) if !self.is_active => {
                self.is_active = true;
                connection.enter(State::Active);
            }
            Some(Payload::DrainRequest(_)) => {
                self.is_draining = true;
                connection.enter(State::Draining);
                let in_flight = self.common.calls.load(Ordering::Acquire);
                let in_flight_count = i32::try_from(in_flight).unwrap_or(i32::MAX);
                return self.send(Payload::DrainAck(proto::DrainAck { accepted: true, in_flight_count }));
            }
            _ => {}
        }
        true
    }

    fn send(&mut self, payload: Payload) -> bool {
        let message = proto::ControlMessage {
            protocol_version: PROTOCOL_VERSION,
            connection_id: self.id.to_owned(),
            payload: Some(payload),
        };
        let deadline_ms = clock::now_ms() + millis(self.common.silence);
        let sent = block::wait(self.sender.send((message, WriteFlags::default())), Some(deadline_ms));
        matches!(sent, Some(Ok(())))
    }

    fn ended(&self, why: &str) -> Ended {
        if self.is_draining {
            return Ended::Drained;
        }
        Ended::Lost { why: why.to_owned(), was_active: self.is_active }
    }
}

/// About so long.
fn jittered(ms: u64) -> u64 {
    let spread = ms / JITTER_PART;
    let random = u64::from(Uuid::new_v4().as_fields().0);
    ms - spread + random % (2 * spread + 1)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
