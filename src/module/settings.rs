//! What can be configured of the module plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::tls::material::Files;
use crate::wire::time::millis;

/// How many heartbeats at least fit into the time that one may be late.
pub const BEATS_PER_TIMEOUT: u32 = 3;

/// Settings of the module plane; without an address there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleSettings {
    /// Where providers register.
    pub listen: Option<SocketAddr>,
    /// With mutual TLS, by these files; none: without TLS, on this machine.
    pub tls: Option<Files>,
    pub limits: ModuleLimits,
    /// What the environment says of them: for the log.
    pub notices: Vec<String>,
}

/// How long providers may be silent, and what they may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleLimits {
    /// Between two heartbeats, as providers are to send them; executors that have to be watched are probed
    /// as often.
    pub heartbeat_interval: Duration,
    /// The most between two heartbeats.
    pub heartbeat_timeout: Duration,
    /// Between a registration and its control stream.
    pub control_timeout: Duration,
    /// Between two reports of active modules to a provider.
    pub report_interval: Duration,
    /// Namespaces that no provider may have, with those below them.
    pub reserved: Vec<String>,
    /// Which certificates may have a namespace, with those below it, by their typed names.
    pub namespaces: BTreeMap<String, BTreeSet<String>>,
    /// Hosts with executors that are spoken to with TLS; none: executors are on this machine.
    pub elsewhere: Option<Elsewhere>,
    /// The most calls of one provider at once.
    pub member_calls: u32,
    /// The most calls that wait for one, by provider of the module.
    pub member_queue: u32,
    /// Which modules of a namespace there are to be; none: any of it.
    pub expect: BTreeMap<String, BTreeSet<String>>,
    /// How long one of them may be missing before that is said.
    pub expect_grace: Duration,
}

/// Hosts whose executors are spoken to with mutual TLS, and what is shown to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// As providers name them, in lower case.
    pub hosts: BTreeSet<String>,
    pub files: Files,
}

impl ModuleLimits {
    /// How long until an executor that has to be watched is probed again.
    pub fn probe_interval_ms(&self) -> u64 {
        millis(self.heartbeat_interval)
    }
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(15),
            control_timeout: Duration::from_secs(30),
            report_interval: Duration::from_secs(30),
            reserved: vec!["stdlib".to_owned()],
            namespaces: BTreeMap::new(),
            elsewhere: None,
            member_calls: 64,
            member_queue: 64,
            expect: BTreeMap::new(),
            expect_grace: Duration::from_secs(30),
        }
    }
}
