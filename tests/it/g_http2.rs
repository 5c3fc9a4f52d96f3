//! Clients that have a good certificate and break HTTP/2, or what sense it makes: each is ended or refused,
//! and costs the gateway and its other clients nothing that lasts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::h2::{
    Answer, CONTINUATION, DATA, END_HEADERS, END_STREAM, Footprint, GOAWAY, HEADERS, OK, PERMISSION_DENIED,
    PING, PREFACE, PRIORITY, Peer, RST_STREAM, SETTINGS, UNIMPLEMENTED, UNKNOWN, WINDOW_UPDATE,
    expect_service, fields, frame, literals, login_of, message, path, text_field, tls,
};
use crate::harness::gateway::User;
use crate::harness::{Gateway, LATER, Options, SOON, fixture, rounds, wait};

/// Four passwords that are checked at once take 76 MiB; the rest is what allocators keep, and buffers.
const SLACK_MIB: u64 = 100;

/// Frames that make the gateway reset a stream.
type Provocation<'a> = &'a dyn Fn(u32) -> Vec<u8>;
/// What is done to the fields of an honest call.
type Change<'a> = &'a dyn Fn(&mut Vec<(&str, &str)>);

/// The header block of an honest call.
fn block(method: &str) -> Vec<u8> {
    let (path, login) = (path(method), login_of(User::Admin));
    literals(&[fields(&path), vec![("authorization", &login)]].concat())
}

/// Waits until the other side has closed; what it sends meanwhile is forgotten.
#[track_caller]
fn until_closed(mut peer: Peer, gateway: &Gateway) {
    let closed = wait::holds_within(SOON, || peer.is_closed());
    assert!(closed, "the connection is still there\n{}", gateway.log());
}

/// Says this without end, and expects to be stopped by the gateway with these words.
#[track_caller]
fn expect_ended(gateway: &Gateway, why: &str, say: impl FnOnce(&mut Peer)) {
    let before = gateway.log().matches(why).count();
    let mut peer = Peer::new(gateway);
    say(&mut peer);
    until_closed(peer, gateway);
    let said = wait::holds_within(SOON, || gateway.log().matches(why).count() > before);
    assert!(said, "no word of {why:?}\n{}", gateway.log());
}

/// An honest client that asks all the time meanwhile. Returns how often it was answered, and the longest time
/// it took.
fn meanwhile(gateway: &Gateway, work: impl FnOnce()) -> (u32, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let (mut peer, login) = (Peer::new(gateway), login_of(User::Admin));
            let (mut count, mut longest) = (0, Duration::ZERO);
            while count < 20 || !is_over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let answer = peer.call("ServiceInfo", &login, &[]);
                assert_eq!(answer.and_then(|a| a.status), Some(OK), "answer {count}");
                (count, longest) = (count + 1, longest.max(begin.elapsed()));
            }
            (count, longest)
        });
        // Also when it fails: the honest one would go on for ever.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        let honest = honest.join().expect("honest clients are served");
        worked.unwrap_or_else(|e| std::panic::resume_unwind(e));
        honest
    })
}

/// A call as it should be, with which our settings are acknowledged.
#[track_caller]
fn expect_polite(peer: &mut Peer) {
    let answer = peer.call("ServiceInfo", &login_of(User::Admin), &[]);
    assert_eq!(answer.as_ref().and_then(|a| a.status), Some(OK), "{answer:?}");
}

