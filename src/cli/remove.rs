//! `provost remove`: forgets processes and their output.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Expectation, in_order, report};
use crate::cli::command::{Command, job};
use crate::cli::progress::{Progress, Until as Wanted};
use crate::cli::session::Session;
use crate::wire::error::{Code, Error};
use crate::wire::request::Remove;

pub const COMMAND: Command =
    Command::new("remove", SUMMARY, HELP, |arguments| job(parse(arguments)?, run)).destroys();
const SUMMARY: &str = "Forget stopped processes and their output";
const HELP: &str = "\
Usage: provost remove [OPTIONS] TARGET...

Options:
  -f, --force                Stop first what still runs; what is not there is no error

Examples:
  provost remove web
  provost remove --force 'worker-*'
";

fn parse(arguments: &mut Arguments) -> Result<Remove, Error> {
    let mut remove = Remove::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--force" | "-f" => remove.force = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    remove.targets = arguments.targets()?;
    Ok(remove)
}

fn run(mut remove: Remove, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client_for(&mut remove.targets)?;
    let targets = remove.targets.clone();
    let progress = Progress::begin(session, &targets, Wanted::AtRest);
    let force = remove.force;
    let mut items = in_order(client.remove(remove)?, &targets);
    drop(progress);
    // What is not there is what was wanted.
    items.retain(|item| !force || item.error.as_ref().is_none_or(|e| e.code != Code::NotFound));
    let counts = report(session, &items, |_| Expectation::Yes("removed".into()));
    for item in items.iter().filter(|i| i.process.is_none() && i.error.is_none()) {
        if !session.is_json() {
            session.out.line(&format!("{}: removed", item.target));
        }
    }
    Ok(counts.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_is_read() {
        let remove = parse(&mut Arguments::of("a --force")).unwrap();
        assert_eq!(remove, Remove { targets: vec!["a".into()], force: true });
    }
}
