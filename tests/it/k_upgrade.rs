//! Another binary for the running service: the same children under the same pids, every line, every
//! connection; and a binary that is none, which changes nothing.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{
    LATER, Options, Output, Random, Running, SOON, Scratch, Service, binary, fixture, procfs, rounds, wait,
};

/// A service whose binary lies where a test can replace it.
struct Installed {
    service: Service,
    bin: Scratch,
}

impl Installed {
    #[track_caller]
    fn new() -> Self {
        Self::with(&[])
    }

    /// With variables (`K=V`) in the environment of `serve`.
    #[track_caller]
    fn with(variables: &[&str]) -> Self {
        let bin = Scratch::new();
        copy(binary().to_str().expect("the path is text"), &bin.file("provost"));
        // The harness's own binary comes as the first argument, and is passed over.
        let script = format!("shift; exec {} \"$@\"", bin.file("provost"));
        let wrap = [&["env"], variables, &["sh", "-c", &script, "sh"]].concat();
        Self { service: Options::new().through(&wrap).start(), bin }
    }

    /// Puts a file in the place of the binary, as an installer does: the new one beside it, then a rename.
    fn install(&self, from: &str) {
        copy(from, &self.bin.file("new"));
        fs::rename(self.bin.file("new"), self.bin.file("provost")).expect("the directory is ours");
    }

    fn install_good(&self) {
        self.install(binary().to_str().expect("the path is text"));
    }

    /// Fails the test unless keeper and engine run what is installed.
    #[track_caller]
    fn expect_installed(&self) {
        let installed = fs::metadata(self.bin.file("provost")).expect("it is there").ino();
        for pid in [self.service.keeper_pid(), self.service.engine_pid()] {
            assert_eq!(image(pid), Some(installed), "{}", procfs::command(pid));
        }
    }

    /// An upgrade that must come to nothing for this reason, and leave everything as it was.
    #[track_caller]
    fn expect_refused(&self, to: &str, code: i32, why: &str) -> Output {
        let service = &self.service;
        let (before, keeper) = (service.list_json(), image(service.keeper_pid()));
        let engine = image(service.engine_pid());
        let refused = service.cli(&["upgrade", "--to", to]);
        refused.expect(code);
        assert!(refused.err().contains(why), "{to}: {refused:?}");
        assert_eq!(image(service.keeper_pid()), keeper, "{to}: the keeper is the old one");
        assert_eq!(image(service.engine_pid()), engine, "{to}: and so is the engine");
        let pids = |all: &[serde_json::Value]| all.iter().map(|p| p["pid"].clone()).collect::<Vec<_>>();
        assert_eq!(pids(&service.list_json()), pids(&before), "{to}");
        service.cli(&["run", "--name", "true-1", "--", "true"]).expect(0);
        service.ok(&["remove", "true-1"]);
        refused
    }
}

/// By cp(1): a copy made in here would be open for writing in whatever another test forks at that moment, and
/// what is open for writing is not executed.
#[track_caller]
fn copy(from: &str, to: &str) {
    let status = Command::new("cp").args([from, to]).status();
    assert!(status.is_ok_and(|s| s.success()), "cp {from} {to}");
}

/// Which file a process executes.
fn image(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|m| m.ino())
}

#[track_caller]
fn expect_numbers(what: &str, bytes: &[u8]) -> u64 {
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let mut last = 0;
    for line in bytes[..whole].split_inclusive(|&b| b == b'\n') {
        last += 1;
        let text = String::from_utf8_lossy(&line[..line.len() - 1]);
        assert_eq!(text, last.to_string(), "{what}: a line was lost, repeated or moved");
    }
    last
}