#[test]
fn g15_rapid_reset_ends_only_its_own_connection() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let (count, longest) = meanwhile(&gateway, || {
        for _ in 0..4 {
            expect_ended(&gateway, "it reset too many streams", |peer| {
                expect_polite(peer);
                let block = block("ServiceInfo");
                let begin = Instant::now();
                let mut said = 0;
                // Until it is stopped, some seconds at most.
                while begin.elapsed() < Duration::from_secs(10) {
                    let mut bytes = Vec::new();
                    for _ in 0..50 {
                        let id = peer.stream();
                        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &block));
                        bytes.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
                    }
                    if !peer.send(&bytes) {
                        break;
                    }
                    said += 50;
                }
                println!("{said} streams reset until it was stopped after {:?}", begin.elapsed());
            });
        }
    });
    println!("an honest client meanwhile: {count} answers, the slowest after {longest:?}");
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g16_a_client_that_has_its_streams_reset_is_ended() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let block = block("ServiceInfo");
    let half_closed = |id| frame(DATA, 0, id, &message(&[]));
    let empty_window = |id| frame(WINDOW_UPDATE, 0, id, &[0; 4]);
    let full_window = |id| frame(WINDOW_UPDATE, 0, id, &[0x7f, 0xff, 0xff, 0xff]).repeat(2);
    let too_long = |id| frame(DATA, 0, id, &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let provocations: [(u8, Provocation<'_>); 4] =
        [(END_STREAM, &half_closed), (0, &empty_window), (0, &full_window), (0, &too_long)];
    for (flags, provoke) in provocations {
        let mut peer = Peer::new(&gateway);
        expect_polite(&mut peer);
        let begin = Instant::now();
        let mut said = 0;
        while said < 20_000 && begin.elapsed() < SOON {
            let id = peer.stream();
            let bytes = [frame(HEADERS, END_HEADERS | flags, id, &block), provoke(id)].concat();
            if !peer.send(&bytes) || said % 50 == 0 && peer.is_closed() {
                break;
            }
            said += 1;
        }
        // By the meter or by the gRPC core; what that passes over does no harm.
        println!("{said} streams with flags {flags}; ended: {}", peer.is_closed());
    }
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g17_headers_without_end_are_ended() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let begin = frame(HEADERS, 0, 1, &block("ServiceInfo"));
    let full = literals(&[("x", &"x".repeat(16_000))]);
    for (more, why) in [(&full[..], "headers that are too long"), (&[], "headers in too many pieces")] {
        expect_ended(&gateway, why, |peer| {
            peer.send(&begin);
            peer.flood(&frame(CONTINUATION, 0, 1, more), 1_000_000);
        });
    }
    // A block that never ends and says nothing more costs nothing but its connection, which may go at any
    // time.
    let mut peer = Peer::new(&gateway);
    peer.send(&begin);
    expect_service(&gateway);
    drop(peer);
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g18_floods_of_frames_that_carry_nothing_are_ended() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let carries_nothing = "too many frames that carry nothing";
    let open = frame(HEADERS, END_HEADERS, 1, &block("ServiceInfo"));
    let floods = [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(DATA, 0, 1, &[]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]),
    ];
    let (count, longest) = meanwhile(&gateway, || {
        for flood in &floods {
            let mut peer = Peer::new(&gateway);
            peer.send(&open);
            let said = peer.flood(flood, 1_000_000);
            assert!(said < 1_000_000, "it took all of {:?}", &flood[..9]);
            println!("ended after {said} of {:?}", &flood[..9]);
            until_closed(peer, &gateway);
        }
    });
    println!("an honest client meanwhile: {count} answers, the slowest after {longest:?}");
    // The gRPC core may have ended some of them first.
    gateway.until_said(carries_nothing);
    // More window than there can be, which the gRPC core takes as a lot.
    let mut peer = Peer::new(&gateway);
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(1000));
    drop(peer);
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g19_streams_beyond_the_limit_are_not_begun() {
    let gateway = Gateway::start();
    gateway.service().start(&["--name", "still", "--", "sleep", "76001"]);
    let before = Footprint::of(&gateway);
    // Each of these waits until it is given up, on a thread of its own.
    let forever = text_field(1, b"still");
    let mut peer = Peer::new(&gateway);
    let login = login_of(User::Admin);
    expect_polite(&mut peer);
    let mut most = 0;
    for n in 0..10_000 {
        peer.ask("Wait", &login, &forever);
        if n % 50 == 0 {
            most = most.max(Footprint::now(before.pid).threads);
            if peer.is_closed() {
                println!("ended after {n} streams");
                break;
            }
        }
    }
    most = most.max(Footprint::now(before.pid).threads);
    assert!(most <= before.threads + 110, "{most} threads, {} before", before.threads);
    expect_service(&gateway);
    drop(peer);
    // Who does not acknowledge the limit is held to it all the same.
    expect_ended(&gateway, "without acknowledging our settings", |peer| {
        for _ in 0..10_000 {
            let id = peer.stream();
            if !peer.send(&frame(HEADERS, END_HEADERS, id, &block("Wait"))) {
                break;
            }
        }
    });
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g19_numbers_that_hide_streams_end_the_connection() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let block = block("ServiceInfo");
    let begin = |id| frame(HEADERS, END_HEADERS, id, &block);
    // What comes below the highest number so far would not be counted as a call: 40,000 could be open.
    for (first, why) in
        [(0x7fff_fffe, "a stream number that is not a client's"), (50_001, "a stream that is not open")]
    {
        expect_ended(&gateway, why, |peer| {
            peer.send(&begin(first));
            let all_taken = (0..20_000).all(|n| peer.send(&begin(2 * n + 1)));
            println!("took all below {first:#x}: {all_taken}");
        });
    }
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g20_what_headers_unfold_to_is_limited() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let honest = block("ServiceInfo");
    let flags = END_HEADERS | END_STREAM;
    let ends = [
        // "accept-encoding: gzip, deflate", one byte each; as much as goes into one block, and more.
        ("a field repeated", [&honest[..], &[0x90; 15_000]].concat()),
        ("a number without end", [&[0xff][..], &[0x80; 1000]].concat()),
        ("a table that grows", [0x3f, 0xff, 0xff, 0xff, 0xff, 0x0f].repeat(2000)),
        ("a table resized", [&[0x20; 10_000][..], &honest].concat()),
        ("an index of nothing", vec![0xfe; 100]),
        ("a text longer than its frame", vec![0, 0x7f, 0xff, 0xff, 0xff, 0x07]),
    ];
    for (what, block) in &ends {
        for _ in 0..3 {
            let mut peer = Peer::new(&gateway);
            peer.send(&frame(HEADERS, flags, 1, block));
            let answer = peer.answer(1);
            assert_ne!(answer.and_then(|a| a.status), Some(OK), "{what}");
        }
    }
    // Remembered fields that fill the table anew each time, in many calls.
    let mut peer = Peer::new(&gateway);
    for n in 0..rounds(200) {
        let name = format!("x-{n}");
        let mut block = honest.clone();
        for k in 0..10 {
            let mut field = literals(&[(&format!("{name}-{k}"), &"v".repeat(300))]);
            // The same literal, to be remembered.
            field[0] = 0x40;
            block.extend(field);
        }
        let id = peer.begin(&block, &message(&[]));
        assert_eq!(peer.answer(id).and_then(|a| a.status), Some(OK), "call {n}");
    }
    drop(peer);
    // More than we take in one block: refused as a call, or ended.
    let long = "y".repeat(40_000);
    let block = [honest, literals(&[("x-long", &long)])].concat();
    let mut peer = Peer::new(&gateway);
    expect_polite(&mut peer);
    let id = peer.stream();
    let mut chunks = block.chunks(16_000);
    peer.send(&frame(HEADERS, 0, id, chunks.next().expect("it is long")));
    for chunk in chunks {
        peer.send(&frame(CONTINUATION, 0, id, chunk));
    }
    peer.send(
        &[frame(CONTINUATION, END_HEADERS, id, &[]), frame(DATA, END_STREAM, id, &message(&[]))].concat(),
    );
    assert_ne!(peer.answer(id).and_then(|a| a.status), Some(OK), "40 KB of metadata");
    drop(peer);
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g21_what_is_compressed_is_not_unfolded() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    // A quarter of a megabyte that is a quarter of a gigabyte; with many rounds, 4 MB that are 4 GB.
    let mib = rounds(256).min(4096) as usize;
    let script = "import sys, zlib\nc = zlib.compressobj(9, zlib.DEFLATED, 31)\nz = bytes(1 << 20)\n\
                  for _ in range(int(sys.argv[1])): sys.stdout.buffer.write(c.compress(z))\nsys.stdout.buffer.write(c.flush())";
    let made = std::process::Command::new("python3")
        .args(["-c", script, &mib.to_string()])
        .output()
        .expect("it is installed");
    let bomb = made.stdout;
    assert!(
        (200_000..900_000).contains(&(bomb.len() * 256 / mib)),
        "{} bytes: {:?}",
        bomb.len(),
        made.stderr
    );
    let login = login_of(User::Admin);
    let path = path("List");
    for encoding in ["gzip", "deflate", "identity", "none of these"] {
        let block =
            [literals(&fields(&path)), literals(&[("grpc-encoding", encoding), ("authorization", &login)])]
                .concat();
        let mut body = message(&bomb);
        body[0] = 1;
        let mut peer = Peer::new(&gateway);
        for _ in 0..4 {
            let id = peer.begin(&block, &body);
            let Some(answer) = peer.answer(id) else {
                peer = Peer::new(&gateway);
                continue;
            };
            assert_ne!(answer.status, Some(OK), "{encoding}");
            println!("{encoding}: {:?} {}", answer.status, answer.text);
        }
    }
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g22_bodies_with_false_lengths_are_refused() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let block = block("ServiceInfo");
    let mut peer = Peer::new(&gateway);
    let mut expect = |body: &[u8]| -> Answer {
        let id = peer.begin(&block, body);
        peer.answer(id).expect("the connection goes on")
    };
    let longest = expect(&[&[0, 0xff, 0xff, 0xff, 0xff][..], &[7; 100_000]].concat());
    assert!(longest.status != Some(OK), "{longest:?}");
    let short = expect(&[0, 0, 0, 1, 0, 1, 2, 3]);
    assert!(short.status != Some(OK), "{short:?}");
    let half = expect(&[0, 0, 0]);
    assert!(half.status != Some(OK), "{half:?}");
    let nothing_sensible = expect(&message(&[0xff; 1000]));
    assert!(nothing_sensible.status != Some(OK), "{nothing_sensible:?}");
    assert_eq!(expect(&message(&[])).status, Some(OK));
    // A megabyte, byte by byte.
    expect_ended(&gateway, "too many frames that carry nothing", |peer| {
        let id = peer.stream();
        peer.send(&frame(HEADERS, END_HEADERS, id, &block));
        peer.send(&frame(DATA, 0, id, &[0, 0, 15, 0xff, 0xff]));
        let said = peer.flood(&frame(DATA, 0, id, &[7]), 1_000_000);
        println!("ended after {said} bytes");
    });
    drop(peer);
    before.expect_back(&gateway, SLACK_MIB);
}

/// What comes of a malformed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The connection is closed.
    Closed,
    /// Its stream is reset, the connection goes on.
    Reset,
    /// It is answered with this status, the connection goes on.
    Status(u32),
    /// It is passed over, the connection goes on.
    Nothing,
}

