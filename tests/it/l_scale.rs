//! Many processes at once, and many one after another: each costs what it should, and nothing when nothing
//! happens.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use provost::Spec;
use provost::wire::id::ProcessId;
use provost::wire::request::{Numbering, Start};

use crate::harness::{LATER, Options, Service, procfs, rounds, wait};

/// How many idle processes.
const SLEEPERS: usize = 500;

/// 500 processes with nothing to do.
#[test]
fn l1_five_hundred_sleepers_cost_nothing() {
    let service = Options::new().alone().start();
    service.ok(&["list"]);
    let before = service.footprint();
    let begin = Instant::now();
    service.ok(&["start", "--name", "nap", "--instances", "500", "--", "sleep", "75000"]);
    println!("{SLEEPERS} started after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(20), "started after {:?}", begin.elapsed());
    expect_price(&service, before);

    // Nothing happens, so nobody wakes up.
    let pids = [service.keeper_pid(), service.engine_pid()];
    let switches = || pids.map(procfs::switches).iter().sum::<u64>();
    let (first, rss) = (procfs::at_rest(&pids), pids.map(procfs::rss_kib));
    wait::pass(Duration::from_secs(3));
    assert_eq!(switches() - first, 0, "wake-ups in 3 s");
    println!("resident: keeper {} KiB, engine {} KiB", rss[0], rss[1]);
    assert!(rss[0] < 20 << 10 && rss[1] < 60 << 10, "{rss:?} KiB for {SLEEPERS} processes");

    // The next engine has them all, at the same price.
    let old: Vec<_> = service.list_json().iter().map(|p| p["pid"].clone()).collect();
    let begin = Instant::now();
    service.kill_engine();
    println!("the next engine answers after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(5), "back after {:?}", begin.elapsed());
    let new: Vec<_> = service.list_json().iter().map(|p| p["pid"].clone()).collect();
    assert_eq!(old, new);
    expect_price(&service, before);

    let begin = Instant::now();
    service.ok(&["stop", "*"]);
    println!("{SLEEPERS} stopped after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(20), "stopped after {:?}", begin.elapsed());
    assert_eq!(service.below(), Vec::<u32>::new());
    service.ok(&["remove", "*"]);
    service.until_footprint(before);
}

/// Three descriptors and one thread for each process, and `list` within a second.
#[track_caller]
fn expect_price(service: &Service, before: [(usize, usize); 2]) {
    let list = service.cli(&["list"]);
    list.expect(0);
    assert_eq!(list.out().lines().count(), SLEEPERS);
    assert!(list.took < Duration::from_secs(1), "list took {:?}", list.took);
    let now = service.footprint();
    for (n, b) in now.iter().zip(before) {
        // A handful more for what comes and goes.
        assert!(n.0 <= b.0 + 3 * SLEEPERS + 8, "descriptors: before {before:?}, now {now:?}");
    }
    assert_eq!(now[0].1, 1, "the keeper has one thread");
    assert!(now[1].1 <= before[1].1 + SLEEPERS + 4, "threads: before {before:?}, now {now:?}");
}

/// 1,000 starts and stops by 32 clients over many processes, each told truly.
#[test]
fn l2_a_thousand_starts_and_stops_by_32() {
    const CLIENTS: u32 = 32;
    let service = Service::new();
    service.ok(&["list"]);
    let before = service.footprint();
    let left = AtomicU32::new(rounds(1000));
    let runs: u32 = thread::scope(|scope| {
        let (service, left) = (&service, &left);
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| scope.spawn(move || start_and_stop(service, n, left))).collect();
        clients.into_iter().map(|c| c.join().expect("every answer was right")).sum()
    });
    assert!(runs >= rounds(1000), "{runs} runs");
    assert_eq!(service.below(), Vec::<u32>::new(), "nothing is left");
    let events = service.ok(&["events", "--json"]);
    assert!(!events.is_empty());
    assert_eq!(service.list_json().len(), CLIENTS as usize);
    service.expect_no_zombies();
    service.expect_answer();
    service.ok(&["remove", "*"]);
    service.until_footprint(before);
}

/// Starts and stops a process of its own for as long as there is work; how many runs that made.
fn start_and_stop(service: &Service, n: u32, left: &AtomicU32) -> u32 {
    let mut client = service.client();
    let mut spec = Spec::new(["sleep", "75001"]);
    spec.name = Some(format!("p{n}").parse().expect("a name"));
    let id = ProcessId::new();
    let start = Start { spec, ids: vec![id], numbering: Numbering::Single };
    let items = client.start(start).expect("the service answers");
    assert!(items.iter().all(|item| item.error.is_none()), "{items:?}");
    let id = id.to_string();
    let mut run = 1;
    loop {
        let stopped = service.stop_by(&mut client, &id);
        assert_eq!((stopped.run, stopped.pid, stopped.state.name()), (run, None, "stopped"));
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err() {
            return u32::try_from(run).expect("a small number");
        }
        let started = service.start_by(&mut client, &id);
        run += 1;
        assert_eq!((started.run, started.state.name()), (run, "running"));
        let pid = started.pid.expect("it runs");
        assert!(procfs::alive(pid), "{pid} runs");
    }
}

/// 300 that end at the same instant: each end is told once, and those that are to come back do.
#[test]
fn l6_all_killed_at_once() {
    let service = Service::new();
    let restart = ["--restart", "on-failure", "--restart-delay", "50ms", "--max-restarts", "none"];
    let start = [&["start", "--name", "many", "--instances", "300"], &restart[..], &["--", "sleep", "75002"]];
    service.ok(&start.concat());
    let pids = service.below();
    assert_eq!(pids.len(), 300);
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut kill = std::process::Command::new("kill");
    kill.arg("-KILL").args(&list);
    crate::harness::cli::run(kill, LATER).expect(0);
    wait::until("all of them run again", LATER, || {
        let all = service.list_json();
        all.iter().all(|p| p["state"] == "running" && p["run"] == 2)
    });
    let exits = service.ok(&["events", "--json"]);
    let exits = exits.lines().filter(|line| line.contains("\"kind\":\"exited\"")).count();
    assert_eq!(exits, 300, "each end is told once");
    assert!(
        service.below().iter().all(|pid| !pids.contains(pid) && fs::exists(format!("/proc/{pid}")).is_ok())
    );
    service.ok(&["stop", "*"]);
}
