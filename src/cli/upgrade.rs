//! `provost upgrade`: moves the running service to another binary.

use std::path::Path;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::text;
use crate::wire::error::{Code, Error};
use crate::wire::id::UpgradeId;
use crate::wire::reply::Upgraded;
use crate::wire::request::Upgrade;

pub const COMMAND: Command = Command::new("upgrade", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::Nothing);
const SUMMARY: &str = "Move the running service to its new binary";
const HELP: &str = "\
Usage: provost upgrade [OPTIONS]

Put the new binary where the old one was, by renaming, and run this. Processes keep their pids and
lose no output; commands under way are answered by the new service. If the new binary does not come
up, the old one goes on, and the command says why.

Options:
      --to PATH              This binary, instead of the one where 'provost serve' was started from

Examples:
  provost upgrade
  provost upgrade --to /usr/local/bin/provost
";

fn parse(arguments: &mut Arguments) -> Result<Option<String>, Error> {
    let mut to = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--to" => to = Some(arguments.value(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values().map(|()| to)
}

fn run(to: Option<String>, session: &mut Session) -> Result<u8, Error> {
    let path = to.as_deref().map(whole).transpose()?;
    let upgraded = session.client()?.upgrade(Upgrade { id: UpgradeId::new(), path })?;
    session.answer(|| json::upgraded(&upgraded), || text::escaped(&sentence(&upgraded)).into_owned());
    Ok(0)
}

/// The path as the service has to be told it: it has another working directory.
fn whole(path: &str) -> Result<String, Error> {
    let whole = text::absolute("path", Path::new(path))?.into_os_string().into_string();
    whole
        .map_err(|_| Error::new(Code::Failed, "the working directory is no text: give --to an absolute path"))
}

fn sentence(u: &Upgraded) -> String {
    if u.before == u.after {
        format!("the service runs {} now, version {} as before", u.path, u.after)
    } else {
        format!("upgraded from {} to {} ({})", u.before, u.after, u.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_made_whole_here() {
        let parsed = |line: &[&str]| parse(&mut Arguments::new(line.iter().map(Into::into)).unwrap());
        assert_eq!(parsed(&[]), Ok(None));
        assert_eq!(parsed(&["--to", "new"]), Ok(Some("new".into())));
        assert!(parsed(&["new"]).is_err());
        assert!(whole("new").unwrap().ends_with("/new") && whole("new").unwrap().starts_with('/'));
        assert_eq!(whole("/x/y"), Ok("/x/y".into()));
    }

    #[test]
    fn versions_are_told_apart() {
        let shown = |before: &str, after: &str| {
            sentence(&Upgraded { before: before.into(), after: after.into(), path: "/p".into() })
        };
        assert_eq!(shown("0.1.0", "0.1.1"), "upgraded from 0.1.0 to 0.1.1 (/p)");
        assert_eq!(shown("0.1.0", "0.1.0"), "the service runs /p now, version 0.1.0 as before");
    }
}
