//! Modules that the configuration expects, and what the environment says where it says nothing.

use serde_json::Value;

use crate::harness::{LATER, Options, SOON, Scratch, free_port, wait};
use crate::plane::{Plane, provider, until_host};

pub fn details(plane: &Plane, kind: &str) -> Vec<Value> {
    let events = plane.service.events().into_iter().filter(|event| event["kind"] == kind);
    events.map(|event| event["detail"].clone()).collect()
}

#[test]
fn what_is_expected_and_missing_is_told_by_doctor_and_an_event() {
    let expect = "expect_grace = '300ms'\n[modules.expect]\ndemo = ['add']\nany = []\n";
    let plane = Plane::with(expect);
    let doctor = || plane.service.cli(&["doctor"]);
    wait::until("both are missing", SOON, || details(&plane, "module-missing").len() == 2);
    let out = doctor();
    assert!(out.expect(3).out().contains("module demo.add: missing since "), "{out:?}");
    assert!(out.out().contains("nobody has registered it"), "{out:?}");
    let modules = plane.service.cli(&["doctor", "--json"]).expect(3).json()[0]["modules"].clone();
    assert_eq!(
        (&modules[0]["name"], &modules[1]["name"]),
        (&"any.*".into(), &"demo.add".into()),
        "{modules}"
    );
    assert!(modules[0]["missing_since"].is_string() && modules[1]["missing_since"].is_string(), "{modules}");
    // One that gets no calls is as good as none.
    plane.python("deaf", &["demo", "", "deaf"]);
    plane.until_state("deaf");
    doctor().expect(3);
    plane.service.ok(&["stop", "deaf"]);
    plane.python("adder", &["demo"]);
    plane.python("other", &["any"]);
    wait::until("nothing is missing", SOON, || doctor().code == 0);
    assert!(doctor().out().contains("modules: all 2 that are expected"));
    assert_eq!(details(&plane, "module-missing").len(), 2);
    wait::until("it is told", SOON, || details(&plane, "module-back").len() == 2);
    plane.service.ok(&["stop", "adder"]);
    wait::until("it is missing again", SOON, || doctor().code == 3);
    wait::until("that is told, too", SOON, || {
        details(&plane, "module-missing")
            .last()
            .is_some_and(|detail| detail == "demo.add: nobody has registered it")
    });
    assert_eq!(details(&plane, "module-missing").len(), 3);
}

#[test]
fn a_key_that_is_not_there_is_read_from_its_variable() {
    let (files, port) = (Scratch::new(), free_port());
    let config = files.file("provost.toml");
    std::fs::write(&config, "[modules]\nmember_calls = 2\n").expect("the directory is ours");
    let port_is = format!("CONSTELLATION_PROVIDER_PORT={port}");
    let timeout_is = "CONSTELLATION_PROVIDER_HEARTBEAT_TIMEOUT=1";
    let options = Options::new().through(&["env", &port_is, timeout_is]).serve(&["--config", &config]);
    let service = options.start();
    until_host(&service);
    let quiet = provider(&format!("127.0.0.1:{port}"), &["demo", "", "silent"], &[]);
    quiet.line_with("active ", SOON);
    wait::until("it is gone after a second of silence", LATER, || {
        quiet.line(SOON).is_some_and(|line| line.contains("the stream failed: NOT_FOUND"))
    });
    let log = String::from_utf8_lossy(&service.output("provost.host")).into_owned();
    assert!(
        log.contains("'heartbeat_timeout' of [modules] is 1, from CONSTELLATION_PROVIDER_HEARTBEAT_TIMEOUT"),
        "{log}"
    );
}
