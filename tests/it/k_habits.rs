//! What people type by habit, from other programs of this kind: it is done, or answered with the command that
//! does it. Each line of what stumbled once is a test here or in the files beside it.

use serde_json::Value;

use crate::harness::{Options, SOON, Service, wait};

/// A service with `web-1` to `web-3` and `db`.
fn some() -> Service {
    let service = Options::new().without_cgroups().start();
    service.ok(&["start", "--name", "web", "--instances", "3", "--", "sleep", "82001"]);
    service.start(&["--name", "db", "--", "sleep", "82002"]);
    service
}

/// What a refused command proposes.
#[track_caller]
pub fn hint(service: &Service, args: &[&str], code: i32) -> String {
    let output = service.cli(args);
    let err = output.expect(code).err();
    let hint = err.lines().find_map(|line| line.strip_prefix("provost: hint: "));
    hint.unwrap_or_else(|| panic!("no hint: {output:?}")).to_owned()
}

#[test]
fn names_that_commands_have_elsewhere_are_understood() {
    let service = some();
    let list = service.ok(&["list"]);
    for alias in ["ls", "ps"] {
        assert_eq!(service.ok(&[alias]), list);
    }
    service.start(&["--name", "talk", "--", "sh", "-c", "seq 20; sleep 82003"]);
    wait::until("it has said all", SOON, || service.output("talk").ends_with(b"20\n"));
    assert_eq!(service.ok(&["tail", "talk"]).lines().count(), 10);
    assert_eq!(service.ok(&["output", "-n", "5", "talk"]), "16\n17\n18\n19\n20");
    service.ok(&["rm", "-f", "talk"]);
    service.ok(&["delete", "--force", "db"]);
    assert_eq!(service.list_json().len(), 3);
    assert!(service.ok(&["help", "ps"]).contains("provost list"));
    // Elsewhere it does many things: so it is answered.
    let kill = hint(&service, &["kill", "-9", "web-1"], 2);
    assert!(kill.contains("provost stop web-1") && kill.contains("provost signal 9 web-1"), "{kill}");
    assert_eq!(service.state("web-1"), "running");
    let top = service.background(&["top", "--table"]);
    top.line_with("web-1", SOON);
    top.signal("INT");
    top.end(SOON);
}

#[test]
fn status_without_a_target_is_of_all() {
    let service = Options::new().without_cgroups().start();
    assert!(service.cli(&["status"]).expect(0).err().contains("provost start -- PROGRAM"));
    service.start(&["--name", "a", "--", "sleep", "82004"]);
    service.start(&["--name", "b", "--", "sleep", "82005"]);
    assert_eq!(service.ok(&["status"]).lines().count(), 2);
    service.ok(&["stop", "b"]);
    assert!(service.cli(&["status"]).expect(3).out().contains("b: stopped"));
}

#[test]
fn all_means_every_process_unless_one_is_called_so() {
    let service = some();
    assert_eq!(service.ok(&["restart", "all"]).lines().count(), 4);
    assert!(service.list_json().iter().all(|p| p["run"] == 2));
    service.start(&["--name", "all", "--", "sleep", "82006"]);
    assert_eq!(service.ok(&["stop", "all"]).lines().count(), 1);
    let running = service.list_json().iter().filter(|p| p["state"] == "running").count();
    assert_eq!(running, 4);
}

#[test]
fn short_options_are_known() {
    let service = some();
    assert_eq!(service.ok(&["list", "-a"]), service.ok(&["list", "--all"]));
    let follow = service.background(&["output", "-f", "db"]);
    let events = service.background(&["events", "-f"]);
    events.signal("INT");
    follow.signal("INT");
    events.end(SOON);
    follow.end(SOON);
    assert_eq!(service.ok(&["events", "-n", "3"]).lines().count(), 3);
    assert_eq!(service.ok(&["history", "-n", "1", "db"]).lines().count(), 1);
}

#[test]
fn another_machine_may_be_named_behind_the_command() {
    let service = some();
    for args in [&["list", "-H", "nowhere"], &["-H", "nowhere", "list"], &["list", "--remote", "nowhere"]] {
        let err = service.cli(args).err();
        assert!(err.contains("nowhere") && !err.contains("has no option"), "{err}");
    }
}

#[test]
fn a_target_that_names_nothing_is_answered_with_the_one_that_is_meant() {
    let service = some();
    assert!(hint(&service, &["status", "wbe-2"], 4).contains("did you mean web-2?"));
    assert_eq!(hint(&service, &["stop", "web"], 4), "there are web-1 to web-3: 'web-*'");
    assert!(hint(&service, &["why", "wbe-1"], 4).contains("did you mean web-1?"));
    assert!(hint(&service, &["output", "web-11"], 4).contains("did you mean web-1?"));
    assert!(hint(&service, &["start", "wbe-1"], 4).contains("did you mean web-1?"));
    assert!(hint(&service, &["stream", "wbe-1"], 4).contains("did you mean web-1?"));
    let found = service.cli(&["status", "wbe-2", "--json"]).expect(4).json();
    assert!(
        found[0]["error"]["hint"].as_str().is_some_and(|hint| hint.contains("did you mean web-2?")),
        "{found:?}"
    );
}

