//! What stumbled when somebody tried it with nothing but the documentation: each wrong turn is answered with
//! the way that was meant.

use std::fs;

use serde_json::Value;

use crate::harness::{Options, SOON, Service, wait};
use crate::k_habits::hint;

/// What `apply --dry-run` of a section with this line says.
#[track_caller]
fn refused(service: &Service, line: &str) -> String {
    let file = service.scratch().file("tried.toml");
    let command = if line.starts_with("command") { "" } else { "command = [\"sleep\", \"87001\"]\n" };
    fs::write(&file, format!("[process.web]\n{command}{line}\n")).expect("it is ours");
    hint(service, &["apply", "--dry-run", &file], 2)
}

#[test]
fn words_of_other_programs_are_answered() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "web", "--", "sleep", "87002"]);
    assert!(hint(&service, &["describe", "web"], 2).contains("provost show TARGET"));
    assert!(hint(&service, &["rollback", "web"], 2).contains("docs/recipes.md"));
    assert!(hint(&service, &["trigger", "web"], 2).contains("provost start TARGET"));
    assert_eq!(hint(&service, &["stop", "--all"], 2), "all of them: provost stop all");
    assert!(hint(&service, &["run", "web"], 125).contains("started by 'provost start NAME'"));
    assert_eq!(hint(&service, &["schedule", "run", "web"], 2), "to run it now: provost start web");
    assert_eq!(hint(&service, &["schedule", "list"], 2), "provost schedule shows all");
    assert!(hint(&service, &["history", "--since", "1d", "web"], 2).contains("--limit N"));
    service.ok(&["logs", "-n", "3", "web"]);
    // One that is called so is meant.
    service.start(&["--name", "list", "--schedule", "@daily", "--", "true"]);
    assert_eq!(service.ok(&["schedule", "list"]).lines().count(), 5);
}

#[test]
fn keys_and_values_of_other_programs_are_answered() {
    let service = Options::new().without_cgroups().start();
    assert_eq!(refused(&service, "depends_on = [\"db\"]"), "here that is requires = [\"NAME\"]");
    assert_eq!(refused(&service, "working_directory = \"/x\""), "here that is cwd = \"/DIRECTORY\"");
    assert!(refused(&service, "autorestart = true").contains("restart = \"always\""));
    assert!(refused(&service, "shell = true").contains("[\"sh\", \"-c\""));
    assert!(refused(&service, "xyzzy = 1").contains("docs/config.md"));
    assert_eq!(refused(&service, "command = \"redis-server\""), "write command = [\"redis-server\"]");
    assert_eq!(refused(&service, "essential = \"yes\""), "write essential = true");
    assert_eq!(refused(&service, "stop_timeout = 10"), "write stop_timeout = \"10s\"");
    assert_eq!(refused(&service, "ready_tcp = \"80\""), "write ready_tcp = 80");
    assert_eq!(refused(&service, "limits = { nofile = 9 }"), "write limits = { nofile = \"9\" }");
    assert!(refused(&service, "redact = [\"a\\S\"]").contains("within '…' it stands for itself"));
}

#[test]
fn what_could_not_be_started_says_why_in_words() {
    let service = Options::new().without_cgroups().start();
    let directory = service.scratch().file("gone");
    fs::create_dir(&directory).expect("it is ours");
    let rules = ["--name", "web", "--restart", "always", "--max-restarts", "1", "--cwd", &directory];
    service.start(&[&rules[..], &["--", "sleep", "87004"]].concat());
    fs::remove_dir(&directory).expect("it is ours");
    service.ok(&["signal", "KILL", "web"]);
    service.until_state("web", "failed");
    let why = service.ok(&["why", "web"]);
    assert!(why.contains("no such file or directory") && !why.contains("errno"), "{why}");
    let waited = hint(&service, &["wait", "--for", "ready", "--timeout", "10ms", "web"], 125);
    assert!(waited.contains("provost why web"), "{waited}");
}

#[test]
fn what_is_not_ready_in_time_names_the_command_that_tells_more() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "slow", "--ready-line", "never", "--", "sleep", "87003"]);
    let late = hint(&service, &["wait", "--for", "ready", "--timeout", "10ms", "slow"], 5);
    assert!(late.starts_with("'provost why slow' tells"), "{late}");
    let late = hint(&service, &["restart", "--wait=ready", "--timeout", "10ms", "slow"], 5);
    assert!(late.starts_with("'provost why slow' tells"), "{late}");
}

#[test]
fn apply_tells_of_what_has_failed_for_good() {
    let service = Options::new().without_cgroups().start();
    let file = service.scratch().file("declared.toml");
    let section = |more: &str| {
        let rules = "restart = \"on-failure\"\nmax_restarts = 1\n";
        fs::write(&file, format!("[process.web]\ncommand = [\"false\"]\n{rules}{more}")).expect("it is ours");
        service.cli(&["apply", "--yes", &file]).expect(0).err()
    };
    section("");
    wait::until("it has given up", SOON, || service.state("web") == "failed");
    for more in ["", "stop_timeout = \"5s\"\n"] {
        let said = section(more);
        assert!(said.contains("web has failed: 'provost why web' tells why, 'provost start web'"), "{said}");
    }
    // For programs the answer is the objects.
    let json = service.cli(&["apply", "--yes", "--json", &file]).expect(0).json();
    assert!(json.iter().all(|object: &Value| object["error"].is_null()), "{json:?}");
}

#[test]
fn an_essential_process_of_nobodys_file_tells_how_the_service_is_had_without_it() {
    let service = Options::new().without_cgroups().start();
    service.cli(&["start", "--name", "main", "--essential", "--", "sh", "-c", "exit 3"]);
    assert_eq!(service.keeper_end(SOON), 3);
    assert!(
        service.log().contains("it begins with it again, but for one with --state none"),
        "{}",
        service.log()
    );
}
