//! The command line: one file per command, thin over the client, and the table of them. A command parses its
//! words and then runs; what it says goes to standard output, what went wrong to standard error, and its exit
//! code is decided here and nowhere else.

#![forbid(unsafe_code)]

mod arguments;
mod audit;
mod batch;
#[cfg(feature = "gateway")]
mod cert;
mod completions;
mod doctor;
mod engine;
mod env;
mod escape;
mod events;
#[cfg(feature = "gateway")]
mod gateway;
mod help;
mod history;
#[cfg(feature = "gateway")]
mod host;
mod json;
mod keeper;
mod labels;
mod list;
mod manual;
mod output;
#[cfg(feature = "gateway")]
mod provider;
mod reload;
mod remote;
mod remove;
mod restart;
mod run;
mod serve;
mod session;
mod signal;
mod spec_help;
mod spec_options;
mod start;
mod state;
mod status;
mod stdout;
mod stop;
mod stream;
mod text;
mod upgrade;
#[cfg(feature = "gateway")]
mod user;
mod values;
mod version;
mod wait;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::arguments::Arguments;
use crate::cli::session::{Format, Session};
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

pub struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    answers: Answers,
    codes: Codes,
    arguments: Positional,
    parse: fn(&mut Arguments) -> Result<Job, Error>,
}

/// Whether a command knows `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    Json,
    /// No: it has nothing to say but text.
    Text,
}

/// What a command's exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// How the command itself did.
    Own,
    /// The same, with codes for a program that is not there or cannot be executed, as shells have them.
    Program,
    /// How a process ended; so the command's own failures have codes that programs rarely use.
    Process,
}

/// What a command's words are, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positional {
    /// There are none.
    Nothing,
    Targets,
    OneOf(&'static [&'static str]),
    Command,
    /// Behind `--` a program with its arguments.
    Program,
    /// That, or without `--` names of processes.
    ProgramOrTargets,
    /// The command is not for people and is not shown.
    Hidden,
}

/// What is left to do once the words are understood.
type Job = Box<dyn FnOnce(&mut Session) -> Result<u8, Error>>;

