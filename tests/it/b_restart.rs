//! Exits as they are, restarts at their pace, and requests that cross what happens.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use provost::wire::error::Code;
use provost::wire::id::ProcessId;
use provost::wire::request::{Numbering, Remove, Start};
use provost::wire::spec::Spec;
use serde_json::Value;

use crate::harness::{Options, SOON, Service, procfs, rounds, wait};

#[test]
fn b9_exit_codes_are_reported_exactly() {
    let service = Service::new();
    for code in [0, 1, 2, 3, 42, 125, 126, 127, 128, 137, 254, 255] {
        let id = service.start(&["--", "sh", "-c", &format!("exit {code}")]);
        service.cli(&["wait", &id]).expect(code);
        let exit = service.status_json(&id)["exit"].clone();
        assert_eq!(exit["code"], code, "{exit}");
        assert!(exit.get("signal").is_none_or(Value::is_null), "{exit}");
    }
}

/// Every signal that ends a process by default, with its name; the real-time ones by their numbers.
const SIGNALS: [(i32, &str); 25] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (16, "SIGSTKFLT"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (26, "SIGVTALRM"),
    (27, "SIGPROF"),
    (29, "SIGIO"),
    (30, "SIGPWR"),
    (31, "SIGSYS"),
    (34, "SIGRTMIN"),
    (64, "SIGRTMAX"),
];

#[test]
fn b9_fatal_signals_are_reported_exactly() {
    let service = Service::new();
    for (number, name) in SIGNALS {
        // Without a core file, wherever the machine would put it.
        let id = service.start(&["--limit", "core=0", "--", "sh", "-c", &format!("kill -{number} $$")]);
        service.cli(&["wait", &id]).expect(128 + number);
        let exit = service.status_json(&id)["exit"].clone();
        assert_eq!((&exit["number"], &exit["core"]), (&number.into(), &false.into()), "{exit}");
        let shown = exit["signal"].as_str().expect("its name");
        let alias = matches!((number, shown), (29, "SIGPOLL") | (64, "SIGRTMIN+30"));
        assert!(shown == name || alias, "signal {number} is {name}, not {shown}");
        assert!(exit.get("code").is_none_or(Value::is_null), "{exit}");
    }
}

#[test]
fn b9_a_core_dump_is_reported() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("Linux has it");
    assert!(!pattern.trim().is_empty(), "this machine writes no core files");
    let service = Service::new();
    let dir = service.scratch().path().to_str().expect("the path is text").to_owned();
    let args = ["--limit", "core=unlimited", "--cwd", &dir, "--", "sh", "-c", "kill -SEGV $$"];
    let id = service.start(&args);
    service.cli(&["wait", &id]).expect(139);
    let exit = service.status_json(&id)["exit"].clone();
    assert_eq!((&exit["signal"], &exit["core"]), (&"SIGSEGV".into(), &true.into()), "{exit}");
}

/// Times of the events of one kind, in milliseconds.
fn times(events: &[Value], id: &str, kind: &str) -> Vec<i64> {
    let of = events.iter().filter(|e| e["id"] == id && e["kind"] == kind);
    of.map(|e| {
        let text = e["at"].as_str().expect("a time");
        text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
    })
    .collect()
}

#[test]
fn b10_crash_loop_slows_down_and_gives_up() {
    let service = Options::new().alone().start();
    // How late it may be depends on how busy the machine is: three attempts. All else holds always.
    let on_time = (0..3).any(|n| crash_loop(&service, &format!("loop-{n}")));
    assert!(on_time, "restarts came late, three times");
}

