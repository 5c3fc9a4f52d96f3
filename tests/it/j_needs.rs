//! Processes that need one another: they start in order, by readiness; they follow when what they need ends
//! and comes back; they stop in the other order; and a circle is refused before anything is done.

use std::fs;

use std::time::Duration;

use crate::harness::{LATER, Options, SOON, Scratch, Service, procfs, wait};

/// Writes the configuration, and returns its path.
fn config(service: &Service, text: &str) -> String {
    let path = service.scratch().file("needs.toml");
    fs::write(&path, text).unwrap();
    path
}

/// Ready when this file is there.
fn gated(name: &str, gate: &str, more: &str) -> String {
    format!(
        "[process.{name}]\ncommand = ['sh', '-c', 'while ! test -e {gate}; do sleep 0.02; done; echo up; \
         exec sleep 72001']\nready_line = 'up'\n{more}\n"
    )
}

fn waits_for(service: &Service, name: &str) -> String {
    service.status_json(name)["waits_for"].as_str().unwrap_or_default().to_owned()
}

/// When things happened to a process first, by number.
fn first(service: &Service, name: &str, kind: &str) -> u64 {
    let events = service.events();
    let mut found = events.iter().filter(|e| e["name"] == name && e["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind} of {name}"))["seq"].as_u64().unwrap()
}

#[test]
fn who_needs_another_starts_when_that_is_ready() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let text = format!(
        "[process.web]\ncommand = ['sleep', '72002']\nrequires = ['migrate', '@data']\n\
         [process.migrate]\ncommand = ['true']\nready_exit = true\nrequires = ['db']\n\
         [process.cache]\ncommand = ['sleep', '72003']\nin_group = 'data'\n{}\
         [process.free]\ncommand = ['sleep', '72004']\n",
        gated("db", &gate, "in_group = 'data'")
    );
    let path = config(&service, &text);
    let shown = service.cli(&["apply", "--dry-run", "--json", &path]).json();
    let names: Vec<_> = shown.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["db", "migrate", "cache", "web", "free"], "a dry run shows the order");
    service.ok(&["apply", "--yes", &path]);
    // Who needs nobody is not held up, and who waits says for whom.
    service.until_state("free", "running");
    assert_eq!(waits_for(&service, "migrate"), "db (not ready)");
    assert!(waits_for(&service, "web").contains("migrate (starting)"), "{}", waits_for(&service, "web"));
    assert!(service.ok(&["why", "web"]).contains("waits for migrate"));
    // Another engine knows as much.
    service.kill_engine();
    assert_eq!(waits_for(&service, "migrate"), "db (not ready)");
    fs::write(&gate, "").unwrap();
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    assert!(first(&service, "db", "ready") < first(&service, "migrate", "started"));
    assert!(first(&service, "migrate", "ready") < first(&service, "web", "started"));
    assert_eq!(waits_for(&service, "web"), "");
    // All of a group are meant by it.
    assert_eq!(service.cli(&["status", "--json", "@data"]).json().len(), 2);
}

#[test]
fn who_needs_another_follows_when_that_ends_and_comes_back() {
    for options in [Options::new(), Options::new().without_cgroups()] {
        let service = options.start();
        let gate = service.scratch().file("gate");
        fs::write(&gate, "").unwrap();
        let text = format!(
            "{}[process.web]\ncommand = ['sleep', '72005']\nrequires = ['db']\n\
             [process.top]\ncommand = ['sleep', '72006']\nrequires = ['web']\n\
             [process.deaf]\ncommand = ['sleep', '72007']\nrequires = ['db']\non_dependency = 'ignore'\n\
             [process.proud]\ncommand = ['sleep', '72008']\nrequires = ['db']\non_dependency = 'stop'\n",
            gated("db", &gate, "restart = 'always'")
        );
        service.ok(&["apply", "--yes", &config(&service, &text)]);
        service.ok(&["wait", "--for", "ready", "--timeout", "20s", "top", "deaf", "proud"]);
        let before = ["web", "top", "deaf"].map(|name| service.pid(name));
        fs::remove_file(&gate).unwrap();
        procfs::signal("KILL", service.pid("db"));
        wait::until("they have gone with it", LATER, || {
            waits_for(&service, "web") == "db (not ready)" && waits_for(&service, "top").starts_with("web (")
        });
        wait::until("it is stopped for good", LATER, || service.state("proud") == "stopped");
        fs::write(&gate, "").unwrap();
        service.ok(&["wait", "--for", "ready", "--timeout", "20s", "top"]);
        let after = ["web", "top", "deaf"].map(|name| service.pid(name));
        assert!(before[0] != after[0] && before[1] != after[1] && before[2] == after[2]);
        assert_eq!(service.state("proud"), "stopped");
        assert!(service.ok(&["why", "web"]).contains("dependency db"));
    }
}

