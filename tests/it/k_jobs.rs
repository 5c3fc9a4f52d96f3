//! Processes that run by a schedule: when, beside what, and what becomes of times that have passed.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{LATER, SOON, Service, procfs, wait};

/// Often enough for a test, and a process that is there for a moment only.
const OFTEN: [&str; 4] = ["--name", "tick", "--schedule", "@every 1s"];

/// Starts `tick` with these options more, and returns its UUID.
fn tick(service: &Service, options: &[&str], script: &str) -> String {
    service.start(&[&OFTEN, options, &["--", "sh", "-c", script]].concat())
}

/// The events of one process of this kind.
fn events(service: &Service, target: &str, kind: &str) -> Vec<Value> {
    let all = service.cli(&["history", target, "--json"]).expect(0).json();
    all.into_iter().filter(|e| e["kind"] == kind).collect()
}

/// Waits for so many events of this kind.
#[track_caller]
fn until_events(service: &Service, target: &str, kind: &str, n: usize) -> Vec<Value> {
    let mut last = Vec::new();
    let found = wait::holds_within(LATER, || {
        last = events(service, target, kind);
        last.len() >= n
    });
    assert!(found, "{n} times {kind} of {target}: {last:?}\n{}", service.ok(&["history", target]));
    last
}

#[test]
fn a_schedule_starts_each_run_and_tells_the_next() {
    let service = Service::new();
    tick(&service, &[], "echo ran");
    let first = service.status_json("tick");
    assert_eq!((&first["state"], &first["run"]), (&"scheduled".into(), &0.into()), "not before its time");
    let started = until_events(&service, "tick", "started", 2);
    assert!(started.iter().all(|e| e["cause"] == "schedule"), "{started:?}");
    assert_eq!([&started[0]["run"], &started[1]["run"]], [&Value::from(1), &2.into()]);
    service.until_state("tick", "scheduled");
    assert!(service.output("tick").starts_with(b"ran\nran\n"));
    let why = service.ok(&["why", "tick"]);
    assert!(why.contains("it runs next in") && why.contains("as its schedule says: @every 1s"), "{why}");
    let next = service.cli(&["schedule", "next", "-n", "3", "tick", "--json"]).expect(0).json();
    assert_eq!(next[0]["next"].as_array().map(Vec::len), Some(3), "{next:?}");
    // What is scheduled and well is no cause for alarm.
    let status = wait::holds_within(SOON, || service.cli(&["status", "tick"]).code == 0);
    assert!(status, "{}", service.ok(&["why", "tick"]));
}

#[test]
fn times_are_shown_by_the_clock_of_their_zone() {
    let service = Service::new();
    let berlin = ["--schedule-zone", "Europe/Berlin"];
    service
        .start(&[&["--name", "nightly", "--schedule", "0 3 * * *"], &berlin[..], &["--", "true"]].concat());
    service.start(&["--name", "hourly", "--schedule", "@hourly", "--", "true"]);
    let lines = service.ok(&["schedule", "next", "-n", "2", "nightly"]);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.contains(" 03:00:00 CE") && line.contains("in ")), "{lines:?}");
    // Of all of them, the first one first, whatever the hour is.
    let all = service.ok(&["schedule"]);
    let names: Vec<_> = all.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let next = |name: &&str| service.status_json(name)["next_run_at"].as_str().map(str::to_owned);
    let times: Vec<_> = names.iter().map(next).collect();
    assert!(names.len() == 2 && times.is_sorted() && times[0].is_some(), "{all}\n{times:?}");
    let list = service.ok(&["list", "--table"]);
    assert!(list.contains("scheduled, in "), "{list}");
    assert_eq!(
        service.ok(&["list", "--format", "{name} {schedule_zone}", "nightly"]),
        "nightly Europe/Berlin"
    );
    service.start(&["--name", "other", "--", "sleep", "1000"]);
    let other = service.cli(&["schedule", "next", "other"]);
    other.expect(3);
    assert!(other.err().contains("'other' has no schedule"), "{}", other.err());
}

