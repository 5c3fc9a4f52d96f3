//! A client of HTTP/2 that keeps to no rules: frames written by hand, over a real TLS connection with a good
//! certificate. Header fields go out as literals that nobody has to remember; of those that come, what tells
//! how a call ended is read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::tls::material::{self, Files};
use provost::wire::json::base64;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection};

use crate::harness::gateway::{NAME, User};
use crate::harness::{Gateway, SOON, procfs, wait};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITIZED: u8 = 0x20;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How calls end.
pub const OK: u32 = 0;
pub const CANCELLED: u32 = 1;
pub const UNKNOWN: u32 = 2;
pub const DEADLINE_EXCEEDED: u32 = 4;
pub const PERMISSION_DENIED: u32 = 7;

pub const RESOURCE_EXHAUSTED: u32 = 8;
pub const UNIMPLEMENTED: u32 = 12;

/// A frame as it goes over the line.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Header fields as literals that are not indexed.
pub fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            put_integer(&mut out, 7, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

fn put_integer(out: &mut Vec<u8>, prefix: u32, value: usize) {
    let max = (1 << prefix) - 1;
    if value < max {
        return out.push(value as u8);
    }
    out.push(max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The fields of an honest call, before its metadata.
pub fn fields(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
}

/// The value of `authorization`.
pub fn login(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// The same for one who exists.
pub fn login_of(user: User) -> String {
    login(user.name(), user.password())
}

/// Where a method of ours is; `SERVICE/METHOD` for another service than that of processes.
pub fn path(method: &str) -> String {
    if method.contains('/') {
        return format!("/provost.v1.{method}");
    }
    format!("/provost.v1.ProcessService/{method}")
}

/// A message of gRPC, not compressed.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("a message is short");
    [&[0], &len.to_be_bytes()[..], bytes].concat()
}

/// One field of a protobuf message that has a length: text or a message.
pub fn text_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 128 {
        out.push((len % 128) as u8 | 128);
        len /= 128;
    }
    out.push(len as u8);
    out.extend(bytes);
    out
}

/// One frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status of gRPC; none if the stream was reset.
    pub status: Option<u32>,
    pub text: String,
    pub data: Vec<u8>,
    is_whole: bool,
}

/// What a client shows that the gateway lets in.
pub fn files(gateway: &Gateway) -> Files {
    Files {
        certificate: gateway.file("client.pem").into(),
        key: gateway.file("client.key").into(),
        ca: gateway.file("ca.pem").into(),
        crl: None,
    }
}

/// How that client does TLS.
pub fn tls(gateway: &Gateway) -> Arc<ClientConfig> {
    material::client(&files(gateway)).expect("the files are good")
}

/// One connection.
pub struct Peer {
    tcp: TcpStream,
    tls: ClientConnection,
    received: Vec<u8>,
    /// The header fields that the other side wants remembered, the newest first.
    remembered: Vec<(String, String)>,
    /// Of calls that nobody has asked about yet.
    answers: BTreeMap<u32, Answer>,
    next_stream: u32,
    is_gone: bool,
}

impl Peer {
    /// Connected as a good client is, the preface and settings sent.
    #[track_caller]
    pub fn new(gateway: &Gateway) -> Self {
        Self::with(gateway.port(), tls(gateway)).unwrap_or_else(|e| panic!("{e}\n{}", gateway.log()))
    }

    /// The same with what is given, once the handshake is done on our side.
    pub fn with(port: u16, config: Arc<ClientConfig>) -> Result<Self, String> {
        let mut peer = Self::silent(port, config)?;
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        Ok(peer)
    }

    /// Connected, and nothing said.
    pub fn silent(port: u16, config: Arc<ClientConfig>) -> Result<Self, String> {
        let name = "localhost".try_into().expect("a name");
        let tls = ClientConnection::new(config, name).map_err(|e| e.to_string())?;
        let tcp = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
        let set = tcp.set_nonblocking(true).and_then(|()| tcp.set_nodelay(true));
        set.map_err(|e| e.to_string())?;
        let (received, remembered, answers) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut peer = Self { tcp, tls, received, remembered, answers, next_stream: 1, is_gone: false };
        let done = wait::holds_within(SOON, || peer.turn().is_err() || !peer.tls.is_handshaking());
        if done && !peer.is_gone { Ok(peer) } else { Err("the handshake failed".to_owned()) }
    }

    /// Moves what can be moved, both ways. Whether anything did; an error is the end.
    fn turn(&mut self) -> Result<bool, ()> {
        let mut moved = false;
        let turned = loop {
            if self.tls.wants_write() {
                match self.tls.write_tls(&mut self.tcp) {
                    Ok(_) => moved = true,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => break Err(()),
                }
            }
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => break Err(()),
                Ok(_) => moved = true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break Ok(moved),
                Err(_) => break Err(()),
            }
            let Ok(state) = self.tls.process_new_packets() else { break Err(()) };
            let at = self.received.len();
            self.received.resize(at + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.received[at..]).expect("it is there");
            if state.peer_has_closed() {
                break Err(());
            }
        };
        self.is_gone |= turned.is_err();
        turned
    }

    /// Sends bytes; false once the other side has closed.
    pub fn send(&mut self, mut bytes: &[u8]) -> bool {
        let begin = Instant::now();
        while !self.is_gone && (!bytes.is_empty() || self.tls.wants_write()) {
            let taken = self.tls.writer().write(bytes).unwrap_or(0);
            bytes = &bytes[taken..];
            if self.turn() == Ok(false) && taken == 0 {
                assert!(begin.elapsed() < SOON, "the gateway takes nothing");
                wait::pass(Duration::from_millis(1));
            }
        }
        !self.is_gone
    }

    /// Whether the other side has closed by now; what came is forgotten.
    pub fn is_closed(&mut self) -> bool {
        let _ = self.turn();
        self.received.clear();
        self.is_gone
    }

    /// What the gateway has shown.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.tls.peer_certificates().expect("it always shows one")[0].clone().into_owned()
    }

    /// Says these bytes again and again, until the other side has enough or it was said so often. Returns how
    /// often.
    pub fn flood(&mut self, bytes: &[u8], times: usize) -> usize {
        let each = (16_384 / bytes.len()).clamp(1, times);
        let batch = bytes.repeat(each);
        let mut said = 0;
        while said < times && self.send(&batch) {
            said += each;
            self.received.clear();
        }
        said
    }

    /// The next frame, unless the connection has ended or the limit is over.
    pub fn next(&mut self, limit: Duration) -> Option<Frame> {
        let begin = Instant::now();
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if self.is_gone || begin.elapsed() > limit {
                return None;
            }
            if self.turn() == Ok(false) {
                wait::pass(Duration::from_micros(200));
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.received.get(..9)?.try_into().ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.received.get(9..9 + len)?.to_vec();
        self.received.drain(..9 + len);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The id of a new stream.
    pub fn stream(&mut self) -> u32 {
        let id = self.next_stream;
        self.next_stream += 2;
        id
    }

    /// Leaves out the streams below this many.
    pub fn skip_streams(&mut self, count: u32) {
        self.next_stream += count;
    }

    /// Begins a call with this header block and these bytes as the whole of its body.
    pub fn begin(&mut self, block: &[u8], body: &[u8]) -> u32 {
        let id = self.stream();
        let mut bytes = frame(HEADERS, END_HEADERS, id, block);
        let mut chunks = body.chunks(16_384).peekable();
        while let Some(chunk) = chunks.next() {
            let end = if chunks.peek().is_none() { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, end, id, chunk));
        }
        self.send(&bytes);
        id
    }

    /// Begins an honest call.
    pub fn ask(&mut self, method: &str, authorization: &str, request: &[u8]) -> u32 {
        let path = path(method);
        let block = literals(&[fields(&path), vec![("authorization", authorization)]].concat());
        self.begin(&block, &message(request))
    }

    /// An honest call to its end; none if the connection ends before.
    pub fn call(&mut self, method: &str, authorization: &str, request: &[u8]) -> Option<Answer> {
        let id = self.ask(method, authorization, request);
        self.answer(id)
    }

    /// The end of a call; none if the connection ends before. Settings, pings and windows are answered
    /// meanwhile.
    pub fn answer(&mut self, stream: u32) -> Option<Answer> {
        while !self.answers.get(&stream).is_some_and(|answer| answer.is_whole) {
            let frame = self.next(SOON)?;
            self.absorb(&frame);
        }
        self.answers.remove(&stream)
    }

    /// How a call has ended, as far as that has come by now.
    pub fn has_ended(&mut self, stream: u32) -> Option<Answer> {
        let _ = self.turn();
        while let Some(frame) = self.take() {
            self.absorb(&frame);
        }
        self.answers.get(&stream).filter(|answer| answer.is_whole).cloned()
    }

    /// Takes a frame into the answer that it belongs to.
    fn absorb(&mut self, frame: &Frame) {
        self.be_polite(frame);
        let block = if frame.kind == HEADERS { self.decode(frame) } else { Vec::new() };
        let answer = self.answers.entry(frame.stream).or_default();
        for (name, value) in block {
            match name.as_str() {
                "grpc-status" => answer.status = value.parse().ok(),
                "grpc-message" => answer.text = value,
                _ => {}
            }
        }
        if frame.kind == DATA {
            answer.data.extend(&frame.payload);
        }
        answer.is_whole |= frame.kind == RST_STREAM || frame.kind <= HEADERS && frame.flags & END_STREAM != 0;
    }

    fn be_polite(&mut self, got: &Frame) {
        let len = u32::try_from(got.payload.len()).expect("a frame is short").to_be_bytes();
        match got.kind {
            SETTINGS if got.flags & ACK == 0 => drop(self.send(&frame(SETTINGS, ACK, 0, &[]))),
            PING if got.flags & ACK == 0 => drop(self.send(&frame(PING, ACK, 0, &got.payload))),
            DATA if !got.payload.is_empty() => {
                let both = [0, got.stream].map(|stream| frame(WINDOW_UPDATE, 0, stream, &len));
                self.send(&both.concat());
            }
            _ => {}
        }
    }

    /// The fields of a header block, as far as they are not from the table that everybody knows.
    fn decode(&mut self, frame: &Frame) -> Vec<(String, String)> {
        let mut block = &frame.payload[..];
        if frame.flags & PADDED != 0 {
            block = &block[1..block.len() - block[0] as usize];
        }
        if frame.flags & PRIORITIZED != 0 {
            block = &block[5..];
        }
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                integer(&mut block, 5);
                continue;
            }
            let (prefix, is_whole) = match first {
                0x80.. => (7, true),
                0x40.. => (6, false),
                _ => (4, false),
            };
            let known = match integer(&mut block, prefix) {
                0 => (string(&mut block), String::new()),
                n if n < 62 => (format!("static {n}"), String::new()),
                n => self.remembered.get(n - 62).cloned().expect("it was told before"),
            };
            let field = if is_whole { known } else { (known.0, string(&mut block)) };
            if prefix == 6 {
                self.remembered.insert(0, field.clone());
            }
            fields.push(field);
        }
        fields
    }
}

