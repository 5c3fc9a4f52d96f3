//! Names and words that would harm a path, a table, a terminal or a log: refused where they name something of
//! ours, and shown harmless where they are somebody's own.

use std::fs;

use provost::Spec;
use provost::wire::error::Code;
use provost::wire::id::ProcessId;
use provost::wire::request::{Numbering, Request, Start};

use crate::harness::{Output, Service};
use crate::raw::Peer;

const BAD_NAMES: [&str; 14] = [
    "../x",
    "/",
    ".",
    "..",
    "-x",
    "a/b",
    "a b",
    "a\nb",
    "a\tb",
    "\u{1b}[31m",
    "\u{202e}evil",
    "näme",
    "*",
    "_x",
];

#[test]
fn f17_bad_names_are_refused_at_the_start() {
    let service = Service::new();
    let long = "n".repeat(65);
    let very_long = "n".repeat(100_000);
    let uuid = ProcessId::new().to_string();
    let mut bad: Vec<&str> = BAD_NAMES.to_vec();
    bad.extend([long.as_str(), &very_long, &uuid, ""]);
    for name in &bad {
        // "--name=" so that a dash at the beginning is of the name.
        let out = service.cli(&["start", &format!("--name={name}"), "--", "sleep", "74000"]);
        out.expect(2);
        expect_harmless(&out);
        assert!(out.err().starts_with("provost: bad name ") && out.err().contains("hint: "), "{out:?}");
    }
    // Instances have names made of it, which may be too long all the same.
    let out = service.cli(&["start", "--instances", "3", "--name", &"n".repeat(63), "--", "sleep", "74000"]);
    out.expect(2);
    assert_eq!(service.list_json().len(), 0, "nothing was started");
    let longest = "n".repeat(64);
    for name in ["a", "0", "A.b_c@d-e", "x..", "web-1", &longest] {
        service.ok(&["start", "--name", name, "--", "sleep", "74000"]);
        assert_eq!(service.status_json(name)["name"], *name);
    }
    let taken = service.cli(&["start", "--name", "a", "--", "sleep", "74000"]);
    assert!(matches!(taken.code, 2 | 6), "{taken:?}");
    assert!(taken.err().contains("'a'"), "{taken:?}");
    assert_eq!(service.list_json().len(), 6);
}

/// As targets they name nothing, and do nothing else either.
#[test]
fn f17_bad_targets_match_nothing() {
    let service = Service::new();
    let id = service.start(&["--name", "web", "--", "sleep", "74000"]);
    let very_long = "n".repeat(100_000);
    let stars = "*".repeat(10_000);
    let mut bad: Vec<&str> = BAD_NAMES.iter().copied().filter(|name| *name != "*").collect();
    bad.extend([
        "",
        "we",
        "0",
        "web ",
        "WEB",
        "web\0",
        &very_long,
        &stars,
        "we?",
        "[w]eb",
        "web-*",
        &id[..3],
    ]);
    for target in bad.iter().filter(|t| !t.contains('\0')) {
        for command in ["status", "stop", "remove", "output", "why", "wait", "restart"] {
            let out = service.cli(&[command, "--", target]);
            let out = if out.err().contains("behind --") || out.code == 2 {
                service.cli(&[command, target])
            } else {
                out
            };
            // `wait` passes on exit codes, so its own failures have one of their own.
            let codes: &[i32] = if command == "wait" { &[125] } else { &[2, 4] };
            assert!(codes.contains(&out.code), "{command} {target:?}: {out:?}");
            expect_harmless(&out);
            assert!(out.stderr.len() < 1500, "{command} {target:?}: {out:?}");
        }
    }
    assert_eq!(service.state("web"), "running");
    assert_eq!(service.state(&id[..18]), "running", "a prefix that is long enough is one");
}