#[test]
fn k5_an_upgrade_under_load_loses_nothing() {
    let installed = Installed::new();
    let service = &installed.service;
    let numbers = fixture("numbers");
    let options = ["--name", "count", "--instances", "4", "--output-limit", "32m", "--"];
    service.ok(&[&["start"], &options[..], &[&numbers, "--pace-us", "200"]].concat());
    service.ok(&["start", "--name", "nap", "--instances", "30", "--", "sleep", "73000"]);
    let stream = service.background(&["stream", "--until-end", "count-1", "--since", "start"]);
    let before = service.list_json();
    let end = AtomicBool::new(false);
    let (connections, commands) = (AtomicU64::new(0), AtomicU64::new(0));
    let upgrades = rounds(5);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                UnixStream::connect(service.socket()).expect("no connection is refused");
                connections.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 0..2 {
            let (end, commands) = (&end, &commands);
            scope.spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let name = format!("load-{n}");
                    let id = service.start(&["--name", &name, "--", "sleep", "73001"]);
                    assert_eq!(service.status_json(&name)["id"], *id);
                    service.ok(&["stop", &id]);
                    assert_eq!(service.state(&id), "stopped");
                    service.ok(&["remove", &id]);
                    commands.fetch_add(5, Ordering::Relaxed);
                }
            });
        }
        let upgrading = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..upgrades {
                installed.install_good();
                let done = commands.load(Ordering::Relaxed);
                let said = service.ok(&["upgrade"]);
                assert!(said.contains(&installed.bin.file("provost")), "{said}");
                installed.expect_installed();
                wait::until("there was load", LATER, || commands.load(Ordering::Relaxed) > done);
            }
        }));
        end.store(true, Ordering::Relaxed);
        upgrading.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    });
    let of = |all: &[serde_json::Value]| {
        all.iter().map(|p| (p["id"].clone(), p["pid"].clone(), p["run"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(of(&service.list_json()), of(&before), "the same processes under the same pids");
    let lines: Vec<u64> = (1..=4)
        .map(|n| format!("count-{n}"))
        .map(|name| expect_numbers(&name, &service.output(&name)))
        .collect();
    service.ok(&["stop", "count-*"]);
    let streamed = stream.end(SOON);
    let streamed = expect_numbers("the stream", &streamed.expect(0).stdout);
    assert!(streamed >= lines[0], "streamed {streamed} of at least {} lines", lines[0]);
    let (connections, commands) = (connections.into_inner(), commands.into_inner());
    println!("{upgrades} upgrades, {connections} connections, {commands} commands, lines {lines:?}");
    assert!(connections > 100 && lines.iter().all(|&n| n > 100));
}

#[test]
fn k5_a_bad_binary_changes_nothing() {
    let installed = Installed::new();
    installed.service.ok(&["start", "--name", "nap", "--instances", "3", "--", "sleep", "73002"]);
    let file = |name: &str, bytes: &[u8], mode: u32| {
        let path = installed.bin.file(name);
        fs::write(&path, bytes).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        path
    };
    let good = fs::read(binary()).expect("it is there");
    let nothing_changed = [
        ("/nowhere/provost".to_owned(), "No such file or directory"),
        (installed.bin.path().display().to_string(), "not a regular file"),
        (file("script", b"#!/bin/sh\nexit 0\n", 0o755), "not a binary of this system"),
        (file("empty", b"", 0o755), "not a binary of this system"),
        (file("plain", &good[..4096], 0o644), "not executable"),
    ];
    let engine = installed.service.engine_pid();
    for (path, why) in &nothing_changed {
        let refused = installed.expect_refused(path, 6, why);
        assert!(refused.err().contains(path) && refused.err().contains("nothing was changed"), "{refused:?}");
    }
    assert_eq!(installed.service.engine_pid(), engine, "the engine was not touched");
    installed.expect_refused("/bin/false", 1, "the new engine ended with exit code 1; the old one goes on");
    installed.expect_refused(&file("head", &good[..64], 0o755), 1, "cannot be executed: ");
    // Cut in the middle: the kernel takes it, and it does not live long.
    installed.expect_refused(&file("half", &good[..128 << 10], 0o755), 1, "the old one goes on");
    // And then a good one.
    installed.install_good();
    let said = installed.service.cli(&["upgrade", "--json"]);
    let said = &said.expect(0).json()[0];
    assert_eq!((&said["before"], &said["path"]), (&said["after"], &installed.bin.file("provost").into()));
    installed.expect_installed();
    let version = &installed.service.cli(&["version", "--json"]).expect(0).json()[0]["service"];
    assert_eq!(version["version"], version["keeper_version"]);
}

#[test]
fn k5_a_binary_that_hangs_is_given_up() {
    let installed = Installed::new();
    let service = &installed.service;
    let id = service.start(&["--", "sleep", "73003"]);
    let still = fixture("still");
    thread::scope(|scope| {
        let upgrade =
            scope.spawn(|| installed.expect_refused(&still, 1, "was not ready within 8 s; the old one"));
        wait::until("it is tried", SOON, || {
            service.engine_now().is_some_and(|pid| image(pid) == inode(&still))
        });
        // Who comes now waits, and is answered by the old engine.
        let status = service.cli(&["status", &id]);
        status.expect(0);
        assert!(status.took > Duration::from_secs(3), "somebody answered too early: {status:?}");
        upgrade.join().expect("the upgrade is refused");
    });
}

#[test]
fn k5_the_end_of_the_service_does_not_wait_for_an_upgrade() {
    let installed = Installed::new();
    let service = &installed.service;
    service.start(&["--", "sleep", "73004"]);
    let still = fixture("still");
    let upgrade = service.background(&["upgrade", "--to", &still]);
    wait::until("it is tried", SOON, || service.engine_now().is_some_and(|pid| image(pid) == inode(&still)));
    procfs::signal("TERM", service.keeper_pid());
    assert_eq!(service.keeper_end(Duration::from_secs(5)), 0, "{}", service.log());
    assert_ne!(upgrade.end(SOON).code, 0);
}

fn inode(path: &str) -> Option<u64> {
    fs::metadata(path).ok().map(|m| m.ino())
}

/// Attaches strace to one process, not to its children, to make a system call fail.
#[track_caller]
fn inject(pid: u32, what: &str) -> Running {
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e", &format!("inject={what}"), "-p", &pid.to_string()]);
    let strace = Running::new(strace);
    wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
    strace
}

fn let_go(strace: Running, pid: u32) {
    strace.signal("INT");
    strace.end(SOON);
    let traced = || procfs::status_line(pid, "TracerPid").is_some_and(|tracer| tracer != "0");
    wait::until("strace let go", SOON, || !traced());
}

#[test]
fn k6_an_upgrade_without_memory_keeps_the_old_keeper() {
    let installed = Installed::new();
    let service = &installed.service;
    let id = service.start(&["--", "sleep", "73005"]);
    let (keeper, pid) = (service.keeper_pid(), service.pid(&id));
    for (what, why) in [
        ("memfd_create:error=ENOSPC", "cannot be prepared: No space left on device"),
        ("memfd_create:error=EMFILE", "cannot be prepared: Too many open files"),
    ] {
        let (strace, engine) = (inject(keeper, what), service.engine_pid());
        installed.expect_refused(&installed.bin.file("provost"), 1, why);
        let_go(strace, keeper);
        assert_eq!(service.engine_pid(), engine, "{what}: the engine was not touched");
    }
    let strace = inject(keeper, "pwrite64:error=ENOSPC:when=1");
    installed.expect_refused(&installed.bin.file("provost"), 1, "cannot be tried: No space left on device");
    let_go(strace, keeper);
    // The engine is the new one by then, and works with the old keeper.
    for what in ["execve:error=EIO", "pwrite64:error=ENOSPC:when=2"] {
        installed.install_good();
        let (strace, old) = (inject(keeper, what), image(keeper));
        let upgrade = service.cli(&["upgrade"]);
        let_go(strace, keeper);
        upgrade.expect(1);
        assert!(
            upgrade.err().contains("the engine is the new one, but the keeper could not"),
            "{what}: {upgrade:?}"
        );
        assert_eq!(image(keeper), old, "{what}");
        let new = inode(&installed.bin.file("provost"));
        assert_eq!(image(service.engine_pid()), new, "{what}");
        service.kill_engine();
        assert_eq!(image(service.engine_pid()), new, "{what}: also after its death");
        // What was to be handed over is not left open for children.
        let fds = service.cli(&["run", "--", "sh", "-c", "ls /proc/$$/fd"]);
        assert_eq!(fds.expect(0).out().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"], "{what}");
        assert_eq!(service.pid(&id), pid);
    }
    service.ok(&["upgrade"]);
    installed.expect_installed();
    assert_eq!(service.pid(&id), pid);
}

#[test]
fn k7_a_keeper_that_finds_that_it_cannot_go_on_is_not_executed() {
    let installed = Installed::with(&[&format!("TEST_PROVOST={}", binary().display()), "TEST_SKEW=format"]);
    installed.service.start(&["--", "sleep", "73009"]);
    let before = installed.service.footprint();
    installed.expect_refused(&fixture("skewed"), 1, "the new keeper could not go on from here (exit code 1)");
    installed.service.until_said("format 99");
    installed.service.until_footprint(before);
    installed.install_good();
    installed.service.ok(&["upgrade"]);
    installed.expect_installed();
}

/// It holds the lock, the listener and all pipes as long as it is there.
#[test]
fn a_rehearsal_that_hangs_is_ended_with_its_attempt() {
    let installed = Installed::with(&[&format!("TEST_PROVOST={}", binary().display()), "TEST_SKEW=hang"]);
    let before = installed.service.footprint();
    installed.expect_refused(&fixture("skewed"), 1, "was not ready within 8 s");
    let rehearses = |pid: &u32| procfs::command(*pid).contains("--rehearse");
    wait::until("the rehearsal is gone", SOON, || {
        !procfs::descendants(installed.service.keeper_pid()).iter().any(|stat| rehearses(&stat.pid))
    });
    installed.service.until_footprint(before);
}

#[test]
fn k7_a_keeper_that_cannot_use_the_handover_gives_it_back() {
    let installed = Installed::with(&[&format!("TEST_PROVOST={}", binary().display()), "TEST_SKEW=late"]);
    let service = &installed.service;
    let numbers = fixture("numbers");
    let id = service.start(&["--output-limit", "32m", "--", &numbers, "--pace-us", "200"]);
    let (keeper, pid) = (service.keeper_pid(), service.pid(&id));
    let before = service.footprint();
    let (old, real) = (image(keeper), inode(&binary().display().to_string()));
    for _ in 0..3 {
        let upgrade = service.cli(&["upgrade", "--to", &fixture("skewed")]);
        upgrade.expect(1);
        assert!(upgrade.err().contains("could not use what the old one handed over"), "{upgrade:?}");
        service.until_said("format 99");
        assert_eq!((image(keeper), image(service.engine_pid())), (old, real), "{}", service.log());
        assert_eq!(service.pid(&id), pid);
        service.kill_engine();
        assert_eq!(image(service.engine_pid()), real, "the engine stays the new one");
    }
    expect_numbers("after a way and back", &service.output(&id));
    // One descriptor more: of the engine's binary.
    service.until_footprint([(before[0].0 + 1, before[0].1), before[1]]);
    installed.install_good();
    service.ok(&["upgrade"]);
    installed.expect_installed();
    service.until_footprint(before);
}

#[test]
fn k7_a_field_of_a_later_version_is_passed_over() {
    let installed = Installed::with(&[&format!("TEST_PROVOST={}", binary().display()), "TEST_SKEW=field"]);
    let service = &installed.service;
    let id = service.start(&["--", "sleep", "73006"]);
    let pid = service.pid(&id);
    service.ok(&["upgrade", "--to", &fixture("skewed")]);
    let real = inode(&binary().display().to_string());
    assert_eq!((image(service.keeper_pid()), image(service.engine_pid())), (real, real));
    assert_eq!(service.pid(&id), pid);
    service.ok(&["stop", &id]);
}

#[test]
fn k9_a_hundred_upgrades() {
    let installed = Installed::new();
    let service = &installed.service;
    service.ok(&["start", "--name", "nap", "--instances", "20", "--", "sleep", "73007"]);
    let upgrade = |times: u32| {
        for _ in 0..times {
            service.ok(&["upgrade"]);
        }
        service.ok(&["list"]);
        [service.keeper_pid(), service.engine_pid()].map(procfs::private_kib)
    };
    let private = upgrade(5);
    let before = service.footprint();
    let pids = service.below();
    let private_now = upgrade(95);
    service.until_footprint(before);
    assert_eq!(service.below(), pids);
    println!("private KiB of keeper and engine: {private:?}, then {private_now:?}");
    for (was, is) in private.iter().zip(private_now) {
        assert!(is <= was + 128, "private memory grows: {private:?}, then {private_now:?}");
    }
}

/// The variables of the next message to whoever started the service.
#[track_caller]
fn message(socket: &UnixDatagram) -> Vec<String> {
    let mut bytes = [0; 4096];
    let len = socket.recv(&mut bytes).expect("a message comes");
    String::from_utf8_lossy(&bytes[..len]).lines().map(str::to_owned).collect()
}

#[track_caller]
fn expect_message(socket: &UnixDatagram, wanted: &[&str]) {
    let said = message(socket);
    assert!(wanted.iter().all(|w| said.iter().any(|line| line == w)), "{said:?} lacks one of {wanted:?}");
}

#[track_caller]
fn reports_its_state(socket: &UnixDatagram, name: &str) {
    socket.set_read_timeout(Some(SOON)).expect("a socket has a timeout");
    let variable = format!("NOTIFY_SOCKET={name}");
    let installed = Installed::with(&[&variable]);
    let service = &installed.service;
    let main = format!("MAINPID={}", service.keeper_pid());
    expect_message(socket, &["READY=1", &main, &format!("STATUS=serving {}", service.socket())]);
    for pid in [service.keeper_pid(), service.engine_pid()] {
        let environ = fs::read(format!("/proc/{pid}/environ")).expect("it runs");
        let has = String::from_utf8_lossy(&environ).contains(&variable);
        assert_eq!(has, pid == service.keeper_pid(), "{}", procfs::command(pid));
    }
    let env = service.cli(&["run", "--", "env"]);
    assert!(!env.expect(0).out().contains("NOTIFY_SOCKET"), "{env:?}");
    for to in [installed.bin.file("provost"), "/bin/false".to_owned(), installed.bin.file("provost")] {
        service.cli(&["upgrade", "--to", &to]);
        let reloading = message(socket);
        assert_eq!(reloading[0], "RELOADING=1");
        let at = reloading[1].strip_prefix("MONOTONIC_USEC=").and_then(|text| text.parse::<u64>().ok());
        assert!(at.is_some_and(|at| at > 0), "{reloading:?}");
        expect_message(socket, &["READY=1", &main]);
    }
    procfs::signal("TERM", service.keeper_pid());
    expect_message(socket, &["STOPPING=1"]);
    assert_eq!(service.keeper_end(SOON), 0);
}

#[test]
fn who_started_the_service_is_told_of_its_life() {
    let scratch = Scratch::new();
    let path = scratch.file("notify");
    reports_its_state(&UnixDatagram::bind(&path).expect("the directory is ours"), &path);
    let name = format!("provost-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    reports_its_state(&UnixDatagram::bind_addr(&address).expect("the name is ours"), &format!("@{name}"));
}

#[test]
fn who_does_not_listen_is_not_waited_for() {
    let scratch = Scratch::new();
    let path = scratch.file("notify");
    let _deaf = UnixDatagram::bind(&path).expect("the directory is ours");
    let filling = UnixDatagram::unbound().expect("a socket");
    filling.set_nonblocking(true).expect("a socket can be non-blocking");
    let full = (0..100_000).find_map(|_| filling.send_to(b"x", &path).err());
    assert_eq!(full.map(|e| e.kind()), Some(ErrorKind::WouldBlock));
    let installed = Installed::with(&[&format!("NOTIFY_SOCKET={path}")]);
    installed.service.ok(&["upgrade"]);
    installed.service.expect_answer();
}

/// What the harness itself may not say after the end of the keeper: its engine was not left to init.
#[test]
fn the_engine_is_reaped_at_the_end() {
    for upgrades in [0, 1] {
        let installed = Installed::new();
        let service = &installed.service;
        for _ in 0..upgrades {
            service.ok(&["upgrade"]);
        }
        let engine = service.engine_pid();
        procfs::signal("TERM", service.keeper_pid());
        assert_eq!(service.keeper_end(SOON), 0);
        assert_eq!(procfs::stat(engine), None, "after {upgrades} upgrades");
    }
}

#[test]
fn a17_the_engine_ends_with_its_keeper() {
    for upgrades in [0, 1] {
        let installed = Installed::new();
        let service = &installed.service;
        for _ in 0..upgrades {
            service.ok(&["upgrade"]);
        }
        let id = service.start(&["--", "sleep", "73008"]);
        let engine = service.engine_pid();
        procfs::signal("KILL", service.keeper_pid());
        let took = wait::until("the engine has ended", Duration::from_secs(1), || !procfs::alive(engine));
        println!("after {upgrades} upgrades the engine ended {took:?} after its keeper");
        assert_eq!(service.keeper_end(SOON), 128 + 9);
        // Nobody's now.
        service.tree_of(&id).into_iter().for_each(|pid| procfs::signal("KILL", pid));
    }
}

/// Whatever moment of an upgrade the engine dies in: the command tells what became of it, and that is true.
#[test]
fn k5_the_engine_dies_during_upgrades() {
    let installed = Installed::new();
    let service = &installed.service;
    let numbers = fixture("numbers");
    let id = service.start(&["--output-limit", "32m", "--", &numbers, "--pace-us", "200"]);
    let (pid, keeper) = (service.pid(&id), service.keeper_pid());
    let mut random = Random::new();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..rounds(20) {
        installed.install_good();
        let (before, wanted) = (image(keeper), inode(&installed.bin.file("provost")));
        let delay = Duration::from_micros(random.below(15_000));
        let upgrade = thread::scope(|scope| {
            scope.spawn(move || {
                wait::pass(delay);
                service.kill_engine_only();
            });
            service.cli(&["upgrade"])
        });
        if upgrade.code == 0 {
            done += 1;
            installed.expect_installed();
        } else {
            refused += 1;
            upgrade.expect(1);
            assert!(upgrade.err().contains("ended by SIGKILL; the old one goes on"), "{upgrade:?}");
            assert_eq!((image(keeper), image(service.engine_pid())), (before, before), "not {wanted:?}");
        }
        assert_eq!(service.pid(&id), pid);
    }
    expect_numbers("over all of it", &service.output(&id));
    println!("{done} upgrades done, {refused} refused");
    service.ok(&["upgrade"]);
    installed.expect_installed();
}