/// The stream of the last of these frames.
fn last_stream(mut frames: &[u8]) -> u32 {
    let mut stream = 0;
    while let Some([a, b, c, _, _, id @ ..]) = frames.get(..9) {
        stream = u32::from_be_bytes(id.try_into().expect("four bytes are left"));
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames = frames.get(9 + len..).unwrap_or_default();
    }
    stream
}

/// Requests that are wrong in one detail each, and what comes of each. Where the gRPC core is lenient, the
/// row says so: a version that changes its mind is to be noticed.
fn malformed(honest: &[u8]) -> Vec<(&'static str, Outcome, Vec<u8>)> {
    use Outcome::{Closed, Nothing, Reset, Status};
    let flags = END_HEADERS | END_STREAM;
    let body = |id| frame(DATA, END_STREAM, id, &message(&[]));
    let headers = |id: u32, block: &[u8]| [frame(HEADERS, END_HEADERS, id, block), body(id)].concat();
    let login = login_of(User::Admin);
    let with = |change: Change<'_>| {
        let path = path("ServiceInfo");
        let mut fields = fields(&path);
        change(&mut fields);
        // `login` goes last: a field that is broken may come before it.
        literals(&[fields, vec![("authorization", &login)]].concat())
    };
    let set = |name: &'static str, value: &'static str| {
        with(&|fields| fields.iter_mut().filter(|f| f.0 == name).for_each(|f| f.1 = value))
    };
    let without = |name: &'static str| with(&|fields| fields.retain(|f| f.0 != name));
    let also = |name: &'static str, value: &'static str| with(&|fields| fields.push((name, value)));
    let long: &'static str = Box::leak("t".repeat(9000).into_boxed_str());
    vec![
        ("a stream id of the server's", Closed, headers(2, honest)),
        ("stream 0", Closed, headers(0, honest)),
        ("ids that go down", Closed, [headers(5, honest), headers(3, honest)].concat()),
        ("an id twice", Closed, [headers(1, honest), headers(1, honest)].concat()),
        ("data for nothing", Status(UNKNOWN), [body(1), headers(1, &[])].concat()),
        ("no beginning", Closed, frame(CONTINUATION, END_HEADERS, 1, honest)),
        ("two paths", Status(OK), headers(1, &also(":path", "/provost.v1.ProcessService/List"))),
        ("two te", Status(OK), headers(1, &also("te", "trailers"))),
        ("two content types", Status(OK), headers(1, &also("content-type", "application/grpc"))),
        (
            "two authorizations",
            Status(PERMISSION_DENIED),
            headers(1, &also("authorization", "Basic YWxpY2U6eA==")),
        ),
        ("another content type", Reset, headers(1, &set("content-type", "text/html"))),
        ("no content type", Status(OK), headers(1, &without("content-type"))),
        ("GET", Status(UNKNOWN), headers(1, &set(":method", "GET"))),
        ("no method", Status(UNKNOWN), headers(1, &without(":method"))),
        ("no path", Status(UNKNOWN), headers(1, &without(":path"))),
        ("no scheme", Status(UNKNOWN), headers(1, &without(":scheme"))),
        ("another scheme", Status(UNKNOWN), headers(1, &set(":scheme", "ftp"))),
        (
            "a path without a slash",
            Status(UNIMPLEMENTED),
            headers(1, &set(":path", "provost.v1.ProcessService/ServiceInfo")),
        ),
        ("an empty path", Status(UNIMPLEMENTED), headers(1, &set(":path", ""))),
        ("a path of a slash", Status(UNIMPLEMENTED), headers(1, &set(":path", "/"))),
        (
            "two slashes",
            Status(UNIMPLEMENTED),
            headers(1, &set(":path", "//provost.v1.ProcessService/ServiceInfo")),
        ),
        ("a long te", Status(UNKNOWN), headers(1, &set("te", long))),
        ("another te", Status(UNKNOWN), headers(1, &set("te", "chunked"))),
        ("capitals", Reset, headers(1, &also("X-Capital", "x"))),
        ("a NUL", Status(OK), headers(1, &also("x-nul", "a\0b"))),
        ("a line's end", Status(OK), headers(1, &also("x-line", "a\r\nb: c"))),
        ("no base64", Reset, headers(1, &also("x-bin", "?!?"))),
        ("a timeout that is none", Reset, headers(1, &also("grpc-timeout", "-5x"))),
        ("a long timeout", Status(OK), headers(1, &also("grpc-timeout", "99999999999999999999S"))),
        ("no fields", Status(UNKNOWN), headers(1, &[])),
        ("more padding than frame", Closed, frame(HEADERS, flags | 8, 1, &[200, 1, 2, 3])),
        ("a short reset", Closed, frame(RST_STREAM, 0, 1, &[0])),
        ("a reset of nothing", Nothing, frame(RST_STREAM, 0, 9, &[0; 4])),
        ("a short ping", Closed, frame(PING, 0, 0, &[0; 7])),
        ("settings that do not fit", Closed, frame(SETTINGS, 0, 0, &[0; 5])),
        ("a window of 4 GB", Closed, frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("a goodbye", Nothing, frame(GOAWAY, 0, 0, &[0; 8])),
        ("a short goodbye", Closed, frame(GOAWAY, 0, 0, &[0; 3])),
        ("an unknown frame", Nothing, frame(0xfe, 0xff, 1, &[0; 100])),
        ("a push", Nothing, frame(5, END_HEADERS, 1, &[0; 40])),
        (
            "a frame longer than any",
            Closed,
            [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 30_000]].concat(),
        ),
    ]
}