#[test]
fn a_run_is_ended_alone_and_the_schedule_stays() {
    let service = Service::new();
    let options = ["--schedule", "@daily", "--restart", "on-failure", "--restart-delay", "0"];
    service.start(&[&["--name", "nightly"], &options[..], &["--", "sleep", "1000"]].concat());
    let planned = service.status_json("nightly")["next_run_at"].clone();
    service.ok(&["start", "nightly"]);
    service.until_state("nightly", "running");
    service.ok(&["stop", "--keep-schedule", "nightly"]);
    let after = service.status_json("nightly");
    assert_eq!((&after["state"], &after["run"]), (&"scheduled".into(), &1.into()), "{after}");
    assert_eq!(after["next_run_at"], planned);
    // Also where there is no run.
    service.ok(&["stop", "--keep-schedule", "nightly"]);
    assert_eq!(service.status_json("nightly")["next_run_at"], planned);
    assert!(!service.ok(&["history", "nightly"]).contains("suspended"));
    service.ok(&["start", "nightly"]);
    service.until_state("nightly", "running");
    service.ok(&["stop", "nightly"]);
    assert_eq!(service.status_json("nightly")["next_run_at"], Value::Null);
    let said = service.ok(&["history", "nightly"]);
    assert!(said.contains("SIGTERM; its schedule is suspended"), "{said}");
}

#[test]
fn a_run_that_ends_with_the_service_in_good_order_is_not_lost() {
    let service = Service::new();
    service.start(&["--name", "nightly", "--schedule", "@daily", "--", "sleep", "1000"]);
    service.ok(&["start", "nightly"]);
    service.until_state("nightly", "running");
    service.end();
    service.serve_again();
    assert_eq!(service.outcomes()["nightly"], "stopped");
    assert!(!service.ok(&["history", "nightly"]).contains(" lost "));
    // Nobody saw this one end.
    service.ok(&["start", "nightly"]);
    service.until_state("nightly", "running");
    service.kill_all();
    service.serve_again();
    assert!(service.outcomes()["nightly"].starts_with("lost"), "{:?}", service.outcomes());
}

#[test]
fn start_runs_it_now_and_stop_suspends_its_schedule() {
    let service = Service::new();
    service.start(&["--name", "nightly", "--schedule", "@daily", "--", "true"]);
    let planned = service.status_json("nightly")["next_run_at"].clone();
    assert!(planned.is_string());
    service.ok(&["start", "nightly"]);
    let ran = service.until_state("nightly", "scheduled");
    assert_eq!((&ran["run"], &ran["exit"]["code"], &ran["next_run_at"]), (&1.into(), &0.into(), &planned));
    service.ok(&["stop", "nightly"]);
    let stopped = service.status_json("nightly");
    assert_eq!((&stopped["state"], &stopped["next_run_at"]), (&"stopped".into(), &Value::Null));
    let why = service.ok(&["why", "nightly"]);
    assert!(why.contains("its schedule is suspended until 'provost start nightly'"), "{why}");
    assert_eq!(service.ok(&["schedule", "next", "nightly"]), "suspended");
    // That is durable.
    service.kill_all();
    service.serve_again();
    assert_eq!(service.status_json("nightly")["next_run_at"], Value::Null);
    service.ok(&["start", "nightly"]);
    service.until_state("nightly", "scheduled");
    // A stop of a run ends that, and what would follow.
    service.ok(&["update", "nightly", "--", "sleep", "1000"]);
    service.ok(&["start", "nightly"]);
    service.until_state("nightly", "running");
    service.ok(&["stop", "nightly"]);
    assert_eq!(service.status_json("nightly")["next_run_at"], Value::Null);
}

#[test]
fn beside_a_run_that_has_not_ended_there_is_no_other() {
    let service = Service::new();
    tick(&service, &[], "sleep 1000");
    let left_out = until_events(&service, "tick", "missed", 1);
    let detail = left_out[0]["detail"].as_str().unwrap();
    assert!(detail.contains("left out, run 1 has not ended"), "{detail}");
    let next = service.status_json("tick")["next_run_at"].clone();
    wait::until("the next time has come", LATER, || service.status_json("tick")["next_run_at"] != next);
    assert_eq!(service.status_json("tick")["run"], 1);
    assert_eq!(events(&service, "tick", "missed").len(), 1, "told once of each run");
    // The other way, in place.
    service.ok(&["update", "--schedule-overlap", "replace", "tick"]);
    let started = until_events(&service, "tick", "started", 3);
    assert_eq!(started[2]["cause"], "schedule");
    let allow = service.cli(&["update", "--schedule-overlap", "allow", "tick"]);
    allow.expect(2);
    assert!(allow.err().contains("one run at a time"), "{}", allow.err());
}

