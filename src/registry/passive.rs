//! Entries behind which nothing of ours runs: a secret that is only named, and a namespace of the module
//! plane, which is executed by whoever has registered there. The calls of both are made elsewhere; breaker,
//! permits and what is told of them are those of every entry.

use std::sync::Arc;

use crate::guard::breaker::Outcome;
use crate::guard::gate::Permit;
use crate::module::Modules;
use crate::registry::entry::Entry;
use crate::registry::health::{OK, Sign};
use crate::registry::stands_for::StandsFor;
use crate::registry::{Cause, Registry, failure, records};
use crate::wire::error::{Code, Error};
use crate::wire::provider::{Definition, ProviderAnswer, ProviderHealth, ProviderName};
use crate::wire::registration::{Registration, TYPE_MODULE};
use crate::wire::registry::Entry as ShownEntry;

impl Registry {
    /// Knows of the module plane, whose namespaces may be entries.
    pub fn use_modules(&self, modules: &Arc<Modules>) {
        let _ = self.modules.set(Arc::clone(modules));
    }

    /// Makes an entry of a namespace. Nothing is started for it, and its members need not be there.
    pub(super) fn register_namespace(
        &self,
        name: &ProviderName,
        r: Registration,
        what: &str,
        cause: Cause<'_>,
    ) -> Result<ShownEntry, Error> {
        let refused = |e: &Error| self.records.note(cause, what, &records::result(Some(e)));
        let entry = self.reserve_namespace(name, r).inspect_err(refused)?;
        let begun = self.begin_record(&entry, None, what, cause);
        if let Err(e) = self.made(&entry, None, cause) {
            let e = failure::registration_failed(name, e);
            self.take_back(&entry, begun, &e);
            return Err(e);
        }
        self.records.end(begun, None);
        self.schedule(&entry);
        Ok(self.show(&entry))
    }

    /// The name, and the namespace for it.
    fn reserve_namespace(&self, name: &ProviderName, r: Registration) -> Result<Arc<Entry>, Error> {
        let Some(namespace) = r.namespace.filter(|_| r.definition == Definition::default()) else {
            return Err(failure::invalid_config(
                name,
                "an entry of type 'module' has a namespace, and no more",
            ));
        };
        let (entry, is_new) = self.reserve(name, r.labels);
        if !is_new {
            return Err(failure::already_exists(name));
        }
        let other = {
            let mut all = self.namespaces.lock();
            let other = all.get(&namespace).map(|other| other.name.clone());
            if other.is_none() {
                all.insert(namespace.clone(), Arc::clone(&entry));
            }
            other
        };
        if let Some(other) = other {
            self.remove(&entry);
            let why = format!("namespace {namespace} is that of provider {other} already");
            return Err(failure::invalid_config(name, &why));
        }
        {
            let mut facts = entry.facts.lock();
            TYPE_MODULE.clone_into(&mut facts.kind);
            facts.stands_for = Some(StandsFor::Namespace(namespace));
        }
        Ok(entry)
    }

    /// How the members of a namespace are: well, if one at least takes calls.
    pub(super) fn members(&self, name: &ProviderName, namespace: &str) -> Result<ProviderAnswer, Error> {
        let (well, others) = self.modules.get().map(|modules| modules.members(namespace)).unwrap_or_default();
        let others = others.join(", ");
        if well == 0 {
            let why = if others.is_empty() { "there is none".to_owned() } else { others };
            let message = format!("provider {name}: no member of namespace {namespace} takes calls: {why}");
            return Err(Error::new(Code::Failed, message)
                .reason("unavailable")
                .hint("'provost module connections' shows how each is"));
        }
        let count = if well == 1 { "1 member".to_owned() } else { format!("{well} members") };
        let (status, message) =
            if others.is_empty() { (OK, count) } else { ("degraded", format!("{count}; {others}")) };
        Ok(ProviderAnswer::Health(ProviderHealth { status: status.to_owned(), message }))
    }

    /// Whether what an entry stands for is there; none: it stands for nothing.
    pub(super) fn is_there(&self, entry: &Entry) -> Option<bool> {
        let stands_for = entry.facts.lock().stands_for.clone()?;
        Some(match stands_for {
            StandsFor::Secret(reference) => reference.resolve().is_ok(),
            StandsFor::Namespace(namespace) => self.members(&entry.name, &namespace).is_ok(),
        })
    }

    /// Calls a module, past the breaker of its namespace, where that is an entry.
    pub fn call_module<T>(
        &self,
        module: &str,
        cause: Cause<'_>,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some((entry, permit)) = self.permit_module(module)? else { return call() };
        let _user = entry.enter()?;
        let result = call();
        let outcome = match &result {
            Ok(_) => Outcome::Success,
            Err(e) if is_of_the_members(e) => Outcome::Failure(e.message.clone()),
            Err(_) => Outcome::Ignored,
        };
        match &outcome {
            Outcome::Success => self.sign(&entry, Sign::Works, "", cause),
            Outcome::Failure(why) => self.sign(&entry, Sign::Fails, why, cause),
            Outcome::Ignored => {}
        }
        permit.end(outcome);
        self.settle(&entry);
        result
    }

    /// The right to a call of this module; none: its namespace is no entry, and anybody may.
    pub fn permit_module(&self, module: &str) -> Result<Option<(Arc<Entry>, Permit)>, Error> {
        let namespace = module.rsplit_once('.').map_or(module, |(namespace, _)| namespace);
        let Some(entry) = self.namespaces.lock().get(namespace).cloned() else { return Ok(None) };
        let permit = self.enter_gate(&entry)?;
        Ok(Some((entry, permit)))
    }
}

/// Whether an error says that the members do not work, rather than that the question was bad. By the reasons
/// of `module/call.rs`.
fn is_of_the_members(e: &Error) -> bool {
    matches!(e.reason.as_str(), "transport" | "timeout" | "no_healthy_executors")
}
