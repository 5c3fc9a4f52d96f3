//! What TLS and its two pumps cost, against the same bytes without them:
//! `cargo test --lib tls::tests::speed -- --ignored --nocapture --test-threads 1`.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use crate::sys::clock;
use crate::sys::poll;
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

/// Where `--nocapture` shows it.
fn figure(of: &str, (median, rate): (Duration, usize)) {
    writeln!(std::io::stderr(), "{of}: {median:?}, {rate} MB/s").unwrap();
}

/// Carries bytes as a pump does, without TLS: what two more hops cost by themselves.
fn relayed(tcp: std::net::TcpStream) -> UnixStream {
    let (theirs, ours) = UnixStream::pair().unwrap();
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
    figure("tcp alone", measure(near, far));

    let (far, near) = connected();
    figure("two relays without tls", measure(relayed(near), relayed(far)));

    let (server, client) = Running::both(&World::new());
    figure("two pumps with tls", measure(client.app, server.app));
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn memory_of_an_idle_connection() {
    const PAIRS: usize = 100;
    let world = World::new();
    drop(Running::both(&world));
    let before = resident_kib();
    let mut pairs: Vec<_> = (0..PAIRS).map(|_| Running::both(&world)).collect();
    let fresh = resident_kib();
    for (server, client) in &mut pairs {
        client.app.write_all(&[7; 100_000]).unwrap();
        server.app.read_exact(&mut [0; 100_000]).unwrap();
    }
    let used = resident_kib();
    let idle_ms = clock::now_ms() + 2000;
    poll::wait(&mut [], Some(idle_ms)).unwrap();
    let idle = resident_kib();
    let each = |kib: usize| kib.saturating_sub(before) / (2 * PAIRS);
    let (fresh, used, idle) = (each(fresh), each(used), each(idle));
    writeln!(std::io::stderr(), "KiB for each end: fresh {fresh}, used {used}, idle {idle}").unwrap();
}
