//! A client that asks a hundred times in a second, alone, and while others do what no client would. They run
//! only when nobody else of this program wants to: what is measured is what the gateway lets them do to it,
//! and not how the machine is shared out.

use std::io::{Read, Write, stdin};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use provost::sys::thread;
use provost::wire::json::base64;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::grpc::LOOPBACK;
use crate::grpc::client::{Caller, STATUS, targets};
use crate::grpc::raw::{
    CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS, PIECE, RST_STREAM, Raw, call, frame, message, whole,
};
use crate::grpc::server::serve;
use crate::grpc::site::{OTHER, Site, client_tls, login, text};
use crate::programs::our_path;
use crate::sample::{Outcome, Samples, pass};
use crate::table::{Goal, Table};

/// How often the good client asks.
const EACH: Duration = Duration::from_millis(10);
/// And how many times before each attack.
const CALLS: u32 = 500;
/// Attackers get what the good client leaves of a processor: usually they bring their own.
const LAST: [&str; 3] = ["nice", "-n", "19"];
/// The program that packs bombs, and how large one is when it goes off, bytes. Packed, it fits into a
/// stream's window.
const PACK: &str = "head -c 48000000 /dev/zero | gzip -9";
/// A method that all attacks call.
const METHOD: &str = "/grpc.health.v1.Health/Check";

/// One way to attack.
struct Kind {
    name: &'static str,
    what: &'static str,
    /// What is counted.
    unit: &'static str,
    threads: u32,
    /// Calls of the good client meanwhile.
    calls: u32,
}

const KINDS: [Kind; 11] = [
    Kind { name: "slow", what: "slow handshakes", unit: "bytes", threads: 1, calls: 500 },
    Kind { name: "storm", what: "a storm of handshakes", unit: "handshakes", threads: 4, calls: 500 },
    Kind { name: "reset", what: "a storm of resets", unit: "streams", threads: 4, calls: 3000 },
    Kind { name: "bomb", what: "compressed bombs", unit: "bombs", threads: 2, calls: 500 },
    Kind { name: "streams", what: "10000 streams at once", unit: "streams", threads: 2, calls: 500 },
    Kind { name: "even", what: "streams with false numbers", unit: "streams", threads: 2, calls: 500 },
    Kind { name: "watch", what: "watches without a login", unit: "watches", threads: 4, calls: 500 },
    Kind { name: "guess", what: "logins with invented names", unit: "logins", threads: 4, calls: 500 },
    Kind { name: "half", what: "requests without an end", unit: "bytes", threads: 3, calls: 500 },
    Kind { name: "unread", what: "answers that nobody takes", unit: "calls", threads: 4, calls: 500 },
    Kind { name: "large", what: "large requests without a login", unit: "requests", threads: 4, calls: 500 },
];
/// What the gateway may take more than before, while it is attacked, MiB.
const MORE: f64 = 64.0;
/// Connections of the slow, and how many of them are begun in a turn at most.
const SLOW: usize = 200;
const SLOW_BEGUN: usize = 10;
/// Streams that are opened before the answers are looked at.
const BURST: u32 = 100;
const STREAMS: u32 = 10_000;
/// Calls of a connection that are left open: less than it may have.
const OPEN: u32 = 99;
/// Of a request that is never ended, bytes.
const HALF: usize = 1 << 20;
/// Of a request that is not allowed, bytes.
const LARGE: usize = 1 << 20;
/// How long a connection is kept whose answers are not taken.
const UNREAD: Duration = Duration::from_secs(60);
/// How long one with open calls is kept.
const KEPT: Duration = Duration::from_millis(500);
/// Methods that take a login.
const START: &str = "/provost.v1.ProcessService/Start";
const LIST: &str = "/provost.v1.ProcessService/Status";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

