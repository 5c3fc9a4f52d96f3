//! Trees: what a leader leaves behind, orphans, fork bombs, and children that are halted or traced.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    LATER, Options, Running, SOON, Service, UNMARKED_SH, binary, cli, fixture, procfs, wait,
};

/// Five grandchildren, two of them daemons; then the leader ends.
const LEAVER: &str =
    "for i in 1 2 3; do sleep 82000 & done; for i in 4 5; do setsid -f sleep 82001; done; exit 4";

#[test]
fn b5_what_a_leader_leaves_behind_is_ended() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let id = service.start(&["--", "sh", "-c", LEAVER]);
        // The end is told with the leader's own code, and at the latest then nothing of the tree is left.
        service.cli(&["wait", &id]).expect(4);
        let process = service.status_json(&id);
        assert_eq!(
            (&process["state"], &process["exit"]["code"]),
            (&"stopped".into(), &4.into()),
            "{process}"
        );
        assert_eq!(service.tree_of(&id), Vec::<u32>::new(), "stopped means gone");
    }
}

/// A restart never comes over what the run before left.
#[test]
fn b5_no_restart_over_left_overs() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let restart = ["--restart", "always", "--restart-delay", "10ms", "--restart-delay-max", "50ms"];
        let limit = ["--max-restarts", "none", "--stop-timeout", "300ms"];
        // One of the left-overs ignores SIGTERM.
        let script = format!("(trap '' TERM; exec sleep 82002) & {LEAVER}");
        let id = service.start(&[&restart[..], &limit[..], &["--", "sh", "-c", &script]].concat());
        for run in 2..5_u64 {
            let mut now = Value::Null;
            wait::until("the next run began", SOON, || {
                now = service.status_json(&id);
                now["run"].as_u64() >= Some(run)
            });
            let run = now["run"].as_u64().expect("a number");
            for pid in service.tree_of(&id) {
                let of: u64 =
                    procfs::variable(pid, "PROVOST_RUN").and_then(|r| r.parse().ok()).unwrap_or(run);
                assert!(of >= run || !procfs::alive(pid), "pid {pid} of run {of} is alive in run {run}");
            }
        }
        service.ok(&["stop", &id]);
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    }
}

/// Without a cgroup the group of a leader that has ended is known by its number, also to the next engine.
#[test]
fn what_a_leader_left_is_ended_over_the_death_of_an_engine() {
    let bare = format!("82003.{}", std::process::id());
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let script = format!("trap '' TERM; {UNMARKED_SH} sleep {bare} & exit 4");
        let id = service.start(&["--stop-timeout", "3s", "--", "sh", "-c", &script]);
        service.until_state(&id, "stopping");
        let left = procfs::with_command(&format!("sleep {bare}"));
        service.kill_engine();
        service.cli(&["wait", &id]).expect(4);
        assert!(left.iter().all(|&pid| !procfs::alive(pid)), "stopped means gone: {left:?}");
        assert_eq!(procfs::with_command(&format!("sleep {bare}")), Vec::<u32>::new());
    }
}

/// Nor does it matter that nobody could look at the leader in time: it had ended and was reaped when the
/// engine heard of it, or that engine never did.
#[test]
fn b5_what_a_leader_left_is_ended_though_nobody_saw_the_leader() {
    for dies in [false, true] {
        let bare = format!("82008.{}", std::process::id());
        let service = Options::new().without_cgroups().start();
        let mut strace = Command::new("strace");
        // Whatever it hears it hears two seconds later.
        let late = "inject=recvmsg:delay_exit=2000000";
        strace.args(["-f", "-o", "/dev/null", "-e", "trace=recvmsg", "-e", late]);
        strace.args(["-p", &service.engine_pid().to_string()]);
        let strace = Running::new(strace);
        wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
        // But for the calls that it waits in already.
        service.ok(&["run", "--rm", "--", "true"]);
        let script = format!("trap '' TERM; {UNMARKED_SH} sleep {bare} & exit 4");
        let mut start = service.command(&["start", "--name", "left", "--stop-timeout", "300ms"]);
        start.args(["--", "sh", "-c", &script]);
        let start = Running::new(start);
        let left = || procfs::with_command(&format!("sleep {bare}"));
        let is_orphan = |pid: u32| procfs::stat(pid).is_some_and(|s| s.parent == service.keeper_pid());
        wait::until("the leader has ended", SOON, || matches!(left()[..], [pid] if is_orphan(pid)));
        if dies {
            service.kill_engine();
        }
        start.end(LATER);
        service.cli(&["wait", "left"]).expect(4);
        assert_eq!(left(), Vec::<u32>::new(), "stopped means gone");
    }
}

