//! Following output and events as people expect it: from what is new, over stops and starts, until ctrl-c.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::harness::{LATER, Options, SOON, Service, cli, wait};

fn service() -> Service {
    Options::new().without_cgroups().start()
}

#[test]
fn events_that_are_followed_begin_with_what_is_new() {
    let service = service();
    service.start(&["--name", "old", "--", "sleep", "84001"]);
    let follow = service.background(&["events", "--follow"]);
    // Its connection is made before this shows.
    let mut n = 0;
    wait::until("the next event comes", SOON, || {
        n += 1;
        service.start(&["--name", &format!("new-{n}"), "--", "sleep", "84002"]);
        follow.stdout_len() > 0
    });
    let first = follow.line(SOON).expect("there is one");
    assert!(first.contains(" new-"), "{first}");
    follow.signal("INT");
    follow.end(SOON);
    let all = service.ok(&["events"]).lines().count();
    assert!(all >= 4);
    assert_eq!(service.ok(&["events", "--limit", "4"]).lines().count(), 4);
    let since_now = service.ok(&["events", "--since", "now"]);
    assert_eq!(since_now, "");
    let limited = service.background(&["events", "--follow", "--limit", "2"]);
    assert!(limited.line(SOON).is_some() && limited.line(SOON).is_some());
    limited.signal("INT");
    limited.end(SOON);
}

#[test]
fn a_stream_goes_on_over_a_stop_and_a_start_and_says_where_a_run_begins() {
    let service = service();
    let script = "echo run $PROVOST_RUN; exec sleep 84003";
    service.start(&["--name", "web", "--", "sh", "-c", script]);
    let stream = service.background(&["stream", "--since", "start", "web"]);
    assert_eq!(stream.line(SOON).as_deref(), Some("run 1"));
    service.ok(&["stop", "web"]);
    service.ok(&["start", "web"]);
    assert_eq!(stream.line(SOON).as_deref(), Some("run 2"));
    service.ok(&["restart", "web"]);
    assert_eq!(stream.line(SOON).as_deref(), Some("run 3"));
    wait::until("both runs are told", SOON, || {
        let said = stream.stderr_text();
        said.contains("web: run 2 begins, pid ") && said.contains("web: run 3 begins, pid ")
    });
    assert!(stream.is_running());
    stream.signal("INT");
    stream.end(SOON);
}

/// As `tail -f` does: nothing is written for as long as nothing happens.
#[test]
fn what_follows_ends_when_its_reader_has_gone() {
    let service = service();
    service.start(&["--name", "quiet", "--", "sleep", "84004"]);
    for args in [
        &["list", "--watch"][..],
        &["events", "--follow"],
        &["logs", "--follow", "quiet"],
        &["stream", "quiet"],
        &["output", "-f", "quiet"],
    ] {
        let mut follows = service.command(args).stdout(Stdio::piped()).spawn().expect("it is there");
        drop(follows.stdout.take());
        wait::until("it ends", SOON, || {
            follows.try_wait().expect("it is ours").is_some_and(|end| end.success())
        });
    }
}

/// As sshd has it with a client without input: the peer has said its last word, and reads on.
#[test]
fn what_follows_goes_on_when_its_reader_only_says_nothing_more() {
    let service = service();
    let (mut reader, its) = UnixStream::pair().expect("there is room");
    reader.shutdown(Shutdown::Write).expect("it is open");
    reader.set_nonblocking(true).expect("it is open");
    let mut follows =
        service.command(&["events", "--follow"]).stdout(OwnedFd::from(its)).spawn().expect("it is there");
    let (mut byte, mut n) = ([0], 0);
    wait::until("an event comes", SOON, || {
        n += 1;
        service.start(&["--name", &format!("new-{n}"), "--", "true"]);
        match reader.read(&mut byte) {
            Ok(len) => {
                assert_eq!(len, 1, "it has ended");
                true
            }
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        }
    });
    drop(reader);
    wait::until("it ends with its reader", SOON, || {
        follows.try_wait().expect("it is ours").is_some_and(|end| end.success())
    });
}

#[test]
fn a_stream_takes_in_what_its_pattern_means_later() {
    let service = service();
    let stream = service.background(&["stream", "--prefix", "web-*"]);
    wait::until("it waits", SOON, || stream.stderr_text().contains("waits for a start"));
    service.start(&["--name", "db", "--", "sh", "-c", "echo not this; exec sleep 84004"]);
    let talk = "while :; do echo here; sleep 0.05; done";
    service.ok(&["start", "--name", "web", "--instances", "2", "--", "sh", "-c", talk]);
    stream.line_with("web-1 | here", SOON);
    stream.line_with("web-2 | here", SOON);
    stream.signal("INT");
    let all = stream.end(SOON);
    assert!(!all.out().contains("not this"), "{all:?}");
}

#[test]
fn a_stream_for_scripts_ends_when_all_have_stopped() {
    let service = service();
    service.start(&["--name", "job", "--", "sh", "-c", "seq 3"]);
    service.until_state("job", "stopped");
    assert_eq!(service.ok(&["stream", "--until-end", "--since", "start", "job"]), "1\n2\n3");
    assert_eq!(service.ok(&["stream", "--until-end", "--tail", "2", "job"]), "2\n3");
    assert_eq!(service.ok(&["stream", "--until-end", "job"]), "");
    // Who follows something that is removed has nothing to wait for.
    let id = service.status_json("job")["id"].as_str().expect("text").to_owned();
    let stream = service.background(&["stream", &id]);
    wait::until("it waits", SOON, || stream.stderr_text().contains("waits for a start"));
    service.ok(&["remove", "job"]);
    stream.end(SOON).expect(0);
}