pub fn measure(site: &Site, dir: &Path, table: &mut Table) -> Outcome {
    let (mut quiet, mut all) = (Samples::default(), Vec::new());
    for Kind { name, what, unit, calls, .. } in KINDS {
        // Each attack has a service of its own, which knows nothing of the address that it comes from.
        let mut gateway = site.another()?;
        gateway.ready(&site.tls()?)?;
        gateway.fill()?;
        let good = site.caller(gateway.address)?;
        good.check()?;
        ask(&good, CALLS, &mut quiet)?;
        let before = gateway.memory()?;
        let (address, certificates) = (gateway.address.to_string(), text(&site.certificates)?);
        let ours = our_path()?;
        let args = [&LAST[..], &[&ours, "grpc-attack", name, &address, certificates]].concat();
        let (mut program, _) = serve(&args, dir)?;
        let mut under_attack = Samples::default();
        ask(&good, calls, &mut under_attack)?;
        let after = gateway.memory()?;
        drop(program.stdin.take());
        let mut count = String::new();
        program.stdout.take().ok_or("it has an output")?.read_to_string(&mut count)?;
        program.wait()?;
        gateway.end()?;
        all.push((format!("{what}, {} {unit}/s", count.trim()), p99(&under_attack), before, after));
    }
    // Of all that was asked in peace: of one attack's part of it the 99th percentile is five calls, and three
    // times another's.
    let quiet = p99(&quiet);
    for (what, under_attack, before, after) in all {
        let row = table.row(what, "us").ours(under_attack).bare(quiet);
        row.goal(Goal::BareTimes(3.0)).done();
        let row = table.row("... memory of the gateway", "MiB").ours(Some(after)).bare(Some(before));
        row.goal(Goal::Value(before + MORE)).done();
    }
    Ok(())
}

fn p99(samples: &Samples) -> Option<f64> {
    samples.p99().map(|ms| ms * 1e3)
}

/// From when each call was due, so that one that waits for another counts as well.
fn ask(good: &Caller, calls: u32, samples: &mut Samples) -> Outcome {
    let question = targets("s-1");
    let begin = Instant::now();
    for n in 0..calls {
        let due = EACH * n;
        pass(due.saturating_sub(begin.elapsed()));
        good.call(&STATUS, &question)?;
        samples.push_ms(begin.elapsed() - due);
    }
    Ok(())
}

