//! Failures at the socket: garbage, sizes that lie, clients that are slow, too many, gone, or never read.
//! Each is let go within its time, none costs more than its share, and who asks properly is answered all the
//! while.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use provost::Code;
use provost::wire::frame::FRAME_LEN_MAX;
use provost::wire::reply::{More, Reply};
use provost::wire::request::{Output, Request, Since, Stream, StreamKind, Wait};

use crate::harness::{LATER, Options, Random, Running, SOON, Service, fixture, procfs, wait};
use crate::raw::{Peer, framed, hello};

/// The most memory that the engine ever had resident, in KiB.
#[track_caller]
fn peak_kib(service: &Service) -> u64 {
    let text = procfs::status_line(service.engine_pid(), "VmHWM").expect("the engine runs");
    text.trim_end_matches(" kB").parse().expect("a number")
}

/// How many connections have a thread.
fn connections(service: &Service) -> usize {
    let tasks =
        fs::read_dir(format!("/proc/{}/task", service.engine_pid())).expect("the engine runs").flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("conn-")).count()
}

/// A service that has answered once, and its footprint.
fn settled() -> (Service, [(usize, usize); 2]) {
    let service = Service::new();
    service.ok(&["list"]);
    let footprint = service.footprint();
    (service, footprint)
}

#[test]
fn f1_garbage_is_refused_and_the_connection_closed() {
    let (service, before) = settled();
    let mut random = Random::new();
    let mut noise: Vec<u8> = (0..1 << 20).map(|_| random.below(256) as u8).collect();
    noise[0] |= 0x80;
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(50);
    let small_frame = framed(&noise[..200]);
    let texts: [&[u8]; 6] = [
        &noise,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &client_hello,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"{}\n",
        &small_frame,
    ];
    for text in texts {
        let mut peer = Peer::silent(service.socket());
        peer.send(text);
        if text.len() < 4 {
            peer.finish();
        }
        if let Some(answer) = peer.hello() {
            let error = answer.error.expect("it says that it does not understand");
            assert_eq!(error.code, Code::Usage, "{error}");
            assert!(error.message.contains("not understood"), "{error}");
        }
        assert!(peer.until_closed() < Duration::from_secs(3));
        // The same behind a good hello.
        let mut peer = Peer::greeted(service.socket());
        peer.send(text);
        peer.finish();
        if let Some((answer, _)) = peer.reply() {
            assert!(matches!(answer, Reply::Error(_)), "{answer:?}");
        }
        assert!(peer.until_closed() < Duration::from_secs(3));
        service.expect_answer();
    }
    // A frame that is whole and means nothing costs only its own answer.
    let mut peer = Peer::greeted(service.socket());
    assert!(peer.ask_bytes(&noise[..200]).is_err());
    assert!(peer.ask(&Request::Service).is_ok());
    drop(peer);
    service.until_footprint(before);
}

#[test]
fn f2_frames_with_false_lengths_are_refused_and_take_no_memory() {
    let (service, before) = settled();
    let peak = peak_kib(&service);
    let over = u32::try_from(FRAME_LEN_MAX).expect("4 MiB") + 1;
    for len in [0, over, u32::MAX, 0x8000_0000] {
        for greeted in [false, true] {
            let mut peer =
                if greeted { Peer::greeted(service.socket()) } else { Peer::silent(service.socket()) };
            peer.send(&len.to_be_bytes());
            let error = if greeted {
                let (answer, _) = peer.reply().expect("an answer");
                let Reply::Error(error) = answer else { panic!("{answer:?}") };
                error
            } else {
                peer.hello().expect("an answer").error.expect("a refusal")
            };
            assert_eq!(error.code, Code::Usage, "{len}: {error}");
            assert!(error.message.contains("frame of") || error.message.contains("empty frame"), "{error}");
            assert!(peer.until_closed() < Duration::from_secs(3), "{len}");
        }
    }
    // A stranger gets no room for 4 MiB, and who has greeted gets it as it fills it.
    let mut stranger = Peer::silent(service.socket());
    stranger.send(&(over - 1).to_be_bytes());
    let error = stranger.hello().expect("an answer").error.expect("a refusal");
    assert!(error.message.contains("a hello has at most"), "{error}");
    let mut known: Vec<_> = (0..30).map(|_| Peer::greeted(service.socket())).collect();
    known.iter_mut().for_each(|peer| peer.send(&(over - 1).to_be_bytes()));
    service.expect_answer();
    let grown = peak_kib(&service).saturating_sub(peak);
    assert!(grown < 4096, "{grown} KiB for what never came");
    drop((known, stranger));
    service.until_footprint(before);
}

