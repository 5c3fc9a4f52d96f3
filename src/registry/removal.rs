//! How one entry goes: its users leave, its provider is ended, and its name is free. `shutdown.rs` does that
//! with many at once.

use std::sync::Arc;

use crate::registry::entry::{Entry, Life};
use crate::registry::{Cause, Registry, failure};
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::{ProviderAnswer, ProviderCall};
use crate::wire::registry::Entry as ShownEntry;

impl Registry {
    /// Waits for the users, ends the provider, and forgets it.
    pub(super) fn unregister(&self, entry: &Arc<Entry>, cause: Cause<'_>) -> Result<ShownEntry, Error> {
        self.begin_disposal(entry)?;
        let ended = entry.alone(self.settings.dispose_timeout, || {
            let ended = self.providers.forget(&entry.name);
            self.look(entry, None, cause);
            ended
        });
        if let Err(e) = &ended {
            self.events.tell(EventKind::ProviderError, &entry.name, cause, &e.message);
        }
        self.remove(entry);
        self.events.tell(EventKind::ProviderUnregistered, &entry.name, cause, "");
        ended.map(|()| self.show(entry))
    }

    /// Waits for the users and ends the provider; the entry stays.
    pub(super) fn dispose(&self, entry: &Arc<Entry>, cause: Cause<'_>) -> Result<(), Error> {
        if entry.life() == Life::Disposed {
            return Ok(());
        }
        self.begin_disposal(entry)?;
        let ended = entry.alone(self.settings.dispose_timeout, || self.providers.dispose(&entry.name));
        entry.set_life(Life::Disposed);
        self.look(entry, ended.as_ref().err(), cause);
        self.save(entry);
        ended
    }

    /// One thread at a time takes an entry away.
    pub(super) fn begin_disposal(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        let mut facts = entry.facts.lock();
        match facts.life {
            // Its name is taken until it is out of the table.
            Life::Registering | Life::Disposing | Life::Gone => Err(failure::busy(&entry.name)),
            Life::Live | Life::Stopped | Life::Disposed => {
                facts.life = Life::Disposing;
                Ok(())
            }
        }
    }

    /// Ends all of a set at once and forgets them, without waiting for their users.
    pub(super) fn shut_down(&self, set: Option<String>, cause: Cause<'_>) -> Result<ProviderAnswer, Error> {
        // One that is being registered or taken away is left to the thread that does so.
        let mut entries = self.of_set(set.as_deref());
        entries.retain(|entry| self.begin_disposal(entry).is_ok());
        let answer = self.providers.answer(ProviderCall::ShutDown(set));
        for entry in &entries {
            self.look(entry, None, cause);
            self.remove(entry);
            self.events.tell(EventKind::ProviderUnregistered, &entry.name, cause, "");
        }
        answer
    }

    /// Takes the entry out of the table; its name is free.
    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        entry.set_life(Life::Gone);
        {
            let _saving = entry.saving.lock();
            self.notes.forget(&entry.name);
            if entry.kept.lock().take().is_some() {
                self.records.forget(&entry.name);
            }
        }
        self.entries.lock().remove(&entry.name);
        if let Some(namespace) = entry.namespace() {
            let mut all = self.namespaces.lock();
            if all.get(&namespace).is_some_and(|there| Arc::ptr_eq(there, entry)) {
                all.remove(&namespace);
            }
        }
        if let Some(watch) = self.watch.get().filter(|_| entry.is_passive()) {
            watch.monitor.unwatch(&entry.name);
        }
    }
}
