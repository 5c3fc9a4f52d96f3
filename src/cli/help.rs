//! `provost help`: the commands, or one of them.

use crate::cli::Command;
use crate::cli::arguments::{Argument, Arguments};
use crate::cli::find;
use crate::cli::manual;
use crate::cli::session::Session;
use crate::wire::error::Error;

pub const SUMMARY: &str = "Show the commands, or the options of one";
pub const HELP: &str = "\
Usage: provost help [COMMAND]

Options:
      --man                  Print the manual page, for man(1)
";

pub enum Args {
    Overview,
    Page,
    Command(&'static Command),
}

pub fn parse(arguments: &mut Arguments) -> Result<Args, Error> {
    let mut args = Args::Overview;
    while let Some(argument) = arguments.next()? {
        match (argument, &args) {
            (Argument::Value(value), Args::Overview) => args = Args::Command(find(&value)?),
            (Argument::Value(value), Args::Page | Args::Command(_)) => return Err(arguments.stray(&value)),
            (Argument::Option(option), Args::Overview) if option == "--man" => args = Args::Page,
            (Argument::Option(option), _) => return Err(arguments.unknown(&option)),
        }
    }
    Ok(args)
}

pub fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    match args {
        Args::Overview => session.out.line(&manual::overview()),
        Args::Page => session.out.bytes(manual::page().as_bytes()),
        Args::Command(command) => session.out.line(&manual::help(command)),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_at_most() {
        let parsed = |line: &[&str]| parse(&mut Arguments::new(line.iter().map(Into::into)).unwrap());
        assert!(matches!(parsed(&[]), Ok(Args::Overview)));
        assert!(matches!(parsed(&["--man"]), Ok(Args::Page)));
        assert!(matches!(parsed(&["stop"]), Ok(Args::Command(c)) if c.name == "stop"));
        assert!(parsed(&["stpo"]).is_err_and(|e| e.hint.contains("'provost stop'")));
        assert!(parsed(&["stop", "start"]).is_err());
    }
}
