//! `provost lookup`: not for people. The rest of the program asks it for the addresses of a name: the C
//! library that knows them may take as long as it likes, and a static program had better not load more of it.

use std::net::ToSocketAddrs;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::wire::error::{Code, Error};

pub const COMMAND: Command = Command::new("lookup", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Hidden)
    .text_only();
const SUMMARY: &str = "The addresses of a name; other commands ask for them";
const HELP: &str = "\
Usage: provost lookup NAME

'provost engine', 'provost host' and --host run this by themselves, for the names of sinks, of remote
providers, of executors of modules, and of services.
";

fn parse(arguments: &mut Arguments) -> Result<String, Error> {
    if let Some(option) = arguments.next_option()? {
        return Err(arguments.unknown(&option));
    }
    let name = arguments.next_value().ok_or_else(|| arguments.usage("no name is given".into()))?;
    arguments.no_values().map(|()| name)
}

fn run(name: String, session: &mut Session) -> Result<u8, Error> {
    let found = (name.as_str(), 0).to_socket_addrs();
    let found = found.map_err(|e| Error::new(Code::NotFound, format!("the name has no address: {e}")))?;
    found.for_each(|address| session.out.line(&address.ip().to_string()));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read() {
        assert_eq!(parse(&mut Arguments::of("build.example")), Ok("build.example".into()));
        assert!(parse(&mut Arguments::of("")).is_err() && parse(&mut Arguments::of("a b")).is_err());
    }
}
