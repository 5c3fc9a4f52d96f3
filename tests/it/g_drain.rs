//! How the gateway ends: nobody new comes in, calls under way have a grace, and health says so. And health
//! when there is no engine behind it.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::g_clients::installed;
use crate::h2::{DATA, GOAWAY, OK, Peer, fields, literals, login_of, message, text_field};
use crate::harness::cli::Running;
use crate::harness::gateway::{NAME, User};
use crate::harness::{Gateway, LATER, Options, SOON, Service, procfs, wait};

/// What a watch tells.
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;
/// How a watch ends with the gateway.
const UNAVAILABLE: u32 = 14;

/// Watches the health of the whole service; the stream.
fn watch(peer: &mut Peer) -> u32 {
    peer.begin(&literals(&fields("/grpc.health.v1.Health/Watch")), &message(&[]))
}

/// The next state that this watch tells.
#[track_caller]
fn next_state(peer: &mut Peer, stream: u32) -> u8 {
    loop {
        let frame = peer.next(SOON).expect("the connection goes on");
        if frame.kind == DATA && frame.stream == stream {
            return *frame.payload.last().expect("it is not empty");
        }
    }
}

/// Waits for the end of the process "web", as a call of one who has logged in.
fn wait_for_web(peer: &mut Peer) -> u32 {
    let login = login_of(User::Viewer);
    assert_eq!(peer.call("ServiceInfo", &login, &[]).and_then(|answer| answer.status), Some(OK));
    peer.ask("Wait", &login, &text_field(1, b"web"))
}

/// Once the gateway has the call.
fn until_it_waits(gateway: &Gateway) {
    wait::until("the call waits", SOON, || gateway.threads_that_wait("call") == 1);
}

#[test]
fn calls_under_way_come_to_their_end_and_nobody_new_is_let_in() {
    let gateway = Gateway::with(Options::new(), "grace = \"2m\"");
    gateway.service().start(&["--name", "web", "--", "sleep", "76040"]);
    let (mut watching, mut waiting, mut idle) =
        (Peer::new(&gateway), Peer::new(&gateway), Peer::new(&gateway));
    let watched = watch(&mut watching);
    assert_eq!(next_state(&mut watching, watched), SERVING);
    let call = wait_for_web(&mut waiting);
    until_it_waits(&gateway);
    let stop = gateway.service().background(&["stop", NAME]);
    assert_eq!(next_state(&mut watching, watched), NOT_SERVING);
    assert_eq!(watching.answer(watched).and_then(|end| end.status), Some(UNAVAILABLE));
    // Who does nothing is told to go, and the connection is not waited for.
    while idle.next(SOON).expect("it is told").kind != GOAWAY {}
    wait::until("nobody new is let in", SOON, || TcpStream::connect(("127.0.0.1", gateway.port())).is_err());
    assert_eq!(waiting.has_ended(call), None);
    assert!(stop.is_running());
    gateway.service().ok(&["stop", "web"]);
    assert_eq!(waiting.answer(call).and_then(|end| end.status), Some(OK));
    // It ends with its last call, not with the grace.
    drop((watching, waiting, idle));
    stop.end(Duration::from_secs(60)).expect(0);
    gateway.service().ok(&["start", NAME]);
    gateway.until_ready(2);
}

#[test]
fn the_grace_has_an_end() {
    let gateway = Gateway::with(Options::new(), "grace = \"300ms\"");
    gateway.service().start(&["--name", "web", "--", "sleep", "76041"]);
    let mut peer = Peer::new(&gateway);
    let call = wait_for_web(&mut peer);
    until_it_waits(&gateway);
    let began = Instant::now();
    gateway.service().ok(&["stop", NAME]);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    // By itself: nobody had to kill it.
    let end = gateway.service().status_json(NAME);
    assert_eq!(end["exit"]["code"], 0, "{end}");
    assert_ne!(peer.answer(call).and_then(|end| end.status), Some(OK));
}

/// Has no engine run, while `work` is done.
fn without_engine(service: &Service, work: impl FnOnce()) {
    let (keeper, engine) = (service.keeper_pid(), service.engine_pid());
    procfs::signal("STOP", keeper);
    procfs::signal("KILL", engine);
    work();
    procfs::signal("CONT", keeper);
}

#[test]
fn health_follows_the_engine() {
    let gateway = Gateway::start();
    let mut peer = Peer::new(&gateway);
    let watched = watch(&mut peer);
    assert_eq!(next_state(&mut peer, watched), SERVING);
    for _ in 0..3 {
        without_engine(gateway.service(), || {
            assert_eq!(next_state(&mut peer, watched), NOT_SERVING);
            let mut other = Peer::new(&gateway);
            let check = other.begin(&literals(&fields("/grpc.health.v1.Health/Check")), &message(&[]));
            let answer = other.answer(check).expect("it is answered");
            assert_eq!((answer.status, answer.data.last()), (Some(OK), Some(&NOT_SERVING)));
        });
        assert_eq!(next_state(&mut peer, watched), SERVING);
    }
}

#[test]
fn on_this_machine_health_and_the_end_are_the_same() {
    let service = Service::new();
    let socket = provost::client::grpc_socket(Path::new(service.socket())).expect("it is short");
    let here = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(here("tests/clients/local_watch.py")).arg(format!("unix://{}", socket.display()));
    command.arg(here("proto")).arg(LATER.as_secs().to_string());
    let client = Running::new(command);
    let line = || client.line(SOON).expect("the watch goes on");
    assert_eq!(line(), "SERVING");
    without_engine(&service, || assert_eq!(line(), "NOT_SERVING"));
    assert_eq!(line(), "SERVING");
    service.ok(&["stop", NAME]);
    assert_eq!((line(), line()), ("NOT_SERVING".to_owned(), "UNAVAILABLE".to_owned()));
    client.end(SOON).expect(0);
}
