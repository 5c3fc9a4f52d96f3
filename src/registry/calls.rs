//! The one way to a provider: past its breaker, as one of its users, with what came of it told to both.

use std::sync::Arc;
use std::time::Duration;

use crate::guard::breaker::Outcome;
use crate::guard::gate::Permit;
use crate::provider::End;
use crate::registry::entry::{Entry, Life, News};
use crate::registry::failure::{self, is_of_the_provider, without_name};
use crate::registry::health::{FAILED, Sign};
use crate::registry::{Cause, Registry};
use crate::sys::clock;
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::{ProviderAnswer, ProviderCall, ProviderName, TYPE_PROCESS, TYPE_REMOTE};
use crate::wire::registry::Check;
use crate::wire::time::{Timestamp, millis};

/// Why a crash counts that no call was in the middle of.
const CRASHED: &str = "its process ended by itself";
/// The causes of what a check finds, and of what the end of a process means.
const CAUSE_MONITOR: &str = "health check";
const CAUSE_EXIT: &str = "exit";

impl Registry {
    /// Calls a provider, if its breaker lets the call through.
    pub(super) fn guarded(
        &self,
        entry: &Arc<Entry>,
        call: ProviderCall,
        cause: Cause<'_>,
    ) -> Result<ProviderAnswer, Error> {
        let permit = self.enter_gate(entry)?;
        let _user = entry.enter()?;
        self.permitted(entry, permit, cause, || self.providers.answer(call))
    }

    /// Asks a provider that runs how it is. That is no use of it, and nobody waits for it.
    pub(super) fn check(&self, entry: &Arc<Entry>, cause: Cause<'_>) -> Result<(), Error> {
        if !matches!(entry.life(), Life::Live | Life::Stopped) {
            return Err(failure::disposed(&entry.name));
        }
        let permit = self.enter_gate(entry)?;
        let settings = &self.settings.health;
        let namespace = entry.namespace();
        let ask = || {
            if let Some(namespace) = &namespace {
                return self.members(&entry.name, namespace);
            }
            let ask_once = || match self.providers.check(&entry.name, settings.timeout) {
                Ok(None) => Err(failure::not_running(&entry.name)),
                Ok(Some(answer)) => Ok(answer),
                Err(e) => Err(e),
            };
            let is_final = |result: &Result<_, Error>| {
                result.as_ref().err().is_none_or(|e| e.reason == "crashed" || !is_of_the_provider(e))
            };
            let mut result = ask_once();
            for _ in 0..settings.retries {
                if is_final(&result) || !entry.retries.lock().spend(clock::now_ms()) {
                    break;
                }
                result = ask_once();
            }
            result
        };
        let result = self.permitted(entry, permit, cause, ask);
        if let Err(e) = &result
            && is_of_the_provider(e)
            // A crash is told as such, and of checks that fail in a row the first one is.
            && e.reason != "crashed"
            && entry.facts.lock().health.failures() == 1
        {
            let why = format!("a check of its health has failed: {}", without_name(&entry.name, &e.message));
            self.events.tell(EventKind::ProviderError, &entry.name, cause, &why);
        }
        result.map(drop)
    }

