//! What the next engine must find: starts and stops in progress, ends that nobody saw, deadlines, counters,
//! the environment, and the numbers of events.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Options, Random, Running, SOON, Service, procfs, rounds, wait};

/// System calls of the engine while something is started or stopped; `?`: not on every machine.
const CALLS: [&str; 29] = [
    "accept4",
    "getsockopt",
    "clone3",
    "prctl",
    "recvfrom",
    "memfd_create",
    "ftruncate",
    "pwrite64",
    "statx",
    "mmap",
    "lseek",
    "sendmsg",
    "recvmsg",
    "sendto",
    "getrandom",
    "?mkdir,?mkdirat",
    "openat",
    "fcntl",
    "close",
    "read",
    "ppoll",
    "splice",
    "tgkill",
    "pidfd_open",
    "pidfd_send_signal",
    "getdents64",
    "?rmdir,?unlinkat",
    "madvise",
    "futex",
];

/// Attaches strace to the engine, to kill it when one of its threads enters such a call for the `n`th time.
#[track_caller]
pub fn kill_at(service: &Service, call: &str, n: u32) -> Running {
    let mut strace = Command::new("strace");
    let inject = format!("inject={call}:signal=KILL:when={n}");
    strace.args(["-f", "-o", "/dev/null", "-e", &inject, "-p", &service.engine_pid().to_string()]);
    assert!(Command::new("strace").arg("-V").output().is_ok(), "strace is not installed: run 'make test'");
    let strace = Running::new(strace);
    wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
    strace
}

/// Does something while the engine dies at one system call after another. What is done is told the call in
/// words.
fn sweep(service: &Service, mut deed: impl FnMut(&str)) {
    let mut killed = 0;
    for n in 1..=rounds(2) {
        for call in CALLS {
            let old = service.engine_pid();
            let strace = kill_at(service, call, n);
            deed(&format!("{call} number {n}"));
            drop(strace);
            wait::until("strace let go", SOON, || service.engine_now().is_some_and(|pid| tracer(pid) == 0));
            killed += u32::from(service.engine_pid() != old);
        }
    }
    println!("{killed} engines were killed");
    assert!(killed >= 15, "{killed} engines were killed");
}

/// A start is asked for while the engine dies at one system call after another: whatever was reached, the
/// start is done once, is known, and nothing runs that is not known.
#[test]
fn a3_kill_at_each_step_of_a_start() {
    let service = Service::new();
    sweep(&service, |step| {
        let id = service.start(&["--name", "step", "--", "sleep", "70000"]);
        let process = service.status_json("step");
        assert_eq!(
            (&process["id"], &process["state"]),
            (&id.clone().into(), &"running".into()),
            "{step}: {process}"
        );
        let tree = service.tree_of(&id);
        assert_eq!(tree.len(), 1, "{step}: once, not {tree:?}");
        assert_eq!((&process["pid"], &process["run"]), (&tree[0].into(), &1.into()), "{step}: {process}");
        let all = service.list_json();
        assert_eq!(all.len(), 1, "{step}: {all:?}");
        service.ok(&["remove", "--force", &id]);
        assert_eq!(service.below(), Vec::<u32>::new(), "{step}: nothing is left");
    });
}

/// The same for a stop, of a tree with a part that ignores SIGTERM.
#[test]
fn a3_kill_at_each_step_of_a_stop() {
    let service = Service::new();
    let script = "(trap '' TERM; exec sleep 70001) & exec sleep 70002";
    let id = service.start(&["--name", "tree", "--stop-timeout", "100ms", "--", "sh", "-c", script]);
    sweep(&service, |step| {
        // Once the part that ignores is what it will be.
        wait::until("both run", SOON, || {
            let commands: Vec<_> = service.tree_of(&id).into_iter().map(procfs::command).collect();
            commands.len() == 2 && commands.iter().all(|c| c.starts_with("sleep 7000"))
        });
        let run = service.status_json(&id)["run"].clone();
        service.ok(&["stop", &id]);
        assert_eq!(service.tree_of(&id), Vec::<u32>::new(), "{step}: stopped means gone");
        let process = service.status_json(&id);
        assert_eq!((&process["state"], &process["run"]), (&"stopped".into(), &run), "{step}: {process}");
        assert_eq!(process["exit"]["signal"], "SIGTERM", "{step}: {process}");
        service.ok(&["start", &id]);
    });
    let events = service.events();
    for kind in ["started", "exited"] {
        let of = events.iter().filter(|e| e["kind"] == kind);
        let runs: Vec<u64> = of.filter_map(|e| e["run"].as_u64()).collect();
        assert!(runs.windows(2).all(|w| w[1] == w[0] + 1), "{kind} is told once for each run: {runs:?}");
    }
}

