//! What a process is defined as: changed while it runs, shown, and made again from what was shown.

use std::fs;

use provost::wire::error::Code;
use provost::wire::request::{OutdatedRun, Update};
use serde_json::Value;

use crate::harness::{SOON, Service, rounds, wait};

/// What `show` has of a process.
fn definition(service: &Service, target: &str) -> Value {
    service.cli(&["show", "--reveal", "--json", target]).expect(0).json()[0]["definition"].clone()
}

#[test]
fn an_update_keeps_all_but_what_it_changes() {
    let service = Service::new();
    let id = service.start(&[
        "--name",
        "web",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--",
        "sh",
        "-c",
        "echo $A $B; sleep 1000",
    ]);
    wait::until("it has said so", SOON, || service.output("web") == b"1 2\n");
    let before = service.status_json("web");
    let said = service.ok(&["update", "--env", "A=3", "--label", "k=v", "web"]);
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said[0], "web: changes, and is restarted");
    assert_eq!(said[1..3], [r#"  env.A: "1" -> "3""#, r#"  labels.k: - -> "v""#]);
    assert!(said[3].starts_with("web: running (pid "), "{said:?}");
    let after = service.status_json("web");
    assert_eq!((&after["id"], &after["run"]), (&Value::from(id.as_str()), &Value::from(2)));
    assert_eq!((&after["restarts"], &after["outdated"]), (&before["restarts"], &Value::from(false)));
    assert_eq!(after["labels"]["k"], "v");
    wait::until("the next run has, too", SOON, || service.output("web") == b"1 2\n3 2\n");
    let events = service.events_of(&after);
    let kinds: Vec<_> = events.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["created", "started", "updated"]);
    assert_eq!((events[2]["detail"].as_str(), events[2]["run"].as_u64()), (Some("env, labels"), Some(1)));
}

#[test]
fn what_holds_at_once_restarts_nothing() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "1000"]);
    let pid = service.pid("web");
    let said = service.ok(&[
        "update",
        "web",
        "--restart",
        "always",
        "--stop-timeout",
        "3s",
        "--label",
        "a=b",
        "--no-autostart",
        "--ready-tcp",
        "80",
    ]);
    assert!(said.starts_with("web: changes\n"), "{said}");
    let status = service.status_json("web");
    assert_eq!((status["pid"].as_u64(), status["run"].as_u64()), (Some(u64::from(pid)), Some(1)));
    assert_eq!((&status["outdated"], &status["ready"]), (&Value::from(false), &Value::from(true)));
    // The new rule is in force for the run that was there before it.
    service.ok(&["signal", "KILL", "web"]);
    wait::until("it runs again", SOON, || {
        let web = service.status_json("web");
        web["restarts"] == 1 && web["state"] == "running"
    });
    let said = service.ok(&["update", "web", "--restart", "always"]);
    assert!(said.starts_with("web: nothing changes\n"), "{said}");
}

#[test]
fn a_run_that_is_left_alone_is_outdated_until_it_ends() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "1000"]);
    service.ok(&["update", "--no-restart", "--nice", "3", "web"]);
    assert_eq!(
        (&service.status_json("web")["outdated"], service.state("web").as_str()),
        (&true.into(), "running")
    );
    assert!(service.ok(&["status", "web"]).contains("outdated"));
    assert!(service.ok(&["why", "web"]).contains("'provost restart web' makes it hold"));
    // It is on record, for the next engine too.
    service.kill_engine();
    assert_eq!(service.status_json("web")["outdated"], true);
    assert_eq!(definition(&service, "web")["nice"], 3);
    service.ok(&["restart", "web"]);
    assert_eq!(service.status_json("web")["outdated"], false);
    // Of what is at rest nothing is outdated, and nothing is started.
    service.ok(&["stop", "web"]);
    service.ok(&["update", "--nice", "4", "web"]);
    let status = service.status_json("web");
    assert_eq!((&status["outdated"], &status["state"]), (&false.into(), &"stopped".into()));
}

