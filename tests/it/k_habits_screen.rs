//! What people see on a terminal: tables that fit it, waits that say for whom, and what failed, explained.

use std::process::Command;

use crate::harness::{LATER, Options, Output, SOON, STUBBORN, Service, cli, wait};

/// A command on a terminal of its own, so many columns wide; what the terminal got.
#[track_caller]
pub fn on_terminal(service: &Service, columns: usize, args: &str) -> Output {
    let mut command = Command::new("script");
    let line = format!("stty cols {columns} rows 24; {} {args}", crate::harness::binary().display());
    command.args(["-qefc", &line, "/dev/null"]).env("PROVOST_SOCKET", service.socket());
    command.env("TERM", "xterm").env("NO_COLOR", "1").env_remove("COLUMNS");
    cli::run(command, LATER)
}

/// A service with one that fails and comes again, at rest in between for long.
fn crashing(script: &str) -> Service {
    let service = Options::new().without_cgroups().start();
    let options = ["--name", "crash", "--restart", "always", "--restart-delay", "30s", "--"];
    service.start(&[&options[..], &["sh", "-c", script]].concat());
    service
}

#[test]
fn the_table_fits_terminals_of_40_80_and_200_columns() {
    let service = crashing("exit 4");
    service.until_state("crash", "backoff");
    let long = "x".repeat(150);
    service.start(&[
        "--name",
        "web-with-a-rather-long-name",
        "--",
        "sh",
        "-c",
        &format!(": {long}; sleep 83001"),
    ]);
    service.start(&["--name", "wide", "--", "sh", "-c", ": 日本語日本語日本語日本語日本語; sleep 83002"]);
    for columns in [40, 80, 200] {
        let shown = on_terminal(&service, columns, "list");
        let text = shown.expect(0).out();
        for line in text.lines().map(str::trim_end) {
            let width: usize =
                line.chars().map(|c| if ('\u{2e80}'..'\u{a000}').contains(&c) { 2 } else { 1 }).sum();
            assert!(width <= columns, "{columns}: {line:?}\n{text}");
        }
        assert!(text.contains("exited 4") && text.contains("web-with") && text.contains("backoff"), "{text}");
        assert_eq!(columns >= 80, text.contains("COMMAND"), "{text}");
    }
    assert!(on_terminal(&service, 200, "list").out().contains(&"x".repeat(90)));
}

