//! The connection to one running service, on a thread of its own: registers, shows with heartbeats that the
//! provider lives, and begins again when the service is lost, for ever. What it registers can be exchanged
//! while it runs: the service gets the new registration in the place of the old one, and nothing between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::rpc::block;
use crate::sdk::module::stop::Stop;
use crate::sdk::module::transport::{Control, FromService, Registration, Service, ToService, Transport};
use crate::sys::clock;
use crate::wire::time::{Timestamp, millis};

/// How long the end of a control stream may take to go out, ms.
const CLOSE_MS: u64 = 10_000;
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
    pub heartbeat: Duration,
    /// For so long the service may leave heartbeats without an acknowledgement.
    pub silence: Duration,
    pub pause: Duration,
    pub pause_max: Duration,
    /// So many in a row that fail are the end; none: it is tried for ever.
    pub attempts: Option<u32>,
    pub transport: Arc<dyn Transport>,
    /// Calls that are under way.
    pub calls: Arc<AtomicUsize>,
    pub stop: Stop,
}

/// One connection, shared with whoever looks at it.
pub(in crate::sdk::module) struct Connection {
    pub address: SocketAddr,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    status: Status,
    offer: Offer,
    /// The number of the last offer that the service has accepted.
    registered: u64,
    /// The offer that it has refused, and why.
    refused: Option<(u64, String)>,
}

/// What is to be registered.
#[derive(Clone)]
struct Offer {
    registration: Arc<Registration>,
    /// Grows with each.
    number: u64,
    /// Set when there is another one.
    is_old: Arc<Stop>,
}

/// Why a session with the service has ended.
enum Ended {
    /// We were asked to.
    Stopped,
    /// The service has drained us.
    Drained,
    /// Something else is to be registered.
    Exchanged,
    /// Why; how long it was good for does not matter once it was.
    Lost { why: String, was_active: bool },
}

impl Connection {
    pub fn new(address: SocketAddr, registration: Arc<Registration>) -> Self {
        let status =
            Status { state: State::Disconnected, connection_id: String::new(), last_error: String::new() };
        let offer = Offer { registration, number: 1, is_old: Arc::default() };
        let inner = Inner { status, offer, registered: 0, refused: None };
        Self { address, inner: Mutex::new(inner), changed: Condvar::new() }
    }

    pub fn status(&self) -> Status {
        self.inner.lock().status.clone()
    }

    /// What it has registered, or is to register.
    pub fn offered(&self) -> Arc<Registration> {
        Arc::clone(&self.inner.lock().offer.registration)
    }

    /// Has this registered in the place of what is; what was offered has a number.
    pub fn exchange(&self, registration: Arc<Registration>) -> u64 {
        let mut inner = self.inner.lock();
        let number = inner.offer.number + 1;
        let offer = Offer { registration, number, is_old: Arc::default() };
        let before = std::mem::replace(&mut inner.offer, offer);
        drop(inner);
        before.is_old.set();
        number
    }

    /// Waits until the service knows what was offered, and the provider lives, until the deadline
    /// (monotonic ms) at most. An error is the reason why not.
    pub fn wait_exchanged(&self, number: u64, deadline_ms: u64) -> Result<(), String> {
        let mut inner = self.inner.lock();
        loop {
            match &inner.refused {
                Some((refused, why)) if *refused == number => return Err(why.clone()),
                _ if inner.registered >= number && inner.status.state == State::Active => return Ok(()),
                _ => {}
            }
            let left = deadline_ms.saturating_sub(clock::now_ms());
            if left == 0 {
                return Err(format!("it is not registered in time ({})", inner.status.last_error));
            }
            self.changed.wait_for(&mut inner, Duration::from_millis(left));
        }
    }

    /// Waits until it is in this state, until the deadline (monotonic ms) at most; whether it is.
    pub fn wait_for(&self, state: State, deadline_ms: u64) -> bool {
        let mut inner = self.inner.lock();
        while inner.status.state != state {
            let left = deadline_ms.saturating_sub(clock::now_ms());
            if left == 0 {
                return false;
            }
            self.changed.wait_for(&mut inner, Duration::from_millis(left));
        }
        true
    }

    /// Until it is stopped or drained.
    pub fn run(&self, common: &Common) {
        let (mut pause, mut failures) = (common.pause, 0);
        while !common.stop.is_set() {
            self.enter(State::Registering);
            let (why, was_active) = match self.session(common) {
                Ended::Stopped | Ended::Drained => break,
                Ended::Lost { why, was_active } => (why, was_active),
                // A session goes on with it.
                Ended::Exchanged => continue,
            };
            if was_active {
                (pause, failures) = (common.pause, 0);
            }
            failures += 1;
            if common.attempts.is_some_and(|most| failures >= most) {
                let why = format!("given up after {failures} attempts: {why}");
                self.inner.lock().status.last_error = why;
                break;
            }
            self.inner.lock().status.last_error = why;
            self.enter(State::Reconnecting);
            let until_ms = clock::now_ms() + jittered(millis(pause));
            let _ = block::wait(common.stop.wait(), Some(until_ms));
            pause = (pause * 2).min(common.pause_max);
        }
        self.enter(State::Disconnected);
    }

