//! Other ends of the engine than SIGKILL, and none at all: the machine takes its memory, a debugger calls
//! `abort` in it, a fault of its own ends it, or everything stands still for a while. Children see nothing of
//! it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{LATER, SOON, STUBBORN, Service, cli, procfs, wait};

/// What must be the same whatever happened to the engine.
fn lives(service: &Service) -> Vec<[Value; 4]> {
    let all = service.list_json();
    all.iter().map(|p| ["id", "pid", "run", "state"].map(|key| p[key].clone())).collect()
}

/// Lets the engine end in some way, and fails the test unless everything goes on and the database is well.
#[track_caller]
fn expect_as_after_a_kill(service: &Service, how: &str, end: impl FnOnce(u32)) {
    let before = lives(service);
    let engine = service.engine_pid();
    end(engine);
    wait::until("there is another engine", LATER, || service.engine_now().is_some_and(|pid| pid != engine));
    assert_eq!(lives(service), before, "{how}");
    service.ok(&["doctor"]);
    let name = format!("after-{}", how.to_lowercase());
    let id = service.start(&["--name", &name, "--", "sleep", "64000"]);
    assert_eq!(service.tree_of(&id).len(), 1, "{how}");
    service.ok(&["remove", "--force", &name]);
}

/// A memory cgroup with nothing in it. Taken away at the end.
struct Memory(PathBuf);

