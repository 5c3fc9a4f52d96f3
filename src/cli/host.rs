//! `provost host`: not for people. The engine starts it as a process of the service's own.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::serve::take_name;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::host;
use crate::wire::error::Error;

pub const SUMMARY: &str = "The host of providers; the engine starts it";
pub const HELP: &str = "\
Usage: provost host [OPTIONS]

'provost serve' runs this by itself when a provider is asked for.

Options:
      --config FILE          Settings
      --state DIR            Where the directory of providers is
";

/// Where binaries of providers are executed from, beside the one of the service itself.
const DIRECTORIES: [&str; 2] = ["/usr/lib/provost/providers", "/usr/local/lib/provost/providers"];

#[derive(Debug, Default, PartialEq, Eq)]
pub struct HostArgs {
    pub config: Option<PathBuf>,
    pub state: Option<PathBuf>,
}

pub fn parse(arguments: &mut Arguments) -> Result<HostArgs, Error> {
    let mut args = HostArgs::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(option) if option == "--config" => {
                args.config = Some(arguments.value(&option)?.into());
            }
            Argument::Option(option) if option == "--state" => {
                args.state = Some(arguments.value(&option)?.into());
            }
            Argument::Option(option) => return Err(arguments.unknown(&option)),
            Argument::Value(value) => return Err(arguments.stray(&value)),
        }
    }
    Ok(args)
}

/// The host, in its own process. Only an error or a signal ends it.
pub fn run(args: HostArgs, session: &mut Session) -> Result<u8, Error> {
    take_name();
    let state = args.state.map(|state| state.join("providers"));
    let directories = state.into_iter().chain(DIRECTORIES.map(PathBuf::from)).collect();
    let say = Arc::new(|line: &str| stdout::notice(line));
    match host::run(host::Options { socket: session.socket()?, directories, say })? {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::new(line.split(' ').map(Into::into)).unwrap());
        let args = HostArgs { config: Some("f".into()), state: Some("/d".into()) };
        assert_eq!(parsed("--config f --socket /s --state /d"), Ok(args));
        assert!(parsed("x").is_err());
    }
}
