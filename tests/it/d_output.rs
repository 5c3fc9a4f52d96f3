//! Failures of output: closed pipes, pipes that others hold, endless lines, odd bytes, reads that fail.

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use serde_json::Value;

use crate::harness::{LATER, Options, Output, Running, SOON, Service, cli, fixture, procfs, wait};

/// So many lines of `seq`, 132,498 bytes, are written to their end with an `--output-limit` of 64 KiB and a
/// reader whose own output nobody takes: where that holds 64 KiB, and as much is kept, the rest is in the
/// pipe of the program; where the reader was given a page alone, that pipe has room for the others.
const HELD_LINES: u32 = 23_934;

/// Clock ticks (1/100 s) that keeper and engine use while this passes.
fn ticks_in(service: &Service, time: Duration) -> u64 {
    let pids = [service.keeper_pid(), service.engine_pid()];
    let used = || pids.iter().filter_map(|&pid| procfs::stat(pid)).map(|s| s.ticks).sum::<u64>();
    let before = used();
    wait::pass(time);
    used() - before
}

#[test]
fn d1_a_child_that_closes_its_output_costs_nothing() {
    let service = Service::new();
    let id = service.start(&["--", "sh", "-c", "echo last; exec >&- 2>&-; exec sleep 70000"]);
    let pid = service.pid(&id);
    wait::until("it has closed them", SOON, || fs::read_link(format!("/proc/{pid}/fd/1")).is_err());
    for _ in 0..2 {
        assert_eq!(service.state(&id), "running");
        assert_eq!(service.output(&id), b"last\n");
        let ticks = ticks_in(&service, Duration::from_secs(1));
        assert!(ticks <= 5, "{ticks} ticks in a second with nothing to do: it spins");
        service.kill_engine();
    }
    // Its end is still seen.
    procfs::signal("USR1", pid);
    service.cli(&["wait", &id]).expect(128 + 10);
}

#[test]
fn d2_a_pipe_held_by_a_grandchild_delays_no_exit() {
    let service = Service::new();
    service.ok(&["list"]);
    let before = service.footprint();
    // Of the tree: it goes with the process.
    let id = service.start(&["--", "sh", "-c", "sleep 70300 & exit 0"]);
    let ended = service.cli(&["wait", &id]);
    ended.expect(0);
    assert!(ended.took < Duration::from_secs(1), "{ended:?}");
    assert_eq!(service.tree_of(&id), Vec::<u32>::new());
    // Not of what is to be stopped: the end is told at once, and the pipe is listened to as long as somebody
    // has it.
    let id = service.start(&["--stop-scope", "leader", "--", "sh", "-c", "echo out; sleep 70301 & exit 3"]);
    let ended = service.cli(&["wait", &id]);
    ended.expect(3);
    assert!(ended.took < Duration::from_secs(1), "{ended:?}");
    assert_eq!(service.output(&id), b"out\n");
    let holder = service.tree_of(&id);
    assert_eq!(holder.len(), 1, "it is nobody's business to end it");
    procfs::signal("KILL", holder[0]);
    // Of each process one descriptor stays, for its memory: none of a thread that listens, none of a pipe.
    let after = before.map(|(fds, threads)| (fds + 2, threads));
    let begin = Instant::now();
    service.until_footprint(after);
    assert!(begin.elapsed() < Duration::from_secs(4), "let go after {:?}", begin.elapsed());
    service.ok(&["remove", "*"]);
    service.until_footprint(before);
}