/// A thousand clients that say a byte now and then: the crowd is capped, each has one deadline for its whole
/// hello, and who greets at once does not wait.
#[test]
fn f3_a_thousand_slow_clients_delay_no_other() {
    let (service, before) = settled();
    let mut peers: Vec<(Instant, Peer)> = Vec::new();
    let hello = hello();
    let threads = || procfs::thread_count(service.engine_pid());
    let mut most = 0;
    for n in 0..1000 {
        let mut peer = Peer::silent(service.socket());
        peer.send(&hello[..1]);
        peers.push((Instant::now(), peer));
        if n % 50 == 0 {
            // Who was sent away is not kept: this process has a limit of descriptors, too.
            peers.retain_mut(|(_, peer)| !peer.is_closed());
            most = most.max(threads());
            let answer = service.cli(&["list"]);
            answer.expect(0);
            assert!(answer.took < Duration::from_secs(1), "{answer:?}");
        }
    }
    assert!(most < before[1].1 + 150, "{most} threads for clients that say nothing");
    let mut sent = 1;
    let last = wait::until("all of them are sent away", SOON, || {
        peers.retain_mut(|(since, peer)| {
            peer.send(&hello[sent..=sent]);
            let closed = peer.is_closed();
            assert!(closed || since.elapsed() < Duration::from_secs(9), "a hello may take 5 s in all");
            !closed
        });
        // Never the last byte.
        sent = (sent + 1).min(hello.len() - 2);
        wait::pass(Duration::from_millis(400));
        peers.is_empty()
    });
    assert!(last > Duration::from_secs(2), "the last ones had their time: {last:?}");
    service.until_footprint(before);
}

#[test]
fn f4_clients_that_vanish_leave_nothing() {
    let (service, before) = settled();
    let engine = service.engine_pid();
    for n in 0..5000 {
        drop(UnixStream::connect(service.socket()).expect("the door is open"));
        if n % 1000 == 0 {
            service.expect_answer();
        }
    }
    let id = service.start(&["--output-limit", "8m", "--", &fixture("firehose"), "9000000"]);
    service.cli(&["wait", &id]).expect(0);
    let output = Request::Output(Output { target: id.clone(), kind: StreamKind::Both });
    let until = Request::Wait(Wait { targets: vec![id.clone()], ..Wait::default() });
    for _ in 0..50 {
        // In the middle of a frame, with something unread; and in the middle of a long answer.
        let mut peer = Peer::silent(service.socket());
        peer.send(&hello());
        peer.send(&[0, 0, 1]);
        drop(peer);
        let mut peer = Peer::greeted(service.socket());
        peer.send(&framed(&output.encode()));
        assert!(matches!(peer.reply(), Some((Reply::Chunk(_), _))));
        drop(peer);
    }
    // Only one direction closed: what was asked is answered.
    let mut peer = Peer::silent(service.socket());
    peer.send(&[hello(), framed(&Request::Service.encode()), framed(&until.encode())].concat());
    peer.finish();
    assert!(peer.hello().is_some_and(|answer| answer.error.is_none()));
    assert!(matches!(peer.reply(), Some((Reply::Service(_), _))));
    assert!(matches!(peer.reply(), Some((Reply::Item(_), _))));
    peer.until_closed();
    service.ok(&["remove", &id]);
    service.until_footprint(before);
    assert_eq!(service.engine_pid(), engine);
}

