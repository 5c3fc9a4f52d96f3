//! The configuration file: TOML into each layer's own settings. Only the composition root asks for it; what
//! it makes is plain values, and no other layer knows that there is a file. The environment is not looked at.

#![forbid(unsafe_code)]

mod declared;
#[cfg(feature = "gateway")]
pub mod discovery;
mod environment;
mod file;
#[cfg(feature = "gateway")]
mod grpc;
mod guard;
mod hints;
mod missing;
#[cfg(feature = "gateway")]
mod modules;
mod needs;
pub mod origin;
mod places;
#[cfg(feature = "gateway")]
pub mod plugins;
#[cfg(feature = "gateway")]
mod policy;
mod processes;
#[cfg(feature = "gateway")]
mod providers;
pub mod reference;
#[cfg(feature = "gateway")]
mod registry;
#[cfg(feature = "gateway")]
mod remote;
pub mod schema;
mod section;
mod sinks;

#[cfg(feature = "gateway")]
use std::collections::BTreeSet;
use std::path::Path;
#[cfg(feature = "gateway")]
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "gateway")]
use crate::client::settings::RemoteSettings;
use crate::config::file::{text, top};
use crate::config::section::{Section, Source};
#[cfg(feature = "gateway")]
use crate::engine::process::users;
use crate::engine::settings::{HistorySettings, OrphanPolicy, SinkSettings};
#[cfg(feature = "gateway")]
use crate::gateway::settings::GatewaySettings;
#[cfg(feature = "gateway")]
use crate::module::settings::ModuleSettings;
#[cfg(feature = "gateway")]
use crate::provider::settings::ProviderSettings;
#[cfg(feature = "gateway")]
use crate::registry::settings::RegistrySettings;
#[cfg(feature = "gateway")]
use crate::wire::error::Code;
use crate::wire::error::Error;
#[cfg(feature = "gateway")]
use crate::wire::id::quoted;
use crate::wire::role::GroupRoles;

use crate::config::declared::Read;
pub use crate::config::declared::processes;
pub use crate::config::environment::environment;
use crate::config::guard::guard;
#[cfg(feature = "gateway")]
pub use crate::config::missing::missing_files;
pub use crate::config::missing::{missing, missing_groups};
pub use crate::config::processes::Declaration;

/// Why a file with roles for groups is not to be everybody's.
const WITH_GROUPS: &str = "with [local.group_roles] in it";
/// The same for one with processes.
const WITH_PROCESSES: &str = "since it says what is executed";
/// The most sinks: each is a thread.
const SINKS_MAX: usize = 16;

/// What programs on this machine can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSettings {
    /// Whether gRPC is listened for beside the service's socket.
    pub grpc: bool,
    /// What members of groups may do, beside root and the service's own user.
    pub group_roles: GroupRoles,
    /// Those among them that this machine does not have.
    pub unknown_groups: Vec<String>,
}

impl Default for LocalSettings {
    fn default() -> Self {
        Self { grpc: true, group_roles: GroupRoles::default(), unknown_groups: Vec::new() }
    }
}

/// All that can be configured. The default is what holds without a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What becomes of processes that outlived their keeper.
    pub orphans: OrphanPolicy,
    /// How long events are kept.
    pub history: HistorySettings,
    /// Where else events go.
    pub sinks: Vec<SinkSettings>,
    /// What programs on this machine can do.
    pub local: LocalSettings,
    /// What others can do over the network; without it there is no gateway.
    #[cfg(feature = "gateway")]
    pub grpc: Option<GatewaySettings>,
    /// Executables that give out configuration values.
    #[cfg(feature = "gateway")]
    pub providers: ProviderSettings,
    /// Where modules are registered.
    #[cfg(feature = "gateway")]
    pub modules: ModuleSettings,
    /// The processes that there are to be.
    pub processes: Vec<Declaration>,
    /// How the registry of them behaves.
    #[cfg(feature = "gateway")]
    pub registry: RegistrySettings,
}

/// The configuration of a demonstration, which is part of the program.
#[cfg(feature = "gateway")]
const DEMO: &str = include_str!("../../packaging/demo.toml");

/// Reads a file, and the files of secrets and certificates that sinks name. `state` is the directory of the
/// service, where the gateway's files are that the configuration does not name.
pub fn load(path: &Path, state: Option<&Path>) -> Result<Config, Error> {
    let text = text(path)?;
    let (config, beside) = parse(path, &text, state)?;
    if !config.processes.is_empty() {
        guard(path, &text, WITH_PROCESSES)?;
        beside.iter().try_for_each(|(path, text)| guard(path, text, WITH_PROCESSES))?;
    }
    if !config.local.group_roles.is_empty() {
        guard(path, &text, WITH_GROUPS)?;
    }
    // The demonstration's file may be writable for others as long as it is unchanged: so it works from any
    // clone.
    #[cfg(feature = "gateway")]
    if config.grpc.is_some() && text != DEMO {
        guard(path, &text, "with [grpc] in it")?;
    }
    Ok(config)
}

