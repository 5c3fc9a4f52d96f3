//! Output into files with rotation: how fast a program can write to them through the service, by the
//! program's own clock; what that takes of the processors; how fast lines are found in old files again; and
//! what it costs when nothing is written.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use provost::Spec;
use provost::wire::log::Log;
use provost::wire::request::Wait;

use crate::host;
use crate::ours::Provost;
use crate::output::{LIMIT, args, log, rate};
use crate::programs::Reports;
use crate::rivals::Kind;
use crate::sample::{Outcome, Samples, pass, shell, until};
use crate::table::{Goal, Table};

const ROUNDS: u32 = 5;
/// What is written in one go, bytes.
const TOTAL: u64 = 256 << 20;
const BLOCKS: [usize; 2] = [64 << 10, 4 << 10];
const RIVALS: [(Kind, &str); 2] = [(Kind::S6, "s6-log n3 s16777215"), (Kind::Runit, "svlogd")];
/// What is looked through, bytes.
const SEARCHED: u64 = 1 << 30;
const SEARCHES: u32 = 3;
/// A file of that.
const SEGMENT: u64 = 16 << 20;
/// How long nothing is written, and how long before that.
const IDLE: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(8);

pub fn measure(ours: &mut Provost, dir: &Path, table: &mut Table) -> Outcome {
    let reports = Reports::new(dir, "logs.sock")?;
    for block_len in BLOCKS {
        let (mut kept, mut bare, mut taken) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            bare.push(file(&reports, dir, block_len)?);
            let (rate, seconds) = service(ours, &reports, dir, block_len)?;
            kept.push(rate);
            taken.push(seconds);
        }
        let mut row = table.row(format!("log files in blocks of {} KiB", block_len >> 10), "MB/s");
        row = row.ours(kept.median()).bare(bare.median());
        for (kind, logger) in RIVALS {
            row = row.rival(kind, log(logger, &reports, dir, block_len));
        }
        row.goal(Goal::BestRivalShare(3.0)).done();
        let what = format!("... its processor time, blocks of {} KiB", block_len >> 10);
        let mut row = table.row(what, "s/GB").ours(taken.median());
        for (kind, logger) in RIVALS {
            row = row.rival(kind, processor_time(logger, &reports, dir, block_len));
        }
        row.done();
    }
    idle(ours, dir, table)?;
    search(ours, &reports, dir, table)
}

/// A process with a log that says nothing.
fn idle(ours: &mut Provost, dir: &Path, table: &mut Table) -> Outcome {
    let file = dir.join("idle.log");
    let mut spec = Spec::new(["sh", "-c", "echo one; exec sleep 1000"]);
    spec.log = Arc::new(Log { file: file.to_str().map(ToOwned::to_owned), ..Log::default() });
    let id = ours.start_one(spec)?.id.to_string();
    until("it has its line", LIMIT, || fs::metadata(&file).is_ok_and(|meta| meta.len() > 0))?;
    let pids = ours.pids()?;
    pass(SETTLE);
    let before = host::wakeups(&pids);
    pass(IDLE);
    let woken = (host::wakeups(&pids) - before) as f64 / IDLE.as_secs_f64();
    table.row("wake-ups, a log without news", "1/s").ours(Some(woken)).goal(Goal::Value(0.0)).done();
    ours.remove(&id)
}

/// A few lines in old files that are compressed.
fn search(ours: &mut Provost, reports: &Reports, dir: &Path, table: &mut Table) -> Outcome {
    let files = dir.join("log-searched");
    fs::create_dir(&files)?;
    let file = files.join("log").to_str().ok_or("the path is not text")?.to_owned();
    let write = args(reports, 64 << 10, SEARCHED)?.join(" ");
    let mut spec = Spec::new(["sh", "-c", &format!("{write}; echo 'the needle'")]);
    spec.name = Some("searched".parse()?);
    let log = Log { file: Some(file), size: Some(SEGMENT), keep: 1000, gzip: true, ..Log::default() };
    spec.log = Arc::new(log);
    ours.start_one(spec)?;
    let name = || "searched".to_owned();
    ours.client.wait(Wait { targets: vec![name()], timeout: Some(LIMIT), ..Wait::default() })?;
    let is_zipped = || {
        let names = fs::read_dir(&files).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let plain = names.filter(|name| !name.to_string_lossy().ends_with(".gz"));
        plain.count() == 1
    };
    until("old files are compressed", 4 * LIMIT, is_zipped)?;
    let (mut found, mut bare) = (Samples::default(), Samples::default());
    let line = ours.line("logs searched --since 1h --grep needle");
    for _ in 0..SEARCHES {
        found.time(|| shell(&format!("{line} | grep -q needle")))?;
        bare.time(|| shell(&format!("zgrep -h needle {}/* | grep -q needle", files.display())))?;
    }
    let what = format!("logs --since --grep, {} GB of old files", SEARCHED >> 30);
    table.row(what, "ms").ours(found.median()).bare(bare.median()).goal(Goal::BareTimes(1.0)).done();
    ours.remove("searched")?;
    Ok(fs::remove_dir_all(files)?)
}

/// What a rival's logger takes for a gigabyte, in seconds; none where it is not installed.
fn processor_time(logger: &str, reports: &Reports, dir: &Path, block_len: usize) -> Option<f64> {
    let files = dir.join(format!("time-{}-{block_len}", &logger[..2]));
    fs::create_dir(&files).ok()?;
    let (time, write) = (files.join("time"), args(reports, block_len, TOTAL).ok()?.join(" "));
    let timed = format!("TIMEFORMAT=\"%U %S\"; time {logger} {} 2>&3", files.display());
    shell(&format!("{write} | bash -c '{timed}' 3>/dev/null 2>{}", time.display())).ok()?;
    let rate = rate(reports, TOTAL).ok();
    let text = fs::read_to_string(time).ok()?;
    fs::remove_dir_all(files).ok()?;
    let seconds: f64 = text.split_whitespace().filter_map(|part| part.parse::<f64>().ok()).sum();
    rate.map(|_| seconds * 1e9 / TOTAL as f64)
}

/// Straight into a file.
fn file(reports: &Reports, dir: &Path, block_len: usize) -> Outcome<f64> {
    let file = dir.join("bare.log");
    shell(&format!("{} > {}", args(reports, block_len, TOTAL)?.join(" "), file.display()))?;
    fs::remove_file(file)?;
    rate(reports, TOTAL)
}

/// Through the service: the rate, and what keeper and engine have taken for a gigabyte, in seconds.
fn service(ours: &mut Provost, reports: &Reports, dir: &Path, block_len: usize) -> Outcome<(f64, f64)> {
    let files = dir.join("log-ours");
    fs::create_dir(&files)?;
    let mut spec = Spec::new(args(reports, block_len, TOTAL)?);
    let file = files.join("log").to_str().ok_or("the path is not text")?.to_owned();
    spec.log = Arc::new(Log { file: Some(file), size: Some(16 << 20), keep: 3, ..Log::default() });
    let pids = ours.pids()?;
    let taken_ms = || pids.iter().map(|&pid| host::processor_ms(pid)).sum::<u64>();
    let before_ms = taken_ms();
    let id = ours.start_one(spec)?.id.to_string();
    let rate = rate(reports, TOTAL)?;
    ours.client.wait(Wait { targets: vec![id.clone()], timeout: Some(LIMIT), ..Wait::default() })?;
    ours.remove(&id)?;
    let seconds = (taken_ms() - before_ms) as f64 / 1e3;
    fs::remove_dir_all(files)?;
    Ok((rate, seconds * 1e9 / TOTAL as f64))
}
