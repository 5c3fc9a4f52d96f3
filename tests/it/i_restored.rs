//! What the module plane does when its host dies under providers, and when executors do not answer: neither
//! takes a module away that can still be executed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{SOON, procfs, wait};
use crate::i_expected::details;
use crate::plane::{Plane, until_host};

const SETTINGS: &str = "heartbeat_timeout = '3s'\n";
/// Longer than any limit of these settings.
const LONG: Duration = Duration::from_secs(5);

#[test]
fn i17_under_a_provider_that_never_registers_again_calls_go_on_after_the_host_is_killed() {
    let plane = Plane::with(SETTINGS);
    let provider = plane.outside(&["demo"], &[]);
    assert_eq!(plane.call("demo.who", &json!({})), provider.pid());
    let id = plane.connections()[0]["id"].clone();
    for what in ["host", "engine", "service"] {
        match what {
            "host" => plane.kill_host(),
            "engine" => drop(plane.service.kill_engine()),
            _ => {
                plane.service.end();
                plane.service.serve_again();
                until_host(&plane.service);
            }
        }
        assert_eq!(plane.call("demo.who", &json!({})), provider.pid(), "{what}");
        plane.until_state("restored");
        assert!(!wait::holds_within(LONG, || plane.connections().is_empty()), "{what}");
        assert_eq!(plane.call("demo.add", &json!({ "a": 6, "b": 7 })), 13, "{what}");
        assert_eq!(plane.connections()[0]["id"], id, "{what}");
    }
    // Without its executor it is gone, and its namespace is free.
    provider.signal("KILL");
    plane.until_state("deaf");
    wait::until("it is gone", SOON, || plane.connections().is_empty());
    plane.outside(&["demo"], &[]);
}

#[test]
fn a_provider_that_registers_again_takes_its_own_place() {
    let plane = Plane::with(SETTINGS);
    let provider = plane.outside(&["demo", "", "again"], &[]);
    let id = plane.connections()[0]["id"].clone();
    plane.kill_host();
    provider.line_with("active ", SOON);
    plane.until_state("active");
    assert_ne!(plane.connections()[0]["id"], id);
    assert_eq!(plane.call("demo.who", &json!({})), provider.pid());
    // What it has taken back does not come again.
    provider.signal("TERM");
    assert_eq!(provider.end(SOON).code, 0);
    wait::until("it is gone", SOON, || plane.connections().is_empty());
    plane.kill_host();
    assert!(plane.connections().is_empty());
}

#[test]
fn who_beats_and_whose_executor_is_stopped_is_deaf_until_it_goes_on() {
    let plane = Plane::with(SETTINGS);
    let executor = plane.outside(&["one"], &[]);
    let address = plane.connections()[0]["executor"].as_str().expect("it has one").to_owned();
    let (_, port) = address.rsplit_once(':').expect("it has a port");
    let _beats = plane.outside(&["two"], &[("EXECUTOR", port)]);
    assert_eq!(plane.call("two.who", &json!({})), executor.pid());
    let state = || {
        let all = plane.connections();
        let found = all.iter().find(|c| c["namespace"] == "two").map(|c| c["state"].clone());
        found.unwrap_or_default()
    };
    executor.signal("STOP");
    plane.cli(&["call", "two.who", "--timeout", "1s"]).expect(5);
    wait::until("it is deaf", SOON, || state() == "deaf");
    let out = plane.cli(&["call", "two.who"]);
    out.expect(1);
    assert!(out.err().contains("deaf, it lets connections in and says nothing"), "{out:?}");
    let of_two = |detail: &Value| detail.as_str().is_some_and(|detail| detail.starts_with("two at "));
    let deaf = || details(&plane, "module-deaf").into_iter().filter(of_two).collect::<Vec<_>>();
    wait::until("it is told", SOON, || !deaf().is_empty());
    assert_eq!(deaf(), [format!("two at localhost:{port}: it lets connections in and says nothing")]);
    executor.signal("CONT");
    wait::until("it answers again", SOON, || state() == "active");
    assert_eq!(plane.call("two.who", &json!({})), executor.pid());
}

#[test]
fn a_call_that_is_under_way_outlives_the_control_stream() {
    let plane = Plane::with(SETTINGS);
    for mode in ["", "again"] {
        let provider = plane.outside(&["demo", "", mode], &[("SLOW", "2")]);
        let id = plane.connections()[0]["id"].clone();
        let running = plane.service.background(&["module", "call", "demo.who"]);
        wait::until("it is under way", SOON, || plane.connections()[0]["in_flight"] == 1);
        provider.signal("USR1");
        wait::until("its connection is gone", SOON, || plane.connections().iter().all(|c| c["id"] != id));
        let out = running.end(SOON);
        assert_eq!((out.code, out.out()), (0, provider.pid().to_string()), "{mode}: {out:?}");
        provider.signal("KILL");
        wait::until("it is gone", SOON, || plane.connections().is_empty());
    }
}

#[test]
fn who_is_killed_in_the_middle_of_a_call_is_followed_by_another_member() {
    let plane = Plane::with(SETTINGS);
    let one = plane.outside(&["pool", "g"], &[("HANG", "1")]);
    let two = plane.outside(&["pool", "g"], &[]);
    let under_way = || plane.connections().iter().any(|c| c["in_flight"] == 1);
    let call = plane.service.background(&["module", "call", "pool.once", "--timeout", "60s"]);
    wait::until("it is called", SOON, under_way);
    one.signal("KILL");
    let out = call.end(SOON);
    out.expect(0);
    assert_eq!(out.json(), [json!(two.pid())]);
}

#[test]
fn i15_calls_over_the_limit_of_a_member_wait_or_are_refused() {
    for (queue, code) in [(1, 0), (0, 6)] {
        let plane = Plane::with(&format!("member_calls = 1\nmember_queue = {queue}\n"));
        let _provider = plane.outside(&["work"], &[]);
        let under_way = || plane.connections()[0]["in_flight"].clone();
        let hangs = plane.service.background(&["module", "call", "work.hang", "--timeout", "5s"]);
        wait::until("it is called", SOON, || under_way() == 1);
        // It waits until the one before has ended, if it may.
        let out = plane.cli(&["call", "work.who", "--timeout", "60s"]);
        out.expect(code);
        assert!(code == 0 || out.err().contains("all executors are busy"), "{out:?}");
        hangs.end(SOON).expect(5);
        assert_eq!(under_way(), 0);
    }
}

#[test]
fn metadata_is_passed_on_and_calls_are_counted() {
    let plane = Plane::start();
    plane.python("one", &["demo"]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let metadata = format!("traceparent={trace}");
    let out = plane.cli(&["call", "demo.trace", "--metadata", &metadata]);
    assert_eq!(out.expect(0).json(), [json!(trace)]);
    plane.cli(&["call", "demo.fail"]).expect(1);
    let shown = plane.cli(&["show", "demo.fail", "--json"]).json();
    assert_eq!((&shown[0]["requests"], &shown[0]["errors"]), (&json!(1), &json!(1)), "{shown:?}");
    let connection = &shown[0]["connections"][0];
    assert_eq!((&connection["requests"], &connection["state"]), (&json!(2), &json!("active")), "{shown:?}");
    assert!(connection["mean_latency_us"].as_u64().is_some_and(|us| us > 0), "{shown:?}");
    let stats = plane.cli(&["stats"]).expect(0).out();
    assert!(stats.lines().count() == 7 && stats.contains("demo.trace"), "{stats}");
    plane.cli(&["show", "demo.none"]).expect(4);
    assert!(procfs::thread_count(plane.service.pid("provost.host")) < 50);
}
