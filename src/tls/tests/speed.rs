//! What TLS and its two pumps cost, against the same bytes without them:
//! `cargo test --release --lib tls::tests::speed -- --ignored --nocapture`.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use crate::sys::socket;
use crate::tls::tests::Running;
use crate::tls::tests::World;
use crate::tls::tests::connected;

const MESSAGE_LEN: usize = 100;
const MESSAGES: usize = 20_000;
const CHUNK_LEN: usize = 64 << 10;
const STREAM_LEN: usize = 1 << 30;

/// The median of a question and its answer, and megabytes in a second one way.
fn measure(mut near: impl Read + Write, mut far: impl Read + Write + Send + 'static) -> (Duration, usize) {
    let far = std::thread::spawn(move || {
        let mut message = [0; MESSAGE_LEN];
        for _ in 0..MESSAGES {
            far.read_exact(&mut message).unwrap();
            far.write_all(&message).unwrap();
        }
        let (mut chunk, mut left) = (vec![0; CHUNK_LEN], STREAM_LEN);
        while left > 0 {
            left -= far.read(&mut chunk).unwrap();
        }
        far.write_all(b"x").unwrap();
    });
    let mut message = [7; MESSAGE_LEN];
    let mut times = Vec::new();
    for _ in 0..MESSAGES {
        let begin = Instant::now();
        near.write_all(&message).unwrap();
        near.read_exact(&mut message).unwrap();
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let (begin, chunk) = (Instant::now(), vec![7; CHUNK_LEN]);
    for _ in 0..STREAM_LEN / CHUNK_LEN {
        near.write_all(&chunk).unwrap();
    }
    near.read_exact(&mut [0]).unwrap();
    let rate = STREAM_LEN / usize::try_from(begin.elapsed().as_micros()).unwrap();
    far.join().unwrap();
    (times[MESSAGES / 2], rate)
}

/// Carries bytes as a pump does, without TLS: what two more hops cost by themselves.
fn relayed(tcp: std::net::TcpStream) -> UnixStream {
    let (theirs, ours) = socket::stream_pair().unwrap();
    let (theirs, ours) = (UnixStream::from(theirs), UnixStream::from(ours));
    theirs.set_nonblocking(false).unwrap();
    ours.set_nonblocking(false).unwrap();
    tcp.set_nodelay(true).unwrap();
    let copy = |mut from: Box<dyn Read + Send>, mut to: Box<dyn Write + Send>| {
        std::thread::spawn(move || {
            let mut chunk = vec![0; CHUNK_LEN];
            while let Ok(n) = from.read(&mut chunk)
                && n > 0
            {
                to.write_all(&chunk[..n]).unwrap();
            }
        });
    };
    copy(Box::new(tcp.try_clone().unwrap()), Box::new(theirs.try_clone().unwrap()));
    copy(Box::new(theirs), Box::new(tcp));
    ours
}

#[test]
#[ignore = "a measurement"]
fn latency_and_rate() {
    let (far, near) = connected();
    far.set_nodelay(true).unwrap();
    near.set_nodelay(true).unwrap();
    println!("tcp alone:              {:?}", measure(near, far));

    let (far, near) = connected();
    println!("two relays without tls: {:?}", measure(relayed(near), relayed(far)));

    let (server, client) = Running::both(&World::new());
    println!("two pumps with tls:     {:?}", measure(client.app, server.app));
}
