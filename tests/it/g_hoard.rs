//! What clients with a certificate could have the gateway keep for them: half requests, answers that they do
//! not take, connections. And what is read before anybody has looked at their credentials.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::h2::{
    ACK, DATA, Footprint, GOAWAY, OK, PING, PREFACE, Peer, SETTINGS, WINDOW_UPDATE, expect_service, fields,
    frame, literals, login_of, message, path, text_field, tls,
};
use crate::harness::gateway::User;
use crate::harness::{Gateway, Options, SOON, procfs, wait};

const INVALID_ARGUMENT: u32 = 3;
const RESOURCE_EXHAUSTED: u32 = 8;
/// The setting of the window of a new stream.
const INITIAL_WINDOW: u16 = 4;

/// Sends as much as the other side has room for, of requests that it never ends.
pub struct Hoarder {
    peer: Peer,
    /// Of a request, in bytes.
    len: i64,
    window: i64,
    initial: i64,
    /// Window, and what is left to be sent.
    streams: BTreeMap<u32, (i64, i64)>,
}

impl Hoarder {
    pub fn new(mut peer: Peer, path: &str, calls: u32, len: u32) -> Self {
        let (block, len) = (literals(&fields(path)), i64::from(len));
        let streams = (0..calls).map(|_| (peer.begin(&block, &[]), (65_535, len))).collect();
        Self { peer, len, window: 65_535, initial: 65_535, streams }
    }

    /// Sends until the connection is ended or all is sent. Whether it was ended.
    pub fn run(mut self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < SOON {
            while let Some(got) = self.peer.next(Duration::from_millis(1)) {
                self.take(got.kind, got.flags, got.stream, &got.payload);
            }
            if !self.peer.send(&[]) {
                return true;
            }
            self.send();
            if self.streams.values().all(|&(_, left)| left == 1) {
                return false;
            }
        }
        false
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().expect("four")));
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks(6) {
                    if setting[..2] == INITIAL_WINDOW.to_be_bytes() {
                        let now = number(&setting[2..]);
                        self.streams.values_mut().for_each(|(window, _)| *window += now - self.initial);
                        self.initial = now;
                    }
                }
                self.peer.send(&frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK == 0 => drop(self.peer.send(&frame(PING, ACK, 0, payload))),
            WINDOW_UPDATE if stream == 0 => self.window += number(payload),
            WINDOW_UPDATE => {
                if let Some((window, _)) = self.streams.get_mut(&stream) {
                    *window += number(payload);
                }
            }
            _ => {}
        }
    }

    /// A piece of each request; the last byte of none.
    fn send(&mut self) {
        for (&stream, (window, left)) in &mut self.streams {
            let len = (*left - 1).min(16_384).min(*window).min(self.window);
            if len <= 0 {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(len).expect("it is positive")];
            if *left == self.len {
                let size = u32::try_from(self.len - 5).expect("it is small").to_be_bytes();
                bytes.splice(1..5.min(bytes.len()), size);
            }
            self.window -= len;
            *window -= len;
            *left -= len;
            self.peer.send(&frame(DATA, 0, stream, &bytes));
        }
    }
}

#[test]
fn half_requests_are_bounded() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let hoarders: Vec<_> =
        (0..3).map(|_| Hoarder::new(Peer::new(&gateway), &path("Start"), 99, 1 << 20)).collect();
    let ended = std::thread::scope(|scope| {
        let all: Vec<_> = hoarders.into_iter().map(|hoarder| scope.spawn(|| hoarder.run())).collect();
        all.into_iter().map(|one| one.join().expect("it has not failed")).filter(|&ended| ended).count()
    });
    assert_eq!(ended, 3, "{}", gateway.log());
    gateway.until_said("requests that it did not end");
    before.expect_back(&gateway, 64);
}

#[test]
fn an_answer_that_nobody_takes_ends_the_connection() {
    let gateway = Gateway::with(Options::new(), "stall = \"1s\"");
    let mut good = Peer::new(&gateway);
    let login = login_of(User::Viewer);
    assert_eq!(good.call("List", &login, &[]).and_then(|answer| answer.status), Some(OK));
    let mut peer = Peer::silent(gateway.port(), tls(&gateway)).expect("it is let in");
    let no_window = [&INITIAL_WINDOW.to_be_bytes()[..], &[0; 4]].concat();
    peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &no_window)].concat());
    peer.ask("ServiceInfo", &login, &[]);
    wait::until("the connection is ended", SOON, || peer.is_closed());
    gateway.until_said("it did not take the answer of a call");
    // One that takes its answers is as good as before.
    assert_eq!(good.call("List", &login, &[]).and_then(|answer| answer.status), Some(OK));
}

