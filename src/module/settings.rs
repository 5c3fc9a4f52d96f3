//! What can be configured of the module plane.

use std::net::SocketAddr;
use std::time::Duration;

/// Settings of the module plane; without an address there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleSettings {
    /// Where providers register: on this machine, without TLS.
    pub listen: Option<SocketAddr>,
    pub limits: ModuleLimits,
}

/// How long providers may be silent, and what they may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleLimits {
    /// Between two heartbeats.
    pub heartbeat_timeout: Duration,
    /// Between a registration and its control stream.
    pub control_timeout: Duration,
    /// Between two reports of active modules to a provider.
    pub report_interval: Duration,
    /// Namespaces that no provider may have, with those below them.
    pub reserved: Vec<String>,
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Duration::from_secs(15),
            control_timeout: Duration::from_secs(30),
            report_interval: Duration::from_secs(30),
            reserved: vec!["stdlib".to_owned()],
        }
    }
}
