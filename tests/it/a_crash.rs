//! The engine is killed at any moment, and nothing happens: children run on and keep writing, what was
//! acknowledged holds, and nothing is there twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{LATER, Options, Random, SOON, Service, fixture, procfs, rounds, wait};

/// Lines of decimal numbers from `first` on, each one more than the one before. Returns the last one.
#[track_caller]
fn expect_numbers(what: &str, bytes: &[u8], first: u64) -> u64 {
    let mut expected = first;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    for line in bytes[..whole].split_inclusive(|&b| b == b'\n') {
        let text = String::from_utf8_lossy(&line[..line.len() - 1]);
        assert_eq!(text, expected.to_string(), "{what}: a line was lost, repeated or moved");
        expected += 1;
    }
    expected - 1
}

/// Starts, checks, stops and removes processes until told to end. Every answer must be right, though the
/// engine dies under it all the time. Returns how many rounds it made, and a process that it left running.
fn load(service: &Service, worker: usize, end: &AtomicBool) -> (u32, String) {
    let mut made = 0;
    loop {
        let name = format!("load-{worker}-{made}");
        let id = service.start(&["--name", &name, "--", "sleep", "50000"]);
        let process = service.status_json(&name);
        assert_eq!(
            (process["id"].as_str(), process["state"].as_str()),
            (Some(&*id), Some("running")),
            "{process}"
        );
        assert_eq!((&process["run"], &process["restarts"]), (&1.into(), &0.into()), "{process}");
        made += 1;
        if end.load(Ordering::Relaxed) {
            return (made, id);
        }
        service.ok(&["stop", &id]);
        let process = service.status_json(&name);
        assert_eq!(process["state"], "stopped", "a stop that was acknowledged does not hold: {process}");
        if made % 2 == 0 {
            service.ok(&["remove", &id]);
            service.cli(&["status", &id]).expect(4);
        } else {
            service.ok(&["start", &name]);
            let process = service.status_json(&id);
            assert_eq!((&process["state"], &process["run"]), (&"running".into(), &2.into()), "{process}");
            service.ok(&["remove", "--force", &name]);
        }
    }
}

#[test]
fn a1_kill_engine_under_load() {
    let service = Service::new();
    let numbers = fixture("numbers");
    let counter = ["--name", "numbers", "--output-limit", "32m", "--", &numbers, "--pace-us", "200"];
    let counter = service.start(&counter);
    service.ok(&["start", "--name", "steady", "--instances", "50", "--", "sleep", "60000"]);
    let stream = service.background(&["stream", "--until-end", &counter, "--since", "start"]);
    let before: Vec<Value> = service.list_json();
    assert_eq!(before.len(), 51);
    let mut random = Random::new();
    let end = AtomicBool::new(false);
    let left: Vec<(u32, String)> = thread::scope(|scope| {
        let workers: Vec<_> = [1, 2]
            .map(|n| {
                scope.spawn({
                    let end = &end;
                    let service = &service;
                    move || load(service, n, end)
                })
            })
            .into();
        for n in 1..=rounds(100) {
            wait::pass(Duration::from_micros(random.below(100_000)));
            kill_engine(&service, n);
            if workers.iter().any(thread::ScopedJoinHandle::is_finished) {
                // It failed: go on to its panic.
                break;
            }
        }
        end.store(true, Ordering::Relaxed);
        workers.into_iter().map(|w| w.join().expect("the load went on to its end")).collect()
    });
    assert!(left.iter().all(|(made, _)| *made > 1), "load was running: {left:?}");

    let after: HashMap<String, Value> =
        service.list_json().into_iter().map(|p| (p["id"].as_str().unwrap_or("").to_owned(), p)).collect();
    assert_eq!(after.len(), before.len() + left.len(), "processes: {:?}", after.values());
    for old in &before {
        let new = &after[old["id"].as_str().expect("the id is text")];
        for key in ["id", "name", "pid", "run", "restarts", "state", "started_at", "created_at"] {
            assert_eq!(old[key], new[key], "{key} changed\nbefore {old}\nafter {new}");
        }
    }
    for (id, process) in &after {
        let tree = service.tree_of(id);
        assert_eq!(tree.len(), 1, "exactly one living process of {process}: {tree:?}");
        assert_eq!(process["pid"], tree[0], "{process}");
    }
    assert_eq!(service.below().len(), after.len(), "nothing runs that nobody knows");

    // The writer's last word, once it has ended, against what was kept and what was streamed.
    service.ok(&["stop", &counter]);
    let kept = service.output(&counter);
    let last = expect_numbers("output", &kept, 1);
    let process = service.status_json(&counter);
    assert_eq!(process["output_end"], kept.len(), "{process}");
    let streamed = stream.end(SOON);
    assert_eq!(streamed.code, 0, "{streamed:?}");
    assert_eq!(expect_numbers("stream", &streamed.stdout, 1), last);
}

/// The `n`-th kill. Now and then an engine gets the time to answer, however slow the machine: else clients
/// give up, which hear nothing for ten seconds.
fn kill_engine(service: &Service, n: u32) {
    service.kill_engine_only();
    if n.is_multiple_of(5) {
        service.ok(&["list"]);
    }
}

/// The same while processes end by themselves all the time: each run begins once and ends once, with its own
/// exit code, whichever engine was there to see it.
#[test]
fn a1_kill_engine_under_restarts() {
    kill_under_restarts(&Service::new());
}

#[test]
fn a1_kill_engine_under_restarts_without_cgroups() {
    kill_under_restarts(&Options::new().without_cgroups().start());
}