#[test]
fn what_was_missed_is_left_out_or_made_up_for_once() {
    let service = Service::new();
    let missed = ["--schedule-missed", "run"];
    service
        .start(&[&["--name", "made-up", "--schedule", "@every 2s"], &missed[..], &["--", "true"]].concat());
    service.start(&["--name", "left-out", "--schedule", "@every 2s", "--", "true"]);
    for name in ["made-up", "left-out"] {
        until_events(&service, name, "started", 1);
        service.until_state(name, "scheduled");
    }
    service.kill_all();
    // Two times pass without a service, whichever moment this is.
    wait::pass(Duration::from_secs(4));
    service.serve_again();
    let of = |name: &str| until_events(&service, name, "missed", 1)[0]["detail"].as_str().unwrap().to_owned();
    assert!(of("made-up").ends_with("made up for now"), "{}", of("made-up"));
    assert!(of("left-out").ends_with("left out, as it was missed"), "{}", of("left-out"));
    for name in ["made-up", "left-out"] {
        let all = service.cli(&["history", name, "--json"]).expect(0).json();
        let at = all.iter().position(|e| e["kind"] == "missed").unwrap();
        let before = all[..at].iter().filter(|e| e["kind"] == "started").count() as u64;
        let next = until_events(&service, name, "started", before as usize + 1)[before as usize].clone();
        // The first one after it is the one that makes up for them, or the next one in time.
        let is_at_once = next["mono_ms"].as_u64().unwrap() - all[at]["mono_ms"].as_u64().unwrap() < 1000;
        assert!(name != "made-up" || is_at_once, "{all:?} {next:?}");
    }
}

#[test]
fn a_schedule_goes_on_over_kill_9_of_the_engine_and_of_everything() {
    let service = Service::new();
    let id = tick(&service, &[], "true");
    until_events(&service, "tick", "started", 1);
    service.kill_engine();
    let before = events(&service, "tick", "started").len();
    until_events(&service, "tick", "started", before + 2);
    service.kill_all();
    service.serve_again();
    let before = events(&service, "tick", "started").len();
    until_events(&service, "tick", "started", before + 2);
    assert_eq!(service.status_json("tick")["id"], id.as_str());
    // Not started with the service: by its schedule only.
    let causes: Vec<_> = events(&service, "tick", "started");
    assert!(causes.iter().all(|e| e["cause"] == "schedule"), "{causes:?}");
    service.ok(&["remove", "--force", "tick"]);
}

#[test]
fn a_schedule_is_declared_changed_and_taken_away() {
    let service = Service::new();
    let path = service.scratch().file("declared.toml");
    let declare = |text: &str| {
        fs::write(&path, format!("[process.nightly]\ncommand = ['true']\n{text}")).unwrap();
        service.cli(&["apply", "--yes", &path])
    };
    let zone = declare("schedule = '0 3 * * *'\nschedule_zone = 'Europe/Nowhere'");
    assert_ne!(zone.code, 0);
    assert!(zone.err().contains("this host has no data for a time zone 'Europe/Nowhere'"), "{}", zone.err());
    declare("schedule = '0 3 * * *'\nschedule_zone = 'Europe/Berlin'\nschedule_missed = 'run'").expect(0);
    let first = service.status_json("nightly");
    assert_eq!((&first["state"], &first["run"]), (&"scheduled".into(), &0.into()));
    let shown = service.ok(&["show", "nightly"]);
    assert!(
        shown.contains("schedule_zone = \"Europe/Berlin\"") && shown.contains("--schedule-missed"),
        "{shown}"
    );
    declare("schedule = '30 4 * * *'\nschedule_zone = 'Europe/Berlin'").expect(0);
    assert_ne!(service.status_json("nightly")["next_run_at"], first["next_run_at"]);
    declare("").expect(0);
    let without = service.status_json("nightly");
    assert_eq!((&without["state"], &without["next_run_at"]), (&"stopped".into(), &Value::Null));
    declare("schedule = '@daily'").expect(0);
    assert_eq!(service.state("nightly"), "scheduled");
    // Suspended, it stays so over a change.
    service.ok(&["stop", "nightly"]);
    declare("schedule = '@hourly'").expect(0);
    assert_eq!(service.state("nightly"), "stopped");
    for (bad, why) in [
        ("schedule = '0 3 * *'", "five fields"),
        ("schedule = '@daily'\nrestart = 'always'", "has no place"),
        ("schedule = '@daily'\nautostart = true", "has no place"),
        ("schedule = '@daily'\nschedule_overlap = 'allow'", "two runs at once"),
        ("schedule_missed = 'run'", "not which"),
    ] {
        let out = declare(bad);
        assert!(out.code != 0 && out.err().contains(why), "{bad}: {}", out.err());
    }
}

