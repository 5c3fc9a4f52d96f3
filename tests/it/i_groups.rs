//! Entries that stand in for each other: the last one of a group that takes calls is not taken out.

use serde_json::json;

use crate::harness::{Registry, SOON, Scratch, procfs, wait};

/// Kills it, until this many failures count, and has it running again where that is allowed.
fn fail(registry: &Registry, name: &str, times: u64) {
    for n in 1..=times {
        registry.kill(name);
        let breaker = || registry.entry(name)["breaker"].clone();
        wait::until("it is counted", SOON, || {
            let now = breaker();
            now["state"] == "open" || now["failures"].as_u64() >= Some(n)
        });
        if breaker()["state"] == "closed" {
            registry.fetch(name).expect(0);
        }
    }
}

#[test]
fn i11_the_last_of_a_group_that_takes_calls_is_not_taken_out() {
    let scratch = Scratch::new();
    let text = "[registry.circuit_breaker]\nfailure_threshold = 2\n\
                [providers.conf]\nbinary = 'fine'\nlazy = true\n[providers.conf.labels]\ngroup = 'web'\n";
    let registry = Registry::configured(&scratch, text);
    let state = |name: &str| registry.entry(name)["breaker"]["state"].clone();
    for name in ["a", "b"] {
        registry.ok(&["register", name, "--binary", "fine", "--label", "group=web"]);
    }
    assert_eq!(registry.entry("conf")["labels"], json!({ "group": "web" }));
    registry.fetch("conf").expect(0);
    fail(&registry, "conf", 2);
    fail(&registry, "a", 2);
    fail(&registry, "b", 2);
    assert_eq!((state("conf"), state("a"), state("b")), (json!("open"), json!("open"), json!("closed")));
    // When another one takes calls again, its next failure takes it out.
    registry.ok(&["reset", "a"]);
    registry.fetch("a").expect(0);
    fail(&registry, "b", 1);
    wait::until("it is open", SOON, || state("b") == "open");
    // The next host knows who is left; what a person says holds all the same.
    procfs::signal("KILL", registry.0.pid("provost.host"));
    wait::until("the host answers", SOON, || registry.cli(&["has", "a"]).code == 0);
    fail(&registry, "a", 2);
    assert_eq!(state("a"), "closed");
    registry.ok(&["hold", "a", "--reason", "repairs"]);
    assert_eq!(state("a"), "isolated");
}

#[test]
fn the_last_of_a_group_is_taken_out_where_that_is_wanted() {
    let scratch = Scratch::new();
    let text = "[registry.circuit_breaker]\nfailure_threshold = 2\nopen_last = true\n";
    let registry = Registry::configured(&scratch, text);
    registry.ok(&["register", "a", "--binary", "fine", "--label", "group=web"]);
    fail(&registry, "a", 2);
    assert_eq!(registry.entry("a")["breaker"]["state"], "open");
}