fn kill_under_restarts(service: &Service) {
    let follow = service.background(&["events", "--follow", "--since", "0", "--json"]);
    let pace = [
        "--restart",
        "always",
        "--max-restarts",
        "none",
        "--restart-delay",
        "5ms",
        "--restart-delay-max",
        "20ms",
    ];
    let script = "echo run $PROVOST_RUN; exit $((PROVOST_RUN % 5))";
    let name = ["--name", "flap", "--instances", "6", "--output-limit", "4m"];
    let ids = service.ok(&[&["start"], &name[..], &pace[..], &["--", "sh", "-c", script]].concat());
    let mut random = Random::new();
    for n in 1..=rounds(100) {
        wait::pass(Duration::from_micros(random.below(60_000)));
        kill_engine(service, n);
    }
    service.ok(&["stop", "flap-*"]);
    let last = service.events().last().expect("much happened")["seq"].as_u64().expect("a number");
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|e| e["seq"].as_u64() < Some(last)) {
        let line = follow.line(SOON).expect("the feed goes on");
        events.push(serde_json::from_str(&line).expect("JSON"));
    }
    let numbers: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "numbers without a gap: {}", follow.stderr_text());
    for id in ids.lines() {
        let process = service.status_json(id);
        assert_eq!((&process["state"], service.tree_of(id)), (&"stopped".into(), vec![]), "{process}");
        let run = process["run"].as_u64().expect("a number");
        let of = |kind: &str| -> Vec<&Value> {
            events.iter().filter(|e| e["id"] == id && e["kind"] == kind).collect()
        };
        let runs = |kind: &str| of(kind).iter().filter_map(|e| e["run"].as_u64()).collect::<Vec<_>>();
        // The last run may have been stopped before it came to its exec.
        let (started, exited) = (runs("started"), runs("exited"));
        let all: Vec<u64> = (1..=run).collect();
        assert!(
            started == all || started == all[..all.len() - 1],
            "each run starts once, in order: {started:?}"
        );
        assert!(exited == all || exited == all[..all.len() - 1], "each run ends once, in order: {exited:?}");
        for end in &of("exited")[..exited.len() - 1] {
            assert_eq!(end["exit"]["code"], end["run"].as_u64().expect("a number") % 5, "{end}");
        }
        let output = String::from_utf8_lossy(&service.output(id)).into_owned();
        let wrote: Vec<u64> =
            output.lines().filter_map(|line| line.strip_prefix("run ")?.parse().ok()).collect();
        assert!(wrote == all || wrote == all[..all.len() - 1], "each run wrote its line once: {wrote:?}");
        assert!(run > 10, "it went on: run {run}");
    }
}

#[test]
fn a6_children_write_while_there_is_no_engine() {
    let service = Service::new();
    let fast = service.start(&[
        "--output-limit",
        "64m",
        "--",
        &fixture("numbers"),
        "--pace-us",
        "1000",
        "--burst",
        "100",
    ]);
    let slow = service.start(&["--", &fixture("numbers"), "--pace-us", "20000", "--stderr"]);
    wait::until("both have written", SOON, || [&fast, &slow].iter().all(|id| !service.output(id).is_empty()));
    let pids = [service.pid(&fast), service.pid(&slow)];
    // A keeper that is held still starts no engine.
    procfs::signal("STOP", service.keeper_pid());
    procfs::signal("KILL", service.engine_pid());
    // The fast one fills its pipe and then waits in its write; it must not get SIGPIPE.
    let mut written = (0, 0);
    wait::until("the fast writer waits for room in its pipe", LATER, || {
        wait::pass(Duration::from_millis(200));
        let before = written;
        written = (bytes_written(pids[0]), bytes_written(pids[1]));
        written.0 > 0 && written.0 == before.0
    });
    assert!(pids.iter().all(|&pid| procfs::alive(pid)));
    procfs::signal("CONT", service.keeper_pid());
    wait::until("both write on", SOON, || {
        bytes_written(pids[0]) > written.0 + 300_000 && bytes_written(pids[1]) > written.1
    });
    for (id, pid) in [&fast, &slow].into_iter().zip(pids) {
        assert_eq!(service.pid(id), pid);
        service.ok(&["stop", id]);
        assert!(expect_numbers(id, &service.output(id), 1) > 10);
    }
}

/// The engine is halted for a while, deadlines pass, and then it goes on: nothing is killed that should not
/// be.
#[test]
fn a12_a_halted_engine_kills_nothing_when_it_goes_on() {
    let service = Service::new();
    service.ok(&["start", "--name", "steady", "--instances", "10", "--", "sleep", "61000"]);
    let pace = [
        "--restart",
        "always",
        "--restart-delay",
        "500ms",
        "--restart-delay-max",
        "500ms",
        "--name",
        "again",
    ];
    let script = "[ $PROVOST_RUN -le 2 ] && exit 1; exec sleep 61001";
    service.ok(&[&["start"], &pace[..], &["--", "sh", "-c", script]].concat());
    let before = service.list_json();
    let engine = service.engine_pid();
    procfs::signal("STOP", engine);
    let asked = service.background(&["status", "steady-1"]);
    wait::pass(Duration::from_secs(2));
    assert!(asked.is_running(), "there is nobody to answer");
    procfs::signal("CONT", engine);
    assert_eq!(asked.end(SOON).code, 0, "the answer comes when there is somebody again");
    assert_eq!(service.engine_pid(), engine, "a halted engine is not replaced");
    service.until_state("again", "running");
    for old in before.iter().filter(|p| p["name"] != "again") {
        let new = service.status_json(old["id"].as_str().expect("text"));
        assert_eq!(
            (&new["pid"], &new["run"], &new["state"]),
            (&old["pid"], &1.into(), &"running".into()),
            "{new}"
        );
    }
}

/// What the kernel counted of a process's writes.
fn bytes_written(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    found.unwrap_or(0)
}
