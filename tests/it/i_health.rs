//! Providers are asked how they are while nobody calls them, and what ends is known when it ends.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Registry, SOON, Scratch, procfs, wait};

const QUICK: &str = "[registry.health]
check_interval = '200ms'
timeout = '400ms'
retries = 0
failure_threshold = 2
success_threshold = 2
[registry.circuit_breaker]
failure_threshold = 1000
";

fn checked_at(registry: &Registry, name: &str) -> Value {
    registry.entry(name)["health"]["at"].clone()
}

/// Waits until it was checked so often more.
fn until_checked(registry: &Registry, name: &str, times: usize) {
    for _ in 0..times {
        let before = checked_at(registry, name);
        wait::until("it is checked", SOON, || checked_at(registry, name) != before);
    }
}

fn health_changes(registry: &Registry, name: &str) -> Vec<String> {
    let events = registry.events(name).into_iter().filter(|e| e["kind"] == "health-status-changed");
    events.map(|e| e["detail"].as_str().expect("it is text").to_owned()).collect()
}

#[test]
fn a_provider_that_hangs_is_degraded_and_delays_no_other() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, QUICK);
    let state = scratch.file("state");
    registry.binary("sick", &format!("by-file {state}"));
    registry.ok(&["register", "sick", "--binary", "sick"]);
    registry.register("well");
    // Nobody asks for it.
    until_checked(&registry, "sick", 2);
    assert_eq!((registry.status("sick"), health_changes(&registry, "sick")), ("ready".into(), Vec::new()));
    fs::write(&state, "hang").expect("it is ours");
    wait::until("it is degraded", SOON, || registry.status("sick") == "degraded");
    assert_eq!(registry.entry("sick")["health"]["status"], "failed");
    until_checked(&registry, "well", 3);
    assert_eq!(registry.status("well"), "ready");
    fs::write(&state, "fine").expect("it is ours");
    wait::until("it is ready again", SOON, || registry.status("sick") == "ready");
    let changes = health_changes(&registry, "sick");
    assert!(
        changes.len() == 2 && changes[0].starts_with("failed: ") && changes[1] == "ok: fine",
        "{changes:?}"
    );
    // What it says of itself holds at once.
    fs::write(&state, "degraded").expect("it is ours");
    wait::until("it says so", SOON, || registry.status("sick") == "degraded");
    assert_eq!(health_changes(&registry, "sick")[2..], ["degraded: so so"]);
}

/// Of those that were started one after the other, too.
#[test]
fn a_round_of_checks_wakes_the_one_who_has_the_schedule_a_few_times_for_all() {
    const PROVIDERS: usize = 24;
    /// For the round and the ends of its threads, and for looks where the machine is slow.
    const WAITS_MAX: u64 = 16;
    let interval = Duration::from_secs(2);
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, "[registry.health]\ncheck_interval = '2s'\n");
    let names: Vec<_> = (0..PROVIDERS).map(|n| format!("p{n}")).collect();
    names.iter().for_each(|name| registry.register(name));
    let host = registry.0.pid("provost.host");
    let at = || -> Vec<_> { names.iter().map(|name| checked_at(&registry, name)).collect() };
    let (before, begin) = (procfs::waits_of(host, "health"), Instant::now());
    for _ in 0..3 {
        let last = at();
        wait::until("all are checked", SOON, || at().iter().zip(&last).all(|(at, last)| at != last));
    }
    let waits = procfs::waits_of(host, "health") - before;
    // It may have been looked for less often than there were rounds.
    let rounds = begin.elapsed().as_secs() / interval.as_secs() + 2;
    assert!(waits <= WAITS_MAX * rounds, "{waits} waits in {rounds} rounds of {PROVIDERS} checks");
}

#[test]
fn without_a_word_of_the_registry_only_its_own_entries_are_asked() {
    let registry = Registry::start();
    registry.register("registered");
    registry.0.ok(&["provider", "start", "started", "--binary", "fine"]);
    let interval = |name| registry.entry(name)["check_interval_ms"].clone();
    assert_eq!([interval("registered"), interval("started")], [json!(30_000), json!(null)]);
    registry.ok(&["monitor", "stop", "registered"]);
    registry.ok(&["monitor", "start", "started"]);
    assert_eq!([interval("registered"), interval("started")], [json!(null), json!(30_000)]);
}

#[test]
fn monitoring_is_stopped_and_started_for_one_and_for_all() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, QUICK);
    registry.register("one");
    registry.register("two");
    assert_eq!(registry.entry("one")["check_interval_ms"], 200);
    until_checked(&registry, "one", 1);
    registry.ok(&["monitor", "stop", "one"]);
    assert_eq!(registry.entry("one")["check_interval_ms"], json!(null));
    // One check may have been under way.
    until_checked(&registry, "two", 2);
    let last = checked_at(&registry, "one");
    until_checked(&registry, "two", 3);
    assert_eq!(checked_at(&registry, "one"), last);
    // The next host knows it.
    procfs::signal("KILL", registry.0.pid("provost.host"));
    wait::until("the host answers", SOON, || registry.cli(&["show", "one"]).code == 0);
    assert_eq!(registry.entry("one")["check_interval_ms"], json!(null));
    until_checked(&registry, "two", 1);
    assert_eq!(checked_at(&registry, "one"), json!(null));
    registry.ok(&["monitor", "start", "--interval", "300ms"]);
    assert_eq!(registry.entry("two")["check_interval_ms"], 300);
    until_checked(&registry, "one", 2);
    assert_eq!(registry.reason(4, &["monitor", "start", "three"]), "not_found");
    assert!(registry.0.ok(&["audit"]).contains("check the health of provider one no more: done"));
}

#[test]
fn a_check_is_no_use_and_starts_nobody() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, QUICK);
    registry.ok(&["register", "app", "--binary", "fine", "--idle-timeout", "1s"]);
    registry.register("other");
    wait::until("it rests", SOON, || registry.status("app") == "idle");
    until_checked(&registry, "other", 3);
    assert_eq!((registry.status("app"), &registry.entry("app")["starts"]), ("idle".into(), &json!(1)));
    registry.fetch("app").expect(0);
    until_checked(&registry, "app", 1);
}

#[test]
fn a_crash_is_told_when_it_happens() {
    let registry = Registry::start();
    registry.register("app");
    registry.kill("app");
    registry.kinds_until("app", "provider-error");
    let events = registry.events("app");
    let last = events.last().expect("there is one");
    assert_eq!((&last["detail"], &last["cause"]), (&json!("ended by itself: SIGKILL"), &json!("exit")));
    assert_eq!(
        (registry.status("app"), &registry.entry("app")["breaker"]["failures"]),
        ("idle".into(), &json!(1))
    );
    // It counts once, also when it is started again.
    registry.fetch("app").expect(0);
    assert_eq!(registry.entry("app")["breaker"]["failures"], 1);
    // So does one in the middle of a call.
    registry.0.cli(&["provider", "fetch", "app", "die"]).expect(1);
    registry.kinds_until("app", "provider-error");
    assert_eq!(registry.entry("app")["breaker"]["failures"], 2);
    // The end of an engine ends no provider, and crashes are told after it.
    registry.fetch("app").expect(0);
    registry.0.kill_engine();
    registry.kill("app");
    registry.kinds_until("app", "provider-error");
}
