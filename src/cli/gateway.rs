//! `provost gateway`: not for people. The engine starts it as a process of the service's own.

use std::path::PathBuf;

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::serve;
use crate::cli::session::Session;
use crate::wire::error::Error;

pub const SUMMARY: &str = "The gateway of the service; the engine starts it";
pub const HELP: &str = "\
Usage: provost gateway [OPTIONS]

'provost serve' runs this by itself when its configuration has a section [grpc].

Options:
      --config FILE          Settings
      --state DIR            Where certificates and users are that they do not name
";

#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    pub config: PathBuf,
    pub state: Option<PathBuf>,
}

pub fn parse(arguments: &mut Arguments) -> Result<Args, Error> {
    let (mut config, mut state) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(option) if option == "--config" => {
                config = Some(arguments.value(&option)?.into())
            }
            Argument::Option(option) if option == "--state" => state = Some(arguments.value(&option)?.into()),
            Argument::Option(option) => return Err(arguments.unknown(&option)),
            Argument::Value(value) => return Err(arguments.stray(&value)),
        }
    }
    let config = config.ok_or_else(|| arguments.usage("there is no --config".into()))?;
    Ok(Args { config, state })
}

pub fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    serve::run_gateway(args, session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::new(line.split(' ').map(Into::into)).unwrap());
        let args = Args { config: "f".into(), state: Some("/d".into()) };
        assert_eq!(parsed("--config f --socket /s --state /d"), Ok(args));
        assert!(parsed("--state /d").is_err());
    }
}
