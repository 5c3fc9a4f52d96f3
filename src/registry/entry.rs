//! One entry: what the registry knows of a provider beside what its host does. What its status is, and what
//! has happened to it between two looks, is decided purely.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::guard::breaker::{Breaker, BreakerState, Change};
use crate::guard::gate::Gate;
use crate::guard::retry_budget::RetryBudget;
use crate::registry::discovery::{Behind, Candidate, Origin};
use crate::registry::events::Events;
use crate::registry::failure::{disposed, wall};
use crate::registry::health::{FAILED, HealthSettings, HealthState};
use crate::registry::settings::RegistrySettings;
use crate::registry::stands_for::StandsFor;
use crate::sys::clock;
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::id::ProcessId;
use crate::wire::json::time;
use crate::wire::provider::{Provider, ProviderName, ProviderState};
use crate::wire::registry::{self as wire, Check};
use crate::wire::registry_note::{BreakerNote, RegistryNote};
use crate::wire::time::Timestamp;
use crate::wire::values::duration_text;

/// How a provider calls itself that works, but not well.
const DEGRADED: &str = "degraded";
/// The cause of what a breaker does.
const CAUSE_BREAKER: &str = "circuit breaker";

/// Where an entry is in its life; how its process is, is the provider's own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The name is taken; whether it will be one is open.
    Registering,
    Live,
    /// A person stopped it; the next call starts it.
    Stopped,
    /// Its users leave.
    Disposing,
    /// It takes no calls until it is initialised.
    Disposed,
    /// It is no entry any more.
    Gone,
}

/// What was seen of a provider at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    starts: u64,
    crashes: u64,
    is_running: bool,
}

/// What has happened since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// So many runs have ended by themselves.
    Crashed(u64),
    Started,
    StartFailed,
    Stopped,
}

impl Seen {
    /// What is to be seen now.
    #[must_use]
    pub fn of(provider: &Provider, crashes: u64) -> Self {
        Self { starts: provider.starts, crashes, is_running: provider.state == ProviderState::Ready }
    }

    /// The same before any of its crashes.
    #[must_use]
    pub fn without_crashes(self) -> Self {
        Self { crashes: 0, ..self }
    }

    /// What has happened from this look to that one.
    #[must_use]
    pub fn news(self, now: Self) -> Vec<News> {
        let mut news = Vec::new();
        let crashes = now.crashes.saturating_sub(self.crashes);
        if crashes > 0 {
            news.push(News::Crashed(crashes));
        }
        if now.starts > self.starts {
            news.push(if now.is_running { News::Started } else { News::StartFailed });
        } else if self.is_running && !now.is_running && crashes == 0 {
            news.push(News::Stopped);
        }
        news
    }
}

/// What changes, under one lock.
#[derive(Clone, Debug)]
pub struct Facts {
    pub life: Life,
    pub origin: Origin,
    pub registered_at: Timestamp,
    pub labels: Vec<(String, String)>,
    /// Of which type it is.
    pub kind: String,
    /// Of the plugin that it comes from.
    pub version: String,
    /// As its manifest says.
    pub capabilities: Vec<String>,
    /// What it stands for, where nothing of ours runs for it.
    pub stands_for: Option<StandsFor>,
    pub check: Option<Check>,
    pub health: HealthState,
    /// From one check of its health to the next, where a person has set it; zero: it is not checked.
    pub interval: Option<Duration>,
    pub seen: Seen,
    /// The last of its processes that has ended by itself and was counted.
    pub counted: Option<ProcessId>,
    /// When its failures were forgotten for the last time (monotonic ms).
    pub reset_ms: u64,
}

pub struct Entry {
    pub name: ProviderName,
    pub gate: Arc<Gate>,
    pub facts: Mutex<Facts>,
    /// Of checks of its health, which calls earn, too.
    pub retries: Mutex<RetryBudget>,
    /// Shared by whoever uses the provider; alone by whoever takes it away, who so waits for the others.
    users: RwLock<()>,
    /// Locked while the note is written, so that the last one written is of the last state.
    pub saving: Mutex<()>,
    /// The digest of what the engine keeps of it; none: it keeps nothing.
    pub kept: Mutex<Option<u64>>,
    /// The breaker has changed since the note was written, or a run has ended.
    is_unsaved: Arc<AtomicBool>,
}