#[test]
fn g23_each_malformed_request_has_its_outcome() {
    let gateway = Gateway::start();
    let before = Footprint::of(&gateway);
    let (honest, login) = (block("ServiceInfo"), login_of(User::Admin));
    for (what, expected, bytes) in malformed(&honest) {
        let mut peer = Peer::new(&gateway);
        peer.send(&bytes);
        // Honest calls behind it, on streams that none of them uses, show whether the connection goes on.
        peer.skip_streams(100);
        let goes_on =
            (0..2).all(|_| peer.call("ServiceInfo", &login, &[]).is_some_and(|a| a.status == Some(OK)));
        let stream = last_stream(&bytes);
        let mut outcome = Outcome::Closed;
        wait::holds_within(SOON, || {
            outcome = match peer.has_ended(stream) {
                _ if !goes_on => Outcome::Closed,
                Some(Answer { status: Some(status), .. }) => Outcome::Status(status),
                Some(_) => Outcome::Reset,
                None => Outcome::Nothing,
            };
            outcome == expected
        });
        assert_eq!(outcome, expected, "{what}\n{}", gateway.log());
        assert_eq!(goes_on, !peer.is_closed(), "{what}: an answer, or the end");
        drop(peer);
        assert_eq!(gateway.pid(), before.pid, "{what}: the gateway has ended\n{}", gateway.service().log());
    }
    // What does not begin as HTTP/2 does.
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0; 100], &PREFACE[..20], b"PRI * HTTP/3.0"]
    {
        let mut peer = Peer::silent(gateway.port(), tls(&gateway)).expect("the handshake is good");
        peer.send(bytes);
        // Half of a preface is no violation yet.
        if !PREFACE.starts_with(bytes) {
            until_closed(peer, &gateway);
        }
    }
    before.expect_back(&gateway, SLACK_MIB);
}

