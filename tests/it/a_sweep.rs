//! Kills at every system call: of a start, a stop and a remove, by the engine alone and by all there is of
//! the service. Whatever was reached: what was acknowledged holds, each runs once or not at all, and the
//! database is whole.
//!
//! The calls are counted over all threads of the engine; where the keeper dies too, over its calls and those
//! of the child before its exec as well. A first round counts them; the usual run then takes some, spread
//! over all of them, and with PROVOST_TEST_ROUNDS of 10 or more each one is taken.

use std::process::Command;

use crate::harness::{LATER, Options, Random, Running, SOON, Service, rounds, wait};

/// How many crash points the usual run takes of each sweep.
const SAMPLE: u32 = 9;
/// Behind the last call there is when so many rounds in a row had fewer.
const BEYOND: u32 = 5;
/// The process that it is all about.
const NAME: &str = "step";

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dies {
    Engine,
    All,
}

/// What is done meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Start,
    Stop,
    Remove,
}

/// Counts the calls of these processes, and kills them at number `n`.
#[track_caller]
fn trace(n: u32, pids: &[u32]) -> Running {
    // Hundreds of times: that of a user's own set-up may take several times as long to begin.
    let mut python = Command::new("/usr/bin/python3");
    let tracer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kill_at.py");
    python.args(["-I", "-S", tracer]).arg(n.to_string());
    python.args(pids.iter().map(ToString::to_string));
    let tracer = Running::new(python);
    tracer.line_with("attached", SOON);
    tracer
}

struct Round {
    /// Where it was killed; none: the deed had fewer calls.
    killed: Option<String>,
    calls: u32,
    /// Whether the command said that it was done.
    acknowledged: bool,
}

fn sweep(deed: Deed, dies: Dies, options: &[&str]) {
    let service = Options::new().serve(options).start();
    let counted = round(&service, deed, dies, 0);
    assert!(counted.killed.is_none() && counted.calls > 20, "{} calls are too few", counted.calls);
    let (points, is_full) = match rounds(1) {
        10.. => (counted.calls, true),
        n => ((SAMPLE * n).min(counted.calls), false),
    };
    let offset = Random::new().below(u64::from(counted.calls / points).max(1)) as u32;
    // On a busy machine a round has more calls than another: threads that look again, a start that is slow.
    let mut calls = counted.calls;
    let (mut killed, mut outlived, mut unacknowledged, mut n) = (0, 0, 0, 0);
    // Rounds in a row that had fewer calls than the one that was to be the last.
    let mut beyond = 0;
    loop {
        let step = (calls / points).max(1);
        let done = round(&service, deed, dies, 1 + n * step + offset % step);
        unacknowledged += u32::from(!done.acknowledged);
        if done.killed.is_some() {
            (killed, beyond) = (killed + 1, 0);
        } else {
            (outlived, beyond) = (outlived + 1, beyond + 1);
            calls = calls.min(done.calls);
            assert!(calls > 20, "{calls} calls are too few");
        }
        // One after the other as long as rounds still end by a kill.
        n = if is_full { n + 1 } else { killed };
        let is_done = if is_full { beyond == BEYOND } else { n >= points };
        if is_done {
            break;
        }
        assert!(outlived <= points, "{killed} of {points} rounds were killed");
    }
    let points = points.min(calls);
    println!(
        "{killed} crash points swept, of {calls} to {} calls; {unacknowledged} not acknowledged",
        counted.calls
    );
    assert!(killed * 4 >= points * 3, "{killed} of {points} rounds were killed");
    service.end();
}