fn tracer(pid: u32) -> u32 {
    procfs::status_line(pid, "TracerPid").and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The same for a stop, and without strace: a kill within some milliseconds.
#[test]
fn a3_kill_during_start_and_stop() {
    let service = Service::new();
    let mut random = Random::new();
    for n in 0..rounds(40) {
        let name = format!("n{n}");
        let delay = Duration::from_micros(random.below(6000));
        thread::scope(|scope| {
            let service = &service;
            scope.spawn(move || {
                wait::pass(delay);
                service.kill_engine_only();
            });
            service.start(&["--name", &name, "--", "sleep", "70000"]);
        });
        let process = service.status_json(&name);
        let id = process["id"].as_str().expect("the id is text").to_owned();
        assert_eq!((&process["state"], &process["run"]), (&"running".into(), &1.into()), "{process}");
        assert_eq!(service.tree_of(&id).len(), 1, "once");
        thread::scope(|scope| {
            let service = &service;
            scope.spawn(move || {
                wait::pass(delay);
                service.kill_engine_only();
            });
            service.ok(&["stop", &name]);
        });
        let process = service.status_json(&name);
        assert_eq!(process["state"], "stopped", "{process}");
        assert_eq!(process["exit"]["signal"], "SIGTERM", "{process}");
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    }
    assert_eq!(service.below(), Vec::<u32>::new());
}

/// The engine dies between the fork and the exec of a child: the next one waits for the exec too, and for its
/// failure.
#[test]
fn a3_kill_before_the_exec() {
    let service = Service::new();
    for program in ["/nonexistent/program", "/bin/sleep"] {
        // Whoever the keeper forks hangs on its way to the exec, until it can be stopped there.
        let keeper = service.keeper_pid();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", "inject=setsid:delay_enter=5000000", "-p"]);
        strace.arg(keeper.to_string());
        let strace = Running::new(strace);
        wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
        let start = service.background(&["start", "--name", "late", "--", program, "70000"]);
        wait::until("there is a child", SOON, || service.below().len() == 1);
        let child = service.below()[0];
        procfs::signal("STOP", child);
        drop(strace);
        wait::until("it is stopped", SOON, || {
            tracer(child) == 0 && procfs::stat(child).is_some_and(|s| s.state == 'T')
        });
        service.kill_engine();
        assert_eq!(service.state("late"), "starting", "nobody has seen it execute");
        procfs::signal("CONT", child);
        let start = start.end(SOON);
        if program == "/bin/sleep" {
            assert_eq!(start.code, 0, "{start:?}");
            assert_eq!(service.state("late"), "running");
        } else {
            assert_eq!(start.code, 1, "{start:?}");
            assert!(start.err().contains("there is no program '/nonexistent/program'"), "{start:?}");
            assert_eq!(service.list_json().len(), 0, "nothing is left of it");
        }
        let started = service.events().iter().filter(|e| e["kind"] == "started").count();
        assert_eq!(started, usize::from(program == "/bin/sleep"), "told as started when it was");
    }
}

/// Ignores SIGTERM, says when it got one, and runs on.
const NOTES_TERM: &str = "trap 'echo got TERM' TERM; echo up; while :; do sleep 0.1; done";

#[test]
fn a4_kill_between_term_and_kill_of_a_stop() {
    let service = Service::new();
    let id = service.start(&[
        "--stop-timeout",
        "3s",
        "--wait=ready",
        "--ready-line",
        "up",
        "--",
        "sh",
        "-c",
        NOTES_TERM,
    ]);
    let begin = Instant::now();
    let stop = service.background(&["stop", &id]);
    wait::until("it got SIGTERM", SOON, || {
        String::from_utf8_lossy(&service.output(&id)).contains("got TERM")
    });
    let kill_at = service.status_json(&id)["kill_at"].clone();
    assert!(kill_at.is_string(), "a stop in progress shows its deadline");
    service.kill_engine();
    assert!(begin.elapsed() < Duration::from_secs(3), "the machine is too slow for this test");
    let process = service.status_json(&id);
    assert_eq!(process["state"], "stopping", "{process}");
    expect_same_time(&process["kill_at"], &kill_at);
    let stopped = stop.end(SOON);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(2950), "SIGKILL came early: {took:?}");
    assert!(took < Duration::from_secs(6), "SIGKILL came late: {took:?}");
    let process = service.status_json(&id);
    assert_eq!(process["state"], "stopped", "{process}");
    assert_eq!(process["exit"]["signal"], "SIGKILL", "{process}");
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
}