impl Entry {
    /// A fresh one, or with its note as an earlier host has left it.
    #[must_use]
    pub fn new(
        name: ProviderName,
        facts: Facts,
        note: &BreakerNote,
        settings: &RegistrySettings,
        events: &Events,
    ) -> Self {
        let seed = RandomState::new().hash_one(&name);
        let mut breaker = Breaker::new(settings.breaker.clone(), seed);
        if note.is_held {
            breaker.hold(&note.reason);
        } else if let Some(until) = note.open_until {
            let left = until.0.saturating_sub(Timestamp::now().0);
            breaker.resume_open(clock::now_ms().saturating_add(left), &note.reason, note.openings);
        } else {
            let ago = |at: &Timestamp| Timestamp::now().0.saturating_sub(at.0);
            breaker.resume_closed(note.failures.iter().map(|at| clock::now_ms().saturating_sub(ago(at))));
        }
        // That was told when it happened.
        breaker.take_changes();
        let is_unsaved = Arc::new(AtomicBool::new(false));
        let (unsaved, events, whose) = (Arc::clone(&is_unsaved), events.clone(), name.clone());
        let window = settings.breaker.monitoring_period;
        let tell = move |change: Change| {
            unsaved.store(true, Ordering::Relaxed);
            let (kind, detail) = event_of(&change, window);
            events.tell(kind, &whose, CAUSE_BREAKER, &detail);
        };
        let gate = Arc::new(Gate::new(breaker, Box::new(tell)));
        let (facts, users, saving) = (Mutex::new(facts), RwLock::default(), Mutex::default());
        let (retries, kept) = (Mutex::default(), Mutex::default());
        Self { name, gate, facts, retries, users, saving, kept, is_unsaved }
    }

    /// The right to use it until what is returned is dropped.
    pub fn enter(&self) -> Result<RwLockReadGuard<'_, ()>, Error> {
        let user = self.users.read();
        match self.facts.lock().life {
            Life::Registering | Life::Live | Life::Stopped => Ok(user),
            Life::Disposing | Life::Disposed | Life::Gone => Err(disposed(&self.name)),
        }
    }

    /// The same for who changes how it is run: also one that was disposed of is changed.
    pub fn enter_to_change(&self) -> Result<RwLockReadGuard<'_, ()>, Error> {
        let user = self.users.read();
        match self.facts.lock().life {
            Life::Registering | Life::Live | Life::Stopped | Life::Disposed => Ok(user),
            Life::Disposing | Life::Gone => Err(disposed(&self.name)),
        }
    }

    /// Does the work when all users have left, or after so long all the same: the work then ends their
    /// calls.
    pub fn alone<T>(&self, timeout: Duration, work: impl FnOnce() -> T) -> T {
        let _alone = self.users.try_write_for(timeout);
        work()
    }

    pub fn life(&self) -> Life {
        self.facts.lock().life
    }

    pub fn set_life(&self, life: Life) {
        self.facts.lock().life = life;
        self.gate.set_away(matches!(life, Life::Disposed | Life::Gone));
    }

    /// The note is to be written when what is under way has come to its end.
    pub fn set_unsaved(&self) {
        self.is_unsaved.store(true, Ordering::Relaxed);
    }

    /// Whether the note is older than the entry; asking settles it.
    pub fn take_unsaved(&self) -> bool {
        self.is_unsaved.swap(false, Ordering::Relaxed)
    }

    pub fn note(&self) -> RegistryNote {
        let facts = self.facts.lock().clone();
        let status = self.gate.status();
        let rejection = status.rejection;
        let open_until = rejection.as_ref().and_then(|r| r.retry_ms).map(|at| match status.state {
            // The next host does not know the probe that is under way.
            BreakerState::HalfOpen => Timestamp::now(),
            BreakerState::Closed | BreakerState::Open | BreakerState::Isolated => wall(at),
        });
        RegistryNote {
            registered_at: facts.registered_at,
            source: facts.origin.name().to_owned(),
            labels: facts.labels,
            is_stopped: facts.life == Life::Stopped,
            is_disposed: facts.life == Life::Disposed,
            breaker: BreakerNote {
                open_until,
                is_held: status.state == BreakerState::Isolated,
                openings: status.openings,
                reason: rejection.map(|r| r.why).unwrap_or_default(),
                failures: status.failed_at.into_iter().map(wall).collect(),
            },
            counted: facts.counted,
            reset_ms: facts.reset_ms,
            interval: facts.interval,
            kind: facts.kind,
            version: facts.version,
            capabilities: facts.capabilities,
            credential: facts.stands_for.map(|it| it.text()),
        }
    }

    /// It is what this says from now on.
    pub fn become_of(&self, candidate: &Candidate) {
        let mut facts = self.facts.lock();
        facts.origin = candidate.origin;
        facts.kind.clone_from(&candidate.kind);
        facts.version.clone_from(&candidate.version);
        facts.capabilities.clone_from(&candidate.capabilities);
        facts.labels.clone_from(&candidate.labels);
        facts.stands_for = match &candidate.behind {
            Behind::Process(_) => None,
            Behind::Credential(reference) => Some(StandsFor::Secret(reference.clone())),
        };
    }

    /// Whether it only stands for something: nothing of ours runs for it.
    #[must_use]
    pub fn is_passive(&self) -> bool {
        self.facts.lock().stands_for.is_some()
    }

    /// The namespace that it is.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        match &self.facts.lock().stands_for {
            Some(StandsFor::Namespace(namespace)) => Some(namespace.clone()),
            Some(StandsFor::Secret(_)) | None => None,
        }
    }

    /// From one check of its health to the next; none: it is not checked.
    #[must_use]
    pub fn interval(&self, settings: &HealthSettings) -> Option<Duration> {
        let interval = self.facts.lock().interval.or(settings.check_interval);
        interval.filter(|interval| !interval.is_zero())
    }

    /// As it is shown, with its provider. `is_there`: what it stands for, if it does so.
    #[must_use]
    pub fn show(&self, provider: Provider, is_there: Option<bool>, settings: &HealthSettings) -> wire::Entry {
        let interval = self.interval(settings);
        let facts = self.facts.lock().clone();
        let breaker = self.gate.status();
        let rejection = breaker.rejection;
        wire::Entry {
            status: match is_there {
                Some(true) if facts.life == Life::Live => "ready",
                Some(false) if facts.life == Life::Live => "error",
                _ => status(facts.life, provider.state, facts.health.status()),
            }
            .to_owned(),
            kind: facts.kind,
            version: facts.version,
            capabilities: with_type(facts.capabilities, &provider.kind),
            shadows: Vec::new(),
            source: facts.origin.name().to_owned(),
            registered_at: facts.registered_at,
            labels: facts.labels,
            check: facts.check,
            breaker: wire::Breaker {
                state: breaker.state.name().to_owned(),
                failures: breaker.failures,
                next_probe_at: rejection.as_ref().and_then(|r| r.retry_ms).map(wall),
                reason: rejection.map(|r| r.why).unwrap_or_default(),
            },
            interval,
            provider,
        }
    }
}