#[test]
fn g24_readers_that_never_read_are_given_up() {
    let gateway = Gateway::with(Options::new(), "stall = \"2s\"");
    gateway.service().start(&["--name", "loud", "--", &fixture("firehose"), "1000000", "--stay"]);
    let before = Footprint::of(&gateway);
    let mut peer = Peer::new(&gateway);
    expect_polite(&mut peer);
    // No room for anything in any stream.
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let login = login_of(User::Admin);
    let request = [text_field(1, b"loud"), vec![0x18, 1]].concat();
    let ids: Vec<u32> = (0..100).map(|_| peer.ask("Stream", &login, &request)).collect();
    wait::until("they have begun", SOON, || {
        assert!(!peer.is_closed(), "{}", gateway.log());
        Footprint::now(before.pid).threads >= before.threads + 50
    });
    let most = Footprint::now(before.pid);
    assert!(most.threads <= before.threads + 110, "{most:?}");
    let took = wait::until("nobody waits for them any more", LATER, || {
        let _ = peer.next(Duration::from_millis(1));
        Footprint::now(before.pid).threads <= before.threads + 1
    });
    println!("{} readers given up after {took:?}; at most {most:?}", ids.len());
    drop(peer);
    before.expect_back(&gateway, 100);
    gateway.service().ok(&["stop", "loud"]);
}
