//! `provost help`: the commands, or one of them.

use crate::cli::aliases;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::config_page;
use crate::cli::manual;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::values;
use crate::wire::error::Error;

pub const COMMAND: Command = Command::new("help", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Command)
    .text_only();
const SUMMARY: &str = "Show the commands, or the options of one";
const HELP: &str = "\
Usage: provost help [COMMAND]

Options:
      --man[=config]         Print the manual page, for man(1): provost(1), or provost.toml(5)

Examples:
  provost help start
  provost help --man=config
";

/// What is to be shown.
#[derive(Debug, PartialEq, Eq)]
enum Topic {
    Overview,
    ManualPage,
    ConfigPage,
    Command(String),
}

fn parse(arguments: &mut Arguments) -> Result<Topic, Error> {
    let mut topic = Topic::Overview;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--man" => {
                topic = match arguments.glued_value().as_deref() {
                    None => Topic::ManualPage,
                    Some("config") => Topic::ConfigPage,
                    Some(other) => return Err(values::bad(&option, other, "write --man or --man=config")),
                }
            }
            _ => return Err(arguments.unknown(&option)),
        }
    }
    if topic == Topic::Overview {
        topic = arguments.next_value().map_or(topic, Topic::Command);
    }
    arguments.no_values().map(|()| topic)
}

fn run(topic: Topic, session: &mut Session) -> Result<u8, Error> {
    let commands = &session.commands;
    match topic {
        Topic::Overview => session.out.line(&manual::overview(commands)),
        Topic::ManualPage => session.out.bytes(manual::page(commands).as_bytes()),
        Topic::ConfigPage => session.out.bytes(config_page::page().as_bytes()),
        Topic::Command(name) => {
            let meant = aliases::command_of(&name);
            let command = commands.iter().find(|command| command.name == meant);
            let command = command.ok_or_else(|| manual::no_command(commands, &name))?;
            session.out.line(&manual::help(command));
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_at_most() {
        let parsed = |line: &[&str]| parse(&mut Arguments::new(line.iter().map(Into::into)).unwrap());
        assert_eq!(parsed(&[]), Ok(Topic::Overview));
        assert_eq!(parsed(&["--man"]), Ok(Topic::ManualPage));
        assert_eq!(parsed(&["--man=config"]), Ok(Topic::ConfigPage));
        assert_eq!(parsed(&["stop"]), Ok(Topic::Command("stop".into())));
        assert!(parsed(&["stop", "start"]).is_err());
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_one_that_is_meant() {
        let mut session = Session::new(crate::cli::abouts());
        assert!(run(Topic::Command("stop".into()), &mut session).is_ok());
        let e = run(Topic::Command("stpo".into()), &mut session).unwrap_err();
        assert!(e.hint.contains("'provost stop'"), "{e}");
    }
}