    /// Makes a call that may be made. A result that says that the provider does not work counts, and so does
    /// a crash that was found only now; one crash counts once, however many calls it has ended.
    fn permitted(
        &self,
        entry: &Arc<Entry>,
        permit: Permit,
        cause: Cause<'_>,
        ask: impl FnOnce() -> Result<ProviderAnswer, Error>,
    ) -> Result<ProviderAnswer, Error> {
        if permit.is_probe() {
            // It is to be tried: what the restarts of a while ago came to is not to stand in its way.
            let _ = self.providers.answer(ProviderCall::Reset(entry.name.clone()));
        }
        entry.retries.lock().earn();
        let begin = clock::now_ms();
        let result = ask();
        // The call has started what a person had stopped.
        if entry.life() == Life::Stopped && result.is_ok() {
            entry.set_life(Life::Live);
            self.save(entry);
        }
        let crashes = self.look(entry, result.as_ref().err(), cause);
        let outcome = match &result {
            Ok(_) => Outcome::Success,
            // It was counted when it was found.
            Err(e) if e.reason == "crashed" && crashes == 0 && !permit.is_probe() => Outcome::Ignored,
            Err(e) if is_of_the_provider(e) => {
                Outcome::Failure(without_name(&entry.name, &e.message).to_owned())
            }
            Err(_) => Outcome::Ignored,
        };
        self.weigh(entry, &result, &outcome, clock::now_ms() - begin, cause);
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

    /// Forgets failures, also for the hosts that follow.
    pub(super) fn reset(
        &self,
        entry: &Arc<Entry>,
        call: ProviderCall,
        cause: Cause<'_>,
    ) -> Result<ProviderAnswer, Error> {
        entry.gate.reset();
        entry.facts.lock().reset_ms = clock::now_ms();
        entry.set_unsaved();
        self.change(entry, call, None, cause)
    }

    /// Switches to a fresh process. The calls of one that cannot be started go on with the present one, which
    /// does not get the blame.
    pub(super) fn replace(
        &self,
        entry: &Arc<Entry>,
        call: ProviderCall,
        cause: Cause<'_>,
    ) -> Result<ProviderAnswer, Error> {
        let result = self.change(entry, call, Some(Life::Live), cause);
        if let Err(e) = &result {
            let why = format!("it was not replaced: {}", without_name(&entry.name, &e.message));
            self.events.tell(EventKind::ProviderError, &entry.name, cause, &why);
        }
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
                entry.gate.set_away(false);
                self.providers.reopen(&entry.name);
            }
        }
        self.start(entry, cause)
    }

    /// Takes down what a change has come to. One that fails for the provider's sake counts for its breaker,
    /// unless it runs all the same.
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
            && is_of_the_provider(e)
            && !self.is_running(entry)
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
        if !news.is_empty() {
            self.schedule(entry);
        }
        for news in news {
            match news {
                News::Crashed(count) => {
                    crashes = count;
                    entry.facts.lock().counted = self.providers.last_end(&entry.name).map(|end| end.process);
                    entry.set_unsaved();
                    let of_call = error.filter(|e| e.reason == "crashed");
                    tell(
                        EventKind::ProviderError,
                        of_call.map_or(CRASHED, |e| without_name(&entry.name, &e.message)),
                    );
                }
                News::Started => {
                    tell(EventKind::ProviderStarted, "");
                    self.sign(entry, Sign::Fresh, "it was started", cause);
                }
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

    /// Keeps what a check has found, and tells where the provider is another than before.
    fn weigh(
        &self,
        entry: &Arc<Entry>,
        result: &Result<ProviderAnswer, Error>,
        outcome: &Outcome,
        latency_ms: u64,
        cause: Cause<'_>,
    ) {
        let check = |health: &str, message: &str| {
            let (health, message) = (health.to_owned(), message.to_owned());
            Some(Check { at: Timestamp::now(), health, message, latency_ms })
        };
        let (sign, check) = match (result.as_ref().map(ProviderAnswer::plain), outcome) {
            (Ok(ProviderAnswer::Health(h)), _) => (Sign::Says(&h.status), check(&h.status, &h.message)),
            (Ok(_), _) => (Sign::Works, None),
            (Err(_), Outcome::Failure(why)) => (Sign::Fails, check(FAILED, why)),
            (Err(_), Outcome::Success | Outcome::Ignored) => return,
        };
        let message = check.as_ref().map_or_else(String::new, |check| check.message.clone());
        if let Some(check) = check {
            entry.facts.lock().check = Some(check);
        }
        self.sign(entry, sign, &message, cause);
    }

    /// Takes a sign of how a provider is, and tells where that is another than before.
    pub(super) fn sign(&self, entry: &Arc<Entry>, sign: Sign<'_>, message: &str, cause: Cause<'_>) {
        let status = {
            let mut facts = entry.facts.lock();
            if !facts.health.take(sign, &self.settings.health) {
                return;
            }
            facts.health.status().to_owned()
        };
        let detail = if message.is_empty() { status } else { format!("{status}: {message}") };
        self.events.tell(EventKind::HealthStatusChanged, &entry.name, cause, &detail);
    }

    /// Checks one in its turn; whether it is to be checked again.
    pub(super) fn is_checked(&self, name: &ProviderName) -> bool {
        let Ok(entry) = self.find(name) else { return false };
        let _ = self.check(&entry, CAUSE_MONITOR);
        self.can_be_checked(&entry) && entry.interval(&self.settings.health).is_some()
    }

    /// Has it checked in this interval; zero: no more.
    pub(super) fn monitor(&self, entry: &Arc<Entry>, interval: Duration) {
        entry.facts.lock().interval = Some(interval);
        self.save(entry);
        self.schedule(entry);
    }

    /// Has the monitor know whether it is to be checked.
    pub(super) fn schedule(&self, entry: &Arc<Entry>) {
        let Some(watch) = self.watch.get() else { return };
        match entry.interval(&self.settings.health).filter(|_| {
            matches!(entry.life(), Life::Live | Life::Stopped | Life::Registering)
                && self.can_be_checked(entry)
        }) {
            Some(interval) => watch.monitor.watch(&entry.name, interval),
            None => watch.monitor.unwatch(&entry.name),
        }
    }

    /// Tells what has ended while no host ran, or while the entries were taken on: what came of it by then
    /// was nobody's.
    pub(super) fn look_for_ends(&self) {
        let period = self.settings.breaker.monitoring_period;
        for entry in self.of_set(None) {
            let end = self.providers.last_end(&entry.name);
            // What is older than the window would not count any more if somebody had seen it.
            let is_late =
                end.as_ref().is_some_and(|end| Timestamp::now().0.saturating_sub(end.at.0) >= millis(period));
            self.look_at_end(&entry, end.as_ref().map(|end| &*end.how), !is_late);
            self.settle(&entry);
            self.ended(&entry.name);
        }
    }

    /// The process of a provider has ended, or that of an earlier run.
    pub(super) fn ended(&self, name: &ProviderName) {
        let Ok(entry) = self.find(name) else { return };
        let Some(end) = self.providers.take_end(name) else { return };
        let how = if let End::ByItself(how) = &end { Some(&**how) } else { None };
        if let Some(why) = self.look_at_end(&entry, how, true) {
            self.sign(&entry, Sign::Fails, &why, CAUSE_EXIT);
        }
        self.settle(&entry);
    }

    /// Looks what an end has come to; `how` it ended, if by itself. What is returned says why it is a crash,
    /// if it is one that nobody has seen. `is_counted`: for the breaker.
    fn look_at_end(&self, entry: &Arc<Entry>, how: Option<&str>, is_counted: bool) -> Option<String> {
        let e = how.map(|how| failure::ended(&entry.name, how));
        let crashes = self.look(entry, e.as_ref(), CAUSE_EXIT);
        let why = e.as_ref().map_or(CRASHED, |e| without_name(&entry.name, &e.message));
        if is_counted {
            (0..crashes).for_each(|_| entry.gate.fail(why));
        }
        (crashes > 0).then(|| why.to_owned())
    }

    /// Of a type that says only how it is run it is what its definition says by now.
    pub(super) fn kind_of(&self, name: &ProviderName, noted: String) -> String {
        match noted.as_str() {
            "" | TYPE_PROCESS | TYPE_REMOTE => self
                .providers
                .definition(name)
                .map_or(TYPE_PROCESS, |definition| definition.kind())
                .to_owned(),
            _ => noted,
        }
    }

    /// Writes the note where the breaker has changed.
    pub(super) fn settle(&self, entry: &Arc<Entry>) {
        if entry.take_unsaved() {
            self.save(entry);
        }
    }

    /// The lock is held while the note is written, and sent to the engine: it is there for that alone. A note
    /// that cannot be written now is written with the next change.
    pub(super) fn save(&self, entry: &Arc<Entry>) {
        let _saving = entry.saving.lock();
        if entry.life() != Life::Gone {
            let _ = self.notes.write(&entry.name, &entry.note());
            self.keep(entry);
        }
    }
}
