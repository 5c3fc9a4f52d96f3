//! Discovery: sources are looked at, and the entries become what they say. One look at a time; what is wrong
//! with one provider is said and leaves the others alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::provider::for_each;
use crate::registry::discovery::{Behind, Candidate, Found, Origin, Place, Plan, Present, Sources, plan};
use crate::registry::entry::{Entry, Facts, Life};
use crate::registry::stands_for::StandsFor;
use crate::registry::{Cause, Registry, failure};
use crate::sys::thread;
use crate::wire::discovery::Discovery;
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::{Definition, ProviderCall, ProviderName};
use crate::wire::registry::Finding;

/// The most that are started at a time.
const STARTS_MAX: usize = 8;

impl Registry {
    /// Looks at all sources that are used by themselves, and says in the log what is wrong.
    pub fn refresh(&self, cause: Cause<'_>) {
        let Some(sources) = self.sources.get() else { return };
        let used = if sources.used.is_empty() { self.usual_origins() } else { sources.used.clone() };
        let findings = self.discover_in(&used, BTreeSet::new(), false, cause);
        let lines: BTreeSet<_> = findings
            .iter()
            .filter(|finding| matches!(finding.what.as_str(), "invalid" | "shadowed"))
            .map(|f| format!("{} {}: {}: {}", f.source, f.name, f.what, f.detail))
            .collect();
        let before = std::mem::replace(&mut self.discovered.lock().said, lines.clone());
        lines.difference(&before).for_each(|line| (self.say)(line));
    }

    /// Looks where a person says.
    pub(super) fn discover(&self, discovery: &Discovery, cause: Cause<'_>) -> Vec<Finding> {
        let mut origins: Vec<_> = discovery.sources.iter().filter_map(|s| Origin::from_name(s)).collect();
        if origins.is_empty() {
            origins = self.usual_origins();
        }
        let place = |origin, path: &Option<String>| Some((origin, PathBuf::from(path.as_ref()?)));
        let config = place(Origin::Config, &discovery.config_file);
        let places = config.into_iter().chain(place(Origin::Plugin, &discovery.plugin_directory));
        let places: BTreeSet<_> = places.collect();
        for (origin, _) in &places {
            if !origins.contains(origin) {
                origins.push(*origin);
            }
        }
        self.discover_in(&origins, places, discovery.is_dry_run, cause)
    }

    /// What there would be, and whether it could be.
    pub(super) fn validate(&self) -> Vec<Finding> {
        let Some(sources) = self.sources.get() else { return Vec::new() };
        let mut findings = Vec::new();
        for origin in self.usual_origins() {
            let found = self.look_at(sources, origin, &self.places(), &mut findings);
            for candidate in found.iter().flat_map(|found| &found.candidates) {
                findings.push(match self.could_be(candidate) {
                    Ok(()) => candidate.finding("valid", &candidate.place),
                    Err(e) => {
                        candidate.finding("invalid", failure::without_name(&candidate.name, &e.message))
                    }
                });
            }
        }
        findings
    }

    /// Where is looked if nothing else is said: in the environment only where that is wanted.
    fn usual_origins(&self) -> Vec<Origin> {
        let is_wanted = |origin: &Origin| self.sources.get().is_some_and(|s| s.used.contains(origin));
        let is_usual = |origin: &Origin| *origin != Origin::Environment || is_wanted(origin);
        Origin::DISCOVERED.into_iter().filter(is_usual).collect()
    }

    /// Without starting it.
    fn could_be(&self, candidate: &Candidate) -> Result<(), Error> {
        match &candidate.behind {
            Behind::Process(definition) => self.providers.could_start(&candidate.name, definition),
            Behind::Credential(reference) => {
                reference.resolve().map(drop).map_err(|why| failure::invalid_config(&candidate.name, &why))
            }
        }
    }

    /// The lock of what is under way is held all through: it is there so that no look overlaps another.
    fn discover_in(
        &self,
        origins: &[Origin],
        new: BTreeSet<Place>,
        is_dry_run: bool,
        cause: Cause<'_>,
    ) -> Vec<Finding> {
        let Some(sources) = self.sources.get() else { return Vec::new() };
        let _one_at_a_time = self.discovering.lock();
        let mut findings = Vec::new();
        let known = self.places();
        let mut places = known.clone();
        places.extend(new);
        let mut all = self.discovered.lock().found.clone();
        let present = self.present();
        for &origin in origins {
            let Some(mut found) = self.look_at(sources, origin, &places, &mut findings) else { continue };
            let of_it = present.iter().filter(|(_, there)| there.origin == origin);
            let kept = of_it.filter_map(|(name, there)| there.kept(name, &found.bad));
            found.candidates.extend(kept.collect::<Vec<_>>());
            all.insert(origin, found.candidates);
        }
        let looked_at = all.keys().copied().collect();
        let plan = plan(&present, all.values().flatten().cloned().collect(), &looked_at);
        let mut shadowed: BTreeMap<ProviderName, Vec<Origin>> = BTreeMap::new();
        for (candidate, by) in &plan.shadowed {
            shadowed.entry(candidate.name.clone()).or_default().push(candidate.origin);
            let detail = format!("not used, since {} has one of this name", by.name());
            findings.push(candidate.finding("shadowed", &detail));
        }
        if is_dry_run {
            findings.extend(plan.remove.iter().map(removed));
            findings.extend(plan.add.iter().map(|c| c.would_be("added")));
            findings.extend(plan.change.iter().map(|c| c.would_be("changed")));
            return findings;
        }
        {
            let mut discovered = self.discovered.lock();
            (discovered.found, discovered.shadowed) = (all, shadowed);
            // One that a person has mistyped is none to come back to.
            let is_bad = |path: &PathBuf| findings.iter().any(|f| f.name == path.to_string_lossy());
            places.retain(|place| known.contains(place) || !is_bad(&place.1));
            discovered.places = places;
        }
        self.carry_out(&plan, &mut findings, cause);
        findings
    }

