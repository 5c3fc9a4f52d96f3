//! `provost gateway`: not for people. The engine starts it as a process of the service's own.

use std::sync::Arc;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::serve::take_name;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::client::Address;
use crate::gateway::{self, Serves};
use crate::sys::socket::inherited;
use crate::wire::error::Error;

pub const COMMAND: Command = Command::new("gateway", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Hidden)
    .text_only();
const SUMMARY: &str = "The gateway of the service; the engine starts it";
const HELP: &str = "\
Usage: provost gateway [OPTIONS]

'provost serve' runs this by itself when its configuration has a section [grpc].

Options:
      --listen ADDRESS       Where it listens for others
      --local                It serves programs on this machine alone
";

fn parse(arguments: &mut Arguments) -> Result<Serves, Error> {
    // The address tells one that has to be replaced: what it works with comes from the engine.
    let mut serves = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--listen" => {
                arguments.value(&option)?;
                serves = Some(Serves::Network);
            }
            "--local" => serves = Some(Serves::ThisMachine),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values()?;
    serves.ok_or_else(|| arguments.usage("there is neither --listen nor --local".into()))
}

/// The gateway, in its own process, as the engine starts it. Only an error or a signal ends it.
fn run(serves: Serves, session: &mut Session) -> Result<u8, Error> {
    take_name();
    let socket = session.socket()?;
    // Its standard input is the way to the engine.
    let end = inherited(0).map_err(|_| {
        Error::usage("'provost gateway' is started by the service and by nothing else")
            .hint("[grpc] in the configuration of 'provost serve' has it started")
    })?;
    let address = Address::of_gateway(end, socket.clone());
    let say = Arc::new(|line: &str| stdout::log(line));
    match gateway::run(gateway::Options { address, socket, serves, say })? {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        assert_eq!(parsed("--socket /s --listen 127.0.0.1:1"), Ok(Serves::Network));
        assert_eq!(parsed("--local"), Ok(Serves::ThisMachine));
        assert!(parsed("--socket /s").is_err());
    }
}
