//! Starting: one process, and two hundred with one command, against a loop that only spawns them. And what
//! the service takes before there is any.

use std::process::{Child, Command, Stdio};

use provost::Spec;

use crate::host;
use crate::idle::SETTLE;
use crate::ours::Provost;
use crate::rivals::SERVICE;
use crate::sample::{Outcome, Samples, pass};
use crate::table::{Goal, Table};

/// How many are started with one command.
const BATCH: u32 = 200;
const BATCH_ROUNDS: u32 = 7;
const SINGLE_ROUNDS: u32 = 60;

pub fn measure(ours: &mut Provost, table: &mut Table) -> Outcome {
    let pids = ours.pids()?;
    pass(SETTLE);
    let usage = host::usage(&pids);
    table.row("memory (PSS), no process", "MiB").ours(Some(usage.pss_mib)).done();
    single(ours, table)?;
    batch(ours, table)
}

fn spawn() -> Outcome<Child> {
    let mut command = Command::new(SERVICE[0]);
    Ok(command
        .args(&SERVICE[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?)
}

/// The same with what a supervisor needs: its output comes through two pipes.
fn spawn_with_pipes() -> Outcome<Child> {
    let mut command = Command::new(SERVICE[0]);
    Ok(command
        .args(&SERVICE[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

fn single(ours: &mut Provost, table: &mut Table) -> Outcome {
    let (mut by_library, mut by_command, mut bare) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..SINGLE_ROUNDS {
        let child = bare.time(spawn)?;
        end([child])?;
        let process = by_library.time(|| ours.start_one(Spec::new(SERVICE)))?;
        ours.remove(&process.id.to_string())?;
        let args = [&["start", "--name", "one", "--"], &SERVICE[..]].concat();
        by_command.time(|| ours.run(&args))?;
        ours.remove("one")?;
    }
    table.row("start one, by the library", "ms").ours(by_library.median()).bare(bare.median()).done();
    table.row("start one, by a command", "ms").ours(by_command.median()).bare(bare.median()).done();
    Ok(())
}

fn batch(ours: &mut Provost, table: &mut Table) -> Outcome {
    let (mut by_command, mut bare, mut piped) = (Samples::default(), Samples::default(), Samples::default());
    let count = BATCH.to_string();
    let args = [&["start", "--name", "b", "--instances", &count, "--"], &SERVICE[..]].concat();
    for _ in 0..BATCH_ROUNDS {
        for (spawn, samples) in [(spawn as fn() -> Outcome<Child>, &mut bare), (spawn_with_pipes, &mut piped)]
        {
            let children = samples.time(|| (0..BATCH).map(|_| spawn()).collect::<Outcome<Vec<Child>>>())?;
            end(children)?;
        }
        by_command.time(|| ours.run(&args))?;
        ours.remove("b-*")?;
    }
    let (command, bare, piped) = (by_command.median(), bare.median(), piped.median());
    let per_second = |ms: Option<f64>| ms.map(|ms| f64::from(BATCH) * 1e3 / ms);
    let goal = Goal::BareTimes(1.2);
    table.row(format!("start {BATCH} with one command"), "ms").ours(command).bare(bare).goal(goal).done();
    table.row("the same, bare with two pipes each", "ms").ours(command).bare(piped).done();
    table.row("starts per second", "1/s").ours(per_second(command)).bare(per_second(bare)).done();
    Ok(())
}

/// Kills them all, then collects them all.
fn end(children: impl IntoIterator<Item = Child>) -> Outcome {
    let mut children: Vec<Child> = children.into_iter().collect();
    for child in &mut children {
        child.kill()?;
    }
    for child in &mut children {
        child.wait()?;
    }
    Ok(())
}
