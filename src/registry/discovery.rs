//! What providers there are to be, by all that says so, and what it takes to get there from those that there
//! are. Pure: what was found is given, and what is to be done comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::provider::references::Reference;
use crate::wire::error::Error;
use crate::wire::provider::{Definition, ProviderName};

/// Where an entry came from. Of those that have the same name, the first one here is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Api,
    Config,
    Plugin,
    Environment,
}

impl Origin {
    /// Those where providers are looked for.
    pub const DISCOVERED: [Self; 3] = [Self::Config, Self::Plugin, Self::Environment];

    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Config => "config",
            Self::Plugin => "plugin",
            Self::Environment => "environment",
        }
    }

    /// Of the name that is shown.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Api, Self::Config, Self::Plugin, Self::Environment].into_iter().find(|o| o.name() == name)
    }
}

/// What stands behind an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// An executable, which the host runs.
    Process(Box<Definition>),
    /// The name of a secret.
    Credential(Reference),
}

/// A provider that something says there is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: ProviderName,
    pub origin: Origin,
    /// Of which type it is.
    pub kind: String,
    /// As a manifest says; else empty.
    pub version: String,
    /// As a manifest says.
    pub capabilities: Vec<String>,
    pub labels: Vec<(String, String)>,
    pub behind: Behind,
    /// It runs when it is needed, and not before.
    pub is_lazy: bool,
    /// Where it was found, for people: a file, or a variable.
    pub place: String,
}

/// What one source has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub candidates: Vec<Candidate>,
    /// Places where something is wrong, and what. What was found there before stays.
    pub bad: Vec<(String, String)>,
}

/// Looks at one source, where it is for the service itself or at this path; an error is about all of it.
pub type LookAt = Arc<dyn Fn(Origin, Option<&Path>) -> Result<Found, Error> + Send + Sync>;

/// A place of a source beside the one that the service knows.
pub type Place = (Origin, PathBuf);

/// How providers are discovered.
#[derive(Clone)]
pub struct Sources {
    /// Those that are looked at by themselves, from the start on.
    pub used: Vec<Origin>,
    pub look_at: LookAt,
    /// Where else it is looked from the start on.
    pub places: Vec<Place>,
    /// Which is looked at again when something in it changes.
    pub plugins: Option<PathBuf>,
    /// From one look at all of them to the next; none: none by the clock.
    pub interval: Option<Duration>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Of each source that was looked at.
    pub found: BTreeMap<Origin, Vec<Candidate>>,
    /// Where it is looked beside the places that are known from the start.
    pub places: BTreeSet<Place>,
    /// What was said of them, so that it is said once.
    pub said: BTreeSet<String>,
    /// By name, the sources of candidates that are not used.
    pub shadowed: BTreeMap<ProviderName, Vec<Origin>>,
}

/// An entry that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub origin: Origin,
    pub kind: String,
    pub version: String,
    pub capabilities: Vec<String>,
    pub labels: Vec<(String, String)>,
    pub behind: Option<Behind>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub add: Vec<Candidate>,
    pub change: Vec<Candidate>,
    pub remove: Vec<(ProviderName, Origin)>,
    /// Candidates that are not used, with what is used in their place.
    pub shadowed: Vec<(Candidate, Origin)>,
}

/// What it takes. `looked_at`: of other sources it is not known what they have, so nothing of theirs goes.
#[must_use]
pub fn plan(
    present: &BTreeMap<ProviderName, Present>,
    candidates: Vec<Candidate>,
    looked_at: &BTreeSet<Origin>,
) -> Plan {
    let mut plan = Plan::default();
    let mut by_name: BTreeMap<ProviderName, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        by_name.entry(candidate.name.clone()).or_default().push(candidate);
    }
    for (name, there) in present {
        let is_wanted = by_name.contains_key(name) || !looked_at.contains(&there.origin);
        if there.origin != Origin::Api && !is_wanted {
            plan.remove.push((name.clone(), there.origin));
        }
    }
    for (name, mut all) in by_name {
        // Two of one source: the first one found is used.
        all.sort_by_key(|candidate| candidate.origin);
        let there = present.get(&name);
        // What another source has said, which was not looked at, holds as long as it is above.
        let above = there.filter(|there| {
            there.origin == Origin::Api
                || (there.origin < all[0].origin && !looked_at.contains(&there.origin))
        });
        if let Some(above) = above {
            plan.shadowed.extend(all.into_iter().map(|candidate| (candidate, above.origin)));
            continue;
        }
        let mut all = all.into_iter();
        let Some(used) = all.next() else { continue };
        plan.shadowed.extend(all.map(|candidate| (candidate, used.origin)));
        match there {
            None => plan.add.push(used),
            Some(there) if used.is_like(there) => {}
            Some(_) => plan.change.push(used),
        }
    }
    plan
}

