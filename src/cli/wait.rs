//! `provost wait`: waits for processes, and ends as they did.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{in_order, report_states, tell_late};
use crate::cli::command::{Codes, Command, job};
use crate::cli::progress::{Progress, Until as Wanted};
use crate::cli::session::Session;
use crate::cli::values;
use crate::wire::error::{Code, Error};
use crate::wire::process::Exit;
use crate::wire::request::{Until, Wait};

pub const COMMAND: Command =
    Command::new("wait", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).codes(Codes::Process);
const SUMMARY: &str = "Wait for processes to stop, and exit as they did";
const HELP: &str = "\
Usage: provost wait [OPTIONS] TARGET...

Exits with the process's exit code, or 128 + its signal; with several, with the first that is not 0.
Waiting for running or ready, exits with 0 when it is so. Its own failures are 125; 5: timed out.

Options:
      --for WHAT             stopped (default), running or ready
      --timeout D            How long at most, else for ever

Examples:
  provost wait --for ready --timeout 30s web
  provost wait 'worker-*'
";

fn parse(arguments: &mut Arguments) -> Result<Wait, Error> {
    let mut wait = Wait::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--for" => {
                wait.until = match arguments.value(&option)?.as_str() {
                    "stopped" => Until::Stopped,
                    "running" => Until::Running,
                    "ready" => Until::Ready,
                    other => {
                        return Err(values::bad(
                            &option,
                            other,
                            "write stopped, running or ready; its end is what is waited for without --for",
                        ));
                    }
                }
            }
            "--timeout" => wait.timeout = Some(arguments.duration(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    wait.targets = arguments.targets()?;
    Ok(wait)
}

fn run(mut wait: Wait, session: &mut Session) -> Result<u8, Error> {
    let (until, timeout) = (wait.until, wait.timeout);
    let mut client = session.client_for(&mut wait.targets)?;
    let targets = wait.targets.clone();
    let wanted = if until == Until::Stopped { Wanted::AtRest } else { Wanted::Ready };
    let progress = Progress::begin(session, &targets, wanted);
    let mut items = in_order(client.wait(wait)?, &targets);
    drop(progress);
    tell_late(&mut items, until, timeout);
    report_states(session, &items);
    let stopped = items.iter().filter(|item| item.error.is_none() && until == Until::Stopped);
    let mut codes = stopped.filter_map(|item| item.process.as_ref()?.exit.as_ref()).map(Exit::shell_code);
    let code = codes.find(|&code| code != 0).unwrap_or(0);
    match items.iter().find_map(|item| item.error.as_ref()) {
        // Told already; the code is apart from those of programs.
        Some(e) if e.code == Code::TimedOut => Ok(e.code.exit_code()),
        Some(_) => Ok(125),
        None => Ok(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let wait = parsed("web --for ready --timeout 1.5s").unwrap();
        assert_eq!((wait.until, wait.timeout), (Until::Ready, Some(Duration::from_millis(1500))));
        assert_eq!(parsed("web").unwrap().until, Until::Stopped);
        assert!(parsed("web --for lunch").is_err());
    }
}
