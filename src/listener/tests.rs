//! The listener against real sockets, with a toy behind it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::listener::{Caller, Closed, Limits, Replies, Service, Ways, Woken, no_role, run};
use crate::sys::clock;
use crate::sys::poll::{self, PollFd, Wait, Waker};
use crate::sys::socket::{self, Blocking, PeerCredentials};
use crate::sys::system;
use crate::wire::envelope::Envelope;
use crate::wire::error::{Code, Error, SILENT};
use crate::wire::frame::{self, FRAME_LEN_MAX, Frames};
use crate::wire::id::ProcessId;
use crate::wire::reply::{Chunk, Gap, Item, More, Reply};
use crate::wire::request::{CHANNEL_VERSION, Events, Hello, Output, Request, Status, StreamKind};
use crate::wire::role::{GroupRoles, Role};
use crate::wire::time::Timestamp;

/// Answers requests in ways that show what the listener does. What it saw goes to the test.
struct Toy {
    seen: mpsc::Sender<Seen>,
    caller: Mutex<Option<Caller>>,
}

enum Seen {
    Waiting(Waker),
    Woken,
    Closed,
}

impl Toy {
    fn answer(&self, request: Request, replies: &mut Replies<'_>) -> Result<(), Closed> {
        match request {
            Request::Status(r) => {
                let item = |target| {
                    Reply::Item(Item {
                        target,
                        process: None,
                        error: None,
                        unrecorded: None,
                        has_others: false,
                    })
                };
                for target in r.targets {
                    replies.send(&item(target), More::Follows)?;
                }
                replies.send(&Reply::Done, More::Last)
            }
            Request::Events(_) => {
                replies.send(&gap(0), More::Follows)?;
                let _ = self.seen.send(Seen::Waiting(replies.waker()));
                let woken = replies.wait(None)?;
                assert_eq!(woken, Woken::Waker);
                let _ = self.seen.send(Seen::Woken);
                replies.send(&Reply::Done, More::Last)
            }
            // More than any socket takes.
            Request::Output(_) => loop {
                replies.send(&gap(1), More::Follows)?;
            },
            Request::Restart(_) => replies.send(&chunk(FRAME_LEN_MAX), More::Last),
            _ => Ok(()),
        }
    }
}

impl Service for Toy {
    fn call(&self, envelope: Envelope, caller: &Caller, replies: &mut Replies<'_>) -> Result<(), Closed> {
        *self.caller.lock() = Some(*caller);
        self.answer(envelope.request, replies).inspect_err(|Closed| {
            let _ = self.seen.send(Seen::Closed);
        })
    }
}

fn gap(missed: u64) -> Reply {
    Reply::Gap(Gap { id: ProcessId::from_bytes([7; 16]), offset: 0, missed })
}

fn chunk(len: usize) -> Reply {
    let (id, at) = (ProcessId::from_bytes([7; 16]), Timestamp::now());
    Reply::Chunk(Chunk { id, offset: 0, stderr: false, at, data: vec![0; len].into() })
}

/// A listener on a socket in a directory of its own.
struct Stage {
    dir: TempDir,
    listener: Arc<OwnedFd>,
    toy: Arc<Toy>,
    seen: mpsc::Receiver<Seen>,
    /// Where a gateway would hand in its connections.
    gateway: OwnedFd,
    accepting: Option<JoinHandle<()>>,
}

impl Stage {
    fn new(limits: Limits) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = Arc::new(OwnedFd::from(listener));
        let (sender, seen) = mpsc::channel();
        let toy = Arc::new(Toy { seen: sender, caller: Mutex::new(None) });
        let service: Arc<dyn Service> = Arc::<Toy>::clone(&toy);
        let theirs = Arc::clone(&listener);
        let (way, gateway) = socket::seqpacket_pair().unwrap();
        let accepting = std::thread::spawn(move || {
            let ways = Ways { listener: &theirs, gateway: Some(&way) };
            drop(run(ways, &service, limits, &GroupRoles::default(), || ()));
        });
        Self { dir, listener, toy, seen, gateway, accepting: Some(accepting) }
    }

    fn connect(&self) -> Client {
        let socket = UnixStream::connect(self.dir.path().join("sock")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { socket, frames: Frames::new() }
    }

    fn client(&self) -> Client {
        let mut client = self.connect();
        client.put(&Hello::ours().encode());
        assert_eq!(client.hello().unwrap().error, None);
        client
    }

    fn seen(&self) -> Seen {
        self.seen.recv_timeout(Duration::from_secs(20)).unwrap()
    }
}

