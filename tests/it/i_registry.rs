//! The registry of providers: its entries, their circuit breakers, and what is told of them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use provost::wire::error::Code;
use provost::wire::provider::{Definition, ProviderCall, ProviderName};
use provost::wire::registration::Registration;
use provost::wire::registry::{RegistryCall, Verb, Whom};
use serde_json::{Value, json};

use crate::harness::cli::Running;
use crate::harness::{Registry, SOON, Scratch, procfs, wait};

fn name(alias: &str) -> ProviderName {
    ProviderName::new("", alias).expect("it is a name")
}

#[test]
fn the_registry_and_the_list_of_providers_are_one() {
    let registry = Registry::start();
    assert_eq!(registry.ok(&["list"]), "");
    registry.ok(&["register", "one", "--binary", "fine", "--label", "team=web"]);
    registry.0.ok(&["provider", "start", "two", "--binary", "fine"]);
    assert_eq!(registry.ok(&["names"]), "one\ntwo");
    let all = registry.cli(&["list"]).json();
    let providers = registry.0.cli(&["provider", "list", "--json"]).json();
    for (entry, provider) in all.iter().zip(&providers) {
        assert_eq!((&entry["name"], &entry["pid"]), (&provider["alias"], &provider["pid"]));
        assert_eq!((&entry["status"], &entry["source"]), (&json!("ready"), &json!("api")));
    }
    assert_eq!((all.len(), &all[0]["labels"]), (2, &json!({ "team": "web" })));
    registry.cli(&["has", "one"]).expect(0);
    registry.cli(&["has", "three"]).expect(3);
    let register =
        |name: &str, binary: &str, code| registry.reason(code, &["register", name, "--binary", binary]);
    assert_eq!(register("one", "fine", 6), "already_exists");
    registry.cli(&["register", "a/b", "--binary", "fine"]).expect(2);
    // Nothing is left of what could not be registered.
    assert_eq!(register("early", "exit-early", 1), "registration_failed");
    assert_eq!(register("none", "no-such-binary", 127), "registration_failed");
    assert_eq!(registry.reason(4, &["show", "early"]), "not_found");
    assert_eq!(registry.reason(4, &["start", "early"]), "not_found");
    assert_eq!(registry.0.cli(&["provider", "list", "--json"]).json().len(), 2);
    let pid = registry.pid("one");
    registry.ok(&["unregister", "one"]);
    assert!(!procfs::alive(pid));
    registry.0.ok(&["provider", "shutdown"]);
    assert_eq!(registry.ok(&["list"]), "");
    let kinds = registry.kinds_until("one", "provider-unregistered");
    assert_eq!(
        kinds,
        ["provider-registered", "provider-started", "provider-stopped", "provider-unregistered"]
    );
    let audit = registry.0.ok(&["audit"]);
    assert!(audit.contains("register provider one: fine: done") && audit.contains("unregister provider one"));
}

#[test]
fn an_entry_is_stopped_disposed_of_initialised_and_held() {
    let registry = Registry::start();
    registry.register("app");
    let first = registry.pid("app");
    registry.ok(&["stop", "app"]);
    assert_eq!(registry.status("app"), "stopped");
    registry.fetch("app").expect(0);
    assert_eq!(registry.status("app"), "ready");
    registry.ok(&["dispose", "app"]);
    assert_eq!(
        (registry.status("app"), registry.fetch_reason(6, "app")),
        ("disposed".into(), "disposed".into())
    );
    assert_eq!(registry.reason(6, &["start", "app"]), "disposed");
    registry.ok(&["initialize", "app"]);
    let second = registry.pid("app");
    registry.ok(&["restart", "--all"]);
    assert!(first != second && second != registry.pid("app") && !procfs::alive(second));
    assert_eq!(registry.cli(&["health", "app", "--json"]).json()[0]["health"]["status"], "ok");
    registry.ok(&["hold", "app", "--reason", "repairs"]);
    let held = registry.fetch("app");
    held.expect(6);
    assert!(held.err().contains("held open: repairs"), "{held:?}");
    registry.ok(&["reset", "app"]);
    assert_eq!(registry.fetch_reason(6, "app"), "circuit_open");
    registry.ok(&["release", "app"]);
    registry.fetch("app").expect(0);
    let kinds = registry.kinds_until("app", "circuit-breaker-closed");
    assert_eq!(kinds[kinds.len() - 2..], ["circuit-breaker-isolated", "circuit-breaker-closed"]);
}

