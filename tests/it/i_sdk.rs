//! Providers of modules in Rust, made with the SDK (docs/words-module.rs).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use provost::sdk::module::canary::{Canary, Rollout};
use provost::sdk::module::definition::{Failure, Module};
use provost::sdk::module::provider::Provider;
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

/// A module that says its version, or fails while `is_bad`.
fn version(version: &'static str, is_bad: &Arc<AtomicBool>) -> Module {
    let is_bad = Arc::clone(is_bad);
    let answer = move |()| match is_bad.load(Ordering::Acquire) {
        true => Err(Failure::new("as wanted")),
        false => Ok(version.to_owned()),
    };
    Module::new("version", answer).version(version)
}

#[test]
fn a_new_version_goes_to_one_service_after_the_other_and_back_in_reverse_order() {
    let mut planes = [Plane::start(), Plane::start()];
    // In the order in which they are taken.
    planes.sort_by_key(|plane| plane.address.parse::<SocketAddr>().expect("it is one"));
    let (good, bad) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let provider = Provider::new("app").heartbeat(Duration::from_millis(300), Duration::from_secs(15));
    let provider = planes.iter().fold(provider, |provider, plane| provider.instance(&plane.address));
    let mut running = provider.module(version("1.0", &good)).start().expect("it starts");
    assert!(running.wait_active(SOON));
    let canary = Canary::default().window(Duration::from_secs(1)).min_calls(10);
    // Calls go on at both meanwhile.
    let mut roll_out = |new: Module| {
        let (is_over, failed) = (AtomicBool::new(false), AtomicU32::new(0));
        let rollout = thread::scope(|scope| {
            for plane in &planes {
                let (is_over, failed, bad, last) = (&is_over, &failed, &bad, &planes[1]);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Acquire) {
                        let out = plane.cli(&["call", "app.version"]);
                        failed.fetch_add(u32::from(out.code != 0), Ordering::AcqRel);
                        // The last service has it now.
                        if last.modules().contains("\t3.0\t") {
                            bad.store(true, Ordering::Release);
                        }
                    }
                });
            }
            let rollout = running.roll_out(vec![new], canary);
            is_over.store(true, Ordering::Release);
            rollout.expect("nothing is wrong with it")
        });
        (rollout, failed.into_inner())
    };
    let versions = || planes.each_ref().map(|plane| plane.call("app.version", &json!({})));
    assert_eq!(versions(), ["1.0", "1.0"]);
    assert_eq!(roll_out(version("2.0", &good)), (Rollout::Promoted, 0), "no call was lost");
    assert_eq!(versions(), ["2.0", "2.0"]);
    let (rollout, failed) = roll_out(version("3.0", &bad));
    let Rollout::RolledBack { reason } = rollout else { panic!("{rollout:?}") };
    let begin = format!("Instance {} failed health check: ", planes[1].address);
    assert!(reason.starts_with(&begin) && reason.contains("calls failed"), "{reason}");
    assert!(failed > 0);
    assert_eq!(versions(), ["2.0", "2.0"]);
    // What a service does not take is not tried at the next one.
    let other = Module::new("version", |n: i64| Ok(n)).version("4.0");
    let bad_name = vec![Module::new("a b", |()| Ok(1i64))];
    let refused = running.roll_out(bad_name, canary).expect("it is tried");
    let Rollout::RolledBack { reason } = refused else { panic!("{refused:?}") };
    assert!(reason.contains("Registration failed: a b"), "{reason}");
    assert_eq!(versions(), ["2.0", "2.0"]);
    assert!(running.roll_out(vec![other.clone(), other], canary).is_err());
    running.stop();
    wait::until("its modules are gone", SOON, || planes.iter().all(|plane| plane.connections().is_empty()));
}
