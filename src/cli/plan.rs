//! What it takes for there to be what a configuration declares: a pure function of what there is and what is
//! wanted. `apply.rs` shows it and does it; whatever ends that in the middle, the next plan is what is left.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::wire::error::{Code, Error};
use crate::wire::field::Effect;
use crate::wire::fields::{self, FIELDS};
use crate::wire::id::{Name, ProcessId};
use crate::wire::needs::OnDependency;
use crate::wire::order::{Node, order};
use crate::wire::process::{Process, State};
use crate::wire::reply::Definition;
use crate::wire::secrets;
use crate::wire::spec::Spec;

/// A process that is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// With its own name.
    pub spec: Spec,
    /// The name of its section.
    pub section: Option<Name>,
    /// Its number, if its section has several.
    pub instance: Option<u32>,
}

/// What is to be done with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is declared no more.
    Remove,
    /// It is run in a way that can only be said of a new process: it goes, and comes anew.
    Replace,
    /// It is changed, and its run goes on.
    Change,
    /// It is changed, and what runs is restarted.
    Restart,
    /// It is new, or nothing of it has ever run.
    Add,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Change => "change",
            Self::Restart => "restart",
            Self::Add => "add",
        }
    }
}

/// One field, or a part of one: what it was, and what it is to be. None: as by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub field: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Difference {
    /// A value as a cell of a table.
    pub fn cell(value: Option<&Value>) -> String {
        value.map_or_else(|| "-".to_owned(), ToString::to_string)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    pub name: Name,
    /// Which one it is, if it is there.
    pub id: Option<ProcessId>,
    /// Something of it runs that this ends for good.
    pub ends_run: bool,
    pub differences: Vec<Difference>,
    /// As it is to be; none: it is not to be.
    pub wanted: Option<Wanted>,
}

/// Everything that is to be done, in this order: removals free what others may need.
pub fn plan(present: &[Definition], wanted: &[Wanted]) -> Result<Vec<Step>, Error> {
    let mut there: BTreeMap<&Name, &Definition> =
        present.iter().filter_map(|d| Some((d.process.name.as_ref()?, d))).collect();
    let mut steps = Vec::new();
    for wanted in wanted {
        let name = wanted.spec.name.as_ref().expect("what is declared has a name");
        let step = match there.remove(name) {
            None => Some(added(wanted, None)),
            Some(held) if !held.spec.declared => {
                let e =
                    format!("{name} is declared, but is there already, started by hand; nothing was changed");
                let hint =
                    format!("'provost remove --force {name}' makes room for it; or declare another name");
                return Err(Error::new(Code::Refused, e).hint(hint));
            }
            Some(held) => step(held, wanted),
        };
        steps.extend(step);
    }
    let removed = there.into_values().filter(|held| held.spec.declared && !held.process.internal);
    // Who is needed goes last.
    let removed: Vec<_> = removed.collect();
    let node = |held: &&'_ Definition| -> (String, Vec<String>) {
        let name = held.process.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        (name, held.spec.needs.all().map(str::to_owned).collect())
    };
    let named: Vec<_> = removed.iter().map(node).collect();
    let nodes: Vec<_> = (named.iter().zip(&removed))
        .map(|((name, needs), held)| Node {
            name,
            group: held.spec.needs.in_group.as_deref(),
            needs: needs.iter().map(String::as_str).collect(),
        })
        .collect();
    let order = order(&nodes).unwrap_or_else(|_| (0..removed.len()).collect());
    let removed = order.into_iter().rev().map(|at| removed[at]);
    steps.extend(removed.map(|held| Step {
        action: Action::Remove,
        name: held.process.name.clone().expect("it was found by its name"),
        id: Some(held.process.id),
        ends_run: !held.process.state.is_at_rest(),
        differences: Vec::new(),
        wanted: None,
    }));
    // Stable: within an action the order is that of the file.
    steps.sort_by_key(|step| step.action);
    Ok(steps)
}