#[test]
fn i9_five_kills_in_a_minute_open_the_breaker_and_a_probe_closes_it() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, "[registry.circuit_breaker]\nrecovery_timeout = '3s'\n");
    registry.register("app");
    for _ in 0..4 {
        registry.kill("app");
        registry.fetch("app").expect(0);
    }
    // Nobody has to ask for it to be known.
    registry.kill("app");
    registry.kinds_until("app", "circuit-breaker-opened");
    let refused = registry.fetch("app");
    refused.expect(6);
    assert!(refused.err().contains("the next probe is in "), "{refused:?}");
    let entry = registry.entry("app");
    assert_eq!(entry["breaker"]["state"], "open");
    assert!(entry["breaker"]["next_probe_at"].is_string(), "{entry}");
    // Refused at once: the quickest of some calls, since others use this machine, too.
    let mut host = registry.host();
    let mut ask = || {
        let begin = Instant::now();
        let e = host.provider(ProviderCall::Fetch(name("app"), vec!["pid".into()])).unwrap_err();
        assert_eq!((e.code, e.reason.as_str()), (Code::Refused, "circuit_open"));
        begin.elapsed()
    };
    let quickest = (0..50).map(|_| ask()).min().expect("there are some");
    assert!(quickest < Duration::from_millis(1), "{quickest:?}");
    wait::until("a probe is let through", SOON, || registry.fetch("app").code == 0);
    assert_eq!(registry.entry("app")["breaker"]["state"], "closed");
    let kinds = registry.kinds_until("app", "circuit-breaker-closed");
    let killed = ["provider-error", "provider-started"];
    let expected = [
        &["provider-registered", "provider-started"],
        &killed.repeat(4)[..],
        &["provider-error", "circuit-breaker-opened", "circuit-breaker-half-open"],
        &["provider-started", "circuit-breaker-closed"],
    ];
    assert_eq!(kinds, expected.concat());
    let seqs: Vec<_> =
        registry.cli(&["events"]).json().iter().map(|e| e["seq"].as_u64().expect("a number")).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
}

#[test]
fn i8_a_listener_that_is_halted_or_dies_holds_up_nobody() {
    let registry = Registry::start();
    registry.register("app");
    let follow = || registry.0.background(&["registry", "events", "app", "--follow"]);
    let (halted, dies, reads) = (follow(), follow(), follow());
    let seen = |listener: &Running| listener.stdout_text().lines().count();
    let all = [&halted, &dies, &reads];
    wait::until("they listen", SOON, || all.iter().all(|listener| seen(listener) >= 2));
    halted.signal("STOP");
    dies.signal("KILL");
    for n in 0..100 {
        registry.ok(&["hold", "app", "--reason", &format!("number {n}")]);
    }
    registry.ok(&["unregister", "app"]);
    let is_over = |listener: &Running| listener.stdout_text().contains("provider-unregistered");
    wait::until("the one that reads has all", SOON, || is_over(&reads));
    halted.signal("CONT");
    wait::until("the halted one has all, too", SOON, || is_over(&halted));
    let numbers = |text: String| {
        let number = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("it is JSON");
            event["seq"].as_u64().expect("it is a number")
        };
        text.lines().map(number).collect::<Vec<_>>()
    };
    let (one, other) = (numbers(halted.stdout_text()), numbers(reads.stdout_text()));
    assert!(one == other && one.is_sorted() && one.len() >= 104, "{one:?} {other:?}");
}

