//! The provider host: executables that give out configuration values, one process for each alias of a set,
//! started when somebody wants something of it.
//!
//! No alias waits for another: each has its own lock and its own state (`alias.rs`), and whoever finds it
//! idle starts it (`run.rs`) while the others wait for what comes of it (`current.rs`). Nothing here has a
//! thread of its own but a handshake, a recovery and a shutdown while they last, and what closes connections
//! that nobody uses as long as there are any (`idle.rs`). What must survive the host is in notes
//! (`notes.rs`).

#![forbid(unsafe_code)]

mod alias;
mod binary;
mod calls;
mod cancel;
mod check;
mod config;
mod current;
mod dial;
mod end;
mod ended;
mod failure;
mod idle;
#[cfg(test)]
mod interleaving_tests;
mod last_end;
mod launch;
mod limit;
mod notes;
mod port_owner;
mod process;
mod proof;
pub mod references;
mod remote;
mod replace;
mod run;
mod said;
pub mod secrets;
pub mod settings;
#[cfg(test)]
mod tests;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::provider::alias::{Phase, WINDOW_MS};
use crate::provider::current::{Current, Starts};
pub use crate::provider::failure::Failure;
use crate::provider::idle::Idle;
pub use crate::provider::last_end::End;
use crate::provider::last_end::{LastEnd, starts_since};
use crate::provider::limit::Calls;
pub use crate::provider::notes::{Note, Notes};
use crate::provider::run::{Recovered, Run, Site};
use crate::sys::{clock, thread};
use crate::wire::error::{Code, Error};
use crate::wire::note::ProviderNote;
use crate::wire::provider::{
    Definition, Provider, ProviderAnswer, ProviderCall, ProviderHealth, ProviderName, ProviderState,
};
use crate::wire::provider_rules::ShownStderr;
use crate::wire::time::{Timestamp, millis};

/// How long nobody uses a connection before it is closed, ms: the C core wakes once a second for timers as
/// long as there is one.
const CONNECTION_IDLE_MS: u64 = 5000;
/// How long what a start has brought that nobody wants any more may take to end, ms.
const DISCARD_MS: u64 = 2000;
/// The most processes of a host.
const PROCESSES_MAX: usize = 1000;
/// The most providers, with those that run elsewhere.
const PROVIDERS_MAX: usize = 20_000;
/// The most for which something is done at the same moment.
const AT_ONCE_MAX: usize = 256;
/// At least so long it is not looked again what is due, ms: with many connections something always is.
const LOOK_MIN_MS: u64 = 250;

/// All providers of a host; a clone is the same ones.
#[derive(Clone, Debug)]
pub struct Providers {
    site: Site,
    aliases: Arc<Aliases>,
    idle: Idle,
}

/// What was known of an alias before a definition of it was given.
enum Before {
    Unknown,
    Same,
    Other(Arc<Definition>),
}

type Aliases = Mutex<BTreeMap<ProviderName, Arc<Alias>>>;

#[derive(Debug)]
struct Alias {
    name: ProviderName,
    definition: Mutex<Arc<Definition>>,
    current: Current<Arc<Run>, Failure>,
    calls: Calls,
    /// Locked while it is replaced, for one replacement at a time.
    replacing: Mutex<()>,
    last_end: Mutex<Option<LastEnd>>,
}

impl Providers {
    /// `socket` is the service's; `directories` are those that binaries are executed from.
    #[must_use]
    pub fn new(socket: PathBuf, directories: Vec<PathBuf>, notes: Notes<ProviderNote>) -> Self {
        let site = Site { socket, directories, notes };
        Self { site, aliases: Arc::default(), idle: Idle::default() }
    }

    /// Makes known what the configuration defines. What an earlier host has left with another definition is
    /// defined anew, unless it runs: then it goes on until it is stopped, and its name is returned.
    pub fn configure(&self, definitions: Vec<(ProviderName, Definition)>) -> Vec<ProviderName> {
        let refused = definitions
            .into_iter()
            .filter_map(|(name, definition)| self.define(&name, definition).is_err().then_some(name));
        refused.collect()
    }