/// All commands, in the order in which they are shown.
static COMMANDS: &[Command] = &[
    Command {
        name: "serve",
        summary: serve::SUMMARY,
        help: serve::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(serve::parse(arguments)?, serve::run),
    },
    Command {
        name: "start",
        summary: start::SUMMARY,
        help: start::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::ProgramOrTargets,
        parse: |arguments| job(start::parse(arguments)?, start::run),
    },
    Command {
        name: "run",
        summary: run::SUMMARY,
        help: run::HELP,
        answers: Answers::Text,
        codes: Codes::Process,
        arguments: Positional::Program,
        parse: |arguments| job(run::parse(arguments)?, run::run),
    },
    Command {
        name: "stop",
        summary: stop::SUMMARY,
        help: stop::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(stop::parse(arguments)?, stop::run),
    },
    Command {
        name: "restart",
        summary: restart::SUMMARY,
        help: restart::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(restart::parse(arguments)?, restart::run),
    },
    Command {
        name: "remove",
        summary: remove::SUMMARY,
        help: remove::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(remove::parse(arguments)?, remove::run),
    },
    Command {
        name: "signal",
        summary: signal::SUMMARY,
        help: signal::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(signal::parse(arguments)?, signal::run),
    },
    Command {
        name: "wait",
        summary: wait::SUMMARY,
        help: wait::HELP,
        answers: Answers::Json,
        codes: Codes::Process,
        arguments: Positional::Targets,
        parse: |arguments| job(wait::parse(arguments)?, wait::run),
    },
    Command {
        name: "status",
        summary: status::SUMMARY,
        help: status::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(status::parse(arguments)?, status::run),
    },
    Command {
        name: "list",
        summary: list::SUMMARY,
        help: list::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(list::parse(arguments)?, list::run),
    },
    Command {
        name: "why",
        summary: why::SUMMARY,
        help: why::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(why::parse(arguments)?, why::run),
    },
    Command {
        name: "output",
        summary: output::SUMMARY,
        help: output::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(output::parse(arguments)?, output::run),
    },
    Command {
        name: "stream",
        summary: stream::SUMMARY,
        help: stream::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(stream::parse(arguments)?, stream::run),
    },
    Command {
        name: "env",
        summary: env::SUMMARY,
        help: env::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::OneOf(&["list", "set", "unset"]),
        parse: |arguments| job(env::parse(arguments)?, env::run),
    },
    Command {
        name: "events",
        summary: events::SUMMARY,
        help: events::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(events::parse(arguments)?, events::run),
    },
    Command {
        name: "history",
        summary: history::SUMMARY,
        help: history::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Targets,
        parse: |arguments| job(history::parse(arguments)?, history::run),
    },
    Command {
        name: "audit",
        summary: audit::SUMMARY,
        help: audit::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(audit::parse(arguments)?, audit::run),
    },
    Command {
        name: "reconcile",
        summary: doctor::reconcile::SUMMARY,
        help: doctor::reconcile::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(doctor::parse(arguments)?, doctor::run_reconcile),
    },
    Command {
        name: "doctor",
        summary: doctor::SUMMARY,
        help: doctor::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(doctor::parse(arguments)?, doctor::run),
    },
    Command {
        name: "upgrade",
        summary: upgrade::SUMMARY,
        help: upgrade::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(upgrade::parse(arguments)?, upgrade::run),
    },
    Command {
        name: "reload",
        summary: reload::SUMMARY,
        help: reload::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(reload::parse(arguments)?, reload::run),
    },
    #[cfg(feature = "gateway")]
    Command {
        name: "cert",
        summary: cert::SUMMARY,
        help: cert::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::OneOf(&["init", "show", "revoke"]),
        parse: |arguments| job(cert::parse(arguments)?, cert::run),
    },
    #[cfg(feature = "gateway")]
    Command {
        name: "user",
        summary: user::SUMMARY,
        help: user::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::OneOf(&["add", "passwd", "remove", "list"]),
        parse: |arguments| job(user::parse(arguments)?, user::run),
    },
    #[cfg(feature = "gateway")]
    Command {
        name: "provider",
        summary: provider::SUMMARY,
        help: provider::HELP,
        answers: Answers::Json,
        codes: Codes::Program,
        arguments: Positional::OneOf(&[
            "start", "fetch", "info", "health", "logs", "stop", "reset", "replace", "list", "shutdown",
        ]),
        parse: |arguments| job(provider::parse(arguments)?, provider::run),
    },
    Command {
        name: "completions",
        summary: completions::SUMMARY,
        help: completions::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::OneOf(&completions::SHELLS),
        parse: |arguments| job(completions::parse(arguments)?, completions::run),
    },
    Command {
        name: "version",
        summary: version::SUMMARY,
        help: version::HELP,
        answers: Answers::Json,
        codes: Codes::Own,
        arguments: Positional::Nothing,
        parse: |arguments| job(version::parse(arguments)?, version::run),
    },
    Command {
        name: "help",
        summary: help::SUMMARY,
        help: help::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::Command,
        parse: |arguments| job(help::parse(arguments)?, help::run),
    },
    Command {
        name: "engine",
        summary: engine::SUMMARY,
        help: engine::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::Hidden,
        parse: |arguments| job(engine::parse(arguments)?, engine::run),
    },
    Command {
        name: "keeper",
        summary: keeper::SUMMARY,
        help: keeper::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::Hidden,
        parse: |arguments| job(keeper::parse(arguments)?, keeper::run),
    },
    #[cfg(feature = "gateway")]
    Command {
        name: "gateway",
        summary: gateway::SUMMARY,
        help: gateway::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::Hidden,
        parse: |arguments| job(gateway::parse(arguments)?, gateway::run),
    },
    #[cfg(feature = "gateway")]
    Command {
        name: "host",
        summary: host::SUMMARY,
        help: host::HELP,
        answers: Answers::Text,
        codes: Codes::Own,
        arguments: Positional::Hidden,
        parse: |arguments| job(host::parse(arguments)?, host::run),
    },
];

