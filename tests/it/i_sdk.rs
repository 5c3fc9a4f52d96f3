//! Providers of modules in Rust, made with the SDK (docs/words-module.rs).

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Running, SOON, binary, wait};
use crate::plane::{Plane, until_host};

/// How long a provider may take to be back once the service is.
const BACK: Duration = Duration::from_secs(5);

fn example() -> PathBuf {
    binary().parent().expect("it is in a directory").join("examples/words-module")
}

fn words(plane: &Plane, args: &[&str]) -> Running {
    let mut command = Command::new(example());
    command.arg(&plane.address).args(args);
    Running::new(command)
}

#[test]
fn a_provider_in_rust_is_called_with_its_own_types() {
    let plane = Plane::start();
    let provider = words(&plane, &["words"]);
    plane.until_state("active");
    let schema = plane.cli(&["schema", "words.count"]).expect(0).out();
    assert_eq!(
        schema,
        "words.count(ignore: List<String>?, text: String) -> {each: Map<String, Int>, total: Int}"
    );
    let counted = plane.call("words.count", &json!({ "text": "one and one", "ignore": ["and"] }));
    assert_eq!(counted, json!({ "total": 2, "each": { "one": 2 } }));
    let out = plane.cli(&["call", "words.count", "--input", "{\"text\": \"\"}"]);
    out.expect(2);
    assert!(out.err().contains("[TYPE_ERROR] there are no words in it"), "{out:?}");
    let traced = plane.cli(&["call", "words.who", "--metadata", "traceparent=00-1"]).expect(0).json();
    assert_eq!(traced[0], format!("{} 00-1", provider.pid()));
    // It takes its modules back.
    provider.signal("TERM");
    assert_eq!(provider.end(SOON).code, 0);
    wait::until("they are gone", SOON, || plane.connections().is_empty());
}

#[test]
fn providers_are_back_when_the_service_is_and_calls_go_on_meanwhile() {
    let plane = Plane::start();
    let providers = [words(&plane, &["a"]), words(&plane, &["b"])];
    let active = || {
        let all = plane.connections();
        all.iter().filter(|c| c["state"] == "active").count() == providers.len()
    };
    wait::until("they are active", SOON, active);
    for what in ["host", "service"] {
        if what == "host" {
            plane.kill_host();
        } else {
            plane.service.end();
            plane.service.serve_again();
            until_host(&plane.service);
        }
        // Restored until then.
        plane.call("a.who", &json!({}));
        let took = wait::until("they are back", SOON, active);
        assert!(took < BACK, "{what}: {took:?}");
        for (name, provider) in ["a.who", "b.who"].iter().zip(&providers) {
            assert_eq!(plane.call(name, &json!({})), format!("{} none", provider.pid()), "{what}");
        }
        assert_eq!(plane.connections().len(), providers.len(), "{what}");
    }
}

#[test]
fn what_was_drained_stays_away() {
    let plane = Plane::start();
    let _provider = words(&plane, &["words"]);
    plane.until_state("active");
    let id = plane.connections()[0]["id"].as_str().expect("it has one").to_owned();
    plane.cli(&["drain", &id, "--deadline", "500ms"]).expect(0);
    wait::until("it is gone", SOON, || plane.connections().is_empty());
    assert!(!wait::holds_within(BACK, || !plane.connections().is_empty()), "it stays away");
}
