//! `provost host`: not for people. The engine starts it as a process of the service's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::serve::take_name;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::config;
use crate::config::{discovery, plugins};
use crate::host;
use crate::registry::discovery::{Found, Origin, Sources};
use crate::registry::settings::DiscoverySettings;
use crate::wire::error::Error;

pub const COMMAND: Command = Command::new("host", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Hidden)
    .text_only();
const SUMMARY: &str = "The host of providers; the engine starts it";
const HELP: &str = "\
Usage: provost host [OPTIONS]

'provost serve' runs this by itself when a provider is asked for.

Options:
      --config FILE          Settings
      --state DIR            Where the directory of providers is
";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct HostArgs {
    pub config: Option<PathBuf>,
    pub state: Option<PathBuf>,
}

fn parse(arguments: &mut Arguments) -> Result<HostArgs, Error> {
    let mut args = HostArgs::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--config" => args.config = Some(arguments.value(&option)?.into()),
            "--state" => args.state = Some(arguments.value(&option)?.into()),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values().map(|()| args)
}

/// The host, in its own process. Only an error or a signal ends it.
fn run(args: HostArgs, session: &mut Session) -> Result<u8, Error> {
    take_name();
    let load = |path: &Path| config::load(path, args.state.as_deref());
    // One that was spoilt since the service began is no reason to host nothing.
    let config = args.config.as_deref().map(load).transpose().unwrap_or_else(|e| {
        stdout::log(&format!("{}; going on without its [providers] and [modules]", e.message));
        None
    });
    let config = config.unwrap_or_default();
    let (settings, modules, registry) = (config.providers, config.modules, config.registry);
    let from_start = settings.from_start();
    let directories = settings.directories(args.state.clone());
    let (state, labels) = (args.state, settings.labels);
    let say = Arc::new(|line: &str| stdout::log(line));
    let (socket, definitions, groups) = (session.socket()?, settings.definitions, config.local.group_roles);
    let sources = sources(&registry.discovery, args.config, state);
    let options = host::Options {
        socket,
        directories,
        definitions,
        labels,
        from_start,
        modules,
        registry,
        sources,
        groups,
        say,
    };
    match host::run(options)? {}
}

/// Where providers are discovered: the configuration is read again for that.
fn sources(settings: &DiscoverySettings, config: Option<PathBuf>, state: Option<PathBuf>) -> Sources {
    let (directory, interval) = (settings.plugin_path.clone(), settings.auto_refresh_interval);
    let places: Vec<_> = settings.config_path.iter().map(|path| (Origin::Config, path.clone())).collect();
    let is_any = directory.is_some() || interval.is_some() || settings.is_environment_used;
    let mut used = Vec::new();
    // The configuration was read just now; it is looked at again by the clock alone.
    if config.is_some() && (is_any || !places.is_empty()) {
        used.push(Origin::Config);
    }
    used.extend(directory.as_ref().map(|_| Origin::Plugin));
    used.extend(settings.is_environment_used.then_some(Origin::Environment));
    let (settings, watched) = (settings.clone(), directory.clone());
    let look_at = move |origin, at: Option<&Path>| match origin {
        Origin::Config => {
            let state = state.as_deref();
            let own = || config.as_deref().map(|path| Ok(config::load(path, state)?.providers));
            let providers = at.map(|path| config::load_providers(path, state)).or_else(own).transpose()?;
            Ok(discovery::of_config(providers.unwrap_or_default()))
        }
        Origin::Plugin => match at.or(directory.as_deref()) {
            Some(directory) => plugins::of_plugins(directory, &settings.policy),
            None => Ok(Found::default()),
        },
        Origin::Environment => discovery::of_environment(&settings),
        Origin::Api => Ok(Found::default()),
    };
    Sources { used, look_at: Arc::new(look_at), places, plugins: watched, interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parsed = |line: &str| parse(&mut Arguments::of(line));
        let args = HostArgs { config: Some("f".into()), state: Some("/d".into()) };
        assert_eq!(parsed("--config f --socket /s --state /d"), Ok(args));
        assert!(parsed("x").is_err());
    }
}
