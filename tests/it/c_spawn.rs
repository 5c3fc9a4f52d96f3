//! Failures of starting: programs that cannot be run, words that cannot be passed, users that may not be
//! taken. Each is told at once, in words of its own, and leaves nothing behind.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use provost::Spec;
use provost::wire::error::Code;
use provost::wire::id::ProcessId;
use provost::wire::request::{Numbering, Request, Start};

use crate::harness::{LATER, Options, Output, SOON, Scratch, Service, as_nobody, cli, procfs, wait};
use crate::raw::Peer;

/// Makes a file by a program that ends at once. Were it written in here, a child that another test's thread
/// has just forked might hold it open for writing, and nobody could execute it.
fn file(scratch: &Scratch, name: &str, mode: &str, content: &[u8]) -> String {
    let path = scratch.file(name);
    let mut install = Command::new("install")
        .args(["-m", mode, "/dev/stdin", &path])
        .stdin(Stdio::piped())
        .spawn()
        .expect("install(1) is there");
    install.stdin.take().expect("stdin is a pipe").write_all(content).expect("install reads");
    assert!(install.wait().expect("it is our child").success());
    path
}

/// Fails unless the answer is short, of one cause, and gives a next step where `hint` is found in it.
#[track_caller]
fn expect_message(output: &Output, what: &str) -> String {
    let lines: Vec<_> = output.err().lines().map(str::to_owned).collect();
    assert!(lines[0].contains(what), "{what:?} is not in {output:?}");
    assert!(lines[0].starts_with("provost: "), "{output:?}");
    assert!(lines.len() <= 2 && output.stderr.len() < 1500, "an answer is short: {output:?}");
    lines[0].clone()
}

#[test]
fn c1_a_missing_program_is_an_error_of_the_start() {
    let service = Service::new();
    for program in ["/nonexistent/program", "no-such-program-xyz", "./nope"] {
        let start = service.cli(&["start", "--restart", "always", "--", program]);
        start.expect(1);
        assert_eq!(start.out(), "", "no UUID for what does not run");
        expect_message(&start, &format!("there is no program '{program}'"));
        assert!(start.took < Duration::from_secs(2), "told at once: {start:?}");
        let run = service.cli(&["run", "--", program]);
        run.expect(127);
        expect_message(&run, &format!("there is no program '{program}'"));
    }
    assert_eq!(service.list_json().len(), 0, "nothing is left of them");
    let events = service.events();
    assert!(events.iter().all(|e| e["kind"] != "started"), "never running: {events:?}");
    // Six commands; a process that is to be restarted may have tried once more before it was taken back.
    let failed = events.iter().filter(|e| e["kind"] == "start-failed").count();
    assert!((6..=9).contains(&failed), "{events:?}");
}

