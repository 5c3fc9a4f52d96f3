//! `provost wait`: waits for processes, and ends as they did.

use crate::cli::arguments::Arguments;
use crate::cli::batch::Counts;
use crate::cli::batch::in_order;
use crate::cli::batch::judge;
use crate::cli::command::{Codes, Command, job};
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::text;
use crate::cli::values;
use crate::wire::error::{Code, Error};
use crate::wire::process::Exit;
use crate::wire::request::{Until, Wait};
use crate::wire::time::Timestamp;

pub const COMMAND: Command =
    Command::new("wait", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).codes(Codes::Process);
const SUMMARY: &str = "Wait for processes to stop, and exit as they did";
const HELP: &str = "\
Usage: provost wait [OPTIONS] TARGET...

Exits with the process's exit code, or 128 + its signal; with several, with the first that is not 0.
Waiting for running or ready, exits with 0 when it is so. Its own failures are 125; 5: timed out.

Options:
      --for WHAT             stopped (default), running or ready
      --timeout D            How long at most

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
                    other => return Err(values::bad(&option, other, "write stopped, running or ready")),
                }
            }
            "--timeout" => wait.timeout = Some(arguments.duration(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    wait.targets = arguments.targets()?;
    Ok(wait)
}

fn run(wait: Wait, session: &mut Session) -> Result<u8, Error> {
    let until = wait.until;
    let targets = wait.targets.clone();
    let items = in_order(session.client()?.wait(wait)?, &targets);
    let (mut counts, mut code, now) = (Counts::default(), 0, Timestamp::now());
    for item in &items {
        if session.is_json() {
            session.object(&json::item(item));
        }
        let Some(process) = judge(item, &mut counts) else { continue };
        counts.done();
        if !session.is_json() {
            session.out.line(&format!("{}: {}", process.label(), text::state(process, now)));
        }
        if code == 0 && until == Until::Stopped {
            code = process.exit.as_ref().map_or(0, Exit::shell_code);
        }
    }
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
