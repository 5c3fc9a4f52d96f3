//! `provost serve`: the service itself, which is the keeper. What its other programs share with it at their
//! start is here, too.

use std::path::{Path, PathBuf, absolute};

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::{state, stdout, text};
use crate::keeper::{Cgroups, Notice, Options, serve};
use crate::sys::{signal, system};
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

pub const COMMAND: Command = Command::new("serve", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Nothing)
    .text_only();
const SUMMARY: &str = "Run the service";
const HELP: &str = "\
Usage: provost serve [OPTIONS]

Stays in the foreground and says on standard error when it is ready. SIGTERM or SIGINT stops every
process in order and ends it; a second one hurries.

Options:
      --state DIR            Where everything is kept that outlives the service (/var/lib/provost for root,
                             $XDG_STATE_HOME/provost else; with --socket, a directory in there for each
                             socket); none: nothing outlives it
      --config FILE          Settings (/etc/provost/provost.toml for root, if it is there)
      --cgroups WHEN         auto (default): a cgroup for each process where possible; off
";

/// What was said on the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    cgroups: Cgroups,
    state: Option<PathBuf>,
    config: Option<PathBuf>,
}

fn parse(arguments: &mut Arguments) -> Result<Args, Error> {
    let (mut cgroups, mut state, mut config) = (Cgroups::Auto, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Value(value) => return Err(arguments.stray(&value)),
            Argument::Option(option) if option == "--state" => state = Some(arguments.value(&option)?.into()),
            Argument::Option(option) if option == "--config" => {
                config = Some(arguments.value(&option)?.into())
            }
            Argument::Option(option) if option == "--cgroups" => {
                let value = arguments.value(&option)?;
                cgroups = match value.as_str() {
                    "auto" => Cgroups::Auto,
                    "off" => Cgroups::Off,
                    _ => {
                        let e = format!("bad value {} of {option}", quoted(&value));
                        return Err(Error::usage(e).hint("write auto or off"));
                    }
                };
            }
            Argument::Option(option) => return Err(arguments.unknown(&option)),
        }
    }
    Ok(Args { cgroups, state, config })
}

fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    system::end_at_panic();
    let socket = session.socket()?;
    if socket.as_os_str().is_empty() {
        return Err(Error::usage("the socket's path is empty").hint("give one with --socket PATH"));
    }
    let socket = made_absolute("socket path", &socket)?;
    let state = match args.state {
        Some(dir) if dir.as_os_str() == "none" => None,
        Some(dir) => Some(made_absolute("state directory", &dir)?),
        None => Some(state::directory(&socket)?),
    };
    let config = match args.config {
        Some(file) => Some(made_absolute("configuration", &file)?),
        None => state::default_config(),
    };
    let given = |option: &str, path: &Option<PathBuf>| -> Result<Vec<String>, Error> {
        let Some(path) = path else { return Ok(Vec::new()) };
        let text = path.to_str().ok_or_else(|| {
            Error::usage(format!("{option} {} is not UTF-8 text", quoted(&path.to_string_lossy())))
        })?;
        Ok(vec![option.to_owned(), text.to_owned()])
    };
    let own_socket = given("--socket", &Some(socket.clone()))?;
    let engine_arguments = [own_socket, given("--state", &state)?, given("--config", &config)?].concat();
    serve(&Options { socket, cgroups: args.cgroups, state, engine_arguments }, &mut report)
}

fn made_absolute(what: &str, path: &Path) -> Result<PathBuf, Error> {
    absolute(path).map_err(|e| {
        let path = quoted(&path.to_string_lossy());
        Error::new(Code::Failed, format!("{what} {path} cannot be made absolute: {}", text::cause(&e)))
    })
}

/// Executed by a descriptor or a link, a program is called after that. Only lists of processes show it.
pub fn take_name() {
    let _ = std::fs::write("/proc/self/comm", "provost");
}

pub fn report(notice: Notice) {
    let line = match notice {
        Notice::Ready { socket, keeper_pid, no_cgroups } => {
            if let Some(why) = no_cgroups {
                stdout::notice(&format!("processes get no cgroups of their own: {why}"));
            }
            format!("ready on {} (keeper pid {keeper_pid})", socket.display())
        }
        Notice::EngineDied { how, restart_in_ms: 0 } => {
            format!("the engine ended ({how}); another one is started")
        }
        Notice::EngineDied { how, restart_in_ms } => {
            format!("the engine ended ({how}); another one is started in {restart_in_ms} ms")
        }
        Notice::Stopping { signal } => format!("{}: stopping all processes", signal::name(signal)),
        Notice::Upgrading => "upgrading: the engine of the other binary is started".to_owned(),
        Notice::Upgraded { before, after } => {
            format!("upgraded from {before} to {after} (keeper pid {})", std::process::id())
        }
        Notice::NotUpgraded { why } => format!("not upgraded: {why}"),
        Notice::Failure(what) => what,
    };
    stdout::notice(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::new(line.split(' ').map(Into::into)).unwrap());
        let args = Args { cgroups: Cgroups::Off, state: Some("/d".into()), config: Some("f".into()) };
        assert_eq!(parsed("--cgroups off --socket /s --state /d --config f"), Ok(args));
        assert!(parsed("--cgroups no").is_err());
        assert!(parsed("now").is_err());
    }
}
