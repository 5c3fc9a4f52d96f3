//! The module plane: providers of modules in Python and Node, which know nothing but the protocol, register
//! with a real service, are called, fall silent, are drained and leave.

use std::fs;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{SOON, Scratch, Service, procfs, wait};
use crate::plane::Plane;

#[test]
fn providers_in_python_and_node_register_are_called_and_leave() {
    let plane = Plane::start();
    plane.python("adder", &["demo", ""]);
    plane.node("multiplier", "demo.node");
    assert_eq!(plane.call("demo.add", &json!({ "a": 6, "b": 7 })), 13);
    assert_eq!(plane.call("demo.node.mul", &json!({ "a": 6, "b": 7 })), 42);
    assert_eq!(plane.call("demo.words", &json!("what is said")), json!(["what", "is", "said"]));
    let schema = plane.cli(&["schema", "demo.add"]);
    assert_eq!(schema.expect(0).out(), "demo.add(a: Int, b: Int) -> Int");
    let tagged = plane.cli(&["call", "demo.add", "--input", "{\"a\": 1, \"b\": 2}", "--tagged"]);
    assert_eq!(tagged.expect(0).json(), [json!({ "tag": "CInt", "value": 3 })]);
    // What is wrong is told by its place, by its kind, and by an exit code.
    for (call, code, reason, what) in [
        (&["demo.add", "--input", "{\"a\": \"x\", \"b\": 1}"][..], 2, "input_mismatch", "a: it is a string"),
        (&["demo.add", "--input", "{\"a\": 1}"], 2, "input_mismatch", "b: it is missing"),
        (&["demo.none"], 4, "module_not_found", "no module demo.none"),
        (&["demo.fail"], 1, "runtime_error", "[RUNTIME_ERROR]"),
        (&["demo.hang", "--timeout", "300ms"], 5, "timeout", "no answer within 300 ms"),
    ] {
        let out = plane.cli(&[&["call", "--json"], call].concat());
        let error = &out.expect(code).json()[0]["error"];
        assert_eq!(error["reason"], reason, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(what)), "{error}");
    }
    // Where the module failed is for who asks for it.
    let failed = |more: &[&str]| plane.cli(&[&["call", "demo.fail"], more].concat()).expect(1).err();
    assert!(failed(&[]).ends_with("hint: '-v' shows its stack trace"), "{}", failed(&[]));
    for more in [&["-v"][..], &["--verbose", "--batch", "[{}]"]] {
        assert!(failed(more).contains("ZeroDivisionError"), "{}", failed(more));
    }
    wait::until("it is told what is active", SOON, || {
        plane.log("adder").contains("report add fail hang once trace who words")
    });
    plane.service.ok(&["stop", "adder", "multiplier"]);
    wait::until("their modules are gone", SOON, || plane.modules().is_empty());
    assert_eq!(plane.connections(), Vec::<Value>::new());
}

#[test]
fn members_of_a_group_take_turns_and_the_death_of_one_is_not_noticed() {
    let plane = Plane::start();
    plane.python("one", &["pool", "g"]);
    plane.python("two", &["pool", "g"]);
    let alone = plane.run_python("three", &["pool", "other"]);
    assert_ne!(alone.code, 0, "{alone:?}");
    assert!(plane.log("three").contains("different provider group"), "{}", plane.log("three"));
    let mut turns: Vec<_> = (0..10).map(|_| plane.call("pool.who", &json!({}))).collect();
    assert_eq!(turns[..8], turns[2..], "they take turns");
    turns.sort_by_key(|pid| pid.as_u64());
    assert_eq!(turns.iter().filter(|pid| **pid == turns[0]).count(), 5, "{turns:?}");
    procfs::signal("KILL", plane.service.pid("one"));
    // Another one beats, and its port answers nobody.
    plane.python("deaf", &["pool", "g", "deaf"]);
    for _ in 0..4 {
        assert_eq!(plane.call("pool.who", &json!({})), plane.service.pid("two"));
    }
}