#[test]
fn the_gateway_is_known_by_its_way_and_has_slots_of_its_own() {
    let stage = Stage::new(Limits { connections: 1, ..Limits::default() });
    let mut local = stage.client();
    let hand_in = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket::sendmsg(stage.gateway.as_fd(), &[0], &[theirs.as_fd()], Blocking::Never).unwrap();
        let mut client = Client { socket: ours, frames: Frames::new() };
        client.put(&Hello::ours().encode());
        client
    };
    let mut gateway = hand_in();
    assert_eq!(gateway.hello().unwrap().error, None);
    assert!(hand_in().hello().unwrap().error.is_some(), "it has one");
    let is_gateway = |client: &mut Client| {
        client.put(&status("a").encode());
        while client.reply().expect("it is answered").1 != More::Last {}
        stage.toy.caller.lock().unwrap().is_gateway
    };
    assert!(is_gateway(&mut gateway) && !is_gateway(&mut local));
    // What is no connection lets nobody in and nothing down.
    socket::sendmsg(stage.gateway.as_fd(), &[0], &[], Blocking::Never).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    socket::sendmsg(stage.gateway.as_fd(), &[0], &[file.as_fd()], Blocking::Never).unwrap();
    assert!(is_gateway(&mut gateway));
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The one way to end a listener: its socket fails.
        socket::shutdown(self.listener.as_fd());
        self.accepting.take().unwrap().join().unwrap();
    }
}

struct Client {
    socket: UnixStream,
    frames: Frames,
}

impl Client {
    fn put(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        frame::put(&mut out, payload).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    fn ask(&mut self, request: &Request) {
        self.put(&request.encode());
    }

    /// The next frame; `None` at the end.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut buf = [0; 4096];
        loop {
            if let Some(frame) = self.frames.take().unwrap() {
                return Some(frame.to_vec());
            }
            match self.socket.read(&mut buf).unwrap() {
                0 => return None,
                n => self.frames.feed(&buf[..n]),
            }
        }
    }

    fn hello(&mut self) -> Option<Hello> {
        self.frame().map(|frame| Hello::decode(&frame).unwrap())
    }

    fn reply(&mut self) -> Option<(Reply, More)> {
        self.frame().map(|frame| Reply::decode(&frame).unwrap())
    }

    /// The hello that says no, and the end after it.
    fn refusal(&mut self) -> Error {
        let error = self.hello().unwrap().error.unwrap();
        assert_eq!(self.frame(), None);
        error
    }

    /// The error that is the last reply, and the end after it.
    fn last_error(&mut self) -> Error {
        let Some((Reply::Error(error), More::Last)) = self.reply() else { panic!("no error") };
        assert_eq!(self.frame(), None);
        error
    }
}

fn status(target: &str) -> Request {
    Request::Status(vec![target.to_owned()].into())
}

fn events() -> Request {
    Request::Events(Events::default())
}

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn hello_and_first_reply_come_in_one_piece() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.connect();
    let mut out = Vec::new();
    frame::put(&mut out, &Hello::ours().encode()).unwrap();
    frame::put(&mut out, &status("a").encode()).unwrap();
    client.socket.write_all(&out).unwrap();
    let mut buf = [0; 4096];
    let n = client.socket.read(&mut buf).unwrap();
    client.frames.feed(&buf[..n]);
    let mut whole = 0;
    while client.frames.take().unwrap().is_some() {
        whole += 1;
    }
    assert_eq!((whole, client.frames.is_partial()), (3, false));
    let caller = stage.toy.caller.lock().unwrap();
    assert_eq!((caller.uid, caller.pid, caller.is_owner), (system::euid(), std::process::id(), true));
}

