//! `provost keeper`: not for people. A keeper becomes this at an upgrade, in its own process, with its
//! descriptors.

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::serve::{report, take_name};
use crate::cli::session::Session;
use crate::keeper::{Handed, rehearse, resume};
use crate::sys::system;
use crate::wire::error::Error;

pub const COMMAND: Command = Command::new("keeper", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Hidden)
    .text_only();
const SUMMARY: &str = "The keeper of the service, gone on from an upgrade";
const HELP: &str = "\
Usage: provost keeper [OPTIONS]

'provost upgrade' makes 'provost serve' this by itself.

Options:
      --handover FD          The descriptor of what the keeper before left
      --image FD             The descriptor of its program
      --rehearse             Only look whether it could go on
      --returned WHY         The other keeper could not go on
";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeeperArgs {
    pub handover: Option<i32>,
    pub image: Option<i32>,
    pub rehearse: bool,
    pub returned: Option<String>,
}

fn parse(arguments: &mut Arguments) -> Result<KeeperArgs, Error> {
    let mut args = KeeperArgs::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--handover" => args.handover = Some(arguments.number(&option)?),
            "--image" => args.image = Some(arguments.number(&option)?),
            "--rehearse" => args.rehearse = true,
            "--returned" => args.returned = Some(arguments.value(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values().map(|()| args)
}

/// The keeper that was another program until now.
fn run(args: KeeperArgs, session: &mut Session) -> Result<u8, Error> {
    system::end_at_panic();
    take_name();
    let (Some(memory), Some(image)) = (args.handover, args.image) else {
        return Err(Error::usage("'provost keeper' is what 'provost serve' becomes, and nothing else")
            .hint("to start the service: provost serve"));
    };
    let handed = Handed { socket: session.socket()?, memory, image, returned: args.returned };
    if args.rehearse { rehearse(&handed) } else { resume(&handed, &mut report) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let arguments =
            ["--handover", "7", "--image", "8", "--returned", "why not", "--rehearse"].map(Into::into);
        let args = parse(&mut Arguments::new(arguments).unwrap()).unwrap();
        assert_eq!(
            args,
            KeeperArgs {
                handover: Some(7),
                image: Some(8),
                rehearse: true,
                returned: Some("why not".into())
            }
        );
        assert!(parse(&mut Arguments::of("--handover x")).is_err());
    }
}
