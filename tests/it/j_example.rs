//! `packaging/example.toml`: real servers, in the order of their needs, and a change that restarts only what
//! changed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{LATER, Options, Scratch, Service, free_port, wait};

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .starts_with("HTTP/1.1 200")
        .then(|| answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
}

fn pids(service: &Service) -> Vec<u32> {
    ["redis", "app", "nginx"].map(|name| service.pid(name)).into()
}

#[test]
fn the_example_runs_in_order_and_a_change_restarts_what_changed() {
    let settings = Scratch::new();
    let example = include_str!("../../packaging/example.toml");
    let (front, app, redis) = (free_port(), free_port(), free_port());
    let text = (example.replace("8480", &front.to_string()).replace("8481", &app.to_string()))
        .replace("8482", &redis.to_string())
        .replace("/var/tmp/provost-example", settings.path().to_str().unwrap());
    let path = settings.file("example.toml");
    fs::write(&path, &text).unwrap();
    let service = Options::new().serve(&["--config", &path]).start();
    wait::until("the front is there", LATER, || {
        service.cli(&["wait", "--for", "ready", "--timeout", "60s", "nginx"]).code == 0
    });
    assert_eq!(get(front).as_deref(), Some("Hello, world! Visit 1.\n"));
    let seq = |name: &str, kind: &str| {
        let events = service.events();
        let found = events.iter().find(|e| e["name"] == name && e["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} of {name}"))["seq"].as_u64().unwrap()
    };
    for (first, then) in [("redis", "app"), ("migrate", "app"), ("app", "nginx")] {
        assert!(seq(first, "ready") < seq(then, "started"), "{first} {then}");
    }
    let tree = service.ok(&["graph"]);
    assert!(tree.contains("\nnginx: running") && tree.contains("\n  requires app: running"), "{tree}");
    assert!(tree.contains("\n    requires migrate: stopped (exit code 0)"), "{tree}");
    let chain = service.ok(&["graph", "--times"]);
    assert!(chain.starts_with("nginx @") && chain.contains("\n  app @"), "{chain}");

    // The nightly job waits for its time, and can be run before.
    assert!(tree.starts_with("nightly: scheduled"), "{tree}");
    service.ok(&["start", "nightly"]);
    assert_eq!(service.until_state("nightly", "scheduled")["exit"]["code"], 0);
    assert_eq!(service.output("nightly"), b"copied\n");

    // As applied, until the file is changed.
    wait::until("it is applied", LATER, || service.cli(&["wait", "provost.apply"]).code == 0);
    assert!(!service.cli(&["status", "app"]).err().contains("has changed"));
    let before = pids(&service);
    fs::write(&path, text.replace("WHOM = \"world\"", "WHOM = \"all\"")).unwrap();
    let said = service.cli(&["status", "app"]).err();
    assert!(said.contains("has changed since it was applied: provost apply"), "{said}");
    let shown = service.cli(&["apply", "--dry-run", "--json", &path]).json();
    assert_eq!(
        (shown.len(), shown[0]["name"].as_str(), shown[0]["action"].as_str()),
        (1, Some("app"), Some("restart"))
    );
    service.ok(&["apply", "--yes", &path]);
    service.ok(&["wait", "--for", "ready", "--timeout", "60s", "nginx"]);
    assert!(!service.cli(&["list"]).err().contains("has changed"));
    let after = pids(&service);
    // Who needs it has followed, and nobody else.
    assert!(before[0] == after[0] && before[1] != after[1] && before[2] != after[2]);
    assert_eq!(get(front).as_deref(), Some("Hello, all! Visit 2.\n"));
}
