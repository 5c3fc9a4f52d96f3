//! History: every event once and in order, over the death of engines and of services, past what is kept in
//! memory, and of processes that are gone.

use std::fs;

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Scratch, Service, procfs, wait};

/// More than the memory that engines hand on keeps.
const MANY: u64 = 5000;

fn number(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap_or_else(|| panic!("no number: {event}"))
}

#[track_caller]
fn expect_row(events: &[Value], first: u64) {
    for (event, want) in events.iter().zip(first..) {
        assert_eq!(number(event), want, "{event}");
    }
}

/// Makes events, quickly: each signal is one, and nobody waits for it to be recorded.
fn make_events(service: &Service, id: &str, count: u64) {
    let mut client = service.client();
    for _ in 0..count {
        let signal = provost::wire::request::Signal {
            targets: vec![id.to_owned()],
            signal: 18,
            scope: provost::wire::spec::Scope::Leader,
        };
        client.signal(signal).expect("it runs");
    }
}

/// Follows from the beginning while engines die, and reads again from the middle when memory has long
/// forgotten it.
#[test]
fn every_event_once_over_engines_and_past_what_memory_keeps() {
    let service = Service::new();
    let id = service.start(&["--name", "web", "--", "sleep", "80000"]);
    let following = service.background(&["events", "--follow", "--json", "--since", "0"]);
    for _ in 0..4 {
        make_events(&service, &id, MANY / 4);
        service.kill_engine();
    }
    service.ok(&["env", "set", "LAST=1"]);
    let mut followed: Vec<Value> = Vec::new();
    while followed.last().is_none_or(|e| e["detail"] != "LAST") {
        let line = following.line(LATER).expect("it follows on");
        followed.push(serde_json::from_str(&line).expect("JSON"));
    }
    assert_eq!(following.stderr_text(), "", "nothing was missed, and no connection lost for good");
    drop(following);
    expect_row(&followed, 1);
    assert!(followed.len() as u64 > MANY, "{} events", followed.len());
    let taken_over = followed.iter().filter(|e| e["kind"] == "taken-over" && e["id"].is_null()).count();
    assert_eq!(taken_over, 4, "each engine is told of");
    // From the database, where memory begins later.
    let late = service.cli(&["events", "--json", "--since", "17"]).expect(0).json();
    assert_eq!(late[..followed.len() - 17], followed[17..]);
    // And of a service that has nothing in memory.
    service.end();
    service.serve_again();
    let again = service.events();
    for (now, then) in again.iter().zip(&followed) {
        assert_eq!(now, then);
    }
    expect_row(&again, 1);
    let following = service.background(&["events", "--follow", "--json", "--since", "3"]);
    service.ok(&["env", "set", "VERY=last"]);
    let mut followed: Vec<Value> = Vec::new();
    while followed.last().is_none_or(|e| e["detail"] != "VERY") {
        followed.push(serde_json::from_str(&following.line(LATER).expect("it follows on")).expect("JSON"));
    }
    expect_row(&followed, 4);
    assert!(followed.len() as u64 > MANY, "{} events", followed.len());
}

#[test]
fn history_of_a_process_over_services_and_after_its_end() {
    let service = Service::new();
    let other = service.start(&["--name", "other", "--", "sleep", "80000"]);
    let id = service.start(&["--name", "web", "--", "sleep", "80000"]);
    service.until_store("sound");
    service.kill_all();
    service.serve_again();
    service.until_state("web", "running");
    make_events(&service, &other, MANY);
    service.end();
    service.serve_again();
    service.until_state("web", "running");
    service.ok(&["stop", "web"]);
    let history = service.cli(&["history", "web", "--json"]).expect(0).json();
    assert!(history.iter().all(|e| e["id"] == *id), "of this one only");
    assert!(history.windows(2).all(|w| number(&w[0]) < number(&w[1])), "in order, each once: {history:?}");
    let kinds: Vec<_> = history.iter().filter_map(|e| e["kind"].as_str()).collect();
    let run = ["started", "stopping", "exited", "stopped"];
    let want = [&["created", "started", "lost"][..], &run, &run].concat();
    assert_eq!(kinds, want);
    let last = service.cli(&["history", "--limit", "2", "--json", "web"]).expect(0).json();
    assert_eq!(last, history[history.len() - 2..]);
    let said = service.cli(&["history", "web"]).expect(0).out();
    assert!(said.lines().next().is_some_and(|line| line.contains(" web created (by uid ")), "{said}");
    // It is gone, its history is not; by its id, since a name may be given to another.
    service.ok(&["remove", "web"]);
    service.cli(&["history", "web"]).expect(4);
    for again in [false, true] {
        if again {
            service.end();
            service.serve_again();
        }
        let of_the_removed = service.cli(&["history", &id, "--json"]).expect(0).json();
        assert_eq!(of_the_removed[..history.len()], history);
        assert_eq!(of_the_removed.last().map(|e| &e["kind"]), Some(&"removed".into()));
    }
    service.cli(&["history", "00000000-0000-7000-8000-000000000000"]).expect(4);
}