    /// Takes on what an earlier host has left: the definitions, and processes that run and are initialised.
    /// Starts up to `reset_ms` of a provider do not count any more. Returns what cannot be read of it.
    pub fn recover(&self, reset_ms: impl Fn(&ProviderName) -> u64 + Sync) -> Vec<String> {
        let (notes, bad) = self.site.notes.all();
        let notes = Vec::from_iter(notes);
        let since = clock::now_ms().saturating_sub(WINDOW_MS);
        let starts = self.site.client().map(|mut client| starts_since(&mut client, since));
        let starts = starts.unwrap_or_default();
        // All at once: one that does not answer is not to hold up the others.
        for_each(&notes, |(name, note)| {
            let alias = Alias::new(name.clone(), note.definition.clone());
            let mut counted = starts.get(name).cloned().unwrap_or_default();
            counted.retain(|at| *at > reset_ms(name));
            alias.current.lock().started_before(&counted);
            match self.site.recover(note) {
                Recovered::Run(run) => alias.current.lock().started(Ok(Arc::new(*run)), false),
                Recovered::Ended(end, why) => {
                    alias.current.lock().ended_before(clock::now_ms(), why);
                    *alias.last_end.lock() = Some(end);
                }
                Recovered::None => {}
            }
            alias.calls.touch();
            let alias = Arc::new(alias);
            self.aliases.lock().insert(name.clone(), Arc::clone(&alias));
            self.watch(&alias);
        });
        self.end_orphans();
        bad
    }

    /// Leaves a definition as an earlier host would have, for [`Providers::recover`].
    pub fn leave(&self, name: &ProviderName, definition: Definition) -> Result<(), Error> {
        self.site.notes.write(name, &ProviderNote::of(definition))
    }

    /// Answers one question. Takes as long as the provider needs, within its timeouts.
    pub fn answer(&self, call: ProviderCall) -> Result<ProviderAnswer, Error> {
        let (call, louder) = call.into_plain();
        let Some(name) = call.name().cloned() else { return Ok(self.answer_of_all(&call)) };
        let definition = match &call {
            ProviderCall::Start(_, given) => Some(Arc::new(Definition::clone(given))),
            _ => self.find(&name).ok().map(|alias| alias.definition()),
        };
        let shown = definition.as_ref().map(|d| d.stderr).unwrap_or_default().raised(louder);
        let begun = Timestamp::now();
        let answer = self.answer_of(&name, call).map_err(|failure| failure.error_louder(&name, shown))?;
        if shown < ShownStderr::All {
            return Ok(answer);
        }
        let definition = definition.unwrap_or_default();
        // The call is done, whether or not this can be told.
        let said = self
            .site
            .client()
            .map(|mut client| said::since(&mut client, &self.process_of(&name), begun, &definition));
        let said = said.unwrap_or_default();
        Ok(if said.is_empty() { answer } else { ProviderAnswer::Said(said, Box::new(answer)) })
    }

    fn answer_of(&self, name: &ProviderName, call: ProviderCall) -> Result<ProviderAnswer, Failure> {
        match call {
            ProviderCall::Start(_, definition) => self.start(name, *definition),
            ProviderCall::Fetch(_, path) => self.fetch(name, &path),
            ProviderCall::Info(_) => self.info(name),
            ProviderCall::Health(_) => self.health(name),
            ProviderCall::Stop(_) => self.stop(name),
            ProviderCall::Reset(_) => self.reset(name),
            ProviderCall::Replace(_) => self.replace(name),
            ProviderCall::List(_) | ProviderCall::ShutDown(_) | ProviderCall::Louder(..) => {
                Ok(self.answer_of_all(&call))
            }
        }
    }

    fn answer_of_all(&self, call: &ProviderCall) -> ProviderAnswer {
        match call {
            ProviderCall::ShutDown(set) => self.shut_down(set.as_deref()),
            ProviderCall::List(set) => self.list(set.as_deref()),
            _ => self.list(None),
        }
    }

    fn list(&self, set: Option<&str>) -> ProviderAnswer {
        ProviderAnswer::List(self.of_set(set).iter().map(|alias| self.show(alias)).collect())
    }

    /// A provider as it is, and how often a run of it has ended by itself; none: it is not defined.
    #[must_use]
    pub fn known(&self, name: &ProviderName) -> Option<(Provider, u64)> {
        let alias = self.find(name).ok()?;
        let crashes = alias.current.lock().crashes;
        Some((self.show(&alias), crashes))
    }

    /// All that are defined.
    #[must_use]
    pub fn names(&self) -> Vec<ProviderName> {
        self.aliases.lock().keys().cloned().collect()
    }

    /// Has it running and initialised.
    pub fn run(&self, name: &ProviderName) -> Result<(), Error> {
        let run = self.find(name).and_then(|alias| self.get(&alias));
        run.map(drop).map_err(|failure| failure.error(name))
    }

    /// Ends one, and forgets it. What it ended with comes back.
    pub fn forget(&self, name: &ProviderName) -> Result<(), Error> {
        let Ok(alias) = self.find(name) else { return Ok(()) };
        alias.current.close();
        let stopped = alias.stop_run(&self.site);
        self.site.notes.forget(name);
        self.aliases.lock().remove(name);
        stopped.map_err(|failure| failure.error(name))
    }

