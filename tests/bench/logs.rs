//! Output into files with rotation: how fast a program can write to them through the service, by the
//! program's own clock.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use provost::Spec;
use provost::wire::log::Log;
use provost::wire::request::Wait;

use crate::ours::Provost;
use crate::output::{LIMIT, args, log, rate};
use crate::programs::Reports;
use crate::rivals::Kind;
use crate::sample::{Outcome, Samples, shell};
use crate::table::Table;

const ROUNDS: u32 = 5;
/// What is written in one go, bytes.
const TOTAL: u64 = 256 << 20;
const BLOCKS: [usize; 2] = [64 << 10, 4 << 10];

pub fn measure(ours: &mut Provost, dir: &Path, table: &mut Table) -> Outcome {
    let reports = Reports::new(dir, "logs.sock")?;
    for block_len in BLOCKS {
        let (mut kept, mut bare) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            bare.push(file(&reports, dir, block_len)?);
            kept.push(service(ours, &reports, dir, block_len)?);
        }
        let mut row = table.row(format!("log files in blocks of {} KiB", block_len >> 10), "MB/s");
        row = row.ours(kept.median()).bare(bare.median());
        for (kind, logger) in [(Kind::S6, "s6-log n3 s16777215"), (Kind::Runit, "svlogd")] {
            row = row.rival(kind, log(logger, &reports, dir, block_len));
        }
        row.done();
    }
    Ok(())
}

/// Straight into a file.
fn file(reports: &Reports, dir: &Path, block_len: usize) -> Outcome<f64> {
    let file = dir.join("bare.log");
    shell(&format!("{} > {}", args(reports, block_len, TOTAL)?.join(" "), file.display()))?;
    fs::remove_file(file)?;
    rate(reports, TOTAL)
}

fn service(ours: &mut Provost, reports: &Reports, dir: &Path, block_len: usize) -> Outcome<f64> {
    let files = dir.join("log-ours");
    fs::create_dir(&files)?;
    let mut spec = Spec::new(args(reports, block_len, TOTAL)?);
    let file = files.join("log").to_str().ok_or("the path is not text")?.to_owned();
    spec.log = Arc::new(Log { file: Some(file), size: Some(16 << 20), keep: 3, ..Log::default() });
    let id = ours.start_one(spec)?.id.to_string();
    let rate = rate(reports, TOTAL)?;
    ours.client.wait(Wait { targets: vec![id.clone()], timeout: Some(LIMIT), ..Wait::default() })?;
    ours.remove(&id)?;
    fs::remove_dir_all(files)?;
    Ok(rate)
}
