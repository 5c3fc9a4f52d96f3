//! From a kill -9 of a process to the first act of its successor, which the program itself reports.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use provost::Spec;
use provost::sys::pidfd::PidFd;
use provost::wire::spec::RestartPolicy;

use crate::ours::Provost;
use crate::programs::{Reports, our_path};
use crate::rivals::{KINDS, Kind, Rival};
use crate::sample::{Outcome, Samples, pass};
use crate::sweep::MARK;
use crate::table::{Goal, Table};

const ROUNDS: u32 = 7;
/// Longer than what counts as a short life anywhere here, so that nobody holds the restart back for that.
const HEALTHY: Duration = Duration::from_millis(1200);
const SIGKILL: u32 = 9;
/// runsvdir looks for new services every five seconds.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

pub fn measure(ours: &mut Provost, rivals: &mut [Rival], dir: &Path, table: &mut Table) -> Outcome {
    let reports = Reports::new(dir, "restart.sock")?;
    let mut spec = Spec::new([&our_path()?, "tell", reports.path()?, "provost"]);
    spec.restart.policy = RestartPolicy::Always;
    spec.restart.max_restarts = None;
    spec.restart.reset_after = HEALTHY / 2;
    let id = ours.start_one(spec)?.id.to_string();
    let mut columns = vec![("provost", reports.next("provost", FIRST_LIMIT)?, Samples::default())];
    for rival in &*rivals {
        rival.add_teller(reports.path()?)?;
        let name = rival.kind.name();
        columns.push((name, reports.next(name, FIRST_LIMIT)?, Samples::default()));
    }
    let mut bare = Samples::default();
    for _ in 0..ROUNDS {
        pass(HEALTHY);
        for (name, pid, samples) in &mut columns {
            let victim = PidFd::open(u32::try_from(*pid)?)?;
            let begin = Instant::now();
            victim.signal(SIGKILL)?;
            *pid = reports.next(name, FIRST_LIMIT)?;
            samples.push_ms(begin.elapsed());
        }
        bare.push_ms(replace(&reports, dir)?);
    }
    ours.remove(&id)?;
    let median =
        |name: &str| columns.iter().find(|column| column.0 == name).and_then(|column| column.2.median());
    let mut row = table.row("restart after kill -9", "ms").ours(median("provost")).bare(bare.median());
    for kind in KINDS {
        row = row.rival(kind, median(kind.name()));
    }
    row.goal(Goal::RivalTimes(Kind::Runit, 1.0)).done();
    Ok(())
}

/// The least there is to it: kill, wait, spawn.
fn replace(reports: &Reports, dir: &Path) -> Outcome<Duration> {
    let spawn = || {
        Command::new(our_path()?)
            .args(["tell", reports.path()?, "bare"])
            .env(MARK, dir)
            .stdin(Stdio::null())
            .spawn()
            .map_err(Box::<dyn std::error::Error>::from)
    };
    let mut child = spawn()?;
    reports.next("bare", FIRST_LIMIT)?;
    let begin = Instant::now();
    child.kill()?;
    child.wait()?;
    let mut child = spawn()?;
    reports.next("bare", FIRST_LIMIT)?;
    let took = begin.elapsed();
    child.kill()?;
    child.wait()?;
    Ok(took)
}
