//! `[process.NAME]` and `[defaults]`: which processes there are to be, and how they are to be run. The fields
//! themselves are in the one table that also shows them, `wire/fields.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::config::hints;
use crate::config::section::{At, Section, Source};
use crate::wire::error::Error;
use crate::wire::field::Field;
use crate::wire::fields::FIELDS;
use crate::wire::id::{Name, quoted};
use crate::wire::log::Log;
use crate::wire::secrets::{HIDDEN, is_secret};
use crate::wire::spec::{INSTANCES_MAX, Spec};

/// The most processes that a configuration declares, instances counted.
const PROCESSES_MAX: usize = 10_000;
/// What a section cannot be without.
const COMMAND: &str = "command";
/// Not a field of a process, but of a section.
const INSTANCES: &str = "instances";

/// A section `[process.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// With the section's name, and the word that it is declared.
    pub spec: Spec,
    /// Of several, named NAME-1 to NAME-N.
    pub instances: Option<u32>,
}

impl Declaration {
    /// Each process that it makes, with its own name and the word that it is declared; and its number.
    #[must_use]
    pub fn specs(&self) -> Vec<(Spec, Option<u32>)> {
        let spec = |name| Spec { name: Some(name), declared: true, ..self.spec.clone() };
        self.names().into_iter().map(|(name, instance)| (spec(name), instance)).collect()
    }

    /// The name of each process that it makes, with its number.
    #[must_use]
    pub fn names(&self) -> Vec<(Name, Option<u32>)> {
        let name = self.spec.name.as_ref().expect("a section has a name");
        match self.instances {
            None => vec![(name.clone(), None)],
            Some(n) => {
                let instance = |n| Some((name.instance(n).ok()?, Some(n)));
                (1..=n).filter_map(instance).collect()
            }
        }
    }
}

/// What every process is as long as it does not say otherwise itself.
pub fn defaults(section: Section<'_>) -> Result<Spec, Error> {
    let mut spec = Spec::new([""; 0]);
    // A command that all have would be of use to nobody.
    let (source, given) = taken(section, &|field| field.key != COMMAND)?;
    put(source, &mut spec, given.iter())?;
    Ok(spec)
}

/// Adds the sections of one file; `seen` has the names so far, each with the place of its section.
pub fn declared(
    section: Section<'_>,
    defaults: &Spec,
    seen: &mut BTreeMap<Name, String>,
    all: &mut Vec<Declaration>,
) -> Result<(), Error> {
    for (key, mut section) in section.tables()? {
        let title = section.title().to_owned();
        let name: Name = key.value.parse().map_err(|e: Error| section.bad(&key, &e.message))?;
        if name.is_reserved() || name.is_of_provider() {
            let e = format!("{} is a name for what the service runs for itself", quoted(name.as_str()));
            return Err(section.bad(&key, &e));
        }
        let instances = section.integer(INSTANCES, 1..=u64::from(INSTANCES_MAX))?;
        let instances = instances.map(|n| u32::try_from(n).expect("at most INSTANCES_MAX"));
        let place = section.place();
        let (source, given) = taken(section, &|_| true)?;
        let spec_of = |given: &mut dyn Iterator<Item = &Given>| {
            let mut spec = Spec { name: Some(name.clone()), ..defaults.clone() };
            put(source, &mut spec, given).map(|()| spec)
        };
        let spec = spec_of(&mut given.iter())?;
        if !given.iter().any(|given| given.field.key == COMMAND) {
            let example = hints::example(COMMAND).unwrap_or_default();
            return Err(
                Error::usage(format!("{place}: {title} needs '{COMMAND}'")).hint(format!("write {example}"))
            );
        }
        spec.check().map_err(|e| {
            let without = |at: usize| {
                let others = given.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, given)| given);
                spec_of(&mut { others }).and_then(|spec| spec.check()).err()
            };
            let alone = |at: usize| {
                let mut spec = Spec { name: Some(name.clone()), ..Spec::new(["true"]) };
                put(source, &mut spec, [&given[at]].into_iter()).and_then(|()| spec.check()).err()
            };
            // It stands where the value does without which there is nothing wrong, or which is wrong alone.
            let all = 0..given.len();
            let cause = (all.clone().find(|&at| without(at).is_none()))
                .or_else(|| all.clone().find(|&at| alone(at).is_some_and(|same| same.message == e.message)));
            let message = format!("{title}: {}", e.message);
            match cause {
                Some(at) => source.bad(&given[at].value, &message).hint(e.hint),
                None => Error { message: format!("{place}: {message}"), ..e },
            }
        })?;
        let declaration = Declaration { spec, instances };
        let names = declaration.names();
        if instances.is_some_and(|n| names.len() < n as usize) {
            return Err(Error::usage(format!("{place}: {title}: its name leaves no room for a number")));
        }
        for (name, _) in names {
            if let Some(other) = seen.insert(name.clone(), place.clone()) {
                return Err(Error::usage(format!(
                    "{place}: a process {name} is declared twice: see {other}"
                )));
            }
        }
        if seen.len() > PROCESSES_MAX {
            return Err(Error::usage(format!("{place}: more than {PROCESSES_MAX} processes are declared")));
        }
        all.push(declaration);
    }
    Ok(())
}

