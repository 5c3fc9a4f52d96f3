//! Entries that outlive the machine: those that were registered while the service runs are documents of the
//! engine's database. Within one boot the host's notes say what there is, which are written with every
//! change; in the next boot they are gone, and made again from the documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::provider::secrets;
use crate::registry::discovery::Origin;
use crate::registry::entry::{Entry, Life};
use crate::registry::records::{self, Begun};
use crate::registry::{Cause, Registry};
use crate::sys::procfs;
use crate::wire::entry_document::EntryDocument;
use crate::wire::keep::Document;
use crate::wire::provider::{Definition, ProviderName};
use crate::wire::registry_note::RegistryNote;

impl Registry {
    /// Adds what was kept in an earlier boot to what this one has noted. Returns the digests of what is kept,
    /// and what is worth saying.
    pub(super) fn restore(
        &self,
        notes: &mut BTreeMap<ProviderName, RegistryNote>,
    ) -> (BTreeMap<ProviderName, u64>, Vec<String>) {
        let (entries, bad) = self.records.all();
        let mut said: Vec<_> =
            bad.iter().map(|why| format!("what was registered cannot be read: {why}")).collect();
        let boot_id = procfs::boot_id();
        let mut digests = BTreeMap::new();
        for (name, entry, digest) in entries {
            if !notes.contains_key(&name) {
                // In this boot its note was there as long as it was.
                if entry.boot_id == boot_id && !self.notes.is_new() {
                    self.records.forget(&name);
                    continue;
                }
                let definition = entry.definition.clone();
                let note = entry.into_note();
                let noted = definition.map_or(Ok(()), |definition| self.providers.leave(&name, definition));
                if let Err(e) = noted.and_then(|()| self.notes.write(&name, &note)) {
                    said.push(e.message);
                    continue;
                }
                notes.insert(name.clone(), note);
            }
            digests.insert(name, digest);
        }
        (digests, said)
    }

    /// Sends that this entry is to be made, and what is kept of it.
    pub(super) fn begin_record(
        &self,
        entry: &Arc<Entry>,
        definition: Option<&Definition>,
        what: &str,
        cause: Cause<'_>,
    ) -> Option<Begun> {
        let document = self.document(entry, definition);
        let (document, digest) = document.unzip();
        *entry.kept.lock() = digest;
        self.records.begin(cause, what, document)
    }

    /// The same for who has saved it already.
    pub(super) fn keep_saved(&self, entry: &Arc<Entry>) {
        // Held over a question to the engine: its answer comes at once, and the last one is to be kept.
        let _saving = entry.saving.lock();
        self.keep(entry);
    }

    /// Has the engine keep what the entry has become, if that differs. The caller holds what orders its
    /// notes.
    pub(super) fn keep(&self, entry: &Arc<Entry>) {
        let document = self.document(entry, None);
        let (document, digest) = document.unzip();
        let before = std::mem::replace(&mut *entry.kept.lock(), digest);
        match document {
            Some(document) if before != digest => self.records.put(document),
            None if before.is_some() => self.records.forget(&entry.name),
            _ => {}
        }
    }

    /// The document of an entry; none: it is found again otherwise, or holds a secret.
    fn document(&self, entry: &Entry, definition: Option<&Definition>) -> Option<(Document, u64)> {
        {
            let facts = entry.facts.lock();
            if facts.origin != Origin::Api || facts.life == Life::Gone {
                return None;
            }
        }
        let definition = match entry.is_passive() {
            true => None,
            false => Some(definition.cloned().or_else(|| self.providers.definition(&entry.name))?),
        };
        if definition.as_ref().is_some_and(secrets::are_within) {
            return None;
        }
        records::document(&entry.name, &EntryDocument::new(entry.note(), definition, procfs::boot_id()))
    }
}
