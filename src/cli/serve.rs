//! `provost serve`: the service itself. The only file of this folder that knows keeper and engine.

use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
#[cfg(feature = "gateway")]
use std::time::Duration;

use crate::cli::arguments::{Argument, Arguments};
use crate::cli::engine::Args as EngineArgs;
#[cfg(feature = "gateway")]
use crate::cli::gateway::Args as GatewayArgs;
use crate::cli::keeper::Args as KeeperArgs;
#[cfg(feature = "gateway")]
use crate::cli::reload::GATEWAY;
use crate::cli::session::Session;
use crate::cli::state;
use crate::cli::stdout;
use crate::cli::text;
use crate::config;
use crate::engine;
use crate::engine::context::Notify;
#[cfg(feature = "gateway")]
use crate::engine::internal::INTERNAL_PROGRAM;
#[cfg(feature = "gateway")]
use crate::gateway;
use crate::keeper::Cgroups;
use crate::keeper::Handed;
use crate::keeper::Notice;
use crate::keeper::Options;
use crate::keeper::rehearse;
use crate::keeper::resume;
use crate::keeper::serve;
use crate::sys::{signal, system};
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::spec::Spec;
#[cfg(feature = "gateway")]
use crate::wire::spec::{EnvBase, Readiness, RestartPolicy, Rlimit};

/// The longest time between two attempts to start the gateway.
#[cfg(feature = "gateway")]
const GATEWAY_DELAY_MAX: Duration = Duration::from_secs(5);
/// Its environment. What it takes for a password (19 MiB) goes back to the system afterwards, and its threads, which are
/// many, share two arenas.
#[cfg(feature = "gateway")]
const GATEWAY_ENV: [(&str, &str); 2] = [
    ("GRPC_DNS_RESOLVER", "native"),
    (
        "GLIBC_TUNABLES",
        "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=1048576:glibc.malloc.trim_threshold=1048576:\
         glibc.pthread.stack_cache_size=1048576",
    ),
];
/// How long its connections may take to end.
#[cfg(feature = "gateway")]
const GATEWAY_STOP_MAX: Duration = Duration::from_secs(5);

pub const SUMMARY: &str = "Run the service";
pub const HELP: &str = "\
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

pub fn parse(arguments: &mut Arguments) -> Result<Args, Error> {
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

pub fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
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

/// The engine, in its own process, as the keeper starts it. Only an error ends it.
pub fn run_engine(args: EngineArgs, session: &mut Session) -> Result<u8, Error> {
    system::end_at_panic();
    take_name();
    let load = |path: &Path| config::load(path, args.state.as_deref());
    let config = args.config.as_deref().map(load).transpose();
    if args.is_check {
        config?;
        return engine::check(args.state.as_deref()).map(|()| 0);
    }
    // It was good when the service began; one that was spoilt since is no reason to leave everything alone, or to end what
    // it began.
    let (config, is_known) = match config {
        Ok(config) => (config.unwrap_or_default(), true),
        Err(e) => {
            stdout::notice(&format!("{}; going on with what holds without it", e.message));
            (config::Config::default(), false)
        }
    };
    let internal = is_known.then(|| internal_processes(&config, &args, session)).transpose()?;
    let options = engine::Options {
        cgroups: args.cgroups,
        exe: args.exe,
        state: args.state,
        orphans: config.orphans,
        history: config.history,
        sinks: config.sinks,
        internal,
        notify: Notify(Arc::new(|line: &str| stdout::notice(line))),
    };
    match engine::run(options)? {}
}

/// What the service runs for itself.
#[cfg(not(feature = "gateway"))]
fn internal_processes(_: &config::Config, _: &EngineArgs, _: &Session) -> Result<Vec<Spec>, Error> {
    Ok(Vec::new())
}

/// What the service runs for itself: the gateway, if it is configured.
#[cfg(feature = "gateway")]
fn internal_processes(
    config: &config::Config,
    args: &EngineArgs,
    session: &Session,
) -> Result<Vec<Spec>, Error> {
    if config.grpc.is_none() {
        return Ok(Vec::new());
    }
    let socket = session.socket()?;
    let options =
        [("--socket", Some(&socket)), ("--config", args.config.as_ref()), ("--state", args.state.as_ref())];
    let given = options
        .into_iter()
        .filter_map(|(option, path)| Some([option.to_owned(), path?.to_str()?.to_owned()]));
    let command = [INTERNAL_PROGRAM.to_owned(), "gateway".to_owned()].into_iter().chain(given.flatten());
    let mut spec = Spec::new(command);
    spec.name = Some(GATEWAY.parse()?);
    // Nothing of the service's environment leads the C core astray.
    spec.env_base = EnvBase::Empty;
    spec.env = GATEWAY_ENV.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    // No core, in which passwords and keys would be: less than a page is written to no file, and one byte is the only
    // limit that counts for a handler, too.
    spec.rlimits = vec![Rlimit { resource: "core".to_owned(), soft: 1, hard: 1 }];
    spec.restart.policy = RestartPolicy::Always;
    spec.restart.max_restarts = None;
    spec.restart.delay_max = GATEWAY_DELAY_MAX;
    spec.stop.timeout = GATEWAY_STOP_MAX;
    spec.ready = Some(Readiness::Line(gateway::READY.to_owned()));
    Ok(vec![spec])
}

/// The gateway, in its own process, as the engine starts it. Only an error or a signal ends it.
#[cfg(feature = "gateway")]
pub fn run_gateway(args: GatewayArgs, session: &mut Session) -> Result<u8, Error> {
    take_name();
    let socket = session.socket()?;
    let load = move || {
        let config = config::load(&args.config, args.state.as_deref())?;
        config.grpc.ok_or_else(|| {
            let file = quoted(&args.config.to_string_lossy());
            Error::usage(format!("the configuration {file} has no section [grpc]"))
        })
    };
    let say = Arc::new(|line: &str| stdout::notice(line));
    match gateway::run(gateway::Options { socket, settings: load()?, load: Box::new(load), say })? {}
}

/// The keeper that was another program until now.
pub fn run_keeper(args: KeeperArgs, session: &mut Session) -> Result<u8, Error> {
    system::end_at_panic();
    take_name();
    let (Some(memory), Some(image)) = (args.handover, args.image) else {
        return Err(Error::usage("'provost keeper' is what 'provost serve' becomes, and nothing else")
            .hint("to start the service: provost serve"));
    };
    let handed = Handed { socket: session.socket()?, memory, image, returned: args.returned };
    if args.rehearse { rehearse(&handed) } else { resume(&handed, &mut report) }
}

/// Executed by a descriptor or a link, a program is called after that. Only lists of processes show it.
fn take_name() {
    let _ = std::fs::write("/proc/self/comm", "provost");
}

fn report(notice: Notice) {
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
