//! What it costs that things are kept: starts with and without the database, events into it and out of it to
//! the sinks, and a service that begins with a million of them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use provost::Client;
use provost::Spec;
use provost::engine::store::{Change, Sqlite};
use provost::wire::event::{Event, EventKind};
use provost::wire::id::ProcessId;
use provost::wire::process::{End, Exit};
use provost::wire::time::Timestamp;

use crate::ours::{Provost, start_one};
use crate::rivals::SERVICE;
use crate::sample::{Outcome, Samples, until};
use crate::table::Table;

/// Starts that one client asks for, one after the other.
const SINGLE: u32 = 100;
/// Clients that ask at the same time, how often each of them does, and how often all of that is done.
const CLIENTS: u32 = 8;
const EACH: u32 = 50;
const ROUNDS: u32 = 3;
/// Events that the service has when it begins.
const MANY: u64 = 1_000_000;
/// Events for each sink.
const FOR_SINKS: u64 = 200_000;
/// As many as the engine puts into one transaction.
const BATCH: u64 = 2000;
/// How long a sink may take for all of them.
const SINK_LIMIT: Duration = Duration::from_secs(180);

pub fn measure(dir: &Path, table: &mut Table) -> Outcome {
    starts(dir, table)?;
    let (full, empty) = (directory(dir, "full")?, directory(dir, "empty")?);
    let took = fill(&state(&full), MANY)?;
    let bytes = fs::metadata(state(&full).join("provost.db"))?.len();
    table.row("events into the database", "1/s").ours(Some(per_second(MANY, took))).done();
    table.row("size of a stored event", "bytes").ours(Some(bytes as f64 / MANY as f64)).done();
    let (mut with, mut without) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        for (place, events, samples) in [(&full, MANY, &mut with), (&empty, 0, &mut without)] {
            let mut service = samples.time(|| Provost::serve(place))?;
            let stored = service.client.health()?.store.events;
            if stored < events {
                return Err(format!("{stored} events are stored, not {events}").into());
            }
            service.end()?;
        }
    }
    let row = table.row(format!("service begins, {MANY} events; none"), "ms");
    row.ours(with.median()).bare(without.median()).done();

    let lines = dir.join("events.jsonl");
    let jsonl = format!("kind = \"jsonl\"\npath = \"{}\"\nmax_size = \"1 GiB\"\n", lines.display());
    let took = deliver(&directory(dir, "jsonl")?, &jsonl)?;
    table.row("events into a file of lines", "1/s").ours(Some(per_second(FOR_SINKS, took))).done();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let search = format!("kind = \"opensearch\"\nurl = \"http://{}\"\n", listener.local_addr()?);
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer(&stream))));
    let took = deliver(&directory(dir, "search")?, &search)?;
    table.row("events into OpenSearch", "1/s").ours(Some(per_second(FOR_SINKS, took))).done();
    Ok(())
}

/// With the database, and without: one client after the other in turn, then all at once.
fn starts(dir: &Path, table: &mut Table) -> Outcome {
    let mut kept = Provost::serve(&directory(dir, "kept")?)?;
    let mut bare = Provost::serve_with(&directory(dir, "bare")?, &["--state", "none"])?;
    let (mut one, mut all) =
        ([Samples::default(), Samples::default()], [Samples::default(), Samples::default()]);
    for _ in 0..SINGLE {
        for (service, samples) in [&mut kept, &mut bare].into_iter().zip(&mut one) {
            let process = samples.time(|| service.start_one(Spec::new(SERVICE)))?;
            service.remove(&process.id.to_string())?;
        }
    }
    for _ in 0..ROUNDS {
        for (service, samples) in [&mut kept, &mut bare].into_iter().zip(&mut all) {
            samples.time(|| start_at_once(service))?;
            service.remove("*")?;
        }
    }
    let [one_kept, one_bare] = one.map(|samples| samples.median());
    table.row("acknowledged start; nothing kept", "ms").ours(one_kept).bare(one_bare).done();
    let rate = |samples: &Samples| samples.median().map(|ms| f64::from(CLIENTS * EACH) * 1e3 / ms);
    let row = table.row(format!("acknowledged starts, {CLIENTS} clients"), "1/s");
    row.ours(rate(&all[0])).bare(rate(&all[1])).done();
    kept.end()?;
    bare.end()
}

