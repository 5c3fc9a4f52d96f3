//! Entries outlive the machine: what the engine's database keeps of them, and that a registration is on
//! record with them or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Registry, SOON, Scratch, procfs, wait};

/// The directories of notes, which are gone with the boot.
fn notes(registry: &Registry) -> [PathBuf; 2] {
    let host = Path::new(registry.0.socket()).with_file_name("host.sock");
    ["notes", "registry"].map(|of| {
        let path = host.with_extension(of);
        assert!(path.is_dir(), "{} is where notes are", path.display());
        path
    })
}

/// Ends all of it at once, and goes on as if the machine had been started again.
fn boot_again(registry: &Registry) {
    registry.0.kill_all();
    notes(registry).iter().for_each(|path| fs::remove_dir_all(path).expect("it is ours"));
    registry.0.serve_again();
}

/// What the files of the database hold.
fn database(registry: &Registry) -> Vec<u8> {
    let files = fs::read_dir(registry.0.state_dir()).expect("it is ours").flatten();
    files.filter_map(|file| fs::read(file.path()).ok()).flatten().collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn lines(registry: &Registry, what: &str) -> Vec<Value> {
    let mut lines = registry.0.cli(&["audit", "--json"]).json();
    lines.retain(|line| line["what"].as_str().is_some_and(|text| text.starts_with(what)));
    lines
}

#[test]
fn what_was_registered_is_there_after_the_next_boot_as_people_have_left_it() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, "[providers.of-config]\nbinary = 'fine'\nlazy = true\n");
    registry.ok(&[
        "register",
        "app",
        "--binary",
        "fine",
        "--label",
        "team=web",
        "--config",
        r#"{"a":"plain"}"#,
    ]);
    registry.register("stopped");
    registry.register("held");
    registry.register("gone");
    registry.ok(&["register", "orders", "--namespace", "demo"]);
    registry.0.ok(&["provider", "start", "started", "--binary", "fine"]);
    registry.ok(&["stop", "stopped"]);
    registry.ok(&["hold", "held", "--reason", "repairs"]);
    registry.ok(&["monitor", "start", "app", "--interval", "7s"]);
    // What has a secret in itself is not put into the database.
    registry.ok(&["register", "secret", "--binary", "fine", "--config", r#"{"token":"canary-4711"}"#]);
    registry.ok(&["unregister", "gone"]);
    let since = registry.entry("app")["registered_at"].clone();
    assert!(has(&database(&registry), "plain") && !has(&database(&registry), "canary-4711"));
    boot_again(&registry);
    let names = wait::until_some("the host answers", SOON, || {
        let out = registry.cli(&["names"]);
        (out.code == 0).then(|| out.out())
    });
    assert_eq!(names, "app\nheld\nof-config\norders\nstarted\nstopped");
    let app = registry.entry("app");
    assert_eq!(
        (&app["registered_at"], &app["labels"], &app["source"], &app["status"], &app["check_interval_ms"]),
        (&since, &json!({ "team": "web" }), &json!("api"), &json!("idle"), &json!(7000))
    );
    assert_eq!(registry.status("stopped"), "stopped");
    assert_eq!(registry.entry("held")["breaker"]["reason"], "repairs");
    assert_eq!(registry.entry("orders")["namespace"], "demo");
    registry.fetch("app").expect(0);
    registry.fetch("started").expect(0);
    // Nobody was told that it was registered again, and what goes now stays away.
    assert_eq!(registry.kinds("app").iter().filter(|kind| *kind == "provider-registered").count(), 1);
    registry.ok(&["unregister", "app"]);
    boot_again(&registry);
    wait::until("the host answers", SOON, || registry.cli(&["names"]).code == 0);
    assert_eq!(registry.ok(&["names"]), "held\nof-config\norders\nstarted\nstopped");
}

#[test]
fn a_registration_is_on_record_and_kept_when_it_is_answered() {
    let registry = Registry::start();
    for n in 0..5 {
        let name = format!("app-{n}");
        registry.register(&name);
        // All of it dies in the moment of the answer.
        boot_again(&registry);
        wait::until("it is there", SOON, || registry.cli(&["has", &name]).code == 0);
        let all = lines(&registry, &format!("register provider {name}"));
        // What came of it follows within a moment, which may be too late for the disk.
        let is_known = all.iter().all(|line| line["result"] == "done" || line["result"].is_null());
        assert!(all.len() == 1 && is_known, "{all:?}");
    }
    // What fails is on record, too, with its reason, and nothing of it is kept.
    assert_eq!(registry.reason(1, &["register", "early", "--binary", "exit-early"]), "registration_failed");
    assert_eq!(registry.reason(6, &["register", "app-0", "--binary", "fine"]), "already_exists");
    assert_eq!(
        registry.reason(2, &["register", "odd", "--binary", "fine", "--type", "odd"]),
        "invalid_config"
    );
    for (name, count, result) in [
        ("early", 1, "failed: provider early: cannot be"),
        ("app-0", 2, "is registered already"),
        ("odd", 1, "no type"),
    ] {
        let all = lines(&registry, &format!("register provider {name}"));
        let last = all.last().and_then(|line| line["result"].as_str()).unwrap_or_default();
        assert!(all.len() == count && last.contains(result), "{all:?}");
    }
    boot_again(&registry);
    wait::until("the host answers", SOON, || registry.cli(&["has", "app-0"]).code == 0);
    assert_eq!(registry.ok(&["names"]), "app-0\napp-1\napp-2\napp-3\napp-4");
}

#[test]
fn a_host_that_dies_between_the_two_leaves_what_is_on_record() {
    let registry = Registry::start();
    registry.register("app");
    registry.register("other");
    // Its note went, as with an unregistration whose host was killed in the middle. The next host begins
    // behind that.
    let (engine, host) = (registry.0.engine_pid(), registry.0.pid("provost.host"));
    procfs::signal("STOP", engine);
    procfs::signal("KILL", host);
    wait::until("it is dead", SOON, || !procfs::alive(host));
    let [of_provider, of_entry] = notes(&registry).map(|path| path.join("default.app"));
    fs::remove_file(of_provider).expect("it is there");
    fs::remove_file(of_entry).expect("it is there");
    procfs::signal("CONT", engine);
    wait::until("the host answers", SOON, || registry.cli(&["has", "app"]).code == 3);
    boot_again(&registry);
    wait::until("the host answers", SOON, || registry.cli(&["has", "other"]).code == 0);
    registry.cli(&["has", "app"]).expect(3);
}
