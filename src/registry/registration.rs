//! How an entry comes to be: its name is reserved before anything is started, so of many who register it at
//! once one wins; and it is there whole, with its note and its line of the audit, or not at all.

use std::sync::Arc;

use crate::registry::discovery::Origin;
use crate::registry::entry::{Entry, Facts, Life, Seen};
use crate::registry::health::{CHECK_INTERVAL, HealthState};
use crate::registry::records::Begun;
use crate::registry::{Cause, Registry, failure, records};
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::{ProviderAnswer, ProviderCall, ProviderName, TYPE_PROCESS};
use crate::wire::registration::{Registration, TYPE_MODULE};
use crate::wire::registry as wire;
use crate::wire::registry_note::BreakerNote;
use crate::wire::time::Timestamp;

impl Registry {
    /// Makes an entry and starts its provider; all or nothing. `what`: how the audit calls that, which has it
    /// in one write with the entry.
    pub(super) fn register(
        &self,
        name: &ProviderName,
        mut r: Registration,
        what: &str,
        cause: Cause<'_>,
    ) -> Result<wire::Entry, Error> {
        let refused = |e: &Error| self.records.note(cause, what, &records::result(Some(e)));
        if r.kind == TYPE_MODULE {
            return self.register_namespace(name, r, what, cause);
        }
        let entry = self.reserve_for(name, &mut r).inspect_err(refused)?;
        let mut begun = self.begin_record(&entry, Some(&r.definition), what, cause);
        let started = self.providers.answer(ProviderCall::Start(name.clone(), Box::new(r.definition)));
        let result = started.and_then(|_| {
            begun = self.records.succeeded(begun.take());
            self.made(&entry, None, cause)
        });
        match result {
            Ok(()) => {
                self.records.end(begun, None);
                Ok(self.show(&entry))
            }
            Err(e) => {
                self.events.tell(EventKind::ProviderError, name, cause, &e.message);
                // The name is free only when nothing is left of what was started.
                let _ = self.providers.forget(name);
                let e = failure::registration_failed(name, e);
                self.take_back(&entry, begun, &e);
                Err(e)
            }
        }
    }

    /// The name for what is to be registered, if it can be.
    fn reserve_for(&self, name: &ProviderName, r: &mut Registration) -> Result<Arc<Entry>, Error> {
        if r.kind != r.definition.kind() || r.namespace.is_some() {
            return Err(failure::unknown_type(name, &r.kind));
        }
        self.add_schema(name, &r.kind, &mut r.definition)?;
        let (entry, is_new) = self.reserve(name, std::mem::take(&mut r.labels));
        if let Some(watch) = self.watch.get() {
            watch.exits.begin();
        }
        if !is_new {
            return Err(failure::already_exists(name));
        }
        let is_unsaid = self.settings.health.check_interval.is_none();
        {
            let mut facts = entry.facts.lock();
            facts.kind.clone_from(&r.kind);
            facts.interval = is_unsaid.then_some(CHECK_INTERVAL);
        }
        Ok(entry)
    }

    /// A registration has failed: nothing is kept of it, and its name is free.
    pub(super) fn take_back(&self, entry: &Arc<Entry>, begun: Option<Begun>, e: &Error) {
        self.records.end(begun, Some(e));
        *entry.kept.lock() = None;
        self.remove(entry);
    }

    /// A provider like this, running: the one that there is, or a new entry.
    pub(super) fn provide(
        &self,
        name: &ProviderName,
        mut call: ProviderCall,
        cause: Cause<'_>,
    ) -> Result<ProviderAnswer, Error> {
        if let ProviderCall::Start(_, definition) = &mut call {
            let kind = definition.kind();
            self.add_schema(name, kind, definition)?;
        }
        let (entry, is_new) = self.reserve(name, Vec::new());
        if let Some(watch) = self.watch.get() {
            watch.exits.begin();
        }
        if !is_new && entry.is_passive() {
            return Err(failure::already_exists(name));
        }
        if !is_new {
            if entry.life() == Life::Disposed {
                self.providers.reopen(name);
                entry.set_life(Life::Live);
            }
            let result = self.change(&entry, call, Some(Life::Live), cause);
            self.keep_saved(&entry);
            return result;
        }
        let result = self.providers.answer(call);
        // One that only could not be started this time is known all the same, and tried again when asked.
        if self.providers.known(name).is_none() {
            self.remove(&entry);
        } else {
            entry.facts.lock().kind = self.kind_of(name, String::new());
            self.made(&entry, result.as_ref().err(), cause)?;
            if let Err(e) = &result
                && failure::is_of_the_provider(e)
            {
                entry.gate.fail(failure::without_name(name, &e.message));
            }
        }
        result
    }

    /// Finds the entry, or takes the name for a new one.
    pub(super) fn reserve(&self, name: &ProviderName, labels: Vec<(String, String)>) -> (Arc<Entry>, bool) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(name) {
            return (Arc::clone(entry), false);
        }
        let facts = Facts {
            life: Life::Registering,
            origin: Origin::Api,
            registered_at: Timestamp::now(),
            labels,
            kind: TYPE_PROCESS.to_owned(),
            version: String::new(),
            capabilities: Vec::new(),
            stands_for: None,
            check: None,
            health: HealthState::default(),
            interval: None,
            seen: Seen::default(),
            counted: None,
            reset_ms: 0,
        };
        let note = BreakerNote::default();
        let entry = Arc::new(Entry::new(name.clone(), facts, &note, &self.settings, &self.events));
        self.join_group(&entry);
        entries.insert(name.clone(), Arc::clone(&entry));
        (entry, true)
    }

    /// A reserved name has become an entry, which is on record before it is answered.
    pub(super) fn made(
        &self,
        entry: &Arc<Entry>,
        error: Option<&Error>,
        cause: Cause<'_>,
    ) -> Result<(), Error> {
        entry.set_life(Life::Live);
        self.notes.write(&entry.name, &entry.note())?;
        self.keep_saved(entry);
        let origin = entry.facts.lock().origin;
        self.events.tell(EventKind::ProviderRegistered, &entry.name, cause, origin.name());
        self.look(entry, error, cause);
        Ok(())
    }
}