/// 100 MB without a line end. The text is known by its offset.
#[test]
fn d3_an_endless_line_takes_bounded_memory() {
    let service = Service::new();
    let script = "seq -s, 1 12345679 | tr -d '\\n'";
    let engine = service.engine_pid();
    let peak = || {
        let text = procfs::status_line(engine, "VmHWM").expect("the engine runs");
        text.trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    service.ok(&["list"]);
    let before = peak();
    let id = service.start(&["--name", "line", "--output-limit", "1m", "--", "sh", "-c", script]);
    let stream = service.background(&["stream", "--until-end", "--json", "--since", "0", "line"]);
    service.cli(&["wait", "line"]).expect(0);
    let kept = service.output("line");
    let after = peak();
    assert!(after < before + 8 * 1024, "engine: {before} KiB before, {after} KiB at most");
    let tail = cli::run(sh(&format!("{script} | tail -c 1048576")), LATER).expect(0).stdout.clone();
    assert!(kept == tail, "the last MiB is not what was written: {} bytes", kept.len());
    // What a reader got, and what it was told to have missed, make up the whole, in order.
    let streamed = stream.end(LATER);
    streamed.expect(0);
    let process = service.status_json(&id);
    let mut next = 0;
    for item in streamed.json() {
        assert_eq!(item["offset"], next, "neither gap nor overlap is untold: {item}");
        next += item["missed"].as_u64().unwrap_or(0) + item["text"].as_str().map_or(0, |t| t.len() as u64);
    }
    assert_eq!(process["output_end"], next, "{process}");
    assert_eq!(service.engine_pid(), engine);
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Every byte there is, by every way out.
#[test]
fn d4_random_bytes_come_out_unchanged() {
    let service = Service::new();
    let copy = service.scratch().file("copy");
    let script = format!("head -c 50000000 /dev/urandom | tee {copy}");
    service.start(&["--name", "noise", "--output-limit", "64m", "--", "sh", "-c", &script]);
    let stream = service.background(&["stream", "--until-end", "--since", "start", "noise"]);
    service.cli(&["wait", "noise"]).expect(0);
    let written = fs::read(&copy).expect("tee has written it");
    assert_eq!(written.len(), 50_000_000);
    assert!(service.output("noise") == written, "output is not what was written");
    service.kill_engine();
    assert!(service.output("noise") == written, "output is not what was written, after the engine's death");
    let streamed = stream.end(LATER);
    streamed.expect(0);
    assert!(streamed.stdout == written, "the stream is not what was written");
    service.expect_answer();
}

/// A command on a terminal of its own; what the terminal got.
#[track_caller]
fn on_terminal(service: &Service, args: &str) -> Output {
    let mut command = Command::new("script");
    let line = format!("{} {args}", crate::harness::binary().display());
    command.args(["-qefc", &line, "/dev/null"]).env("PROVOST_SOCKET", service.socket()).env("TERM", "xterm");
    cli::run(command, LATER)
}

#[test]
fn d5_escape_sequences_are_shown_not_sent() {
    let service = Service::new();
    let nasty = "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mred\u{1b}c\u{9b}31m\u{202e}\u{8}\u{7f}";
    let script = format!("printf '%s\\n' '{nasty}'; printf '\\377\\233\\n'");
    service.start(&["--name", "nasty", "--", "sh", "-c", &script]);
    service.cli(&["wait", "nasty"]).expect(0);
    let written = [nasty.as_bytes(), b"\n\xff\x9b\n"].concat();
    assert_eq!(service.output("nasty"), written, "a pipe gets the bytes");
    for args in [
        "output nasty",
        "stream --until-end --since start nasty",
        "stream --until-end --since start --prefix nasty",
    ] {
        let shown = on_terminal(&service, args);
        shown.expect(0);
        let text = String::from_utf8(shown.stdout.clone()).expect("what a terminal gets is text");
        assert!(text.contains("red"), "{args}: {shown:?}");
        let bad: Vec<_> = text.chars().filter(|&c| c.is_control() && !"\r\n".contains(c)).collect();
        assert_eq!(bad, Vec::<char>::new(), "{args}: {shown:?}");
        assert!(!text.contains('\u{202e}'), "{args}: {shown:?}");
    }
    let raw = on_terminal(&service, "output --raw nasty");
    assert!(raw.stdout.windows(4).any(|w| w == b"\x1b[2J"), "{raw:?}");
}

/// A command whose standard output is told byte by byte: no line need be whole.
fn bytes_of(mut command: Command) -> (Child, Receiver<u8>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary is there");
    let pipe = child.stdout.take().expect("stdout is a pipe");
    let (tell, bytes) = unbounded();
    thread::spawn(move || {
        // Gone when the test has seen enough.
        for byte in BufReader::new(pipe).bytes().map_while(Result::ok) {
            if tell.send(byte).is_err() {
                return;
            }
        }
    });
    (child, bytes)
}

fn next(bytes: &Receiver<u8>, count: usize) -> String {
    let deadline = Instant::now() + SOON;
    let next = || bytes.recv_deadline(deadline).expect("it comes without waiting for the rest of its line");
    String::from_utf8((0..count).map(|_| next()).collect()).expect("it is text")
}

#[test]
fn d6_output_without_a_line_end_comes_once() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let script = format!("printf begin; while [ ! -e {gate} ]; do sleep 0.02; done; printf end");
    service.start(&["--name", "half", "--", "sh", "-c", &script]);
    let follow = |options: &[&str]| {
        let args = [&["stream", "--until-end", "--since", "start"], options, &["half"]].concat();
        bytes_of(service.command(&args))
    };
    let ((mut plain, plain_bytes), (mut prefixed, prefixed_bytes)) = (follow(&[]), follow(&["--prefix"]));
    assert_eq!(next(&plain_bytes, 5), "begin");
    let prefix = "half | ".len();
    assert!(next(&prefixed_bytes, prefix + 5).ends_with("begin"));
    assert_eq!(service.output("half"), b"begin");
    service.kill_engine();
    fs::write(&gate, "").expect("the directory is ours");
    service.cli(&["wait", "half"]).expect(0);
    assert_eq!(service.output("half"), b"beginend");
    for (bytes, child) in [(plain_bytes, &mut plain), (prefixed_bytes, &mut prefixed)] {
        assert_eq!(next(&bytes, 3), "end", "once, and nothing between");
        assert!(child.wait().expect("it is ours").success());
        assert!(bytes.recv_timeout(SOON).is_err(), "nothing after it");
    }
}

/// Attaches strace to the engine, to make one system call of each of its threads fail.
#[track_caller]
fn fail_once(service: &Service, what: &str) -> Running {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("inject={what}:when=2")]);
    strace.args(["-p", &service.engine_pid().to_string()]);
    let strace = Running::new(strace);
    wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
    strace
}