#[test]
fn who_is_needed_stops_last() {
    let service = Service::new();
    // Each says when it is told to stop, and takes its time.
    let slow = |n: u32| {
        format!(
            "['sh', '-c', 'trap \"sleep 0.2; exit 0\" TERM; echo up; sleep 7201{n} & wait']\nready_line = 'up'"
        )
    };
    let text = format!(
        "[process.db]\ncommand = {}\n[process.web]\ncommand = {}\nrequires = ['db']\n\
         [process.top]\ncommand = {}\nrequires = ['web']\n",
        slow(1),
        slow(2),
        slow(3)
    );
    service.ok(&["apply", "--yes", &config(&service, &text)]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "top"]);
    // A stop of the one that is needed: the others go first, wait, and come back with it.
    service.ok(&["stop", "db"]);
    let in_order = || {
        let all = ["top", "web", "db"].map(|name| (first(&service, name, "stopping"), name));
        assert!(all.is_sorted(), "{all:?}");
        assert!(first(&service, "top", "exited") < first(&service, "web", "stopping"));
        assert!(first(&service, "web", "exited") < first(&service, "db", "stopping"));
    };
    in_order();
    wait::until("it says for whom it waits", SOON, || waits_for(&service, "web") == "db (stopped)");
    let out = service.cli(&["wait", "--for", "ready", "top", "web"]);
    assert!(out.err().contains("does not come by itself"), "{}", out.err());
    service.ok(&["start", "db"]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "top"]);
    // In every state while something waits.
    service.ok(&["stop", "db", "web", "top"]);
    assert!(["db", "web", "top"].iter().all(|name| service.state(name) == "stopped"));
    // It starts what it needs with it.
    service.ok(&["start", "top"]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "top"]);
    service.ok(&["restart", "db"]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "top"]);
    service.ok(&["remove", "--force", "db"]);
    wait::until("it says that there is none", SOON, || waits_for(&service, "web") == "db (there is none)");
    for command in
        [&["restart", "web"][..], &["stop", "web"], &["start", "web"], &["remove", "--force", "web"]]
    {
        service.ok(command);
    }
    wait::until("so does who needs that", SOON, || waits_for(&service, "top") == "web (there is none)");
}

#[test]
fn the_end_of_the_service_is_in_order_too() {
    let settings = Scratch::new();
    let path = settings.file("provost.toml");
    let slow =
        "['sh', '-c', 'trap \"sleep 0.2; exit 0\" TERM; echo up; sleep 72020 & wait']\nready_line = 'up'";
    let text = format!(
        "[process.db]\ncommand = {slow}\n[process.web]\ncommand = {slow}\nafter = ['db']\nin_group = 'g'\n"
    );
    fs::write(&path, text).unwrap();
    let service = Options::new().serve(&["--config", &path]).start();
    wait::until("both are ready", LATER, || {
        ["db", "web"].iter().all(|n| service.cli(&["wait", "--for", "ready", "--timeout", "5s", n]).code == 0)
    });
    service.end();
    service.serve_again();
    assert!(first(&service, "web", "exited") < first(&service, "db", "stopping"));
    // And the next service starts them in order.
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web", "db"]);
    let events = service.events();
    let last = |name: &str, kind: &str| {
        events.iter().rev().find(|e| e["name"] == name && e["kind"] == kind).unwrap()["seq"].as_u64()
    };
    assert!(last("db", "ready") < last("web", "started"));
}

/// A failed dependency says why, and so does who waits for it.
#[test]
fn a_dependency_that_fails_is_named() {
    let service = Service::new();
    let text = "[process.db]\ncommand = ['sh', '-c', 'echo cannot bind; sleep 72030']\nready_line = 'up'\n\
                fail_line = 'cannot'\n[process.web]\ncommand = ['sleep', '72031']\nrequires = ['db']\n\
                [process.easy]\ncommand = ['sleep', '72032']\nwants = ['db']\n";
    service.ok(&["apply", "--yes", &config(&service, text)]);
    wait::until("it has failed", SOON, || service.state("db") == "stopped");
    service.until_state("easy", "running");
    let out = service.cli(&["wait", "--for", "running", "web"]);
    assert!(out.err().contains("web waits for db (stopped), which does not come by itself"), "{}", out.err());
    assert!(service.ok(&["why", "web"]).contains("waits for db (stopped)"));
    assert!(service.ok(&["why", "db"]).contains("line of failure"));
}

