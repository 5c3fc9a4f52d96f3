//! The registry: one source of truth for every provider there is, changed while the service runs. Its entries
//! are the aliases of the provider host (`provider/mod.rs`), which starts them and speaks to them; here is
//! who registered one, whether it takes calls, and what happened to it.
//!
//! Every call of a provider goes through `calls.rs`, past the entry's circuit breaker. A name is reserved
//! before anything is started, so of many who register it at once one wins and nothing starts twice. No lock
//! is held while a provider is waited for, but the one of its users, which is there for that.

#![forbid(unsafe_code)]

mod apply;
mod calls;
mod chain;
pub mod discovery;
mod entry;
mod events;
mod exits;
mod failure;
mod groups;
pub mod health;
mod kept;
mod monitor;
mod passive;
mod permit_table;
mod permits;
pub mod records;
mod refresh;
mod registration;
mod removal;
mod schemas;
pub mod settings;
mod shutdown;
mod stands_for;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::module::Modules;
use crate::provider::{Note, Notes, Providers, for_each};
use crate::registry::discovery::{Discovered, Origin, Sources};
use crate::registry::entry::{Entry, Facts, Life, Seen};
use crate::registry::events::Events;
use crate::registry::exits::Exits;
use crate::registry::groups::Groups;
use crate::registry::health::{CHECK_INTERVAL, HealthState};
use crate::registry::monitor::Monitor;
use crate::registry::permit_table::Permits;
use crate::registry::records::Records;
use crate::registry::refresh::{Refresh, When};
use crate::registry::settings::RegistrySettings;
use crate::registry::stands_for::StandsFor;
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::{
    Definition, Provider, ProviderAnswer, ProviderCall, ProviderName, ProviderState,
};
use crate::wire::registry::{self as wire, RegistryAnswer, RegistryCall, Verb, Whom};
use crate::wire::registry_note::RegistryNote;
use crate::wire::time::Timestamp;

impl Note for RegistryNote {
    /// The most labels, and what is around them.
    const LEN_MAX: u64 = 128 << 10;