/// A read of a pipe fails once: the child goes on, and is not held in a write for ever.
#[test]
fn d16_a_failed_read_does_not_block_the_child() {
    let service = Service::new();
    for error in ["EIO", "ENOMEM", "EINTR", "EAGAIN", "ENOSPC"] {
        let id = service.start(&["--output-limit", "8m", "--", &fixture("firehose"), "32"]);
        service.cli(&["wait", &id]).expect(0);
        let strace = fail_once(&service, &format!("splice:error={error}"));
        let id = service.start(&["--output-limit", "8m", "--", &fixture("firehose"), "4000000"]);
        let ended = service.cli(&["wait", "--timeout", "10s", &id]);
        assert_ne!(ended.code, 5, "{error}: the child is held in a write: {}", service.status_json(&id));
        strace.signal("INT");
        strace.end(SOON);
        if matches!(error, "EINTR" | "EAGAIN") {
            ended.expect(0);
        }
        if ended.code == 0 {
            let bytes = service.output(&id);
            assert_eq!(bytes.len(), 4_000_000, "{error}: what was read is kept");
            assert!(bytes.ends_with(b"3d08f\n"), "{error}");
        }
        service.ok(&["remove", "--force", &id]);
    }
    service.expect_answer();
}

/// Memory for output is taken once, and no more of it than was asked for.
#[test]
fn d7_output_takes_only_the_memory_asked_for() {
    let service = Options::new().alone().start();
    let id = service.start(&["--output-limit", "4m", "--", &fixture("firehose"), "200000000"]);
    service.cli(&["wait", &id]).expect(0);
    let dir = format!("/proc/{}/fd", service.keeper_pid());
    let blocks = fs::read_dir(&dir).expect("the keeper runs").flatten();
    let held: u64 = blocks.filter_map(|e| fs::metadata(e.path()).ok()).map(|m| m.blocks() * 512).sum();
    assert!((4 << 20..6 << 20).contains(&held), "{held} bytes are held for 4 MiB of output");
}

