//! `provost engine`: not for people. The keeper starts it with its descriptors in place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "gateway")]
use std::time::Duration;

#[cfg(feature = "gateway")]
use crate::access::policy::allow;
use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::manual::Positional;
use crate::cli::serve::take_name;
use crate::cli::service_settings;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::client::host_socket;
use crate::config;
use crate::engine;
use crate::engine::context::Notify;
use crate::engine::internal::INTERNAL_PROGRAM;
#[cfg(feature = "gateway")]
use crate::engine::process::users::is_user;
use crate::engine::settings::{GatewaySource, GatewaySpecs};
#[cfg(feature = "gateway")]
use crate::gateway;
#[cfg(feature = "gateway")]
use crate::gateway::settings::Limits;
#[cfg(feature = "gateway")]
use crate::gateway::setup;
#[cfg(feature = "gateway")]
use crate::host;
use crate::sys::system;
#[cfg(not(feature = "gateway"))]
use crate::wire::error::Code;
use crate::wire::error::Error;
use crate::wire::id::APPLY;
#[cfg(feature = "gateway")]
use crate::wire::id::GATEWAY;
#[cfg(feature = "gateway")]
use crate::wire::probes::Readiness;
#[cfg(feature = "gateway")]
use crate::wire::provider::HOST;
#[cfg(not(feature = "gateway"))]
use crate::wire::request::Request;
#[cfg(not(feature = "gateway"))]
use crate::wire::role::Role;
use crate::wire::spec::Spec;
#[cfg(feature = "gateway")]
use crate::wire::spec::{EnvBase, RestartPolicy, Rlimit};

/// The environment of the host, beside the service's, which providers may be given parts of. Its C core
/// looks for nothing that an idle channel might have to say. Of other arenas than the first one, malloc_trim
/// leaves what is free at the end.
#[cfg(feature = "gateway")]
const HOST_ENV: [(&str, &str); 3] = [
    ("GRPC_DNS_RESOLVER", "native"),
    ("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "0"),
    ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.pthread.stack_cache_size=1048576"),
];
/// Whom the gateway runs as where root runs the service, if there is such a user.
#[cfg(feature = "gateway")]
const GATEWAY_USER: &str = "provost";
/// Where memory is short, it goes before everything that it serves.
#[cfg(feature = "gateway")]
const GATEWAY_OOM_SCORE_ADJ: i32 = 500;
/// The longest time between two attempts to start the gateway.
#[cfg(feature = "gateway")]
const GATEWAY_DELAY_MAX: Duration = Duration::from_secs(5);
/// Its environment. What it takes for a password (19 MiB) goes back to the system afterwards, and its
/// threads, which are many, share two arenas.
#[cfg(feature = "gateway")]
const GATEWAY_ENV: [(&str, &str); 2] = [
    ("GRPC_DNS_RESOLVER", "native"),
    (
        "GLIBC_TUNABLES",
        "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=1048576:glibc.malloc.trim_threshold=1048576:\
         glibc.pthread.stack_cache_size=1048576",
    ),
];
/// How long its connections may take to end when the grace of their calls is over; and how long all of the
/// host's may take.
#[cfg(feature = "gateway")]
const STOP_MAX: Duration = Duration::from_secs(5);

pub const COMMAND: Command = Command::new("engine", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .takes(Positional::Hidden)
    .text_only();
const SUMMARY: &str = "The engine of the service; the keeper starts it";
const HELP: &str = "\
Usage: provost engine [OPTIONS]

'provost serve' runs this by itself.

Options:
      --cgroup-root DIR      Where processes get their cgroups
      --exe PATH             Where the service was started from
      --state DIR            Where the database is
      --config FILE          Settings
      --check                Only look whether these can be used
";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct EngineArgs {
    pub cgroups: Option<PathBuf>,
    pub exe: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub is_check: bool,
}

fn parse(arguments: &mut Arguments) -> Result<EngineArgs, Error> {
    let mut args = EngineArgs::default();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--cgroup-root" => args.cgroups = Some(arguments.value(&option)?.into()),
            "--exe" => args.exe = Some(arguments.value(&option)?.into()),
            "--state" => args.state = Some(arguments.value(&option)?.into()),
            "--config" => args.config = Some(arguments.value(&option)?.into()),
            "--check" => args.is_check = true,
            _ => return Err(arguments.unknown(&option)),
        }
    }
    arguments.no_values().map(|()| args)
}

