//! `provost gateway`: not for people. The engine starts it as a process of the service's own.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::serve::take_name;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::config;
use crate::gateway;
use crate::wire::error::Error;
use crate::wire::role::GroupRoles;

pub const COMMAND: Command = Command::new("gateway", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Hidden)
    .text_only();
const SUMMARY: &str = "The gateway of the service; the engine starts it";
const HELP: &str = "\
Usage: provost gateway [OPTIONS]

'provost serve' runs this by itself when its configuration has a section [grpc].

Options:
      --config FILE          Settings
      --state DIR            Where certificates and users are that they do not name
";

#[derive(Debug, PartialEq, Eq)]
pub struct GatewayArgs {
    pub config: Option<PathBuf>,
    /// It serves programs on this machine alone.
    pub is_local: bool,
    pub state: Option<PathBuf>,
}

fn parse(arguments: &mut Arguments) -> Result<GatewayArgs, Error> {
    let (mut config, mut state, mut is_local) = (None, None, false);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--config" => config = Some(arguments.value(&option)?.into()),
            "--state" => state = Some(arguments.value(&option)?.into()),
            "--local" => is_local = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values()?;
    if config.is_none() && !is_local {
        return Err(arguments.usage("there is neither --config nor --local".into()));
    }
    Ok(GatewayArgs { config, is_local, state })
}

/// The gateway, in its own process, as the engine starts it. Only an error or a signal ends it.
fn run(args: GatewayArgs, session: &mut Session) -> Result<u8, Error> {
    take_name();
    let socket = session.socket()?;
    // One that was spoilt since the service began lets in nobody but root and its own user.
    let groups = args.config.as_deref().map(config::local).transpose().map_or_else(
        |e| {
            stdout::log(&format!("{}; going on without its [local]", e.message));
            GroupRoles::default()
        },
        |local| local.unwrap_or_default().group_roles,
    );
    let load = move || {
        let Some(path) = args.config.as_ref().filter(|_| !args.is_local) else { return Ok(None) };
        let config = config::load(path, args.state.as_deref())?;
        config.grpc.map(Some).ok_or_else(|| {
            Error::usage(format!("the configuration {} has no section [grpc]", text::path(path)))
        })
    };
    let say = Arc::new(|line: &str| stdout::log(line));
    match gateway::run(gateway::Options { socket, settings: load()?, load: Box::new(load), groups, say })? {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = GatewayArgs { config: Some("f".into()), is_local: false, state: Some("/d".into()) };
        assert_eq!(parsed("--config f --socket /s --state /d"), Ok(args));
        assert_eq!(
            parsed("--config f --local"),
            Ok(GatewayArgs { config: Some("f".into()), is_local: true, state: None })
        );
        assert!(parsed("--state /d").is_err());
    }
}
