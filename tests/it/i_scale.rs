//! Many providers at once, and many one after another.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use provost::Client;
use provost::wire::provider::{Definition, ProviderName};
use provost::wire::registration::Registration;
use provost::wire::registry::{RegistryCall, Verb, Whom};
use provost::wire::remote_end::RemoteEnd;

use crate::harness::{LATER, Registry, Scratch, procfs, rounds, wait};
use crate::i_elsewhere::Elsewhere;

/// Threads that register at the same time.
const CLIENTS: u32 = 8;

fn call(host: &mut Client, alias: &str, verb: Verb) {
    let whom = Whom::One(ProviderName::new("", alias).expect("it is a name"));
    host.registry(RegistryCall { whom, verb }).expect("it is done");
}

fn register(host: &mut Client, alias: &str, binary: &str) {
    let definition = Definition { binary: binary.into(), ..Definition::default() };
    let r = Registration { kind: "process".into(), definition, namespace: None, labels: Vec::new() };
    call(host, alias, Verb::Register(Box::new(r)));
}

/// Has threads do the work for each number below this one.
fn by_clients(registry: &Registry, count: u32, work: impl Fn(&mut Client, u32) + Sync) {
    // The host is run before they begin.
    registry.host();
    let next = AtomicU32::new(0);
    let (next, work) = (&next, &work);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                let mut host = registry.host();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    work(&mut host, n);
                }
            });
        }
    });
}