/// The engine, in its own process, as the keeper starts it. Only an error ends it.
fn run(args: EngineArgs, session: &mut Session) -> Result<u8, Error> {
    system::end_at_panic();
    take_name();
    let load = |path: &Path| config::load(path, args.state.as_deref());
    let config = args.config.as_deref().map(load).transpose();
    if args.is_check {
        config?;
        engine::check(args.state.as_deref())?;
        // What holds from the begin of the service on.
        args.config.map_or(Ok(()), |path| service_settings::note(&session.socket()?, &path))?;
        return Ok(0);
    }
    // It was good when the service began; one that was spoilt since is no reason to leave everything alone,
    // or to end what it began.
    let (config, is_known) = match config {
        Ok(config) => (config.unwrap_or_default(), true),
        Err(e) => {
            stdout::log(&format!("{}; going on with what holds without it", e.message));
            (config::Config::default(), false)
        }
    };
    config::missing_groups(&config.local.unknown_groups).iter().for_each(|what| stdout::log(what));
    let socket = session.socket()?;
    let internal = is_known.then(|| internal(&config, &args, &socket)).transpose()?;
    let on_demand = on_demand(&config, &args, &socket)?;
    let gateway = gateway_source(&args, &socket);
    let options = engine::Options {
        socket,
        cgroups: args.cgroups,
        exe: args.exe,
        state: args.state,
        orphans: config.orphans,
        declared: declared(&config),
        history: config.history,
        sinks: config.sinks,
        internal,
        on_demand,
        gateway,
        groups: config.local.group_roles,
        allow,
        notify: Notify(Arc::new(|line: &str| stdout::log(line))),
    };
    match engine::run(options)? {}
}

/// Without groups that have roles nobody comes in who is no administrator.
#[cfg(not(feature = "gateway"))]
fn allow(role: Role, _: &Request) -> Result<(), Error> {
    if role == Role::Admin { Ok(()) } else { Err(Error::usage("this provost was built without roles")) }
}

/// What is declared; none: nothing is, and nobody applies it.
fn declared(config: &config::Config) -> Option<Vec<Spec>> {
    let specs = config.processes.iter().flat_map(config::Declaration::specs);
    (!config.processes.is_empty()).then(|| specs.map(|(spec, _)| spec).collect())
}

/// What the service runs for itself: what the configuration asks for, and first of all what makes the
/// processes that it declares, once for each service.
fn internal(config: &config::Config, args: &EngineArgs, socket: &Path) -> Result<Vec<Spec>, Error> {
    let mut all = Vec::new();
    if let Some(path) = args.config.as_ref().filter(|_| !config.processes.is_empty()) {
        let text = |path: &Path| path.to_str().map(ToOwned::to_owned);
        let not_text = || Error::usage("the path of the configuration or of the socket is not UTF-8 text");
        let [path, socket] = [path, socket].map(|path| text(path).ok_or_else(not_text));
        let mut command =
            [INTERNAL_PROGRAM, "apply", "--yes", "--at-start", "--socket"].map(str::to_owned).to_vec();
        command.extend([socket?, path?]);
        let mut spec = Spec::new(command);
        spec.name = Some(APPLY.parse()?);
        all.push(spec);
    }
    all.extend(internal_processes(config, args, socket)?);
    Ok(all)
}

/// What the service runs for itself.
#[cfg(not(feature = "gateway"))]
fn internal_processes(_: &config::Config, _: &EngineArgs, _: &Path) -> Result<Vec<Spec>, Error> {
    Ok(Vec::new())
}

/// What the service runs for itself once a client asks for it.
#[cfg(not(feature = "gateway"))]
fn on_demand(_: &config::Config, _: &EngineArgs, _: &Path) -> Result<Vec<Spec>, Error> {
    Ok(Vec::new())
}

/// What the service runs for itself once a client asks for it: the host of providers, and the gateway, if it
/// serves programs on this machine alone.
#[cfg(feature = "gateway")]
fn on_demand(config: &config::Config, args: &EngineArgs, socket: &Path) -> Result<Vec<Spec>, Error> {
    let mut specs = vec![host_spec(config, args, socket)?];
    specs.extend(gateway_specs(config, socket)?.on_demand);
    Ok(specs)
}

/// What the service runs for itself: the gateway, and the host where modules are registered, or providers
/// are discovered or run from the start, if that is configured.
#[cfg(feature = "gateway")]
fn internal_processes(config: &config::Config, args: &EngineArgs, socket: &Path) -> Result<Vec<Spec>, Error> {
    let mut specs: Vec<_> = gateway_specs(config, socket)?.always.into_iter().collect();
    let discovery = &config.registry.discovery;
    let is_discovering = discovery.plugin_path.is_some()
        || discovery.config_path.is_some()
        || discovery.auto_refresh_interval.is_some()
        || discovery.is_environment_used;
    if config.modules.listen.is_some() || is_discovering || !config.providers.from_start().is_empty() {
        specs.push(host_spec(config, args, socket)?);
    }
    Ok(specs)
}

#[cfg(feature = "gateway")]
fn host_spec(config: &config::Config, args: &EngineArgs, socket: &Path) -> Result<Spec, Error> {
    let paths = [
        ("--socket", Some(socket)),
        ("--config", args.config.as_deref()),
        ("--state", args.state.as_deref()),
    ];
    let given =
        paths.into_iter().filter_map(|(option, path)| Some([option.to_owned(), path?.to_str()?.to_owned()]));
    let mut spec = program("host", given.flatten().collect());
    spec.name = Some(HOST.parse()?);
    spec.env = HOST_ENV.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    spec.ready = Some(Readiness::Line(host::READY.to_owned()));
    // With the service it ends its providers first.
    spec.stop.timeout = config.registry.graceful_shutdown_timeout + STOP_MAX;
    Ok(spec)
}