#[test]
fn b20_a_circle_or_a_name_that_is_not_there_changes_nothing() {
    let service = Service::new();
    let sleep = "command = ['sleep', '72040']";
    for (text, says) in [
        (
            format!(
                "[process.a]\n{sleep}\nrequires = ['b']\n[process.b]\n{sleep}\nafter = ['@g']\n\
                 [process.c]\n{sleep}\nin_group = 'g'\nwants = ['a']\n"
            ),
            "line 3, column 12: processes need one another in a circle: a -> b -> c -> a",
        ),
        (format!("[process.a]\n{sleep}\nrequires = ['a']\n"), "in a circle: a -> a"),
        (
            format!("[process.web]\n{sleep}\nrequires = ['wab']\n"),
            "line 3, column 12: [process.web] needs 'wab', which is not declared",
        ),
        (
            format!("[process.web]\n{sleep}\nrequires = []\nafter = ['@g']\n"),
            "line 4, column 9: [process.web] needs '@g', which is not declared",
        ),
        // What comes from [defaults] is said of the section.
        (
            format!("[defaults]\nwants = ['db']\n[process.web]\n{sleep}\n"),
            "line 3, column 1: [process.web] needs 'db', which is not declared",
        ),
        (format!("[process.web]\n{sleep}\nafter = ['no/name']\n"), "no name of a process or a group"),
    ] {
        let out = service.cli(&["apply", "--yes", &config(&service, &text)]);
        assert!(out.err().contains(says), "{}", out.err());
        out.expect(2);
        assert!(service.list_json().is_empty());
    }
    // By hand, the service itself refuses it.
    service.ok(&["start", "--name", "a", "--after", "b", "--", "sleep", "72041"]);
    service.cli(&["start", "--name", "b", "--requires", "a", "--", "sleep", "72042"]).expect(6);
    service.ok(&["start", "--name", "b", "--", "sleep", "72043"]);
    let out = service.cli(&["update", "--requires", "a", "b"]);
    assert!(out.err().contains("a -> b -> a") || out.err().contains("b -> a -> b"), "{}", out.err());
    // All instances are meant by the name of their section.
    let text = format!("[process.w]\n{sleep}\ninstances = 2\n[process.top]\n{sleep}\nrequires = ['w']\n");
    service.ok(&["remove", "--force", "a", "b"]);
    service.ok(&["apply", "--yes", &config(&service, &text)]);
    assert!(service.ok(&["show", "top"]).contains("requires = [\"w-1\", \"w-2\"]"));
}

/// One that is needed, and one that needs it and ends only when there is this file.
fn held_up(gate: &str, db: &str) -> String {
    format!(
        "[process.db]\ncommand = ['sleep', '72060']\n{db}\n\
         [process.web]\ncommand = ['sh', '-c', 'trap \"while ! test -e {gate}; do sleep 0.02; done; exit 0\" \
         TERM; echo up; sleep 72061 & wait']\nready_line = 'up'\nrequires = ['db']\nstop_timeout = '60s'\n\
         [process.other]\ncommand = ['sleep', '72062']\n"
    )
}

/// Those two, and a command in the background that waits until `web` has gone.
fn with_an_order_that_waits(args: &[&str]) -> (Service, String, crate::harness::cli::Running) {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    service.ok(&["apply", "--yes", &config(&service, &held_up(&gate, ""))]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web", "other"]);
    let order = service.background(args);
    service.until_state("web", "stopping");
    (service, gate, order)
}

fn went_in_order(service: &Service) {
    assert!(first(service, "web", "exited") < first(service, "db", "stopping"));
}

#[test]
fn the_end_of_the_service_waits_behind_a_restart_that_waits() {
    let (service, gate, restart) = with_an_order_that_waits(&["restart", "db"]);
    procfs::signal("TERM", service.keeper_pid());
    // It is told after the others, in the order in which they were made.
    wait::until("the others are told to end", LATER, || service.state("other") == "stopped");
    assert_eq!(service.state("db"), "running");
    fs::write(&gate, "").unwrap();
    assert_eq!(service.keeper_end(LATER), 0);
    drop(restart);
    service.serve_again();
    went_in_order(&service);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
}

#[test]
fn a_start_waits_behind_a_stop_that_waits() {
    let (service, gate, stop) = with_an_order_that_waits(&["stop", "db"]);
    let pid = service.pid("db");
    let start = service.background(&["start", "db"]);
    // Nothing comes of it yet.
    wait::pass(Duration::from_millis(300));
    assert!(service.state("db") == "running" && start.is_running());
    fs::write(&gate, "").unwrap();
    // It is done, and started again by the time that this is said.
    stop.end(LATER);
    start.end(LATER).expect(0);
    went_in_order(&service);
    assert_ne!(service.pid("db"), pid);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
}

#[test]
fn a_stop_that_waits_is_answered_when_the_process_ends_by_itself() {
    let (service, gate, stop) = with_an_order_that_waits(&["stop", "db"]);
    procfs::signal("KILL", service.pid("db"));
    stop.end(SOON).expect(0);
    assert_eq!((service.state("db"), service.state("web")), ("stopped".into(), "stopping".into()));
    fs::write(&gate, "").unwrap();
}

#[test]
fn who_is_held_up_starts_when_it_needs_nobody_any_more() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let web = "[process.web]\ncommand = ['sleep', '72063']\n";
    let text = format!("{}{web}requires = ['db']\n", gated("db", &gate, ""));
    service.ok(&["apply", "--yes", &config(&service, &text)]);
    wait::until("it waits", SOON, || waits_for(&service, "web") == "db (not ready)");
    let text = format!("{}{web}", gated("db", &gate, ""));
    service.ok(&["apply", "--yes", &config(&service, &text)]);
    service.until_state("web", "running");
    assert_eq!(service.status_json("web")["run"], 1);
}

