//! Calls and streams: how long, how many, how fast, in turn with the bare server's.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use provost::Client;
use provost::Spec;
use provost::wire::request::Wait;

use crate::grpc::cipher;
use crate::grpc::client::{CHECK, Caller, STATUS, STREAM, stream_of, targets};
use crate::grpc::server::{ECHO, Echo, FLOW, want};
use crate::grpc::site::{self, Site, text};
use crate::host;
use crate::ours::only;
use crate::programs::{Reports, our_path};
use crate::sample::{Outcome, Samples};
use crate::sweep::MARK;
use crate::table::{Goal, Table};

/// The process whose status is asked for.
const TARGET: &str = "s-1";
/// Calls one after the other: rounds, and calls of each kind in a round.
const ROUNDS: u32 = 30;
const ROW: u32 = 100;
/// Calls for a rate: rounds, and calls of each kind in a round.
const RATE_ROUNDS: u32 = 7;
const RATE_CALLS: u32 = 3200;
/// Streams, and the bytes of each: as much as the service keeps of a process at most.
const STREAM_ROUNDS: u32 = 7;
const KEPT: u64 = 64 << 20;
/// What is written while it is streamed, bytes.
const FLOOD: u64 = 512 << 20;
const BLOCK: usize = 64 << 10;
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes of the gateway's answer to a health check.
const CHECKED_LEN: u64 = 2;

pub fn measure(site: &mut Site, dir: &Path, table: &mut Table) -> Outcome {
    let echo = Echo::serve(dir)?;
    let bare = Caller::plain(echo.address);
    let ours = site.caller(site.address)?;
    let question = targets(TARGET);
    let answer_len = ours.call(&STATUS, &question)?.len() as u64;
    let ends = Ends { bare: &bare, ours: &ours, bare_pid: echo.pid(), question, answer_len };
    latencies(&ends, &mut Client::connect_to(&site.address()?)?, table)?;
    rates(&ends, table)?;
    let reports = Reports::new(dir, "stream.sock")?;
    python(site, &echo, &reports, dir, table)?;
    streams(site, &ends, &reports, table)?;
    echo.end()
}

/// What is made of samples.
type Figure = fn(&Samples) -> Option<f64>;

/// Who is called, and what is asked for.
struct Ends<'a> {
    bare: &'a Caller,
    ours: &'a Caller,
    bare_pid: u32,
    question: Vec<u8>,
    /// The status that comes back: the bare server answers with as many bytes.
    answer_len: u64,
}

fn latencies(ends: &Ends<'_>, library: &mut Client, table: &mut Table) -> Outcome {
    let [mut bare_check, mut bare_status, mut check, mut status, mut typed] =
        [(); 5].map(|()| Samples::default());
    let (checked, wanted, nothing) = (want(CHECKED_LEN), want(ends.answer_len), Vec::new());
    for _ in 0..ROUNDS {
        repeat(&mut bare_check, || ends.bare.call(&ECHO, &checked))?;
        repeat(&mut check, || ends.ours.call(&CHECK, &nothing))?;
        repeat(&mut bare_status, || ends.bare.call(&ECHO, &wanted))?;
        repeat(&mut status, || ends.ours.call(&STATUS, &ends.question))?;
        repeat(&mut typed, || only(library.status(vec![TARGET.to_owned()])?))?;
    }
    let rows = [
        ("health check", &check, &bare_check, Some(Goal::BareTimes(1.5))),
        ("status of one process", &status, &bare_status, Some(Goal::BareTimes(2.0))),
        ("the same, by our library", &typed, &bare_status, None),
    ];
    let kinds: [(&str, Figure); 2] = [("", Samples::median), (", 99th percentile", Samples::p99)];
    for (what, ours, bare, goal) in rows {
        for (kind, figure) in kinds {
            let micros = |samples| figure(samples).map(|ms| ms * 1e3);
            let row = table.row(format!("{what}{kind}"), "us").ours(micros(ours)).bare(micros(bare));
            match goal {
                Some(goal) if kind.is_empty() => row.goal(goal).done(),
                _ => row.done(),
            }
        }
    }
    Ok(())
}

fn repeat<T>(samples: &mut Samples, mut call: impl FnMut() -> Outcome<T>) -> Outcome {
    (0..ROW).try_for_each(|_| samples.time(&mut call).map(drop))
}

fn rates(ends: &Ends<'_>, table: &mut Table) -> Outcome {
    let (checked, wanted) = (want(CHECKED_LEN), want(ends.answer_len));
    for under_way in [1, 16] {
        let [mut bare_check, mut bare_status, mut check, mut status] = [(); 4].map(|()| Samples::default());
        for _ in 0..RATE_ROUNDS {
            bare_check.push(ends.bare.rate(&ECHO, &checked, under_way, RATE_CALLS)?);
            check.push(ends.ours.rate(&CHECK, &[], under_way, RATE_CALLS)?);
            bare_status.push(ends.bare.rate(&ECHO, &wanted, under_way, RATE_CALLS)?);
            status.push(ends.ours.rate(&STATUS, &ends.question, under_way, RATE_CALLS)?);
        }
        for (what, ours, bare) in
            [("health checks", &check, &bare_check), ("statuses", &status, &bare_status)]
        {
            let row = table.row(format!("{what}, {under_way} under way"), "1/s");
            row.ours(ours.median()).bare(bare.median()).done();
        }
    }
    Ok(())
}

