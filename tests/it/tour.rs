//! What a user was promised, as the user would try it.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Service, fixture, procfs, wait};

#[test]
fn one_process_from_start_to_stop() {
    let service = Service::new();
    let id = service.ok(&["start", "--", "sleep", "1000"]);
    assert_eq!(uuid::Uuid::parse_str(&id).map(|u| u.get_version_num()).ok(), Some(7), "{id:?}");
    let status = service.cli(&["status", &id, "--json"]);
    status.expect(0);
    assert_eq!(status.json()[0]["state"], "running");
    let stopped = service.cli(&["stop", &id]);
    stopped.expect(0);
    assert!(stopped.out().contains("SIGTERM"), "the exit is printed: {stopped:?}");
    service.cli(&["status", &id]).expect(3);
    service.cli(&["status", "018f0000-0000-7000-8000-000000000000"]).expect(4);
    service.cli(&["status", "nobody"]).expect(4);
}

#[test]
fn three_web_servers() {
    let service = Service::new();
    let python = ["python3", "-m", "http.server", "0", "--bind", "127.0.0.1"];
    let ids = service.ok(&[&["start", "--name", "web", "--instances", "3", "--"], &python[..]].concat());
    assert_eq!(ids.lines().count(), 3, "{ids}");
    let mut names: Vec<_> =
        service.list_json().iter().map(|p| p["name"].as_str().unwrap_or("").to_owned()).collect();
    names.sort();
    assert_eq!(names, ["web-1", "web-2", "web-3"]);
    service.ok(&["stop", "web-*"]);
    assert!(service.list_json().iter().all(|p| p["state"] == "stopped"));
    assert_eq!(service.below(), Vec::<u32>::new());
}

/// A pattern is stopped in parallel: three that take a second each take one second together.
#[test]
fn a_pattern_is_stopped_in_parallel() {
    let service = Options::new().alone().start();
    let script = "trap 'sleep 1; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let slow = [
        "--name",
        "slow",
        "--instances",
        "3",
        "--stop-scope",
        "leader",
        "--ready-line",
        "up",
        "--wait=ready",
    ];
    service.ok(&[&["start"], &slow[..], &["--", "sh", "-c", script]].concat());
    let stopped = service.cli(&["stop", "slow-*"]);
    stopped.expect(0);
    assert!(
        stopped.took >= Duration::from_secs(1) && stopped.took < Duration::from_millis(2500),
        "{stopped:?}"
    );
}

#[test]
fn nothing_of_a_tree_is_left() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let script = "trap \"\" TERM; sleep 1000 & exec setsid sleep 1001";
        let id = service.start(&["--stop-timeout", "500ms", "--", "sh", "-c", script]);
        wait::until("both run", SOON, || service.tree_of(&id).len() == 2);
        let tree = service.tree_of(&id);
        service.ok(&["stop", &id]);
        assert_eq!(service.tree_of(&id), Vec::<u32>::new());
        assert!(tree.iter().all(|&pid| !procfs::alive(pid)));
    }
}

/// The byte at an offset of what the firehose writes.
fn firehose_bytes(from: u64, to: u64) -> Vec<u8> {
    let records = (from / 16..to.div_ceil(16)).flat_map(|n| format!("{n:015x}\n").into_bytes());
    records.skip((from % 16) as usize).take((to - from) as usize).collect()
}

#[test]
fn a_gigabyte_of_output() {
    const TOTAL: u64 = 1 << 30;
    const RING: u64 = 1 << 20;
    let service = Service::new();
    let settle = service.start(&["--", &fixture("firehose"), "4194304"]);
    service.cli(&["wait", &settle]).expect(0);
    let memory = || procfs::rss_kib(service.engine_pid()) + procfs::rss_kib(service.keeper_pid());
    let before = memory();
    let id = service.start(&["--name", "hose", "--", &fixture("firehose"), &TOTAL.to_string()]);
    let mut most = 0;
    wait::until("a gigabyte is written", LATER, || {
        most = most.max(memory());
        service.state(&id) == "stopped"
    });
    println!("memory before {before} KiB, at most {most} KiB");
    // One ring, seen by the engine, and what a status costs.
    assert!(most < before + 8 * 1024, "memory of keeper and engine: before {before} KiB, then {most} KiB");
    service.cli(&["wait", &id]).expect(0);
    let process = service.status_json(&id);
    assert_eq!((&process["output_end"], &process["output_start"]), (&TOTAL.into(), &(TOTAL - RING).into()));
    let kept = service.output(&id);
    assert_eq!(kept.len() as u64, RING);
    assert!(kept == firehose_bytes(TOTAL - RING, TOTAL), "the last ring-full, byte by byte");
    let tail = service.cli(&["output", &id, "--tail", "2"]).expect(0).out();
    assert_eq!(tail, format!("{:015x}\n{:015x}", TOTAL / 16 - 2, TOTAL / 16 - 1));
}