#[test]
fn of_32_who_register_one_name_one_wins() {
    let registry = Registry::start();
    // The host is run before they begin.
    registry.host();
    let barrier = Barrier::new(32);
    let definition = Definition { binary: "fine".into(), ..Definition::default() };
    let results: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..32)
            .map(|_| {
                scope.spawn(|| {
                    let mut host = registry.host();
                    let r = Registration {
                        kind: "process".into(),
                        definition: definition.clone(),
                        namespace: None,
                        labels: Vec::new(),
                    };
                    let verb = Verb::Register(Box::new(r));
                    barrier.wait();
                    host.registry(RegistryCall { whom: Whom::One(name("app")), verb })
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|r| r.as_ref().is_err_and(|e| e.reason == "already_exists")), "{lost:?}");
    assert_eq!(registry.entry("app")["starts"], 1);
    let running = procfs::with_command("rude fine");
    let ours: Vec<_> = running.into_iter().filter(|&pid| registry.0.is_marked(pid)).collect();
    assert_eq!(ours, [registry.pid("app")]);
}

#[test]
fn entries_survive_the_host_the_engine_and_the_service() {
    let registry = Registry::start();
    registry.ok(&["register", "app", "--binary", "fine", "--label", "team=web"]);
    registry.register("held");
    registry.register("gone");
    registry.ok(&["hold", "held", "--reason", "repairs"]);
    registry.ok(&["dispose", "gone"]);
    let (pid, since) = (registry.pid("app"), registry.entry("app")["registered_at"].clone());
    let is_the_same = |what: &str| {
        let entry = wait::until_some("the host answers", SOON, || {
            let out = registry.cli(&["show", "app", "--json"]);
            (out.code == 0).then(|| out.json().remove(0))
        });
        assert_eq!(
            (&entry["registered_at"], &entry["labels"], &entry["source"]),
            (&since, &json!({ "team": "web" }), &json!("api")),
            "{what}"
        );
        assert_eq!(registry.entry("held")["breaker"]["reason"], "repairs", "{what}");
        assert_eq!(registry.status("gone"), "disposed", "{what}");
    };
    procfs::signal("KILL", registry.0.pid("provost.host"));
    is_the_same("the host was killed");
    assert_eq!(registry.pid("app"), pid);
    registry.0.kill_engine();
    is_the_same("the engine was killed");
    assert_eq!(registry.pid("app"), pid);
    registry.0.kill_service();
    registry.0.serve_again();
    is_the_same("the service was killed");
    wait::until("it is started when it is asked", SOON, || registry.fetch("app").code == 0);
    // Nobody was told that it was registered again.
    let kinds = registry.kinds_until("app", "provider-started");
    assert_eq!(kinds.iter().filter(|kind| *kind == "provider-registered").count(), 1, "{kinds:?}");
}

#[test]
fn only_the_host_tells_what_happens_to_providers() {
    let registry = Registry::start();
    let e = registry.0.client().announce(Vec::new()).unwrap_err();
    assert_eq!(e.code, Code::Refused);
}

#[test]
fn what_was_registered_is_over_what_the_configuration_says() {
    let scratch = Scratch::new();
    let text = "[providers.app]\nbinary = 'exit-early'\nlazy = true\n";
    let registry = Registry::configured(&scratch, text);
    let app = |what: &str| registry.entry("app")[what].clone();
    assert_eq!((app("source"), app("status")), (json!("config"), json!("idle")));
    registry.ok(&["unregister", "app"]);
    registry.register("app");
    procfs::signal("KILL", registry.0.pid("provost.host"));
    let source = wait::until_some("the host answers", SOON, || {
        let out = registry.cli(&["show", "app", "--json"]);
        (out.code == 0).then(|| out.json()[0]["source"].clone())
    });
    assert_eq!((source, app("status")), (json!("api"), json!("ready")));
    wait::until("it is said", SOON, || {
        let host = registry.0.output("provost.host");
        String::from_utf8_lossy(&host).contains("provider app of the configuration is not used")
    });
}

#[test]
fn what_a_provider_writes_is_in_no_event_if_its_definition_says_so() {
    let registry = Registry::start();
    registry.ok(&["register", "app", "--binary", "fine", "--stderr", "off"]);
    let die = |more: &[&str]| registry.0.cli(&[&["provider", "fetch", "app", "die"], more].concat());
    // Who wants to hear it is said, and nobody else.
    let said = die(&["-v"]);
    assert!(said.expect(1).err().contains("its standard error ends with: going down"), "{said:?}");
    for _ in 0..4 {
        die(&[]).expect(1);
    }
    registry.kinds_until("app", "circuit-breaker-opened");
    let mut seen = vec![registry.ok(&["list", "--json"]), registry.ok(&["events"]), die(&["-v"]).err()];
    for args in [&["provider", "list", "--json"][..], &["audit"], &["events"]] {
        seen.push(registry.0.ok(args));
    }
    let leaks: Vec<_> = seen.iter().filter(|text| text.contains("going down")).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

#[test]
fn an_end_in_the_middle_of_a_recovery_is_told() {
    let registry = Registry::start();
    registry.ok(&["register", "app", "--binary", "fine", "--health-timeout", "1m"]);
    let (pid, port) = (registry.pid("app"), registry.entry("app")["port"].as_u64().expect("it has one"));
    let host = registry.0.pid("provost.host");
    // It answers nothing, so that the next host waits for it.
    procfs::signal("STOP", pid);
    procfs::signal("KILL", host);
    // The next host is run when somebody asks.
    let asked = registry.0.background(&["registry", "show", "app"]);
    let is_connected = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("it is there");
        let end = format!("0100007F:{port:04X}");
        table.lines().any(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            fields.len() > 3 && fields[2] == end && fields[3] == "01"
        })
    };
    wait::until("the next host asks it", SOON, || !procfs::alive(host) && is_connected());
    procfs::signal("KILL", pid);
    registry.kinds_until("app", "provider-error");
    asked.end(SOON).expect(0);
    assert_eq!(registry.entry("app")["breaker"]["failures"], 1);
}