#[test]
fn what_cannot_run_changes_nothing() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "1000"]);
    service.start(&["--name", "web2", "--", "sleep", "1000"]);
    let (before, status) = (definition(&service, "web"), service.status_json("web"));
    for (change, code) in [
        (["--user", "no-such-user"], None),
        (["--output-limit", "8k"], Some(6)),
        (["--name", "other"], Some(2)),
        (["--env", "=x"], Some(2)),
    ] {
        let out = service.cli(&["update", "web", change[0], change[1]]);
        assert!(!out.err().is_empty(), "{change:?}");
        if let Some(code) = code {
            out.expect(code);
        }
        assert_eq!(definition(&service, "web"), before, "{change:?}");
        assert_eq!(service.status_json("web")["pid"], status["pid"], "{change:?}");
    }
    let mut client = service.client();
    let spec = client.definitions(vec!["web".into()]).unwrap().remove(0).spec;
    // By the library, with another name, and for several at once.
    let mut other = spec.clone();
    other.name = Some("web3".parse().unwrap());
    let update = |target: &str, spec| Update { target: target.into(), spec, outdated: OutdatedRun::Restart };
    let item = client.update(update("web", other)).unwrap().remove(0);
    assert_eq!(item.error.unwrap().code, Code::Refused);
    assert_eq!(client.update(update("web*", spec)).unwrap_err().code, Code::Usage);
    service.cli(&["update", "no-such", "--nice", "1"]).expect(4);
}

#[test]
fn what_is_shown_makes_the_same() {
    let service = Service::new();
    let options = [
        "--name",
        "web",
        "-e",
        "API_KEY=hush",
        "-e",
        "A=b c",
        "--nice",
        "5",
        "--umask",
        "027",
        "--limit",
        "nofile=100:200",
        "--restart",
        "on-failure",
        "--success-codes",
        "0,3",
        "--stop-signal",
        "INT",
        "--label",
        "k=v",
        "--cwd",
        "/tmp",
        "--",
        "sleep",
        "1000",
    ];
    service.start(&options);
    let shown = service.ok(&["show", "web"]);
    assert!(shown.starts_with("# provost start --name web ") && !shown.contains("hush"), "{shown}");
    assert!(shown.contains("\n[process.web]\ncommand = [\"sleep\", \"1000\"]\n"), "{shown}");
    assert!(shown.contains("\n[process.web.env]\nAPI_KEY = \"***\"\nA = \"b c\"\n"), "{shown}");
    let before = definition(&service, "web");
    let line = service.cli(&["show", "--reveal", "--json", "web"]).json()[0]["command_line"].clone();
    service.ok(&["remove", "--force", "web"]);
    let socket = service.socket();
    let line = line.as_str().unwrap().replacen("provost", "\"$0\" --socket \"$1\"", 1);
    let binary = crate::harness::binary().to_str().unwrap();
    let status = std::process::Command::new("sh").args(["-c", &line, binary, socket]).status().unwrap();
    assert!(status.success(), "{line}");
    assert_eq!(definition(&service, "web"), before);
    service.start(&["--", "sleep", "1000"]);
    let all = service.ok(&["export", "--reveal"]);
    assert!(
        all.contains("API_KEY = \"hush\"") && all.contains(" has no name, and is left out: sleep 1000"),
        "{all}"
    );
}

/// What is exported says the same as what was applied, sets and secrets included; what hides a secret is no
/// value of it.
#[test]
fn what_is_exported_can_be_applied_and_changes_nothing() {
    let service = Service::new();
    let text = "[process.duck]\ncommand = ['sleep', '1000']\ninstances = 3\nenv = { API_TOKEN = 'hush' }\n\
                [process.swan]\ncommand = ['sleep', '1001']\nlabels = { pond = 'north' }\n";
    let file = |text: &str| {
        let path = service.scratch().file("exported.toml");
        fs::write(&path, text).expect("it is ours");
        path
    };
    service.ok(&["apply", "--yes", &file(text)]);
    let all = service.ok(&["export", "--reveal"]);
    assert!(all.contains("[process.duck]\n") && all.contains("instances = 3"), "{all}");
    assert!(service.ok(&["apply", "--dry-run", &file(&all)]).starts_with("nothing to do"), "{all}");
    let hidden = service.cli(&["apply", "--dry-run", &file(&service.ok(&["export"]))]);
    hidden.expect(2);
    let why = hidden.err();
    assert!(why.contains("API_TOKEN = \"***\"") && why.contains("export --reveal"), "{why}");
    // One that is not like the others stands for itself, and so do they.
    service.ok(&["update", "duck-2", "--label", "pond=south"]);
    let all = service.ok(&["export", "--reveal"]);
    assert!(["duck-1", "duck-2", "duck-3"].iter().all(|n| all.contains(&format!("[process.{n}]"))), "{all}");
}

