//! Output that is read where the service keeps it, as the gateway does: the same as over the connection,
//! whatever happens meanwhile.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;

use provost::client::{OutputStream, StreamItem};
use provost::sys::socket::{Blocking, recvmsg};
use provost::wire::id::ProcessId;
use provost::wire::reply::Reply;
use provost::wire::request::{Follow, Request, Since, Stream, StreamKind};

use crate::harness::{SOON, Service, cli, procfs, wait};
use crate::raw::{Peer, framed, hello};

/// As in errno(3).
const EBADF: i32 = 9;

fn of(targets: &[&str], kind: StreamKind, since: Since) -> Stream {
    Stream { targets: targets.iter().map(ToString::to_string).collect(), kind, since }
}

/// In place, and no other way.
#[track_caller]
fn in_place(service: &Service, target: &str, kind: StreamKind, since: Since) -> OutputStream {
    let stream = service.client().stream_shared(of(&[target], kind, since)).expect("it is there");
    assert!(stream.is_shared(), "the memory was not lent");
    stream
}

/// What came until the end, however it was cut: of which stream, from which byte on, and the bytes or how
/// many are missing.
fn whole(stream: OutputStream) -> Vec<(Option<bool>, u64, Vec<u8>, u64)> {
    let mut all: Vec<(Option<bool>, u64, Vec<u8>, u64)> = Vec::new();
    for item in stream {
        match item.expect("it goes on to its end") {
            StreamItem::Chunk(c) => match all.last_mut() {
                Some((Some(stderr), offset, bytes, _))
                    if *stderr == c.stderr && *offset + bytes.len() as u64 == c.offset =>
                {
                    bytes.extend_from_slice(&c.data);
                }
                _ => all.push((Some(c.stderr), c.offset, c.data.to_vec(), 0)),
            },
            StreamItem::Gap(gap) => all.push((None, gap.offset, Vec::new(), gap.missed)),
            StreamItem::Ended(item) => panic!("{item:?}"),
        }
    }
    all
}

fn text(stream: OutputStream) -> String {
    whole(stream).into_iter().map(|(.., bytes, _)| String::from_utf8(bytes).expect("it is text")).collect()
}

/// A process that prints a line and waits for the next one in a fifo, to its end; and the other end of that.
fn echo(service: &Service) -> (String, File) {
    let fifo = service.scratch().file("lines");
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(&fifo);
    cli::run(mkfifo, SOON).expect(0);
    let id = service.start(&["--", "sh", "-c", &format!("echo begun; exec cat < {fifo}")]);
    (id, OpenOptions::new().write(true).open(fifo).expect("it is read"))
}

#[test]
fn the_same_comes_as_over_the_connection() {
    let service = Service::new();
    let script =
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo out $i; echo error $i >&2; done; seq 100000";
    let id = service.start(&["--output-limit", "600k", "--", "sh", "-c", script]);
    service.cli(&["wait", &id]).expect(0);
    let length = service.client().status(vec![id.clone()]).expect("it is there")[0]
        .process
        .as_ref()
        .map(|p| p.output_end);
    let length = length.expect("it is there");
    for kind in [StreamKind::Both, StreamKind::Stdout, StreamKind::Stderr] {
        let since = [
            Since::Start,
            Since::Now,
            Since::Offset(0),
            Since::Offset(length - 7),
            Since::Offset(length + 7),
        ];
        for since in since {
            let plain = service.client().stream(of(&[&id], kind, since.clone())).expect("it is there");
            assert!(!plain.is_shared());
            let came = whole(in_place(&service, &id, kind, since.clone()));
            assert!(came == whole(plain), "{kind:?} {since:?}");
        }
    }
    // More than are shared at a time.
    for _ in 0..8 {
        service.start(&["--", "echo", "one"]);
    }
    service.cli(&["wait", "*"]).expect(0);
    let many =
        service.client().stream_shared(of(&["*"], StreamKind::Both, Since::Start)).expect("they are there");
    assert!(!many.is_shared());
    assert_eq!(text(many).matches("one\n").count(), 8);
}

/// While it is read, engines come and go; the end is that of the process.
#[test]
fn the_engine_may_die_meanwhile() {
    let service = Service::new();
    let (id, mut lines) = echo(&service);
    let stream = in_place(&service, &id, StreamKind::Both, Since::Start);
    let reader = thread::spawn(move || text(stream));
    let mut wanted = "begun\n".to_owned();
    for round in 0..5 {
        let line = format!("line {round}\n");
        lines.write_all(line.as_bytes()).expect("it is read");
        wanted += &line;
        service.kill_engine();
    }
    drop(lines);
    assert_eq!(reader.join().expect("it ends"), wanted);
}

#[test]
fn what_is_removed_meanwhile_ends() {
    let service = Service::new();
    let (id, _lines) = echo(&service);
    let stream = in_place(&service, &id, StreamKind::Both, Since::Start);
    let reader = thread::spawn(move || text(stream));
    service.ok(&["remove", "--force", &id]);
    assert_eq!(reader.join().expect("it ends"), "begun\n");
}

/// The client goes while there is nothing to send, though there was something of the other stream.
#[test]
#[cfg(feature = "gateway")]
fn the_gateway_gives_back_what_it_was_shared() {
    use crate::harness::gateway::{Gateway, User};
    let gateway = Gateway::start();
    let shared = || procfs::fds(gateway.pid()).iter().filter(|fd| fd.contains("provost-process")).count();
    let (id, mut lines) = echo(gateway.service());
    let client =
        gateway.background(User::Operator, &["stream", "--until-end", "--since", "0", "--stderr", &id]);
    wait::until("the memory is lent", SOON, || shared() == 1);
    lines.write_all(b"of no use to the client\n").expect("it is read");
    wait::until("it is printed", SOON, || gateway.service().output(&id).len() > 10);
    client.signal("KILL");
    wait::until("the memory is given back", SOON, || shared() == 0 && gateway.threads("call") == 0);
}

#[test]
fn shared_memory_cannot_be_written() {
    let service = Service::new();
    let id = service.start(&["--", "echo", "mine"]);
    service.cli(&["wait", &id]).expect(0);
    let ids = vec![id.parse().expect("a UUID")];
    let request = Request::Follow(Follow { ids, offsets: vec![0], share: true, hold: false });
    let mut socket = UnixStream::connect(service.socket()).expect("it listens");
    socket.write_all(&[hello(), framed(&request.encode())].concat()).expect("it reads");
    let mut shared = Vec::new();
    while shared.is_empty() {
        let (n, fds) = recvmsg(socket.as_fd(), &mut [0; 4096], Blocking::Wait).expect("it answers");
        assert!(n > 0, "it lends nothing");
        shared.extend(fds);
    }
    let file = File::from(shared.pop().expect("there is one"));
    assert!(shared.is_empty(), "one was asked for");
    let e = file.write_at(b"yours", 0).expect_err("it is for reading");
    assert_eq!(e.raw_os_error(), Some(EBADF), "{e}");
    assert_eq!(service.output(&id), b"mine\n");
    // Without a request for it nothing comes beside the bytes, and for nobody there is an answer.
    let mut peer = Peer::greeted(service.socket());
    let follow = Follow { ids: vec![ProcessId::new()], offsets: vec![0], share: false, hold: false };
    peer.send(&framed(&Request::Follow(follow).encode()));
    assert!(matches!(peer.reply(), Some((Reply::Rings(rings), _)) if rings.len() == 1 && rings[0].over));
}