/// Binds a command's arguments to what it does with them.
fn job<A: 'static>(args: A, run: fn(A, &mut Session) -> Result<u8, Error>) -> Result<Job, Error> {
    Ok(Box::new(move |session| run(args, session)))
}

/// The commands that people use.
fn visible() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|c| c.arguments != Positional::Hidden)
}

fn find(name: &str) -> Result<&'static Command, Error> {
    COMMANDS.iter().find(|c| c.name == name).ok_or_else(|| {
        let e = Error::usage(format!("there is no command {}", quoted(name)));
        match values::closest(name, visible().map(|c| c.name)) {
            Some(near) => e.hint(format!("did you mean 'provost {near}'? 'provost help' shows all commands")),
            None => e.hint("'provost help' shows all commands"),
        }
    })
}

/// Runs the command that these words are, without the program's own name in front.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut command = None;
    let mut session = Session::new();
    let result = dispatch(arguments, &mut command, &mut session);
    let code = match result {
        Ok(code) => code,
        Err(e) => {
            stdout::complain(&e);
            exit_code(command, &e)
        }
    };
    match session.out.finish() {
        Ok(()) => code.into(),
        Err(e) => {
            stdout::complain(&e);
            exit_code(command, &e).into()
        }
    }
}

fn dispatch(
    arguments: impl IntoIterator<Item = OsString>,
    command: &mut Option<&'static Command>,
    session: &mut Session,
) -> Result<u8, Error> {
    let mut arguments = Arguments::new(arguments)?;
    let name = match arguments.next()? {
        Some(arguments::Argument::Value(name)) => name,
        Some(arguments::Argument::Option(option)) if option == "--version" || option == "-V" => {
            "version".into()
        }
        Some(arguments::Argument::Option(option)) => return Err(arguments.unknown(&option)),
        None if arguments.shared.help => {
            session.out.line(&manual::overview());
            return Ok(0);
        }
        None => return Err(arguments.usage("no command is given".into())),
    };
    let found = find(&name)?;
    *command = Some(found);
    arguments.belong_to(found)?;
    let job = (found.parse)(&mut arguments);
    if arguments.shared.help {
        session.out.line(&manual::help(found));
        return Ok(0);
    }
    let job = job?;
    session.socket = arguments.shared.socket;
    session.remote = arguments.shared.remote;
    session.format = if arguments.shared.json { Format::Json } else { Format::Text };
    job(session)
}

/// The exit code of a command that ends with an error: the one place that decides it.
fn exit_code(command: Option<&Command>, e: &Error) -> u8 {
    match (command.map_or(Codes::Own, |c| c.codes), e.code) {
        (Codes::Process | Codes::Program, Code::CannotExecute) => 126,
        (Codes::Process | Codes::Program, Code::ProgramNotFound) => 127,
        (Codes::Own | Codes::Program, code) | (Codes::Process, code @ Code::TimedOut) => code.exit_code(),
        (Codes::Process, _) => 125,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<(), Error> {
        let mut arguments = Arguments::new(line[1..].iter().map(OsString::from))?;
        let command = find(line[0])?;
        arguments.belong_to(command)?;
        (command.parse)(&mut arguments).map(drop)
    }

    #[test]
    fn every_option_in_a_help_text_is_known_to_its_command() {
        for command in COMMANDS {
            for option in manual::options(command) {
                for name in &option.names {
                    let value = option.value.as_ref().filter(|_| !option.is_glued).map(|_| "1");
                    let line: Vec<&str> = [command.name, name].into_iter().chain(value).collect();
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
                manual::usage(command).starts_with(&format!("provost {}", command.name)),
                "{}",
                command.name
            );
            assert!(!command.summary.is_empty() && !command.summary.ends_with('.'), "{}", command.name);
        }
    }

    #[test]
    fn every_command_refuses_an_unknown_option() {
        for command in COMMANDS {
            let e = parse(&[command.name, "--frobnicate"]).unwrap_err();
            assert_eq!(e.code, Code::Usage, "{}", command.name);
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
        let code = |name, code| exit_code(Some(find(name).unwrap()), &Error::new(code, ""));
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