    fn encode(&self) -> Vec<u8> {
        self.encode()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

/// From one look at what there is to be to the next, where nobody has said otherwise.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// The cause of what discovery does by itself.
const CAUSE_DISCOVERY: &str = "discovery";

/// Who asks, as events name it.
type Cause<'a> = &'a str;

/// Takes a line for the service's log.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// All entries.
pub struct Registry {
    providers: Providers,
    entries: Mutex<BTreeMap<ProviderName, Arc<Entry>>>,
    notes: Notes<RegistryNote>,
    records: Records,
    settings: RegistrySettings,
    events: Events,
    say: Say,
    watch: OnceLock<Watch>,
    sources: OnceLock<Sources>,
    discovered: Mutex<Discovered>,
    /// Locked during a discovery, for one at a time.
    discovering: Mutex<()>,
    permits: Permits,
    refreshing: Refresh,
    groups: Groups,
    modules: OnceLock<Arc<Modules>>,
    /// Entries that are namespaces of the module plane, by these.
    namespaces: Mutex<BTreeMap<String, Arc<Entry>>>,
}

/// What looks at providers that run, while nobody calls them.
struct Watch {
    monitor: Monitor,
    exits: Exits,
}

impl Registry {
    /// `socket` is the service's, which events are sent to.
    pub fn new(
        socket: PathBuf,
        providers: Providers,
        notes: Notes<RegistryNote>,
        settings: RegistrySettings,
        say: Say,
    ) -> Result<Self, Error> {
        let records = Records::new(socket.clone());
        let events = Events::begin(socket)?;
        Ok(Self {
            providers,
            entries: Mutex::default(),
            notes,
            records,
            settings,
            events,
            say,
            watch: OnceLock::new(),
            sources: OnceLock::new(),
            discovered: Mutex::default(),
            discovering: Mutex::default(),
            permits: Permits::default(),
            refreshing: Refresh::default(),
            groups: Groups::default(),
            modules: OnceLock::new(),
            namespaces: Mutex::default(),
        })
    }

    /// Tells the engine what has happened to modules.
    pub fn tell_of_modules(&self, kind: EventKind, cause: &str, detail: &str) {
        self.events.tell_of_modules(kind, cause, detail);
    }

    /// Knows where providers are discovered, and looks there by itself where that is wanted. What was known
    /// before runs again then, but for those that are `begun` already.
    pub fn discover_from(self: &Arc<Self>, sources: Sources, begun: &[ProviderName]) -> Result<(), Error> {
        let when = When { plugins: sources.plugins.clone(), interval: sources.interval };
        let is_used = !sources.used.is_empty();
        let _ = self.sources.set(sources);
        if !is_used {
            return Ok(());
        }
        let known = self.of_set(None).into_iter().map(|entry| entry.name.clone());
        let known = known.filter(|name| !begun.contains(name)).collect();
        let (ours, known) = (Arc::clone(self), Mutex::new(known));
        self.refreshing.begin(when, move || {
            ours.refresh(CAUSE_DISCOVERY);
            // Behind the first look; what is new was started by it.
            ours.run_if_found(std::mem::take(&mut *known.lock()));
        })
    }

    /// Looks there by itself from now on, in this interval, or in that of the configuration.
    fn refresh_again(self: &Arc<Self>, interval: Option<Duration>) -> Result<(), Error> {
        let sources = self.sources.get();
        let interval = interval.or_else(|| sources.and_then(|s| s.interval)).unwrap_or(REFRESH_INTERVAL);
        let plugins = sources.and_then(|sources| sources.plugins.clone());
        let ours = Arc::clone(self);
        let when = When { plugins, interval: Some(interval) };
        self.refreshing.begin(when, move || ours.refresh(CAUSE_DISCOVERY))
    }

    /// Looks at providers that run from now on. `socket` is the service's.
    pub fn watch(self: &Arc<Self>, socket: PathBuf) -> Result<(), Error> {
        let (monitor, queue) = Monitor::new();
        let ours = Arc::clone(self);
        monitor.begin(queue, Arc::new(move |name: &ProviderName| ours.is_checked(name)))?;
        let ours = Arc::clone(self);
        let exits = Exits::new(socket, Arc::new(move |name: &ProviderName| ours.ended(name)))?;
        let _ = self.watch.set(Watch { monitor, exits });
        Ok(())
    }

    /// Takes on what an earlier host has left, and what the configuration defines. Returns what is worth
    /// saying about it.
    pub fn recover(&self, definitions: Vec<(ProviderName, Definition)>) -> Vec<String> {
        let (mut notes, bad) = self.notes.all();
        let (mut digests, mut said) = self.restore(&mut notes);
        let lost = self.providers.recover(|name| notes.get(name).map_or(0, |note| note.reset_ms));
        said.extend(lost.into_iter().map(|bad| format!("a provider is not known any more: {bad}")));
        said.extend(bad.into_iter().map(|bad| format!("an entry of the registry is lost: {bad}")));
        let configured: Vec<_> = definitions.iter().map(|(name, _)| name.clone()).collect();
        let is_api = |name: &ProviderName| {
            notes.get(name).is_some_and(|note| note.source == Origin::Api.name())
                && self.providers.known(name).is_some()
        };
        let (shadowed, valid): (Vec<_>, _) = definitions.into_iter().partition(|(name, _)| is_api(name));
        let shadows = "is not used: one of this name was registered while the service ran";
        said.extend(
            shadowed.iter().map(|(name, _)| format!("provider {name} of the configuration {shadows}")),
        );
        let (valid, bad) = self.with_schemas(valid);
        said.extend(bad);
        let older = self.providers.configure(valid);
        said.extend(
            older
                .iter()
                .map(|name| format!("provider {name} runs with an older definition until it is stopped")),
        );
        for name in self.providers.names() {
            let note = notes.remove(&name);
            let of_note = note.as_ref().and_then(|note| Origin::from_name(&note.source));
            let origin = match of_note {
                Some(Origin::Api) => Origin::Api,
                _ if configured.contains(&name) => Origin::Config,
                Some(origin) => origin,
                None => Origin::Api,
            };
            self.take_on(name, note, origin);
        }
        for (name, note) in notes {
            let origin = Origin::from_name(&note.source);
            match origin.filter(|_| note.credential.is_some()) {
                Some(origin) => self.take_on(name, Some(note), origin),
                // Their providers are gone.
                None => self.notes.forget(&name),
            }
        }
        for entry in self.of_set(None) {
            *entry.kept.lock() = digests.remove(&entry.name);
            self.keep(&entry);
        }
        digests.keys().for_each(|name| self.records.forget(name));
        self.look_for_ends();
        said
    }

    fn take_on(&self, name: ProviderName, note: Option<RegistryNote>, origin: Origin) {
        let is_new = note.is_none();
        let note = note.unwrap_or_default();
        let life = match (note.is_disposed, note.is_stopped) {
            (true, _) => Life::Disposed,
            (false, true) => Life::Stopped,
            (false, false) => Life::Live,
        };
        let last_end = self.providers.last_end(&name).map(|end| end.process);
        let is_counted = last_end.is_some() && last_end == note.counted;
        let facts = Facts {
            life,
            origin,
            registered_at: if is_new { Timestamp::now() } else { note.registered_at },
            labels: note.labels,
            kind: self.kind_of(&name, note.kind),
            version: note.version,
            capabilities: note.capabilities,
            stands_for: note.credential.as_deref().and_then(StandsFor::from_text),
            check: None,
            health: HealthState::default(),
            interval: note.interval,
            // An end that the earlier host has counted is no news.
            seen: if is_counted { self.seen(&name) } else { self.seen(&name).without_crashes() },
            counted: note.counted,
            reset_ms: note.reset_ms,
        };
        let entry = Entry::new(name.clone(), facts, &note.breaker, &self.settings, &self.events);
        let entry = Arc::new(entry);
        self.join_group(&entry);
        entry.gate.set_away(life == Life::Disposed);
        self.entries.lock().insert(name.clone(), Arc::clone(&entry));
        if let Some(namespace) = entry.namespace() {
            self.namespaces.lock().insert(namespace, Arc::clone(&entry));
        }
        if let Some(watch) = self.watch.get() {
            watch.exits.begin();
        }
        self.schedule(&entry);
        if is_new {
            self.events.tell(EventKind::ProviderRegistered, &name, "configuration", origin.name());
            self.save(&entry);
        }
    }

    /// What is written about it.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Whether there is an entry of this name.
    #[must_use]
    pub fn has(&self, name: &ProviderName) -> bool {
        self.find(name).is_ok()
    }

    /// Answers a question about the registry.
    pub fn answer(self: &Arc<Self>, call: RegistryCall, cause: Cause<'_>) -> Result<RegistryAnswer, Error> {
        let what = call.change().filter(|_| call.has_its_own_line());
        let RegistryCall { whom, verb } = call;
        match (whom, verb) {
            (Whom::One(name), Verb::Register(registration)) => {
                self.register(&name, *registration, &what.unwrap_or_default(), cause).map(one)
            }
            (Whom::One(name), Verb::Unregister) => self.unregister(&self.find(&name)?, cause).map(one),
            (Whom::One(name), Verb::Permit(expiry)) => {
                let permit = Some(self.permit(&self.find(&name)?, expiry)?);
                Ok(RegistryAnswer { permit, ..RegistryAnswer::default() })
            }
            (Whom::One(name), verb) => {
                let entry = self.find(&name)?;
                self.act(&entry, &verb, cause)?;
                Ok(one(self.show(&entry)))
            }
            (Whom::All(set), Verb::Show) => {
                let entries = self.of_set(set.as_deref()).iter().map(|entry| self.show(entry)).collect();
                Ok(RegistryAnswer { entries, ..RegistryAnswer::default() })
            }
            (Whom::All(set), Verb::ShutDown) => {
                let entries = self.of_set(set.as_deref());
                let failures = self.dispose_all(&entries, cause);
                let entries = entries.iter().map(|entry| self.show(entry)).collect();
                Ok(RegistryAnswer { entries, failures, ..RegistryAnswer::default() })
            }
            (Whom::All(_), Verb::Report(report)) => self.report(report, cause).map(one),
            (Whom::All(_), Verb::Chain(chain)) => self.chain(chain, cause),
            (Whom::All(_), Verb::Discover(discovery)) => {
                let findings = self.discover(&discovery, cause);
                Ok(RegistryAnswer { findings, ..RegistryAnswer::default() })
            }
            (Whom::All(_), Verb::Refresh(interval)) => {
                self.refresh_again(interval).map(|()| RegistryAnswer::default())
            }
            (Whom::All(_), Verb::StopRefresh) => {
                self.refreshing.stop();
                Ok(RegistryAnswer::default())
            }
            (Whom::All(_), Verb::Validate) => {
                Ok(RegistryAnswer { findings: self.validate(), ..RegistryAnswer::default() })
            }
            (Whom::All(set), verb) => Ok(self.act_on_all(&self.of_set(set.as_deref()), &verb, cause)),
        }
    }

    /// Answers a question about providers, which are the same ones.
    pub fn answer_provider(&self, call: ProviderCall, cause: Cause<'_>) -> Result<ProviderAnswer, Error> {
        match call.plain() {
            ProviderCall::Start(name, _) => {
                let name = name.clone();
                return self.provide(&name, call, cause);
            }
            ProviderCall::ShutDown(set) => return self.shut_down(set.clone(), cause),
            _ => {}
        }
        let entry = call.name().and_then(|name| self.entries.lock().get(name).cloned());
        // The provider host says that there is none.
        let Some(entry) = entry else { return self.providers.answer(call) };
        if entry.is_passive() {
            return Err(failure::passive(&entry.name, entry.namespace()));
        }
        match call.plain() {
            ProviderCall::Stop(_) => self.change(&entry, call, Some(Life::Stopped), cause),
            ProviderCall::Replace(_) => self.replace(&entry, call, cause),
            ProviderCall::Reset(_) => self.reset(&entry, call, cause),
            _ => self.guarded(&entry, call, cause),
        }
    }

    /// Does one thing with one entry.
    fn act(&self, entry: &Arc<Entry>, verb: &Verb, cause: Cause<'_>) -> Result<(), Error> {
        let name = || entry.name.clone();
        match verb {
            Verb::Show | Verb::Discover(_) | Verb::Validate => {}
            // They are asked for otherwise.
            Verb::Permit(_) | Verb::Report(_) | Verb::Chain(_) => return Err(failure::of_no_entry()),
            Verb::Refresh(_) | Verb::StopRefresh => return Err(failure::of_no_entry()),
            Verb::Initialize | Verb::Dispose | Verb::ShutDown if entry.is_passive() => {
                return Err(failure::passive(&entry.name, entry.namespace()));
            }
            Verb::Start | Verb::Stop | Verb::Restart | Verb::Replace if entry.is_passive() => {
                return Err(failure::passive(&entry.name, entry.namespace()));
            }
            // Only the name of one that is to be made is given.
            Verb::Register(_) => return Err(failure::already_exists(&entry.name)),
            Verb::Unregister => return self.unregister(entry, cause).map(drop),
            Verb::ShutDown => self.dispose(entry, cause)?,
            Verb::Initialize => self.initialize(entry, cause)?,
            Verb::Dispose => self.dispose(entry, cause)?,
            Verb::Start => self.start(entry, cause)?,
            Verb::Stop => {
                self.change(entry, ProviderCall::Stop(name()), Some(Life::Stopped), cause)?;
            }
            Verb::Restart => {
                self.change(entry, ProviderCall::Stop(name()), None, cause)?;
                self.start(entry, cause)?;
            }
            Verb::Replace => drop(self.replace(entry, ProviderCall::Replace(name()), cause)?),
            Verb::Reset => drop(self.reset(entry, ProviderCall::Reset(name()), cause)?),
            // Nobody is started to be asked how they are.
            Verb::Health if self.can_be_checked(entry) => self.check(entry, cause)?,
            Verb::Health => {}
            Verb::Monitor(interval) => {
                let of_all = self.settings.health.check_interval.filter(|interval| !interval.is_zero());
                self.monitor(entry, interval.or(of_all).unwrap_or(CHECK_INTERVAL));
            }
            Verb::Unmonitor => self.monitor(entry, Duration::ZERO),
            Verb::Hold(reason) => entry.gate.hold(reason),
            Verb::Release => entry.gate.release(),
        }
        self.settle(entry);
        Ok(())
    }

    fn act_on_all(&self, entries: &[Arc<Entry>], verb: &Verb, cause: Cause<'_>) -> RegistryAnswer {
        let failures = Mutex::new(BTreeMap::new());
        // Nothing runs for those that only stand for something.
        let needs_a_process = matches!(
            verb,
            Verb::Initialize | Verb::Dispose | Verb::Start | Verb::Stop | Verb::Restart | Verb::Replace
        );
        let entries: Vec<_> = entries.iter().filter(|e| !needs_a_process || !e.is_passive()).collect();
        for_each(&entries, |entry| {
            if let Err(e) = self.act(entry, verb, cause) {
                failures.lock().insert(entry.name.clone(), e);
            }
        });
        let failures: Vec<_> = failures.into_inner().into_iter().collect();
        let entries = entries.iter().map(|entry| self.show(entry)).collect();
        RegistryAnswer { entries, failures, ..RegistryAnswer::default() }
    }

    /// Gives those of the configuration the labels that it says.
    pub fn label(&self, labels: &BTreeMap<ProviderName, Vec<(String, String)>>) {
        for entry in self.of_set(None) {
            {
                let mut facts = entry.facts.lock();
                if facts.origin != Origin::Config {
                    continue;
                }
                facts.labels = labels.get(&entry.name).cloned().unwrap_or_default();
            }
            self.join_group(&entry);
        }
    }

    /// Has an entry stand in for those that have the same label, and them for it.
    fn join_group(&self, entry: &Entry) {
        let is_one = !self.settings.opens_last;
        let member = is_one.then(|| self.groups.member(&entry.facts.lock().labels)).flatten();
        entry.gate.join(member);
    }

    fn find(&self, name: &ProviderName) -> Result<Arc<Entry>, Error> {
        self.entries.lock().get(name).cloned().ok_or_else(|| failure::not_found(name))
    }

    fn of_set(&self, set: Option<&str>) -> Vec<Arc<Entry>> {
        let all = self.entries.lock();
        all.values().filter(|entry| set.is_none_or(|set| set == entry.name.set())).cloned().collect()
    }

    fn is_running(&self, entry: &Entry) -> bool {
        self.providers.known(&entry.name).is_some_and(|(p, _)| p.state == ProviderState::Ready)
    }

    /// Whether it makes sense to ask how it is: nobody is started for it.
    fn can_be_checked(&self, entry: &Entry) -> bool {
        entry.namespace().is_some() || self.is_running(entry)
    }

    fn seen(&self, name: &ProviderName) -> Seen {
        self.providers.known(name).map(|(provider, crashes)| Seen::of(&provider, crashes)).unwrap_or_default()
    }

    fn show(&self, entry: &Entry) -> wire::Entry {
        let provider = self.providers.known(&entry.name).map(|(provider, _)| provider);
        let provider = provider.unwrap_or_else(|| Provider {
            name: entry.name.clone(),
            state: ProviderState::Idle,
            binary: entry.namespace().unwrap_or_default(),
            pid: None,
            port: None,
            kind: String::new(),
            version: String::new(),
            starts: 0,
            reason: String::new(),
            process: String::new(),
        });
        let shadows = self.discovered.lock().shadowed.get(&entry.name).cloned().unwrap_or_default();
        let shadows = shadows.iter().map(|origin| origin.name().to_owned()).collect();
        wire::Entry { shadows, ..entry.show(provider, self.is_there(entry), &self.settings.health) }
    }
}

fn one(entry: wire::Entry) -> RegistryAnswer {
    RegistryAnswer { entries: vec![entry], ..RegistryAnswer::default() }
}