/// The pipes belong to the child's user, who may open them anew by their names.
#[test]
fn a_program_of_another_user_opens_its_own_output() {
    let service = Service::new();
    let script = "echo out >/dev/stdout; echo err >/dev/stderr";
    let output = service.cli(&["run", "--rm", "--user", "nobody", "--", "sh", "-c", script]);
    assert_eq!((output.expect(0).out(), output.err()), ("out".into(), "err".into()));
}

#[test]
fn merged_streams_keep_their_order() {
    let service = Service::new();
    let script = "n=0; while [ $n -lt 300 ]; do echo o$n; echo e$n >&2; n=$((n+1)); done";
    let id = service.start(&["--merge-streams", "--", "sh", "-c", script]);
    service.cli(&["wait", &id]).expect(0);
    let expected: String = (0..300).map(|n| format!("o{n}\ne{n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&service.output(&id)), expected);
    assert!(service.ok(&["show", &id]).contains("merge_streams = true"));
}

/// As in a shell: who reads goes, and the program with it, whether it minds SIGPIPE or not.
#[test]
fn who_runs_into_a_closed_pipe_ends() {
    let service = Service::new();
    let endless = "while :; do echo x 2>/dev/null; done";
    let error = endless.replace("2>/dev/null", ">&2");
    for (script, is_stderr) in
        [(endless, false), (&format!("trap '' PIPE; {endless}"), false), (&error, true)]
    {
        let mut run = service.command(&["run", "--rm", "--", "sh", "-c", script]);
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if is_stderr {
            run.stderr(Stdio::piped())
        } else {
            run.stdout(Stdio::piped())
        };
        let mut run = run.spawn().expect("it is there");
        let read = |mut from: Box<dyn Read>| from.read_exact(&mut [0; 2]).expect("something is written");
        if is_stderr {
            read(Box::new(run.stderr.take().expect("piped")))
        } else {
            read(Box::new(run.stdout.take().expect("piped")))
        };
        let mut code = None;
        wait::until("it has ended", LATER, || {
            code = run.try_wait().expect("it is ours").and_then(|status| status.code());
            code.is_some()
        });
        assert_eq!((code, service.list_json().len()), (Some(141), 0), "{script}");
    }
}

/// Output that was missed is not passed over: the exit code says so, unless the program's own says more.
#[test]
fn missed_output_is_an_exit_code() {
    let service = Service::new();
    for (code, expected) in [(0, 122), (3, 3)] {
        let script = format!("head -c 20000000 /dev/zero; exit {code}");
        let args = ["run", "--name", "web", "--output-limit", "64k", "--", "sh", "-c", &script];
        let mut run = service.command(&args);
        run.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut run = run.spawn().expect("it is there");
        // Nobody reads until all of it was written.
        wait::until("it has ended", LATER, || {
            let has_ended = |p: &Value| p["name"] == "web" && p["state"] == "stopped" && p["run"] == 1;
            service.list_json().iter().any(has_ended)
        });
        let mut read = Vec::new();
        run.stdout.take().expect("piped").read_to_end(&mut read).expect("it ends");
        assert!(read.len() < 20_000_000);
        assert_eq!(run.wait().expect("it is ours").code(), Some(expected));
        service.ok(&["remove", "web"]);
    }
}

/// A hook has printed more than is kept before the command can look.
#[test]
fn what_was_lost_before_the_first_look_is_an_exit_code_too() {
    let service = Service::new();
    let hook = ["--pre-start", "head -c 2000000 /dev/zero"];
    let run = service.cli(&[&["run", "--output-limit", "64k"], &hook[..], &["--", "true"]].concat());
    assert!(run.expect(122).err().contains("bytes were missed"), "{}", run.err());
    assert!(run.stdout.len() < 2_000_000);
}

/// Reads what a command prints, from here on, and how it ends.
fn all_of(mut run: Child) -> (Vec<u8>, Option<i32>) {
    let mut read = Vec::new();
    run.stdout.take().expect("piped").read_to_end(&mut read).expect("it ends");
    (read, run.wait().expect("it is ours").code())
}

/// With --hold a program waits for whoever reads, as in a pipe, also over the death of an engine, and what it
/// has said before its end is there although it has gone.
#[test]
fn output_that_is_held_waits_for_its_reader() {
    let service = Service::new();
    let hold = |last: u32| {
        let last = last.to_string();
        let args = ["run", "--hold", "--name", "web", "--output-limit", "64k", "--", "seq", "1", &last];
        let mut run = service.command(&args);
        run.stdout(Stdio::piped()).spawn().expect("it is there")
    };
    let lines = |last: u32| (1..=last).map(|n| format!("{n}\n")).collect::<String>().into_bytes();
    let end = || service.list_json().first().map_or(0, |p| p["output_end"].as_u64().unwrap_or(0));
    // What ring and pipes hold, and no more.
    let run = hold(HELD_LINES);
    wait::until("it has ended", LATER, || {
        service.list_json().iter().any(|p| p["name"] == "web" && p["state"] == "stopped")
    });
    assert!(all_of(run) == (lines(HELD_LINES), Some(0)), "the last words of who has gone");
    // Far more than these, as another run of it.
    let before = end();
    let run = hold(400_000);
    wait::until("it writes", SOON, || end() > before + 40_000);
    service.kill_engine();
    assert_eq!(service.state("web"), "running", "it waits");
    let (read, code) = all_of(run);
    assert!(read == lines(400_000), "{} bytes came", read.len());
    assert_eq!(code, Some(0));
    // Whose reader is killed is held no more.
    let before = end();
    let mut run = hold(400_000);
    wait::until("it writes", SOON, || end() > before + 40_000);
    run.kill().expect("it is ours");
    run.wait().expect("it is ours");
    assert_eq!(service.until_state("web", "stopped")["exit"]["code"], 0, "it goes on");
    service.cli(&["run", "--hold", "--output-limit", "16k", "--", "true"]).expect(125);
}

/// Two at once of one name: the second one comes while the first one still reads what has ended, and takes
/// nothing of it.
#[test]
fn output_that_is_held_waits_for_one_reader() {
    let service = Service::new();
    let lines = (1..=HELD_LINES).map(|n| format!("{n}\n")).collect::<String>().into_bytes();
    let last = HELD_LINES.to_string();
    let args = ["run", "--hold", "--name", "web", "--output-limit", "64k", "--", "seq", "1", &last];
    let run = || service.command(&args).stdout(Stdio::piped()).spawn().expect("it is there");
    let first = run();
    wait::until("it has ended", LATER, || {
        service.list_json().iter().any(|p| p["name"] == "web" && p["state"] == "stopped")
    });
    let refused = service.cli(&args);
    assert!(refused.expect(125).err().contains("waits for another reader"), "{refused:?}");
    let (read, code) = all_of(first);
    assert!(read == lines && code == Some(0), "{} bytes came of {}, {code:?}", read.len(), lines.len());
    // Then it is its turn, at once.
    let (read, code) = all_of(run());
    assert!(read == lines && code == Some(0), "{} bytes came of {}, {code:?}", read.len(), lines.len());
}

/// What somebody adds whom the first run has left behind, while the second command is under way, is not of
/// the second run.
#[test]
fn a_run_of_the_same_name_shows_nothing_of_the_one_before() {
    let service = Service::new();
    let gate = service.scratch().file("gate");
    let script = format!("(until test -e {gate}; do sleep 0.01; done; echo late) & echo first");
    let args = ["run", "--name", "web", "--stop-scope", "leader", "--", "sh", "-c", &script];
    assert_eq!(service.ok(&args), "first");
    // It stands still once it has looked at the process, and said how that is to be run now.
    let second = service.command(&["run", "--name", "web", "--", "echo", "second"]);
    let mut strace = Command::new("strace");
    let calls = service.scratch().file("calls");
    strace.args(["-o", &calls, "-e", "trace=sendto", "-e", "inject=sendto:signal=STOP:when=2"]);
    strace.arg(second.get_program()).args(second.get_args());
    strace.envs(second.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let second = Running::new(strace);
    let is_halted = || fs::read_to_string(&calls).is_ok_and(|calls| calls.contains("stopped by SIGSTOP"));
    wait::until("it stands still", SOON, is_halted);
    fs::write(&gate, "").expect("the directory is ours");
    wait::until("it is there", SOON, || {
        service.output("web")
            == b"first
late
"
    });
    for halted in procfs::children(second.pid()) {
        procfs::signal("CONT", halted.pid);
    }
    assert_eq!(second.end(LATER).expect(0).out(), "second");
}

/// While it holds, the next run waits for its reader too, whoever wants it: a policy or a person, over the
/// death of an engine, and not for a reader who has died.
#[test]
fn a_run_behind_one_that_is_held_waits_for_its_reader() {
    let service = Service::new();
    let lines = (1..=HELD_LINES).map(|n| format!("{n}\n")).collect::<String>().into_bytes();
    let hold = |name: &str, more: &[&str]| {
        let last = HELD_LINES.to_string();
        let args = ["run", "--hold", "--name", name, "--output-limit", "64k"];
        let args = [&args[..], more, &["--", "seq", "1", &last]].concat();
        let mut run = service.command(&args);
        run.stdout(Stdio::piped()).spawn().expect("it is there")
    };
    let until = |name: &str, key: &str, value: &str| {
        wait::until(value, LATER, || {
            service.list_json().iter().any(|p| p["name"] == name && p[key] == value)
        });
    };
    let stopped = |name: &str| until(name, "state", "stopped");
    let waits = |name: &str| until(name, "waits_for", "the reader of its last run (--hold)");
    // A policy wants it, three times.
    let often = ["--restart", "always", "--restart-delay", "0", "--max-restarts", "3"];
    let run = hold("policy", &often);
    waits("policy");
    let (read, _) = all_of(run);
    assert!(read == lines.repeat(4), "{} bytes of four runs of {}", read.len(), lines.len());
    // A person wants it; engines die before and after that.
    let run = hold("person", &[]);
    stopped("person");
    service.kill_engine();
    service.ok(&["start", "person"]);
    waits("person");
    service.kill_engine();
    waits("person");
    let (read, code) = all_of(run);
    assert!(read == lines.repeat(2), "{} bytes of two runs of {}", read.len(), lines.len());
    assert_eq!(code, Some(0));
    // One that died is not waited for, and what waits can be stopped.
    let mut run = hold("dead", &[]);
    stopped("dead");
    service.ok(&["start", "dead"]);
    waits("dead");
    service.ok(&["stop", "dead"]);
    assert_eq!(service.state("dead"), "stopped");
    service.ok(&["start", "dead"]);
    waits("dead");
    run.kill().expect("it is ours");
    run.wait().expect("it is ours");
    stopped("dead");
    assert!(lines.ends_with(&service.output("dead")), "and it has run to its end");
}
