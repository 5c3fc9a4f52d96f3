//! `provost restart`: stops processes and starts them.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{in_order, report_states};
use crate::cli::command::{Command, job};
use crate::cli::session::Session;
use crate::wire::error::Error;

pub const COMMAND: Command = Command::new("restart", SUMMARY, HELP, |arguments| job(parse(arguments)?, run));
const SUMMARY: &str = "Stop processes and start them; what is stopped is started";
const HELP: &str = "\
Usage: provost restart TARGET...

Each keeps its UUID and its name, and gets the next run number.
";

fn parse(arguments: &mut Arguments) -> Result<Vec<String>, Error> {
    arguments.no_options()?;
    arguments.targets()
}

fn run(targets: Vec<String>, session: &mut Session) -> Result<u8, Error> {
    let items = in_order(session.client()?.restart(targets.clone())?, &targets);
    Ok(report_states(session, &items).exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!(parse(&mut Arguments::of("web-*")).unwrap(), ["web-*"]);
    }
}