/// The program: attacks until its standard input ends, and then prints how often it could do so in a second.
pub fn attack(kind: &str, address: &str, certificates: &str) -> Outcome {
    let (address, tls): (SocketAddr, _) = (address.parse()?, client_tls(Path::new(certificates))?);
    let Kind { threads, .. } = KINDS.into_iter().find(|k| k.name == kind).ok_or("no such attack")?;
    let bomb = if kind == "bomb" { pack()? } else { Vec::new() };
    let attacker = Attacker { address, tls, bomb, count: Arc::default() };
    let act = match kind {
        "slow" => Attacker::slow,
        "storm" => Attacker::storm,
        "reset" => Attacker::reset,
        "bomb" => Attacker::bomb,
        "even" => Attacker::even,
        "watch" => Attacker::watch,
        "guess" => Attacker::guess,
        "half" => Attacker::half,
        "unread" => Attacker::unread,
        "large" => Attacker::large,
        _ => Attacker::streams,
    };
    println!("ready");
    let begin = Instant::now();
    for _ in 0..threads {
        let attacker = attacker.clone();
        thread::spawn("attack", move || {
            loop {
                // The gateway's answer to an attack is the end of the connection.
                if act(&attacker).is_err() {
                    pass(Duration::from_millis(1));
                }
            }
        })?;
    }
    stdin().read_to_end(&mut Vec::new())?;
    println!("{:.0}", attacker.count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}

fn pack() -> Outcome<Vec<u8>> {
    Ok(Command::new("/bin/sh").args(["-c", PACK]).stdin(Stdio::null()).output()?.stdout)
}

#[derive(Clone)]
struct Attacker {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    bomb: Vec<u8>,
    count: Arc<AtomicU64>,
}

impl Attacker {
    fn done(&self, n: u64) {
        self.count.fetch_add(n, Ordering::Relaxed);
    }

    /// The first message of a handshake.
    fn hello(&self) -> Outcome<Vec<u8>> {
        let mut client = ClientConnection::new(Arc::clone(&self.tls), ServerName::try_from(LOOPBACK)?)?;
        let mut hello = Vec::new();
        client.write_tls(&mut hello)?;
        Ok(hello)
    }

    /// Many handshakes byte by byte, each begun anew when it is ended.
    fn slow(&self) -> Outcome {
        let hello = self.hello()?;
        let mut open: Vec<(TcpStream, usize)> = Vec::new();
        loop {
            for _ in 0..SLOW_BEGUN.min(SLOW - open.len()) {
                open.push((TcpStream::connect(self.address)?, 0));
            }
            open.retain_mut(|(tcp, at)| {
                *at += 1;
                *at < hello.len() && tcp.write_all(&hello[*at - 1..*at]).is_ok()
            });
            self.done(open.len() as u64);
            pass(Duration::from_millis(20));
        }
    }

    /// As many first messages as possible, whose answers nobody reads to the end.
    fn storm(&self) -> Outcome {
        let hello = self.hello()?;
        loop {
            let mut tcp = TcpStream::connect(self.address)?;
            tcp.write_all(&hello)?;
            let _ = tcp.read(&mut [0])?;
            self.done(1);
        }
    }

    /// Streams that are taken back as soon as they are begun.
    fn reset(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(METHOD, &[]);
        let mut stream = 1;
        loop {
            let mut burst = Vec::new();
            for _ in 0..BURST {
                burst.extend(frame(HEADERS, END_HEADERS, stream, &headers));
                burst.extend(frame(RST_STREAM, 0, stream, &CANCEL));
                stream += 2;
            }
            raw.write(&burst)?;
            self.done(BURST.into());
        }
    }

    /// Messages that are a thousand times as large when they are unpacked.
    fn bomb(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(METHOD, &[("grpc-encoding", "gzip")]);
        let mut stream = 1;
        loop {
            let begin = frame(HEADERS, END_HEADERS, stream, &headers);
            raw.write(&[begin, message(stream, true, &self.bomb)].concat())?;
            raw.finish(stream)?;
            self.done(1);
            stream += 2;
        }
    }

    /// Streams that are begun and left open.
    fn streams(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(METHOD, &[]);
        for stream in 0..STREAMS {
            raw.write(&frame(HEADERS, END_HEADERS, 1 + 2 * stream, &headers))?;
            self.done(1);
        }
        raw.finish(1)
    }

    /// The highest even number first, and then streams below it.
    fn even(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(METHOD, &[]);
        raw.write(&frame(HEADERS, END_HEADERS, 0x7fff_fffe, &headers))?;
        for stream in 0..STREAMS {
            raw.write(&frame(HEADERS, END_HEADERS, 1 + 2 * stream, &headers))?;
            self.done(1);
        }
        raw.finish(1)
    }

    /// Calls that each wait for a change that does not come.
    fn watch(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(WATCH, &[]);
        for stream in (1..).step_by(2).take(OPEN as usize) {
            let begin = frame(HEADERS, END_HEADERS, stream, &headers);
            raw.write(&[begin, message(stream, false, &[])].concat())?;
            self.done(1);
        }
        raw.idle(KEPT)
    }

    /// Logins of users who are not there, each under another name.
    fn guess(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        for stream in (1..).step_by(2) {
            let name = format!("{}-{}", std::process::id(), self.count.load(Ordering::Relaxed));
            let login = format!("Basic {}", base64(format!("{name}:of nobody").as_bytes()));
            let headers = call(LIST, &[("authorization", &login)]);
            let begin = frame(HEADERS, END_HEADERS, stream, &headers);
            raw.write(&[begin, message(stream, false, &[])].concat())?;
            raw.finish(stream)?;
            self.done(1);
        }
        Ok(())
    }

    /// As much of large requests as the gateway has room for, and the end of none.
    fn half(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(START, &[]);
        let streams: Vec<u32> = (1..).step_by(2).take(OPEN as usize).collect();
        for &stream in &streams {
            raw.write(&frame(HEADERS, END_HEADERS, stream, &headers))?;
        }
        // What is left of it is less than a piece, and never comes.
        for piece in whole(false, &vec![0; HALF]).chunks_exact(PIECE) {
            for &stream in &streams {
                raw.send(stream, piece)?;
                self.done(piece.len() as u64);
            }
        }
        raw.idle(KEPT)
    }

    /// Calls with large answers that find no room at our end, by somebody who may ask.
    fn unread(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(LIST, &[("authorization", &login(OTHER))]);
        for stream in (1..).step_by(2).take(OPEN as usize) {
            let begin = frame(HEADERS, END_HEADERS, stream, &headers);
            raw.write(&[begin, message(stream, false, &targets("*"))].concat())?;
            self.done(1);
        }
        raw.idle(UNREAD)
    }

    /// Requests that take time to understand, from somebody who may not ask.
    fn large(&self) -> Outcome {
        let mut raw = Raw::connect(self.address, &self.tls)?;
        let headers = call(START, &[]);
        // Fields of two bytes that nobody knows.
        let request = [0x78, 1].repeat(LARGE / 2);
        for stream in (1..).step_by(2) {
            raw.write(&frame(HEADERS, END_HEADERS, stream, &headers))?;
            whole(false, &request).chunks(PIECE).try_for_each(|piece| raw.send(stream, piece))?;
            raw.write(&frame(DATA, END_STREAM, stream, &[]))?;
            raw.finish(stream)?;
            self.done(1);
        }
        Ok(())
    }
}