/// Whoever follows one process hears of that one, from the past on and over an engine.
#[test]
fn following_one_process() {
    let service = Service::new();
    let web = service.start(&["--name", "web", "--", "sleep", "80000"]);
    let other = service.start(&["--name", "other", "--", "sleep", "80000"]);
    make_events(&service, &other, MANY);
    let following = service.background(&["events", "--follow", "--since", "0", "--json", "web"]);
    following.line_with("\"started\"", SOON);
    service.kill_engine();
    make_events(&service, &other, 10);
    procfs::signal("KILL", service.pid("web"));
    let line = following.line_with("\"exited\"", SOON);
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&event["id"], &event["exit"]["signal"]), (&web.into(), &"SIGKILL".into()), "{event}");
    wait::until("it follows still", SOON, || following.is_running());
}

/// Events, and lines of the audit, are shown from a time on as from a number on.
#[test]
fn what_happened_is_shown_from_a_time_on() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    service.ok(&["stop", "web"]);
    for what in ["events", "audit"] {
        let all = service.cli(&[what, "--json"]).expect(0).json();
        let last = all.last().expect("there are some")["at"].as_str().expect("it has a time");
        // As text they have the order of time.
        let first = all.iter().position(|one| one["at"].as_str() >= Some(last)).expect("the last one");
        assert!(first > 0, "{all:?}");
        let since = |when: &str| service.cli(&[what, "--json", "--since", when]).expect(0).json();
        assert_eq!(since(last)[..], all[first..], "{what}");
        assert_eq!((since("1h"), since("start")), (all.clone(), all.clone()), "{what}");
        assert_eq!(since("2100-01-01T00:00:00Z"), [] as [Value; 0], "{what}");
        assert_eq!(since("now"), [] as [Value; 0], "{what}");
        let refused = service.cli(&[what, "--since", "tomorrow"]).expect(2).err();
        assert!(refused.contains("how long ago, as 10m"), "{refused}");
    }
    // What comes is told behind it.
    let following = service.background(&["events", "--follow", "--since", "1h", "web"]);
    following.line_with("created", SOON);
    service.ok(&["start", "web"]);
    following.line_with("(run 2", SOON);
}

/// What has ended and has no name does not pile up: the oldest are forgotten, and a name keeps the rest.
#[test]
fn what_has_ended_is_kept_to_its_number() {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    fs::write(&config, "[history]\nkeep_ended = 2\n").expect("the directory is ours");
    let service = Options::new().serve(&["--config", &config]).start();
    service.cli(&["run", "--name", "named", "--", "true"]).expect(0);
    let running = service.start(&["--", "sleep", "80000"]);
    for _ in 0..5 {
        service.cli(&["run", "--", "true"]).expect(0);
    }
    let ended =
        || service.list_json().iter().filter(|p| p["name"].is_null() && p["state"] == "stopped").count();
    assert_eq!(ended(), 5, "whoever ran them can still ask");
    // Also by an engine that was not there when they ended.
    service.kill_engine();
    wait::until("the oldest are forgotten", LATER, || ended() == 2);
    assert_eq!((service.state("named"), service.state(&running)), ("stopped".into(), "running".into()));
    assert!(service.events().iter().any(|e| e["kind"] == "removed" && e["cause"] == "kept long enough"));
}

/// The feed has more events than are kept, and the store deletes them later: neither is anybody's to see.
#[test]
fn what_is_not_kept_any_more_is_not_shown() {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    fs::write(&config, "[history]\nkeep_events = 1000\n").unwrap();
    let service = Options::new().serve(&["--config", &config]).start();
    let id = service.start(&["--name", "web", "--", "sleep", "80003"]);
    make_events(&service, &id, 1100);
    for events in [service.events(), service.cli(&["events", "web", "--since", "0", "--json"]).json()] {
        let numbers: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
        assert_eq!(numbers.len(), 1000, "{:?} to {:?}", numbers.first(), numbers.last());
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1));
    }
    // Who asks for a time is told what is missing of it, and of no other.
    let last = service.events().pop().expect("there are some");
    let since = |when: &str| service.cli(&["events", "--since", when]).expect(0).err();
    assert!(since("1h").contains("are no longer kept"));
    assert_eq!(since(last["at"].as_str().expect("it has a time")), "");
}
