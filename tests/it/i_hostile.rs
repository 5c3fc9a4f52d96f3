//! Providers that do wrong whatever can be done wrong: messages, orders, and frames. Each has its answer or
//! its end; the host and the honest provider beside do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::g_clients::installed;
use crate::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, fields, frame,
    literals, message, text_field,
};
use crate::harness::cli::run;
use crate::harness::{LATER, Running, SOON, free_port, procfs, rounds, wait};
use crate::i_streams::provider;
use crate::plane::Plane;

/// What the host may have more than before, at most.
const MEMORY_MAX_KIB: u64 = 64 << 10;
/// Providers that come and go.
const FLAPS: u32 = 500;

/// A plane with an honest provider.
struct Beside {
    plane: Plane,
    honest: Running,
    id: Value,
    host: u32,
    rss_kib: u64,
}

impl Beside {
    fn start() -> Self {
        let plane = Plane::with("heartbeat_timeout = '10s'\n");
        let honest = plane.outside(&["honest"], &[]);
        assert_eq!(plane.call("honest.who", &json!({})), honest.pid());
        let (id, host) = (plane.connections()[0]["id"].clone(), plane.service.pid("provost.host"));
        Self { plane, honest, id, host, rss_kib: procfs::rss_kib(host) }
    }

    /// Nobody has noticed anything.
    #[track_caller]
    fn expect_unharmed(&self, what: &str) {
        assert_eq!(self.plane.service.pid("provost.host"), self.host, "{what}");
        assert_eq!(self.plane.call("honest.who", &json!({})), self.honest.pid(), "{what}");
        wait::until("only the honest one is there", SOON, || {
            let all = self.plane.connections();
            all.len() == 1 && all[0]["id"] == self.id && all[0]["state"] == "active"
        });
        let peak = procfs::status_line(self.host, "VmHWM").expect("it runs");
        let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < self.rss_kib + MEMORY_MAX_KIB, "{what}: {peak} KiB, {} before", self.rss_kib);
    }

    fn client(&self, program: &str, script: &str) -> Command {
        let here = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(program);
        command.arg(here(script)).arg(&self.plane.address);
        command.env("PROTO", here("proto"));
        command
    }
}

#[test]
fn whatever_a_provider_registers_or_says_wrong_has_its_answer() {
    let beside = Beside::start();
    let said = run(beside.client(&installed("python/bin/python3"), "tests/clients/hostile.py"), LATER)
        .expect(0)
        .out();
    let scheme = "executor_url is HOST:PORT, without a scheme: http://localhost:1";
    let parts = "Namespace parts begin with a letter and are alphanumeric, with '.' between";
    let expected = [
        "deep: Invalid input schema: it is nested deeper than 32 levels",
        "deeper: INVALID_ARGUMENT: the message cannot be read (schemas have at most 32 levels)",
        "deepest: INVALID_ARGUMENT: the message cannot be read (schemas have at most 32 levels)",
        "wide: Invalid output schema: field f",
        "long namespace: Namespace has more than 200 bytes",
        "long name: Module name has more than 200 bytes",
        "long url: executor_url is not HOST:PORT: hhhh",
        "long text: version and description have more than 4096 bytes",
        "long group: group_id has more than 200 bytes",
        "many: INVALID_ARGUMENT: a registration has at most 1000 modules",
        "twice: Module m is declared twice",
        "too large: RESOURCE_EXHAUSTED",
        "old: protocol_version 0 is below 1",
        "negative: protocol_version -1 is below 1",
        "url :9090: executor_url is not HOST:PORT: :9090",
        "url [::1: executor_url is not HOST:PORT: [::1",
        "url [::1]garbage: executor_url is not HOST:PORT: [::1]garbage",
        "url a:b:80: Invalid port in executor_url: b:80",
        "url localhost:0: Port out of range in executor_url (1 to 65535): 0",
        "url localhost:70000: Port out of range in executor_url (1 to 65535): 70000",
        "url localhost:+1: Invalid port in executor_url: +1",
        &format!("url http://localhost:1: {scheme}"),
        "url  : executor_url cannot be empty",
        "namespace '': Namespace cannot be empty",
        &format!("namespace '.': {parts}"),
        &format!("namespace 'ml.': {parts}"),
        &format!("namespace 'ml..x': {parts}"),
        &format!("namespace '1ml': {parts}"),
        &format!("namespace 'a b': {parts}"),
        "namespace 'stdlib.math': Namespace stdlib.math is reserved",
        "not text: INVALID_ARGUMENT",
        "not a message: INVALID_ARGUMENT",
        "nothing but modules: INVALID_ARGUMENT: a registration has at most 1000 modules",
        "no method: UNIMPLEMENTED",
        "after that: True",
        "odd: 2 acknowledged, then the end",
        "deregistered after the end: ",
        "free again: True",
        "deregistered before the end: accepted",
        "its stream: []",
        "deregistered twice: ",
        "of nobody: ",
        "many names: INVALID_ARGUMENT: a registration has at most 1000 modules",
        "at the end: True True",
    ];
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{said}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected.trim_end()), "{expected}\n{said}");
    }
    beside.expect_unharmed("Python");
}

