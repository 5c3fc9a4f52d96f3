//! Stop means gone: stubborn, halted and daemonised processes, with cgroups and without.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use provost::wire::process::{End, State};

use crate::harness::{Options, Random, SOON, STUBBORN, Service, procfs, rounds, wait};

#[test]
fn b1_kill_comes_at_the_end_of_the_grace() {
    let service = Options::new().alone().start();
    let grace = Duration::from_secs(1);
    // The upper bound is missed when the machine is busy: three attempts. The lower bound holds always.
    let on_time = (0..3).any(|_| {
        let id = service.start_up(&["--stop-timeout", "1s"], STUBBORN);
        let pid = service.pid(&id);
        let begin = Instant::now();
        let stop = service.background(&["stop", &id]);
        wait::until("it is killed", SOON, || !procfs::alive(pid));
        let killed = begin.elapsed();
        assert!(killed >= grace, "killed after {killed:?}");
        let stopped = stop.end(SOON);
        assert_eq!(stopped.code, 0, "{stopped:?}");
        let process = service.status_json(&id);
        assert_eq!((&process["state"], &process["stuck"]), (&"stopped".into(), &false.into()), "{process}");
        assert_eq!((&process["exit"]["signal"], &process["exit"]["number"]), (&"SIGKILL".into(), &9.into()));
        let kinds: Vec<String> = kinds_of(&service, &id);
        let tail = ["stopping", "killed", "exited", "stopped"];
        assert!(is_within(&tail, &kinds), "{tail:?} in this order: {kinds:?}");
        println!("killed after {killed:?}");
        killed <= grace + Duration::from_millis(100)
    });
    assert!(on_time, "SIGKILL came more than 100 ms late, three times");
}

fn kinds_of(service: &Service, id: &str) -> Vec<String> {
    let events = service.events().into_iter().filter(|e| e["id"] == id);
    events.map(|e| e["kind"].as_str().unwrap_or("").to_owned()).collect()
}

/// Whether these come in this order, among others.
fn is_within(wanted: &[&str], all: &[String]) -> bool {
    let mut rest = all.iter();
    wanted.iter().all(|w| rest.any(|kind| kind == w))
}

#[test]
fn b1_options_of_one_stop_win() {
    let service = Service::new();
    let id = service.start_up(&["--stop-timeout", "1h"], STUBBORN);
    let kept = service.cli(&["stop", &id, "--no-kill", "--timeout", "300ms"]);
    kept.expect(3);
    let process = service.status_json(&id);
    assert_eq!(process["state"], "running", "{process}");
    assert_eq!(process["kill_at"], serde_json::Value::Null, "{process}");
    let stopped = service.cli(&["stop", &id, "--timeout", "100ms"]);
    stopped.expect(0);
    assert!(stopped.took < Duration::from_secs(10), "{stopped:?}");
    // A signal that it does not ignore.
    service.ok(&["start", &id]);
    wait::until("it is up again", SOON, || {
        String::from_utf8_lossy(&service.output(&id)).matches("up").count() == 2
    });
    service.ok(&["stop", &id, "--signal", "INT"]);
    assert_eq!(service.status_json(&id)["exit"]["signal"], "SIGINT");
}

/// The leader goes at once, and what it left behind has the rest of the grace.
#[test]
fn what_is_left_of_a_tree_is_heard_until_it_has_gone() {
    let service = Service::new();
    let script = "(trap '' TERM; echo up; sleep 3; echo late) & wait";
    let id = service.start_up(&[], script);
    service.cli(&["stop", &id, "--timeout", "30s"]).expect(0);
    assert_eq!(service.output(&id), b"up\nlate\n");
}

#[test]
fn each_of_a_tree_is_told_once_to_stop() {
    // In brackets: while dash starts a program by vfork, it loses the signals that come.
    let child = "trap 'echo told' TERM; echo up; for n in 1 2 3; do (sleep 0.4); done";
    let script = format!("sh -c \"{child}\" & wait");
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        for _ in 0..rounds(4) {
            let id = service.start_up(&[], &script);
            service.cli(&["stop", &id, "--timeout", "30s"]).expect(0);
            let said = service.output(&id);
            let said = String::from_utf8_lossy(&said);
            assert_eq!(said.matches("told").count(), 1, "{said}");
        }
    }
}

