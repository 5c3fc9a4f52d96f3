//! The one way to a provider: past its breaker, as one of its users, with what came of it told to both.

use std::sync::Arc;

use crate::guard::breaker::Outcome;
use crate::registry::entry::{Entry, Life, News};
use crate::registry::failure::{self, without_name};
use crate::registry::{Cause, Registry};
use crate::sys::clock;
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::{ProviderAnswer, ProviderCall};
use crate::wire::registry::Check;
use crate::wire::time::Timestamp;

/// Why a crash counts that no call was in the middle of.
const CRASHED: &str = "its process ended by itself";

impl Registry {
    /// Calls a provider, if its breaker lets the call through. A result that says that the provider does not
    /// work counts, and so does a crash that was found only now.
    pub(super) fn guarded(
        &self,
        entry: &Arc<Entry>,
        call: ProviderCall,
        cause: Cause<'_>,
    ) -> Result<ProviderAnswer, Error> {
        let permit = entry.gate.enter().map_err(|r| failure::circuit_open(&entry.name, &r))?;
        let _user = entry.enter()?;
        if permit.is_probe() {
            // It is to be tried: what the restarts of a while ago came to is not to stand in its way.
            let _ = self.providers.answer(ProviderCall::Reset(entry.name.clone()));
        }
        let (is_check, begin) = (matches!(call, ProviderCall::Health(_)), clock::now_ms());
        let result = self.providers.answer(call);
        // The call has started what a person had stopped.
        if entry.life() == Life::Stopped {
            entry.set_life(Life::Live);
            self.save(entry);
        }
        let crashes = self.look(entry, result.as_ref().err(), cause);
        let outcome = match &result {
            Ok(_) => Outcome::Success,
            Err(e) if failure::is_of_the_provider(e) => {
                Outcome::Failure(without_name(&entry.name, &e.message).to_owned())
            }
            Err(_) => Outcome::Ignored,
        };
        if is_check {
            self.checked(entry, &result, clock::now_ms() - begin, cause);
        }
        let counted = u64::from(matches!(outcome, Outcome::Failure(_)));
        for _ in counted..crashes {
            entry.gate.fail(CRASHED);
        }
        permit.end(outcome);
        self.settle(entry);
        result
    }

    /// Changes something of a provider that it is not asked about.
    pub(super) fn change(
        &self,
        entry: &Arc<Entry>,
        call: ProviderCall,
        life: Option<Life>,
        cause: Cause<'_>,
    ) -> Result<ProviderAnswer, Error> {
        let user = entry.enter()?;
        let result = self.providers.answer(call);
        self.after(entry, life, &result, cause);
        drop(user);
        self.settle(entry);
        result
    }

    /// Has it running.
    pub(super) fn start(&self, entry: &Arc<Entry>, cause: Cause<'_>) -> Result<(), Error> {
        let user = entry.enter()?;
        let result = self.providers.run(&entry.name);
        self.after(entry, Some(Life::Live), &result, cause);
        drop(user);
        self.settle(entry);
        result
    }

    /// Has it running, also where it was disposed of.
    pub(super) fn initialize(&self, entry: &Arc<Entry>, cause: Cause<'_>) -> Result<(), Error> {
        {
            let mut facts = entry.facts.lock();
            if facts.life == Life::Disposed {
                facts.life = Life::Stopped;
            }
        }
        self.start(entry, cause)
    }

    /// Takes down what a change has come to. One that fails for the provider's sake counts for its breaker.
    fn after<T>(&self, entry: &Arc<Entry>, life: Option<Life>, result: &Result<T, Error>, cause: Cause<'_>) {
        let is_changed = {
            let mut facts = entry.facts.lock();
            match (life, result) {
                (Some(life), Ok(_)) if matches!(facts.life, Life::Live | Life::Stopped) => {
                    std::mem::replace(&mut facts.life, life) != life
                }
                _ => false,
            }
        };
        let mut failures = self.look(entry, result.as_ref().err(), cause);
        if let Err(e) = result
            && failure::is_of_the_provider(e)
        {
            failures = failures.max(1);
        }
        let why = result.as_ref().err().map_or(CRASHED, |e| without_name(&entry.name, &e.message));
        (0..failures).for_each(|_| entry.gate.fail(why));
        if is_changed {
            self.save(entry);
        }
    }

    /// Looks what has happened to a provider since the last look, tells it, and returns how many of its runs
    /// have ended by themselves. `error`: what the call that was made has come to.
    pub(super) fn look(&self, entry: &Arc<Entry>, error: Option<&Error>, cause: Cause<'_>) -> u64 {
        let news = {
            let mut facts = entry.facts.lock();
            let now = self.seen(&entry.name);
            std::mem::replace(&mut facts.seen, now).news(now)
        };
        let tell = |kind, detail: &str| self.events.tell(kind, &entry.name, cause, detail);
        let mut crashes = 0;
        for news in news {
            match news {
                News::Crashed(count) => {
                    crashes = count;
                    let of_call = error.filter(|e| e.reason == "crashed");
                    tell(
                        EventKind::ProviderError,
                        of_call.map_or(CRASHED, |e| without_name(&entry.name, &e.message)),
                    );
                }
                News::Started => tell(EventKind::ProviderStarted, ""),
                News::StartFailed => {
                    let why =
                        error.map_or("it could not be started", |e| without_name(&entry.name, &e.message));
                    tell(EventKind::ProviderError, why);
                }
                News::Stopped => tell(EventKind::ProviderStopped, ""),
            }
        }
        crashes
    }

    /// Keeps what a check has found, and tells where it is another than before.
    fn checked(
        &self,
        entry: &Arc<Entry>,
        result: &Result<ProviderAnswer, Error>,
        latency_ms: u64,
        cause: Cause<'_>,
    ) {
        let (health, message) = match result {
            Ok(ProviderAnswer::Health(h)) => (h.status.clone(), h.message.clone()),
            Ok(_) => return,
            Err(e) => ("failed".to_owned(), e.message.clone()),
        };
        let check = Check { at: Timestamp::now(), health: health.clone(), message, latency_ms };
        let detail = format!("{health}: {}", check.message);
        let before = entry.facts.lock().check.replace(check).map(|check| check.health);
        // That the first check finds it well is no change.
        if before.unwrap_or_else(|| "ok".to_owned()) != health {
            self.events.tell(EventKind::HealthStatusChanged, &entry.name, cause, &detail);
        }
    }
}
