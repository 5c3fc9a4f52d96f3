//! `provost engine`: not for people. The keeper starts it with its descriptors in place.

use std::path::PathBuf;

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::serve;
use crate::cli::session::Session;
use crate::wire::error::Error;

pub const SUMMARY: &str = "The engine of the service; the keeper starts it";
pub const HELP: &str = "\
Usage: provost engine [OPTIONS]

'provost serve' runs this by itself.

Options:
      --cgroup-root DIR      Where processes get their cgroups
      --exe PATH             Where the service was started from
      --state DIR            Where the database is
      --config FILE          Settings
      --check                Only look whether these can be used
";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    pub cgroups: Option<PathBuf>,
    pub exe: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub is_check: bool,
}

pub fn parse(arguments: &mut Arguments) -> Result<Args, Error> {
    let mut args = Args::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(option) if option == "--cgroup-root" => {
                args.cgroups = Some(arguments.value(&option)?.into());
            }
            Argument::Option(option) if option == "--exe" => {
                args.exe = Some(arguments.value(&option)?.into())
            }
            Argument::Option(option) if option == "--state" => {
                args.state = Some(arguments.value(&option)?.into())
            }
            Argument::Option(option) if option == "--config" => {
                args.config = Some(arguments.value(&option)?.into())
            }
            Argument::Option(option) if option == "--check" => args.is_check = true,
            Argument::Option(option) => return Err(arguments.unknown(&option)),
            Argument::Value(value) => return Err(arguments.stray(&value)),
        }
    }
    Ok(args)
}

pub fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    serve::run_engine(args, session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&mut Arguments::new([]).unwrap()), Ok(Args::default()));
        let arguments = ["--cgroup-root".into(), "/x".into(), "--exe".into(), "/y".into()];
        let args = parse(&mut Arguments::new(arguments).unwrap()).unwrap();
        assert_eq!(args, Args { cgroups: Some("/x".into()), exe: Some("/y".into()), ..Args::default() });
        assert!(parse(&mut Arguments::new(["x".into()]).unwrap()).is_err());
    }
}