/// Without a cgroup whoever was a descendant at the stop is of the tree, though nothing else shows it:
/// neither session nor environment, and no parent any more.
#[test]
fn who_hides_without_a_cgroup_is_ended_with_its_parents() {
    let service = Options::new().without_cgroups().start();
    let hidden = [82005, 82006].map(|n| format!("{n}.{}", std::process::id()));
    let [mild, stubborn] = &hidden;
    let script = format!(
        "setsid {UNMARKED_SH} sleep {mild} & setsid {UNMARKED_SH} sh -c \"trap '' TERM; sleep {stubborn} & wait; wait\" & exec sleep 82000"
    );
    let id = service.start(&["--stop-timeout", "500ms", "--", "sh", "-c", &script]);
    let found =
        || hidden.iter().flat_map(|nap| procfs::with_command(&format!("sleep {nap}"))).collect::<Vec<_>>();
    wait::until("the tree is there", SOON, || found().len() == 3);
    let all = found();
    service.ok(&["stop", &id]);
    let left: Vec<_> = all.into_iter().filter(|&pid| procfs::alive(pid)).collect();
    left.iter().for_each(|&pid| procfs::signal("KILL", pid));
    assert_eq!(left, Vec::<u32>::new(), "stopped means gone");
}

/// Nor has who was left by all parents before the stop, and shows nothing of ours in its environment.
#[test]
fn b4_b5_an_orphan_without_a_mark_is_ended_without_a_cgroup() {
    let service = Options::new().without_cgroups().start();
    let hidden = format!("82007.{}", std::process::id());
    let found = || procfs::with_command(&format!("sleep {hidden}"));
    let orphan = format!("setsid env -i sleep {hidden} >/dev/null 2>&1 &");
    // As a daemon of a process that goes on.
    let script = format!("({orphan}); exec sleep 82000");
    let id = service.start(&["--", "sh", "-c", &script]);
    let is_orphan = |pid: u32| procfs::stat(pid).is_some_and(|s| s.parent == service.keeper_pid());
    wait::until("it is the keeper's", SOON, || matches!(found()[..], [pid] if is_orphan(pid)));
    service.ok(&["stop", &id]);
    assert_eq!(found(), Vec::<u32>::new(), "stopped means gone");
    // As what a leader leaves, again and again.
    let restart = ["--restart", "always", "--restart-delay", "10ms", "--restart-delay-max", "10ms"];
    let options = ["--max-restarts", "3", "--", "sh", "-c"];
    let script = format!("{orphan} exit 0");
    let id = service.start(&[&restart[..], &options, &[&script]].concat());
    wait::until("it has given up", SOON, || service.state(&id) == "failed");
    assert_eq!(found(), Vec::<u32>::new(), "nothing is left of a run");
    service.end();
}

/// A service in another pid namespace sees none of our processes in its /proc, and takes nothing away.
#[test]
fn a_service_of_another_namespace_leaves_our_cgroups_alone() {
    let service = Service::new();
    if service.cli(&["version", "--json"]).expect(0).json()[0]["service"]["cgroups"] != true {
        return;
    }
    let other = service.scratch().file("other.sock");
    let serve = |unshare: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).args(unshare).arg(binary());
        command.args(["serve", "--state", "none", "--socket", &other]).env_remove("PROVOST_SOCKET");
        Running::new(command)
    };
    // Under a /proc of another namespace every number would be another's.
    let refused = serve(&[]).end(SOON);
    assert!(refused.code != 0 && refused.err().contains("pid namespace"), "{refused:?}");
    let second = serve(&["--mount-proc"]);
    wait::until("the second service answers", SOON, || {
        let mut list = Command::new(binary());
        list.args(["list", "--socket", &other]);
        cli::run(list, SOON).code == 0
    });
    drop(second);
    let hidden = format!("82004.{}", std::process::id());
    let script = format!("setsid env -i sleep {hidden} & exec sleep 82000");
    let id = service.start(&["--", "sh", "-c", &script]);
    let found = || procfs::with_command(&format!("sleep {hidden}"));
    wait::until("the tree is there", SOON, || found().len() == 1);
    service.ok(&["stop", &id]);
    assert_eq!(found(), Vec::<u32>::new(), "stopped means gone");
}

