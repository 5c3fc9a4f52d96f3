//! What is configured about the registry.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::guard::breaker::BreakerSettings;
use crate::registry::discovery::Candidate;
use crate::registry::health::HealthSettings;
use crate::wire::landlock::Landlock;
use crate::wire::spec::Rlimit;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// When calls of a provider that fails are refused.
    pub breaker: BreakerSettings,
    /// Also the last one of a group is opened that lets calls through.
    pub opens_last: bool,
    /// When and how providers are asked how they are.
    pub health: HealthSettings,
    /// Where providers are discovered.
    pub discovery: DiscoverySettings,
    /// By type, the file of the schema that configurations of entries of this type have to fit.
    pub schemas: BTreeMap<String, PathBuf>,
    /// How long a provider may take for its configuration, where its own definition does not say.
    pub init_timeout: Duration,
    /// How long the users of a provider may take to leave it before it is disposed of all the same.
    pub dispose_timeout: Duration,
    /// How long the end of all of them may take, when the service ends or a person asks for it.
    pub graceful_shutdown_timeout: Duration,
}

/// Where providers are discovered, beside the configuration itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// One more file of the configuration, of which only the providers count; none: there is none.
    pub config_path: Option<PathBuf>,
    /// The directory of plugins, one folder each; none: there are none.
    pub plugin_path: Option<PathBuf>,
    /// From one look to the next; none: only when something changes, or when a person asks.
    pub auto_refresh_interval: Option<Duration>,
    /// Whether variables are looked at.
    pub is_environment_used: bool,
    /// Beside the rules that are known.
    pub rules: Vec<EnvironmentRule>,
    pub policy: PluginPolicy,
}

/// How much of what it asks for in its manifest a plugin may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginPolicy {
    /// The variables of the service that it may get or refer to; none: any, but for some.
    pub variables: Option<Vec<String>>,
    /// Where the files are that it may refer to; none: anywhere.
    pub files: Option<Vec<PathBuf>>,
    /// Its executable has to be pinned.
    pub is_pinned: bool,
    /// The highest limits. It has them, too, where it does not ask for lower ones.
    pub limits: Vec<Rlimit>,
    /// What it may reach; everything, if this names nothing.
    pub landlock: Landlock,
}

/// What a variable of the service stands for, where it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentRule {
    pub variable: String,
    pub candidate: Candidate,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            breaker: BreakerSettings::default(),
            opens_last: false,
            health: HealthSettings::default(),
            discovery: DiscoverySettings::default(),
            schemas: BTreeMap::new(),
            init_timeout: Duration::from_secs(30),
            dispose_timeout: Duration::from_secs(30),
            graceful_shutdown_timeout: Duration::from_secs(30),
        }
    }
}
