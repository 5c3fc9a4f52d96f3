//! Replaces a run without a gap: the next one is started, healthy and initialised beside it, then takes the
//! calls, and the old one ends when those that it still has are over. A next one that fails leaves everything
//! as it was. For a while there are two processes, so the next one has the other of two names.
//!
//! The note of a provider names one process, at every moment: the old one until the next one is initialised,
//! and that one then. What a host that dies in the middle leaves besides has the name of a provider and is
//! nobody's; the next host ends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::provider::alias::Phase;
use crate::provider::config;
use crate::provider::failure::Failure;
use crate::provider::launch;
use crate::provider::process::forget;
use crate::provider::run::{Run, Site};
use crate::provider::{Alias, Providers};
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::note::ProviderNote;
use crate::wire::provider::{Definition, ProviderAnswer, ProviderName};
use crate::wire::request::List;

/// The names of providers' processes.
const PATTERN: &str = "provider*";

impl Providers {
    /// A fresh process in the place of the present one, without a gap.
    pub(super) fn replace(&self, name: &ProviderName) -> Result<ProviderAnswer, Failure> {
        let alias = self.find(name)?;
        let definition = alias.definition();
        self.site.check(&definition)?;
        config::given(&definition)?;
        self.replace_by(&alias, &definition)?;
        Ok(ProviderAnswer::Provider(Box::new(self.show(&alias))))
    }

    /// Has it run with another definition: what differs is looked at before the old process is touched. Calls
    /// that come meanwhile wait for the new one, or go to the old one, as the definition says.
    pub fn redefine(&self, name: &ProviderName, definition: Definition) -> Result<(), Error> {
        let redefined = || {
            let alias = self.find(name)?;
            self.site.check(&definition)?;
            config::check(&definition)?;
            let definition = Arc::new(definition);
            if definition.swap {
                return self.replace_by(&alias, &definition);
            }
            let was_running = matches!(alias.current.lock().phase(), Phase::Ready(_) | Phase::Starting);
            if was_running {
                // What runs is to run again.
                config::given(&definition)?;
            }
            alias.calls.drain(definition.timeouts.fetch, || {
                // First: when the old process is gone, whoever waits for that starts the next one.
                *alias.definition.lock() = Arc::clone(&definition);
                alias.stop_run(&self.site)
            })?;
            alias.current.lock().reset();
            if was_running { self.get(&alias).map(drop) } else { Ok(()) }
        };
        redefined().map_err(|failure: Failure| failure.error(name))
    }

    /// The lock of the replacement is held all through: it is there so that the two names are enough.
    fn replace_by(&self, alias: &Alias, definition: &Arc<Definition>) -> Result<(), Failure> {
        let _one_at_a_time = alias.replacing.lock();
        let present = alias.current.lock().phase().clone();
        let Phase::Ready(old) = present else {
            // There is nothing to go on: what is started now is the fresh one.
            if alias.current.lock().is_at_rest() {
                *alias.definition.lock() = Arc::clone(definition);
            }
            alias.current.lock().reset();
            return self.get(alias).map(drop);
        };
        let before = self.site.notes.read(&alias.name)?;
        let (new, note) = self.site.start_beside(&alias.name, definition, &old)?;
        let new = Arc::new(new);
        let is_taken = self.site.notes.write(&alias.name, &note).map(|()| {
            // In the order in which who defines an alias locks them.
            let mut defined = alias.definition.lock();
            let mut machine = alias.current.lock();
            // What a person has stopped is to stay so.
            let is_taken = !old.cancel.is_cancelled() && machine.succeed(&old, Arc::clone(&new));
            if is_taken {
                *defined = Arc::clone(definition);
            }
            is_taken
        });
        if !matches!(is_taken, Ok(true)) {
            let _ = self.site.notes.write(&alias.name, &before);
            let _ = self.site.end_process(&new, u64::MAX);
            return Err(is_taken.map_or_else(Failure::Service, |_| Failure::ShutDown));
        }
        alias.calls.touch();
        self.watch(alias);
        old.users.leave(old.definition.timeouts.fetch);
        // One that has ended by itself meanwhile is only forgotten.
        self.site.end_process(&old, u64::MAX).map(drop)
    }

    /// Ends processes that have the name of a provider and are nobody's.
    pub(super) fn end_orphans(&self) {
        let all = self.of_set(None);
        let runs = all.iter().filter_map(|alias| match alias.current.lock().phase() {
            Phase::Ready(run) => Some(run.process),
            _ => None,
        });
        self.site.end_others(&runs.collect());
    }
}

impl Site {
    /// Starts a run beside the present one, and returns it with its note, which is not on record yet.
    fn start_beside(
        &self,
        name: &ProviderName,
        definition: &Arc<Definition>,
        present: &Run,
    ) -> Result<(Run, ProviderNote), Failure> {
        let names = [name.process(), name.second_process()];
        let [first, second] = names;
        let process_name = if present.name == first.as_str() { second } else { first };
        let noted = Mutex::new(ProviderNote::of(Definition::clone(definition)));
        let note = |note: &ProviderNote| {
            noted.lock().clone_from(note);
            Ok(())
        };
        let run = self.launch(name, definition, (&[process_name], &note))?;
        Ok((run, noted.into_inner()))
    }

    /// Without the service there are none.
    fn end_others(&self, runs: &BTreeSet<ProcessId>) {
        let Ok(mut client) = self.client() else { return };
        let list = List { pattern: Some(PATTERN.to_owned()), all: true, ..List::default() };
        for process in client.list(list).unwrap_or_default() {
            let of = process.name.as_ref().and_then(|name| ProviderName::of_process(name.as_str()));
            if of.is_some() && !runs.contains(&process.id) {
                launch::forget_everywhere(&self.socket, process.id);
                let _ = forget(&mut client, &process.id.to_string());
            }
        }
    }
}