/// Brings about what the deed needs, does it, kills at call `n`, and checks.
#[track_caller]
fn round(service: &Service, deed: Deed, dies: Dies, n: u32) -> Round {
    let start = service.start_args(NAME, &[]);
    let start: Vec<&str> = start.iter().map(String::as_str).collect();
    prepare(service, deed, &start);
    let args = match deed {
        Deed::Start => start,
        Deed::Stop => vec!["stop", NAME],
        Deed::Remove => vec!["remove", "--force", NAME],
    };
    let mut pids = vec![service.engine_pid()];
    if dies == Dies::All {
        pids.insert(0, service.keeper_pid());
    }
    let tracer = trace(n, &pids);
    let asked = service.background(&args);
    wait::until("it is done or killed", LATER, || !asked.is_running() || !tracer.is_running());
    if tracer.is_running() {
        // What is written without anybody waiting for it is of the deed too; this makes it be written now.
        let flush = service.background(&["history", "--json", NAME]);
        wait::until("it is written or killed", LATER, || !flush.is_running() || !tracer.is_running());
    }
    tracer.signal("TERM");
    let said = tracer.end(SOON);
    let said = said.expect(0).out();
    let killed = said.lines().find(|line| line.starts_with("killed at ")).map(str::to_owned);
    let calls = said.lines().find_map(|line| line.strip_prefix("seen ")?.parse().ok()).expect("it counts");
    let what = format!("{} at {n}, {killed:?}", args[0]);
    if dies == Dies::All {
        if killed.is_some() {
            service.until_killed();
        } else {
            service.kill_at_once(&[]);
        }
        service.expect_whole_files(&what);
        service.serve_again();
    }
    // Whether it gave up or asked the next service.
    let asked = asked.end(LATER);
    let acknowledged = asked.code == 0 && !asked.err().contains("not recorded");
    assert!(dies == Dies::All || acknowledged, "{what}: an engine's death is nothing to see: {asked:?}");
    if acknowledged {
        // At once: what is said is on the disk, were all to die now.
        let wanted = match deed {
            Deed::Start => Some(true),
            Deed::Stop => Some(false),
            Deed::Remove => None,
        };
        let stored = service.stored();
        assert_eq!(stored.get(NAME), wanted.as_ref(), "{what}: acknowledged, and not recorded\n{asked:?}");
    }
    let found = service.expect_sound(&what);
    let state = found.get(NAME).map(|p| p["state"].as_str().unwrap_or("?").to_owned());
    let state = state.as_deref();
    let holds = match (deed, acknowledged) {
        (Deed::Start, true) => state == Some("running"),
        (Deed::Stop, true) => state == Some("stopped"),
        (Deed::Remove, true) => state.is_none(),
        (Deed::Start, false) => matches!(state, None | Some("running" | "stopped")),
        (Deed::Stop, false) => matches!(state, Some("running" | "stopped")),
        (Deed::Remove, false) => matches!(state, None | Some("running" | "stopped")),
    };
    assert!(holds, "{what}: acknowledged {acknowledged}, and is {state:?}: {asked:?}\n{}", service.log());
    Round { killed, calls, acknowledged }
}

/// What was left of the round before decides what there is to do.
#[track_caller]
fn prepare(service: &Service, deed: Deed, start: &[&str]) {
    let now = service.settled().get(NAME).map(|p| p["state"].clone());
    match (deed, now) {
        (Deed::Start, None) => {}
        (Deed::Start, Some(_)) => drop(service.ok(&["remove", "--force", NAME])),
        (Deed::Stop | Deed::Remove, None) => drop(service.ok(start)),
        (Deed::Stop | Deed::Remove, Some(state)) if state == "running" => {}
        (Deed::Stop | Deed::Remove, Some(_)) => drop(service.ok(&["start", NAME])),
    }
}

#[test]
fn a2_engine_dies_at_each_call_of_a_start() {
    sweep(Deed::Start, Dies::Engine, &[]);
}

#[test]
fn a2_engine_dies_at_each_call_of_a_stop() {
    sweep(Deed::Stop, Dies::Engine, &[]);
}

#[test]
fn a2_engine_dies_at_each_call_of_a_remove() {
    sweep(Deed::Remove, Dies::Engine, &[]);
}

#[test]
fn a2_all_die_at_each_call_of_a_start() {
    sweep(Deed::Start, Dies::All, &[]);
}

#[test]
fn a2_all_die_at_each_call_of_a_start_without_cgroups() {
    sweep(Deed::Start, Dies::All, &["--cgroups", "off"]);
}

#[test]
fn a2_all_die_at_each_call_of_a_stop() {
    sweep(Deed::Stop, Dies::All, &[]);
}

#[test]
fn a2_all_die_at_each_call_of_a_remove() {
    sweep(Deed::Remove, Dies::All, &[]);
}