#[test]
fn a_hello_alone_is_answered_and_silence_is_allowed_then() {
    // Long enough for a greeting on a busy machine.
    let hello = Duration::from_millis(500);
    let stage = Stage::new(Limits { hello, frame: SHORT, write: SHORT, ..Limits::default() });
    let mut client = stage.client();
    let mut other = stage.connect();
    assert_eq!(other.refusal().code, Code::TimedOut);
    // Later than every limit by now.
    client.ask(&status("a"));
    assert!(client.reply().is_some());
}

#[test]
fn other_versions_are_told_apart() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.connect();
    client.put(&Hello { versions: vec![98, 99], ..Hello::ours() }.encode());
    let error = client.refusal();
    assert_eq!(error.code, Code::Refused);
    assert!(error.message.contains("the client speaks version 98, 99 of the command channel"), "{error}");
    let mut client = stage.connect();
    client.put(&Hello { versions: vec![99, CHANNEL_VERSION], ..Hello::ours() }.encode());
    assert_eq!(client.hello().unwrap().versions, [CHANNEL_VERSION]);
}

#[test]
fn f1_who_speaks_something_else_is_told_what_was_expected() {
    let stage = Stage::new(Limits::default());
    let noise: Vec<u8> =
        (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", &noise] {
        let mut client = stage.connect();
        client.socket.write_all(bytes).unwrap();
        let error = client.refusal();
        assert!(error.message.contains("what came is not understood: a frame of"), "{error}");
        assert!(error.hint.contains("it expects frames"), "{}", error.hint);
    }
    // A frame that is one, with something else in it.
    let mut client = stage.connect();
    client.put(&[0xff; 9]);
    assert!(client.refusal().message.contains("cannot decode the hello"));
    let mut client = stage.client();
    client.socket.write_all(&noise).unwrap();
    assert!(client.last_error().hint.contains("it expects frames"));
}

#[test]
fn f2_bad_lengths_are_refused_before_the_bytes_come() {
    let stage = Stage::new(Limits::default());
    let over = u32::try_from(FRAME_LEN_MAX).unwrap() + 1;
    for len in [0, over, u32::MAX] {
        let mut client = stage.connect();
        client.socket.write_all(&len.to_be_bytes()).unwrap();
        assert_eq!(client.refusal().code, Code::Usage);
        let mut client = stage.client();
        client.socket.write_all(&len.to_be_bytes()).unwrap();
        assert_eq!(client.last_error().code, Code::Usage);
    }
    // A length that a request may have, and a stranger may not.
    let mut client = stage.connect();
    client.socket.write_all(&100_000u32.to_be_bytes()).unwrap();
    assert!(client.refusal().message.contains("a hello has at most"));
}

#[test]
fn f3_a_hello_that_trickles_has_one_deadline() {
    let stage = Stage::new(Limits { hello: SHORT, ..Limits::default() });
    let mut client = stage.connect();
    let mut theirs = client.socket.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        let mut out = Vec::new();
        frame::put(&mut out, &[7; 4000]).unwrap();
        out.chunks(1).take_while(|byte| theirs.write_all(byte).is_ok()).count()
    });
    // Either way it ends: with the deadline, or with a hello of 4,000 bytes that is none.
    assert!(matches!(client.refusal().code, Code::TimedOut | Code::Usage));
    drop(client);
    trickle.join().unwrap();
}

#[test]
fn f3_a_request_begun_has_a_deadline() {
    let stage = Stage::new(Limits { frame: SHORT, ..Limits::default() });
    let mut client = stage.client();
    client.socket.write_all(&[0, 0, 0]).unwrap();
    let error = client.last_error();
    assert_eq!(error.code, Code::TimedOut);
    assert_eq!(error.message, "the rest of the request did not come within 50ms");
}

