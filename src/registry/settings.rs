//! What is configured about the registry.

use std::time::Duration;

use crate::guard::breaker::BreakerSettings;
use crate::registry::health::HealthSettings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// When calls of a provider that fails are refused.
    pub breaker: BreakerSettings,
    /// When and how providers are asked how they are.
    pub health: HealthSettings,
    /// How long the users of a provider may take to leave it before it is disposed of all the same.
    pub dispose_timeout: Duration,
    /// How long the end of all of them may take, when the service ends or a person asks for it.
    pub graceful_shutdown_timeout: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            breaker: BreakerSettings::default(),
            health: HealthSettings::default(),
            dispose_timeout: Duration::from_secs(30),
            graceful_shutdown_timeout: Duration::from_secs(30),
        }
    }
}
