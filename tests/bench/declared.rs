//! What is declared: an apply of a thousand processes and of one change among them, and starts in the order
//! of needs by readiness, beside what the programs take themselves; and what all of it costs at rest.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use provost::wire::request::List;

use crate::host;
use crate::ours::Provost;
use crate::sample::{Outcome, Samples, pass, until};
use crate::table::{Goal, Table};

const MANY: u32 = 1000;
const CHANGES: u32 = 7;
const CHAIN: u32 = 20;
const FAN: u32 = 200;
/// What a program of the chain and of the fan takes until it says that it is ready, ms.
const OWN_MS: u32 = 50;
/// How long all may take to be ready.
const LIMIT: Duration = Duration::from_secs(120);
/// How long it is looked at rest.
const REST: Duration = Duration::from_secs(10);

/// Says READY=1 after its time, with what every machine has.
const SAYS: &str = "import os,socket,time\ntime.sleep(0.05)\n\
                    socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM).sendto(b'READY=1','\\0'+os.environ['NOTIFY_SOCKET'][1:])\n\
                    time.sleep(100000)";

pub fn measure(dir: &Path, table: &mut Table) -> Outcome {
    let dir = dir.join("declared");
    fs::create_dir(&dir)?;
    let mut ours = Provost::serve(&dir)?;
    let path = dir.join("provost.toml");
    let path = path.to_str().ok_or("the path of the directory is not text")?;
    many(&mut ours, path, table)?;
    for (what, count, needs) in [("chain", CHAIN, chain as fn(u32) -> String), ("fan", FAN, fan)] {
        in_order(&mut ours, path, (what, count, needs), table)?;
    }
    at_rest(&mut ours, table)?;
    ours.end()
}

fn apply(ours: &mut Provost, path: &str, text: &str) -> Outcome {
    fs::write(path, text)?;
    ours.run(&["apply", "--yes", path])
}

/// A thousand that need nobody; then one of them is changed.
fn many(ours: &mut Provost, path: &str, table: &mut Table) -> Outcome {
    let text = |changed: u32| -> String {
        let one = |n: u32| {
            let label = if n == 500 { changed } else { 0 };
            format!("[process.p-{n}]\ncommand = ['sleep', '100000']\nlabels = {{ n = '{label}' }}\n")
        };
        (0..MANY).map(one).collect()
    };
    let (mut all, mut one, mut none) = (Samples::default(), Samples::default(), Samples::default());
    all.time(|| apply(ours, path, &text(0)))?;
    for n in 1..=CHANGES {
        one.time(|| apply(ours, path, &text(n)))?;
        none.time(|| apply(ours, path, &text(n)))?;
    }
    table.row("apply 1,000 new processes", "ms").ours(all.median()).done();
    table.row("apply one change among 1,000", "ms").ours(one.median()).goal(Goal::Value(100.0)).done();
    table.row("apply nothing among 1,000", "ms").ours(none.median()).done();
    apply(ours, path, "")
}

fn chain(n: u32) -> String {
    if n == 0 { String::new() } else { format!("requires = ['s-{}']\n", n - 1) }
}

fn fan(n: u32) -> String {
    if n == 0 { String::new() } else { "requires = ['s-0']\n".to_owned() }
}

/// From the apply until all are ready. In a chain that is at least the sum of their own times, in a fan of
/// two.
fn in_order(
    ours: &mut Provost,
    path: &str,
    (what, count, needs): (&str, u32, fn(u32) -> String),
    table: &mut Table,
) -> Outcome {
    let one = |n: u32| {
        format!(
            "[process.s-{n}]\ncommand = ['python3', '-c', '''{SAYS}''']\nready_notify = true\n{}",
            needs(n)
        )
    };
    let text: String = (0..count).map(one).collect();
    let begin = Instant::now();
    apply(ours, path, &text)?;
    until("all are ready", LIMIT, || {
        let all = ours.client.list(List::default()).unwrap_or_default();
        all.len() == count as usize && all.iter().all(|p| p.ready)
    })?;
    let took = begin.elapsed().as_secs_f64() * 1000.0;
    table.row(format!("{what} of {count}, until all are ready"), "ms").ours(Some(took)).done();
    let steps = if what == "chain" { count } else { 2 };
    table
        .row(format!("... their own times, in order ({OWN_MS} ms each)"), "ms")
        .ours(Some(f64::from(steps * OWN_MS)))
        .done();
    Ok(())
}

/// With two hundred that are bound to one, and have said that they are ready.
fn at_rest(ours: &mut Provost, table: &mut Table) -> Outcome {
    let pids = ours.pids()?;
    let before = host::wakeups(&pids);
    pass(REST);
    let woken = host::wakeups(&pids).saturating_sub(before);
    table.row("wake-ups of 200 that need one, at rest", "in 10 s").ours(Some(woken as f64)).done();
    Ok(())
}