#[test]
fn what_a_stop_spares_goes_on_and_is_heard() {
    let service = Service::new();
    let script = "setsid sh -c 'while sleep 0.2; do echo on; done' & sleep 0.1; exit 0";
    let id = service.start(&["--stop-scope", "leader", "--", "sh", "-c", script]);
    service.cli(&["wait", &id]).expect(0);
    let spared = service.tree_of(&id);
    // Longer than an outsider is listened to.
    wait::until("it has said so for three seconds", SOON, || {
        String::from_utf8_lossy(&service.output(&id)).matches("on").count() >= 15
    });
    spared.iter().for_each(|&pid| procfs::signal("KILL", pid));
    wait::until("all of it is gone", SOON, || spared.iter().all(|&pid| !procfs::alive(pid)));
}

/// The leader goes, what it left ignores SIGTERM, and nobody may kill it; then somebody may.
#[test]
fn b1_left_overs_that_may_not_be_killed() {
    let service = Service::new();
    let script = "sh -c \"trap '' TERM; echo up; while :; do sleep 1; done\" & wait";
    let id = service.start_up(&[], script);
    service.cli(&["stop", &id, "--no-kill", "--timeout", "300ms"]).expect(3);
    let process = service.status_json(&id);
    assert_eq!((&process["state"], &process["stuck"]), (&"stopping".into(), &true.into()), "{process}");
    assert!(!service.tree_of(&id).is_empty());
    let stopped = service.cli(&["stop", &id, "--timeout", "100ms"]);
    stopped.expect(0);
    let process = service.status_json(&id);
    assert_eq!((&process["state"], &process["stuck"]), (&"stopped".into(), &false.into()), "{process}");
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
}

#[test]
fn b2_a_halted_child_is_woken_to_die() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let id = service.start(&["--stop-timeout", "1m", "--", "sh", "-c", "sleep 80000 & wait"]);
        wait::until("both run", SOON, || service.tree_of(&id).len() == 2);
        let tree = service.tree_of(&id);
        for &pid in &tree {
            procfs::signal("STOP", pid);
        }
        wait::until("both are halted", SOON, || {
            tree.iter().all(|&pid| procfs::stat(pid).is_some_and(|s| s.state == 'T'))
        });
        assert_eq!(service.state(&id), "running");
        let stopped = service.cli(&["stop", &id]);
        stopped.expect(0);
        assert!(stopped.took < Duration::from_secs(10), "it was not woken: {stopped:?}");
        assert_eq!(service.status_json(&id)["exit"]["signal"], "SIGTERM");
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    }
}

/// The cgroup (version 2) directory of a process.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?.split(' ').nth(1)?;
    Some(PathBuf::from(format!("{mount}{path}")))
}

/// Two daemons that left session, group and parent behind; then the leader stays, with a third one as its
/// child.
const DAEMONS: &str = "setsid sh -c 'sleep 81000 & sleep 81001 & exit 0' & setsid -f sleep 81002; wait; \
                       echo up; exec sleep 81003";

fn expect_daemons_gone(service: &Service) -> String {
    let id = service.start_up(&[], DAEMONS);
    wait::until("all four run", SOON, || service.tree_of(&id).len() == 4);
    let tree = service.tree_of(&id);
    let orphans =
        tree.iter().filter(|&&pid| procfs::stat(pid).is_some_and(|s| s.parent == service.keeper_pid()));
    assert_eq!(orphans.count(), 4, "the leader, and three that came to the keeper");
    let stopped = service.cli(&["stop", &id]);
    stopped.expect(0);
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    assert!(tree.iter().all(|&pid| !procfs::alive(pid)));
    assert!(stopped.took < Duration::from_secs(5), "sleep ends by SIGTERM: {stopped:?}");
    id
}