    fn enter(&self, state: State) {
        self.inner.lock().status.state = state;
        self.changed.notify_all();
    }

    fn session(&self, common: &Common) -> Ended {
        let lost = |why: String| Ended::Lost { why, was_active: false };
        let service = match common.transport.connect(self.address) {
            Ok(service) => service,
            Err(why) => return lost(why),
        };
        // Kept until another registration has taken its place: its end is the end of its modules.
        let mut before: Option<Stream<'_>> = None;
        loop {
            let offer = self.inner.lock().offer.clone();
            let opened = self.open(&*service, &offer, before.is_some());
            let (id, control) = match (opened, &before) {
                (Ok(opened), _) => opened,
                (Err(why), Some(stream)) if !Arc::ptr_eq(&stream.offer.registration, &offer.registration) => {
                    self.refuse(offer.number, why, &stream.offer.registration);
                    continue;
                }
                (Err(why), _) => return lost(why),
            };
            let mut stream = Stream { id, offer, control, common, is_active: false, is_draining: false };
            drop(before.take());
            match stream.carry(self) {
                Ended::Exchanged => {
                    self.enter(State::Registering);
                    before = Some(stream);
                }
                Ended::Stopped => {
                    // As existing providers do: the stream first.
                    let _ = block::wait(stream.control.close(), Some(clock::now_ms() + CLOSE_MS));
                    service.deregister(&stream.offer.registration, &stream.id);
                    return Ended::Stopped;
                }
                ended => return ended,
            }
        }
    }

    /// Registers, and opens the control stream: its id and both of its ends. `is_exchange`: the modules of
    /// before are to stay whatever comes of it.
    fn open(
        &self,
        service: &dyn Service,
        offer: &Offer,
        is_exchange: bool,
    ) -> Result<(String, Box<dyn Control>), String> {
        let before = self.inner.lock().status.connection_id.clone();
        let registered = service
            .register(&offer.registration, &before)
            .map_err(|why| format!("cannot register: {why}"))?;
        let id = registered.connection_id;
        if !registered.success {
            let (accepted, rejected): (Vec<_>, Vec<_>) =
                registered.results.into_iter().partition(|(_, result)| result.is_ok());
            let why =
                rejected.into_iter().filter_map(|(name, result)| Some(format!("{name}: {}", result.err()?)));
            let why: Vec<_> = why.collect();
            if !is_exchange {
                // What was accepted of it is of no use to anybody.
                service.deregister(&offer.registration, &id);
            } else if !accepted.is_empty() {
                // What comes next takes the place of that part.
                self.inner.lock().status.connection_id = id;
            }
            return Err(format!("Registration failed: {}", why.join(", ")));
        }
        let mut inner = self.inner.lock();
        inner.status.connection_id.clone_from(&id);
        inner.registered = offer.number;
        drop(inner);
        let control = service.control(&id, &offer.registration.namespace);
        let control = control.map_err(|why| format!("cannot open the control stream: {why}"))?;
        Ok((id, control))
    }

    /// The service does not take what was offered: what it had before is offered again.
    fn refuse(&self, number: u64, why: String, before: &Arc<Registration>) {
        let mut inner = self.inner.lock();
        inner.refused = Some((number, why));
        if inner.offer.number == number {
            inner.offer.registration = Arc::clone(before);
        }
        drop(inner);
        self.changed.notify_all();
    }
}

/// An open control stream.
struct Stream<'s> {
    id: String,
    /// What was registered.
    offer: Offer,
    control: Box<dyn Control>,
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
                let now = i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX);
                if !self.send(ToService::Heartbeat(now)) {
                    return self.ended("a heartbeat could not be sent");
                }
            }
            if now_ms - heard_ms > millis(self.common.silence) {
                return self.ended("heartbeats are not acknowledged");
            }
            let received = {
                let other = select(Box::pin(self.common.stop.wait()), Box::pin(self.offer.is_old.wait()));
                match block::wait(select(self.control.next(), other), Some(beat_ms)) {
                    None => continue,
                    Some(Either::Right((Either::Left(_), _))) => return Ended::Stopped,
                    Some(Either::Right((Either::Right(_), _))) => return Ended::Exchanged,
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
                Err(why) => return self.ended(&why),
            }
        }
    }

    /// False: it could not be answered.
    fn take(&mut self, message: FromService, connection: &Connection) -> bool {
        match message {
            FromService::HeartbeatAck if !self.is_active => {
                self.is_active = true;
                connection.enter(State::Active);
            }
            FromService::Drain(_) => {
                self.is_draining = true;
                connection.enter(State::Draining);
                let in_flight = self.common.calls.load(Ordering::Acquire);
                let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
                return self.send(ToService::DrainAck { accepted: true, in_flight });
            }
            FromService::HeartbeatAck | FromService::ActiveModules(_) | FromService::Unknown => {}
        }
        true
    }

    fn send(&mut self, message: ToService) -> bool {
        let deadline_ms = clock::now_ms() + millis(self.common.silence);
        block::wait(self.control.send(message), Some(deadline_ms)) == Some(true)
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