/// Whether no restart came more than a moment late.
fn crash_loop(service: &Service, name: &str) -> bool {
    let pids = [service.keeper_pid(), service.engine_pid()];
    let ticks = || pids.iter().filter_map(|&pid| procfs::stat(pid)).map(|s| s.ticks).sum::<u64>();
    let before = ticks();
    let pace = ["--restart-delay", "100ms", "--restart-delay-max", "400ms"];
    let policy = ["--name", name, "--restart", "on-failure", "--max-restarts", "5"];
    let id = service.start(&[&policy[..], &pace[..], &["--", "sh", "-c", "exit 1"]].concat());
    service.cli(&["wait", &id]).expect(1);
    let process = service.until_state(&id, "failed");
    assert_eq!((&process["run"], &process["restarts"]), (&6.into(), &5.into()), "{process}");
    assert_eq!(
        (&process["max_restarts"], &process["next_attempt_at"]),
        (&5.into(), &Value::Null),
        "{process}"
    );
    assert_eq!(process["exit"]["code"], 1, "{process}");
    let used = ticks() - before;
    assert!(used <= 10, "{used} ticks of 10 ms for six short runs");
    let events = service.events();
    let (starts, ends) = (times(&events, &id, "started"), times(&events, &id, "exited"));
    assert_eq!((starts.len(), ends.len()), (6, 6), "{events:?}");
    assert_eq!(times(&events, &id, "gave-up").len(), 1, "{events:?}");
    let why = service.ok(&["why", &id]);
    assert!(why.contains("exit code 1") || why.contains("code 1"), "{why}");
    // At once, then 100 ms, twice as long each time up to the limit, each by at most a tenth longer or
    // shorter.
    let pauses: Vec<i64> = starts[1..].iter().zip(&ends).map(|(start, end)| start - end).collect();
    println!("pauses of {pauses:?} ms");
    let nominal = [0, 100, 200, 400, 400];
    let early = pauses.iter().zip(nominal).any(|(pause, nominal)| *pause < nominal * 9 / 10 - 2);
    assert!(!early, "pauses of {pauses:?} ms, not {nominal:?}");
    pauses.iter().zip(nominal).all(|(pause, nominal)| *pause <= nominal * 11 / 10 + 50)
}

#[test]
fn b10_a_fast_loop_costs_little() {
    let service = Options::new().alone().start();
    // Ten restarts a second at most, for ever.
    let pace = [
        "--restart",
        "always",
        "--max-restarts",
        "none",
        "--restart-delay",
        "100ms",
        "--restart-delay-max",
        "100ms",
    ];
    let id = service.start(&[&pace[..], &["--", "sh", "-c", "exit 1"]].concat());
    let pids = [service.keeper_pid(), service.engine_pid()];
    let ticks = || pids.iter().filter_map(|&pid| procfs::stat(pid)).map(|s| s.ticks).sum::<u64>();
    let (before, restarts) = (ticks(), service.status_json(&id)["restarts"].as_u64().expect("a number"));
    wait::pass(Duration::from_secs(3));
    let (used, after) = (ticks() - before, service.status_json(&id)["restarts"].as_u64().expect("a number"));
    assert!((15..=40).contains(&(after - restarts)), "{} restarts in 3 s", after - restarts);
    assert!(used <= 15, "{used} ticks of 10 ms in 3 s: over 5 %");
    // The status is one of a loop, whatever the moment.
    let state = service.state(&id);
    assert!(["starting", "running", "backoff", "stopping"].contains(&&*state), "{state}");
    service.ok(&["stop", &id]);
}

/// Not even when no attempt comes to a spawn, and no delay is asked for.
#[test]
fn b10_attempts_that_fail_before_the_spawn_cost_little_and_hold_up_nothing() {
    let service = Options::new().alone().start();
    let pace = ["--restart", "always", "--restart-delay", "0", "--max-restarts", "none"];
    service.start(&[&["--name", "web"], &pace[..], &["--", "sleep", "83021"]].concat());
    // A path of more directories than are tried.
    service.ok(&["env", "set", &format!("PATH={}", ":".repeat(2000))]);
    procfs::signal("KILL", service.pid("web"));
    let fails = || service.status_json("web")["start_failure"]["step"] == "prepare";
    wait::until("it comes to no spawn", SOON, fails);
    let pids = [service.keeper_pid(), service.engine_pid()];
    let ticks = || pids.iter().filter_map(|&pid| procfs::stat(pid)).map(|s| s.ticks).sum::<u64>();
    let events = || service.events().len();
    let before = (ticks(), events());
    wait::pass(Duration::from_secs(3));
    let (used, more) = (ticks() - before.0, events() - before.1);
    assert!(used <= 30 && more <= 200, "{used} ticks of 10 ms and {more} events in 3 s");
    service.ok(&["stop", "web"]);
    assert_eq!(service.state("web"), "stopped");
}

#[test]
fn b10_policies_and_success_codes_decide_on_restarts() {
    let service = Service::new();
    let run = |policy: &str, codes: &str, code: u32| {
        let script = format!("[ $PROVOST_RUN = 1 ] || exit 77; exit {code}");
        let args = ["--restart", policy, "--success-codes", codes, "--", "sh", "-c", &script];
        let id = service.start(&args);
        service.cli(&["wait", &id, "--timeout", "20s"]);
        service.status_json(&id)["run"].as_u64().expect("a number")
    };
    assert_eq!(run("never", "0", 1), 1);
    assert_eq!(run("on-failure", "0", 0), 1);
    assert_eq!(run("on-failure", "0,77", 1), 2);
    assert_eq!(run("on-failure", "0,3,77", 3), 1);
}