/// Names as the service decodes them, from a client that checks nothing.
#[test]
fn f17_the_engine_itself_refuses_bad_names() {
    let service = Service::new();
    let mut peer = Peer::greeted(service.socket());
    for bad in ["../..", "a\0bcd", "/etc/", "a\nb\nc", "-----", "     "] {
        let mut spec = Spec::new(["sleep", "74000"]);
        spec.name = Some("PLACE".parse().expect("a name"));
        let start = Start { spec, ids: vec![ProcessId::new()], numbering: Numbering::Single };
        let mut bytes = Request::Start(Box::new(start)).encode();
        let at = bytes.windows(5).position(|w| w == b"PLACE").expect("it is text on the wire");
        bytes[at..at + 5].copy_from_slice(&bad.as_bytes()[..5]);
        let error = peer.ask_bytes(&bytes).expect_err("a bad name");
        assert_eq!(error.code, Code::Usage, "{bad:?}: {error}");
        assert!(!error.message.contains(['\n', '\0', '\u{1b}']), "{error:?}");
    }
    for target in ["a\0b", "", "../x", &"*".repeat(1000)] {
        let error = peer.ask(&Request::Status(vec![target.to_owned()].into()));
        let text = format!("{error:?}");
        assert!(text.contains("NotFound") || text.contains("Usage"), "{target:?}: {text}");
    }
    assert!(
        peer.ask(&Request::Status(vec!["x".into(); 20_000].into())).is_err(),
        "more targets than anybody needs"
    );
    assert_eq!(service.list_json().len(), 0);
}

/// Escape sequences and line ends of all kinds.
const NASTY: &str =
    "a\t\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31m\nprovost: fake line\r\u{9b}1m\u{202e}\u{8}\u{7f}b";

/// Fails if a text for people could move a cursor, reorder a line or fake one.
#[track_caller]
fn expect_harmless(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(text).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let moves = |c: char| c.is_control() && c != '\n' && c != '\t';
        let bad = text.chars().find(|&c| moves(c) || ('\u{202a}'..='\u{202e}').contains(&c));
        assert_eq!(bad, None, "{output:?}");
        let fake = text.lines().any(|line| line.starts_with("provost: fake"));
        assert!(!fake, "a line was faked: {output:?}");
    }
}

#[test]
fn f19_control_characters_in_arguments_are_escaped() {
    let service = Service::new();
    let dir = service.scratch().file(&format!("dir {}", NASTY.replace('/', "")));
    fs::create_dir(&dir).expect("a name of bytes");
    let label = format!("note={NASTY}");
    let env = format!("KEY={NASTY}");
    let args = ["--name", "odd", "--label", &label, "-e", &env, "--cwd", &dir, "--", "sh", "-c"];
    let script = format!("printf '%s' '{NASTY}'; sleep 74001");
    service.start(&[&args[..], &[&script, NASTY]].concat());
    service.ok(&["env", "set", &format!("GLOBAL={NASTY}")]);
    let commands: [&[&str]; 6] =
        [&["list"], &["status", "odd"], &["why", "odd"], &["events"], &["env"], &["env", "list"]];
    for command in commands {
        let out = service.cli(command);
        out.expect(0);
        expect_harmless(&out);
        assert!(!out.out().is_empty(), "{command:?}");
    }
    let lines = service.ok(&["list"]);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert_eq!(lines.split('\t').count(), 8, "eight columns: {lines}");
    // JSON has it all, on one line.
    let process = service.status_json("odd");
    assert_eq!(process["command"][3], NASTY, "{process}");
    assert_eq!(process["labels"]["note"], NASTY, "{process}");
    assert_eq!(process["cwd"], dir, "{process}");

    // In failures, on the command line and in the service's own log.
    let failing: [&[&str]; 9] = [
        &["start", "--", NASTY],
        &["start", "--user", NASTY, "--", "true"],
        &["start", "--group", NASTY, "--", "true"],
        &["start", "--cwd", NASTY, "--", "true"],
        &["start", "--limit", NASTY, "--", "true"],
        &["start", "--env-file", NASTY, "--", "true"],
        &["start", "--stop-signal", NASTY, "--", "true"],
        &["status", NASTY],
        &[NASTY],
    ];
    for command in failing {
        let out = service.cli(command);
        assert_ne!(out.code, 0, "{command:?}");
        expect_harmless(&out);
    }
    let option = format!("--{NASTY}");
    expect_harmless(&service.cli(&["list", &option]));
    expect_harmless(&service.cli(&["--socket", &format!("/tmp/{NASTY}"), "list"]));
    service.ok(&["stop", "odd"]);
    expect_harmless(&service.cli(&["why", "odd"]));
    let log = service.log();
    assert!(!log.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{log:?}");
}
