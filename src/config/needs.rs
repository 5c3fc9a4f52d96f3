//! What declared processes need of one another: all of it is declared, and nobody needs himself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::processes::Declaration;
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::order::{Node, order};
use crate::wire::values::closest;

/// Puts the sections behind those that they need, and means all instances where one with several is named.
/// `places`: where each name is declared.
pub fn settle(all: Vec<Declaration>, places: &BTreeMap<Name, String>) -> Result<Vec<Declaration>, Error> {
    let name = |d: &Declaration| d.spec.name.as_ref().expect("a section has a name").clone();
    let names: Vec<Name> = all.iter().map(name).collect();
    let instances: BTreeMap<&str, Vec<String>> = (names.iter().zip(&all))
        .map(|(name, d)| (name.as_str(), d.names().into_iter().map(|(n, _)| n.as_str().to_owned()).collect()))
        .collect();
    let groups: BTreeSet<String> =
        all.iter().filter_map(|d| Some(format!("@{}", d.spec.needs.in_group.as_ref()?))).collect();
    let place = |at: usize| {
        let first = all[at].names().into_iter().next();
        first.and_then(|(name, _)| places.get(&name).cloned()).unwrap_or_default()
    };
    for (at, declaration) in all.iter().enumerate() {
        for need in declaration.spec.needs.all() {
            let is_instance = || need.parse::<Name>().is_ok_and(|name| places.contains_key(&name));
            if instances.contains_key(need) || groups.contains(need) || is_instance() {
                continue;
            }
            let e = format!(
                "{}: [process.{}] needs {}, which is not declared",
                place(at),
                names[at],
                quoted(need)
            );
            let known = names.iter().map(Name::as_str).chain(groups.iter().map(String::as_str));
            return Err(match closest(need, known) {
                Some(near) => Error::usage(e).hint(format!("did you mean '{near}'?")),
                None => Error::usage(e),
            });
        }
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
        let e = format!("{}: processes need one another in a circle: {}", place(at), circle.join(" -> "));
        Error::usage(e).hint("none of them could ever start: leave one of these needs out")
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
