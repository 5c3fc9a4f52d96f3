//! `provost remove`: forgets processes and their output.

use crate::cli::batch::Verdict;
use crate::cli::batch::in_order;
use crate::cli::batch::report;
use crate::cli::session::Session;
use crate::cli::words::{Word, Words};
use crate::wire::error::Error;
use crate::wire::request::Remove;

pub const SUMMARY: &str = "Forget stopped processes and their output";
pub const HELP: &str = "\
Usage: provost remove [OPTIONS] TARGET...

Options:
      --force                Stop first what still runs
";

pub fn parse(words: &mut Words) -> Result<Remove, Error> {
    let mut remove = Remove::default();
    while let Some(word) = words.next()? {
        match word {
            Word::Value(value) => remove.targets.push(value),
            Word::Option(option) if option == "--force" => remove.force = true,
            Word::Option(option) => return Err(words.unknown(&option)),
        }
    }
    remove.targets = words.targets(remove.targets)?;
    Ok(remove)
}

pub fn run(remove: Remove, session: &mut Session) -> Result<u8, Error> {
    let targets = remove.targets.clone();
    let items = in_order(session.client()?.remove(remove)?, &targets);
    let tally = report(session, &items, |_| Verdict::Yes("removed".into()));
    for item in items.iter().filter(|i| i.process.is_none() && i.error.is_none()) {
        if !session.is_json() {
            session.out.line(&format!("{}: removed", item.target));
        }
    }
    Ok(tally.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_is_read() {
        let remove = parse(&mut Words::new(["a".into(), "--force".into()]).unwrap()).unwrap();
        assert_eq!(remove, Remove { targets: vec!["a".into()], force: true });
    }
}
