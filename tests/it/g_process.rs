//! The gateway as a process: it may die in any way, nothing depends on it, and it keeps no secret where others could
//! read it.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, SOON, procfs, wait};

/// Nothing that is written or shown anywhere may hold this.
const CANARY: &str = "canary-4d1f0c6b";

/// The command line works all the time, children run on, and gRPC is back by itself.
#[test]
fn g33_an_abort_of_the_core_hurts_nobody() {
    let gateway = Gateway::start();
    let service = gateway.service();
    service.start(&["--name", "child", "--", "sleep", "75000"]);
    let (child, engine) = (service.pid("child"), service.engine_pid());
    for round in 2..5 {
        let pid = gateway.pid();
        let begin = Instant::now();
        let killed = Command::new("kill").args(["-ABRT", &pid.to_string()]).status().expect("kill runs");
        assert!(killed.success());
        // The command line does not wait for it.
        wait::until("the old one is gone", SOON, || {
            assert_eq!(service.pid("child"), child);
            !procfs::alive(pid)
        });
        gateway.until_ready(round);
        gateway.cli(User::Viewer, &["status", "child"]).expect(0);
        println!("gRPC was back after {} ms", begin.elapsed().as_millis());
        assert_eq!((service.pid("child"), service.engine_pid()), (child, engine));
    }
    let why = service.ok(&["why", "provost.gateway"]);
    assert!(why.contains("SIGABRT"), "{why}");
}

/// kill -9 of each part while others ask: every request is answered, by whoever is there then.
#[test]
fn a1_requests_from_afar_survive_the_engine() {
    let gateway = Gateway::start();
    let service = gateway.service();
    service.start(&["--name", "child", "--", "sleep", "75000"]);
    let pid = service.pid("child");
    let waiting = gateway.background(User::Viewer, &["wait", "child"]);
    for _ in 0..5 {
        service.kill_engine();
        let status = gateway.cli(User::Viewer, &["status", "child", "--json"]);
        assert_eq!(status.expect(0).json()[0]["pid"], pid);
    }
    assert!(waiting.is_running(), "{}", waiting.stderr_text());
    gateway.cli(User::Operator, &["stop", "child"]).expect(0);
    // SIGTERM's code, as the process has it.
    assert_eq!(waiting.end(LATER).code, 128 + 15);
}

#[test]
fn j10_what_was_asked_from_afar_is_on_record_even_when_all_is_killed_at_once() {
    let mut gateway = Gateway::start();
    gateway
        .cli(
            User::Admin,
            &["start", "--name", "web", "--env", &format!("KEY={CANARY}"), "--", "sleep", "75000"],
        )
        .expect(0);
    gateway.cli(User::Viewer, &["stop", "web"]).expect(6);
    gateway.cli(User::Operator, &["remove", "web"]).expect(6);
    gateway.cli(User::Operator, &["stop", "web"]).expect(0);
    gateway.service().kill_all();
    gateway.service_mut().serve_again();
    let lines = gateway.service().cli(&["audit", "--json"]).expect(0).json();
    let told: Vec<String> = lines
        .iter()
        .map(|l| [&l["who"], &l["what"], &l["result"]].map(|v| v.as_str().unwrap_or("-")).join(" | "))
        .collect();
    let is_told = |who: User, what: &str, result: &str| {
        let who = format!("user {}, certificate client.provost serial ", who.name());
        told.iter().any(|l| l.starts_with(&who) && l.contains(what) && l.contains(result))
    };
    assert!(is_told(User::Admin, "start", "done"), "{told:#?}");
    assert!(
        is_told(User::Viewer, "stop web", "refused: viewer may not stop: that needs operator"),
        "{told:#?}"
    );
    assert!(is_told(User::Operator, "remove web", "refused: operator may not remove"), "{told:#?}");
    // What came of the last one may not have come to the disk; that it was asked has.
    assert!(is_told(User::Operator, "stop web", ""), "{told:#?}");
    assert!(!told.concat().contains(CANARY));
}

/// Passwords, keys and values of the environment are in no log, table, command line or environment but the child's.
#[test]
fn j1_secrets_stay_where_they_belong() {
    let gateway = Gateway::start();
    let service = gateway.service();
    let value = format!("SECRET={CANARY}");
    gateway.cli(User::Admin, &["start", "--name", "web", "--env", &value, "--", "sleep", "75000"]).expect(0);
    gateway.cli(User::Admin, &["env", "set", &format!("GLOBAL={CANARY}")]).expect(0);
    let mut wrong = gateway.command(User::Admin, &["list"]);
    wrong.env("PROVOST_PASSWORD", format!("{CANARY}-password"));
    assert!(!wrong.output().expect("it runs").status.success());
    let key = fs::read_to_string(gateway.file("server.key")).expect("it is ours");
    let key_line = key.lines().nth(1).expect("a line of the key").to_owned();
    let shown = [
        gateway.log(),
        service.log(),
        service.ok(&["list", "--all", "--json"]),
        service.ok(&["why", "web"]),
        service.ok(&["events"]),
        service.ok(&["audit"]),
        service.ok(&["doctor"]),
    ];
    let pid = gateway.pid();
    for secret in [CANARY, User::Admin.password(), &key_line] {
        for text in &shown {
            assert!(!text.contains(secret), "{secret:?} in\n{text}");
        }
        let outside = [service.keeper_pid(), service.engine_pid(), pid];
        for pid in outside {
            for file in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let has = String::from_utf8_lossy(&bytes).contains(secret);
                assert!(!has, "{secret:?} in /proc/{pid}/{file}");
            }
        }
    }
    // What is given on is where it was given to.
    let child = service.pid("web");
    assert_eq!(procfs::variable(child, "SECRET").as_deref(), Some(CANARY));
    // And the files are closed to others.
    let state = service.state_dir();
    for file in fs::read_dir(&state).expect("there is a state").flatten() {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{}: {mode:o}", file.path().display());
    }
}