fn integer(block: &mut &[u8], prefix: u32) -> usize {
    let max = (1 << prefix) - 1;
    let mut value = (block[0] & max) as usize;
    *block = &block[1..];
    if value == max as usize {
        for shift in (0..).step_by(7) {
            let byte = block[0];
            *block = &block[1..];
            value += ((byte & 127) as usize) << shift;
            if byte < 128 {
                break;
            }
        }
    }
    value
}

/// Text, or what stands for it where it is in Huffman's code: nothing that is looked at here.
fn string(block: &mut &[u8]) -> String {
    let is_coded = block[0] & 0x80 != 0;
    let len = integer(block, 7);
    let (text, rest) = block.split_at(len);
    *block = rest;
    if is_coded { "coded".to_owned() } else { String::from_utf8_lossy(text).into_owned() }
}

/// Calls at once that keep the whole pool of the gateway busy.
const CROWD: usize = 64;

/// So many connections to the engine are kept for calls with threads of their own: src/gateway/shared.rs.
const RESTED: usize = 4;

/// The condition of `WaitRequest` that a process runs.
const RUNNING: [u8; 2] = [2 << 3, 2];

/// What the gateway has of the machine, to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pub pid: u32,
    pub fds: usize,
    /// Of connections and calls; those of the gRPC core come and go as it likes.
    pub threads: usize,
    rss_kib: u64,
}