    /// What its process is called now.
    fn process_of(&self, name: &ProviderName) -> String {
        self.find(name).map_or_else(|_| name.process().to_string(), |alias| self.show(&alias).process)
    }

    fn find(&self, name: &ProviderName) -> Result<Arc<Alias>, Failure> {
        self.aliases.lock().get(name).cloned().ok_or(Failure::UnknownAlias)
    }

    fn of_set(&self, set: Option<&str>) -> Vec<Arc<Alias>> {
        let all = self.aliases.lock();
        all.values().filter(|a| set.is_none_or(|set| set == a.name.set())).cloned().collect()
    }

    /// Has a provider like this, running and initialised. What runs with another definition is an error.
    fn start(&self, name: &ProviderName, definition: Definition) -> Result<ProviderAnswer, Failure> {
        let (alias, before) = self.define(name, definition)?;
        let result = self.get(&alias);
        if let Err(failure) = &result
            && !failure.is_of_the_start()
        {
            match before {
                // It never was one.
                Before::Unknown if alias.current.lock().starts == 0 => {
                    self.aliases.lock().remove(name);
                    self.site.notes.forget(name);
                }
                Before::Other(definition) => {
                    let mut present = alias.definition.lock();
                    // Unless another thread runs it as it is defined now.
                    if alias.current.lock().is_at_rest() {
                        *present = definition;
                    }
                }
                Before::Unknown | Before::Same => {}
            }
        }
        result.map(|_| ProviderAnswer::Provider(Box::new(self.show(&alias))))
    }

    fn define(&self, name: &ProviderName, definition: Definition) -> Result<(Arc<Alias>, Before), Failure> {
        let mut aliases = self.aliases.lock();
        if let Some(alias) = aliases.get(name) {
            let mut present = alias.definition.lock();
            let mut before = Before::Same;
            if **present != definition {
                // What does not run can be defined anew.
                if !alias.current.lock().is_at_rest() {
                    return Err(Failure::OtherDefinition { differs: differs(&present, &definition) });
                }
                before = Before::Other(std::mem::replace(&mut present, Arc::new(definition)));
                alias.current.lock().reset();
            }
            return Ok((Arc::clone(alias), before));
        }
        let is_process = |alias: &Arc<Alias>| alias.definition().remote.is_none();
        let max = if definition.remote.is_some() { PROVIDERS_MAX } else { PROCESSES_MAX };
        if aliases.len() >= PROVIDERS_MAX
            || aliases.len() >= max && aliases.values().filter(|alias| is_process(alias)).count() >= max
        {
            let e = format!("there are {max} providers already");
            return Err(Failure::Service(Error::new(Code::Refused, e)));
        }
        let alias = Arc::new(Alias::new(name.clone(), definition));
        aliases.insert(name.clone(), Arc::clone(&alias));
        Ok((alias, Before::Unknown))
    }

    /// A run that can be asked: the present one, or a fresh one that this thread starts, or that another
    /// thread does.
    fn get(&self, alias: &Alias) -> Result<Arc<Run>, Failure> {
        // Not in `pause`, which the machine is locked for: who defines an alias locks the two the other way.
        let retries = alias.definition().retries;
        let (result, is_ours) = alias.current.get(&Starts {
            // As it is defined when it starts: who waited for an earlier run to end may find another
            // definition.
            start: &|| self.site.start(&alias.name, &alias.definition()).map(Arc::new),
            counts: Failure::is_of_the_start,
            pause: &|failed| retries.pause(failed),
            closed: &|| Failure::ShutDown,
            discard: &|run| {
                let _ = self.site.stop_by(&alias.name, run, clock::now_ms() + DISCARD_MS);
            },
            now_ms: &clock::now_ms,
        });
        if is_ours {
            alias.calls.touch();
            self.watch(alias);
            self.close_unused();
        }
        result
    }

    /// Sees to it that what is open now is closed when nobody uses it.
    fn watch(&self, alias: &Alias) {
        let after = alias.idle_timeout_ms().unwrap_or(u64::MAX).min(CONNECTION_IDLE_MS);
        self.idle.watch(clock::now_ms() + after, || {
            let (aliases, site) = (Arc::clone(&self.aliases), self.site.clone());
            move || {
                let all: Vec<_> = aliases.lock().values().cloned().collect();
                let now_ms = clock::now_ms();
                let next = all.iter().filter_map(|alias| alias.rest(&site, now_ms)).min();
                next.map(|at_ms| at_ms.max(now_ms + LOOK_MIN_MS))
            }
        });
    }