#[test]
fn a_provider_in_node_that_mixes_up_the_order_harms_nobody() {
    let beside = Beside::start();
    let mut node = beside.client("node", "tests/clients/hostile.js");
    node.env("LIBRARIES", installed("node/node_modules"));
    let said = run(node, LATER).expect(0).out();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "a stream before a registration: NOT_FOUND",
            "a stream that says nothing: OK",
            "no modules: true",
            "its stream: heartbeat_ack OK",
            "in part: true | Invalid output schema: Missing output_schema | Module name begins with a letter and is alphanumeric",
            "it ends: heartbeat_ack OK",
            "deregistered late: not found | not found",
            "cancelled: heartbeat_ack CANCELLED",
            "free again: true",
            "in its place: true",
            "the one before: NOT_FOUND",
            "gone: true",
        ]
    );
    beside.expect_unharmed("Node");
}

#[test]
fn what_an_executor_answers_wrong_is_its_own_failure() {
    let beside = Beside::start();
    // A module, the exit code of its call, and what is said.
    let cases = [
        ("good", 0, "7"),
        ("whole", 0, "3"),
        ("empty", 1, "the executor returned an empty response"),
        ("nothing", 1, "the output does not fit: EOF"),
        ("notJson", 1, "the output does not fit: expected value"),
        ("notText", 1, "the output does not fit: invalid unicode"),
        ("lone", 1, "the output does not fit: "),
        ("deep", 1, "the output does not fit: it is nested deeper than 32 levels"),
        ("fraction", 1, "it is a CInt, not a whole number of 64 bits"),
        ("huge", 1, "the output does not fit: value: number out of range"),
        ("over", 1, "it is a CInt, not a whole number of 64 bits"),
        ("other", 1, "it is a CString, not Int"),
        ("untagged", 1, "it is no object with a tag"),
        ("large", 1, "RESOURCE_EXHAUSTED"),
        ("exhausted", 1, "RESOURCE_EXHAUSTED: no room"),
        ("internal", 1, "UNKNOWN"),
        ("longError", 1, "[CCCCCCCC"),
        ("rudeError", 1, "red"),
    ];
    // Whose calls fail five times is left out for a while: a new one for every few.
    for some in cases.chunks(4) {
        let script = "tests/clients/hostile_executor.py";
        let odd = Running::new(beside.client(&installed("python/bin/python3"), script));
        odd.line_with("active ", SOON);
        for (name, code, said) in some {
            let out = beside.plane.cli(&["call", &format!("odd.{name}"), "--timeout", "20s"]);
            let printed = [out.out(), out.err()].concat();
            assert!(out.code == *code && printed.contains(said), "{name}: {out:?}");
            assert!(
                printed.len() < 8000 && !printed.contains(['\x1b', '\x07']),
                "{name}: {} bytes",
                printed.len()
            );
        }
        drop(odd);
        wait::until("it is gone", SOON, || beside.plane.connections().len() == 1);
    }
    // An input that is nested too deep does not leave.
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let out = beside.plane.cli(&["call", "honest.words", "--input", &deep]);
    assert!(out.expect(2).err().contains("it is nested deeper than 32 levels"), "{out:?}");
    beside.expect_unharmed("its executor");
}

/// What a client says next.
type Bytes = Box<dyn FnMut() -> Vec<u8>>;

/// Bytes of a client until the service ends the connection, or for so long; whether it did.
fn is_ended(address: &str, mut bytes: Bytes) -> bool {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit is set");
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).expect("it is read");
    wait::holds_within(SOON, || {
        let is_taken = (0..16).all(|_| socket.write_all(&bytes()).is_ok());
        let read = socket.read(&mut [0; 4096]);
        !is_taken || matches!(read, Ok(0)) || read.is_err_and(|e| e.raw_os_error() == Some(104))
    })
}

