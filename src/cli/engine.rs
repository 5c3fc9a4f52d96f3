//! `provost engine`: not for people. The keeper starts it with its descriptors in place.

use std::path::PathBuf;

use crate::cli::serve;
use crate::cli::session::Session;
use crate::cli::words::{Word, Words};
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

pub fn parse(words: &mut Words) -> Result<Args, Error> {
    let mut args = Args::default();
    while let Some(word) = words.next()? {
        match word {
            Word::Option(option) if option == "--cgroup-root" => {
                args.cgroups = Some(words.value(&option)?.into());
            }
            Word::Option(option) if option == "--exe" => args.exe = Some(words.value(&option)?.into()),
            Word::Option(option) if option == "--state" => args.state = Some(words.value(&option)?.into()),
            Word::Option(option) if option == "--config" => args.config = Some(words.value(&option)?.into()),
            Word::Option(option) if option == "--check" => args.is_check = true,
            Word::Option(option) => return Err(words.unknown(&option)),
            Word::Value(value) => return Err(words.stray(&value)),
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
        assert_eq!(parse(&mut Words::new([]).unwrap()), Ok(Args::default()));
        let words = ["--cgroup-root".into(), "/x".into(), "--exe".into(), "/y".into()];
        let args = parse(&mut Words::new(words).unwrap()).unwrap();
        assert_eq!(args, Args { cgroups: Some("/x".into()), exe: Some("/y".into()), ..Args::default() });
        assert!(parse(&mut Words::new(["x".into()]).unwrap()).is_err());
    }
}