#[test]
fn b4_a_stop_reaches_daemons_that_forked_twice() {
    let service = Service::new();
    let cgroups = service.cli(&["version", "--json"]).json()[0]["service"]["cgroups"] == true;
    let probe = service.start(&["--", "sleep", "81009"]);
    let cgroup = cgroup_of(service.pid(&probe));
    expect_daemons_gone(&service);
    service.ok(&["stop", &probe]);
    if cgroups {
        let cgroup = cgroup.expect("a process has a cgroup");
        service.ok(&["remove", &probe]);
        wait::until("its cgroup is taken away", SOON, || !cgroup.exists());
        // One that took the marker out of its environment is known by its cgroup alone.
        let id = service.start(&["--", "sh", "-c", "env -i setsid -f sleep 81004; exec sleep 81005"]);
        wait::until("the nameless one runs", SOON, || procfs::with_command("sleep 81004").len() == 1);
        service.ok(&["stop", &id]);
        assert_eq!(procfs::with_command("sleep 81004"), Vec::<u32>::new());
    }
}

#[test]
fn b4_stubborn_daemons_are_killed() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let script =
            "trap '' TERM; setsid -f sh -c 'sleep 81010 & exec sleep 81011'; echo up; exec sleep 81012";
        let id = service.start_up(&["--stop-timeout", "300ms"], script);
        wait::until("all three run", SOON, || service.tree_of(&id).len() == 3);
        service.ok(&["stop", &id]);
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    }
}

#[test]
fn b7_a_stop_reaches_daemons_without_cgroups() {
    let service = Options::new().without_cgroups().start();
    let ours = cgroup_of(service.keeper_pid());
    let id = expect_daemons_gone(&service);
    service.ok(&["start", &id]);
    assert_eq!(cgroup_of(service.pid(&id)), ours, "no cgroup was made");
}

#[test]
fn b7_a_stop_of_the_group_spares_daemons() {
    let service = Service::new();
    // The daemon is outside of the group, the child inside.
    let script = "setsid -f sleep 81020; sleep 81021 & echo up; wait";
    let ready = ["--ready-line", "up", "--wait=ready"];
    let id = service.start(&[&["--stop-scope", "group"], &ready[..], &["--", "sh", "-c", script]].concat());
    wait::until("all three run", SOON, || service.tree_of(&id).len() == 3);
    service.cli(&["signal", "WINCH", &id]).expect(0);
    service.ok(&["stop", &id]);
    let left: Vec<String> = service.tree_of(&id).into_iter().map(procfs::command).collect();
    assert_eq!(left, ["sleep 81020"], "the scope was asked for");
    service.ok(&["stop", &id, "--scope", "tree"]);
    for pid in procfs::with_command("sleep 81020") {
        procfs::signal("KILL", pid);
    }
}

/// A stop and the end of the process at the same moment, many times over.
#[test]
fn b8_a_stop_that_races_the_exit_harms_nothing() {
    let service = Service::new();
    let canary = service.start(&["--name", "canary", "--", "sleep", "81030"]);
    let canary_pid = service.pid(&canary);
    let mut foreign =
        Command::new("sleep").arg("81031").stdin(Stdio::null()).spawn().expect("sleep(1) is installed");
    let mut random = Random::new();
    let seeds: Vec<u64> = (0..2).map(|_| random.below(1 << 40)).collect();
    let ends: Vec<[u32; 2]> = thread::scope(|scope| {
        let service = &service;
        let racers: Vec<_> = seeds.iter().map(|&seed| scope.spawn(move || race(service, seed))).collect();
        racers.into_iter().map(|r| r.join().expect("the race went on to its end")).collect()
    });
    println!("ended by themselves and by the stop: {ends:?}");
    assert!(ends.iter().all(|[ours, stopped]| *ours > 10 && *stopped > 10), "it was no race: {ends:?}");
    assert_eq!(service.pid(&canary), canary_pid);
    assert!(foreign.try_wait().expect("it is our child").is_none(), "a foreign process was killed");
    foreign.kill().expect("it runs");
    foreign.wait().expect("it is our child");
}

