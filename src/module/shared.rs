//! What all threads of the module plane share: the plane, the control streams, and the way to the executors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use grpcio::{RpcStatus, RpcStatusCode};
use parking_lot::{Condvar, Mutex};
use prost::Message;
use uuid::Uuid;

use crate::module::convert;
use crate::module::dial::Dialer;
use crate::module::executors::Executors;
use crate::module::helpers::Helpers;
use crate::module::notes::Notes;
use crate::module::outbox::Outbox;
use crate::module::owner::Owner;
use crate::module::plane::expected::Change;
use crate::module::plane::register::Registration;
use crate::module::plane::turns::{Ended, Member, NoMember, Nobody};
use crate::module::plane::{Plane, Unbound};
use crate::module::probe::Prober;
use crate::module::recorder::{Recorder, Work};
use crate::module::settings::ModuleLimits;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::control_message::Payload;
use crate::sdk::module::protocol::PROTOCOL_VERSION;
use crate::sys::clock;
use crate::sys::procfs::boot_id;
use crate::wire::error::{Code, Error};
use crate::wire::event::EventKind;
use crate::wire::module_note::ModuleNote;
use crate::wire::time::millis;

/// Where a line for the log goes.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;
/// Where an event of the service goes: its kind, its cause, and more in words.
pub type Tell = Arc<dyn Fn(EventKind, &str, &str) + Send + Sync>;

/// Woken so late it was held up, as the threads that read heartbeats were, ms.
const LATE_MS: u64 = 500;

/// The cause of events about modules that are expected.
const CAUSE_EXPECTED: &str = "modules.expect";
/// The same of an executor that does not answer.
const CAUSE_PROBED: &str = "probe";

/// The plane behind its lock, and what belongs to it.
pub struct Shared {
    plane: Mutex<Plane>,
    /// There may be an earlier deadline than the one that is waited for.
    changed: Condvar,
    /// By connection.
    streams: Mutex<HashMap<String, Arc<Outbox>>>,
    pub executors: Executors,
    pub recorder: Recorder,
    pub helpers: Helpers,
    notes: Notes,
    prober: Prober,
    /// A member may take a call that could not be taken before.
    freed: Condvar,
    boot: String,
    say: Say,
    tell: Tell,
}

impl Shared {
    /// With what an earlier host has left in the notes.
    pub fn new(limits: ModuleLimits, notes: Notes, say: Say, tell: Tell) -> Self {
        let dialer = Arc::new(Dialer::new(limits.elsewhere.clone()));
        let shared = Self {
            plane: Mutex::new(Plane::new(limits)),
            changed: Condvar::new(),
            streams: Mutex::default(),
            executors: Executors::new(Arc::clone(&dialer)),
            recorder: Recorder::default(),
            helpers: Helpers::default(),
            notes,
            prober: Prober::new(dialer),
            freed: Condvar::new(),
            boot: boot_id(),
            say,
            tell,
        };
        shared.restore();
        shared.restore_canaries();
        shared
    }

    /// Puts a line into the log.
    pub fn say(&self, line: &str) {
        (self.say)(line);
    }

    fn restore(&self) {
        let (all, bad) = self.notes.all();
        bad.iter().for_each(|why| (self.say)(&format!("a registration of modules is lost: {why}")));
        for (id, note) in all {
            let what = match proto::RegisterRequest::decode(&*note.registration) {
                Ok(request) => {
                    let owner = Owner::from_text(&note.owner);
                    let r = Registration { owner, ..convert::registration(request) };
                    let (namespace, executor) = (r.namespace.clone(), r.executor_url.clone());
                    let restored =
                        self.with(|plane| plane.restore(r, &id, note.registered_at, clock::now_ms()));
                    restored.replaced.iter().for_each(|old| self.notes.forget(old));
                    let refused: Vec<_> = restored
                        .results
                        .iter()
                        .filter_map(|(name, result)| Some(format!("{name}: {}", result.as_ref().err()?)))
                        .collect();
                    let but = match &*refused {
                        [] => String::new(),
                        some => format!(", but not {}", some.join("; ")),
                    };
                    if !refused.is_empty() {
                        self.write_note(&id);
                    }
                    format!("{namespace} at {executor}: restored{but}")
                }
                Err(e) => {
                    self.notes.forget(&id);
                    format!("a registration of modules is lost: {id}: {e}")
                }
            };
            (self.say)(&what);
        }
    }

    /// Asks or changes the plane.
    pub fn with<T>(&self, work: impl FnOnce(&mut Plane) -> T) -> T {
        let mut plane = self.plane.lock();
        let result = work(&mut plane);
        let is_news = plane.settle(clock::now_ms);
        drop(plane);
        if is_news {
            self.recorder.note_canaries();
            self.changed.notify_all();
            self.freed.notify_all();
        }
        result
    }

    fn restore_canaries(&self) {
        match self.notes.canaries() {
            Ok(all) => self.with(|plane| plane.restore_canaries(all, clock::now_ms())),
            Err(why) => (self.say)(&format!("the canaries of modules are lost: {why}")),
        }
    }