    /// Asks a provider, and finds out what is wrong when it does not answer. What had ended before it was
    /// asked is started again.
    fn ask<T>(&self, name: &ProviderName, call: impl Fn(&Run) -> Result<T, Failure>) -> Result<T, Failure> {
        let alias = self.find(name)?;
        let result = self.ask_one(&alias, call);
        self.watch(&alias);
        self.close_unused();
        result
    }

    fn ask_one<T>(&self, alias: &Alias, call: impl Fn(&Run) -> Result<T, Failure>) -> Result<T, Failure> {
        let timeout = alias.definition().timeouts.fetch;
        let _call = alias.calls.enter(timeout)?;
        let (mut is_repeated, mut is_initialised_again) = (false, false);
        loop {
            let run = self.get(alias)?;
            // Another one has taken its place.
            let Some(_user) = run.users.enter() else { continue };
            // One that ended while nobody asked was not in the middle of anything.
            let was_lost = !is_repeated && run.connection().map_or(true, |c| c.is_lost());
            let asked_at = *run.initialised_again.lock();
            let failure = if was_lost { None } else { Some(call(&run)) };
            let failure = match failure {
                Some(Err(Failure::NotInitialised { .. })) if run.is_remote() && !is_initialised_again => {
                    run.initialise_again(&alias.name, asked_at)?;
                    is_initialised_again = true;
                    continue;
                }
                None => Failure::Unavailable { message: "the connection is lost".into() },
                Some(Err(failure @ (Failure::Unavailable { .. } | Failure::NotProven { .. }))) => failure,
                Some(Err(_)) if run.cancel.is_cancelled() => return Err(Failure::ShutDown),
                Some(result) => return result,
            };
            if run.cancel.is_cancelled() {
                return Err(Failure::ShutDown);
            }
            match self.site.look_after(&run)? {
                Some(why) => {
                    alias.ended(&run, &why);
                    if !was_lost {
                        return Err(why);
                    }
                }
                // It lives: the connection may be a new one now.
                None if is_repeated => return Err(failure),
                None => {}
            }
            is_repeated = true;
        }
    }

    fn fetch(&self, name: &ProviderName, path: &[String]) -> Result<ProviderAnswer, Failure> {
        let value = self.ask(name, |run| run.connection()?.fetch(path, run.definition.timeouts.fetch))?;
        Ok(ProviderAnswer::Value(value))
    }

    fn info(&self, name: &ProviderName) -> Result<ProviderAnswer, Failure> {
        self.ask(name, Run::about)?;
        Ok(ProviderAnswer::Provider(Box::new(self.show(&*self.find(name)?))))
    }

    fn health(&self, name: &ProviderName) -> Result<ProviderAnswer, Failure> {
        let (health, _): (ProviderHealth, bool) =
            self.ask(name, |run| run.connection()?.health(run.definition.timeouts.health))?;
        Ok(ProviderAnswer::Health(health))
    }

    /// How it is run.
    #[must_use]
    pub fn definition(&self, name: &ProviderName) -> Option<Definition> {
        self.find(name).ok().map(|alias| Definition::clone(&alias.definition()))
    }

    fn reset(&self, name: &ProviderName) -> Result<ProviderAnswer, Failure> {
        let alias = self.find(name)?;
        alias.current.lock().reset();
        Ok(ProviderAnswer::Provider(Box::new(self.show(&alias))))
    }

    fn stop(&self, name: &ProviderName) -> Result<ProviderAnswer, Failure> {
        let alias = self.find(name)?;
        alias.stop_run(&self.site)?;
        Ok(ProviderAnswer::Provider(Box::new(self.show(&alias))))
    }

    /// Ends all of a set, or of all, at once, and forgets them.
    fn shut_down(&self, set: Option<&str>) -> ProviderAnswer {
        let aliases = self.of_set(set);
        for_each(&aliases, |alias| {
            alias.current.close();
            let _ = alias.stop_run(&self.site);
            self.site.notes.forget(&alias.name);
            self.aliases.lock().remove(&alias.name);
        });
        ProviderAnswer::List(aliases.iter().map(|alias| self.show(alias)).collect())
    }