/// Who follows where a step ends a run, each with whom of those it requires. It does so by its own rules, and
/// is no step.
pub fn followers<'a>(steps: &[Step], wanted: &'a [Wanted]) -> Vec<(&'a Name, &'a str)> {
    let actions: BTreeMap<&Name, Action> = steps.iter().map(|step| (&step.name, step.action)).collect();
    let action = |spec: &Spec| spec.name.as_ref().and_then(|name| actions.get(name)).copied();
    let ends = |spec: &Spec| matches!(action(spec), Some(Action::Replace | Action::Restart));
    // As others call it: by its name, or by its group.
    let names = |spec: &Spec| -> Vec<String> {
        let group = spec.needs.in_group.as_ref().map(|group| format!("@{group}"));
        spec.name.iter().map(ToString::to_string).chain(group).collect()
    };
    let specs = || wanted.iter().map(|wanted| &wanted.spec);
    let mut ended: BTreeSet<String> = specs().filter(|spec| ends(spec)).flat_map(names).collect();
    let mut left: Vec<&Spec> = specs()
        .filter(|spec| matches!(action(spec), None | Some(Action::Change)))
        .filter(|spec| spec.needs.on_dependency != OnDependency::Ignore)
        .collect();
    let mut followers = Vec::new();
    loop {
        let known = followers.len();
        left.retain(|spec| {
            let whom = spec.needs.requires.iter().find(|need| ended.contains(*need));
            followers.extend(spec.name.as_ref().zip(whom.map(String::as_str)));
            ended.extend(whom.map(|_| names(spec)).unwrap_or_default());
            whom.is_none()
        });
        if followers.len() == known {
            return followers;
        }
    }
}

/// `id`: of what is there in its place.
fn added(wanted: &Wanted, id: Option<ProcessId>) -> Step {
    Step {
        action: Action::Add,
        name: wanted.spec.name.clone().expect("what is declared has a name"),
        id,
        ends_run: false,
        differences: differences(None, Some(&wanted.spec)),
        wanted: Some(wanted.clone()),
    }
}

/// Whether it was never more than tried: its program was not there, say.
fn never_ran(process: &Process) -> bool {
    let rests = process.state.is_at_rest() || process.state == State::Backoff;
    rests && process.start_failure.is_some() && process.exit.is_none()
}

/// A run of what has a schedule ends as it began: the next one is as it is declared by then.
pub fn is_job(before: &Spec, after: &Spec) -> bool {
    before.schedule.is_on() && after.schedule.is_on()
}

/// What is to be done with what is there; none: nothing.
fn step(held: &Definition, wanted: &Wanted) -> Option<Step> {
    if never_ran(&held.process) {
        return Some(added(wanted, Some(held.process.id)));
    }
    let changed = fields::changed(&held.spec, &wanted.spec);
    let has = |effect| changed.iter().any(|field| field.effect == effect);
    let runs = matches!(held.process.state, State::Starting | State::Running);
    let action = if has(Effect::Never) || held.process.instance != wanted.instance {
        Action::Replace
    } else if runs && (has(Effect::NextRun) || held.process.outdated) && !is_job(&held.spec, &wanted.spec) {
        Action::Restart
    } else if changed.is_empty() {
        return None;
    } else {
        Action::Change
    };
    Some(Step {
        action,
        name: wanted.spec.name.clone()?,
        id: Some(held.process.id),
        ends_run: runs && action == Action::Replace,
        differences: differences(Some(&held.spec), Some(&wanted.spec)),
        wanted: Some(wanted.clone()),
    })
}