impl Present {
    /// It as a candidate, if it is of one of these places, which cannot be read now.
    #[must_use]
    pub fn kept(&self, name: &ProviderName, bad: &[(String, String)]) -> Option<Candidate> {
        let behind = self.behind.clone()?;
        let Behind::Process(definition) = &behind else { return None };
        let file = Path::new(&definition.source_file_path);
        let (place, _) = bad.iter().find(|(place, _)| !place.is_empty() && file.starts_with(place))?;
        Some(Candidate {
            name: name.clone(),
            origin: self.origin,
            kind: self.kind.clone(),
            version: self.version.clone(),
            capabilities: self.capabilities.clone(),
            labels: self.labels.clone(),
            place: place.clone(),
            is_lazy: true,
            behind,
        })
    }
}

impl Candidate {
    fn is_like(&self, there: &Present) -> bool {
        there.behind.as_ref() == Some(&self.behind)
            && (there.origin, &there.kind, &there.version) == (self.origin, &self.kind, &self.version)
            && (&there.labels, &there.capabilities) == (&self.labels, &self.capabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(alias: &str) -> ProviderName {
        ProviderName::new("", alias).unwrap()
    }

    fn candidate(alias: &str, origin: Origin, binary: &str) -> Candidate {
        Candidate {
            name: name(alias),
            origin,
            kind: "process".into(),
            version: String::new(),
            capabilities: Vec::new(),
            labels: Vec::new(),
            behind: Behind::Process(Box::new(Definition { binary: binary.into(), ..Definition::default() })),
            is_lazy: false,
            place: String::new(),
        }
    }

    fn present(all: &[Candidate]) -> BTreeMap<ProviderName, Present> {
        let one = |c: &Candidate| Present {
            origin: c.origin,
            kind: c.kind.clone(),
            version: c.version.clone(),
            capabilities: c.capabilities.clone(),
            labels: c.labels.clone(),
            behind: Some(c.behind.clone()),
        };
        all.iter().map(|c| (c.name.clone(), one(c))).collect()
    }

    fn all() -> BTreeSet<Origin> {
        Origin::DISCOVERED.into()
    }

    #[test]
    fn only_what_differs_is_changed_and_only_what_was_discovered_goes() {
        let (same, new) = (candidate("same", Origin::Plugin, "/a"), candidate("new", Origin::Plugin, "/a"));
        let (old, changed) = (candidate("x", Origin::Plugin, "/a"), candidate("x", Origin::Plugin, "/b"));
        let there = present(&[
            same.clone(),
            old,
            candidate("gone", Origin::Plugin, "/a"),
            candidate("mine", Origin::Api, "/a"),
        ]);
        let plan = plan(&there, vec![same, new.clone(), changed.clone()], &all());
        assert_eq!((plan.add, plan.change), (vec![new], vec![changed]));
        assert_eq!((plan.remove, plan.shadowed), (vec![(name("gone"), Origin::Plugin)], vec![]));
    }

    #[test]
    fn of_one_name_the_first_source_is_used_and_the_next_one_follows_when_it_goes() {
        let [config, plugin, environment] =
            Origin::DISCOVERED.map(|origin| candidate("app", origin, origin.name()));
        let given = vec![environment.clone(), plugin.clone(), config.clone()];
        let first = plan(&BTreeMap::new(), given, &all());
        assert_eq!(first.add, std::slice::from_ref(&config));
        assert_eq!(first.shadowed, [(plugin.clone(), Origin::Config), (environment.clone(), Origin::Config)]);
        let next =
            plan(&present(std::slice::from_ref(&config)), vec![environment.clone(), plugin.clone()], &all());
        assert_eq!((next.change, next.remove), (vec![plugin.clone()], vec![]));
        // One that was registered stays what it is.
        let api = candidate("app", Origin::Api, "/a");
        let shadowed = plan(&present(&[api]), vec![plugin.clone()], &all());
        assert_eq!(shadowed, Plan { shadowed: vec![(plugin.clone(), Origin::Api)], ..Plan::default() });
        // The configuration was not looked at: what it has said still holds.
        let some = BTreeSet::from([Origin::Plugin]);
        let held = plan(&present(&[config]), vec![plugin.clone()], &some);
        assert_eq!(held, Plan { shadowed: vec![(plugin.clone(), Origin::Config)], ..Plan::default() });
        // One from below makes way.
        let taken = plan(&present(&[environment]), vec![plugin.clone()], &some);
        assert_eq!(taken, Plan { change: vec![plugin], ..Plan::default() });
    }
}
