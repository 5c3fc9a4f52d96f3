//! What a host does over time and with many providers: it rests, gives back what it took, and outlives what
//! is around it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::h_providers::{Hosting, has_call};
use crate::harness::cli::run;
use crate::harness::gateway::User;
use crate::harness::{
    Gateway, LATER, Options, Running, SOON, Scratch, binary, fixture, procfs, rounds, wait,
};

#[test]
fn idle_providers_wake_nobody_and_are_asked_again_as_if_nothing_were() {
    let hosting = Hosting::of(Options::new().alone().start());
    let rude = hosting.rude("fine");
    let names: Vec<_> = (0..30).map(|n| format!("idle{n}")).collect();
    thread::scope(|scope| {
        for some in names.chunks(10) {
            let (hosting, rude) = (&hosting, &rude);
            scope.spawn(move || some.iter().for_each(|name| hosting.start_alias(name, rude)));
        }
    });
    let before = hosting.pid("idle7");
    let ours = [hosting.0.keeper_pid(), hosting.0.engine_pid(), hosting.host_pid()];
    let (host, engine) = (hosting.host_pid(), hosting.0.engine_pid());
    let memory = || [procfs::private_kib(host), procfs::files_kib(host), procfs::files_kib(engine)];
    let in_use = memory();
    wait::until("code and memory are given back", LATER, || {
        let [private, code, engine_code] = memory();
        private < in_use[0] && code < in_use[1] / 2 && engine_code < in_use[2] / 2
    });
    // Connections that nobody uses are closed after 5 s, and with the last one the threads of the C core end.
    let first = procfs::at_rest(&ours);
    wait::pass(Duration::from_secs(10));
    let now: u64 = ours.map(procfs::switches).iter().sum();
    assert_eq!(now, first, "keeper, engine and host wake in 10 s");
    assert_eq!((hosting.pid("idle7"), hosting.fetch("idle7", &["inits"])), (before, json!(1)));
    // What has ended meanwhile is started again, in silence.
    let ended = hosting.pid("idle8");
    procfs::at_rest(&ours);
    procfs::signal("KILL", ended);
    wait::until("it has gone", SOON, || !Path::new(&format!("/proc/{ended}")).exists());
    assert_ne!(hosting.pid("idle8"), ended);
}

#[test]
fn one_that_nobody_asks_is_ended_and_started_by_the_next_call() {
    let hosting = Hosting::start();
    let rude = hosting.rude("fine");
    hosting.ok(&["start", "short", "--binary", &rude, "--idle-timeout", "500ms"]);
    let first = hosting.pid("short");
    wait::until("it has ended", SOON, || hosting.state("short") == "idle" && !procfs::alive(first));
    assert_ne!(hosting.pid("short"), first);
    // A call that takes longer is no idleness.
    let hanging = hosting.0.background(&["provider", "fetch", "short", "hang"]);
    let second = wait::until_some("the call is under way", SOON, || {
        hosting.running("rude fine").into_iter().find(|&pid| has_call(pid))
    });
    wait::pass(Duration::from_secs(1));
    assert!(procfs::alive(second) && hanging.is_running());
    // The next host knows of it, too.
    procfs::signal("KILL", hosting.host_pid());
    hanging.end(SOON);
    wait::until("it has ended", SOON, || hosting.cli(&["list"]).code == 0 && !procfs::alive(second));
    assert_eq!(hosting.fetch("short", &["inits"]), 1);
}

#[test]
fn a_definition_that_cannot_be_started_replaces_none_that_is_known() {
    let hosting = Hosting::start();
    hosting.start_alias("kept", &hosting.rude("fine"));
    hosting.ok(&["stop", "kept"]);
    procfs::signal("KILL", hosting.host_pid());
    wait::until("the next host knows it", SOON, || {
        hosting.cli(&["list", "--json"]).code == 0 && hosting.state("kept") == "idle"
    });
    assert_eq!(hosting.reason(127, &["start", "kept", "--binary", "nothing"]), "binary_not_found");
    assert_eq!(hosting.fetch("kept", &["inits"]), 1);
}

#[test]
fn h14_starts_and_stops_leave_nothing_behind() {
    let hosting = Hosting::of(Options::new().alone().start());
    let rude = hosting.rude("fine");
    // 1,000 of them with PROVOST_TEST_ROUNDS=20.
    let round = || {
        hosting.start_alias("rude", &rude);
        assert_eq!(hosting.fetch("rude", &["inits"]), 1);
        hosting.ok(&["stop", "rude"]);
    };
    (0..5).for_each(|_| round());
    let ours = [hosting.0.keeper_pid(), hosting.0.engine_pid(), hosting.host_pid()];
    let cost = || ours.map(|pid| (procfs::fd_count(pid), procfs::thread_count(pid)));
    let rest = || {
        // It goes some seconds after the last use of a connection, which it closes.
        wait::until("nothing is open unused", LATER, || !procfs::has_thread(ours[2], "idle"));
        // Until the last connection of a client is closed.
        let mut last = cost();
        wait::until("they have come to rest", LATER, || {
            let before = std::mem::replace(&mut last, cost());
            wait::pass(Duration::from_millis(300));
            last == before
        });
        (last, ours.map(procfs::rss_kib))
    };
    let (before, memory) = rest();
    let count = rounds(50);
    (0..count).for_each(|_| round());
    let (after, now) = rest();
    assert_eq!(after, before, "descriptors and threads of keeper, engine and host");
    for (now, before) in now.iter().zip(memory) {
        assert!(*now < before + 4096 + u64::from(count) * 2, "{now} KiB, it were {before} KiB");
    }
    assert_eq!(hosting.running("rude fine"), [0u32; 0]);
}

