//! What children may do to others and others to them, and what many at once come to: rows of several families
//! that had no test of their own.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use provost::Code;

use crate::harness::{LATER, Options, SOON, Scratch, Service, cli, procfs, rounds, wait};
use crate::raw::Peer;

/// The signal that a process has asked for at the end of who made it: PR_GET_PDEATHSIG.
const ASKED_FOR: &str = "import ctypes
number = ctypes.c_int(-1)
ctypes.CDLL(None).prctl(2, ctypes.byref(number))
print(number.value, flush=True)
import time
time.sleep(600)";

/// The kernel sends such a signal at the end of the thread that forked, not of its process.
#[test]
fn b18_no_child_ends_with_the_thread_that_asked_for_it() {
    let service = Service::new();
    let id = service.start(&["--name", "web", "--", "python3", "-c", ASKED_FOR]);
    wait::until("it has asked", SOON, || !service.ok(&["output", "web"]).is_empty());
    assert_eq!(service.ok(&["output", "web"]), "0", "it depends on no thread");
    let pid = service.pid(&id);
    // Its own thread in the engine ends with the engine, and so does the one of the connection.
    service.kill_engine();
    assert_eq!(service.pid(&id), pid);
    assert!(procfs::alive(pid));
}

/// A user of this test alone, so that nobody else is hit.
const USER: &str = "64173";

fn as_user(script: &str) -> [&str; 9] {
    ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "sh", "-c", script]
}

#[test]
fn b19_what_a_child_signals_reaches_no_service_and_nobody_of_another_user() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let (keeper, engine) = (service.keeper_pid(), service.engine_pid());
        let other = service.start(&["--name", "other", "--", "sleep", "82100"]);
        let mate = service.start(&[&["--name", "mate", "--"][..], &as_user("exec sleep 82101")].concat());
        let [other_pid, mate_pid] = [&other, &mate].map(|id| service.pid(id));
        // Its own group is its own alone.
        service.cli(&["run", "--", "sh", "-c", "kill -KILL 0"]).expect(137);
        assert!(
            procfs::alive(mate_pid) && procfs::alive(other_pid),
            "the group of one is not that of others"
        );
        // Everybody whom it may signal: those of its user.
        wait::until("it has become that user", SOON, || procfs::command(mate_pid).starts_with("sleep"));
        service.cli(&[&["run", "--"][..], &as_user("kill -KILL -1; exit 3")].concat());
        wait::until("it was reached", SOON, || !procfs::alive(mate_pid));
        assert!(procfs::alive(other_pid), "another user's");
        assert_eq!((service.keeper_pid(), service.engine_pid()), (keeper, engine));
        service.expect_answer();
    }
}

/// The limit counts those that the user has already, and the kernel refuses at the exec.
#[test]
fn c3_a_start_at_the_limit_of_processes_says_so_and_the_rest_goes_on() {
    let service = Service::new();
    let user = ["--user", "64174", "--group", "64174"];
    let first = service.start(&[&user[..], &["--name", "first", "--", "sleep", "82110"]].concat());
    let limited =
        [&["start"], &user[..], &["--limit", "nproc=0", "--name", "second", "--", "sleep", "82111"]];
    let refused = service.cli(&limited.concat());
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err().contains("resource temporarily unavailable"), "{refused:?}");
    assert!(procfs::with_command("sleep 82111").is_empty());
    // As soon as there is room, it starts.
    service.ok(&["stop", &first]);
    service.ok(&limited.concat());
    service.until_state("second", "running");
    service.ok(&["remove", "--force", "first", "second"]);
    service.expect_answer();
}

