//! What a stop or a restart also does to processes that nobody named: those that require the others, and
//! those that the others require.

use std::collections::{HashMap, HashSet};

use crate::cli::session::Session;
use crate::cli::{stdout, text};
use crate::client::Client;
use crate::wire::event::{CAUSE_DEPENDENCY, CAUSE_FOR};
use crate::wire::process::{Process, State};
use crate::wire::reply::Item;
use crate::wire::request::List;
use crate::wire::time::Timestamp;

/// Says on standard error who has gone with those of the answer, and who was started for them since they were
/// asked for. A program may ask for events.
pub fn tell_followers(session: &Session, client: &mut Client, items: &[Item], asked: Option<Timestamp>) {
    let changed = items.iter().filter(|item| item.error.is_none());
    // The list costs a script one more request: only where there may be something to tell.
    if session.is_json() || !changed.clone().any(|item| item.has_others) {
        return;
    }
    let changed = changed.filter_map(|item| item.process.as_ref());
    let all = client.list(List { followers: true, ..List::default() }).unwrap_or_default();
    // Another machine has another clock.
    let asked = asked.filter(|_| !session.remote.is_given());
    for (process, whom) in asked.map(|asked| started_for(changed.clone(), &all, asked)).unwrap_or_default() {
        stdout::notice(&format!("{} is started with it, since {whom} requires it", process.label()));
    }
    for process in followers(changed, &all) {
        let (label, state) = (process.label(), text::state(process, Timestamp::now()));
        stdout::notice(&match process.is_blocked {
            true => format!("{label} goes with it, and waits until that is started again"),
            false => format!("{label} goes with it: {state}"),
        });
    }
}

/// Those that were started since then because these require them, or one another; each with who does.
fn started_for<'a>(
    changed: impl Iterator<Item = &'a Process>,
    all: &'a [Process],
    asked: Timestamp,
) -> Vec<(&'a Process, &'a str)> {
    let mut known: HashSet<String> = changed.map(Process::label).collect();
    let mut found = Vec::new();
    loop {
        let is_new = |process: &&Process| !known.contains(&process.label());
        let recent = all.iter().filter(is_new).filter(|process| process.started_at >= Some(asked));
        let whom = |process: &'a Process| Some((process, process.cause.rsplit_once(CAUSE_FOR)?.1));
        let new: Vec<_> = recent.filter_map(whom).filter(|(_, whom)| known.contains(*whom)).collect();
        if new.is_empty() {
            return found;
        }
        known.extend(new.iter().map(|(process, _)| process.label()));
        found.extend(new);
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
    use crate::client::fake_server::{Act, FakeServer, process};
    use crate::wire::reply::Reply;
    use crate::wire::request::Request;

    #[test]
    fn where_nobody_follows_no_list_is_asked_for() {
        let list = || Act::Answer(vec![Reply::Processes(Vec::new())]);
        let server = FakeServer::new(vec![vec![list(), list()]]);
        let mut client = Client::connect(&server.path()).unwrap();
        let mut tell = |has_others| {
            let process = Some(process("one"));
            let item = Item { target: "one".into(), process, error: None, unrecorded: None, has_others };
            tell_followers(&Session::new(Vec::new()), &mut client, &[item], None);
        };
        tell(false);
        tell(true);
        let other = List::default();
        client.list(other.clone()).unwrap();
        let followers = List { followers: true, ..List::default() };
        assert_eq!(server.finish().requests, [followers, other].map(Request::List));
    }

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
        let all = [
            of("db", "uid 0, for web", State::Running, 6),
            of("disk", "uid 0, for db", State::Starting, 5),
            of("cache", "uid 0, for web", State::Running, 4),
            of("other", "uid 0", State::Running, 7),
        ];
        let web = of("web", "uid 0", State::Running, 8);
        let found = started_for([&web].into_iter(), &all, Timestamp(5));
        let found: Vec<_> = found.iter().map(|(process, whom)| (process.label(), *whom)).collect();
        assert_eq!(found, [("db".to_owned(), "web"), ("disk".to_owned(), "db")]);
    }
}
