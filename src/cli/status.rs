//! `provost status`: how processes are. The command that scripts call most, so it does nothing else.

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::batch::report_states;
use crate::cli::command::{Command, job};
use crate::cli::session::Session;
use crate::wire::error::{Code, Error};
use crate::wire::process::State;

pub const COMMAND: Command = Command::new("status", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Tell how processes are";
const HELP: &str = "\
Usage: provost status TARGET...

Exit code 0 when all of them are running, 3 when one is not, 4 when there is no such process.
";

fn parse(arguments: &mut Arguments) -> Result<Vec<String>, Error> {
    arguments.no_options()?;
    arguments.targets()
}

fn run(targets: Vec<String>, session: &mut Session) -> Result<u8, Error> {
    let items = session.client()?.status(targets)?;
    let counts = report_states(session, &items);
    applied::notice(session);
    let all_run = items.iter().filter_map(|i| i.process.as_ref()).all(|p| p.state == State::Running);
    Ok(match counts.exit_code() {
        0 if !all_run => Code::No.exit_code(),
        code => code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!(parse(&mut Arguments::of("a b*")).unwrap(), ["a", "b*"]);
        assert!(parse(&mut Arguments::of("a --all")).is_err());
    }
}