#[test]
fn i1_who_is_silent_loses_its_modules_and_nobody_else_does() {
    let plane = Plane::start();
    plane.python("quiet", &["quiet", "", "silent"]);
    plane.python("talker", &["talker"]);
    assert_eq!(plane.call("quiet.add", &json!({ "a": 1, "b": 1 })), 2);
    wait::until("its stream is ended", SOON, || plane.log("quiet").contains("the stream failed: NOT_FOUND"));
    let modules = plane.modules();
    assert!(!modules.contains("quiet.") && modules.contains("talker."), "{modules}");
    plane.cli(&["call", "quiet.add"]).expect(4);
    // Its namespace is free at once.
    plane.python("next", &["quiet"]);
}

#[test]
fn what_drains_gets_nothing_new() {
    let plane = Plane::start();
    plane.python("one", &["work"]);
    let id = plane.connections()[0]["id"].as_str().expect("it has one").to_owned();
    assert_eq!(plane.cli(&["drain", &id, "--reason", "a new version", "--deadline", "1s"]).code, 0);
    let out = plane.cli(&["call", "work.who"]);
    out.expect(1);
    assert!(out.err().contains("no healthy executors") && out.err().contains("draining"), "{out:?}");
    plane.cli(&["drain", &id]).expect(3);
    plane.cli(&["drain", "nobody"]).expect(4);
    wait::until("it is told, and ended in time", SOON, || {
        let log = plane.log("one");
        log.contains("drain a new version") && log.contains("the stream failed: NOT_FOUND")
    });
    // One that does not accept it goes on.
    plane.python("other", &["stay", "", "unwilling"]);
    let id = plane.connections()[0]["id"].as_str().expect("it has one").to_owned();
    plane.cli(&["drain", &id]).expect(0);
    wait::until("it is active again", SOON, || plane.connections()[0]["state"] == "active");
    plane.call("stay.who", &json!({}));
}

#[test]
fn of_those_that_register_one_namespace_at_once_exactly_one_has_it() {
    let plane = Plane::start();
    let codes: Vec<_> = thread::scope(|scope| {
        let plane = &plane;
        let racing: Vec<_> = (0..4)
            .map(|n| scope.spawn(move || plane.run_python(&format!("racer-{n}"), &["race"]).code))
            .collect();
        racing.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(plane.connections().len(), 1);
}

#[test]
fn a_dead_executor_is_told_with_its_reason() {
    let plane = Plane::start();
    plane.python("deaf", &["deaf", "", "deaf"]);
    plane.until_state("deaf");
    let out = plane.cli(&["call", "deaf.who"]);
    out.expect(1);
    assert!(out.err().contains("no healthy executors") && out.err().contains("cannot connect"), "{out:?}");
}

#[test]
fn a_new_engine_goes_on_with_the_host_and_its_modules() {
    let plane = Plane::start();
    plane.python("adder", &["demo"]);
    let host = plane.service.pid("provost.host");
    let before = plane.service.log().lines().count();
    plane.service.kill_engine();
    // By then it has looked after what the service runs for itself: the host answers through it, too.
    plane.service.ok(&["provider", "list"]);
    wait::until("it has looked", SOON, || plane.service.log().lines().count() > before);
    plane.service.ok(&["stop", "adder"]);
    plane.service.kill_engine();
    plane.service.ok(&["list"]);
    assert_eq!(plane.service.pid("provost.host"), host);
    let log = plane.service.log();
    assert!(!log.contains("already"), "it makes no second one: {log}");
}

#[test]
fn without_an_address_there_is_no_plane_and_others_cannot_be_let_in() {
    let service = Service::new();
    let out = service.cli(&["module", "list"]);
    out.expect(6);
    assert!(out.err().contains("'listen' of [modules]"), "{out:?}");
    let files = Scratch::new();
    let config = files.file("provost.toml");
    fs::write(&config, "[modules]\nlisten = '0.0.0.0:9090'\n").expect("the directory is ours");
    let refused = crate::harness::cli::run(
        {
            let mut command = std::process::Command::new(crate::harness::binary());
            command.args(["serve", "--config", &config, "--socket", &files.file("engine.sock")]);
            command
        },
        SOON,
    );
    refused.expect(2);
    assert!(refused.err().contains("an address of this machine alone"), "{refused:?}");
}