#[test]
fn f4_silent_clients_make_room() {
    let stage = Stage::new(Limits { silent: 2, moment: Duration::from_millis(1), ..Limits::default() });
    let mut silent = vec![stage.connect(), stage.connect()];
    for _ in 0..2 {
        silent.push(stage.connect());
        let mut fds: Vec<_> = silent.iter().map(|client| PollFd::readable(client.socket.as_fd())).collect();
        assert_eq!(poll::wait(&mut fds, Some(clock::now_ms() + 20_000)).unwrap(), Wait::Ready);
        let gone = fds.iter().position(PollFd::is_ready).unwrap();
        // Not the youngest: of the others, the first whose thread has found nothing to read.
        assert!(gone < 2);
        let refusal = silent.remove(gone).refusal();
        assert_eq!((refusal.code, &*refusal.reason), (Code::Refused, SILENT));
    }
    for client in &mut silent {
        client.put(&Hello::ours().encode());
        assert_eq!(client.hello().unwrap().error, None);
    }
    // Many who say nothing do not keep out one who does.
    let flood: Vec<_> = (0..500).map(|_| stage.connect()).collect();
    let mut client = stage.client();
    client.ask(&status("a"));
    assert!(client.reply().is_some());
    drop(flood);
}

#[test]
fn f4_who_came_a_moment_ago_is_not_silent_yet() {
    let moment = Duration::from_millis(2 * super::RETRY_MS);
    let stage = Stage::new(Limits { silent: 1, moment, ..Limits::default() });
    let (mut first, mut second) = (stage.connect(), stage.connect());
    second.put(&Hello::ours().encode());
    // It does not have to go, though another one wants its place.
    let mut fds = [PollFd::readable(first.socket.as_fd())];
    assert_eq!(poll::wait(&mut fds, Some(clock::now_ms() + 100)).unwrap(), Wait::Deadline);
    first.put(&Hello::ours().encode());
    for client in [&mut first, &mut second] {
        assert_eq!(client.hello().unwrap().error, None);
    }
}

#[test]
fn f4_a_burst_of_clients_who_greet_loses_nobody() {
    let stage = Stage::new(Limits { silent: 2, ..Limits::default() });
    let mut hello = Vec::new();
    frame::put(&mut hello, &Hello::ours().encode()).unwrap();
    // Each has sent its hello before the next one comes, whether or not a thread has come to reading it.
    let mut burst = Vec::new();
    for _ in 0..400 {
        let mut client = stage.connect();
        client.socket.write_all(&hello).unwrap();
        burst.push(client);
    }
    for mut client in burst {
        assert_eq!(client.hello().unwrap().error, None);
    }
}

#[test]
fn one_connection_too_many_is_refused_and_room_is_made_by_leaving() {
    let stage = Stage::new(Limits { connections: 2, ..Limits::default() });
    let (first, _second) = (stage.client(), stage.client());
    let error = stage.connect().refusal();
    assert_eq!((error.code, error.message.as_str()), (Code::Refused, "too many connections: 2 are open"));
    drop(first);
    // The slot is free once the connection's thread has noticed.
    let mut client = (0..1000).find_map(|_| {
        let mut client = stage.connect();
        client.put(&Hello::ours().encode());
        client.hello().filter(|hello| hello.error.is_none()).map(|_| client)
    });
    client.as_mut().unwrap().ask(&status("a"));
    assert!(client.unwrap().reply().is_some());
}

#[test]
fn f4_requests_before_a_half_close_are_answered() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.client();
    client.ask(&status("a"));
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(client.reply(), Some((Reply::Item(_), More::Follows))));
    assert!(matches!(client.reply(), Some((Reply::Done, More::Last))));
    assert_eq!(client.reply(), None);
}

#[test]
fn f4_a_client_that_goes_ends_the_wait_for_it() {
    let stage = Stage::new(Limits::default());
    for half in [true, false] {
        let mut client = stage.client();
        client.ask(&events());
        assert!(matches!(stage.seen(), Seen::Waiting(_)));
        if half {
            client.socket.shutdown(Shutdown::Write).unwrap();
        }
        let kept = half.then_some(client);
        assert!(matches!(stage.seen(), Seen::Closed));
        drop(kept);
    }
}