#[test]
fn of_two_hundred_providers_of_which_fifty_hang_each_is_accounted_for() {
    let registry = Registry::start();
    registry.binary("hanging", "hang-in-shutdown");
    by_clients(&registry, 200, |host, n| {
        if n % 4 == 0 {
            register(host, &format!("hanging{n}"), "hanging");
        } else {
            register(host, &format!("fine{n}"), "fine");
        }
    });
    let all = registry.cli(&["list"]).json();
    let pids: Vec<_> = all.iter().map(|e| e["pid"].as_u64().expect("it runs")).collect();
    assert_eq!(pids.len(), 200);
    let begin = Instant::now();
    let out = registry.cli(&["shutdown", "--json"]);
    println!("shut down after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    out.expect(8);
    let entries = out.json();
    assert!(entries.len() == 200 && entries.iter().all(|e| e["status"] == "disposed"), "{entries:?}");
    let err = out.err();
    for n in (0..200).step_by(4) {
        let line = format!("provider hanging{n}: did not end by itself and was killed");
        assert!(err.contains(&line), "{n}: {err}");
    }
    let host = || String::from_utf8_lossy(&registry.0.output("provost.host")).into_owned();
    assert!(!err.contains("fine"), "{err}\n{}", host());
    assert!(pids.into_iter().all(|pid| !procfs::alive(u32::try_from(pid).expect("it is a pid"))));
}

#[test]
fn i7_registrations_that_come_and_go_leave_nothing_and_are_told_in_order() {
    let registry = Registry::start();
    let cycle = |host: &mut Client, n: u32| {
        let alias = format!("app{n}");
        register(host, &alias, "fine");
        call(host, &alias, Verb::Unregister);
    };
    let host = || registry.0.pid("provost.host");
    let size = |pid| (procfs::fd_count(pid), procfs::thread_count(pid));
    // What is made once is there.
    by_clients(&registry, 50, cycle);
    let footprint = registry.0.footprint();
    let (pid, before, memory) = (host(), size(host()), procfs::private_kib(host()));
    let begin = Instant::now();
    by_clients(&registry, rounds(300), cycle);
    assert_eq!(host(), pid);
    let is_flat = || {
        let now = size(pid);
        now.0 <= before.0 + 2 && now.1 <= before.1 + 2
    };
    wait::until("descriptors and threads are given back", LATER, is_flat);
    let grown = procfs::private_kib(pid).saturating_sub(memory);
    let each = begin.elapsed() / rounds(300);
    println!("{} cycles, {each:?} each: {before:?}, {grown} KiB more", rounds(300));
    assert!(grown < 8 << 10, "{grown} KiB");
    registry.0.until_footprint(footprint);
    assert_eq!(registry.ok(&["list"]), "");
    // Each was told in order, also where eight came and went at the same time.
    let last = format!("app{}", rounds(300) - 1);
    let kinds = registry.kinds_until(&last, "provider-unregistered");
    let in_order =
        ["provider-registered", "provider-started", "provider-stopped", "provider-unregistered"].repeat(2);
    // The first ones have come twice.
    assert!(kinds == in_order[..4] || kinds == in_order, "{kinds:?}");
    let left: Vec<_> =
        procfs::with_command("rude fine").into_iter().filter(|&p| registry.0.is_marked(p)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// With `PROVOST_TEST_ROUNDS=10` there are ten thousand.
#[test]
fn thousands_that_run_elsewhere_take_memory_in_proportion_and_few_descriptors() {
    const DESCRIPTORS_MAX: usize = 700;
    let (scratch, there) = (Scratch::new(), Elsewhere::start("fine"));
    let all = rounds(1000);
    // As long as by default where there are ten thousand.
    let interval = if all > 1000 { 30 } else { 15 };
    let config = format!("[registry.health]\ncheck_interval = '{interval}s'\n");
    let registry = Registry::configured(&scratch, &config);
    let end = RemoteEnd::new(&there.address(), None).expect("it is on this machine");
    let definition = Definition { remote: Some(end), ..Definition::default() };
    let pid = || registry.0.pid("provost.host");
    let add = |from: u32, to: u32| {
        by_clients(&registry, to - from, |host, n| {
            let r = Registration {
                kind: "remote".into(),
                definition: definition.clone(),
                namespace: None,
                labels: Vec::new(),
            };
            // One end plays them all, and takes 64 calls at a time: on a busy machine it refuses some.
            let whom = Whom::One(ProviderName::new("", &format!("there{}", from + n)).expect("it is a name"));
            let call = RegistryCall { whom, verb: Verb::Register(Box::new(r)) };
            wait::until("it is registered", LATER, || match host.registry(call.clone()) {
                Ok(_) => true,
                Err(e) if e.reason == "registration_failed" => false,
                Err(e) => panic!("{e:?}"),
            });
        });
        assert!(procfs::fd_count(pid()) < DESCRIPTORS_MAX, "{}", procfs::fd_count(pid()));
        procfs::private_kib(pid())
    };
    // What is made once is there after the first tenth; then there are two equal parts.
    let (first, half) = (all / 10, all / 10 + all * 9 / 20);
    let begin = Instant::now();
    let (before, middle, after) = (add(0, first), add(first, half), add(half, all));
    let (one, other) = (middle.saturating_sub(before), after.saturating_sub(middle));
    println!("{all} after {:?}: {before} KiB, then {one} and {other} more", begin.elapsed());
    assert!(other <= one + one / 2 + (4 << 10), "it grows faster than they do: {one}, {other} KiB");
    assert!((one + other) / u64::from(all) < 24, "{} KiB for {all}", one + other);
    // They are checked, each by a channel that is given back, and are found all at once.
    let entries = || {
        let whole = RegistryCall { whom: Whom::All(None), verb: Verb::Show };
        registry.host().registry(whole).expect("it is answered").entries
    };
    wait::until("all are checked", LATER, || {
        assert!(procfs::fd_count(pid()) < DESCRIPTORS_MAX, "{}", procfs::fd_count(pid()));
        let entries = entries();
        assert_eq!(entries.len(), all as usize);
        entries.iter().all(|e| e.check.as_ref().is_some_and(|check| check.health == "ok"))
    });
    let last = registry.entry(&format!("there{}", all - 1));
    assert_eq!(last["status"], "ready");
}