#[test]
fn b13_stop_during_backoff() {
    let service = Service::new();
    let pace = ["--restart", "always", "--restart-delay", "1s", "--restart-delay-max", "1s"];
    let id = service.start(&[&pace[..], &["--", "sh", "-c", "exit 1"]].concat());
    let process = service.until_state(&id, "backoff");
    assert!(process["next_attempt_at"].is_string(), "{process}");
    service.ok(&["stop", &id]);
    let process = service.status_json(&id);
    assert_eq!(
        (&process["state"], &process["next_attempt_at"]),
        (&"stopped".into(), &Value::Null),
        "{process}"
    );
    let run = process["run"].clone();
    wait::pass(Duration::from_millis(1300));
    assert_eq!(service.status_json(&id)["run"], run, "the attempt was called off");
}

#[test]
fn b13_start_during_backoff_is_at_once() {
    let service = Service::new();
    let pace = ["--restart", "always", "--restart-delay", "1h", "--restart-delay-max", "1h"];
    let script = "[ $PROVOST_RUN -le 2 ] && exit 1; exec sleep 83000";
    let id = service.start(&[&pace[..], &["--", "sh", "-c", script]].concat());
    service.until_state(&id, "backoff");
    service.ok(&["start", &id]);
    let process = service.until_state(&id, "running");
    assert_eq!(process["run"], 3, "{process}");
}

/// Ends half a second after SIGTERM.
const SLOW: &str = "trap 'sleep 0.5; exit 0' TERM; echo up; while :; do sleep 0.05; done";

fn start_slow(service: &Service, name: &str) -> String {
    let ready = ["--ready-line", "up", "--wait=ready", "--stop-scope", "leader"];
    service.start(&[&["--name", name], &ready[..], &["--", "sh", "-c", SLOW]].concat())
}

#[test]
fn b13_start_while_stopping() {
    let service = Service::new();
    let id = start_slow(&service, "slow");
    let stop = service.background(&["stop", &id]);
    service.until_state(&id, "stopping");
    let started = service.cli(&["start", &id]);
    started.expect(0);
    let process = service.until_state(&id, "running");
    assert_eq!(process["run"], 2, "{process}");
    let stopped = stop.end(SOON);
    println!("the stop that was overtaken: {stopped:?}");
    // What it forks looks the same until its exec, but is not the keeper's child.
    let is_leader = |pid: &u32| {
        let ours = procfs::stat(*pid).is_some_and(|s| s.parent == service.keeper_pid());
        ours && procfs::command(*pid).starts_with("sh -c trap")
    };
    assert_eq!(service.tree_of(&id).iter().filter(|pid| is_leader(pid)).count(), 1, "one of it runs");
}

/// A stop that meets a start is heard by whoever has just been born, though it has no session yet: its grace
/// is far longer than anybody waits here.
#[test]
fn b13_a_stop_during_a_start_is_heard() {
    for (options, scope) in [(Options::new().without_cgroups(), "tree"), (Options::new(), "group")] {
        let service = options.start();
        let rules = ["--name", "z", "--stop-timeout", "10m", "--stop-scope", scope];
        service.start(&[&rules[..], &["--", "sleep", "83022"]].concat());
        for _ in 0..rounds(40) {
            let restart = service.background(&["restart", "z"]);
            let signal = service.background(&["signal", "KILL", "z"]);
            let stop = service.background(&["stop", "z"]);
            // One of the two has the last word.
            assert!([0, 3].contains(&stop.end(SOON).code));
            restart.end(SOON);
            signal.end(SOON);
            service.ok(&["stop", "z"]);
            assert_eq!(service.state("z"), "stopped");
            service.ok(&["start", "z"]);
        }
        service.ok(&["remove", "--force", "z"]);
    }
}

#[test]
fn b13_stop_while_stopping() {
    let service = Service::new();
    let id = start_slow(&service, "slow");
    let first = service.background(&["stop", &id]);
    service.until_state(&id, "stopping");
    service.ok(&["stop", &id]);
    assert_eq!(first.end(SOON).code, 0);
    let process = service.status_json(&id);
    assert_eq!((&process["state"], &process["exit"]["code"]), (&"stopped".into(), &0.into()), "{process}");
}