/// Deadlines are shown as points in wall-clock time, made from another clock at the moment of the answer.
#[track_caller]
fn expect_same_time(one: &Value, other: &Value) {
    let millis = |time: &Value| {
        let text = time.as_str().unwrap_or_else(|| panic!("a time, not {time}"));
        text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
    };
    assert!((millis(one) - millis(other)).abs() <= 5, "{one} is not {other}");
}

/// The same with the deadline reached while there is no engine.
#[test]
fn a4_deadline_of_a_stop_passes_without_an_engine() {
    let service = Service::new();
    let id = service.start(&[
        "--stop-timeout",
        "1s",
        "--wait=ready",
        "--ready-line",
        "up",
        "--",
        "sh",
        "-c",
        NOTES_TERM,
    ]);
    let stop = service.background(&["stop", &id]);
    wait::until("it got SIGTERM", SOON, || {
        String::from_utf8_lossy(&service.output(&id)).contains("got TERM")
    });
    procfs::signal("STOP", service.keeper_pid());
    procfs::signal("KILL", service.engine_pid());
    wait::pass(Duration::from_millis(1500));
    procfs::signal("CONT", service.keeper_pid());
    let stopped = stop.end(SOON);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(service.status_json(&id)["exit"]["signal"], "SIGKILL");
}

#[test]
fn a5_children_end_while_there_is_no_engine() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let wait_then = |end: &str| format!("while [ ! -e {gate} ]; do sleep 0.02; done; echo last words; {end}");
    let code = service.start(&["--name", "code", "--", "sh", "-c", &wait_then("exit 7")]);
    let signal = service.start(&["--name", "signal", "--", "sh", "-c", &wait_then("kill -USR1 $$")]);
    let script =
        format!("echo run $PROVOST_RUN; [ $PROVOST_RUN = 1 ] || exec sleep 80000; {}", wait_then("exit 1"));
    let again = service.start(&["--name", "again", "--restart", "on-failure", "--", "sh", "-c", &script]);
    let stays = service.start(&["--name", "stays", "--", "sleep", "80000"]);
    let pids = [&code, &signal, &again].map(|id| service.pid(id));
    let stays_pid = service.pid(&stays);
    procfs::signal("STOP", service.keeper_pid());
    procfs::signal("KILL", service.engine_pid());
    fs::write(&gate, "").expect("the directory is ours");
    wait::until("all three have ended", SOON, || pids.iter().all(|&pid| !procfs::alive(pid)));
    procfs::signal("CONT", service.keeper_pid());

    service.cli(&["wait", &code]).expect(7);
    let process = service.status_json(&code);
    assert_eq!((&process["state"], &process["exit"]["code"]), (&"stopped".into(), &7.into()), "{process}");
    assert_eq!(service.output(&code), b"last words\n");
    service.cli(&["wait", &signal]).expect(128 + 10);
    assert_eq!(service.status_json(&signal)["exit"]["signal"], "SIGUSR1");
    wait::until("the failed one runs again", SOON, || {
        let process = service.status_json(&again);
        process["run"] == 2 && process["state"] == "running"
    });
    assert_eq!(service.status_json(&again)["restarts"], 1);
    wait::until("the second run has written", SOON, || {
        service.output(&again) == b"run 1\nlast words\nrun 2\n"
    });
    assert_eq!(service.pid(&stays), stays_pid);
    for id in [&code, &signal, &again] {
        let events = service.events();
        let exits = events.iter().filter(|e| e["id"] == **id && e["kind"] == "exited").count();
        assert_eq!(exits, 1, "one end is told once: {events:?}");
    }
}