/// Clients that ask for much and read nothing: each is let go after its time, and takes little memory until
/// then.
#[test]
fn f5_clients_that_never_read_are_let_go() {
    let (service, before) = settled();
    let id = service.start(&["--output-limit", "16m", "--", &fixture("firehose"), "17000000"]);
    service.cli(&["wait", &id]).expect(0);
    let (peak, rss) = (peak_kib(&service), procfs::rss_kib(service.engine_pid()));
    let output = Request::Output(Output { target: id.clone(), kind: StreamKind::Both });
    let stream = Stream { targets: vec![id.clone()], kind: StreamKind::Both, since: Since::Start };
    let asks = [output, Request::Stream(stream)];
    let mut peers: Vec<_> = (0..8).map(|_| Peer::greeted(service.socket())).collect();
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.send(&framed(&asks[n % 2].encode()));
    }
    let begin = Instant::now();
    wait::until("all of them are served", SOON, || connections(&service) >= peers.len());
    wait::until("all of them are let go", Duration::from_secs(25), || {
        service.expect_answer();
        connections(&service) == 0
    });
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(8), "a slow reader has its time: {took:?}");
    // A snapshot is a copy of the ring.
    let most = peak_kib(&service).saturating_sub(peak);
    let left = procfs::rss_kib(service.engine_pid()).saturating_sub(rss);
    println!("{most} KiB at most for eight clients that never read, {left} KiB after, let go after {took:?}");
    assert!(most < 4 * (16 << 10) + (20 << 10), "{most} KiB for eight clients that never read");
    assert!(left < 8 << 10, "{left} KiB are kept of what they asked for");
    drop(peers);
    service.ok(&["remove", &id]);
    service.until_footprint(before);
}

/// More clients than the engine has descriptors for: it does not spin, and is back when they go.
#[test]
fn f6_without_descriptors_for_clients_the_engine_does_not_spin() {
    let service = Options::new().through(&["prlimit", "--nofile=64"]).start();
    let id = service.start(&["--", "sleep", "72000"]);
    let engine = service.engine_pid();
    let mut peers: Vec<_> = (0..110).map(|_| Peer::silent(service.socket())).collect();
    peers.iter_mut().for_each(|peer| peer.send(&hello()));
    wait::until("the engine's descriptors are taken", SOON, || procfs::fd_count(engine) >= 58);
    let ticks = || procfs::stat(engine).expect("the engine runs").ticks;
    let before = ticks();
    wait::pass(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used <= 10, "{used} ticks in a second with nothing to do: it spins");
    assert_eq!(service.engine_pid(), engine);
    let begin = Instant::now();
    drop(peers);
    service.ok(&["status", &id]);
    assert!(begin.elapsed() < Duration::from_secs(5), "back after {:?}", begin.elapsed());
    service.start(&["--", "sleep", "72000"]);
    assert_eq!(service.engine_pid(), engine);
}

