//! What is configured about the registry.

use std::path::PathBuf;
use std::time::Duration;

use crate::guard::breaker::BreakerSettings;
use crate::registry::discovery::Candidate;
use crate::registry::health::HealthSettings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// When calls of a provider that fails are refused.
    pub breaker: BreakerSettings,
    /// When and how providers are asked how they are.
    pub health: HealthSettings,
    /// Where providers are discovered.
    pub discovery: DiscoverySettings,
    /// How long the users of a provider may take to leave it before it is disposed of all the same.
    pub dispose_timeout: Duration,
    /// How long the end of all of them may take, when the service ends or a person asks for it.
    pub graceful_shutdown_timeout: Duration,
}

/// Where providers are discovered, beside the configuration itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// The directory of plugins, one folder each; none: there are none.
    pub plugin_path: Option<PathBuf>,
    /// From one look to the next; none: only when something changes, or when a person asks.
    pub auto_refresh_interval: Option<Duration>,
    /// Whether variables are looked at.
    pub is_environment_used: bool,
    /// Beside the rules that are known.
    pub rules: Vec<EnvironmentRule>,
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
            health: HealthSettings::default(),
            discovery: DiscoverySettings::default(),
            dispose_timeout: Duration::from_secs(30),
            graceful_shutdown_timeout: Duration::from_secs(30),
        }
    }
}
