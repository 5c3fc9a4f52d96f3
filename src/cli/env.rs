//! `provost env`: the variables that every process gets.

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::env_file;
use crate::cli::environment;
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::cli::values;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::reply::Environment;
use crate::wire::request::EnvChange;
use crate::wire::spec::check_env;

pub const COMMAND: Command = Command::new("env", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
    .takes(Positional::OneOf(&["list", "set", "unset", "replace"]));
const SUMMARY: &str = "Show or change the variables that every process gets";
const HELP: &str = "\
Usage: provost env [list]
       provost env set K=V...
       provost env unset K...
       provost env replace FILE

'replace' makes them be what FILE says, and no others: one K=V per line, as for --env-file. So does [environment]
of a configuration, with apply. Processes see a change at their next start.

Examples:
  provost env
  provost env set LEVEL=info REGION=eu
  provost env unset REGION
  provost env replace /etc/provost/common.env
";

#[derive(Debug, PartialEq, Eq)]
enum EnvArgs {
    Change(EnvChange),
    /// By all that this file says.
    Replace(String),
}

fn parse(arguments: &mut Arguments) -> Result<EnvArgs, Error> {
    arguments.no_options()?;
    let mut change = EnvChange::default();
    match arguments.next_value().as_deref() {
        None => {}
        Some("list") => arguments.no_values()?,
        Some("set") => {
            for value in arguments.values() {
                let (key, value) = values::pair("'env set'", &value)?;
                check_env(&key, &value)?;
                change.set.push((key, value));
            }
            if change.set.is_empty() {
                return Err(arguments.usage("nothing is given to set".into()));
            }
        }
        Some("unset") => {
            change.unset = arguments.values();
            if change.unset.is_empty() {
                return Err(arguments.usage("nothing is given to unset".into()));
            }
            for key in &change.unset {
                check_env(key, "")?;
            }
        }
        Some("replace") => {
            let file = arguments.next_value().ok_or_else(|| arguments.usage("no file is given".into()))?;
            arguments.no_values()?;
            return Ok(EnvArgs::Replace(file));
        }
        Some(other) if other.contains('=') => {
            let e = Error::usage(format!("there is no 'provost env {}'", quoted(other).trim_matches('\'')));
            return Err(e.hint(format!("provost env set {other}")));
        }
        Some(other) => {
            let e =
                arguments.usage(format!("there is no 'provost env {}'", quoted(other).trim_matches('\'')));
            return Err(if other == "get" { e.hint("'provost env' lists them all") } else { e });
        }
    }
    Ok(EnvArgs::Change(change))
}

fn run(args: EnvArgs, session: &mut Session) -> Result<u8, Error> {
    let mut client = session.client()?;
    let change = match &args {
        EnvArgs::Change(change) => change.clone(),
        EnvArgs::Replace(file) => {
            let wanted = env_file::read(file)?;
            wanted.iter().try_for_each(|(key, value)| check_env(key, value))?;
            environment::change(&client.env(EnvChange::default())?.env, &wanted)
        }
    };
    let is_change = args != EnvArgs::Change(EnvChange::default());
    let Environment { env, unrecorded } = client.env(change)?;
    if let Some(why) = unrecorded {
        stdout::notice(&format!("the environment is changed, but it is not recorded: {why}"));
    }
    if session.is_json() {
        session.object(&json::pairs(&env));
    } else if is_change && session.out.is_terminal() {
        stdout::notice("it holds for what starts from now on: 'provost restart all' has all take it");
    } else if !is_change {
        for (key, value) in env {
            session.out.line(&text::escaped(&format!("{key}={value}")));
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let parsed = |line: &[&str]| parse(&mut Arguments::new(line.iter().map(Into::into)).unwrap());
        let change = |line: &[&str]| match parsed(line) {
            Ok(EnvArgs::Change(change)) => change,
            other => panic!("{other:?}"),
        };
        assert_eq!(change(&[]), EnvChange::default());
        assert_eq!(change(&["list"]), EnvChange::default());
        assert_eq!(change(&["set", "A=b=c", "E="]).set[1], ("E".into(), String::new()));
        assert_eq!(change(&["unset", "A"]).unset, ["A"]);
        assert_eq!(parsed(&["replace", "a.env"]), Ok(EnvArgs::Replace("a.env".into())));
        for bad in [
            &["set"][..],
            &["set", "A"],
            &["set", "=x"],
            &["unset"],
            &["unset", "A=b"],
            &["get"],
            &["replace"],
            &["replace", "a", "b"],
            &["list", "x"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