#[test]
fn c9_the_socket_is_free_at_once_while_children_run_on() {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    fs::write(&config, "orphans = \"adopt\"\n").expect("the directory is ours");
    let service = Options::new().serve(&["--config", &config]).start();
    service.ok(&["start", "--name", "web", "--instances", "5", "--", "sleep", "82120"]);
    let pids: Vec<u32> = (1..=5).map(|n| service.pid(&format!("web-{n}"))).collect();
    service.until_store("sound");
    service.kill_service();
    for &pid in &pids {
        assert!(procfs::alive(pid), "they run on");
        let fds = procfs::fds(pid);
        assert!(fds.len() == 3 && !fds.iter().any(|fd| fd.contains("socket:")), "{fds:?}");
    }
    service.serve_again();
    let refusals = service.log().matches("another provost serves").count();
    assert_eq!(refusals, 0, "at the first attempt\n{}", service.log());
    for (n, pid) in (1..=5).zip(pids) {
        assert_eq!(service.pid(&format!("web-{n}")), pid, "and they are the same");
    }
    service.ok(&["stop", "web-*"]);
}

/// Whoever is forked while a program is written might hold it open, and nobody could execute it.
#[test]
fn c14_programs_that_were_just_written_can_be_executed_while_others_fork() {
    let service = Service::new();
    let scratch = Scratch::new();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let forking = scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                service.cli(&["run", "--rm", "--", "true"]).expect(0);
            }
        });
        for n in 0..rounds(40) {
            let program = scratch.file(&format!("program-{n}"));
            // By a process of its own: what this one has open, other tests' children inherit.
            let mut copy = Command::new("cp");
            copy.args(["/bin/true", &program]);
            cli::run(copy, LATER).expect(0);
            service.cli(&["run", "--rm", "--", &program]).expect(0);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        forking.join().expect("it does not panic");
    });
}

#[test]
fn d18_hundreds_of_streams_at_once_are_all_read_to_their_end() {
    let service = Service::new();
    let script = "echo out $PROVOST_INSTANCE; echo err $PROVOST_INSTANCE >&2; exec sleep 82130";
    let name = |group| format!("s{group}");
    for group in 0..rounds(1) {
        service.ok(&["start", "--name", &name(group), "--instances", "150", "--", "sh", "-c", script]);
    }
    for (group, n) in (0..rounds(1)).flat_map(|group| (1..=150).map(move |n| (group, n))) {
        let one = format!("{}-{n}", name(group));
        wait::until(&format!("{one} was heard"), LATER, || {
            let output = service.ok(&["output", &one]);
            output.contains(&format!("out {n}")) && output.contains(&format!("err {n}"))
        });
    }
    service.ok(&["remove", "--force", "s*"]);
}

#[test]
fn f20_commands_and_followers_cost_the_same_at_the_end_as_at_the_begin() {
    let service = Options::new().alone().start();
    service.start(&["--name", "web", "--", "sh", "-c", "while :; do echo tick; sleep 0.2; done"]);
    let pids = [service.keeper_pid(), service.engine_pid()];
    let round = || {
        let follow: Vec<_> = (0..20).map(|_| service.background(&["stream", "web"])).collect();
        follow.iter().for_each(|follow| drop(follow.line_with("tick", LATER)));
        for _ in 0..30 {
            service.ok(&["status", "web", "--json"]);
            service.ok(&["list"]);
        }
        drop(follow);
    };
    round();
    wait::pass(Duration::from_millis(200));
    let before = service.footprint();
    let memory = || pids.map(procfs::rss_kib).iter().sum::<u64>();
    let kib = memory();
    (0..rounds(4)).for_each(|_| round());
    service.until_footprint(before);
    wait::until("memory stays", SOON, || memory() < kib + (4 << 10));
}

/// A request of a kind that no version has had.
#[test]
fn f22_requests_of_a_kind_that_is_not_on_the_list_are_refused() {
    let service = Service::new();
    for kind in [2000_u32, 9999, 500_000] {
        let mut peer = Peer::greeted(service.socket());
        // A protobuf field of that number, with three bytes.
        let mut request = Vec::new();
        let mut key = kind << 3 | 2;
        while key >= 0x80 {
            request.push((key & 0x7f) as u8 | 0x80);
            key >>= 7;
        }
        request.extend([key as u8, 3, b'r', b'u', b'n']);
        let error = peer.ask_bytes(&request).expect_err("nobody knows it");
        assert_eq!(error.code, Code::Refused, "{error}");
    }
    service.expect_answer();
}