/// Refuses files that declare processes and that others may change, with which no service begins.
pub fn check_writers(path: &Path) -> Result<(), Error> {
    declared::files(path)?.iter().try_for_each(|file| guard(file, &text(file)?, WITH_PROCESSES))
}

/// A file that somebody names while the service runs, of which only the providers count. They are executed.
#[cfg(feature = "gateway")]
pub fn load_providers(path: &Path, state: Option<&Path>) -> Result<ProviderSettings, Error> {
    let text = text(path)?;
    let (config, beside) = parse(path, &text, state)?;
    guard(path, &text, WITH_PROCESSES)?;
    beside.iter().try_for_each(|(path, text)| guard(path, text, WITH_PROCESSES))?;
    Ok(config.providers)
}

/// The service called `name` in the first of these files that knows it. Nothing else of them is looked at:
/// they may be meant for a service, and name secrets that we may not read.
#[cfg(feature = "gateway")]
pub fn remote(paths: &[PathBuf], name: &str) -> Result<RemoteSettings, Error> {
    let mut known = BTreeSet::new();
    for path in paths {
        let text = text(path)?;
        let source = Source { path, text: &text };
        let section = top(&source)?.section("remote")?;
        for (other, remote) in section.map(remote::all).transpose()?.unwrap_or_default() {
            if other == name {
                return Ok(remote);
            }
            known.insert(other);
        }
    }
    let known: Vec<_> = known.into_iter().collect();
    let e = Error::new(Code::NotFound, format!("there is no remote {}", quoted(name)));
    let is_address = name.contains([':', '@', '.']) || name == "localhost";
    Err(match &known[..] {
        _ if is_address => e.hint(
            "an address is given as --host HOST:PORT, with --cert, --key, --ca and --user; -H takes the name of a \
             section [remote.NAME]",
        ),
        [] => e.hint(format!(
            "docs/config.md shows the section [remote.{name}] that would make it known; looked into {}",
            match paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>() {
                none if none.is_empty() => "no file: there is none".to_owned(),
                some => some.join(", "),
            }
        )),
        _ => e.hint(format!("there are: {}", known.join(", "))),
    })
}

/// `[local]` alone, for whoever has no use for the rest.
#[cfg(feature = "gateway")]
pub fn local(path: &Path) -> Result<LocalSettings, Error> {
    let text = text(path)?;
    let source = Source { path, text: &text };
    let section = top(&source)?.section("local")?;
    let settings = section.map(local_settings).transpose()?.unwrap_or_default();
    if !settings.group_roles.is_empty() {
        guard(path, &text, WITH_GROUPS)?;
    }
    Ok(settings)
}

/// With what was read of the files beside it.
fn parse(path: &Path, text: &str, state: Option<&Path>) -> Result<(Config, Vec<Read>), Error> {
    let source = Source { path, text };
    let mut file = top(&source)?;
    let mut orphans = file.choice("orphans", &ORPHANS)?;
    if let Some(section) = file.section("service")? {
        let twice = section.error("'orphans' stands at the top of the file already");
        let own = service(section)?.orphans;
        if orphans.is_some() && own.is_some() {
            return Err(twice.hint("keep the one in [service]"));
        }
        orphans = orphans.or(own);
    }
    let history = file.section("history")?.map(history).transpose()?;
    let local = file.section("local")?.map(local_settings).transpose()?;
    let entries = file.sections("sink", SINKS_MAX)?;
    let (grpc, remotes) = (file.section("grpc")?, file.section("remote")?);
    let (providers, modules) = (file.section("providers")?, file.section("modules")?);
    let registry = file.section("registry")?;
    // It is what apply brings about.
    file.section("environment")?.map(environment::variables).transpose()?;
    let declared = (file.section("defaults")?, file.section("process")?);
    file.finish()?;
    #[cfg(not(feature = "gateway"))]
    if let Some(section) =
        [&grpc, &remotes, &providers, &modules, &registry].into_iter().find_map(Option::as_ref)
    {
        let message = format!("this provost was built without gRPC: it has no {}", section.title());
        return Err(section.error(&message).hint("take one that was built with the feature gateway"));
    }
    // They are for clients, but what is wrong with them is to be seen at once.
    #[cfg(feature = "gateway")]
    remotes.map(remote::all).transpose()?;
    #[cfg(not(feature = "gateway"))]
    let _ = state;
    let (processes, beside) = declared::with_beside(path, declared)?;
    let config = Config {
        orphans: orphans.unwrap_or_default(),
        history: history.unwrap_or_default(),
        sinks: sinks::all(entries)?,
        local: local.unwrap_or_default(),
        #[cfg(feature = "gateway")]
        grpc: grpc.map(|section| grpc::read(section, state)).transpose()?,
        #[cfg(feature = "gateway")]
        providers: providers.map(providers::read).transpose()?.unwrap_or_default(),
        #[cfg(feature = "gateway")]
        modules: modules.map(|section| modules::read(section, state)).transpose()?.unwrap_or_default(),
        #[cfg(feature = "gateway")]
        registry: registry.map(registry::read).transpose()?.unwrap_or_default(),
        processes,
    };
    Ok((config, beside))
}

