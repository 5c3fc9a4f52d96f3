//! Doing nothing: memory, threads and wake-ups while all services only sleep.

use std::time::Duration;

use crate::SERVICES;
use crate::host;
use crate::ours::Provost;
use crate::rivals::Rival;
use crate::sample::{Outcome, pass};
use crate::table::{Goal, Table};

/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(10);
/// After so much: the service gives back what it took within 6 s, and connections close.
pub const SETTLE: Duration = Duration::from_secs(8);

pub fn measure(ours: &mut Provost, rivals: &[Rival], table: &mut Table) -> Outcome {
    let ours = ours.pids()?;
    let theirs: Vec<_> = rivals.iter().map(|rival| (rival.kind, rival.pids_of_manager())).collect();
    pass(SETTLE);
    let count = || -> Vec<u64> {
        [&ours]
            .into_iter()
            .chain(theirs.iter().map(|(_, pids)| pids))
            .map(|pids| host::wakeups(pids))
            .collect()
    };
    let before = count();
    pass(IDLE);
    let per_second: Vec<f64> = count()
        .iter()
        .zip(&before)
        .map(|(after, before)| (after - before) as f64 / IDLE.as_secs_f64())
        .collect();

    let mut row = table.row(format!("wake-ups, {SERVICES} processes idle"), "1/s");
    row = row.ours(per_second.first().copied()).goal(Goal::Value(0.0));
    for ((kind, _), value) in theirs.iter().zip(&per_second[1..]) {
        row = row.rival(*kind, Some(*value));
    }
    row.done();

    let usage = host::usage(&ours);
    let theirs: Vec<_> = theirs.iter().map(|(kind, pids)| (*kind, host::usage(pids))).collect();
    let mut row = table.row(format!("memory (PSS), {SERVICES} processes"), "MiB");
    row = row.ours(Some(usage.pss_mib)).goal(Goal::Value(12.0));
    for (kind, usage) in &theirs {
        row = row.rival(*kind, Some(usage.pss_mib));
    }
    row.done();
    let mut row =
        table.row(format!("processes of its own, {SERVICES} processes"), "").ours(Some(ours.len() as f64));
    for (kind, usage) in &theirs {
        row = row.rival(*kind, Some(usage.processes as f64));
    }
    row.done();
    let mut row = table.row(format!("threads, {SERVICES} processes"), "").ours(Some(usage.threads as f64));
    for (kind, usage) in &theirs {
        row = row.rival(*kind, Some(usage.threads as f64));
    }
    row.done();
    Ok(())
}