/// The program goes away while the process is known: what runs is left running, and when that ends it stays
/// known, with the reason.
#[test]
fn c1_a_program_that_goes_away_fails_its_restart() {
    let service = Service::new();
    let (program, away) = (service.scratch().file("nap"), service.scratch().file("away"));
    cli::run(sh(&format!("cp $(command -v sleep) {program}")), SOON).expect(0);
    let id = service.start(&["--name", "nap", "--restart", "always", "--", &program, "70000"]);
    fs::rename(&program, &away).expect("the directory is ours");
    let pid = service.pid("nap");
    let restart = service.cli(&["restart", "nap"]);
    restart.expect(1);
    expect_message(&restart, &format!("there is no program '{program}'"));
    assert_eq!(service.pid("nap"), pid, "it runs on");
    procfs::signal("KILL", pid);
    wait::until("the next run fails", SOON, || !service.status_json("nap")["start_failure"].is_null());
    let process = service.status_json("nap");
    assert_ne!(process["state"], "running", "{process}");
    assert_eq!(
        (&process["start_failure"]["step"], &process["start_failure"]["errno"]),
        (&"exec".into(), &2.into())
    );
    assert_eq!(process["pid"], serde_json::Value::Null, "{process}");
    let why = service.ok(&["why", "nap"]);
    assert!(why.contains("there is no program") || why.contains("no such file"), "{why}");
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    fs::rename(&away, &program).expect("the directory is ours");
    service.ok(&["start", "nap"]);
    assert_eq!(service.state("nap"), "running");
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn c2_each_failure_to_execute_has_its_own_error() {
    let service = Service::new();
    let scratch = service.scratch();
    let plain = file(scratch, "plain", "644", b"#!/bin/sh\n");
    let no_line = file(scratch, "no-line", "755", b"echo nobody says how\n");
    let no_interpreter = file(scratch, "no-interpreter", "755", b"#!/nonexistent/sh -e\n");
    let foreign = file(scratch, "foreign", "755", b"\x7fELF\x01\x02\x01");
    let dos = file(scratch, "dos", "755", b"#!/bin/sh\r\necho\r\n");
    let busy = file(scratch, "busy", "755", b"#!/bin/sh\n");
    let dir = scratch.path().to_str().expect("the path is text");
    let missing = scratch.file("missing");
    let _writer = fs::OpenOptions::new().append(true).open(&busy).expect("it is ours");
    let long = format!("/{}", "x".repeat(100_000));
    // (options and program, the code of `start`, the code of `run`, what is said)
    let cases: &[(&[&str], i32, i32, &str)] = &[
        (&["--", &plain], 1, 126, "is not executable"),
        (&["--", dir], 1, 126, "is a directory"),
        (&["--", &no_line], 1, 126, "has no #! line"),
        (&["--", &no_interpreter], 1, 126, "the interpreter '/nonexistent/sh' of"),
        (&["--", &foreign], 1, 126, "for another kind of machine"),
        (&["--", &dos], 1, 126, "ends in a carriage return"),
        (&["--", &busy], 1, 126, "is open for writing"),
        (&["--", &long], 1, 126, "the path '/xxx"),
        (&["--cwd", &missing, "--", "true"], 1, 125, "missing' does not exist"),
        (&["--cwd", &plain, "--", "true"], 1, 125, "is not a directory"),
        (&["--user", "no-such-user", "--", "true"], 1, 125, "there is no user 'no-such-user'"),
        (&["--group", "no-such-group", "--", "true"], 1, 125, "there is no group 'no-such-group'"),
        (&["--groups", "0,no-such-too", "--", "true"], 1, 125, "there is no group 'no-such-too'"),
        (&["--limit", "nofile=99999999999:99999999999", "--", "true"], 6, 125, "limits 'nofile="),
    ];
    let mut said = HashSet::new();
    for (args, start_code, run_code, what) in cases {
        let start = service.cli(&[&["start"], *args].concat());
        start.expect(*start_code);
        assert!(said.insert(expect_message(&start, what)), "said twice: {start:?}");
        let run = service.cli(&[&["run"], *args].concat());
        run.expect(*run_code);
        expect_message(&run, what);
        assert!(start.took.max(run.took) < Duration::from_secs(2), "told at once: {start:?} {run:?}");
    }
    assert_eq!(service.list_json().len(), 0, "nothing is left of them");
    assert_eq!(service.below(), Vec::<u32>::new());
    assert!(service.events().iter().all(|e| e["kind"] != "started"), "none of them ever ran");
}

/// 3 MiB of arguments, and 2 MiB in the environment beside what the service itself has.
#[test]
fn c2_too_long_arguments_and_environments_are_refused() {
    let service = Service::new();
    let mut spec = Spec::new(["true"]);
    spec.command.extend(std::iter::repeat_n("a".repeat(100_000), 31));
    let refused = service.client().start(one(spec)).expect_err("3 MiB of arguments");
    assert_eq!(refused.code, Code::Usage, "{refused}");
    assert!(refused.message.contains("the limit is"), "{refused}");
    // Under the service's own limit, over the kernel's: a quarter of the stack limit that the process asks
    // for.
    let mut spec = Spec::new(["true"]);
    spec.command.extend(std::iter::repeat_n("a".repeat(100_000), 10));
    spec.rlimits.push(provost::wire::spec::Rlimit { resource: "stack".into(), soft: 1 << 20, hard: 1 << 20 });
    let error = service.client().start(one(spec)).expect_err("the kernel refuses it");
    assert_eq!(error.code, Code::CannotExecute, "{error}");
    assert!(error.message.contains("too large for the kernel"), "{error}");
    assert!(!error.hint.is_empty());
    // As much as fits does pass.
    let mut spec = Spec::new(["sh", "-c", "cat /proc/$$/cmdline | wc -c; exit 0"]);
    spec.command.extend(std::iter::repeat_n("a".repeat(100_000), 18));
    let bytes: usize = spec.command.iter().map(|arg| arg.len() + 1).sum();
    let start = one(spec);
    let id = start.ids[0].to_string();
    service.client().start(start).expect("an answer").into_iter().for_each(|i| assert_eq!(i.error, None));
    service.cli(&["wait", &id]).expect(0);
    assert_eq!(service.output(&id), format!("{bytes}\n").as_bytes());
    assert_eq!(service.list_json().len(), 1);
}

fn one(spec: Spec) -> Start {
    Start { spec, ids: vec![ProcessId::new()], numbering: Numbering::Single }
}

/// A limit that binds the service's own steps before the program executes must not hide why it cannot.
#[test]
fn c2_limits_do_not_hide_the_reason() {
    let service = Service::new();
    for limit in ["fsize=0", "nofile=3", "core=0", "nproc=1000", "memlock=0"] {
        let start = service.cli(&["start", "--limit", limit, "--", "/nonexistent/program"]);
        assert_eq!(start.code, 1, "--limit {limit}: {start:?}");
        expect_message(&start, "there is no program '/nonexistent/program'");
    }
    let run = service.cli(&["run", "--limit", "nofile=10", "--oom-score-adj", "100", "--", "echo", "runs"]);
    assert_eq!((run.code, run.out()), (0, "runs".into()), "{run:?}");
}

/// A service that is not root may not make anybody else of a child: told, and nothing runs.
#[test]
fn c13_without_the_right_to_change_user_nothing_runs() {
    let service = Options::new().of_nobody().start();
    let binary = service.scratch().file("provost");
    let nobody = |args: &[&str]| cli::run(as_nobody(&binary, service.socket(), args), LATER);
    let refused: &[(&[&str], &str)] = &[
        (&["--user", "root"], "may not become user 'root'"),
        (&["--user", "0"], "may not become user '0'"),
        (&["--group", "root"], "may not change to group 'root'"),
        (&["--groups", "0"], "may not change to the groups 0"),
        (&["--nice", "-5"], "may not set nice to -5"),
        (&["--oom-score-adj", "-1000"], "may not set the oom score adjustment to -1000"),
        (&["--limit", "nofile=1000000000"], "cannot be set"),
    ];
    for (options, what) in refused {
        let start = nobody(&[&["start"], *options, &["--", "sh", "-c", "id; sleep 70001"]].concat());
        start.expect(6);
        expect_message(&start, what);
        nobody(&[&["run"], *options, &["--", "sleep", "70001"]].concat()).expect(125);
    }
    let ran = || {
        procfs::descendants(service.keeper_pid())
            .into_iter()
            .filter(|s| procfs::command(s.pid).contains("70001"))
    };
    assert_eq!(ran().count(), 0, "never run as anybody");
    let id = nobody(&["start", "--user", "65534", "--", "sleep", "70001"]);
    id.expect(0);
    let process = nobody(&["status", "--json", &id.out()]).expect(0).json().remove(0);
    let pid = process["pid"].as_u64().expect("it runs") as u32;
    assert_eq!(procfs::status_line(pid, "Uid").as_deref(), Some("65534\t65534\t65534\t65534"));
    assert_eq!(nobody(&["list", "--json"]).json().len(), 1);
    service.end();
}

#[test]
fn c15_impossible_arguments_and_variables_are_refused() {
    let service = Service::new();
    let at_most = "a".repeat(128 * 1024 - 1);
    let too_long = format!("{at_most}a");
    let mut bad_utf8 = service.command(&["start", "--", "true"]);
    bad_utf8.arg(std::ffi::OsString::from_vec(b"\xff\xfe".to_vec()));
    let cli = |args: &[&str]| service.cli(args);
    let refused = [
        (cli(&["start", "-e", "=x", "--", "true"]), "'=x'"),
        (cli(&["start", "-e", "KEY", "--", "true"]), "'KEY'"),
        (cli(&["env", "set", "=x"]), "'=x'"),
        (cli(&["start", "--", ""]), "no program is given"),
        (cli::run(bad_utf8, LATER), "is not valid UTF-8"),
    ];
    for (output, what) in &refused {
        output.expect(2);
        expect_message(output, what);
    }
    // Too long for the kernel to hand even to the command line: through the library.
    let mut client = service.client();
    let long = client.start(one(Spec::new(["true", &too_long]))).expect_err("over the limit");
    assert_eq!((long.code, long.message.contains("the limit is 131071")), (Code::Usage, true), "{long}");
    let id = service.start(&["--", "sh", "-c", "echo ${#1}", "sh", &at_most]);
    service.cli(&["wait", &id]).expect(0);
    assert_eq!(service.output(&id), b"131071\n");
    // All but NUL, and '=' in a key, is passed as it is.
    let odd = "=a=b \u{1}\u{7f}\n\u{202e}\u{1f980}";
    let id =
        service.start(&["-e", &format!("odd key={odd}"), "--", "sh", "-c", "cat /proc/$$/environ; exit 0"]);
    service.cli(&["wait", &id]).expect(0);
    let environ = service.output(&id);
    let wanted = format!("odd key={odd}");
    assert!(
        environ.split(|&b| b == 0).any(|v| v == wanted.as_bytes()),
        "{}",
        String::from_utf8_lossy(&environ)
    );
}

/// The same past our own client: the service does not trust anybody to have checked.
#[test]
fn c15_the_engine_itself_refuses_impossible_arguments() {
    let service = Service::new();
    let mut peer = Peer::greeted(service.socket());
    let mut nul = Spec::new(["true"]);
    nul.command.push("a\0b".into());
    let mut key = Spec::new(["true"]);
    key.env.push(("A=B".into(), "c".into()));
    let mut nul_value = Spec::new(["true"]);
    nul_value.env.push(("A".into(), "b\0c".into()));
    let mut long = Spec::new(["true"]);
    long.command.push("a".repeat(128 * 1024));
    let mut relative = Spec::new(["true"]);
    relative.cwd = Some("here".into());
    for (spec, what) in [
        (nul, "argument 1 holds a NUL byte"),
        (key, "bad variable name 'A=B'"),
        (nul_value, "variable 'A' holds a NUL byte"),
        (long, "the limit is 131071"),
        (relative, "is not absolute"),
        (Spec::new([""]), "no program is given"),
        (Spec::new([""; 0]), "no program is given"),
    ] {
        let error = peer.ask(&Request::Start(Box::new(one(spec)))).expect_err(what);
        assert_eq!(error.code, Code::Usage, "{error}");
        assert!(error.message.contains(what), "{what:?} is not in {error}");
    }
    // Text that is none.
    let mut bytes = Request::Start(Box::new(one(Spec::new(["true", "PLACE"])))).encode();
    let at = bytes.windows(5).position(|w| w == b"PLACE").expect("it is text on the wire");
    bytes[at..at + 5].copy_from_slice(b"\xff\xc0\x80\xed\xa0");
    let error = peer.ask_bytes(&bytes).expect_err("bad UTF-8");
    assert_eq!(error.code, Code::Usage, "{error}");
    assert!(peer.ask(&Request::Service).is_ok(), "the connection is as good as before");
    assert_eq!(service.list_json().len(), 0);
    assert_eq!(service.below(), Vec::<u32>::new());
}