#[test]
fn a_hundred_aliases_are_started_and_ended_at_once() {
    let hosting = Hosting::of(Options::new().alone().start());
    let rude = hosting.rude("fine");
    let names: Vec<_> = (0..100).map(|n| format!("p{n}")).collect();
    thread::scope(|scope| {
        for some in names.chunks(10) {
            let (hosting, rude) = (&hosting, &rude);
            scope.spawn(move || some.iter().for_each(|name| hosting.start_alias(name, rude)));
        }
    });
    let mut pids: Vec<_> = names.iter().map(|name| hosting.pid(name)).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 100);
    hosting.ok(&["shutdown"]);
    assert!(pids.iter().all(|&pid| !procfs::alive(pid)));
    assert_eq!(hosting.ok(&["list"]), "");
}

#[test]
fn h23_providers_survive_the_death_of_the_gateway() {
    let gateway = Gateway::start();
    let service = gateway.service();
    let path = format!("{}/providers/rude", service.state_dir());
    fs::create_dir_all(Path::new(&path).parent().expect("it has one")).expect("the state is ours");
    fs::write(&path, format!("#!/bin/sh\nexec {} fine\n", fixture("rude"))).expect("the state is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let ok = |args: &[&str]| {
        let out = gateway.cli(User::Admin, args);
        out.expect(0);
        out.out().trim().to_owned()
    };
    ok(&["provider", "start", "rude", "--binary", "rude"]);
    let pid = ok(&["provider", "fetch", "rude", "pid", "--unwrap"]);
    gateway.kill();
    assert_eq!(ok(&["provider", "fetch", "rude", "pid", "--unwrap"]), pid);
    assert_eq!(ok(&["provider", "fetch", "rude", "inits", "--unwrap"]), "1");
}

/// What a keeper that was killed has left is ended by the next one, and started when it is asked for.
fn is_ended_with_the_keeper(hosting: &Hosting) {
    hosting.start_alias("rude", &hosting.rude("fine"));
    let first = hosting.pid("rude");
    procfs::signal("KILL", hosting.0.keeper_pid());
    hosting.0.until_killed();
    hosting.0.serve_again();
    let again = wait::until_some("the host answers", SOON, || {
        let out = hosting.cli(&["fetch", "rude", "pid", "--unwrap"]);
        (out.code == 0).then(|| out.out().trim().to_owned())
    });
    assert_ne!(again, first.to_string(), "what it was given is not known any more");
    assert_eq!(hosting.running("rude fine").iter().map(ToString::to_string).collect::<Vec<_>>(), [again]);
    assert_eq!(hosting.fetch("rude", &["inits"]), 1);
}

#[test]
fn h23_the_death_of_the_keeper_leaves_no_provider_that_nobody_owns() {
    is_ended_with_the_keeper(&Hosting::start());
}

#[test]
fn h23_the_death_of_the_keeper_leaves_no_provider_that_nobody_owns_without_cgroups() {
    is_ended_with_the_keeper(&Hosting::of(Options::new().without_cgroups().start()));
}

#[test]
fn a_provider_gets_no_more_rights_than_it_begins_with() {
    let hosting = Hosting::start();
    hosting.start_alias("rude", &hosting.rude("fine"));
    let pid = hosting.pid("rude");
    assert_eq!(procfs::status_line(pid, "NoNewPrivs").as_deref(), Some("1"));
}

/// A connection may wait in the socket for the engine, and what it asks for is the first thing that the
/// engine does.
#[test]
fn the_host_is_there_for_the_very_first_request() {
    let serve = || {
        let scratch = Scratch::new();
        let socket = scratch.file("engine.sock");
        let mut command = Command::new(binary());
        command.args(["serve", "--socket", &socket, "--state", &scratch.file("state")]);
        let service = Running::new(command);
        wait::until("somebody listens", SOON, || UnixStream::connect(&socket).is_ok());
        let mut list = Command::new(binary());
        list.args(["--socket", &socket, "provider", "list"]);
        run(list, LATER).expect(0);
        service.signal("TERM");
        assert_eq!(service.end(LATER).code, 0);
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..rounds(5)).for_each(|_| serve()));
        }
    });
}
