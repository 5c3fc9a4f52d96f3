//! What a stop or a restart also does to processes that nobody named: those that require the others.

use std::collections::HashMap;

use crate::cli::session::Session;
use crate::cli::{stdout, text};
use crate::client::Client;
use crate::wire::event::CAUSE_DEPENDENCY;
use crate::wire::process::{Process, State};
use crate::wire::reply::Item;
use crate::wire::request::List;
use crate::wire::time::Timestamp;

/// Says on standard error who has gone with those of the answer. A program may ask for events.
pub fn tell_followers(session: &Session, client: &mut Client, items: &[Item]) {
    let changed = items.iter().filter(|item| item.error.is_none()).filter_map(|item| item.process.as_ref());
    if session.is_json() || changed.clone().next().is_none() {
        return;
    }
    let all = client.list(List::default()).unwrap_or_default();
    for process in followers(changed, &all) {
        let (label, state) = (process.label(), text::state(process, Timestamp::now()));
        stdout::notice(&match process.is_blocked {
            true => format!("{label} goes with it, and waits until that is started again"),
            false => format!("{label} goes with it: {state}"),
        });
    }
}

/// Those that were stopped or restarted with these, and with one another.
fn followers<'a>(changed: impl Iterator<Item = &'a Process>, all: &'a [Process]) -> Vec<&'a Process> {
    let mut known: HashMap<String, &Process> = changed.map(|process| (process.label(), process)).collect();
    let mut found = Vec::new();
    loop {
        let follows = |process: &&Process| {
            let whom = process.cause.strip_prefix(CAUSE_DEPENDENCY).and_then(|name| known.get(name));
            whom.is_some_and(|whom| !known.contains_key(&process.label()) && has_gone(process, whom))
        };
        let new: Vec<_> = all.iter().filter(follows).collect();
        if new.is_empty() {
            return found;
        }
        known.extend(new.iter().map(|process| (process.label(), *process)));
        found.extend(new);
    }
}

/// Not long ago, for the same cause.
fn has_gone(process: &Process, whom: &Process) -> bool {
    match process.state {
        State::Running => process.started_at >= whom.started_at,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;

    #[test]
    fn who_follows_a_follower_follows_and_who_did_so_before_does_not() {
        let of = |name: &str, cause: &str, state: State, started_at: u64| {
            let started_at = Some(Timestamp(started_at));
            Process { cause: cause.to_owned(), state, started_at, ..process(name) }
        };
        let db = of("db", "uid 0", State::Running, 5);
        let all = [
            db.clone(),
            of("web", "dependency api", State::Starting, 2),
            of("api", "dependency db", State::Running, 6),
            of("old", "dependency db", State::Running, 4),
            of("other", "uid 0", State::Running, 7),
        ];
        let found: Vec<_> =
            followers([&db].into_iter(), &all).iter().map(|process| process.label()).collect();
        assert_eq!(found, ["api", "web"]);
    }
}