#[test]
fn several_begin_ordered_by_time() {
    let service = service();
    let gate = service.scratch().file("gate");
    let first =
        "echo a1; while [ ! -e GATE-1 ]; do sleep 0.02; done; echo a2; sleep 84005".replace("GATE", &gate);
    let second =
        "while [ ! -e GATE-0 ]; do sleep 0.02; done; echo b1; exec sleep 84006".replace("GATE", &gate);
    service.start(&["--name", "a", "--", "sh", "-c", &first]);
    service.start(&["--name", "b", "--", "sh", "-c", &second]);
    let has = |name: &str, text: &str| {
        wait::until("it is said", SOON, || service.output(name).ends_with(text.as_bytes()))
    };
    let open = |n: u32| std::fs::write(format!("{gate}-{n}"), "").expect("the directory is ours");
    has("a", "a1\n");
    wait::pass(std::time::Duration::from_millis(20));
    open(0);
    has("b", "b1\n");
    wait::pass(std::time::Duration::from_millis(20));
    open(1);
    has("a", "a2\n");
    let stream = service.background(&["stream", "--tail", "5", "--prefix", "--timestamps", "a", "b"]);
    for (name, text) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
        let line = stream.line(SOON).expect("it is kept");
        let (time, rest) = line.split_once(' ').expect("the time stands in front");
        assert!(time.ends_with('Z') && rest == format!("{name} | {text}"), "{line}");
    }
    stream.signal("INT");
    stream.end(SOON);
}

/// What both commands tell of the output of a process, as JSON.
fn as_json(service: &Service, name: &str) -> [Vec<serde_json::Value>; 2] {
    let commands =
        [&["--json", "output", name][..], &["--json", "stream", "--until-end", "--since", "start", name]];
    commands.map(|command| {
        service.ok(command).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    })
}

/// Each character is three bytes, which no length of a pipe or a frame is a multiple of.
#[test]
fn text_is_cut_between_characters() {
    let service = service();
    let print = "yes 안 | tr -d '\\n' | head -c 780000; printf '\\354'";
    service.start(&["--name", "korean", "--", "sh", "-c", print]);
    service.until_state("korean", "stopped");
    for mut chunks in as_json(&service, "korean") {
        assert_eq!(
            chunks.pop().expect("there is one")["base64"],
            "7A==",
            "only what is no text is not told as text"
        );
        let texts: String = chunks.iter().map(|chunk| chunk["text"].as_str().expect("it is text")).collect();
        assert_eq!(texts, "안".repeat(260_000));
        let mut next = 0;
        for chunk in &chunks {
            assert_eq!(chunk["offset"], next);
            next += chunk["text"].as_str().map_or(0, str::len);
        }
    }
}

/// A character comes in two parts, with standard error in between.
#[test]
fn another_stream_does_not_break_a_character() {
    let service = service();
    let gate = service.scratch().file("gate");
    let print = "wait() { while [ ! -e GATE-$1 ]; do sleep 0.02; done; }; \
                 printf '\\354'; wait 1; printf x >&2; wait 2; printf '\\225\\210'"
        .replace("GATE", &gate);
    service.start(&["--name", "parts", "--", "sh", "-c", &print]);
    for (end, gate) in [(1, format!("{gate}-1")), (2, format!("{gate}-2"))] {
        wait::until("it has come", SOON, || service.status_json("parts")["output_end"] == end);
        std::fs::write(gate, "").expect("the directory is there");
    }
    service.until_state("parts", "stopped");
    for chunks in as_json(&service, "parts") {
        let texts: Vec<_> = chunks.iter().map(|chunk| (&chunk["stream"], &chunk["text"])).collect();
        assert_eq!(serde_json::json!(texts), serde_json::json!([["stderr", "x"], ["stdout", "안"]]));
    }
}

/// An answer that has nowhere to go is no success; what prints nothing is.
#[test]
fn a_command_without_a_standard_output_fails_if_it_has_something_to_say() {
    let service = service();
    service.start(&["--name", "web", "--", "sh", "-c", "echo up; exec sleep 84009"]);
    wait::until("it has said something", SOON, || service.ok(&["output", "web"]) == "up");
    let closed = |args: &[&str]| {
        let provost = service.command(args);
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >&-", "sh"]).arg(provost.get_program()).args(provost.get_args());
        command.env("PROVOST_SOCKET", service.socket());
        cli::run(command, LATER)
    };
    let saying = [
        &["list"][..],
        &["list", "--json"],
        &["status", "web"],
        &["events"],
        &["output", "web"],
        &["version"],
        &["help"],
        &["show", "web"],
        &["audit"],
        &["doctor"],
        &["why", "web"],
        &["env", "--json"],
    ];
    for args in saying {
        let out = closed(args);
        let says_so = out.err().contains("standard output");
        assert!(out.code == 1 && says_so || service.ok(args).is_empty(), "{args:?}: {out:?}");
    }
    closed(&["env", "set", "QUIET=1"]).expect(0);
}