/// Somebody follows and does not read; the writer is not held back, and the follower learns what it missed.
#[test]
fn a_slow_follower_is_told_what_it_missed() {
    const TOTAL: u64 = 64 << 20;
    const HEAD: &[u8; 16] = b"before the flood";
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let script = format!(
        "printf 'before the flood'; while [ ! -e {gate} ]; do sleep 0.02; done; exec {} {TOTAL}",
        fixture("firehose")
    );
    let id = service.start(&["--", "sh", "-c", &script]);
    let mut stream = service.command(&["stream", "--until-end", &id, "--since", "start"]);
    stream.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut stream = stream.spawn().expect("the binary is there");
    let mut stdout = stream.stdout.take().expect("a pipe");
    let mut read = vec![0; HEAD.len()];
    stdout.read_exact(&mut read).expect("it follows from the first byte on");
    assert_eq!(read, HEAD);
    fs::write(&gate, "").expect("the directory is ours");
    let begin = Instant::now();
    wait::until("the writer is done", LATER, || service.state(&id) == "stopped");
    println!("the writer took {:?} with a follower that does not read", begin.elapsed());
    // Now it reads on: whole records in order, and a note of every gap; together they are all that was
    // written.
    stdout.read_to_end(&mut read).expect("its pipe can be read");
    let mut notes = String::new();
    stream.stderr.take().expect("a pipe").read_to_string(&mut notes).expect("text");
    assert!(stream.wait().expect("it is our child").success(), "{notes}");
    assert!((read.len() as u64) < TOTAL, "everything fitted into the pipes: this shows nothing");
    let missed: u64 = notes.lines().filter_map(bytes_in).sum();
    assert_eq!(read.len() as u64 + missed, HEAD.len() as u64 + TOTAL, "read {}, notes: {notes}", read.len());
    assert!(read.ends_with(&firehose_bytes(TOTAL - 4096, TOTAL)), "its end is the writer's end");
}

/// The number before "bytes" in a note about a gap.
fn bytes_in(note: &str) -> Option<u64> {
    let args: Vec<&str> = note.split_whitespace().collect();
    let at = args.iter().position(|w| w.starts_with("byte"))?;
    args.get(at.checked_sub(1)?)?.replace([',', '_'], "").parse().ok()
}

#[test]
fn two_hundred_idle_children_cost_nothing() {
    let service = Options::new().alone().start();
    service.ok(&["start", "--name", "idle", "--instances", "200", "--", "sleep", "85000"]);
    let (keeper, engine) = (service.keeper_pid(), service.engine_pid());
    let count = || procfs::switches(keeper) + procfs::switches(engine);
    let before = procfs::at_rest(&[keeper, engine]);
    wait::pass(Duration::from_secs(10));
    let after = count();
    let (keeper_kib, engine_kib) = (procfs::private_kib(keeper), procfs::private_kib(engine));
    println!("own: keeper {keeper_kib} KiB, engine {engine_kib} KiB; wake-ups in 10 s: {}", after - before);
    assert_eq!(after - before, 0, "wake-ups in 10 s with 200 idle children");
    assert!(keeper_kib > 0 && engine_kib > 0);
    assert!(keeper_kib + engine_kib <= 9_000, "own: keeper {keeper_kib} KiB, engine {engine_kib} KiB");
    let all: Vec<Value> = service.list_json();
    assert!(all.iter().all(|p| p["state"] == "running"));
}