/// How the gateway is run: all the time with `[grpc]`, else at the first connection on this machine.
#[cfg(feature = "gateway")]
fn gateway_specs(config: &config::Config, socket: &Path) -> Result<GatewaySpecs, Error> {
    let mut specs = GatewaySpecs::default();
    match &config.grpc {
        // Another address needs another listener, and so another gateway.
        Some(grpc) => {
            specs.always = Some(gateway_spec(config, socket, &["--listen", &grpc.listen.to_string()])?)
        }
        None if config.local.grpc => specs.on_demand = Some(gateway_spec(config, socket, &["--local"])?),
        None => {}
    }
    Ok(specs)
}

#[cfg(feature = "gateway")]
fn gateway_spec(config: &config::Config, socket: &Path, more: &[&str]) -> Result<Spec, Error> {
    let socket = socket.to_str().ok_or_else(|| Error::usage("the path of the socket is not UTF-8 text"))?;
    let options = ["--socket", socket].into_iter().chain(more.iter().copied()).map(str::to_owned);
    let mut spec = program("gateway", options.collect());
    spec.name = Some(GATEWAY.parse()?);
    let grace = config.grpc.as_ref().map_or_else(Limits::default, |grpc| grpc.limits).grace;
    spec.stop.timeout = STOP_MAX + grace;
    // Nothing of the service's environment leads the C core astray.
    spec.env_base = EnvBase::Empty;
    spec.env = GATEWAY_ENV.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    spec.ready = Some(Readiness::Line(gateway::READY.to_owned()));
    spec.oom_score_adj = Some(GATEWAY_OOM_SCORE_ADJ.max(own_oom_score_adj()));
    spec.user = gateway_user(config)?;
    spec.no_new_privs = true;
    Ok(spec)
}

/// A process without rights may make this higher only.
#[cfg(feature = "gateway")]
fn own_oom_score_adj() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Whom the gateway runs as, if not as the service: where root runs that, a user who has nothing else.
#[cfg(feature = "gateway")]
fn gateway_user(config: &config::Config) -> Result<Option<String>, Error> {
    if system::euid() != 0 {
        return Ok(None);
    }
    let wanted = config.grpc.as_ref().and_then(|grpc| grpc.user.clone());
    Ok(match wanted {
        Some(user) => Some(user),
        None => is_user(GATEWAY_USER)?.then(|| GATEWAY_USER.to_owned()),
    })
}

/// One of this binary's programs that speak gRPC.
#[cfg(feature = "gateway")]
fn program(name: &str, options: Vec<String>) -> Spec {
    let command = [INTERNAL_PROGRAM.to_owned(), name.to_owned()].into_iter().chain(options);
    let mut spec = Spec::new(command);
    // No core, in which passwords and keys would be: less than a page is written to no file, and one byte is
    // the only limit that counts for a handler, too.
    spec.rlimits = vec![Rlimit { resource: "core".to_owned(), soft: 1, hard: 1 }];
    spec.restart.policy = RestartPolicy::Always;
    spec.restart.max_restarts = None;
    spec.restart.delay_max = GATEWAY_DELAY_MAX;
    spec.stop.timeout = STOP_MAX;
    spec
}

/// What the configuration says about the gateway, whenever that is asked.
#[cfg(feature = "gateway")]
fn gateway_source(args: &EngineArgs, socket: &Path) -> GatewaySource {
    let (config, state) = (args.config.clone(), args.state.clone());
    let load = move || -> Result<config::Config, Error> {
        let config = config.as_deref().map(|path| config::load(path, state.as_deref()));
        Ok(config.transpose()?.unwrap_or_default())
    };
    let (reload, of, host) = (load.clone(), socket.to_owned(), host_socket(socket));
    GatewaySource {
        setup: Arc::new(move |listens| {
            let config = load()?;
            setup::offer(config.grpc.as_ref(), &config.local.group_roles, listens)
        }),
        specs: Arc::new(move || gateway_specs(&reload()?, &of)),
        host,
    }
}

/// There is none.
#[cfg(not(feature = "gateway"))]
fn gateway_source(_: &EngineArgs, socket: &Path) -> GatewaySource {
    let none = || Error::new(Code::Refused, "this provost was built without gRPC");
    GatewaySource {
        setup: Arc::new(move |_| Err(none())),
        specs: Arc::new(|| Ok(GatewaySpecs::default())),
        host: host_socket(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&mut Arguments::of("")), Ok(EngineArgs::default()));
        let args = parse(&mut Arguments::of("--cgroup-root /x --exe /y")).unwrap();
        assert_eq!(
            args,
            EngineArgs { cgroups: Some("/x".into()), exe: Some("/y".into()), ..EngineArgs::default() }
        );
        assert!(parse(&mut Arguments::of("x")).is_err());
    }
}