    fn show(&self, alias: &Alias) -> Provider {
        let given = alias.definition();
        let machine = alias.current.lock();
        let (state, run, reason) = match machine.phase() {
            Phase::Idle => (ProviderState::Idle, None, String::new()),
            Phase::Starting => (ProviderState::Starting, None, String::new()),
            Phase::Ready(run) => (ProviderState::Ready, Some(Arc::clone(run)), String::new()),
            Phase::Failed { why, .. } => (ProviderState::Failed, None, why.error(&alias.name).message),
        };
        let about = run.as_ref().and_then(|run| run.known_about()).unwrap_or_default();
        let process = match &run {
            Some(run) => run.name.clone(),
            None if given.remote.is_some() => String::new(),
            None => alias.name.process().to_string(),
        };
        Provider {
            name: alias.name.clone(),
            state,
            binary: run.as_ref().map_or_else(|| given.what(), |run| run.binary.clone()),
            pid: run.as_ref().map(|run| run.pid).filter(|&pid| pid != 0),
            port: run.as_ref().map(|run| run.port).filter(|&port| port != 0),
            kind: about.kind,
            version: about.version,
            starts: machine.starts,
            reason,
            process,
        }
    }
}

impl Alias {
    fn new(name: ProviderName, definition: Definition) -> Self {
        Self {
            name,
            definition: Mutex::new(Arc::new(definition)),
            current: Current::default(),
            calls: Calls::default(),
            replacing: Mutex::default(),
            last_end: Mutex::default(),
        }
    }

    /// Ends the run, if there is one, or forgets what is left of one that has ended itself. Calls that come
    /// meanwhile wait, and start the next one.
    fn stop_run(&self, site: &Site) -> Result<(), Failure> {
        let Some(run) = self.current.take() else {
            if self.definition().remote.is_none() {
                site.forget_ended(&self.name);
            }
            return Ok(());
        };
        let stopped = site.stop(&self.name, &run);
        self.current.rest();
        stopped
    }

    /// Closes its connection, and ends its process, when nobody has used it for long enough. Returns when
    /// that is to be looked at again; not while a call is under way, whose end is.
    fn rest(self: &Arc<Self>, site: &Site, now_ms: u64) -> Option<u64> {
        let since = self.calls.idle_since()?;
        let Phase::Ready(run) = self.current.lock().phase().clone() else { return None };
        let closes = Some(since + CONNECTION_IDLE_MS).filter(|_| run.is_connected());
        let ends = self.idle_timeout_ms().map(|after| since + after);
        if ends.is_some_and(|at| at <= now_ms) {
            let (alias, site) = (Arc::clone(self), site.clone());
            let end = move || alias.calls.unless_used(since, || drop(alias.stop_run(&site)));
            // Without a thread it goes on until after its next use.
            let _ = thread::spawn("provider", end);
            return None;
        }
        if closes.is_some_and(|at| at <= now_ms) {
            run.disconnect();
            return ends;
        }
        closes.into_iter().chain(ends).min()
    }

    /// After how long without a call its process is ended, ms.
    fn idle_timeout_ms(&self) -> Option<u64> {
        let definition = self.definition();
        Some(millis(definition.timeouts.idle)).filter(|&ms| ms > 0 && definition.remote.is_none())
    }

    /// The present one; its lock is not held while anything is done with it.
    fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.definition.lock())
    }
}

/// Does the work for each, for many at once: a few that take long do not hold up the others.
pub fn for_each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..all.len().min(AT_ONCE_MAX) {
            let named = std::thread::Builder::new().name("provider".into());
            // Those that there are do all of it.
            if named.spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
}

/// What two definitions differ in, with both values; secrets stay where they are.
fn differs(present: &Definition, given: &Definition) -> String {
    if present.what() != given.what() {
        let what = if present.remote.is_some() { "address" } else { "binary" };
        return format!("its {what} is {}, not {}", present.what(), given.what());
    }
    let parts = [
        ("configuration", present.config != given.config),
        ("schema", present.schemas != given.schemas),
        ("source file", present.source_file_path != given.source_file_path),
        ("user or group", (&present.user, &present.group) != (&given.user, &given.group)),
        ("working directory", present.cwd != given.cwd),
        ("environment", present.environment != given.environment),
        (
            "pins",
            (&present.sha256, &present.pin_type, &present.pin_version)
                != (&given.sha256, &given.pin_type, &given.pin_version),
        ),
        ("timeouts", present.timeouts != given.timeouts),
        ("retries", present.retries != given.retries),
        ("rule for standard error", present.stderr != given.stderr),
        ("limits", present.limits != given.limits),
        ("landlock", present.landlock != given.landlock),
        ("TLS or cookie", (present.tls, present.cookie) != (given.tls, given.cookie)),
        ("certificates", present.remote != given.remote),
        ("way to change", present.swap != given.swap),
        ("permission for external binaries", present.allow_external != given.allow_external),
    ];
    let different: Vec<_> = parts.iter().filter(|(_, is)| *is).map(|(what, _)| *what).collect();
    format!("its {} is another one", different.join(", "))
}