/// What is not running must be as well known to the next engine as what is.
#[test]
fn a5_everything_else_outlives_the_engine() {
    let service = Service::new();
    service.ok(&["env", "set", "COLOUR=green", "EMPTY="]);
    let gone = service.start(&[
        "--name",
        "gone",
        "--label",
        "a=b",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
    ]);
    service.cli(&["wait", &gone]).expect(3);
    let stopped = service.start(&["--name", "halted", "--", "sleep", "80000"]);
    service.ok(&["stop", &stopped]);
    let failing =
        ["--restart", "always", "--max-restarts", "2", "--restart-delay", "10ms", "--name", "hopeless"];
    let failed = service.start(&[&failing[..], &["--", "sh", "-c", "exit 1"]].concat());
    service.until_state(&failed, "failed");
    let pending =
        ["--restart", "always", "--restart-delay", "1h", "--restart-delay-max", "1h", "--name", "later"];
    let pending = service.start(&[&pending[..], &["--", "sh", "-c", "exit 1"]].concat());
    service.until_state(&pending, "backoff");
    let missing = service.cli(&["start", "--name", "missing", "--", "/nonexistent"]);
    assert_ne!(missing.code, 0, "{missing:?}");

    let before = service.list_json();
    let events = service.events();
    let outputs: Vec<_> = [&gone, &stopped, &failed].iter().map(|id| service.output(id)).collect();
    for _ in 0..3 {
        service.kill_engine();
    }
    for (now, then) in service.list_json().iter().zip(&before) {
        for (key, value) in then.as_object().expect("a process is an object") {
            match key.as_str() {
                "next_attempt_at" if !value.is_null() => expect_same_time(&now[key], value),
                _ => assert_eq!(&now[key], value, "{key}\nnow {now}\nbefore {then}"),
            }
        }
    }
    assert_eq!(service.list_json().len(), before.len());
    let now = service.events();
    assert_eq!(now[..events.len()], events[..], "the events so far are the same");
    let numbers: Vec<u64> = now.iter().map(|e| e["seq"].as_u64().expect("a number")).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "numbers without a gap: {numbers:?}");
    for (id, output) in [&gone, &stopped, &failed].iter().zip(outputs) {
        assert_eq!(service.output(id), output);
    }
    assert_eq!(service.output(&gone).len(), 8);
    let env = service.ok(&["env"]);
    assert!(env.contains("COLOUR=green") && env.contains("EMPTY="), "{env}");
    service.ok(&["start", &gone]);
    wait::until("the second run ended", SOON, || {
        service.status_json(&gone)["exit"]["code"] == 3 && service.state(&gone) == "stopped"
    });
    assert_eq!(service.status_json(&gone)["run"], 2);
    let child = service.start(&["--", "sh", "-c", "echo $COLOUR"]);
    service.cli(&["wait", &child]).expect(0);
    assert_eq!(service.output(&child), b"green\n");
    // What was stopped stays so.
    assert_eq!(service.state(&stopped), "stopped");
    assert_eq!(service.state(&pending), "backoff");
}

/// The kernel lets a user who is not root have no more descriptors on their way than one process may have
/// open: an engine that begins gets what is held of more processes than fit at once.
#[test]
fn an_engine_is_told_of_more_processes_than_descriptors_may_be_on_their_way() {
    const PROCESSES: usize = 66;
    let service = Options::new().without_cgroups().of_nobody().through(&["prlimit", "--nofile=256"]).start();
    // One by one: a start takes more descriptors than what runs.
    for _ in 0..PROCESSES {
        service.ok(&["start", "--", "sleep", "72000"]);
    }
    let pids = || -> Vec<u64> { service.list_json().iter().filter_map(|p| p["pid"].as_u64()).collect() };
    let before = pids();
    assert_eq!(before.len(), PROCESSES);
    for _ in 0..rounds(5) {
        let engine = service.kill_engine_only();
        // What the keeper sends meanwhile stays on its way.
        procfs::signal("STOP", engine);
        wait::pass(Duration::from_millis(100));
        procfs::signal("CONT", engine);
        assert_eq!(pids(), before);
        assert_eq!(service.engine_pid(), engine, "it was taken for dead");
    }
}