    fn carry_out(&self, plan: &Plan, findings: &mut Vec<Finding>, cause: Cause<'_>) {
        for (name, origin) in &plan.remove {
            let Ok(entry) = self.find(name) else { continue };
            findings.push(match self.unregister(&entry, cause) {
                Ok(_) => removed(&(name.clone(), *origin)),
                Err(e) => {
                    Finding { what: "invalid".into(), detail: e.message, ..removed(&(name.clone(), *origin)) }
                }
            });
        }
        let done = Mutex::new(Vec::new());
        let work = |candidate: &Candidate, what, result: Result<(), Error>| {
            done.lock().push(match result {
                Ok(()) => candidate.finding(what, &candidate.place),
                Err(e) => candidate.finding("invalid", failure::without_name(&candidate.name, &e.message)),
            });
        };
        for some in plan.add.chunks(STARTS_MAX) {
            for_each(some, |candidate| work(candidate, "added", self.add(candidate, cause)));
        }
        for some in plan.change.chunks(STARTS_MAX) {
            for_each(some, |candidate| work(candidate, "changed", self.alter(candidate, cause)));
        }
        findings.extend(done.into_inner());
    }

    /// Has those of them running that were found and do not wait until they are needed.
    pub(super) fn run_if_found(self: &Arc<Self>, mut names: BTreeSet<ProviderName>) {
        let is_meant = |c: &&Candidate| !c.is_lazy && matches!(c.behind, Behind::Process(_));
        let found: BTreeSet<_> = {
            let discovered = self.discovered.lock();
            discovered.found.values().flatten().filter(is_meant).map(|c| c.name.clone()).collect()
        };
        names.retain(|name| found.contains(name));
        if let Err(e) = self.run_from_the_start(names.into_iter().collect()) {
            (self.say)(&e.message);
        }
    }

