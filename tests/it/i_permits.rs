//! Permits for calls that others make, and chains of providers that are tried in turn.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Options, Registry, SOON, Scratch, wait};

/// A registry whose breaker opens at two failures, with a credential behind a variable of the service.
fn with_key(scratch: &Scratch, recovery: &str) -> Registry {
    let config = scratch.file("provost.toml");
    let text = format!(
        "[registry.discovery]\nenable_environment_discovery = true\n\
         [[registry.discovery.environment]]\nvariable = 'SOME_KEY'\nname = 'key'\n\
         [registry.circuit_breaker]\nfailure_threshold = 2\nrecovery_timeout = '{recovery}'\n"
    );
    fs::write(&config, text).expect("the directory is ours");
    let registry =
        Registry::of(Options::new().through(&["env", "SOME_KEY=sk-1"]).serve(&["--config", &config]).start());
    registry.host();
    wait::until("the key is there", SOON, || registry.cli(&["has", "key"]).code == 0);
    registry
}

fn permit(registry: &Registry, more: &[&str]) -> Value {
    let out = registry.cli(&[&["permit", "key", "--json"], more].concat());
    out.expect(0);
    out.json().remove(0)
}

fn id(permit: &Value) -> &str {
    permit["permit"].as_str().expect("it has an id")
}

#[test]
fn what_others_call_has_a_breaker_that_they_report_to() {
    let scratch = Scratch::new();
    let registry = with_key(&scratch, "1s");
    // What says nothing about it and what went well does not count.
    for outcome in ["ignored", "ok", "ignored"] {
        registry.ok(&["report", id(&permit(&registry, &[])), outcome]);
    }
    assert_eq!(registry.entry("key")["breaker"]["failures"], 0);
    let (one, two) = (permit(&registry, &[]), permit(&registry, &[]));
    assert_eq!((&one["probe"], &one["name"]), (&json!(false), &json!("key")));
    assert_ne!(one["permit"], two["permit"]);
    registry.ok(&["report", id(&one), "failed", "--reason", "429: slow down"]);
    // Once is all that a permit is good for.
    assert_eq!(registry.reason(4, &["report", id(&one), "failed"]), "permit_not_found");
    registry.ok(&["report", id(&two), "failed", "--reason", "500: try later"]);
    let refused = registry.cli(&["permit", "key", "--json"]);
    refused.expect(6);
    let error = &refused.json()[0]["error"];
    assert!(
        error["reason"] == "circuit_open" && error["message"].as_str().unwrap().contains("500: try later")
    );
    let after = error["retry_after_ms"].as_u64().expect("it says when");
    assert!((1..=1_100).contains(&after), "{after}");
    // Of those that come when it is due, one is the probe; the others are refused until it is reported.
    let probe = wait::until_some("a probe is let through", SOON, || {
        let out = registry.cli(&["permit", "key", "--json"]);
        (out.code == 0).then(|| out.json().remove(0))
    });
    assert_eq!(probe["probe"], true);
    registry.cli(&["permit", "key"]).expect(6);
    registry.ok(&["report", id(&probe), "ok"]);
    assert_eq!(registry.entry("key")["breaker"]["state"], "closed");
    let kinds = registry.kinds_until("key", "circuit-breaker-closed");
    assert!(kinds.contains(&"circuit-breaker-opened".to_owned()), "{kinds:?}");
    assert_eq!(registry.reason(4, &["permit", "nobody"]), "not_found");
    registry.cli(&["permit", "key", "--expires", "2h"]).expect(2);
}

#[test]
fn a_permit_that_is_never_reported_gives_its_place_back() {
    let scratch = Scratch::new();
    let registry = with_key(&scratch, "1s");
    for _ in 0..2 {
        registry.ok(&["report", id(&permit(&registry, &[])), "failed"]);
    }
    let probe = wait::until_some("a probe is let through", SOON, || {
        let out = registry.cli(&["permit", "key", "--expires", "300ms", "--json"]);
        (out.code == 0).then(|| out.json().remove(0))
    });
    registry.cli(&["permit", "key"]).expect(6);
    // Nobody says anything: another one may probe long before the breaker itself would give up (30 s).
    let next = wait::until_some("the next one is the probe", SOON, || {
        let out = registry.cli(&["permit", "key", "--json"]);
        (out.code == 0).then(|| out.json().remove(0))
    });
    assert!(next["probe"] == true && next["permit"] != probe["permit"]);
    assert_eq!(registry.reason(4, &["report", id(&probe), "ok"]), "permit_not_found");
    assert_eq!(registry.entry("key")["breaker"]["state"], "half-open");
    registry.ok(&["report", id(&next), "ok"]);
    assert_eq!(registry.entry("key")["breaker"]["state"], "closed");
    // It is good for a provider that is called by others, too, and starts nobody.
    registry.register("app");
    registry.ok(&["stop", "app"]);
    let one = registry.ok(&["permit", "app"]);
    assert_eq!(registry.status("app"), "stopped");
    registry.ok(&["hold", "app", "--reason", "repairs"]);
    // What began before does not count for what the breaker has become.
    registry.ok(&["report", one.trim(), "ok"]);
    assert_eq!(registry.entry("app")["breaker"]["state"], "isolated");
    registry.cli(&["permit", "app"]).expect(6);
}

#[test]
fn a_chain_tries_in_turn_and_says_why_each_was_passed_over() {
    let registry = Registry::start();
    for name in ["one", "two", "held"] {
        registry.register(name);
    }
    registry.ok(&["hold", "held", "--reason", "repairs"]);
    let chain = |names: &str, more: &[&str]| registry.cli(&[&["chain", names], more].concat());
    let value = |out: &crate::harness::Output| out.expect(0).out().trim().to_owned();
    let pid = |name: &str| registry.pid(name).to_string();
    assert_eq!(value(&chain("one,two", &["pid", "--unwrap"])), pid("one"));
    let passed = chain("nobody,held,two", &["pid", "--unwrap"]);
    assert_eq!(value(&passed), pid("two"));
    assert!(
        passed.err().contains("nobody was passed over") && passed.err().contains("repairs"),
        "{passed:?}"
    );
    // One that takes too long is left; what is left of the time is for the others.
    let late = chain("one,held", &["hang", "--timeout", "500ms", "--json"]);
    late.expect(6);
    let error = &late.json()[0]["error"];
    let message = error["message"].as_str().expect("it is text");
    assert!(
        error["reason"] == "no_available_provider" && message.contains("one: ") && message.contains("held: ")
    );
    // Nobody has it: each says why.
    let none = chain("one,two,nobody", &["nothing"]);
    none.expect(6);
    assert!(
        none.err().matches("path not found").count() == 2 && none.err().contains("is not registered"),
        "{none:?}"
    );
    // One that is not well comes last.
    registry.binary("ill", "by-file /dev/null");
    let file = registry.0.scratch().file("health");
    fs::write(&file, "degraded").expect("it is ours");
    registry.binary("ill", &format!("by-file {file}"));
    registry.ok(&["register", "ill", "--binary", "ill"]);
    registry.ok(&["health", "ill"]);
    assert_eq!(value(&chain("ill,two", &["pid", "--unwrap"])), pid("two"));
    assert_eq!(value(&chain("ill", &["pid", "--unwrap"])), pid("ill"));
    // A permit of the first that lets calls through.
    let permit = chain("held,one", &["--permit", "--json"]);
    permit.expect(0);
    assert_eq!(permit.json()[0]["name"], "one");
    registry.ok(&["report", id(&permit.json()[0]), "ok"]);
}
