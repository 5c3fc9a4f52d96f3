//! `provost schedule`: when processes run by themselves next.

use serde_json::json;

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, judge};
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::text;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::process::Process;
use crate::wire::reply::Item;
use crate::wire::request::List;
use crate::wire::schedule::Times;
use crate::wire::time::Timestamp;

/// How many times are shown of one that is named.
const TIMES_DEFAULT: usize = 5;
/// The most times that are shown.
const TIMES_MAX: usize = 1000;

pub const COMMAND: Command = Command::new("schedule", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::OneOf(&["next"]));
const SUMMARY: &str = "Tell when processes run by themselves";
const HELP: &str = "\
Usage: provost schedule [next] [-n N] [TARGET...]

A line for each time, by the clock of the schedule's time zone. Without a target, the next time of every
process that has a schedule, the first one first. A schedule that 'provost stop' has suspended has no next
time until 'provost start', which also runs the process at once.

Options:
  -n, --limit N              So many times of each (5; without a target 1)

Examples:
  provost schedule
  provost schedule next -n 3 nightly
";

#[derive(Debug, PartialEq, Eq)]
struct ScheduleArgs {
    targets: Vec<String>,
    limit: usize,
}

fn parse(arguments: &mut Arguments) -> Result<ScheduleArgs, Error> {
    let mut limit = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--limit" | "-n" => limit = Some(arguments.number::<usize>(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let mut targets = arguments.values();
    if targets.first().is_some_and(|first| first == "next") {
        targets.remove(0);
    }
    let limit = limit.unwrap_or(if targets.is_empty() { 1 } else { TIMES_DEFAULT });
    if !(1..=TIMES_MAX).contains(&limit) {
        return Err(Error::usage(format!("--limit is outside 1 to {TIMES_MAX}")));
    }
    Ok(ScheduleArgs { targets, limit })
}

/// The answer to a verb that other programs have here.
fn verb(targets: &[String]) -> Option<Error> {
    let hint = match targets[0].as_str() {
        "run" | "start" | "now" | "trigger" => {
            format!("to run it now: provost start {}", text::quoted_command(&targets[1..]))
        }
        "list" | "ls" | "show" => "provost schedule shows all".to_owned(),
        "disable" | "pause" | "suspend" | "stop" => {
            format!("a stop suspends its schedule: provost stop {}", text::quoted_command(&targets[1..]))
        }
        "enable" | "resume" | "continue" => {
            format!(
                "a start resumes its schedule, and runs it: provost start {}",
                text::quoted_command(&targets[1..])
            )
        }
        "add" | "set" => "provost update --schedule '0 3 * * *' NAME, or schedule in a file".to_owned(),
        _ => return None,
    };
    Some(Error::usage(format!("'provost schedule' has no {}", quoted(&targets[0]))).hint(hint))
}

fn run(args: ScheduleArgs, session: &mut Session) -> Result<u8, Error> {
    let mut targets = args.targets;
    let mut client = session.client_for(&mut targets)?;
    let (mut counts, mut all) = (Counts::default(), Vec::new());
    let is_of_all = targets.is_empty();
    if is_of_all {
        all = client.list(List::default())?;
        all.retain(|p| p.schedule.is_on());
        all.sort_by_key(|p| p.next_run_at.map_or(u64::MAX, |at| at.0));
    } else {
        let items = client.status(targets.clone())?;
        let is_missing =
            items.iter().any(|item| item.error.as_ref().is_some_and(|e| e.code == Code::NotFound));
        if is_missing && let Some(e) = verb(&targets) {
            return Err(e);
        }
        for item in &suggest::better_items(session, &items) {
            let Some(process) = judge(item, &mut counts) else {
                if session.is_json() {
                    session.object(&json::item(item));
                }
                continue;
            };
            if process.schedule.is_on() {
                counts.done();
                all.push(process.clone());
            } else {
                let error = without(process);
                if session.is_json() {
                    session.object(&json::item(&Item { error: Some(error.clone()), ..item.clone() }));
                }
                stdout::complain(&error);
                counts.failed(Code::No);
            }
        }
    }
    let width = all.iter().map(|p| text::width(&p.label())).max().unwrap_or(0);
    let is_named = is_of_all || all.len() > 1;
    for process in &all {
        let times = process.schedule.times(process.created_at)?;
        let times = times.ok_or_else(|| without(process))?;
        let next = next_times(process, &times, args.limit);
        if session.is_json() {
            session.object(&json!({
                "id": process.id.to_string(),
                "name": process.name.as_ref().map(|n| n.as_str()),
                "schedule": process.schedule.when,
                "zone": process.schedule.zone,
                "next": next.iter().map(|at| json::time(*at)).collect::<Vec<_>>(),
            }));
            continue;
        }
        let name =
            if is_named { format!("{}  ", text::padded(&process.label(), width)) } else { String::new() };
        if next.is_empty() {
            session.out.line(&format!("{name}suspended"));
        }
        let now = Timestamp::now();
        for at in next {
            session.out.line(&format!("{name}{}  in {}", times.shown(at), text::until(at, now)));
        }
    }
    Ok(counts.exit_code())
}

fn without(process: &Process) -> Error {
    let label = process.label();
    Error::new(Code::No, format!("{} has no schedule", quoted(&label)))
        .hint(format!("'provost update --schedule \"0 3 * * *\" {label}' gives it one"))
}

/// The next one as it is planned, with its jitter; those that follow without.
fn next_times(process: &Process, times: &Times, limit: usize) -> Vec<Timestamp> {
    std::iter::successors(process.next_run_at, |at| times.after(*at)).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::process;
    use crate::wire::schedule::Schedule;
    use std::sync::Arc;

    #[test]
    fn next_need_not_be_said() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = |targets: &[&str], limit| {
            Ok(ScheduleArgs { targets: targets.iter().map(|t| (*t).to_owned()).collect(), limit })
        };
        assert_eq!(parsed("next -n 3 nightly"), args(&["nightly"], 3));
        assert_eq!(parsed("nightly"), args(&["nightly"], 5));
        assert_eq!(parsed("next"), args(&[], 1));
        assert!(parsed("next -n 0 nightly").is_err());
    }

    #[test]
    fn the_first_time_is_the_one_that_is_planned() {
        let mut p = process("nightly");
        p.schedule = Arc::new(Schedule {
            when: Some("@hourly".into()),
            zone: Some("UTC".into()),
            ..Schedule::default()
        });
        let times = p.schedule.times(p.created_at).unwrap().unwrap();
        assert!(next_times(&p, &times, 3).is_empty(), "suspended");
        p.next_run_at = Some(Timestamp(3_600_007));
        let next: Vec<_> = next_times(&p, &times, 3).iter().map(|at| at.0).collect();
        assert_eq!(next, [3_600_007, 7_200_000, 10_800_000]);
    }
}