/// A user that nobody else in the tests uses: the limit of processes counts per user.
fn fork_bomb(service: &Service, uid: &str, limit: u32) {
    let processes = format!("nproc={limit}:{limit}");
    let args = [
        "--user",
        uid,
        "--group",
        uid,
        "--limit",
        &processes,
        "--stop-timeout",
        "200ms",
        "--",
        &fixture("bomb"),
    ];
    let id = service.start(&args);
    wait::until("the bomb has grown", LATER, || service.tree_of(&id).len() as u32 >= limit * 9 / 10);
    let begin = Instant::now();
    let stopped = service.cli(&["stop", &id]);
    let took = begin.elapsed();
    stopped.expect(0);
    assert_eq!(service.tree_of(&id), Vec::<u32>::new(), "nothing of it is left");
    println!("{limit} processes stopped in {took:?}");
    // Most of it is the grace, and the machine is busy with the bomb meanwhile.
    assert!(took < Duration::from_secs(4), "stopped after {took:?}");
    service.expect_no_zombies();
}

#[test]
fn b6_a_fork_bomb_is_stopped_whole() {
    fork_bomb(&Service::new(), "64201", 200);
}

#[test]
fn b6_a_fork_bomb_is_stopped_without_cgroups() {
    fork_bomb(&Options::new().without_cgroups().start(), "64202", 100);
}

/// Orphans pour in while owned children end: each status goes to whom it belongs.
#[test]
fn b16_an_orphan_storm_takes_no_exit_status_and_leaves_no_zombie() {
    let service = Service::new();
    let storm = service.start(&["--name", "storm", "--", &fixture("storm"), "1000"]);
    let gate = service.scratch().file("gate");
    let script = format!("while [ ! -e {gate} ]; do sleep 0.05; done; exit $((PROVOST_INSTANCE % 200))");
    service.ok(&["start", "--name", "own", "--instances", "100", "--", "sh", "-c", &script]);
    assert!(procfs::alive(service.pid(&storm)), "the storm goes on");
    std::fs::write(&gate, "").expect("the directory is ours");
    let wait = service.cli(&["wait", "own-*", "--timeout", "60s"]);
    println!("wait of the 100: {}", wait.code);
    service.cli(&["wait", &storm]).expect(0);
    for process in service.list_json().iter().filter(|p| p["id"] != *storm) {
        let instance = process["instance"].as_u64().expect("a number");
        assert_eq!(process["exit"]["code"], instance % 200, "{process}");
    }
    let exits = service.events().into_iter().filter(|e| e["kind"] == "exited");
    let mut counts: HashMap<String, u32> = HashMap::new();
    exits.for_each(|e| *counts.entry(e["id"].to_string()).or_default() += 1);
    assert!(counts.values().all(|&n| n == 1), "each end is told once: {counts:?}");
    service.expect_no_zombies();
    service.expect_answer();
}

#[test]
fn b17_halted_and_traced_is_not_ended() {
    let service = Service::new();
    let script = "echo one; kill -STOP $$; echo two; exec sleep 82010";
    let id = service.start(&["--restart", "always", "--", "sh", "-c", script]);
    let pid = service.pid(&id);
    wait::until("it halted itself", SOON, || procfs::stat(pid).is_some_and(|s| s.state == 'T'));
    service.expect_answer();
    let process = service.status_json(&id);
    assert_eq!(
        (&process["state"], &process["run"], &process["pid"]),
        (&"running".into(), &1.into(), &pid.into())
    );
    service.ok(&["signal", "CONT", &id]);
    wait::until("it goes on", SOON, || service.output(&id) == b"one\ntwo\n");

    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-p", &pid.to_string()]);
    assert!(Command::new("strace").arg("-V").output().is_ok(), "strace is not installed: run 'make test'");
    let strace = Running::new(strace);
    wait::until("it is traced", SOON, || procfs::status_line(pid, "TracerPid").is_some_and(|t| t != "0"));
    assert_eq!(service.status_json(&id)["run"], 1);
    // A halt under a tracer is told to the tracer; the keeper sees nothing either.
    procfs::signal("STOP", pid);
    wait::until("it is halted", SOON, || procfs::stat(pid).is_some_and(|s| matches!(s.state, 't' | 'T')));
    let process = service.status_json(&id);
    assert_eq!(
        (&process["state"], &process["run"], &process["exit"]),
        (&"running".into(), &1.into(), &Value::Null)
    );
    procfs::signal("CONT", pid);
    strace.signal("INT");
    strace.end(SOON);
    assert_eq!(service.pid(&id), pid);
    // Ended under a tracer: told once the tracer lets go.
    service.ok(&["stop", &id]);
    assert_eq!(service.status_json(&id)["exit"]["signal"], "SIGTERM");
}