#[test]
fn a_run_that_fails_is_tried_again_and_the_next_one_comes_all_the_same() {
    let service = Service::new();
    let options = ["--restart", "on-failure", "--max-restarts", "2", "--restart-delay", "1ms"];
    tick(&service, &options, "exit 3");
    until_events(&service, "tick", "gave-up", 1);
    let failed = service.status_json("tick");
    assert!(failed["next_run_at"].is_string(), "{failed}");
    until_events(&service, "tick", "gave-up", 2);
    let by: Vec<_> = events(&service, "tick", "started").iter().map(|e| e["cause"].clone()).collect();
    assert_eq!(by[..4], ["schedule", "restart policy", "restart policy", "schedule"]);
}

#[test]
fn a_process_that_waits_for_its_schedule_wakes_nobody() {
    let service = Service::new();
    service.start(&["--name", "yearly", "--schedule", "@yearly", "--", "true"]);
    let engine = service.engine_pid();
    assert!(procfs::has_thread(engine, "schedules"));
    assert_eq!(service.below(), Vec::<u32>::new());
    let pids = [service.keeper_pid(), engine];
    let before = procfs::at_rest(&pids);
    wait::pass(Duration::from_secs(2));
    assert_eq!(pids.map(procfs::switches).iter().sum::<u64>() - before, 0, "wake-ups in 2 s");
}

#[test]
fn run_with_a_name_is_the_next_run_of_the_same_process() {
    let service = Service::new();
    let first = service.cli(&["run", "--name", "report", "--", "sh", "-c", "echo one; exit 3"]);
    first.expect(3);
    let id = service.status_json("report")["id"].clone();
    let second =
        service.cli(&["run", "--name", "report", "--", "sh", "-c", "echo two >&2; sleep 0.01; echo three"]);
    second.expect(0);
    assert_eq!((second.out().as_str(), second.err().as_str()), ("three", "two"), "no word of the run before");
    let report = service.status_json("report");
    assert_eq!((&report["id"], &report["run"]), (&id, &2.into()));
    // Each run by itself.
    assert_eq!(service.ok(&["output", "--run", "1", "report"]), "one");
    assert_eq!(service.ok(&["output", "--run", "last", "--stdout", "report"]), "three");
    assert_eq!(service.ok(&["logs", "--run", "1", "report"]), "one");
    assert_eq!(service.ok(&["logs", "--run", "2", "report"]).lines().count(), 2);
    let none = service.cli(&["output", "--run", "3", "report"]);
    none.expect(4);
    assert!(none.err().contains("report has had 2 runs"), "{}", none.err());
    // Never beside one that has not ended.
    service.start(&["--name", "busy", "--", "sleep", "1000"]);
    let beside = service.cli(&["run", "--name", "busy", "--", "true"]);
    beside.expect(125);
    assert!(beside.err().contains("busy is running, and has one run at a time"), "{}", beside.err());
    service.start(&["--name", "nightly", "--schedule", "@daily", "--", "true"]);
    let scheduled = service.cli(&["run", "--name", "nightly", "--", "true"]);
    assert!(scheduled.err().contains("to run it now: provost start nightly"), "{}", scheduled.err());
}
