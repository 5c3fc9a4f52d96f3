//! `provost restart`: stops processes and starts them, all at once or one after the other.

use std::time::Duration;

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, in_order, judge, report_states, tell_late};
use crate::cli::command::{Command, job};
use crate::cli::others::tell_followers;
use crate::cli::progress::{Progress, Until as Wanted};
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::values;
use crate::client::Client;
use crate::wire::error::{Code, Error};
use crate::wire::process::Process;
use crate::wire::reply::Item;
use crate::wire::request::{Until, Wait};
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("restart", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).writes();
const SUMMARY: &str = "Stop processes and start them; what is stopped is started";
const HELP: &str = "\
Usage: provost restart [--wait[=WHAT] | --one-by-one] [--timeout D] TARGET...

Each keeps its UUID and its name, and gets the next run number. A job that has a schedule runs now, and
by its schedule again if that was suspended.

Options:
      --wait[=WHAT]          Wait until it is ready (or running)
      --one-by-one           Each only when the one before is ready; the first failure ends it
      --timeout D            How long each may take to be ready, else for ever (exit code 5; what has
                             ended for good before that: 3)

Examples:
  provost restart web
  provost restart --wait --timeout 30s web
  provost restart --one-by-one --timeout 30s 'worker-*'
";

#[derive(Debug, PartialEq, Eq)]
struct RestartArgs {
    targets: Vec<String>,
    pace: Pace,
}

#[derive(Debug, PartialEq, Eq)]
enum Pace {
    AtOnce { wait: Option<Until>, timeout: Option<Duration> },
    OneByOne { timeout: Option<Duration> },
}

fn parse(arguments: &mut Arguments) -> Result<RestartArgs, Error> {
    let (mut one_by_one, mut wait, mut timeout) = (false, None, None);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--one-by-one" => one_by_one = true,
            "--wait" => wait = Some(values::until_up(arguments.glued_value().as_deref())?),
            "--timeout" => timeout = Some(arguments.duration(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if one_by_one && wait.is_some() {
        return Err(arguments.usage("--one-by-one waits for each anyway: leave out --wait".into()));
    }
    if timeout.is_some() && !one_by_one && wait.is_none() {
        return Err(arguments.usage("--timeout goes with --wait or --one-by-one".into()));
    }
    let targets = arguments.targets()?;
    if wait.is_some() {
        values::only_processes(&targets)?;
    }
    let pace = if one_by_one { Pace::OneByOne { timeout } } else { Pace::AtOnce { wait, timeout } };
    Ok(RestartArgs { targets, pace })
}

fn run(args: RestartArgs, session: &mut Session) -> Result<u8, Error> {
    let code = restart(args, session)?;
    // It has restarted what the service knows, which may be older.
    applied::notice(session);
    Ok(code)
}

fn restart(mut args: RestartArgs, session: &mut Session) -> Result<u8, Error> {
    match args.pace {
        Pace::AtOnce { wait, timeout } => {
            let mut client = session.client_for(&mut args.targets)?;
            let progress = Progress::begin(session, &args.targets, Wanted::Ready);
            let asked = Some(Timestamp::now());
            let items = in_order(client.restart(args.targets.clone())?, &args.targets);
            drop(progress);
            let Some(until) = wait else {
                let counts = report_states(session, &items);
                tell_followers(session, &mut client, &items, asked);
                return Ok(counts.exit_code());
            };
            // What could not be restarted is told before the wait for the others, which may be long.
            let (failed, done): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.error.is_some());
            let counts = report_states(session, &failed);
            session.out.flush();
            let items = waited(&mut client, &done, (until, timeout), session)?;
            let counts = counts.and(report_states(session, &items));
            tell_followers(session, &mut client, &done, asked);
            Ok(counts.exit_code())
        }
        Pace::OneByOne { timeout } => one_by_one(args.targets, timeout, session),
    }
}

/// How it went on with these.
fn waited(
    client: &mut Client,
    done: &[Item],
    (until, timeout): (Until, Option<Duration>),
    session: &Session,
) -> Result<Vec<Item>, Error> {
    let id = |item: &Item| Some(item.process.as_ref()?.id.to_string());
    let targets: Vec<_> = done.iter().filter_map(id).collect();
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let _progress = Progress::begin(session, &targets, Wanted::Ready);
    let mut items = in_order(client.wait(Wait { targets: targets.clone(), until, timeout })?, &targets);
    tell_late(&mut items, until, timeout);
    Ok(items)
}

fn one_by_one(
    mut targets: Vec<String>,
    timeout: Option<Duration>,
    session: &mut Session,
) -> Result<u8, Error> {
    let mut client = session.client_for(&mut targets)?;
    let items = suggest::better_items(session, &in_order(client.status(targets.clone())?, &targets));
    // What is not there is a reason to touch nothing.
    let mut unknown = Counts::default();
    let all: Vec<&Process> = items.iter().filter_map(|item| judge(item, &mut unknown)).collect();
    if unknown.exit_code() != 0 {
        return Ok(unknown.exit_code());
    }
    for (n, process) in all.iter().enumerate() {
        let target = vec![process.id.to_string()];
        let progress = Progress::begin(session, &target, Wanted::Ready);
        let mut items = client.restart(target.clone())?;
        if items.iter().all(|item| item.error.is_none()) {
            items = client.wait(Wait { targets: target, until: Until::Ready, timeout })?;
            tell_late(&mut items, Until::Ready, timeout);
        }
        drop(progress);
        let code = report_states(session, &items).exit_code();
        session.out.flush();
        if code == 0 {
            continue;
        }
        let left: Vec<_> = all[n + 1..].iter().map(|process| process.label()).collect();
        if !left.is_empty() {
            stdout::notice(&format!("left as they are: {}", left.join(", ")));
        }
        return Ok(if n == 0 { code } else { Code::Partial.exit_code() });
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = |pace| Ok(RestartArgs { targets: vec!["web-*".into()], pace });
        assert_eq!(parsed("web-*"), args(Pace::AtOnce { wait: None, timeout: None }));
        assert_eq!(parsed("--one-by-one web-*"), args(Pace::OneByOne { timeout: None }));
        let timeout = Some(Duration::from_secs(3));
        assert_eq!(
            parsed("--wait --timeout 3s web-*"),
            args(Pace::AtOnce { wait: Some(Until::Ready), timeout })
        );
        assert!(parsed("--timeout 3s web-*").is_err() && parsed("--wait --one-by-one web-*").is_err());
    }
}
