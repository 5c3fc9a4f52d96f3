//! `provost serve`: the service itself, which is the keeper. What its other programs share with it at their
//! start is here, too.

use std::path::{Path, PathBuf};

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::{state, stdout, text, values};
use crate::client::grpc_socket;
use crate::config;
use crate::keeper::{Cgroups, Notice, Options, serve};
use crate::sys::{signal, system};
use crate::wire::error::Error;

pub const COMMAND: Command = Command::new("serve", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .writes()
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
      --cgroups WHEN         auto: a cgroup for each process where possible; off. Else as [service] has it

Examples:
  provost serve
  provost serve --config /etc/provost/provost.toml --state /var/lib/provost
";

#[derive(Debug, PartialEq, Eq)]
struct ServeArgs {
    cgroups: Option<Cgroups>,
    state: Option<PathBuf>,
    config: Option<PathBuf>,
}

fn parse(arguments: &mut Arguments) -> Result<ServeArgs, Error> {
    let (mut cgroups, mut state, mut config) = (None, None, None);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--state" => state = Some(arguments.value(&option)?.into()),
            "--config" => config = Some(arguments.value(&option)?.into()),
            "--cgroups" => {
                cgroups = match arguments.value(&option)?.as_str() {
                    "auto" => Some(Cgroups::Auto),
                    "off" => Some(Cgroups::Off),
                    other => return Err(values::bad(&option, other, "write auto or off")),
                }
            }
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values()?;
    Ok(ServeArgs { cgroups, state, config })
}

fn run(args: ServeArgs, session: &mut Session) -> Result<u8, Error> {
    system::end_at_panic();
    let socket = session.socket()?;
    if socket.as_os_str().is_empty() {
        return Err(Error::usage("the socket's path is empty").hint("give one with --socket PATH"));
    }
    let socket = text::absolute("socket path", &socket)?;
    state::make_socket_directory(&socket)?;
    let state = match args.state {
        Some(dir) if dir.as_os_str() == "none" => None,
        Some(dir) => Some(text::absolute("state directory", &dir)?),
        None => Some(state::directory(&socket)?),
    };
    let config = match args.config {
        Some(file) => Some(text::absolute("configuration", &file)?),
        None => state::default_config(),
    };
    let given = |option: &str, path: &Option<PathBuf>| -> Result<Vec<String>, Error> {
        let Some(path) = path else { return Ok(Vec::new()) };
        let not_text = || Error::usage(format!("{option} {} is not UTF-8 text", text::path(path)));
        let text = path.to_str().ok_or_else(not_text)?;
        Ok(vec![option.to_owned(), text.to_owned()])
    };
    let own_socket = given("--socket", &Some(socket.clone()))?;
    let engine_arguments = [own_socket, given("--state", &state)?, given("--config", &config)?].concat();
    let (has_grpc, is_open) = local(config.as_deref());
    let grpc_socket = has_grpc.then(|| beside(&socket)).transpose()?;
    let cgroups = args.cgroups.unwrap_or_else(|| match config.as_deref().and_then(config::cgroups) {
        Some(config::Cgroups::Off) => Cgroups::Off,
        Some(config::Cgroups::Auto) | None => Cgroups::Auto,
    });
    serve(&Options { socket, grpc_socket, is_open, cgroups, state, engine_arguments }, &mut report)
}

/// Where gRPC on this machine is listened for.
fn beside(socket: &Path) -> Result<PathBuf, Error> {
    grpc_socket(socket).ok_or_else(|| {
        let (path, len) = (text::path(socket), socket.as_os_str().len());
        let e = format!("socket path {path} has {len} bytes, with which there is no room for '.grpc' behind it");
        Error::usage(e).hint(
            "give one of at most 102 bytes with --socket, or do without gRPC on this machine: grpc = false in [local]",
        )
    })
}

/// Whether gRPC on this machine is listened for, and whether groups have roles. What is wrong with the
/// configuration is said by the look at all of it, which follows.
#[cfg(feature = "gateway")]
fn local(config: Option<&Path>) -> (bool, bool) {
    let Some(path) = config else { return (true, false) };
    config::local(path).map_or((false, false), |local| (local.grpc, !local.group_roles.is_empty()))
}

#[cfg(not(feature = "gateway"))]
fn local(_: Option<&Path>) -> (bool, bool) {
    (false, false)
}

/// Executed by a descriptor or a link, a program is called after that. Only lists of processes show it.
pub fn take_name() {
    let _ = std::fs::write("/proc/self/comm", "provost");
}

pub fn report(notice: Notice) {
    let line = match notice {
        Notice::Ready { socket, keeper_pid, no_cgroups } => {
            if let Some(why) = no_cgroups {
                stdout::log(&format!("processes get no cgroups of their own: {why}"));
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
        Notice::Ending { code } => format!("stopping all processes, to end with exit code {code}"),
        Notice::Upgrading => "upgrading: the engine of the other binary is started".to_owned(),
        // After a reload, say.
        Notice::Upgraded { before, after } if before == after => {
            format!("another engine of {after} has taken over (keeper pid {})", std::process::id())
        }
        Notice::Upgraded { before, after } => {
            format!("upgraded from {before} to {after} (keeper pid {})", std::process::id())
        }
        Notice::NotUpgraded { why } => format!("not upgraded: {why}"),
        Notice::Failure(what) => what,
    };
    stdout::log(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args =
            ServeArgs { cgroups: Some(Cgroups::Off), state: Some("/d".into()), config: Some("f".into()) };
        assert_eq!(parsed("--cgroups off --socket /s --state /d --config f"), Ok(args));
        assert!(parsed("--cgroups no").is_err());
        assert!(parsed("now").is_err());
    }
}