/// Another engine knows which run of the others a process has seen.
#[test]
fn who_needs_another_follows_also_when_that_ends_without_an_engine() {
    let service = Service::new();
    let sleep = "command = ['sleep', '72064']\n";
    let text = format!("[process.db]\n{sleep}restart = 'always'\n[process.web]\n{sleep}requires = ['db']\n");
    service.ok(&["apply", "--yes", &config(&service, &text)]);
    service.ok(&["wait", "--for", "ready", "--timeout", "20s", "web"]);
    for _ in 0..3 {
        let (db, web) = (service.pid("db"), service.pid("web"));
        procfs::signal("STOP", service.keeper_pid());
        procfs::signal("KILL", service.engine_pid());
        procfs::signal("KILL", db);
        procfs::signal("CONT", service.keeper_pid());
        wait::until("it has followed", LATER, || {
            let shown = service.status_json("web");
            shown["state"] == "running" && shown["pid"] != web
        });
        assert_ne!(service.pid("db"), db);
    }
    // What it needs since later has begun after it, and that is no reason to go.
    service.ok(&["start", "--name", "late", "--", "sleep", "72065"]);
    service.ok(&["update", "--requires", "db", "--requires", "late", "web"]);
    let web = service.pid("web");
    service.kill_engine();
    wait::pass(Duration::from_millis(300));
    assert_eq!(service.pid("web"), web);
    service.ok(&["restart", "late"]);
    wait::until("it has followed that, too", LATER, || {
        let shown = service.status_json("web");
        shown["state"] == "running" && shown["pid"] != web
    });
}

/// Whoever is asked, and whatever: it is answered at once, the others wait on, and go on when they can.
#[test]
fn every_command_is_answered_while_something_waits() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let sleep = "command = ['sleep', '72070']";
    let text = format!(
        "{}[process.web]\n{sleep}\nrequires = ['db']\n[process.top]\n{sleep}\nrequires = ['web']\n",
        gated("db", &gate, "")
    );
    let path = config(&service, &text);
    let all = ["db", "web", "top"];
    for (asked, who) in all.iter().enumerate() {
        for (command, code) in [
            (&["start"][..], 0),
            (&["restart"], 0),
            (&["restart", "--wait=ready", "--timeout", "50ms"], 5),
            (&["update", "--env", "A=b"], 0),
            (&["remove"], 6),
            (&["stop"], 0),
            (&["remove", "--force"], 0),
        ] {
            service.ok(&["apply", "--yes", &path]);
            service.ok(&[&["start"][..], &all].concat());
            wait::until("they wait", SOON, || waits_for(&service, "top").starts_with("web ("));
            service.cli(&[command, &[who]].concat()).expect(code);
            // Who has been stopped or taken away, and who needs it, stays.
            let has_gone = ["stop", "remove"].contains(&command[0]) && code == 0;
            let goes_on = if has_gone { &all[..asked] } else { &all[..] };
            fs::write(&gate, "").unwrap();
            if !goes_on.is_empty() {
                let waited = [&["wait", "--for", "ready", "--timeout", "20s"][..], goes_on].concat();
                service.cli(&waited).expect(0);
            }
            for who in &all[if has_gone { asked + 1 } else { all.len() }..] {
                assert_eq!(service.state(who), "starting", "{command:?} {who}");
            }
            service.ok(&["stop", "*"]);
            fs::remove_file(&gate).unwrap();
        }
    }
}
