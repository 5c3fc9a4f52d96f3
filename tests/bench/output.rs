//! Taking output in: how fast a program can write to its standard output, by the program's own clock.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use provost::Spec;
use provost::wire::request::Wait;

use crate::ours::Provost;
use crate::programs::{Reports, our_path};
use crate::rivals::Kind;
use crate::sample::{Outcome, Samples, pass, shell};
use crate::sweep::MARK;
use crate::table::{Goal, Table};

const ROUNDS: u32 = 11;
/// Sizes of a single write, with what is to be reached of the bare pipe.
const BLOCKS: [(usize, Option<Goal>); 2] = [(64 << 10, Some(Goal::BareShare(0.75))), (4 << 10, None)];
/// What is written in one go, bytes.
const TOTAL: u64 = 256 << 20;
/// What is written to a rival's logger, which takes longer, bytes.
const TOTAL_SLOW: u64 = 64 << 20;
const ROUNDS_SLOW: u32 = 3;
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(ours: &mut Provost, dir: &Path, table: &mut Table) -> Outcome {
    let reports = Reports::new(dir, "output.sock")?;
    for (block_len, goal) in BLOCKS {
        let (mut kept, mut bare) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            bare.push(pipe(&reports, dir, block_len)?);
            kept.push(service(ours, &reports, block_len)?);
        }
        let mut row = table.row(format!("output in blocks of {} KiB", block_len >> 10), "MB/s");
        row = row.ours(kept.median()).bare(bare.median());
        for (kind, logger) in [(Kind::S6, "s6-log n3 s16777215"), (Kind::Runit, "svlogd")] {
            row = row.rival(kind, log(logger, &reports, dir, block_len));
        }
        match goal {
            Some(goal) => row.goal(goal).done(),
            None => row.done(),
        }
    }
    Ok(())
}

pub fn args(reports: &Reports, block_len: usize, total: u64) -> Outcome<Vec<String>> {
    Ok([&our_path()?, "write", reports.path()?, &block_len.to_string(), &total.to_string()]
        .map(str::to_owned)
        .into())
}

/// Megabytes per second, from the writer's report.
pub fn rate(reports: &Reports, total: u64) -> Outcome<f64> {
    let nanoseconds = reports.next("write", LIMIT)?;
    Ok(total as f64 * 1e3 / nanoseconds as f64)
}

/// A reader that does nothing with what it reads, at the other end of a pipe as it comes.
fn pipe(reports: &Reports, dir: &Path, block_len: usize) -> Outcome<f64> {
    let args = args(reports, block_len, TOTAL)?;
    let mut command = Command::new(&args[0]);
    let mut child =
        command.args(&args[1..]).env(MARK, dir).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut pipe = child.stdout.take().ok_or("it has a pipe")?;
    let mut buffer = vec![0; 64 << 10];
    while pipe.read(&mut buffer)? > 0 {}
    child.wait()?;
    rate(reports, TOTAL)
}

fn service(ours: &mut Provost, reports: &Reports, block_len: usize) -> Outcome<f64> {
    let process = ours.start_one(Spec::new(args(reports, block_len, TOTAL)?))?;
    let id = process.id.to_string();
    let rate = rate(reports, TOTAL)?;
    ours.client.wait(Wait { targets: vec![id.clone()], timeout: Some(LIMIT), ..Wait::default() })?;
    ours.remove(&id)?;
    Ok(rate)
}

/// Through a rival's logger, into files with rotation, as it is used; none where it is not installed.
pub fn log(logger: &str, reports: &Reports, dir: &Path, block_len: usize) -> Option<f64> {
    let mut samples = Samples::default();
    for round in 0..ROUNDS_SLOW {
        let files = dir.join(format!("log-{}-{block_len}-{round}", &logger[..2]));
        fs::create_dir(&files).ok()?;
        let args = args(reports, block_len, TOTAL_SLOW).ok()?.join(" ");
        shell(&format!("{args} | {logger} {}", files.display())).ok()?;
        samples.push(rate(reports, TOTAL_SLOW).ok()?);
        fs::remove_dir_all(files).ok()?;
        pass(Duration::from_millis(10));
    }
    samples.median()
}