    /// Waits until what has changed is noted.
    pub fn until_noted(&self) -> Result<(), Error> {
        let (noted, is_noted) = bounded(1);
        let busy = || Error::new(Code::Failed, "too many registrations are under way").hint("try it again");
        if !self.recorder.submit(0, Box::new(move || _ = noted.send(()))) {
            return Err(busy());
        }
        is_noted.recv().map_err(|_| busy())
    }

    /// Makes the note of canaries what the plane knows of them, and tells what has happened, in its order.
    fn write_canaries(&self) {
        let (news, all) = self.with(|plane| (plane.take_news(), plane.noted_canaries(clock::now_ms())));
        if let Err(e) = self.notes.write_canaries(&all) {
            (self.say)(&format!("the canaries of modules are not noted: {e}"));
        }
        for each in news {
            let (kind, detail) = each.event();
            (self.say)(&format!("{}: {detail}", kind.map_or("canary", EventKind::name)));
            kind.into_iter().for_each(|kind| (self.tell)(kind, &each.news.cause, &detail));
        }
    }

    /// Does what waits for its turn, for ever.
    pub fn record(&self) {
        loop {
            match self.recorder.next() {
                Work::Job(job) => job(),
                Work::Note(id) => self.write_note(&id),
                Work::Canaries => self.write_canaries(),
            }
        }
    }

    /// Probes executors, for ever.
    pub fn probe(&self) {
        self.prober.run(|id, result| {
            let why = result.clone().err();
            if let Some(what) = self.with(|plane| plane.probed(id, result, clock::now_ms())) {
                match why {
                    None => (self.say)(&format!("{what} answers")),
                    Some(why) => {
                        (self.say)(&format!("{what} gets no calls: {why}"));
                        (self.tell)(EventKind::ModuleDeaf, CAUSE_PROBED, &format!("{what}: {why}"));
                    }
                }
                self.freed.notify_all();
            }
            // When it is probed again.
            self.changed.notify_all();
        });
    }

    /// Makes the note of a connection what the plane knows of it. One that drains is not to come back.
    fn write_note(&self, id: &str) {
        let note = self.with(|plane| {
            let connection = plane.connection(id).filter(|c| c.is_kept())?;
            let registration = convert::request(connection).encode_to_vec();
            let (boot, registered_at) = (self.boot.clone(), connection.registered_at);
            let owner = connection.owner.to_text();
            Some(ModuleNote { boot, registered_at, registration, owner })
        });
        match note {
            None => self.notes.forget(id),
            Some(note) => {
                if let Err(e) = self.notes.write(id, &note) {
                    (self.say)(&format!("connection {id} is registered, but not noted: {e}"));
                }
            }
        }
    }

    /// Whose turn it is to execute this module. Where all have as much as they may, it waits until the
    /// deadline.
    pub fn member(&self, name: &str, tried: &[String], deadline_ms: u64) -> Result<Member, NoMember> {
        let mut plane = self.plane.lock();
        let mut number = None;
        let result = loop {
            let now_ms = clock::now_ms();
            match plane.next(name, tried, number, now_ms) {
                Err(Nobody::Busy) => {}
                other => break other,
            }
            if number.is_none() {
                number = plane.queue(name);
            }
            if number.is_none() || now_ms >= deadline_ms {
                break Err(Nobody::Busy);
            }
            self.freed.wait_for(&mut plane, Duration::from_millis(deadline_ms - now_ms));
        };
        if let Some(number) = number {
            plane.leave_queue(name, number);
            self.freed.notify_all();
        }
        result.map_err(|nobody| plane.why_none(nobody, name, tried))
    }

    /// A call has ended.
    pub fn done(&self, member: Member, ended: Ended) {
        let id = member.id.clone();
        match self.with(|plane| plane.done(member, ended, clock::now_ms())) {
            // One that has gone meanwhile leaves no channel.
            None => self.executors.forget(&id),
            Some(true) => _ = self.changed.notify_all(),
            Some(false) => {}
        }
        self.freed.notify_all();
    }