/// The same calls by grpcio of Python, where `tests/install.sh` has put it.
fn python(site: &mut Site, echo: &Echo, reports: &Reports, dir: &Path, table: &mut Table) -> Outcome {
    let Some(python) = site::python() else { return Ok(()) };
    let script = dir.join("client.py");
    fs::write(&script, include_str!("client.py"))?;
    let id = kept(site, reports)?;
    let output = Command::new(python)
        .arg(script)
        .args([&echo.address.to_string(), &site.address.to_string(), text(&site.certificates)?])
        .args([&site::login(site::USER), &id])
        .args([ROUNDS, ROW, STREAM_ROUNDS].map(|n| n.to_string()))
        .arg(KEPT.to_string())
        .env(MARK, dir)
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    let figures: Option<Vec<f64>> = printed.split_whitespace().map(|name| name.parse().ok()).collect();
    let Some([bare, ours, bare_stream, stream]) = figures.as_deref() else {
        return Err(format!("the client in Python: {}", String::from_utf8_lossy(&output.stderr)).into());
    };
    table.row("health check, by Python's grpcio", "us").ours(Some(*ours)).bare(Some(*bare)).done();
    let row =
        table.row("output kept, by Python's grpcio", "MB/s").ours(Some(*stream)).bare(Some(*bare_stream));
    row.done();
    site.service.remove(&id)
}

/// What a process has written, to a client: after it has ended, and while it writes as fast as it can.
fn streams(site: &mut Site, ends: &Ends<'_>, reports: &Reports, table: &mut Table) -> Outcome {
    let [mut bare, mut kept, mut flood, mut writer, mut delivered] = [(); 5].map(|()| Samples::default());
    // The client of both is this program.
    let us = std::process::id();
    let engine = site.service.client.service()?.engine_pid;
    let theirs = [us, ends.bare_pid];
    let all = [us, engine, site.pid()?];
    let (mut bare_cost, mut cost) = (Cost::default(), Cost::default());
    for _ in 0..STREAM_ROUNDS {
        let received = bare_cost.of(&theirs, || ends.bare.receive(&FLOW, &want(KEPT)))?;
        bare.push(megabytes_per_second(received));

        let id = self::kept(site, reports)?;
        let received = cost.of(&all, || ends.ours.receive(&STREAM, &stream_of(&id)))?;
        if received.0 < KEPT * 9 / 10 {
            return Err(format!("{} bytes came of {KEPT} that are kept", received.0).into());
        }
        kept.push(megabytes_per_second(received));
        site.service.remove(&id)?;

        let id = site.service.start_one(spec(reports, FLOOD)?)?.id.to_string();
        let received = ends.ours.receive(&STREAM, &stream_of(&id))?;
        writer.push(FLOOD as f64 * 1e3 / reports.next("write", LIMIT)? as f64);
        flood.push(megabytes_per_second(received));
        delivered.push(received.0 as f64 * 100.0 / FLOOD as f64);
        rest(site, &id)?;
        site.service.remove(&id)?;
    }
    let row = table.row("output kept, 64 MiB, to a client", "MB/s").ours(kept.median()).bare(bare.median());
    row.done();
    let (bare_cost, cipher) = (bare_cost.per_gigabyte(), cipher::cost()?);
    table.row("... AES-GCM of it, both ends", "ms/GB").ours(Some(cipher)).done();
    let row = table.row("... processor time of all processes", "ms/GB");
    let goal = Goal::Value(2.0 * bare_cost + cipher);
    row.ours(Some(cost.per_gigabyte())).bare(Some(bare_cost)).goal(goal).done();
    let row =
        table.row("output of a flood, as much as comes", "MB/s").ours(flood.median()).bare(bare.median());
    row.done();
    table.row("... delivered, the rest are gaps", "%").ours(delivered.median()).done();
    table.row("... written meanwhile", "MB/s").ours(writer.median()).done();
    Ok(())
}

/// A process that has ended, and whose output is kept.
fn kept(site: &mut Site, reports: &Reports) -> Outcome<String> {
    let mut spec = spec(reports, KEPT)?;
    spec.output_bytes = KEPT;
    let id = site.service.start_one(spec)?.id.to_string();
    reports.next("write", LIMIT)?;
    rest(site, &id)?;
    Ok(id)
}

fn spec(reports: &Reports, total: u64) -> Outcome<Spec> {
    let args = [&our_path()?, "write", reports.path()?, &BLOCK.to_string(), &total.to_string()];
    Ok(Spec::new(args.map(str::to_owned)))
}

fn rest(site: &mut Site, id: &str) -> Outcome {
    let targets = vec![id.to_owned()];
    site.service.client.wait(Wait { targets, timeout: Some(LIMIT), ..Wait::default() })?;
    Ok(())
}

/// What bytes have cost of the processors.
#[derive(Default)]
struct Cost {
    processor_ms: u64,
    bytes: u64,
}

impl Cost {
    /// Takes in what these processes take to receive it.
    fn of(
        &mut self,
        pids: &[u32],
        receive: impl FnOnce() -> Outcome<(u64, Duration)>,
    ) -> Outcome<(u64, Duration)> {
        let time = || pids.iter().map(|&pid| host::processor_ms(pid)).sum::<u64>();
        let before = time();
        let received = receive()?;
        self.processor_ms += time().saturating_sub(before);
        self.bytes += received.0;
        Ok(received)
    }

    fn per_gigabyte(&self) -> f64 {
        self.processor_ms as f64 * 1e9 / self.bytes as f64
    }
}

fn megabytes_per_second((bytes, took): (u64, Duration)) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