/// What `[service]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ServiceSettings {
    orphans: Option<OrphanPolicy>,
    cgroups: Option<Cgroups>,
}

/// Whether processes get cgroups of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Where that is possible.
    Auto,
    Off,
}

const ORPHANS: [(&str, OrphanPolicy); 3] =
    [("adopt", OrphanPolicy::Adopt), ("kill", OrphanPolicy::Kill), ("leave", OrphanPolicy::Leave)];

fn service(mut section: Section<'_>) -> Result<ServiceSettings, Error> {
    let orphans = section.choice("orphans", &ORPHANS)?;
    let cgroups = section.choice("cgroups", &[("auto", Cgroups::Auto), ("off", Cgroups::Off)])?;
    section.finish()?;
    Ok(ServiceSettings { orphans, cgroups })
}

/// Of `[service]` what has to be known before there is an engine. What is wrong with it is said by the look
/// at all of the file.
#[must_use]
pub fn cgroups(path: &Path) -> Option<Cgroups> {
    let text = text(path).ok()?;
    let source = Source { path, text: &text };
    service(top(&source).ok()?.section("service").ok()??).ok()?.cgroups
}

fn local_settings(mut section: Section<'_>) -> Result<LocalSettings, Error> {
    let grpc = section.boolean("grpc")?;
    let groups = section.section("group_roles")?;
    section.finish()?;
    let (group_roles, unknown_groups) = groups.map(group_roles).transpose()?.unwrap_or_default();
    let grpc = grpc.unwrap_or(LocalSettings::default().grpc);
    Ok(LocalSettings { grpc, group_roles, unknown_groups })
}

#[cfg(not(feature = "gateway"))]
fn group_roles(section: Section<'_>) -> Result<(GroupRoles, Vec<String>), Error> {
    let message = format!("this provost was built without roles: it has no {}", section.title());
    Err(section.error(&message).hint("take one that was built with the feature gateway"))
}

#[cfg(feature = "gateway")]
fn group_roles(section: Section<'_>) -> Result<(GroupRoles, Vec<String>), Error> {
    let at = section.source();
    let (mut roles, mut unknown) = (GroupRoles::default(), Vec::new());
    for (name, role) in section.texts()? {
        let parsed = role.value.parse().map_err(|e: Error| at.bad(&role, &e.message).hint(e.hint))?;
        // Who takes a group away, with its last user, say, does not take the service with it.
        let Ok(group) = users::group(&name.value) else {
            unknown.push(name.value);
            continue;
        };
        if roles.0.insert(group, parsed).is_some() {
            return Err(at.bad(&name, "it has a role already, as another way to write the same group"));
        }
    }
    Ok((roles, unknown))
}

fn history(mut section: Section<'_>) -> Result<HistorySettings, Error> {
    let or = HistorySettings::default();
    let (shortest, longest) = (Duration::from_secs(60), Duration::from_secs(3650 * 86_400));
    let keep = section.duration("keep", shortest..=longest)?.unwrap_or(or.keep);
    let keep_events = section.integer("keep_events", 1000..=100_000_000)?.unwrap_or(or.keep_events);
    let keep_audit = section.duration("keep_audit", shortest..=longest)?.unwrap_or(or.keep_audit);
    let keep_ended = section.integer("keep_ended", 0..=1_000_000)?.unwrap_or(or.keep_ended);
    let keep_ended_for = section.duration("keep_ended_for", shortest..=longest)?.unwrap_or(or.keep_ended_for);
    section.finish()?;
    Ok(HistorySettings { keep, keep_events, keep_audit, keep_ended, keep_ended_for })
}

#[cfg(all(test, feature = "gateway"))]
mod grpc_tests;
#[cfg(test)]
mod tests;
