//! `provost status`: how processes are. The command that scripts call most, so it asks for more than that
//! only where a person is told what failed.

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::batch::{Counts, Expectation, judge, report};
use crate::cli::command::{Command, job};
use crate::cli::format::Format;
use crate::cli::last_output;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::suggest;
use crate::cli::text;
use crate::client::Client;
use crate::wire::error::{Code, Error};
use crate::wire::id::ProcessId;
use crate::wire::process::{Process, State};
use crate::wire::reply::Item;
use crate::wire::request::List;
use crate::wire::time::Timestamp;

/// How many of the last lines are shown of what failed.
const LINES_MAX: usize = 3;

pub const COMMAND: Command = Command::new("status", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Tell how processes are";
const HELP: &str = "\
Usage: provost status [OPTIONS] [TARGET...]

Without a target, of all of them; of what has failed, also its last three lines. Exit code 0 when all of
them are running, or wait for their schedule after a run that went well, 3 when one is not, 4 when there is
no such process. What runs need not be ready: 'provost wait --for ready' asks for that.

Options:
      --format TEXT          A line for each with its fields in place, as of 'provost list'

Examples:
  provost status
  provost status --format '{name} {state} {pid}' web
";

#[derive(Debug, PartialEq, Eq)]
struct StatusArgs {
    targets: Vec<String>,
    format: Option<Format>,
}

fn parse(arguments: &mut Arguments) -> Result<StatusArgs, Error> {
    let mut format = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--format" => format = Some(arguments.value(&option)?.parse()?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    Ok(StatusArgs { targets: arguments.targets_or_all()?, format })
}

fn run(args: StatusArgs, session: &mut Session) -> Result<u8, Error> {
    let mut targets = args.targets;
    let mut client = session.client_for(&mut targets)?;
    if targets.is_empty() {
        if client.list(List::default())?.is_empty() {
            stdout::notice("there is no process yet; to start one: provost start -- PROGRAM [ARG...]");
            return Ok(0);
        }
        targets.push("*".to_owned());
    }
    let items = client.look_at(targets)?;
    let counts = match &args.format {
        Some(format) if !session.is_json() => formatted(session, &items, format),
        Some(_) | None => {
            let failed = if session.is_json() { Vec::new() } else { failures(&mut client, &items)? };
            let now = Timestamp::now();
            report(session, &items, |p| {
                let lines = failed.iter().find(|(id, _)| *id == p.id).map_or("", |(_, lines)| lines.as_str());
                Expectation::Yes(format!("{}{lines}", text::state(p, now)))
            })
        }
    };
    applied::notice(session);
    let runs = |p: &Process| match p.state {
        State::Scheduled => !last_output::has_failed(p),
        state => state == State::Running,
    };
    let all_run = items.iter().filter_map(|i| i.process.as_ref()).all(runs);
    Ok(match counts.exit_code() {
        0 if !all_run => Code::No.exit_code(),
        code => code,
    })
}

fn formatted(session: &mut Session, items: &[Item], format: &Format) -> Counts {
    let mut counts = Counts::default();
    for item in &suggest::better_items(session, items) {
        let Some(process) = judge(item, &mut counts) else { continue };
        counts.done();
        session.out.line(&format.line(process));
    }
    counts
}

/// The last lines of those that have failed, behind their state.
fn failures(client: &mut Client, items: &[Item]) -> Result<Vec<(ProcessId, String)>, Error> {
    let all = items.iter().filter_map(|item| item.process.as_ref());
    all.filter(|p| last_output::has_failed(p)).map(|p| Ok((p.id, last_lines(client, p)?))).collect()
}

fn last_lines(client: &mut Client, p: &Process) -> Result<String, Error> {
    let lines = last_output::read(client, p, LINES_MAX)?;
    let runs_again = matches!(p.state, State::Running | State::Starting);
    let (of, lines) = if runs_again {
        (format!("last output of run {}, which ended", p.run.saturating_sub(1)), lines.before)
    } else {
        ("last output".to_owned(), lines.latest)
    };
    let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
    Ok(if lines.is_empty() { lines } else { format!("\n  {of}:{lines}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!(parse(&mut Arguments::of("a b*")).unwrap().targets, ["a", "b*"]);
        assert_eq!(parse(&mut Arguments::of("")).unwrap().targets, [""; 0]);
        assert!(parse(&mut Arguments::of("a --all")).is_err());
        assert!(parse(&mut Arguments::of("--format {nosuch}")).is_err());
    }
}