impl Memory {
    /// None, and why, where the machine has no such thing or we may not.
    fn new() -> Result<Self, String> {
        let dir = PathBuf::from(format!("/sys/fs/cgroup/memory/provost-test-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let this = Self(dir);
        match fs::exists(this.0.join("memory.limit_in_bytes")) {
            Ok(true) => Ok(this),
            _ => Err("this is not a memory cgroup of version 1".to_owned()),
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), String> {
        fs::write(self.0.join(file), value).map_err(|e| format!("{file} {value}: {e}"))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What was killed may take a moment to leave.
        wait::holds_within(SOON, || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a11_an_engine_killed_for_its_memory_is_replaced() {
    let service = Service::new();
    service.ok(&["start", "--name", "nap", "--instances", "5", "--", "sleep", "64001"]);
    let limited = || {
        let memory = Memory::new()?;
        memory.set("memory.limit_in_bytes", "65536")?;
        Ok::<_, String>(memory)
    };
    let memory = match limited() {
        Ok(memory) => memory,
        Err(why) => return println!("skipped: no memory can be taken from it: {why}"),
    };
    expect_as_after_a_kill(&service, "OOM", |engine| {
        // Its memory stays where it was taken; whatever it takes from now on is too much.
        memory.set("cgroup.procs", &engine.to_string()).expect("the engine runs");
        wait::until("it wants more than there is", LATER, || {
            service.cli(&["list", "--json"]).expect(0);
            service.engine_now() != Some(engine)
        });
    });
    let log = service.log();
    assert!(log.contains("the engine ended (SIGKILL)"), "{log}");
    let killed = fs::read_to_string(memory.0.join("memory.oom_control")).unwrap_or_default();
    assert!(!killed.contains("oom_kill 0"), "it was not for its memory: {killed}");
}

/// All there is of the service stands still, deadlines pass, and then it goes on.
#[test]
fn a12_a_halted_service_kills_nothing_when_it_goes_on() {
    let service = Service::new();
    service.ok(&["start", "--name", "steady", "--instances", "10", "--", "sleep", "64002"]);
    let ready = ["--wait=ready", "--ready-line", "up", "--stop-timeout", "1s"];
    service.start(&[&["--name", "stubborn"], &ready[..], &["--", "sh", "-c", STUBBORN]].concat());
    let again = "[ $PROVOST_RUN -le 2 ] && exit 1; exec sleep 64003";
    let pace = ["--restart", "always", "--restart-delay", "300ms", "--restart-delay-max", "300ms"];
    service.start(&[&["--name", "again"], &pace[..], &["--", "sh", "-c", again]].concat());
    let steady = || lives(&service).into_iter().take(10).collect::<Vec<_>>();
    let before = steady();
    let stop = service.background(&["stop", "stubborn"]);
    wait::until("it is being stopped", SOON, || service.state("stubborn") == "stopping");
    let engine = service.engine_pid();
    let halted = [service.keeper_pid(), engine];
    halted.iter().for_each(|&pid| procfs::signal("STOP", pid));
    let start = service.background(&["start", "--name", "meanwhile", "--", "sleep", "64004"]);
    // A child ends, too, and is collected by nobody.
    let killed = before[9][1].as_u64().expect("a pid") as u32;
    procfs::signal("KILL", killed);
    wait::pass(Duration::from_secs(3));
    assert!(start.is_running() && stop.is_running(), "there is nobody to answer");
    halted.iter().for_each(|&pid| procfs::signal("CONT", pid));

    start.end(SOON).expect(0);
    stop.end(SOON).expect(0);
    assert_eq!(service.engine_pid(), engine, "a halted engine is not replaced");
    assert_eq!(service.status_json("stubborn")["exit"]["signal"], "SIGKILL", "its time was over");
    service.until_state("again", "running");
    service.until_state("steady-10", "stopped");
    assert_eq!(service.status_json("steady-10")["exit"]["signal"], "SIGKILL");
    assert_eq!(steady()[..9], before[..9], "nobody else was touched");
    service.ok(&["doctor"]);
}

/// Who asks a halted engine is told that it may still do what was asked; and so it does. A halted keeper
/// takes no answer away.
#[test]
fn a12_what_a_halted_engine_or_keeper_was_asked_is_done_when_it_goes_on() {
    let service = Service::new();
    service.ok(&["start", "--name", "steady", "--", "sleep", "64007"]);
    procfs::signal("STOP", service.engine_pid());
    let start = service.cli(&["start", "--name", "ghost", "--", "sleep", "64008"]);
    assert!(start.expect(7).err().contains("may still do what was asked"), "{start:?}");
    procfs::signal("CONT", service.engine_pid());
    wait::until("it does", SOON, || service.cli(&["status", "ghost", "--json"]).code == 0);
    service.until_state("ghost", "running");
    let keeper = service.keeper_pid();
    procfs::signal("STOP", keeper);
    assert_eq!(service.state("steady"), "running", "the engine answers by itself");
    let start = service.background(&["start", "--name", "late", "--", "sleep", "64009"]);
    service.ok(&["signal", "CONT", "steady"]);
    assert!(start.is_running(), "nobody is there to spawn it");
    procfs::signal("CONT", keeper);
    start.end(SOON).expect(0);
    assert_eq!(service.state("late"), "running");
}

#[test]
fn a13_an_engine_ended_by_a_signal_is_replaced() {
    let service = Service::new();
    service.ok(&["start", "--name", "nap", "--instances", "5", "--", "sleep", "64005"]);
    for signal in ["ABRT", "ILL", "FPE"] {
        expect_as_after_a_kill(&service, signal, |engine| procfs::signal(signal, engine));
        let log = service.log();
        assert!(log.contains(&format!("the engine ended (SIG{signal}")), "{log}");
    }
}

#[test]
fn a13_an_engine_that_aborts_or_faults_is_replaced() {
    let mut version = Command::new("gdb");
    if version.arg("--version").output().is_err() {
        return println!("skipped: there is no gdb");
    }
    let service = Service::new();
    service.ok(&["start", "--name", "nap", "--instances", "5", "--", "sleep", "64006"]);
    // The engine ignores a SIGSEGV that somebody sends; a fault of its own it cannot.
    for (called, how) in [("(void)abort()", "SIGABRT"), ("((void(*)(void))0)()", "SIGSEGV")] {
        expect_as_after_a_kill(&service, how, |engine| {
            let mut gdb = Command::new("gdb");
            gdb.args(["-nx", "-batch"]);
            for signal in ["SIGABRT", "SIGSEGV", "SIG64"] {
                gdb.args(["-ex", &format!("handle {signal} nostop noprint pass")]);
            }
            gdb.args(["-ex", &format!("call {called}"), "-p", &engine.to_string()]);
            let said = cli::run(gdb, LATER);
            assert!(service.engine_now() != Some(engine), "gdb could not: {said:?}");
        });
        service.until_said(&format!("the engine ended ({how}"));
    }
}
