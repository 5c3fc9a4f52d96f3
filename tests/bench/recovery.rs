//! A thousand processes, and a kill -9 of the engine that looks after them.

use std::time::{Duration, Instant};

use provost::sys::pidfd::PidFd;

use crate::host;
use crate::ours::{Provost, only};
use crate::sample::{Outcome, Samples, pass};
use crate::table::{Goal, Table};

const PROCESSES: u32 = 1000;
const ROUNDS: u32 = 7;
/// Longer than what the keeper takes for an engine that cannot live.
const HEALTHY: Duration = Duration::from_millis(1200);
const SIGKILL: u32 = 9;

pub fn measure(ours: &mut Provost, table: &mut Table) -> Outcome {
    ours.fill(PROCESSES)?;
    pass(HEALTHY);
    let usage = host::usage(&ours.pids()?);
    table.row(format!("memory (PSS), {PROCESSES} processes"), "MiB").ours(Some(usage.pss_mib)).done();
    table.row(format!("threads, {PROCESSES} processes"), "").ours(Some(usage.threads as f64)).done();

    let mut recovery = Samples::default();
    for _ in 0..ROUNDS {
        let before = ours.client.service()?;
        let engine = PidFd::open(before.engine_pid)?;
        let begin = Instant::now();
        engine.signal(SIGKILL)?;
        while ours.client.service()?.engine_pid == before.engine_pid {}
        only(ours.client.status(vec!["s-1".to_owned()])?)?;
        recovery.push_ms(begin.elapsed());
        let after = ours.client.service()?;
        if (after.running, after.processes) != (before.running, before.processes) {
            return Err(
                format!("{} ran before the kill, {} run after it", before.running, after.running).into()
            );
        }
        pass(HEALTHY);
    }
    let what = format!("engine back after kill -9, {PROCESSES} processes");
    table.row(what, "ms").ours(recovery.median()).goal(Goal::Value(200.0)).done();
    let usage = host::usage(&ours.pids()?);
    table.row("memory (PSS) after that", "MiB").ours(Some(usage.pss_mib)).done();
    Ok(())
}