impl Footprint {
    /// Of a gateway that has worked a little.
    #[track_caller]
    pub fn of(gateway: &Gateway) -> Self {
        let mut footprint = Self::now(gateway.pid());
        let mut last = Instant::now();
        let mut peer = Peer::new(gateway);
        let logins = [User::Admin, User::Operator, User::Viewer].map(login_of);
        for login in &logins {
            assert_eq!(peer.call("ServiceInfo", login, &[]).and_then(|a| a.status), Some(OK));
        }
        let mut crowd = |then: &dyn Fn(&mut Peer)| {
            let ids: Vec<_> = (0..CROWD).map(|_| peer.ask("List", &logins[0], &[])).collect();
            then(&mut peer);
            ids.iter().for_each(|id| drop(peer.answer(*id)));
        };
        // A thread of its pool connects to the engine when there is something to do, and stays connected: all
        // of them have something to do while the engine does nothing. So do those of calls that may take
        // long, which have a thread of their own; one after the other, for what the check of a password takes
        // of memory.
        let engine = gateway.service().engine_pid();
        procfs::signal("STOP", engine);
        let held_up = |name| procfs::held_up(footprint.pid, name);
        let until_it_runs = [text_field(1, NAME.as_bytes()), RUNNING.to_vec()].concat();
        let first: Vec<_> = (1..=RESTED)
            .map(|n| {
                let mut newcomer = Peer::new(gateway);
                let id = newcomer.ask("Wait", &logins[0], &until_it_runs);
                // Of each its connection and its call.
                let waits = || Self::now(footprint.pid).threads > 2 * n && held_up("call") == (n, n);
                wait::until("the first call waits for the engine", SOON, waits);
                (newcomer, id)
            })
            .collect();
        // One caller has as many threads as there are processors, and one, but three to six of the eight.
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let others = 8 - (processors + 1).clamp(3, 6);
        let waits_but_for = |others: usize| {
            wait::until("the pool waits for the engine", SOON, || {
                let (waiting, all) = held_up("work-");
                all > others && waiting + others == all
            });
        };
        crowd(&|peer| {
            waits_but_for(others);
            peer.ask("List", &logins[1], &[]);
            waits_but_for(others - 1);
            peer.ask("List", &logins[2], &[]);
            waits_but_for(others - 2);
            procfs::signal("CONT", engine);
        });
        for (mut newcomer, id) in first {
            newcomer.answer(id);
        }
        (0..4).for_each(|_| crowd(&|_| ()));
        drop(peer);
        // Until what the client left is gone.
        wait::until("the gateway is at rest", SOON, || {
            let now = Self::now(footprint.pid);
            if (now.fds, now.threads) != (footprint.fds, footprint.threads) {
                last = Instant::now();
            }
            footprint = now;
            last.elapsed() > Duration::from_millis(300)
        });
        footprint
    }

