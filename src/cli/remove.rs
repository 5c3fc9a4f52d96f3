//! `provost remove`: forgets processes and their output.

use crate::cli::arguments::Arguments;
use crate::cli::batch::{Expectation, in_order, report};
use crate::cli::command::{Command, job};
use crate::cli::declared::Declared;
use crate::cli::progress::{Progress, Until as Wanted};
use crate::cli::session::Session;
use crate::cli::state;
use crate::cli::stdout;
use crate::wire::error::{Code, Error};
use crate::wire::id::Name;
use crate::wire::reply::Item;
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
    items.retain(|item| !is_as_wanted(item, &targets, force));
    let counts = report(session, &items, |_| Expectation::Yes("removed".into()));
    for item in items.iter().filter(|i| i.process.is_none() && i.error.is_none()) {
        if !session.is_json() {
            session.out.line(&format!("{}: removed", item.target));
        }
    }
    if !session.is_json() {
        let gone = items.iter().filter(|item| item.error.is_none()).map(|item| item.target.as_str());
        tell_declared(&gone.collect::<Vec<_>>(), session);
    }
    Ok(counts.exit_code())
}

/// Says which of those that are gone the service's configuration declares.
fn tell_declared(gone: &[&str], session: &Session) {
    let own = || state::of_service(&session.socket().ok()?).config;
    let declared = if session.remote.is_given() { None } else { own() };
    let Some(Ok(declared)) = declared.map(|path| Declared::read(&path)) else { return };
    let names = declared.processes.iter().filter_map(|wanted| wanted.spec.name.as_ref()).map(Name::as_str);
    let again: Vec<_> = names.filter(|name| gone.contains(name)).collect();
    if !again.is_empty() {
        let how = "declared, and so made again by the next 'provost apply' or start of the service";
        stdout::notice(&format!("{}: {how}", again.join(", ")));
    }
}

/// What is not there is what was wanted; who names it without --force hears of it. A pattern names nobody:
/// one that it meant has gone meanwhile, as what has ended does by itself (`keep_ended`).
fn is_as_wanted(item: &Item, targets: &[String], force: bool) -> bool {
    let is_gone = item.error.as_ref().is_some_and(|e| e.code == Code::NotFound);
    is_gone && (force || !targets.contains(&item.target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_is_read() {
        let remove = parse(&mut Arguments::of("a --force")).unwrap();
        assert_eq!(remove, Remove { targets: vec!["a".into()], force: true });
    }

    #[test]
    fn one_of_a_pattern_that_has_gone_by_itself_is_no_failure() {
        let item = |target: &str, code: Option<Code>| Item {
            target: target.into(),
            process: None,
            error: code.map(|code| Error::new(code, "as it is")),
            unrecorded: None,
            has_others: false,
        };
        let targets = ["*".to_owned(), "web".to_owned(), "db-*".to_owned()];
        let hears = |item: &Item| [false, true].map(|force| !is_as_wanted(item, &targets, force));
        assert_eq!(hears(&item("01a2", Some(Code::NotFound))), [false, false]);
        assert_eq!(hears(&item("web", Some(Code::NotFound))), [true, false]);
        // It means nobody at all.
        assert_eq!(hears(&item("db-*", Some(Code::NotFound))), [true, false]);
        assert_eq!(hears(&item("01a2", Some(Code::Refused))), [true, true]);
        assert_eq!(hears(&item("01a2", None)), [true, true]);
    }
}
