//! Batches of calls: executed in parallel, told in their order, each with its own outcome.

use std::fs;

use serde_json::{Value, json};

use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, Options, SOON, Scratch, free_port, procfs, wait};
use crate::plane::{Plane, provider};

/// Sums of which the second and the last do not fit.
const SUMS: &str = "{\"a\": 1, \"b\": 2}\n{\"a\": 1}\n\n{\"a\": 3, \"b\": 4}\n{\"a\": \"x\", \"b\": 1}\n";

#[test]
fn a_batch_is_told_in_its_order_each_with_its_own_outcome() {
    let plane = Plane::start();
    plane.python("adder", &["demo", ""]);
    let files = Scratch::new();
    let path = files.file("sums.jsonl");
    fs::write(&path, SUMS).expect("the directory is ours");
    let out = plane.cli(&["call", "demo.add", "--batch", &format!("@{path}")]);
    out.expect(8);
    assert_eq!(out.out(), "3\n\n7");
    assert!(
        out.err().contains("input 2: module demo.add: the input does not fit: b: it is missing"),
        "{out:?}"
    );
    let out = plane.cli(&["call", "demo.add", "--batch", &format!("@{path}"), "--json", "--tagged"]);
    let all = out.expect(8).json();
    assert_eq!(all[0], json!({ "input": 1, "output": { "tag": "CInt", "value": 3 } }));
    assert_eq!((&all[1]["input"], &all[1]["error"]["reason"]), (&json!(2), &json!("input_mismatch")));
    assert_eq!(all.len(), 4);
    // More than one request takes, as an array; and none.
    let many: Vec<Value> = (0..2500).map(|n| json!({ "a": n, "b": 1 })).collect();
    fs::write(&path, json!(many).to_string()).expect("the directory is ours");
    let out = plane.cli(&["call", "demo.add", "--batch", &format!("@{path}"), "--parallel", "4"]);
    let sums: Vec<_> = out.expect(0).json();
    assert_eq!(sums, (1..=2500).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(plane.cli(&["call", "demo.add", "--batch", "[]"]).expect(0).out(), "");
    // All failed in the same way: that is the exit code.
    plane.cli(&["call", "demo.add", "--batch", "[1, 2]"]).expect(2);
    plane.cli(&["call", "demo.none", "--batch", "[1]"]).expect(4);
    plane.cli(&["call", "demo.add", "--batch", "{"]).expect(2);
}

#[test]
fn as_many_of_a_batch_are_executed_at_once_as_is_asked() {
    let plane = Plane::start();
    plane.python("hanger", &["demo", ""]);
    let batch = ["module", "call", "demo.hang", "--batch", "[{},{},{},{},{},{}]", "--parallel", "4"];
    let running = plane.service.background(&batch);
    wait::until("four are under way", SOON, || plane.connections()[0]["in_flight"] == 4);
    procfs::signal("KILL", plane.service.pid("hanger"));
    let out = running.end(SOON);
    // Those that had not begun may find the module gone with its provider.
    assert_eq!(out.err().matches("provost: input ").count(), 6, "{out:?}");
    assert_ne!(out.code, 0, "{out:?}");
}

#[test]
fn what_large_values_take_is_given_back() {
    let plane = Plane::start();
    let _words = plane.outside(&["demo"], &[]);
    let host = plane.service.pid("provost.host");
    plane.cli(&["call", "demo.words", "--input", "\"a b\""]).expect(0);
    let before = procfs::private_kib(host);
    let files = Scratch::new();
    let path = files.file("texts.json");
    let text = format!("é{}", "x".repeat(900 << 10));
    fs::write(&path, json!([text, text, text]).to_string()).expect("the directory is ours");
    for _ in 0..3 {
        let all = plane.cli(&["call", "demo.words", "--batch", &format!("@{path}")]).expect(0).json();
        assert_eq!(all, [json!([text]), json!([text]), json!([text])]);
    }
    wait::until("the host has given it back", LATER, || procfs::private_kib(host) < before + (4 << 10));
}

#[test]
fn a_batch_goes_through_the_gateway_for_those_who_may() {
    let address = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::with(Options::new(), &format!("[modules]\nlisten = '{address}'\n"));
    gateway.service().ok(&["wait", "provost.host", "--for", "ready"]);
    let adder = provider(&address, &["demo"], &[]);
    adder.line_with("active ", SOON);
    let batch = ["module", "call", "demo.add", "--batch", SUMS, "--json"];
    let all = gateway.cli(User::Operator, &batch).expect(8).json();
    assert_eq!(all[0], json!({ "input": 1, "output": 3 }));
    assert_eq!(
        (&all[1]["error"]["code"], &all[1]["error"]["reason"]),
        (&json!("usage"), &json!("input_mismatch"))
    );
    assert_eq!(all[2]["output"], 7);
    let refused = gateway.cli(User::Viewer, &batch);
    refused.expect(6);
    assert!(refused.err().contains("may not call a module"), "{refused:?}");
}