#[test]
fn g15_g19_g20_g22_frames_that_are_too_many_or_too_large_end_their_own_connection() {
    let beside = Beside::start();
    let path = "/constellation.provider.v1.ModuleProvider/ControlPlane";
    let block = literals(&fields(path));
    let mut stream = 1;
    let mut next = move || {
        stream += 2;
        stream
    };
    let mut cases: Vec<(&str, Bytes)> = Vec::new();
    let begin = block.clone();
    cases.push((
        "10,000 streams at once",
        Box::new(move || {
            let all = (0..600).map(|_| frame(HEADERS, END_HEADERS, next(), &begin));
            all.collect::<Vec<_>>().concat()
        }),
    ));
    let mut stream = 1;
    let begin = block.clone();
    cases.push((
        "streams that are reset at once",
        Box::new(move || {
            let all = (0..200).map(|_| {
                stream += 2;
                let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
                [frame(HEADERS, END_HEADERS | END_STREAM, stream, &begin), reset].concat()
            });
            all.collect::<Vec<_>>().concat()
        }),
    ));
    let mut is_begun = false;
    cases.push((
        "headers without end",
        Box::new(move || {
            let kind = if std::mem::replace(&mut is_begun, true) { CONTINUATION } else { HEADERS };
            frame(kind, 0, 1, &literals(&[("x", &"y".repeat(12 << 10))]))
        }),
    ));
    cases.push(("a frame that is too long", Box::new(|| frame(DATA, 0, 1, &vec![0; 1 << 20]))));
    let begin = block;
    let mut stream = 1;
    cases.push((
        "messages of 4 GiB",
        Box::new(move || {
            stream += 2;
            let len = frame(DATA, 0, stream, &[0, 0xff, 0xff, 0xff, 0xff]);
            [frame(HEADERS, END_HEADERS, stream, &begin), len].concat()
        }),
    ));
    for (what, bytes) in cases {
        assert!(is_ended(&beside.plane.address, bytes), "{what}");
        beside.expect_unharmed(what);
    }
}

#[test]
fn g24_a_provider_that_reads_no_acknowledgement_is_given_up() {
    let beside = Beside::start();
    let executor = format!("127.0.0.1:{}", free_port());
    let mut socket = provider(&beside.plane.address, "deaf", &executor);
    // Of the connection that the stream is bound to; the answers do not fit into what it lets come.
    let beat = frame(DATA, 0, 3, &message(&[vec![1 << 3, 1], text_field(10, b"")].concat()));
    socket.write_all(&beat.repeat(3000)).expect("it is read");
    wait::until("it is given up", SOON, || {
        beside.plane.connections().iter().all(|c| c["namespace"] != "deaf")
    });
    beside.expect_unharmed("it reads nothing");
}

#[test]
fn i7_providers_that_come_and_go_leave_nothing() {
    let beside = Beside::start();
    let executor = format!("127.0.0.1:{}", free_port());
    let flap = |n: u32| drop(provider(&beside.plane.address, &format!("n{n}"), &executor));
    flap(0);
    beside.expect_unharmed("the first one");
    let (fds, threads) = (procfs::fd_count(beside.host), procfs::thread_count(beside.host));
    (1..FLAPS * rounds(1)).for_each(flap);
    beside.expect_unharmed("they are gone");
    wait::until("nothing is left of them", SOON, || {
        procfs::fd_count(beside.host) <= fds && procfs::thread_count(beside.host) <= threads
    });
}

#[test]
fn i2_a_host_that_was_held_up_loses_no_provider_for_it() {
    let plane = Plane::with("heartbeat_timeout = '1s'\n");
    let provider = plane.outside(&["demo"], &[]);
    let id = plane.connections()[0]["id"].clone();
    let host = plane.service.pid("provost.host");
    procfs::signal("STOP", host);
    // Longer than heartbeats may take; they come meanwhile, and nobody reads them.
    wait::pass(Duration::from_millis(2500));
    procfs::signal("CONT", host);
    assert_eq!(plane.call("demo.who", &json!({})), provider.pid());
    let before = plane.connections()[0]["last_heartbeat_at"].as_u64();
    wait::until("heartbeats go on", SOON, || plane.connections()[0]["last_heartbeat_at"].as_u64() > before);
    let all = plane.connections();
    assert_eq!((all.len(), &all[0]["id"]), (1, &id), "it is the same connection");
    // One that is silent is gone, whatever was before.
    provider.signal("STOP");
    wait::until("it is gone", SOON, || plane.connections().is_empty());
}
