//! What declared processes need of one another: all of it is declared, and nobody needs himself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::places::Places;
use crate::config::processes::Declaration;
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::order::{Node, order};
use crate::wire::values::closest;

/// Puts the sections behind those that they need, and means all instances where one with several is named.
pub fn settle(all: &[Declaration], places: &Places<'_>) -> Result<Vec<Declaration>, Error> {
    let name = |d: &Declaration| d.spec.name.as_ref().expect("a section has a name").clone();
    let names: Vec<Name> = all.iter().map(name).collect();
    let instances: BTreeMap<&str, Vec<String>> = (names.iter().zip(all))
        .map(|(name, d)| (name.as_str(), d.names().into_iter().map(|(n, _)| n.as_str().to_owned()).collect()))
        .collect();
    let groups: BTreeSet<String> =
        all.iter().filter_map(|d| Some(format!("@{}", d.spec.needs.in_group.as_ref()?))).collect();
    let processes: BTreeSet<&str> = instances.values().flatten().map(String::as_str).collect();
    for (declaration, name) in all.iter().zip(&names) {
        let is_declared =
            |need: &str| instances.contains_key(need) || groups.contains(need) || processes.contains(need);
        let Some(need) = declaration.spec.needs.all().find(|need| !is_declared(need)) else { continue };
        let what = format!("[process.{name}] needs {}, which is not declared", quoted(need));
        let e = places.error(declaration, &keys_of(declaration, need), &what);
        let known = names.iter().map(Name::as_str).chain(groups.iter().map(String::as_str));
        return Err(match (closest(need, known), need.strip_prefix('@')) {
            (Some(near), _) => e.hint(format!("did you mean '{near}'?")),
            (None, Some(group)) => e.hint(format!("a process is in it with: in_group = \"{group}\"")),
            (None, None) => e.hint(format!(
                "declare it too: [process.{need}]; what others run is waited for by pre_start = [\"PROGRAM\"]"
            )),
        });
    }
    let section_of = |need: &str| -> String {
        let is_of = |(_, all): &(&&str, &Vec<String>)| all.iter().any(|one| one == need);
        instances.iter().find(is_of).map_or_else(|| need.to_owned(), |(section, _)| (*section).to_owned())
    };
    let needs: Vec<Vec<String>> = all.iter().map(|d| d.spec.needs.all().map(section_of).collect()).collect();
    let nodes: Vec<_> = (0..all.len())
        .map(|at| Node {
            name: names[at].as_str(),
            group: all[at].spec.needs.in_group.as_deref(),
            needs: needs[at].iter().map(String::as_str).collect(),
        })
        .collect();
    let order = order(&nodes).map_err(|circle| {
        let at = names.iter().position(|name| circle[0] == name.as_str()).unwrap_or(0);
        let what = format!("processes need one another in a circle: {}", circle.join(" -> "));
        let need = circle.get(1).map_or("", String::as_str);
        let e = places.error(&all[at], &keys_of(&all[at], need), &what);
        e.hint("none of them could ever start: leave one of these needs out")
    })?;
    let expanded = |names: &[String]| -> Vec<String> {
        let each =
            |name: &String| instances.get(name.as_str()).cloned().unwrap_or_else(|| vec![name.clone()]);
        names.iter().flat_map(each).collect()
    };
    let settled = order.into_iter().map(|at| {
        let mut declaration = all[at].clone();
        if !declaration.spec.needs.is_none() {
            let needs = Arc::make_mut(&mut declaration.spec.needs);
            for names in [&mut needs.requires, &mut needs.wants, &mut needs.after] {
                *names = expanded(names);
            }
        }
        declaration
    });
    Ok(settled.collect())
}

/// The keys of a section in which this need may stand: those that name it before the others.
fn keys_of(declaration: &Declaration, need: &str) -> Vec<&'static str> {
    let needs = &declaration.spec.needs;
    let mut keys = vec![("requires", &needs.requires), ("wants", &needs.wants), ("after", &needs.after)];
    keys.sort_by_key(|(_, names)| !names.iter().any(|name| name == need));
    keys.into_iter().map(|(key, _)| key).collect()
}