/// Field by field, of tables name by name; values that are secret are not in it.
pub fn differences(before: Option<&Spec>, after: Option<&Spec>) -> Vec<Difference> {
    let map = |spec: Option<&Spec>| spec.map(fields::to_map).unwrap_or_default();
    let shown = |spec: Option<&Spec>| map(spec.cloned().map(secrets::without_secrets).as_ref());
    let (maps, shown) = ([map(before), map(after)], [shown(before), shown(after)]);
    let mut all = Vec::new();
    for field in FIELDS.iter().filter(|field| maps[0].get(field.key) != maps[1].get(field.key)) {
        let values = maps.each_ref().map(|map| map.get(field.key));
        let shown = shown.each_ref().map(|map| map.get(field.key));
        match values.map(|value| value.map_or(Some(Map::new()), |value| value.as_object().cloned())) {
            [Some(old), Some(new)] if values.iter().flatten().all(|value| value.is_object()) => {
                let added = new.keys().filter(|key| !old.contains_key(*key));
                let keys: Vec<_> = old.keys().chain(added).collect();
                for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
                    let part = |value: Option<&Value>| value.and_then(|value| value.get(key)).cloned();
                    let field = format!("{}.{key}", field.key);
                    all.push(Difference { field, before: part(shown[0]), after: part(shown[1]) });
                }
            }
            _ => all.push(Difference {
                field: field.key.to_owned(),
                before: shown[0].cloned(),
                after: shown[1].cloned(),
            }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;
    use std::sync::Arc;

    fn wanted(name: &str) -> Wanted {
        let mut spec = Spec::new(["sleep", "9"]);
        (spec.name, spec.declared) = (Some(name.parse().unwrap()), true);
        Wanted { section: spec.name.clone(), spec, instance: None }
    }

    fn held(wanted: &Wanted) -> Definition {
        let mut process = process(wanted.spec.name.as_ref().unwrap().as_str());
        process.instance = wanted.instance;
        Definition { process, spec: wanted.spec.clone() }
    }

    fn actions(present: &[Definition], wanted: &[Wanted]) -> Vec<String> {
        let steps = plan(present, wanted).unwrap();
        steps.iter().map(|step| format!("{} {}", step.action.name(), step.name)).collect()
    }

    #[test]
    fn only_what_differs_is_touched() {
        let all = ["same", "label", "nice", "output", "stopped", "outdated", "new"].map(wanted);
        let mut present: Vec<_> = all[..6].iter().map(held).collect();
        present[1].spec.labels = vec![("a".into(), "b".into())];
        present[2].spec.nice = Some(1);
        present[3].spec.output_bytes = 8192;
        present[4].spec.nice = Some(1);
        present[4].process.state = State::Stopped;
        present[5].process.outdated = true;
        present.push(held(&wanted("gone")));
        let mut by_hand = held(&wanted("by-hand"));
        by_hand.spec.declared = false;
        present.push(by_hand);
        assert_eq!(
            actions(&present, &all),
            [
                "remove gone",
                "replace output",
                "change label",
                "change stopped",
                "restart nice",
                "restart outdated",
                "add new"
            ]
        );
        assert!(actions(&all.iter().map(held).collect::<Vec<_>>(), &all).is_empty());
    }

    #[test]
    fn who_requires_what_ends_follows_and_who_ignores_it_does_not() {
        let all = ["db", "api", "web", "other", "log"].map(wanted);
        let mut present: Vec<_> = all.iter().map(held).collect();
        present[0].spec.nice = Some(1);
        let needing = |at: usize, need: &str| {
            let mut wanted = all[at].clone();
            Arc::make_mut(&mut wanted.spec.needs).requires = vec![need.to_owned()];
            wanted
        };
        let (mut api, web, mut log) = (needing(1, "db"), needing(2, "@apis"), needing(4, "db"));
        Arc::make_mut(&mut api.spec.needs).in_group = Some("apis".to_owned());
        Arc::make_mut(&mut log.spec.needs).on_dependency = OnDependency::Ignore;
        let wanted = [all[0].clone(), web, api, all[3].clone(), log];
        let steps = plan(&present, &wanted).unwrap();
        let shown: Vec<_> =
            followers(&steps, &wanted).iter().map(|(who, whom)| format!("{who} {whom}")).collect();
        assert_eq!(shown, ["api db", "web @apis"]);
    }

    #[test]
    fn what_was_started_by_hand_is_not_taken_over() {
        let mut by_hand = held(&wanted("web"));
        by_hand.spec.declared = false;
        assert_eq!(plan(&[by_hand], &[wanted("web")]).unwrap_err().code, Code::Refused);
    }

    #[test]
    fn a_difference_names_variables_and_hides_secrets() {
        let (mut before, mut after) = (Spec::new(["a"]), Spec::new(["a"]));
        before.env = vec![("A".into(), "1".into()), ("B".into(), "2".into()), ("KEY".into(), "x".into())];
        after.env = vec![("B".into(), "2".into()), ("A".into(), "3".into()), ("KEY".into(), "y".into())];
        after.nice = Some(3);
        let all = differences(Some(&before), Some(&after));
        let shown: Vec<_> = (all.iter())
            .map(|d| format!("{} {} {}", d.field, d.before.is_some(), d.after.clone().unwrap_or_default()))
            .collect();
        assert_eq!(shown, ["env.A true \"3\"", "env.KEY true \"***\"", "nice false 3"]);
    }
}