    pub fn register(&self, r: Registration) -> proto::RegisterResponse {
        let id = Uuid::new_v4().to_string();
        let (namespace, executor) = (r.namespace.clone(), r.executor_url.clone());
        let (registered, is_there) = self.with(|plane| {
            let registered = plane.register(r, &id, clock::now_ms());
            (registered, plane.knows(&id))
        });
        if is_there {
            self.write_note(&id);
            self.changed.notify_all();
            self.freed.notify_all();
        }
        if let Some(old) = &registered.replaced {
            self.write_note(old);
            self.executors.forget(old);
            let why = "another registration has taken its place";
            self.end_stream(old, Some(RpcStatus::with_message(RpcStatusCode::ABORTED, why.to_owned())));
        }
        let accepted = registered.results.iter().filter(|(_, result)| result.is_ok()).count();
        (self.say)(&format!(
            "{namespace:.200} at {executor:.200}: registered {accepted} of {}",
            registered.results.len()
        ));
        for (name, what) in &registered.changes {
            (self.say)(&format!("{namespace:.200}.{name}: its types have changed: {what}"));
        }
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

    /// Without an id it is the connection that was registered over the same channel.
    pub fn deregister(
        &self,
        r: &proto::DeregisterRequest,
        owner: &Owner,
        channel: &str,
    ) -> proto::DeregisterResponse {
        let (id, (results, is_gone)) = self.with(|plane| {
            let id = match &*r.connection_id {
                "" => plane.over(channel, owner, &r.namespace).unwrap_or_default(),
                id => id.to_owned(),
            };
            let results = plane.deregister(&id, owner, &r.namespace, &r.module_names);
            (id, results)
        });
        // The id is what somebody has sent: only one that is theirs is worth a look at its note.
        if results.iter().any(Result::is_ok) {
            self.write_note(&id);
            // Calls may wait for a module that nobody executes any more.
            self.freed.notify_all();
            self.changed.notify_all();
        }
        if is_gone {
            self.executors.forget(&id);
            self.end_stream(&id, None);
        }
        proto::DeregisterResponse {
            success: !id.is_empty() && results.iter().all(Result::is_ok),
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
    pub fn bind(&self, id: &str, owner: &Owner, outbox: &Arc<Outbox>) -> Result<(), Unbound> {
        self.with(|plane| plane.bind(id, owner, clock::now_ms()))?;
        self.streams.lock().insert(id.to_owned(), Arc::clone(outbox));
        self.changed.notify_all();
        Ok(())
    }

    /// Whether there is such a connection.
    pub fn heartbeat(&self, id: &str) -> bool {
        self.with(|plane| plane.heartbeat(id, clock::now_ms()))
    }

    pub fn refuse_drain(&self, id: &str) {
        if !self.with(|plane| plane.refuse_drain(id, clock::now_ms())) {
            return;
        }
        self.recorder.note(id);
        // Its heartbeats are waited for again, which is sooner than the end of its drain may be.
        self.changed.notify_all();
        self.freed.notify_all();
    }

    /// Takes a connection out of use and tells its provider; whether it could be.
    pub fn drain(&self, id: &str, reason: &str, deadline: Duration) -> bool {
        let deadline_ms = millis(deadline);
        if !self.with(|plane| plane.drain(id, clock::now_ms() + deadline_ms)) {
            return false;
        }
        self.recorder.note(id);
        self.changed.notify_all();
        self.freed.notify_all();
        let deadline_ms = i64::try_from(deadline_ms).unwrap_or(i64::MAX);
        self.send(id, Payload::DrainRequest(proto::DrainRequest { reason: reason.to_owned(), deadline_ms }));
        true
    }

    /// A connection is gone. Its modules go first.
    pub fn lost(&self, id: &str, why: &str) {
        self.streams.lock().remove(id);
        if let Some(connection) = self.with(|plane| plane.remove(id)) {
            (self.say)(&format!("{} at {}: gone, {why}", connection.namespace, connection.executor));
            self.executors.forget(id);
            self.recorder.note(id);
            self.freed.notify_all();
            // Something that is expected may have gone with it.
            self.changed.notify_all();
        }
    }

    /// Ends what is silent for too long, in its time, for ever.
    pub fn keep_time(&self) {
        loop {
            let sweep = self.with(|plane| plane.sweep(clock::now_ms()));
            for (id, why) in &sweep.ended {
                (self.say)(&format!("connection {id}: gone, {why}"));
                self.executors.forget(id);
                self.recorder.note(id);
                self.freed.notify_all();
                self.end_stream(id, Some(RpcStatus::with_message(RpcStatusCode::NOT_FOUND, why.clone())));
            }
            for (name, change) in sweep.expected {
                let (kind, what) = match change {
                    Change::Missing(why) => (EventKind::ModuleMissing, format!("{name}: {why}")),
                    Change::Back => (EventKind::ModuleBack, name),
                };
                (self.say)(&format!("{}: {what}", kind.name()));
                (self.tell)(kind, CAUSE_EXPECTED, &what);
            }
            for (id, active_modules) in sweep.reports {
                self.send(&id, Payload::ActiveModulesReport(proto::ActiveModulesReport { active_modules }));
            }
            if !sweep.probes.is_empty() {
                self.prober.want(sweep.probes);
            }
            let mut plane = self.plane.lock();
            // Under the lock: what was registered meanwhile is seen now or wakes us.
            let Some(due) = plane.sweep_due() else {
                self.changed.wait(&mut plane);
                continue;
            };
            let left = due.saturating_sub(clock::now_ms());
            self.changed.wait_for(&mut plane, Duration::from_millis(left));
            if clock::now_ms() > due + LATE_MS {
                plane.excuse(clock::now_ms());
            }
        }
    }

    fn send(&self, id: &str, payload: Payload) {
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

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
