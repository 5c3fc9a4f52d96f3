//! Namespaces of the module plane as entries of the registry.

use serde_json::json;

use crate::harness::{SOON, wait};
use crate::plane::Plane;

#[test]
fn a_namespace_is_an_entry_with_health_breaker_and_permits() {
    let plane = Plane::with(
        "heartbeat_timeout = '2s'\n[registry.circuit_breaker]\nfailure_threshold = 2\nrecovery_timeout = '1s'\n",
    );
    let registry = |args: &[&str]| plane.service.cli(&[&["registry"], args, &["--json"]].concat());
    let entry = || registry(&["show", "orders"]).json().remove(0);
    let reason = |out: &crate::harness::Output| out.json()[0]["error"]["reason"].clone();
    // Its members need not be there.
    registry(&["register", "orders", "--namespace", "demo", "--label", "team=web"]).expect(0);
    let first = entry();
    assert_eq!(
        (&first["type"], &first["namespace"], &first["status"], &first["binary"]),
        (&json!("module"), &json!("demo"), &json!("error"), &json!(""))
    );
    let other = registry(&["register", "other", "--namespace", "demo"]);
    other.expect(2);
    assert_eq!(reason(&other), "invalid_config");
    let provider = plane.outside(&["demo"], &[]);
    wait::until("it is well", SOON, || entry()["status"] == "ready");
    assert_eq!(plane.call("demo.add", &json!({ "a": 6, "b": 7 })), 13);
    let health = registry(&["health", "orders"]);
    health.expect(0);
    assert_eq!(health.json()[0]["health"]["message"], "1 member");
    // What is for processes is not for it, and nothing of it is given out as a value.
    for args in [&["start", "orders"][..], &["dispose", "orders"], &["chain", "orders", "x"]] {
        registry(args).expect(6);
    }
    assert_eq!(reason(&registry(&["stop", "orders"])), "module");
    registry(&["stop", "--all"]).expect(0);
    let permit = registry(&["permit", "orders"]);
    permit.expect(0);
    registry(&["report", permit.json()[0]["permit"].as_str().expect("it has an id"), "ok"]).expect(0);
    // It survives the host, and its members that are gone open its breaker.
    plane.kill_host();
    assert_eq!(entry()["labels"], json!({ "team": "web" }));
    provider.signal("KILL");
    wait::until("calls are refused", SOON, || {
        let out = plane.cli(&["call", "demo.add", "--input", r#"{"a":1,"b":1}"#, "--json"]);
        assert_ne!(out.code, 0);
        out.code == 6 && reason(&out) == "circuit_open"
    });
    assert!(matches!(entry()["breaker"]["state"].as_str(), Some("open" | "half-open")), "{}", entry());
    wait::until("its namespace is free", SOON, || plane.connections().is_empty());
    let _next = plane.outside(&["demo"], &[]);
    wait::until("a probe succeeds", SOON, || plane.cli(&["call", "demo.who"]).code == 0);
    assert_eq!(entry()["breaker"]["state"], "closed");
    registry(&["hold", "orders", "--reason", "repairs"]).expect(0);
    plane.cli(&["call", "demo.who"]).expect(6);
    // Without its entry the namespace is as every other one.
    registry(&["unregister", "orders"]).expect(0);
    plane.cli(&["call", "demo.who"]).expect(0);
}

#[test]
fn each_input_of_a_batch_is_a_call_for_the_breaker_of_its_namespace() {
    let plane = Plane::with(
        "heartbeat_timeout = '30s'\n[registry.circuit_breaker]\nfailure_threshold = 2\nrecovery_timeout = '1s'\n",
    );
    let registry = |args: &[&str]| plane.service.cli(&[&["registry"], args, &["--json"]].concat());
    let breaker = || registry(&["show", "orders"]).json()[0]["breaker"]["state"].clone();
    let batch = || {
        let inputs = ["[{},{},{},{}]", "--parallel", "1", "--timeout", "500ms", "--json"];
        plane.cli(&[&["call", "demo.who", "--batch"], &inputs[..]].concat())
    };
    registry(&["register", "orders", "--namespace", "demo"]).expect(0);
    let provider = plane.outside(&["demo"], &[]);
    assert_eq!(batch().expect(0).json().len(), 4);
    // It is there and does not answer.
    provider.signal("STOP");
    let all = batch().json();
    let reasons: Vec<_> = all.iter().map(|one| &one["error"]["reason"]).collect();
    assert!(all.len() == 4 && reasons[..2].iter().all(|r| **r != "circuit_open"), "{all:?}");
    assert_eq!(reasons[2..], ["circuit_open", "circuit_open"], "{all:?}");
    assert_eq!(breaker(), "open");
    // One that begins while it is open is refused as a whole, and a later one probes.
    batch().expect(6);
    provider.signal("CONT");
    wait::until("the first of a batch is the probe", SOON, || batch().code == 0);
    assert_eq!(breaker(), "closed");
}