#[test]
fn b13_restart_while_stopping() {
    let service = Service::new();
    let id = start_slow(&service, "slow");
    let stop = service.background(&["stop", &id]);
    service.until_state(&id, "stopping");
    service.ok(&["restart", &id]);
    let process = service.until_state(&id, "running");
    assert_eq!(process["run"], 2, "{process}");
    stop.end(SOON);
}

#[test]
fn b13_remove_while_running() {
    let service = Service::new();
    let id = service.start(&["--name", "busy", "--", "sleep", "83000"]);
    let refused = service.cli(&["remove", "busy"]);
    refused.expect(6);
    assert!(refused.err().contains("busy"), "{refused:?}");
    assert_eq!(service.state(&id), "running");
    service.ok(&["remove", "--force", "busy"]);
    service.cli(&["status", &id]).expect(4);
    service.cli(&["output", &id]).expect(4);
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    // The name is free again.
    let next = service.start(&["--name", "busy", "--", "sleep", "83001"]);
    assert_ne!(id, next);
    service.cli(&["remove", &id]).expect(4);
}

#[test]
fn b13_remove_while_stopping() {
    let service = Service::new();
    let id = start_slow(&service, "slow");
    let stop = service.background(&["stop", &id]);
    service.until_state(&id, "stopping");
    service.ok(&["remove", "--force", &id]);
    service.cli(&["status", &id]).expect(4);
    let stopped = stop.end(SOON);
    println!("the stop of what was then removed: {stopped:?}");
}

#[test]
fn b13_restart_of_failed() {
    let service = Service::new();
    let pace = [
        "--restart",
        "always",
        "--max-restarts",
        "2",
        "--restart-delay",
        "10ms",
        "--restart-delay-max",
        "20ms",
    ];
    let gate = service.scratch().file("gate");
    let script = format!("[ -e {gate} ] && exec sleep 83010; exit 1");
    let id = service.start(&[&pace[..], &["--", "sh", "-c", &script]].concat());
    let process = service.until_state(&id, "failed");
    assert_eq!(process["run"], 3, "{process}");
    // Still broken: it gets all its attempts again.
    service.cli(&["restart", &id]);
    wait::until("it failed again", SOON, || {
        let process = service.status_json(&id);
        process["state"] == "failed" && process["run"] == 6
    });
    std::fs::write(&gate, "").expect("the directory is ours");
    service.ok(&["start", &id]);
    let process = service.until_state(&id, "running");
    assert_eq!((&process["run"], &process["attempts"]), (&7.into(), &0.into()), "{process}");
    service.ok(&["restart", &id]);
    assert_eq!(service.until_state(&id, "running")["run"], 8);
}

#[test]
fn b13_nothing_to_do_is_a_success() {
    let service = Service::new();
    let id = service.start(&["--", "sleep", "83000"]);
    let pid = service.pid(&id);
    service.ok(&["start", &id]);
    assert_eq!(service.pid(&id), pid);
    service.ok(&["stop", &id]);
    service.ok(&["stop", &id]);
    let signalled = service.cli(&["signal", "HUP", &id]);
    assert_ne!(signalled.code, 0, "there is nobody to signal: {signalled:?}");
    service.cli(&["wait", &id]).expect(128 + 15);
    service.ok(&["remove", &id]);
    service.cli(&["start", &id]).expect(4);
    service.cli(&["stop", &id]).expect(4);
    service.cli(&["restart", &id]).expect(4);
}

