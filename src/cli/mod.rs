//! The command line: one file per command, thin over the client, and the table of them. A command parses its
//! arguments and then runs; what it says goes to standard output, what went wrong to standard error. It
//! returns its exit code (of several targets, `batch.rs` makes one), or an error, for which `command.rs` has
//! the code.

#![forbid(unsafe_code)]

mod aliases;
mod applied;
mod apply;
mod arguments;
mod audit;
mod batch;
#[cfg(feature = "gateway")]
mod canary;
#[cfg(feature = "gateway")]
mod cert;
mod command;
mod completions;
mod config;
mod config_page;
mod declared;
mod doctor;
mod elsewhere;
mod engine;
mod env;
mod env_file;
mod environment;
mod escape;
mod events;
mod following;
mod format;
#[cfg(feature = "gateway")]
mod gateway;
mod graph;
mod help;
mod history;
#[cfg(feature = "gateway")]
mod host;
mod import;
mod json;
mod keeper;
mod labels;
mod last_lines;
mod last_output;
mod list;
mod log_lines;
mod logs;
mod lookup;
mod manual;
#[cfg(feature = "gateway")]
mod module;
#[cfg(feature = "gateway")]
mod module_batch;
mod others;
mod output;
mod plan;
mod process_table;
mod progress;
#[cfg(feature = "gateway")]
mod provider;
#[cfg(feature = "gateway")]
mod registry;
#[cfg(feature = "gateway")]
mod registry_entry;
mod reload;
mod remote;
mod remove;
mod restart;
mod run;
mod runs;
mod scale;
mod schedule;
mod serve;
mod service_settings;
mod session;
mod show;
mod signal;
mod since;
mod spec_help;
mod spec_options;
mod start;
mod state;
mod status;
mod stdout;
mod stop;
mod stream;
mod suggest;
mod text;
mod toml;
mod update;
mod upgrade;
#[cfg(feature = "gateway")]
mod user;
mod values;
mod version;
mod wait;
mod whole_text;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::command::Command;
use crate::cli::manual::About;
use crate::cli::session::Session;
use crate::sys::lookup::look_up_by_command;
use crate::wire::error::Error;

/// All commands, in the order in which they are shown.
const COMMANDS: &[&Command] = &[
    &serve::COMMAND,
    &start::COMMAND,
    &run::COMMAND,
    &stop::COMMAND,
    &restart::COMMAND,
    &scale::COMMAND,
    &update::COMMAND,
    &apply::COMMAND,
    &import::COMMAND,
    &config::COMMAND,
    &remove::COMMAND,
    &signal::COMMAND,
    &wait::COMMAND,
    &status::COMMAND,
    &list::COMMAND,
    &why::COMMAND,
    &graph::COMMAND,
    &show::COMMAND,
    &show::EXPORT,
    &output::COMMAND,
    &stream::COMMAND,
    &logs::COMMAND,
    &schedule::COMMAND,
    &env::COMMAND,
    &events::COMMAND,
    &history::COMMAND,
    &audit::COMMAND,
    &doctor::RECONCILE,
    &doctor::COMMAND,
    &upgrade::COMMAND,
    &reload::COMMAND,
    #[cfg(feature = "gateway")]
    &cert::COMMAND,
    #[cfg(feature = "gateway")]
    &user::COMMAND,
    #[cfg(feature = "gateway")]
    &provider::COMMAND,
    #[cfg(feature = "gateway")]
    &registry::COMMAND,
    #[cfg(feature = "gateway")]
    &module::COMMAND,
    &completions::COMMAND,
    &version::COMMAND,
    &help::COMMAND,
    &engine::COMMAND,
    &keeper::COMMAND,
    #[cfg(feature = "gateway")]
    &gateway::COMMAND,
    #[cfg(feature = "gateway")]
    &host::COMMAND,
    &lookup::COMMAND,
];

/// The commands for clients that a program without the feature `gateway` lacks.
#[cfg(any(test, not(feature = "gateway")))]
const WITH_GATEWAY: [&str; 5] = ["cert", "user", "provider", "registry", "module"];

/// What the commands say of themselves.
fn abouts() -> Vec<&'static About> {
    COMMANDS.iter().map(|command| &command.about).collect()
}

fn find(name: &str) -> Result<&'static Command, Error> {
    let known = COMMANDS.iter().copied().find(|command| command.about.name == name);
    #[cfg(not(feature = "gateway"))]
    if WITH_GATEWAY.contains(&name) {
        return Err(text::without_gateway(&format!("has no command '{name}'")));
    }
    known.ok_or_else(|| manual::no_command(&abouts(), name))
}

/// Runs the command that these arguments are, without the program's own name in front.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    look_up_by_command();
    let mut command = None;
    let mut session = Session::new(abouts());
    let failed = |e: &Error, command: Option<&Command>| {
        stdout::complain(e);
        command.map_or_else(|| e.code.exit_code(), |command| command.exit_code(e))
    };
    let code = dispatch(arguments, &mut command, &mut session).unwrap_or_else(|e| {
        let e = suggest::better(&session, e);
        session.report(&e);
        failed(&e, command)
    });
    session.out.finish().map_or_else(|e| failed(&e, command), |()| code).into()
}

