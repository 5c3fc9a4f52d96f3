//! Permits for calls that others make: whoever calls what an entry stands for asks before, and reports after.
//! A permit holds a place in the breaker as a call of ours does. One that is not reported in time gives its
//! place back, as if there had been no call.

use std::sync::Arc;
use std::time::Duration;

use crate::guard::breaker;
use crate::guard::gate;
use crate::registry::entry::Entry;
use crate::registry::health::Sign;
use crate::registry::permit_table::{Held, PERMITS_MAX};
use crate::registry::stands_for::StandsFor;
use crate::registry::{Cause, Registry, failure};
use crate::sys::clock;
use crate::wire::error::{Code, Error};
use crate::wire::permit::{Outcome, Permit, Report};
use crate::wire::registry::Entry as ShownEntry;
use crate::wire::time::millis;

/// Why a call has failed where nobody says so.
const FAILED: &str = "it was reported as failed";

impl Registry {
    /// A place in the breaker of an entry; those that have expired are free.
    pub(super) fn enter_gate(&self, entry: &Arc<Entry>) -> Result<gate::Permit, Error> {
        self.permits.give_back();
        entry.gate.enter().map_err(|r| failure::circuit_open(&entry.name, &r))
    }

    /// Lets somebody make one call. Nobody is started for it.
    pub(super) fn permit(&self, entry: &Arc<Entry>, expiry: Option<Duration>) -> Result<Permit, Error> {
        drop(entry.enter()?);
        let missing = |why: String| failure::invalid_config(&entry.name, &why);
        let stands_for = entry.facts.lock().stands_for.clone();
        if let Some(StandsFor::Secret(reference)) = stands_for {
            reference.resolve().map(drop).map_err(missing)?;
        }
        let permit = self.enter_gate(entry)?;
        let is_probe = permit.is_probe();
        let longest = self.settings.breaker.probe_timeout;
        let expiry = expiry.unwrap_or(longest);
        // The breaker itself waits no longer for a probe.
        let expiry = if is_probe { expiry.min(longest) } else { expiry };
        let expires_ms = clock::now_ms().saturating_add(millis(expiry));
        let id = self.permits.add(Held { entry: Arc::clone(entry), permit, expires_ms });
        self.settle(entry);
        let id = id.ok_or_else(|| too_many(entry))?;
        Ok(Permit { id, name: entry.name.clone(), expires_at: failure::wall(expires_ms), is_probe })
    }

    /// A call that there was a permit for has ended.
    pub(super) fn report(&self, report: Report, cause: Cause<'_>) -> Result<ShownEntry, Error> {
        self.permits.give_back();
        let Some(Held { entry, permit, .. }) = self.permits.take(&report.permit) else {
            return Err(unknown(&report.permit));
        };
        let why = if report.reason.is_empty() { FAILED.to_owned() } else { report.reason };
        let outcome = match report.outcome {
            Outcome::Ok => {
                self.sign(&entry, Sign::Works, "", cause);
                breaker::Outcome::Success
            }
            Outcome::Failed => {
                self.sign(&entry, Sign::Fails, &why, cause);
                breaker::Outcome::Failure(why)
            }
            Outcome::Ignored => breaker::Outcome::Ignored,
        };
        permit.end(outcome);
        self.settle(&entry);
        Ok(self.show(&entry))
    }
}

fn too_many(entry: &Entry) -> Error {
    let message = format!("provider {}: {PERMITS_MAX} permits are out already", entry.name);
    Error::new(Code::Refused, message).hint("report those that are done").reason("busy")
}

fn unknown(permit: &str) -> Error {
    let message = format!("there is no permit {}", crate::wire::id::quoted(permit));
    Error::new(Code::NotFound, message)
        .hint("it has expired, was reported before, or was of an earlier host; its place is free")
        .reason("permit_not_found")
}
