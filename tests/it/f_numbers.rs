//! Numbers of processes that are used again: rights are those of the user who connected, whoever has that
//! number by now.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use provost::Error;
use provost::wire::error::Code;
use provost::wire::frame::Frames;
use provost::wire::reply::Reply;
use provost::wire::request::{Request, Stop};

use crate::g_groups::{ADMINS, Stage, VIEWERS};
use crate::harness::{LATER, SOON, procfs, wait};
use crate::raw::{framed, hello};

const NOBODY: u32 = 65534;
/// One that other users may execute.
const PYTHON: &str = "/usr/bin/python3";

/// Connects and says so, is followed by a child of its own with the word `ends`, and passes on what it is
/// given; what comes back is the hello of the service and its first answer.
const RELAY: &str = "import os, socket, sys\n\
    s = socket.socket(socket.AF_UNIX)\ns.settimeout(60)\ns.connect(os.environ['PROVOST_SOCKET'])\n\
    os.write(1, b'C')\n\
    if sys.argv[1] == 'ends' and os.fork(): os._exit(0)\n\
s.sendall(sys.stdin.buffer.read())\nf = s.makefile('rb')\n\
    for _ in 'ab':\n\
    \x20 h = f.read(4)\n\
    \x20 sys.stdout.buffer.write(h + f.read(int.from_bytes(h, 'big')))";

fn fixture(name: &str, number: u32) -> Command {
    let mut python = Command::new("python3");
    python.arg(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).arg(number.to_string());
    python
}

/// The same command as the process of this number, as soon as that is free.
fn with_number(pid: u32, command: &Command) -> Command {
    let mut python = fixture("as_number.py", pid);
    python.arg(command.get_program()).args(command.get_args()).current_dir("/");
    python.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    python
}

/// Ends with the test, whatever becomes of it.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a relay, which has connected then.
#[track_caller]
fn connected(mut relay: Command) -> Ends {
    let mut relay = Ends(relay.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("installed"));
    let mut said = [0];
    relay.0.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it has connected");
    relay
}

/// Asks through a relay.
#[track_caller]
fn ask_through(relay: &mut Ends, request: &Request) -> Result<(), Error> {
    let (mut input, mut answer) = (relay.0.stdin.take().expect("piped"), Vec::new());
    input.write_all(&[hello(), framed(&request.encode())].concat()).expect("it reads");
    drop(input);
    relay.0.stdout.take().expect("piped").read_to_end(&mut answer).expect("it is a pipe");
    let mut frames = Frames::new();
    frames.feed(&answer);
    frames.take().expect("frames").expect("the hello of the service");
    let frame = frames.take().expect("frames").expect("an answer");
    if let Reply::Error(e) = Reply::decode(frame).expect("a reply").0 { Err(e) } else { Ok(()) }
}

fn relay(stage: &Stage, uid: u32, group: &str, mode: &str) -> Command {
    stage.command(uid, &[group], PYTHON, &["-c", RELAY, mode])
}

/// Who connects, has a child go on with the connection and ends: its number is another user's by the time it
/// asks.
#[test]
fn f15_a_number_that_another_process_has_by_now_gives_and_takes_no_rights() {
    let stage = Stage::new();
    let service = &stage.service;
    service.start(&["--name", "web", "--", "sleep", "76114"]);
    let stop = Request::Stop(Stop { targets: vec!["web".into()], ..Stop::default() });
    for (uid, other) in [(NOBODY, 0), (0, NOBODY)] {
        let mut first = connected(relay(&stage, uid, VIEWERS, "ends"));
        let pid = first.0.id();
        // What it has at hand is taken beforehand: a wait closes it.
        let pipes = (first.0.stdin.take(), first.0.stdout.take());
        assert!(first.0.wait().expect("it is ours").success(), "it has connected");
        (first.0.stdin, first.0.stdout) = pipes;
        let mut cat = with_number(pid, &stage.command(other, &[VIEWERS], "cat", &[]));
        // It ends with the test, as its input does.
        let cat = Ends(cat.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("installed"));
        wait::until("another one has its number", SOON, || procfs::command(pid) == "cat");
        let came = ask_through(&mut first, &stop);
        drop(cat);
        assert_eq!(came.err().map(|e| e.code), (uid != 0).then_some(Code::Refused), "asked by user {uid}");
        assert_eq!(service.state("web"), if uid == 0 { "stopped" } else { "running" });
    }
}

/// The host of providers is known by its number, too. Once it has ended, and the engine has not heard of
/// that, another user's process that has it is not the host.
#[test]
fn f15_who_has_the_number_of_the_host_is_not_the_host() {
    let stage = Stage::new();
    let service = &stage.service;
    let announce = Request::Announce(Vec::new());
    let host = || {
        service.cli(&["provider", "info", "app"]).expect(4);
        let all = service.cli(&["list", "--all", "--json"]).json();
        let host = all.iter().find(|p| p["name"] == "provost.host" && p["state"] == "running");
        host.expect("it runs")["pid"].as_u64().expect("a number") as u32
    };
    host();
    // Whatever its number.
    for (uid, group) in [(NOBODY, ADMINS), (NOBODY, VIEWERS), (0, ADMINS)] {
        let came = ask_through(&mut connected(relay(&stage, uid, group, "stays")), &announce);
        assert_eq!(came.expect_err("another").code, Code::Refused, "asked by user {uid} as the host");
    }
    // Beside an admin of another user, root: it is taken for the host, so its number alone is not what
    // decided.
    for (uid, expected) in [(NOBODY, Some(Code::Refused)), (0, None)] {
        let number = host();
        // What the keeper says is heard by the first thread of the engine.
        let mut halted = fixture("halt_thread.py", service.engine_pid());
        let mut halted =
            Ends(halted.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("installed"));
        let mut said = [0; 7];
        halted.0.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it stands still");
        procfs::signal("KILL", number);
        wait::until("its number is free", LATER, || procfs::stat(number).is_none());
        let mut asks = connected(with_number(number, &relay(&stage, uid, ADMINS, "stays")));
        let came = ask_through(&mut asks, &announce);
        assert_eq!(came.err().map(|e| e.code), expected, "asked by user {uid} as the host");
        drop(halted.0.stdin.take());
        halted.0.wait().expect("it goes on");
    }
    host();
}