/// Starts one that ends at once, and stops it a moment later: that moment is looked for at which it meets the
/// end, however fast the machine is. Returns how many ended by themselves, and how many did not come to it.
fn race(service: &Service, seed: u64) -> [u32; 2] {
    let mut random = Random::seeded(seed);
    let mut client = service.client();
    let more = service.scratch().file(&format!("life-{seed}"));
    fs::write(&more, "0\n").expect("the directory is ours");
    let script = format!("read -r more <'{more}'; sleep 0.003 $more; exit 5");
    let id = service.start(&["--", "sh", "-c", &script]);
    // By how many microseconds the stop comes later than it could: where it cannot come early enough, the
    // process lives longer. The steps grow while all ends are alike.
    let (mut delay, mut step, mut last) = (0_i64, 1000, 0);
    let mut ends = [0, 0];
    for _ in 0..rounds(300) {
        let odd = random.below(400) as i64 - 200;
        let life = (-delay - odd).max(0) as f64 / 1e6;
        fs::write(&more, format!("{life}\n")).expect("the directory is ours");
        service.start_by(&mut client, &id);
        wait::pass(Duration::from_micros((delay + odd).max(0) as u64));
        let stopped = service.stop_by(&mut client, &id);
        assert_eq!(stopped.state, State::Stopped, "{stopped:?}");
        let exit = stopped.exit.expect("it ended").end;
        let end = match exit {
            End::Code(5) => 0,
            End::Signal(15) => 1,
            End::Code(_) | End::Signal(_) => panic!("odd end: {stopped:?}"),
        };
        ends[end] += 1;
        step = if end == last { (step * 3 / 2).min(20_000) } else { (step / 3).max(100) };
        delay += if end == 0 { -step } else { step };
        last = end;
    }
    ends
}

/// The freezer of cgroup version 1, where this machine has one: what is in it cannot even be killed.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// A process that does not die of SIGKILL: the stop says so at its deadline, everything else goes on, and
/// when the process can die it is stopped.
#[test]
fn b3_a_stop_reports_what_cannot_be_killed() {
    if !fs::exists(format!("{FREEZER}/tasks")).unwrap_or(false) {
        println!("no version 1 freezer here: nothing withstands SIGKILL on this machine");
        return;
    }
    let service = Service::new();
    let id = service.start(&["--name", "ice", "--stop-timeout", "200ms", "--", "sleep", "81040"]);
    let pid = service.pid(&id);
    let group = format!("{FREEZER}/provost-test-{}", std::process::id());
    fs::create_dir(&group).expect("root may make cgroups");
    fs::write(format!("{group}/cgroup.procs"), pid.to_string()).expect("it runs");
    fs::write(format!("{group}/freezer.state"), "FROZEN").expect("it is ours");
    let stopped = service.cli(&["stop", &id]);
    let thaw = || fs::write(format!("{group}/freezer.state"), "THAWED").expect("it is ours");
    if stopped.code != 3 {
        thaw();
    }
    stopped.expect(3);
    assert!(stopped.err().contains(&pid.to_string()) && stopped.took < Duration::from_secs(8), "{stopped:?}");
    let process = service.status_json(&id);
    let stuck = (&process["state"], &process["stuck"]) == (&"stopping".into(), &true.into());
    service.expect_answer();
    let other = service.start(&["--", "true"]);
    service.cli(&["wait", &other]).expect(0);
    thaw();
    assert!(stuck, "{process}");
    let process = service.until_state(&id, "stopped");
    // Both were waiting for it; the kernel chooses.
    let signal = process["exit"]["signal"].as_str();
    assert!(matches!(signal, Some("SIGTERM" | "SIGKILL")) && process["stuck"] == false, "{process}");
    wait::until("its freezer is empty", SOON, || fs::remove_dir(&group).is_ok());
}