/// What it can: its type as it says itself is one more thing.
fn with_type(mut capabilities: Vec<String>, kind: &str) -> Vec<String> {
    if !kind.is_empty() && !capabilities.iter().any(|known| known == kind) {
        capabilities.push(kind.to_owned());
    }
    capabilities
}

/// The status of an entry, from where it is in its life and how its provider is.
fn status(life: Life, state: ProviderState, health: &str) -> &'static str {
    match (life, state) {
        (Life::Registering, _) => "initializing",
        (Life::Disposing, _) => "disposing",
        (Life::Gone, _) => "unregistered",
        (Life::Disposed, _) => "disposed",
        (Life::Stopped, ProviderState::Idle) => "stopped",
        (Life::Live, ProviderState::Idle) => "idle",
        (_, ProviderState::Starting) => "initializing",
        (_, ProviderState::Failed) => "error",
        (_, ProviderState::Ready) if matches!(health, DEGRADED | FAILED) => DEGRADED,
        (_, ProviderState::Ready) => "ready",
    }
}

/// A change of a breaker as an event tells it.
fn event_of(change: &Change, window: Duration) -> (EventKind, String) {
    match change {
        Change::Opened { failures, why, retry_ms } => {
            let failures =
                if *failures == 1 { "1 failure".to_owned() } else { format!("{failures} failures") };
            let (window, next) = (duration_text(window), time(wall(*retry_ms)));
            let detail = format!("{failures} within {window}, next probe at {next}, the last one: {why}");
            (EventKind::CircuitBreakerOpened, detail)
        }
        Change::HalfOpened => (EventKind::CircuitBreakerHalfOpen, String::new()),
        Change::Closed => (EventKind::CircuitBreakerClosed, String::new()),
        Change::Isolated { why } => (EventKind::CircuitBreakerIsolated, why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_between_two_looks() {
        let seen = |starts, crashes, is_running| Seen { starts, crashes, is_running };
        let idle = seen(0, 0, false);
        assert_eq!(idle.news(idle), []);
        assert_eq!(idle.news(seen(1, 0, true)), [News::Started]);
        assert_eq!(idle.news(seen(1, 0, false)), [News::StartFailed]);
        let running = seen(1, 0, true);
        assert_eq!(running.news(seen(1, 0, false)), [News::Stopped]);
        assert_eq!(running.news(seen(2, 1, true)), [News::Crashed(1), News::Started]);
        assert_eq!(running.news(seen(1, 1, false)), [News::Crashed(1)]);
        assert_eq!(seen(0, 1, false).without_crashes().news(seen(0, 1, false)), [News::Crashed(1)]);
        // One that an earlier host has started is no news.
        assert_eq!(seen(0, 0, true).news(seen(0, 0, true)), []);
    }

    #[test]
    fn a_status_is_of_the_entry_first_and_then_of_its_provider() {
        for (life, state, health, expected) in [
            (Life::Registering, ProviderState::Starting, "ok", "initializing"),
            (Life::Live, ProviderState::Starting, "ok", "initializing"),
            (Life::Live, ProviderState::Idle, "ok", "idle"),
            (Life::Stopped, ProviderState::Idle, "ok", "stopped"),
            (Life::Stopped, ProviderState::Ready, "ok", "ready"),
            (Life::Live, ProviderState::Ready, "ok", "ready"),
            (Life::Live, ProviderState::Ready, "degraded", "degraded"),
            (Life::Live, ProviderState::Failed, "ok", "error"),
            (Life::Disposing, ProviderState::Ready, "ok", "disposing"),
            (Life::Disposed, ProviderState::Idle, "ok", "disposed"),
        ] {
            assert_eq!(status(life, state, health), expected, "{life:?} {state:?}");
        }
    }
}