/// A removal, and starts and restarts of the same process by others at the same instant: those that come
/// after it are told so, and nothing runs that is not listed.
#[test]
fn b21_what_waits_behind_a_removal_is_refused_and_starts_nothing() {
    let service = Service::new();
    let mut client = service.client();
    let target = || vec!["y".to_owned()];
    for round in 0..rounds(100) {
        let mut spec = Spec::new(["sleep", "83020"]);
        spec.name = Some("y".parse().expect("a name"));
        let id = ProcessId::new();
        let start = Start { spec: spec.clone(), ids: vec![id], numbering: Numbering::Single };
        assert_eq!(client.start(start).expect("the service answers")[0].error, None);
        // In every other round it is the removal that stops it.
        let force = round % 2 == 1;
        if !force {
            service.stop_by(&mut client, "y");
        }
        let (to, answers) = mpsc::channel();
        let begin = Arc::new(Barrier::new(5));
        for n in 0..5 {
            let (mut client, to, begin) = (service.client(), to.clone(), Arc::clone(&begin));
            let (target, spec) = (target(), spec.clone());
            thread::spawn(move || {
                begin.wait();
                let answer = match n {
                    0 => client.remove(Remove { targets: target, force }),
                    1 | 2 => client.start_again(target),
                    3 => client.restart(target),
                    _ => client.start(Start {
                        spec,
                        ids: vec![ProcessId::new()],
                        numbering: Numbering::Single,
                    }),
                };
                // The test has failed by now if nobody listens.
                let _ = to.send((n, answer));
            });
        }
        for _ in 0..5 {
            let (n, answer) = answers.recv_timeout(SOON).expect("everybody is answered");
            let error = match answer {
                Ok(items) => items.into_iter().find_map(|item| item.error),
                Err(error) => Some(error),
            };
            // The new one may have been refused because of the old one's name, or have been removed.
            if let (1..=3, Some(error)) = (n, error) {
                let expected = [Code::NotFound, Code::Failed];
                assert!(expected.contains(&error.code), "round {round}, client {n}: {error:?}");
            }
        }
        let listed = service.list_json();
        assert!(listed.len() <= 1, "round {round}: one name, one process: {listed:?}");
        let mut running: Vec<_> = listed.iter().filter_map(|p| p["pid"].as_u64()).collect();
        let below = || service.below().into_iter().map(u64::from).collect::<Vec<_>>();
        running.retain(|&pid| pid != 0);
        assert!(wait::holds_within(SOON, || below() == running), "round {round}: {:?} {running:?}", below());
        let _ = client.remove(Remove { targets: target(), force: true }).expect("the service answers");
        assert!(service.list_json().is_empty(), "round {round}");
    }
}

/// The same start again finds what it has made; an id is never another's.
#[test]
fn an_id_is_that_of_one_process() {
    let service = Service::new();
    let mut client = service.client();
    let id = ProcessId::new();
    let mut start = |command: &str, ids: Vec<ProcessId>| {
        let numbering = if ids.len() > 1 { Numbering::From(1) } else { Numbering::Single };
        client.start(Start { spec: Spec::new(["sleep", command]), ids, numbering })
    };
    for _ in 0..2 {
        let item = start("83021", vec![id]).expect("it is the same").remove(0);
        assert_eq!(item.process.map(|p| (p.id, p.run)), Some((id, 1)));
    }
    let other = start("83022", vec![id]).expect_err("the id is taken");
    assert_eq!(other.code, Code::Refused, "{other}");
    let nil = ProcessId::from_bytes([0; 16]);
    for ids in [vec![ProcessId::new(), id], vec![ProcessId::new(); 2], vec![nil]] {
        assert!(start("83022", ids.clone()).is_err(), "{ids:?}");
    }
    assert_eq!(service.list_json().len(), 1);
    assert_eq!(service.below().len(), 1);
}

/// An operator who has mended what was wrong does not pay for the restarts before.
#[test]
fn a_restart_by_a_client_begins_a_new_count() {
    let service = Service::new();
    service.start(&["--name", "db", "--", "sleep", "86301"]);
    let policy = ["--restart", "always", "--max-restarts", "2", "--restart-delay", "0"];
    service.start(&[&["--name", "web"], &policy[..], &["--requires", "db", "--", "sleep", "86301"]].concat());
    let counted = || service.status_json("web")["window_restarts"].clone();
    let die = |run: u64| {
        service.ok(&["signal", "KILL", "web"]);
        wait::until("it is back", SOON, || {
            let now = service.status_json("web");
            now["run"] == run && now["state"] == "running"
        });
    };
    die(2);
    assert_eq!(counted(), 1);
    // One that follows another is none by a client.
    service.ok(&["restart", "db"]);
    wait::until("it has followed", SOON, || service.status_json("web")["run"] == 3);
    assert_eq!(counted(), 1);
    service.ok(&["restart", "web"]);
    assert_eq!(counted(), 0);
    (5..7).for_each(die);
    assert_eq!((counted(), service.state("web")), (2.into(), "running".to_owned()));
}

#[test]
fn a_definition_that_is_mended_is_tried_at_once() {
    let service = Service::new();
    let delays = ["--restart-delay", "10m", "--restart-delay-max", "10m"];
    service.start(&[&["--name", "web", "--restart", "always"], &delays[..], &["--", "false"]].concat());
    service.until_state("web", "backoff");
    service.ok(&["update", "web", "--label", "a=b"]);
    assert_eq!(service.state("web"), "backoff", "nothing of its run is another");
    service.ok(&["update", "--no-restart", "web", "--", "sleep", "86302"]);
    assert_eq!(service.state("web"), "backoff");
    service.ok(&["update", "web", "--", "sleep", "86303"]);
    assert_eq!(service.state("web"), "running");
}