/// Lines go to one place. Who names another kind of place than stood there before has no more of that.
fn replace_log(log: &mut Log, before: &Log) {
    let files = |log: &Log| Log { to: None, ..log.clone() };
    if files(log) == files(before) {
        if log.to.is_some() && log.to != before.to {
            *log = Log { to: log.to.take(), ..Log::default() };
        }
    } else if log.to == before.to {
        log.to = None;
    }
}

/// A field that a section names.
struct Given {
    field: &'static Field,
    value: At<Value>,
}

/// All that the section says.
fn taken<'a>(
    mut section: Section<'a>,
    takes: &dyn Fn(&Field) -> bool,
) -> Result<(&'a Source<'a>, Vec<Given>), Error> {
    let source = section.source();
    let mut one = |field: &'static Field| section.value(field.key).map(|value| Given { field, value });
    let given = FIELDS.iter().filter(|field| takes(field)).filter_map(&mut one).collect();
    section.finish()?;
    Ok((source, given))
}

/// Takes it in. Variables, labels, limits and what is redacted are added to those that are there already.
fn put<'a>(
    source: &Source<'_>,
    spec: &mut Spec,
    given: impl Iterator<Item = &'a Given>,
) -> Result<(), Error> {
    let before = spec.clone();
    (spec.ready, spec.live) = (None, None);
    for Given { field, value } in given {
        (field.set)(spec, &value.value).map_err(|what| {
            let error = source.bad(value, &format!("'{}' takes {what}", field.key));
            let takes = if field.takes.starts_with(&what) { field.takes } else { &what };
            match hints::value(field.key, takes, &value.value) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        if field.key == "env"
            && let Some((name, _)) = spec.env.iter().find(|(name, value)| is_secret(name) && value == HIDDEN)
        {
            let what = format!("{name} = \"{HIDDEN}\" is what 'provost export' writes in place of a secret");
            return Err(source.bad(value, &what).hint("'provost export --reveal' writes the secret itself"));
        }
    }
    spec.ready = spec.ready.take().or(before.ready);
    spec.live = spec.live.take().or(before.live);
    if spec.env != before.env {
        spec.env = added(before.env, &spec.env);
    }
    if spec.labels != before.labels {
        spec.labels = added(before.labels, &spec.labels);
    }
    if spec.log != before.log {
        replace_log(Arc::make_mut(&mut spec.log), &before.log);
    }
    if spec.redact != before.redact {
        let own = std::mem::take(&mut spec.redact);
        let more = own.into_iter().filter(|pattern| !before.redact.contains(pattern)).collect::<Vec<_>>();
        spec.redact = before.redact.into_iter().chain(more).collect();
    }
    if spec.rlimits != before.rlimits {
        let new = std::mem::take(&mut spec.rlimits);
        let others = before.rlimits.into_iter().filter(|old| new.iter().all(|l| l.resource != old.resource));
        spec.rlimits = others.chain(new.iter().cloned()).collect();
    }
    Ok(())
}

fn added(before: Vec<(String, String)>, new: &[(String, String)]) -> Vec<(String, String)> {
    let others = before.into_iter().filter(|(key, _)| new.iter().all(|(other, _)| other != key));
    others.chain(new.iter().cloned()).collect()
}