fn start_at_once(service: &Provost) -> Outcome {
    let clients = (0..CLIENTS).map(|_| service.connect()).collect::<Result<Vec<Client>, _>>()?;
    let ask = |client: &mut Client| -> Result<(), String> {
        (0..EACH).try_for_each(|_| start_one(client, Spec::new(SERVICE)).map(drop).map_err(|e| e.to_string()))
    };
    thread::scope(|scope| {
        let asked: Vec<_> =
            clients.into_iter().map(|mut client| scope.spawn(move || ask(&mut client))).collect();
        asked.into_iter().try_for_each(|a| a.join().map_err(|_| "a client panicked".to_owned())?)
    })?;
    Ok(())
}

/// Time for all events of a database to come to a sink that is new, while the service does nothing else.
fn deliver(dir: &Path, sink: &str) -> Outcome<Duration> {
    fill(&state(dir), FOR_SINKS)?;
    let config = dir.join("provost.toml");
    fs::write(&config, format!("[[sink]]\n{sink}"))?;
    let begin = Instant::now();
    let mut service =
        Provost::serve_with(dir, &["--config", config.to_str().ok_or("the path is not text")?])?;
    let mut failure = None;
    until("the sink has everything", SINK_LIMIT, || match service.client.health() {
        Ok(health) => {
            health.sinks.iter().all(|s| s.delivered >= FOR_SINKS && s.missed == 0 && s.rejected == 0)
        }
        Err(e) => {
            failure = Some(e.message);
            true
        }
    })?;
    let took = begin.elapsed();
    service.end()?;
    failure.map_or(Ok(took), |e| Err(e.into()))
}

/// Puts events into the database there, as the engine does it, and returns how long that takes.
fn fill(dir: &Path, count: u64) -> Outcome<Duration> {
    let mut store = Sqlite::open(dir).map_err(|e| e.message)?;
    store.load().map_err(|e| e.message)?;
    let ids: Vec<ProcessId> = (0..50).map(|_| ProcessId::new()).collect();
    let mut took = Duration::ZERO;
    for first in (1..=count).step_by(BATCH as usize) {
        let events: Vec<Event> =
            (first..(first + BATCH).min(count + 1)).map(|seq| event(seq, &ids)).collect();
        let begin = Instant::now();
        store.write(&Change { events: &events, ..Change::default() }).map_err(|e| e.message)?;
        took += begin.elapsed();
    }
    Ok(took)
}

/// A process that runs and fails again and again, one of fifty.
fn event(seq: u64, ids: &[ProcessId]) -> Event {
    let (n, run) = (seq as usize % ids.len(), 1 + seq / 100);
    let exit = Exit {
        end: End::Code(1),
        core: false,
        oom: false,
        ran: Duration::from_millis(1500),
        user: Duration::from_millis(20),
        system: Duration::from_millis(10),
        max_rss_kib: 8000,
    };
    let (kind, exit) =
        if seq.is_multiple_of(2) { (EventKind::Exited, Some(exit)) } else { (EventKind::Started, None) };
    Event {
        seq,
        at: Timestamp::now(),
        mono_ms: seq,
        id: Some(ids[n]),
        name: format!("service-{n}"),
        run,
        pid: Some(1000 + n as u32),
        kind,
        cause: "restart policy".to_owned(),
        exit,
        detail: String::new(),
    }
}

/// Plays OpenSearch: takes every document in and forgets it.
fn answer(stream: &TcpStream) -> Outcome {
    stream.set_nodelay(true)?;
    let (mut from, mut to) = (BufReader::new(stream), stream);
    loop {
        let mut len = 0;
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                len = value.trim().parse()?;
            }
        }
        let mut body = vec![0; len];
        from.read_exact(&mut body)?;
        let documents = body.iter().filter(|&&b| b == b'\n').count() / 2;
        let items = vec![r#"{"index":{"status":201}}"#; documents].join(",");
        let body = format!(r#"{{"took":1,"errors":false,"items":[{items}]}}"#);
        write!(
            to,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Where [`Provost::serve`] keeps what it keeps.
fn state(dir: &Path) -> PathBuf {
    dir.join("engine.sock.state")
}

fn directory(dir: &Path, name: &str) -> Outcome<PathBuf> {
    let path = dir.join(name);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}
