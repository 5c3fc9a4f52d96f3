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
";

pub fn parse(words: &mut Words) -> Result<Option<PathBuf>, Error> {
    let mut cgroups = None;
    while let Some(word) = words.next()? {
        match word {
            Word::Option(option) if option == "--cgroup-root" => cgroups = Some(words.value(&option)?.into()),
            Word::Option(option) => return Err(words.unknown(&option)),
            Word::Value(value) => return Err(words.stray(&value)),
        }
    }
    Ok(cgroups)
}

pub fn run(cgroups: Option<PathBuf>, _: &mut Session) -> Result<u8, Error> {
    serve::run_engine(cgroups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&mut Words::new([]).unwrap()), Ok(None));
        let words = ["--cgroup-root".into(), "/x".into()];
        assert_eq!(parse(&mut Words::new(words).unwrap()), Ok(Some("/x".into())));
        assert!(parse(&mut Words::new(["x".into()]).unwrap()).is_err());
    }
}