    /// Has those running that were not registered by a person, unless a person has stopped them, a few at a
    /// time.
    pub fn run_from_the_start(self: &Arc<Self>, names: Vec<ProviderName>) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let ours = Arc::clone(self);
        let run = move |name: &ProviderName| {
            let Ok(entry) = ours.find(name) else { return };
            let origin = entry.facts.lock().origin;
            // One that was registered in its place is not meant.
            if origin == Origin::Api || entry.life() != Life::Live || ours.is_running(&entry) {
                return;
            }
            if let Err(e) = ours.start(&entry, origin.name()) {
                (ours.say)(&e.message);
                // One that was started, and failed, is told of already.
                if !failure::is_of_the_provider(&e) {
                    let why = failure::without_name(name, &e.message);
                    ours.events.tell(EventKind::ProviderError, name, origin.name(), why);
                }
            }
        };
        thread::spawn("provider", move || names.chunks(STARTS_MAX).for_each(|some| for_each(some, &run)))
            .map(drop)
            .map_err(|e| Error::failed("start a thread", &e))
    }

    /// Makes an entry of a candidate. One of a plugin is started; one that only could not be started this
    /// time is known all the same.
    fn add(&self, candidate: &Candidate, cause: Cause<'_>) -> Result<(), Error> {
        let (entry, is_new) = self.reserve(&candidate.name, candidate.labels.clone());
        if !is_new {
            return Err(failure::already_exists(&candidate.name));
        }
        entry.become_of(candidate);
        if let Some(watch) = self.watch.get() {
            watch.exits.begin();
        }
        let result = candidate.fits().and_then(|()| match &candidate.behind {
            Behind::Credential(_) => Ok(()),
            Behind::Process(definition) if candidate.origin == Origin::Config => {
                self.providers.configure(vec![(candidate.name.clone(), Definition::clone(definition))]);
                if candidate.is_lazy { Ok(()) } else { self.providers.run(&candidate.name) }
            }
            Behind::Process(definition) => {
                let start = ProviderCall::Start(candidate.name.clone(), definition.clone());
                self.providers.answer(start).map(drop)
            }
        });
        let is_process = matches!(candidate.behind, Behind::Process(_));
        if is_process && self.providers.known(&candidate.name).is_none() {
            self.remove(&entry);
            return result;
        }
        self.made(&entry, result.as_ref().err(), cause)?;
        if let Err(e) = &result {
            entry.gate.fail(failure::without_name(&candidate.name, &e.message));
        }
        result
    }

    /// Has an entry be what a candidate says. It is the same entry: its breaker and its history stay.
    fn alter(&self, candidate: &Candidate, cause: Cause<'_>) -> Result<(), Error> {
        let entry = self.find(&candidate.name)?;
        // Nobody takes it away meanwhile.
        let _user = entry.enter_to_change()?;
        let was_running = self.is_running(&entry);
        let mut is_restarted = false;
        let result = match &candidate.behind {
            Behind::Credential(_) => self.providers.forget(&candidate.name),
            Behind::Process(definition) => match self.providers.definition(&candidate.name) {
                Some(present) if present == **definition => Ok(()),
                Some(_) => {
                    is_restarted = was_running && !definition.swap;
                    self.providers.redefine(&candidate.name, Definition::clone(definition))
                }
                None => {
                    let start = ProviderCall::Start(candidate.name.clone(), definition.clone());
                    self.providers.answer(start).map(drop)
                }
            },
        };
        if result.is_ok() {
            entry.become_of(candidate);
            self.join_group(&entry);
        }
        if is_restarted && result.is_ok() {
            self.events.tell(EventKind::ProviderStopped, &candidate.name, cause, "");
        }
        self.look(&entry, result.as_ref().err(), cause);
        self.save(&entry);
        if let Err(e) = &result {
            let why = failure::without_name(&candidate.name, &e.message);
            self.events.tell(EventKind::ProviderError, &candidate.name, cause, why);
        }
        result
    }

    /// Where it is looked beside the places that the service knows by itself.
    fn places(&self) -> BTreeSet<Place> {
        let mut places = self.discovered.lock().places.clone();
        places.extend(self.sources.get().iter().flat_map(|sources| sources.places.clone()));
        places
    }

    /// What a source has in all its places; what is wrong there goes to the findings.
    fn look_at(
        &self,
        sources: &Sources,
        origin: Origin,
        places: &BTreeSet<Place>,
        findings: &mut Vec<Finding>,
    ) -> Option<Found> {
        let invalid = |place: &str, why: &str| Finding {
            what: "invalid".to_owned(),
            name: place.to_owned(),
            source: origin.name().to_owned(),
            detail: why.to_owned(),
        };
        let mut found = match (sources.look_at)(origin, None) {
            Ok(found) => found,
            // Nothing of it goes while it cannot be read.
            Err(e) => {
                findings.push(invalid("", &e.message));
                return None;
            }
        };
        for (_, path) in places.iter().filter(|(of, _)| *of == origin) {
            match (sources.look_at)(origin, Some(path)) {
                Ok(more) => {
                    found.candidates.extend(more.candidates);
                    found.bad.extend(more.bad);
                }
                Err(e) => found.bad.push((path.display().to_string(), e.message)),
            }
        }
        self.add_schemas(&mut found);
        findings.extend(found.bad.iter().map(|(place, why)| invalid(place, why)));
        Some(found)
    }

    /// What there is, for the plan.
    fn present(&self) -> BTreeMap<ProviderName, Present> {
        let one = |entry: Arc<Entry>| {
            let facts = entry.facts.lock().clone();
            let behind = match facts.stands_for {
                Some(StandsFor::Secret(reference)) => Some(Behind::Credential(reference)),
                // No source brings one.
                Some(StandsFor::Namespace(_)) => None,
                None => self.providers.definition(&entry.name).map(|d| Behind::Process(Box::new(d))),
            };
            let Facts { origin, kind, version, capabilities, labels, .. } = facts;
            (entry.name.clone(), Present { origin, kind, version, capabilities, labels, behind })
        };
        let is_one = |entry: &Arc<Entry>| !matches!(entry.life(), Life::Gone);
        self.of_set(None).into_iter().filter(is_one).map(one).collect()
    }
}

fn removed((name, origin): &(ProviderName, Origin)) -> Finding {
    Finding {
        what: "removed".to_owned(),
        name: name.to_string(),
        source: origin.name().to_owned(),
        detail: String::new(),
    }
}

impl Candidate {
    /// What would be done, if its configuration fits.
    fn would_be(&self, what: &str) -> Finding {
        match self.fits() {
            Ok(()) => self.finding(what, &self.place),
            Err(e) => self.finding("invalid", failure::without_name(&self.name, &e.message)),
        }
    }

    fn finding(&self, what: &str, detail: &str) -> Finding {
        Finding {
            what: what.to_owned(),
            name: self.name.to_string(),
            source: self.origin.name().to_owned(),
            detail: detail.to_owned(),
        }
    }
}