    pub fn now(pid: u32) -> Self {
        let is_ours = |name: &str| matches!(name.trim_end(), "call" | "grpc-conn");
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        let (fds, threads) = (procfs::fd_count(pid), names.filter(|name| is_ours(name)).count());
        Self { pid, fds, threads, rss_kib: procfs::rss_kib(pid) }
    }

    /// Fails the test unless it is still the same process, serves, gives back what it had taken, and never
    /// had much more memory than before.
    #[track_caller]
    pub fn expect_back(&self, gateway: &Gateway, more_mib: u64) {
        expect_service(gateway);
        assert_eq!(gateway.pid(), self.pid, "the gateway has ended meanwhile\n{}", gateway.service().log());
        let mut now = *self;
        let is_back = wait::holds_within(SOON, || {
            now = Self::now(self.pid);
            now.fds <= self.fds && now.threads <= self.threads
        });
        let fds = procfs::fds(self.pid);
        assert!(is_back, "before {self:?}, now {now:?}: {fds:?}");
        let peak = procfs::status_line(self.pid, "VmHWM").expect("it runs");
        let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
        println!("memory before {} KiB, now {} KiB, at most {peak} KiB", self.rss_kib, now.rss_kib);
        assert!(peak <= self.rss_kib + more_mib * 1024, "memory: before {self:?}, at most {peak} KiB");
    }
}

/// Fails the test unless a new and honest client is served.
#[track_caller]
pub fn expect_service(gateway: &Gateway) {
    let answer = Peer::new(gateway).call("ServiceInfo", &login_of(User::Admin), &[]);
    assert_eq!(answer.as_ref().and_then(|a| a.status), Some(OK), "{answer:?}\n{}", gateway.log());
}
