//! Many starts and ends: each one is seen once, and nothing is left of any.

use std::collections::HashMap;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::harness::{Random, SOON, Service, procfs, rounds, wait};
use provost::wire::process::State;

/// One process, a thousand starts and stops: first one after the other, then by 32 at once.
#[test]
fn b11_a_thousand_starts_and_stops_leave_nothing() {
    let service = Service::new();
    let id = service.start(&["--name", "busy", "--", "sleep", "84000"]);
    let mut client = service.client();
    service.stop_by(&mut client, &id);
    let before = service.footprint();
    let serial = u64::from(rounds(700));
    for n in 0..serial {
        let started = service.start_by(&mut client, &id);
        assert_eq!((started.state, started.run), (State::Running, n + 2), "{started:?}");
        let pid = started.pid.expect("what runs has a pid");
        let stopped = service.stop_by(&mut client, &id);
        assert_eq!((stopped.state, stopped.run), (State::Stopped, n + 2), "{stopped:?}");
        assert!(!procfs::alive(pid), "stopped means gone");
    }
    thread::scope(|scope| {
        for _ in 0..32 {
            let (service, id) = (&service, &id);
            scope.spawn(move || {
                let mut client = service.client();
                for _ in 0..rounds(20) {
                    // Others stop it in between; so there is nothing to claim of one answer but that it is
                    // one.
                    let _ = client.start_again(vec![id.clone()]).expect("the service answers");
                    let stop =
                        provost::wire::request::Stop { targets: vec![id.clone()], ..Default::default() };
                    let _ = client.stop(stop).expect("the service answers");
                }
            });
        }
    });
    service.stop_by(&mut client, &id);
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    let process = service.status_json(&id);
    let events = service.events();
    // As far as the events are kept, each run has one start and one end.
    let count = |kind: &str| {
        let mut counts: HashMap<u64, u32> = HashMap::new();
        events.iter().filter(|e| e["kind"] == kind).for_each(|e| {
            *counts.entry(e["run"].as_u64().expect("a number")).or_default() += 1;
        });
        counts
    };
    let (starts, ends) = (count("started"), count("exited"));
    assert!(starts.values().chain(ends.values()).all(|&n| n == 1), "once each: {starts:?} {ends:?}");
    assert!(ends.len() > 100, "{} ends are kept", ends.len());
    println!("{} runs", process["run"]);
    drop(client);
    service.until_footprint(before);
}

/// Many short processes, by instances and one after the other: each end is told once, with its code.
#[test]
fn b14_a_thousand_short_processes_end_once_each() {
    let service = Service::new();
    let before = service.footprint();
    let follow = service.background(&["events", "--follow", "--since", "0", "--json"]);
    let instances = rounds(900).min(1000);
    let ids =
        service.ok(&["start", "--name", "true", "--instances", &instances.to_string(), "--", "/bin/true"]);
    let mut ids: Vec<String> = ids.lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), instances as usize);
    for _ in 0..rounds(100) {
        ids.push(service.start(&["--", "/bin/true"]));
    }
    service.cli(&["wait", "true-*", "--timeout", "100s"]).expect(0);
    let mut exits: HashMap<String, u32> = HashMap::new();
    while exits.len() < ids.len() {
        let line = follow.line(SOON).expect("the feed goes on");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["kind"] == "exited" {
            assert_eq!(event["exit"]["code"], 0, "{event}");
            *exits.entry(event["id"].as_str().expect("of a process").to_owned()).or_default() += 1;
        }
    }
    for id in &ids {
        assert_eq!(exits.get(id), Some(&1), "ends of {id}");
    }
    for process in service.list_json() {
        assert_eq!(
            (&process["state"], &process["exit"]["code"]),
            (&"stopped".into(), &0.into()),
            "{process}"
        );
        assert_eq!(process["run"], 1, "{process}");
    }
    drop(follow);
    assert_eq!(service.below(), Vec::<u32>::new());
    service.ok(&["remove", "*"]);
    assert_eq!(service.list_json(), Vec::<Value>::new());
    service.until_footprint(before);
}

/// All children killed by one command: the kernel merges their SIGCHLDs, the keeper must not.
#[test]
fn b15_two_hundred_killed_at_once_end_once_each() {
    let service = Service::new();
    let ids = service.ok(&["start", "--name", "nap", "--instances", "200", "--", "sleep", "84010"]);
    let ids: Vec<&str> = ids.lines().collect();
    let pids: Vec<String> = service.list_json().iter().map(|p| p["pid"].to_string()).collect();
    assert_eq!(pids.len(), 200);
    let killed = Command::new("kill").arg("-KILL").args(&pids).status().expect("kill(1) is installed");
    assert!(killed.success());
    let waited = service.cli(&["wait", "nap-*", "--timeout", "60s"]);
    println!("wait: {}", waited.code);
    for process in service.list_json() {
        assert_eq!(
            (&process["state"], &process["exit"]["signal"]),
            (&"stopped".into(), &"SIGKILL".into()),
            "{process}"
        );
    }
    let events = service.events();
    for id in ids {
        let ends = events.iter().filter(|e| e["id"] == id && e["kind"] == "exited").count();
        assert_eq!(ends, 1, "ends of {id}");
    }
    service.expect_no_zombies();
}

/// The same with restarts: all are back, each with its second run.
#[test]
fn b15_two_hundred_killed_at_once_come_back() {
    let service = Service::new();
    let restart = ["--restart", "always", "--name", "nap", "--instances", "200"];
    service.ok(&[&["start"], &restart[..], &["--", "sleep", "84020"]].concat());
    let pids: Vec<String> = service.list_json().iter().map(|p| p["pid"].to_string()).collect();
    let mut random = Random::new();
    Command::new("kill").arg("-KILL").args(&pids).status().expect("kill(1) is installed");
    // And the engine too, in the middle of it.
    wait::pass(std::time::Duration::from_micros(random.below(50_000)));
    service.kill_engine_only();
    let is_back = |p: &Value| p["state"] == "running" && p["run"] == 2 && p["restarts"] == 1;
    let back = wait::holds_within(SOON, || service.list_json().iter().all(is_back));
    let late: Vec<Value> = service.list_json().into_iter().filter(|p| !is_back(p)).collect();
    assert!(back, "{} are not back: {:?}\n{:?}", late.len(), late[0], service.events_of(&late[0]));
    assert_eq!(service.below().len(), 200, "nothing runs that nobody knows");
    let mut ends: HashMap<(String, u64), u32> = HashMap::new();
    for event in service.events().into_iter().filter(|e| e["kind"] == "exited") {
        *ends.entry((event["id"].to_string(), event["run"].as_u64().unwrap_or(0))).or_default() += 1;
    }
    assert!(ends.len() == 200 && ends.values().all(|&n| n == 1), "each end is told once: {ends:?}");
    service.ok(&["stop", "nap-*"]);
}