#[test]
fn answers_that_nobody_takes_leave_no_room_for_more() {
    // Three messages of this length are kept at most: four answers of ten processes with 4 KB of arguments.
    let gateway = Gateway::with(Options::new(), "message_size = \"64 KiB\"");
    let start = ["start", "--name", "large", "--instances", "10", "--", "true", &"x".repeat(40_000)];
    gateway.service().ok(&start);
    gateway.service().ok(&["wait", "large-*"]);
    let (login, request) = (login_of(User::Viewer), text_field(1, b"large-*"));
    let mut peer = Peer::silent(gateway.port(), tls(&gateway)).expect("it is let in");
    let window = |len: u32| {
        let setting = [&INITIAL_WINDOW.to_be_bytes()[..], &len.to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &setting)
    };
    peer.send(&[PREFACE, &window(0)].concat());
    let asked: Vec<_> = (0..10).map(|_| peer.ask("Status", &login, &request)).collect();
    let ended = |peer: &mut Peer, status: u32| {
        let ends = asked.iter().filter_map(|&stream| peer.has_ended(stream));
        ends.filter(|answer| answer.status == Some(status)).count()
    };
    wait::until("those without room are refused", SOON, || ended(&mut peer, RESOURCE_EXHAUSTED) == 6);
    assert_eq!(ended(&mut peer, OK), 0);
    peer.send(&window(1 << 20));
    wait::until("the others are taken", SOON, || ended(&mut peer, OK) == 4);
    assert_eq!(peer.call("Status", &login, &request).and_then(|answer| answer.status), Some(OK));
}

#[test]
fn one_certificate_has_a_share_of_the_connections() {
    let gateway = Gateway::with(Options::new(), "connections_each = 3");
    let login = login_of(User::Viewer);
    let call = |peer: &mut Peer| peer.call("ServiceInfo", &login, &[]).and_then(|answer| answer.status);
    let mut all: Vec<_> = (0..3).map(|_| Peer::new(&gateway)).collect();
    assert!(all.iter_mut().all(|peer| call(peer) == Some(OK)));
    assert!(Peer::with(gateway.port(), tls(&gateway)).map_or(true, |mut fourth| call(&mut fourth).is_none()));
    gateway.until_said("its certificate has all connections");
    all.pop();
    wait::until("there is a place again", SOON, || {
        Peer::with(gateway.port(), tls(&gateway)).is_ok_and(|mut peer| call(&mut peer) == Some(OK))
    });
}

#[test]
fn a_connection_ends_with_its_age() {
    let gateway = Gateway::with(Options::new(), "max_age = \"1s\"\ngrace = \"1s\"");
    let mut idle = Peer::new(&gateway);
    while idle.next(SOON).expect("it is told").kind != GOAWAY {}
    gateway.service().start(&["--name", "web", "--", "sleep", "76060"]);
    let mut busy = Peer::new(&gateway);
    let call = busy.ask("Wait", &login_of(User::Viewer), &text_field(1, b"web"));
    assert_ne!(busy.answer(call).and_then(|answer| answer.status), Some(OK), "the grace has an end");
    // Which is no fault of theirs.
    assert!(!gateway.log().contains("broke the rules"), "{}", gateway.log());
    expect_service(&gateway);
}

#[test]
fn what_a_certificate_alone_asks_is_short() {
    let gateway = Gateway::start();
    let mut peer = Peer::new(&gateway);
    let mut ask = |path: &str, number, len: usize, authorization: &[(&str, &str)]| {
        let name = vec![b'a'; len];
        let block = literals(&[fields(path), authorization.to_vec()].concat());
        let call = peer.begin(&block, &message(&text_field(number, &name)));
        peer.answer(call).expect("it is answered").status
    };
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(ask(reflection, 4, 1000, &[]), Some(OK));
    assert_eq!(ask(reflection, 4, 5000, &[]), Some(INVALID_ARGUMENT));
    assert_eq!(ask("/grpc.health.v1.Health/Check", 1, 2000, &[]), Some(INVALID_ARGUMENT));
    // Two logins are none, whatever is asked.
    let two = [("authorization", "Basic eDp5"), ("authorization", "Basic eDp5")];
    assert_eq!(ask(reflection, 4, 5000, &two), Some(crate::h2::PERMISSION_DENIED));
    assert_eq!(ask("/grpc.health.v1.Health/Check", 1, 2000, &two), Some(crate::h2::PERMISSION_DENIED));
}

#[test]
fn the_connections_to_the_host_of_providers_are_kept() {
    let gateway = Gateway::start();
    let login = login_of(User::Admin);
    let mut peer = Peer::new(&gateway);
    let mut call = |method: &str| peer.call(method, &login, &[]).and_then(|answer| answer.status);
    for _ in 0..20 {
        assert_eq!(call("ProviderService/ListProviders"), Some(OK));
        assert_eq!(call("ProviderService/ShutDownProviders"), Some(OK));
    }
    let host = gateway.service().pid("provost.host");
    let tasks = std::fs::read_dir(format!("/proc/{host}/task")).expect("it runs").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let numbers = names.filter_map(|name| name.trim().strip_prefix("conn-")?.parse::<u32>().ok());
    // They are numbered one after the other.
    let most = numbers.max().expect("some are kept");
    assert!(most < 15, "{most} connections for 40 calls");
    let pid = gateway.pid();
    procfs::signal("KILL", host);
    wait::until("there is another host", SOON, || call("ProviderService/ListProviders") == Some(OK));
    assert_eq!(gateway.pid(), pid);
}