fn dispatch(
    arguments: impl IntoIterator<Item = OsString>,
    command: &mut Option<&'static Command>,
    session: &mut Session,
) -> Result<u8, Error> {
    let mut arguments = Arguments::new(arguments)?;
    // Also of what cannot be understood the refusal is an object.
    session.json = arguments.has_json();
    let name = match arguments.next()? {
        Some(Argument::Value(name)) => aliases::resolve(name, &mut arguments)?,
        Some(Argument::Option(option)) if ["--version", "-V", "-v"].contains(&option.as_str()) => {
            "version".into()
        }
        Some(Argument::Option(option)) => return Err(arguments.unknown(&option)),
        None if arguments.shared.help => {
            session.out.line(&manual::overview(&session.commands));
            return Ok(0);
        }
        None => return Err(arguments.usage("no command is given".into())),
    };
    let found = find(&name)?;
    *command = Some(found);
    arguments.belong_to(&found.about)?;
    let job = (found.parse)(&mut arguments);
    if arguments.shared.help {
        session.out.line(&manual::help(&found.about));
        return Ok(0);
    }
    let job = job?;
    session.socket = arguments.shared.socket;
    session.remote = arguments.shared.remote;
    session.json = arguments.shared.json;
    job(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Code;

    fn parse(line: &[&str]) -> Result<(), Error> {
        let mut arguments = Arguments::new(line[1..].iter().map(OsString::from))?;
        let command = find(line[0])?;
        arguments.belong_to(&command.about)?;
        (command.parse)(&mut arguments).map(drop)
    }

    #[test]
    fn every_option_in_a_help_text_is_known_to_its_command() {
        for command in COMMANDS {
            for option in manual::options(&command.about) {
                for name in &option.names {
                    let value = option.value.as_ref().filter(|_| !option.is_glued).map(|_| "1");
                    let line: Vec<&str> = [command.about.name, name].into_iter().chain(value).collect();
                    if let Err(e) = parse(&line) {
                        assert!(!e.message.contains("has no option"), "{}: {e}", line.join(" "));
                        assert!(!e.message.contains("needs a value"), "{}: {e}", line.join(" "));
                    }
                }
            }
        }
    }

    #[test]
    fn every_command_says_how_it_is_used() {
        for command in COMMANDS {
            assert!(
                manual::usage(&command.about).starts_with(&format!("provost {}", command.about.name)),
                "{}",
                command.about.name
            );
            assert!(
                !command.about.summary.is_empty() && !command.about.summary.ends_with('.'),
                "{}",
                command.about.name
            );
        }
    }

    #[test]
    fn every_example_is_understood() {
        for command in COMMANDS {
            for example in manual::examples(&command.about) {
                // What is between two quotes is one argument.
                let parts = example.split('\'').enumerate();
                let line: Vec<&str> = parts
                    .flat_map(|(n, part)| if n % 2 == 1 { vec![part] } else { part.split(' ').collect() })
                    .filter(|argument| !argument.is_empty())
                    .collect();
                assert_eq!(line[..2], ["provost", command.about.name]);
                assert_eq!(parse(&line[1..]), Ok(()), "{example}");
            }
        }
    }

    #[test]
    fn every_command_refuses_an_unknown_option() {
        for command in COMMANDS {
            let e = parse(&[command.about.name, "--frobnicate"]).unwrap_err();
            assert_eq!(e.code, Code::Usage, "{}", command.about.name);
        }
    }

    #[test]
    fn what_the_small_program_lacks_is_said_to_be_lacking() {
        for name in WITH_GATEWAY {
            #[cfg(feature = "gateway")]
            assert!(find(name).is_ok(), "{name}");
            #[cfg(not(feature = "gateway"))]
            assert_eq!(find(name).err().unwrap().code, Code::Refused, "{name}");
        }
    }

    #[test]
    fn a_mistyped_command_finds_its_own() {
        let hint = |name| find(name).err().unwrap().hint;
        assert!(hint("stauts").contains("'provost status'"));
        assert!(hint("frobnicate").starts_with("'provost help'"));
    }

    #[test]
    fn what_provost_itself_fails_at_has_codes_apart() {
        let code = |name, code| find(name).unwrap().exit_code(&Error::new(code, ""));
        assert_eq!(code("status", Code::NotFound), 4);
        assert_eq!(code("status", Code::Unreachable), 7);
        assert_eq!(code("start", Code::ProgramNotFound), 1);
        assert_eq!(code("run", Code::ProgramNotFound), 127);
        assert_eq!(code("run", Code::CannotExecute), 126);
        assert_eq!(code("run", Code::Unreachable), 125);
        assert_eq!(code("wait", Code::NotFound), 125);
        assert_eq!(code("wait", Code::TimedOut), 5);
    }
}
