//! What all threads of the module plane share: the plane, the control streams, and the way to the executors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{RpcStatus, RpcStatusCode};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::module::executors::Executors;
use crate::module::outbox::Outbox;
use crate::module::plane::{PROTOCOL_VERSION, Plane, Registration, Unbound};
use crate::module::settings::ModuleLimits;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::control_message::Payload;
use crate::sys::clock;
use crate::wire::time::millis;

/// Where a line for the log goes.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// The plane behind its lock, and what belongs to it.
pub struct Shared {
    plane: Mutex<Plane>,
    /// There may be an earlier deadline than the one that is waited for.
    changed: Condvar,
    /// By connection.
    streams: Mutex<HashMap<String, Arc<Outbox>>>,
    pub executors: Executors,
    say: Say,
}

impl Shared {
    pub fn new(limits: ModuleLimits, say: Say) -> Self {
        Self {
            plane: Mutex::new(Plane::new(limits)),
            changed: Condvar::new(),
            streams: Mutex::default(),
            executors: Executors::default(),
            say,
        }
    }

    /// Asks or changes the plane.
    pub fn with<T>(&self, work: impl FnOnce(&mut Plane) -> T) -> T {
        work(&mut self.plane.lock())
    }

    pub fn register(&self, r: Registration) -> proto::RegisterResponse {
        let id = Uuid::new_v4().to_string();
        let (namespace, executor) = (r.namespace.clone(), r.executor_url.clone());
        let registered = self.with(|plane| plane.register(r, &id, clock::now_ms()));
        self.changed.notify_all();
        if let Some(old) = &registered.replaced {
            self.executors.forget(old);
            let why = "another registration has taken its place";
            self.end_stream(old, Some(RpcStatus::with_message(RpcStatusCode::ABORTED, why.to_owned())));
        }
        let accepted = registered.results.iter().filter(|(_, result)| result.is_ok()).count();
        (self.say)(&format!(
            "{namespace:.200} at {executor:.200}: registered {accepted} of {}",
            registered.results.len()
        ));
        proto::RegisterResponse {
            success: accepted == registered.results.len(),
            results: registered
                .results
                .into_iter()
                .map(|(module_name, result)| proto::ModuleRegistrationResult {
                    module_name,
                    accepted: result.is_ok(),
                    rejection_reason: result.err().unwrap_or_default(),
                })
                .collect(),
            protocol_version: PROTOCOL_VERSION,
            connection_id: id,
        }
    }

    pub fn deregister(&self, r: &proto::DeregisterRequest) -> proto::DeregisterResponse {
        let (results, is_gone) =
            self.with(|plane| plane.deregister(&r.connection_id, &r.namespace, &r.module_names));
        if is_gone {
            self.executors.forget(&r.connection_id);
            self.end_stream(&r.connection_id, None);
        }
        proto::DeregisterResponse {
            success: results.iter().all(Result::is_ok),
            results: r
                .module_names
                .iter()
                .zip(results)
                .map(|(name, result)| proto::ModuleDeregistrationResult {
                    module_name: name.clone(),
                    removed: result.is_ok(),
                    error: result.err().unwrap_or_default().to_owned(),
                })
                .collect(),
        }
    }

    /// A control stream has named its connection.
    pub fn bind(&self, id: &str, outbox: &Arc<Outbox>) -> Result<(), Unbound> {
        self.with(|plane| plane.bind(id, clock::now_ms()))?;
        self.streams.lock().insert(id.to_owned(), Arc::clone(outbox));
        self.changed.notify_all();
        Ok(())
    }

    pub fn heartbeat(&self, id: &str) {
        self.with(|plane| plane.heartbeat(id, clock::now_ms()));
    }

    pub fn refuse_drain(&self, id: &str) {
        self.with(|plane| plane.refuse_drain(id, clock::now_ms()));
    }

    /// Takes a connection out of use and tells its provider; whether it could be.
    pub fn drain(&self, id: &str, reason: &str, deadline: Duration) -> bool {
        let deadline_ms = millis(deadline);
        if !self.with(|plane| plane.drain(id, clock::now_ms() + deadline_ms)) {
            return false;
        }
        self.changed.notify_all();
        let deadline_ms = i64::try_from(deadline_ms).unwrap_or(i64::MAX);
        self.tell(id, Payload::DrainRequest(proto::DrainRequest { reason: reason.to_owned(), deadline_ms }));
        true
    }

    /// A connection is gone. Its modules go first.
    pub fn lost(&self, id: &str, why: &str) {
        if let Some(connection) = self.with(|plane| plane.remove(id)) {
            (self.say)(&format!("{} at {}: gone, {why}", connection.namespace, connection.executor));
        }
        self.executors.forget(id);
        self.streams.lock().remove(id);
    }

    /// Ends what is silent for too long, in its time, for ever.
    pub fn keep_time(&self) {
        loop {
            let sweep = self.with(|plane| plane.sweep(clock::now_ms()));
            for (id, why) in &sweep.ended {
                (self.say)(&format!("connection {id}: gone, {why}"));
                self.executors.forget(id);
                self.end_stream(id, Some(RpcStatus::with_message(RpcStatusCode::NOT_FOUND, why.clone())));
            }
            for (id, active_modules) in sweep.reports {
                self.tell(&id, Payload::ActiveModulesReport(proto::ActiveModulesReport { active_modules }));
            }
            let mut plane = self.plane.lock();
            // Under the lock: what was registered meanwhile is seen now or wakes us.
            match plane.sweep_due() {
                None => self.changed.wait(&mut plane),
                Some(due) => {
                    let left = due.saturating_sub(clock::now_ms());
                    self.changed.wait_for(&mut plane, Duration::from_millis(left));
                }
            }
        }
    }

    fn tell(&self, id: &str, payload: Payload) {
        let outbox = self.streams.lock().get(id).cloned();
        if let Some(outbox) = outbox {
            let (protocol_version, connection_id) = (PROTOCOL_VERSION, id.to_owned());
            outbox.put(proto::ControlMessage { protocol_version, connection_id, payload: Some(payload) });
        }
    }

    fn end_stream(&self, id: &str, status: Option<RpcStatus>) {
        let outbox = self.streams.lock().remove(id);
        if let Some(outbox) = outbox {
            outbox.end(status);
        }
    }
}