/// Ten thousand requests before the first answer is read.
#[test]
fn f9_ten_thousand_requests_in_one_go_are_answered_in_order() {
    const COUNT: usize = 10_000;
    let (service, before) = settled();
    let target = |n: usize| format!("no-such-{n}-{}", "x".repeat(40));
    let requests: Vec<u8> =
        (0..COUNT).flat_map(|n| framed(&Request::Status(vec![target(n)].into()).encode())).collect();
    let peak = peak_kib(&service);
    let mut peer = Peer::greeted(service.socket());
    // The service reads no more than it answers: at some point nothing is taken any more.
    let mut sent = 0;
    let stalled = wait::holds_within(SOON, || {
        let now = peer.send_at_once(&requests[sent..]);
        sent += now;
        wait::pass(Duration::from_millis(50));
        now == 0 || sent == requests.len()
    });
    assert!(stalled && sent < requests.len(), "{sent} of {} bytes were taken unread", requests.len());
    service.expect_answer();
    thread::scope(|scope| {
        let mut writer = peer.writer();
        let rest = &requests[sent..];
        scope.spawn(move || writer.write_all(rest).expect("it is taken as it is answered"));
        for n in 0..COUNT {
            let mut text = String::new();
            let mut more = More::Follows;
            while more == More::Follows {
                let reply;
                (reply, more) = peer.reply().expect("an answer to each");
                text += &format!("{reply:?}");
            }
            assert!(text.contains(&format!("no-such-{n}-")), "answer {n} is out of order: {text}");
        }
    });
    let grown = peak_kib(&service).saturating_sub(peak);
    assert!(grown < 4096, "{grown} KiB for one client");
    drop(peer);
    service.until_footprint(before);
}

/// A connection is counted by what it says first, not by how many there are: 512 who greet are let in, one
/// more is told.
#[test]
fn f9_connections_that_have_greeted_are_limited() {
    // Alone: this process has a limit of descriptors, too.
    let service = Options::new().alone().start();
    service.ok(&["list"]);
    let before = service.footprint();
    let mut peers: Vec<Peer> = Vec::new();
    let refused = loop {
        let mut peer = Peer::silent(service.socket());
        peer.send(&hello());
        match peer.hello() {
            Some(answer) if answer.error.is_none() => peers.push(peer),
            Some(answer) => break answer.error.expect("it was just looked at"),
            None => panic!("closed without a word"),
        }
        assert!(peers.len() < 600, "nobody counts");
    };
    assert!((500..=512).contains(&peers.len()), "{} were let in", peers.len());
    assert!(refused.message.contains("too many connections"), "{refused}");
    assert_eq!(refused.code, Code::Refused);
    let list = service.cli(&["list"]);
    list.expect(6);
    assert!(list.err().contains("too many connections"), "{list:?}");
    // Those who are in are served, and one who goes makes room.
    assert!(peers[0].ask(&Request::Service).is_ok());
    drop(peers.split_off(10));
    service.expect_answer();
    drop(peers);
    service.until_footprint(before);
}

/// Sends 253 descriptors with each of several messages, and stays connected.
const SENDER: &str = r#"
import array, os, socket, sys
path, hello = sys.argv[1], bytes.fromhex(sys.argv[2])
fds = array.array("i", [os.open("/dev/null", os.O_RDONLY) for _ in range(253)])
s = socket.socket(socket.AF_UNIX)
s.connect(path)
for part in [hello[:3], hello[3:], hello[:2], b"\x00\x00\x10"]:
    s.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
print("sent", flush=True)
sys.stdin.read()
"#;

#[test]
fn f16_descriptors_sent_along_are_closed() {
    let (service, before) = settled();
    let hex: String = hello().iter().map(|b| format!("{b:02x}")).collect();
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let mut python = Command::new("python3");
            python.args(["-c", SENDER, service.socket(), &hex]);
            Running::new(python)
        })
        .collect();
    senders.iter().for_each(|s| drop(s.line_with("sent", LATER)));
    service.expect_answer();
    let during = service.footprint();
    assert!(during[1].0 <= before[1].0 + senders.len() + 2, "kept: before {before:?}, now {during:?}");
    for sender in senders {
        drop(sender.end(SOON));
    }
    service.until_footprint(before);
}

/// A client of the library that connects and then takes its time with its first request.
#[test]
fn f3_a_client_may_take_its_time_before_its_first_request() {
    let service = Service::new();
    let clients: Vec<_> = (0..8).map(|_| service.client()).collect();
    wait::pass(Duration::from_millis(4700));
    for mut client in clients {
        wait::pass(Duration::from_millis(250));
        client.service().expect("it is asked on a new connection if need be");
    }
}