#[test]
fn what_was_sent_arrives_before_the_wait_and_the_waker_ends_it() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.client();
    client.ask(&events());
    let Seen::Waiting(waker) = stage.seen() else { panic!() };
    assert_eq!(client.reply(), Some((gap(0), More::Follows)));
    waker.wake();
    assert!(matches!(stage.seen(), Seen::Woken));
    assert_eq!(client.reply(), Some((Reply::Done, More::Last)));
}

#[test]
fn f5_a_client_that_never_reads_frees_its_thread() {
    let stage = Stage::new(Limits { write: SHORT, ..Limits::default() });
    let mut client = stage.client();
    client.ask(&Request::Output(Output { target: "a".into(), kind: StreamKind::Both }));
    assert!(matches!(stage.seen(), Seen::Closed));
    // What it had is still there, then the end.
    while client.socket.read(&mut [0; 4096]).unwrap() > 0 {}
}

#[test]
fn f9_many_requests_at_once_are_answered_in_order() {
    const COUNT: usize = 10_000;
    let stage = Stage::new(Limits::default());
    let mut client = stage.client();
    let mut writer = client.socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut out = Vec::new();
        for n in 0..COUNT {
            frame::put(&mut out, &status(&n.to_string()).encode()).unwrap();
        }
        writer.write_all(&out).unwrap();
    });
    for n in 0..COUNT {
        let Some((Reply::Item(item), More::Follows)) = client.reply() else { panic!("{n}") };
        assert_eq!(item.target, n.to_string());
        assert_eq!(client.reply(), Some((Reply::Done, More::Last)));
    }
    sender.join().unwrap();
}

#[test]
fn f16_descriptors_from_clients_are_closed() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.client();
    let (mut end, theirs) = std::io::pipe().unwrap();
    let mut out = Vec::new();
    frame::put(&mut out, &status("a").encode()).unwrap();
    let fds = [theirs.as_fd(); 8];
    socket::sendmsg(client.socket.as_fd(), &out, &fds, Blocking::Wait).unwrap();
    drop(theirs);
    // The pipe ends when its other end is not held any more.
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
    assert!(client.reply().is_some());
}

#[test]
fn a_bad_request_does_not_end_the_connection() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.client();
    client.ask(&Request::Status(Status::default()));
    assert!(matches!(client.reply(), Some((Reply::Error(_), More::Last))));
    // One that the toy does not end.
    client.ask(&Request::Service);
    let Some((Reply::Error(error), More::Last)) = client.reply() else { panic!() };
    assert!(error.message.contains("left the request without an end"), "{error}");
    client.ask(&status("a"));
    assert!(matches!(client.reply(), Some((Reply::Item(_), More::Follows))));
}

#[test]
fn an_answer_too_large_is_said_to_be() {
    let stage = Stage::new(Limits::default());
    let mut client = stage.client();
    client.ask(&Request::Restart(vec!["a".into()]));
    assert!(client.last_error().message.starts_with("the answer is too large"));
}

#[test]
fn f10_other_users_are_refused_by_name() {
    let (here, _there) = UnixStream::pair().unwrap();
    let role = |uid, groups: &GroupRoles| {
        groups.of_peer(here.as_fd(), &PeerCredentials { pid: 1, uid, gid: 65534 }, 1000)
    };
    let none = GroupRoles::default();
    assert_eq!([0, 1000, 65534].map(|uid| role(uid, &none)), [Some(Role::Admin), Some(Role::Admin), None]);
    let some = GroupRoles([(65534, Role::Viewer)].into());
    assert_eq!([1000, 65534].map(|uid| role(uid, &some)), [Some(Role::Admin), Some(Role::Viewer)]);
    let error = no_role(65534, 1000, &none);
    assert_eq!(error.code, Code::Refused);
    assert_eq!(error.message, "user 65534 may not use this service, which runs as user 1000");
}