#[test]
fn what_is_written_otherwise_elsewhere_is_answered_with_how_it_is_here() {
    let service = some();
    assert!(hint(&service, &["status", "DB"], 4).contains("did you mean db?"));
    assert!(hint(&service, &["logs", "-3", "web-1"], 2).contains("provost logs -n N"));
    assert!(hint(&service, &["scale", "db", "3"], 6).contains("'instances = 3'"));
    let cron = ["start", "--name", "x", "--cron", "0 3 * * *", "--", "true"];
    assert_eq!(hint(&service, &cron, 2), "here that is --schedule");
    // Errors are objects where JSON is asked for.
    for (target, code, name) in [("nosuch", 4, "not_found"), ("db", 3, "no")] {
        let found = service.cli(&["schedule", "--json", target]).expect(code).json();
        assert_eq!(found[0]["error"]["code"], name, "{found:?}");
    }
}

#[test]
fn missing_dashes_are_named() {
    let service = some();
    let write = hint(&service, &["start", "nginx", "-c", "x"], 2);
    assert!(write.ends_with("provost start -- nginx -c x"), "{write}");
    let write = hint(&service, &["run", "--rm", "nginx", "-c", "x y"], 125);
    assert!(write.ends_with("provost run --rm -- nginx -c 'x y'"), "{write}");
    assert!(hint(&service, &["start", "nginx"], 4).contains("provost start -- nginx"));
}

#[test]
fn a_line_for_a_shell_is_answered_with_the_option() {
    let service = some();
    let write = hint(&service, &["start", "--", "echo a | wc"], 1);
    assert!(write.ends_with("provost start --shell -- 'echo a | wc'"), "{write}");
    assert!(hint(&service, &["run", "--", "a|b"], 127).contains("--shell"));
    assert!(!hint(&service, &["start", "--", "nosuch"], 1).contains("--shell"));
}

#[test]
fn with_json_every_failure_is_an_object() {
    let service = some();
    let code = |args: &[&str], exit| {
        let objects = service.cli(args).expect(exit).json();
        let code = objects.last().unwrap_or(&Value::Null)["error"]["code"].as_str().map(str::to_owned);
        code.unwrap_or_else(|| panic!("{args:?}: {objects:?}"))
    };
    assert_eq!(code(&["start", "--json", "--", "nosuch"], 1), "program_not_found");
    assert_eq!(code(&["why", "nope", "--json"], 4), "not_found");
    assert_eq!(code(&["output", "nope", "--json"], 4), "not_found");
    assert_eq!(code(&["stop", "nope", "--json"], 4), "not_found");
    assert_eq!(code(&["start", "--bogus", "--json"], 2), "usage");
    assert_eq!(code(&["nosuch", "--json"], 2), "usage");
    assert_eq!(code(&["--json"], 2), "usage");
    assert_eq!(code(&["stop", "--json"], 2), "usage");
    assert_eq!(code(&["list", "--json", "--socket", "/nowhere/s"], 7), "unreachable");
    assert_eq!(code(&["wait", "db", "--json", "--timeout", "10ms"], 5), "timed_out");
}

#[test]
fn a_start_that_is_waited_for_prints_the_state_after_the_wait() {
    let service = Options::new().without_cgroups().start();
    let script = "sleep 0.3; echo up; sleep 82007";
    let start =
        ["start", "--name", "slow", "--ready-line", "up", "--wait", "--json", "--", "sh", "-c", script];
    let objects = service.cli(&start).expect(0).json();
    assert_eq!(objects.len(), 1, "{objects:?}");
    assert_eq!((&objects[0]["state"], &objects[0]["ready"]), (&"running".into(), &true.into()));
    service.ok(&["stop", "slow"]);
    let again = service.cli(&["start", "--wait=ready", "--json", "slow"]).expect(0).json();
    assert_eq!((again.len(), &again[0]["ready"]), (1, &true.into()), "{again:?}");
    service.ok(&["stop", "slow"]);
    let said = service.ok(&["start", "--wait=ready", "slow"]);
    assert!(said.contains("running") && !said.contains("not ready"), "{said}");
    // One that is not there in time is told with how it is.
    let late =
        ["start", "--wait", "--timeout", "50ms", "--json", "--ready-line", "x", "--", "sleep", "82008"];
    let late = service.cli(&late).expect(5).json();
    assert_eq!(late[0]["error"]["code"], "timed_out");
    assert_eq!(late[0]["process"]["state"], "running");
}

#[test]
fn a_number_out_of_range_is_answered_with_the_range() {
    let service = Options::new().without_cgroups().start();
    assert!(hint(&service, &["output", "--tail", "-1", "x"], 2).contains("from 0 to "));
    assert!(hint(&service, &["start", "--ready-tcp", "70000", "--", "x"], 2).contains("from 0 to 65535"));
}