#[test]
fn the_last_exit_is_red_and_a_table_can_be_had_in_a_pipe() {
    let service = crashing("exit 4");
    service.until_state("crash", "backoff");
    let line = format!("{} list", crate::harness::binary().display());
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).env("PROVOST_SOCKET", service.socket()).env("TERM", "xterm");
    command.env_remove("NO_COLOR");
    let shown = cli::run(command, LATER).out();
    assert!(shown.contains("\u{1b}[31mexited 4"), "{shown:?}");
    let table = service.ok(&["list", "--table"]);
    assert!(table.starts_with("NAME") && table.contains("exited 4") && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn list_chooses_by_state_and_label_and_formats_lines() {
    let service = Options::new().without_cgroups().start();
    let front = service.start(&["--name", "front", "--label", "tier=front", "--", "sleep", "83003"]);
    service.start(&["--name", "back", "--label", "tier=back", "--", "sleep", "83004"]);
    service.ok(&["stop", "back"]);
    assert_eq!(service.ok(&["list", "--state", "stopped", "--format", "{name}"]), "back");
    assert_eq!(service.ok(&["list", "--label", "tier=front", "--format", "{id}"]), front);
    assert_eq!(service.ok(&["list", "--label", "tier", "--state", "running,stopped"]).lines().count(), 2);
    let pid = service.pid("front").to_string();
    assert_eq!(
        service.ok(&["list", "--format", "{name}\\t{pid} {labels.tier}", "front"]),
        format!("front\t{pid} front")
    );
    assert_eq!(service.ok(&["status", "--format", "{state} {ready}", "front"]), "running true");
    let refused = service.cli(&["list", "--format", "{nmae}"]);
    assert!(refused.expect(2).err().contains("did you mean {name}?"), "{refused:?}");
}

#[test]
fn a_watched_list_is_shown_again_when_something_happens() {
    let service = Options::new().without_cgroups().start();
    service.start(&["--name", "a", "--", "sleep", "83005"]);
    let watched = service.background(&["list", "--watch", "--format", "{name} {state}"]);
    watched.line_with("a running", SOON);
    service.ok(&["stop", "a"]);
    watched.line_with("a stopped", SOON);
    service.start(&["--name", "b", "--", "sleep", "83006"]);
    watched.line_with("b running", SOON);
    watched.signal("INT");
    watched.end(SOON);
}

#[test]
fn a_long_stop_says_on_a_terminal_for_whom_it_waits_and_nothing_in_a_pipe() {
    let service = Options::new().without_cgroups().start();
    let stubborn = |name: &str| {
        let options = ["--name", name, "--stop-timeout", "3s", "--ready-line", "up", "--wait", "--"];
        service.start(&[&options[..], &["sh", "-c", STUBBORN]].concat());
    };
    stubborn("web-1");
    let shown = on_terminal(&service, 80, "stop web-1").out();
    assert!(shown.contains("waits for web-1: SIGTERM ") && shown.contains("SIGKILL in "), "{shown:?}");
    stubborn("web-2");
    let stop = service.background(&["stop", "web-2"]);
    // `why` and `status` say it too, meanwhile.
    wait::until("why says how far the stop is", SOON, || {
        let why = service.ok(&["why", "web-2"]);
        why.contains("SIGTERM") && why.contains(" ago, SIGKILL in ")
    });
    let stopped = stop.end(SOON);
    assert_eq!(stopped.expect(0).err(), "");
}

#[test]
fn the_end_of_the_service_says_for_whom_it_waits() {
    let service = Options::new().without_cgroups().start();
    let options = ["--name", "last", "--stop-timeout", "3s", "--ready-line", "up", "--wait", "--"];
    service.start(&[&options[..], &["sh", "-c", STUBBORN]].concat());
    service.end();
    let log = service.log();
    assert!(log.contains("waits for last (SIGTERM 1 s ago, SIGKILL in "), "{log}");
}

#[test]
fn what_failed_is_shown_with_its_last_three_lines() {
    let service = crashing("seq 5; echo bad >&2; exit 4");
    service.until_state("crash", "backoff");
    let status = service.cli(&["status", "crash"]).expect(3).out();
    assert!(
        status.contains("exit code 4") && status.ends_with("last output:\n    4\n    5\n    bad"),
        "{status}"
    );
}

#[test]
fn after_a_restart_the_lines_of_the_run_that_died_are_shown_as_such() {
    let service = Options::new().without_cgroups().start();
    let runs = service.scratch().file("runs");
    let script = format!(
        "echo >> {runs}; n=$(wc -l < {runs}); echo line $n; [ $n -lt 3 ] && exit 4; exec sleep 83007"
    );
    let options = ["--name", "crash", "--restart", "always", "--restart-delay", "1ms"];
    service.start(&[&options[..], &["--", "sh", "-c", &script]].concat());
    wait::until("the third run talks", SOON, || service.output("crash").ends_with(b"line 3\n"));
    for command in ["why", "status"] {
        let said = service.ok(&[command, "crash"]);
        assert!(said.contains("last output of run 2, which ended:\n    line 2"), "{said}");
        assert!(!said.contains("line 1"), "{said}");
    }
    let why = service.ok(&["why", "crash"]);
    assert!(why.contains("last output: line 3") && why.contains("restart planned"), "{why}");
    let json = service.cli(&["why", "--json", "crash"]).json().remove(0);
    assert_eq!(json["last_output"], "line 3");
    assert_eq!(json["output_of_run_before"], serde_json::json!(["line 2"]));
}

#[test]
fn who_stopped_what_waited_for_its_next_attempt_is_named() {
    let service = crashing("exit 4");
    service.until_state("crash", "backoff");
    service.ok(&["stop", "crash"]);
    let why = service.ok(&["why", "crash"]);
    assert!(why.starts_with("crash: stopped by uid 0"), "{why}");
    assert!(why.contains("while it waited for its next attempt, by uid 0"), "{why}");
}

#[test]
fn why_tells_of_a_program_that_went_into_the_background() {
    let service = Options::new().without_cgroups().start();
    let pid = service.scratch().file("pid");
    let script = format!("setsid sleep 83008 & echo $! > {pid}; exit 0");
    service.start(&["--name", "daemon", "--", "sh", "-c", &script]);
    service.until_state("daemon", "stopped");
    let why = service.ok(&["why", "daemon"]);
    assert!(why.contains("put itself into the background") && why.contains("in the foreground"), "{why}");
    assert!(why.contains("SIGTERM to 1 process that it left behind"), "{why}");
    // One that leaves nothing has done its work.
    service.start(&["--name", "job", "--", "true"]);
    service.until_state("job", "stopped");
    assert!(!service.ok(&["why", "job"]).contains("background"));
}