/// The engine may end at any instant of an update: the definition is the old one or the new one, and who asks
/// again has what they asked for, once.
#[test]
fn an_engine_that_dies_in_an_update_loses_and_tears_nothing() {
    let service = Service::new();
    let text = "x".repeat(20_000);
    service.start(&["--name", "web", "--", "sh", "-c", "sleep 1000", &text]);
    let mut client = service.client();
    let first = client.definitions(vec!["web".into()]).unwrap().remove(0);
    for round in 1..=rounds(12) {
        let mut spec = first.spec.clone();
        spec.env = vec![("ROUND".into(), format!("{round}{}", "y".repeat((round as usize % 5) * 3000)))];
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| service.kill_engine());
            let update = Update { target: "web".into(), spec: spec.clone(), outdated: OutdatedRun::Restart };
            let item = client.update(update).unwrap().remove(0);
            assert_eq!(item.error, None);
            killer.join().unwrap();
        });
        let now = client.definitions(vec!["web".into()]).unwrap().remove(0);
        assert_eq!((now.spec, now.process.id), (spec, first.process.id));
        assert_eq!(now.process.run, u64::from(round) + 1, "one restart for each");
        assert!(!now.process.outdated && now.process.pid.is_some());
    }
}

#[test]
fn instances_come_and_go() {
    let service = Service::new();
    service.ok(&[
        "start",
        "--name",
        "w",
        "--instances",
        "3",
        "--",
        "sh",
        "-c",
        "echo $PROVOST_INSTANCE; sleep 1000",
    ]);
    let pids = |names: &[&str]| names.iter().map(|name| service.pid(name)).collect::<Vec<_>>();
    let before = pids(&["w-1", "w-3"]);
    service.ok(&["remove", "--force", "w-2"]);
    service.ok(&["scale", "w", "5"]);
    assert_eq!((service.list_json().len(), pids(&["w-1", "w-3"])), (5, before));
    wait::until("it has said so", SOON, || {
        service.output("w-5") == b"5\n" && service.output("w-2") == b"2\n"
    });
    service.ok(&["scale", "w", "1"]);
    assert_eq!(service.list_json().len(), 1);
    service.cli(&["scale", "x", "1"]).expect(4);
}

#[test]
fn instances_are_restarted_one_by_one_until_one_fails() {
    let service = Service::new();
    let file = service.scratch().file("fail");
    let program = format!("test -e {file} && exit 1; echo up; sleep 1000");
    service.ok(&[
        "start",
        "--name",
        "w",
        "--instances",
        "3",
        "--ready-line",
        "up",
        "--wait",
        "--",
        "sh",
        "-c",
        &program,
    ]);
    service.ok(&["restart", "--one-by-one", "w-*"]);
    let all = service.list_json();
    assert!(all.iter().all(|p| p["run"] == 2 && p["ready"] == true), "{all:?}");
    let times: Vec<_> = all.iter().map(|p| p["started_at"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted(), "{times:?}");
    std::fs::write(&file, "").unwrap();
    let out = service.cli(&["restart", "--one-by-one", "--timeout", "20s", "w-*"]);
    assert!(out.code != 0 && out.err().contains("left as they are: w-2, w-3"), "{out:?}");
    assert!(service.list_json()[1..].iter().all(|p| p["run"] == 2 && p["state"] == "running"));
    // What is not there is a reason to touch nothing.
    service.cli(&["restart", "--one-by-one", "w-2", "no-such"]).expect(4);
    assert_eq!(service.status_json("w-2")["run"], 2);
}

#[test]
fn an_update_outlives_the_service() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "1000"]);
    service.ok(&["update", "--nice", "7", "--env", "A=1", "web"]);
    service.kill_all();
    service.serve_again();
    service.until_state("web", "running");
    let after = definition(&service, "web");
    assert_eq!((&after["nice"], &after["env"]["A"]), (&7.into(), &"1".into()));
}

#[test]
fn the_audit_names_an_update_and_no_value() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "1000"]);
    service.ok(&["update", "--env", "A=hush", "web"]);
    let audit = service.ok(&["audit"]);
    assert!(audit.contains("update ") && !audit.contains("hush"), "{audit}");
    assert!(!service.ok(&["events"]).contains("hush"));
    service.cli(&["update", "--nice", "1", "provost.x"]).expect(4);
}
