//! Providers whose process ends while no host runs: the next host finds what has ended, tells it, and counts
//! it as if it had been there, once.

use crate::harness::{Registry, SOON, Scratch, procfs, wait};

/// Ends the host; the next one is run when somebody asks.
fn kill_host(registry: &Registry) {
    let host = registry.0.pid("provost.host");
    procfs::signal("KILL", host);
    wait::until("the host is gone", SOON, || !procfs::alive(host));
}

/// The host that has just begun looks at what has happened meanwhile beside its first answers.
fn until_failures(registry: &Registry, count: u64) {
    let failures = || registry.entry("app")["breaker"]["failures"].as_u64();
    wait::until("it is counted", SOON, || failures() == Some(count));
}

/// What was told of its crashes.
fn crashes(registry: &Registry) -> Vec<String> {
    let events = registry.events("app").into_iter().filter(|event| event["kind"] == "provider-error");
    events.map(|event| event["detail"].as_str().expect("it is text").to_owned()).collect()
}

#[test]
fn what_ends_while_no_host_runs_counts_for_the_breaker_once() {
    let registry = Registry::start();
    registry.register("app");
    for n in 1..=5 {
        let pid = registry.pid("app");
        kill_host(&registry);
        procfs::signal("KILL", pid);
        wait::until("it has ended", SOON, || !procfs::alive(pid));
        if n == 5 {
            wait::until("it opens", SOON, || registry.entry("app")["breaker"]["state"] == "open");
            break;
        }
        until_failures(&registry, n);
        assert_eq!(registry.entry("app")["breaker"]["state"], "closed");
        wait::until("it is told", SOON, || crashes(&registry).len() == n as usize);
        // Another host has nothing to add.
        kill_host(&registry);
        until_failures(&registry, n);
        registry.fetch("app").expect(0);
    }
    assert_eq!(registry.fetch_reason(6, "app"), "circuit_open");
    registry.kinds_until("app", "circuit-breaker-opened");
    let all = crashes(&registry);
    assert!(all.len() == 5 && all.iter().all(|why| why.contains("SIGKILL")), "{all:?}");
}

#[test]
fn what_was_seen_before_the_host_ended_is_not_counted_again() {
    let registry = Registry::start();
    registry.register("app");
    registry.kill("app");
    wait::until("it is told", SOON, || crashes(&registry).len() == 1);
    kill_host(&registry);
    until_failures(&registry, 1);
    registry.fetch("app").expect(0);
    assert_eq!(crashes(&registry).len(), 1);
}

#[test]
fn what_a_person_stops_while_no_host_runs_is_no_crash() {
    let registry = Registry::start();
    registry.register("app");
    kill_host(&registry);
    registry.0.ok(&["stop", "provider.default.app"]);
    assert_eq!(registry.entry("app")["breaker"]["failures"], 0);
    registry.fetch("app").expect(0);
    assert_eq!(crashes(&registry), [""; 0]);
}

#[test]
fn what_a_person_stops_is_no_crash() {
    let registry = Registry::start();
    registry.register("app");
    registry.0.ok(&["stop", "provider.default.app"]);
    registry.kinds_until("app", "provider-stopped");
    assert_eq!(registry.entry("app")["breaker"]["failures"], 0);
    registry.fetch("app").expect(0);
    assert_eq!(crashes(&registry), [""; 0]);
}

#[test]
fn starts_and_ends_of_before_count_for_the_limit_of_starts() {
    let scratch = Scratch::new();
    // The breaker is not to be first.
    let registry = Registry::configured(&scratch, "[registry.circuit_breaker]\nfailure_threshold = 100\n");
    registry.register("app");
    for n in 1..=5 {
        let pid = registry.pid("app");
        kill_host(&registry);
        procfs::signal("KILL", pid);
        wait::until("it has ended", SOON, || !procfs::alive(pid));
        until_failures(&registry, n);
        if n < 5 {
            registry.fetch("app").expect(0);
        }
    }
    // The fifth start in a minute was the last one, though no host has seen more than one of them.
    assert_eq!(registry.status("app"), "error");
    assert_eq!(registry.fetch_reason(1, "app"), "crashed");
    assert_eq!(registry.entry("app")["pid"], serde_json::json!(null));
    registry.ok(&["reset", "app"]);
    registry.fetch("app").expect(0);
    // What was forgotten stays so: for the next host this end is the first one.
    let pid = registry.pid("app");
    kill_host(&registry);
    procfs::signal("KILL", pid);
    wait::until("it has ended", SOON, || !procfs::alive(pid));
    until_failures(&registry, 1);
    registry.fetch("app").expect(0);
}
