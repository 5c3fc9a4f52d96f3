//! What of the gateway can be set. Plain values that have been checked; `config` makes them from a file, and
//! knows the file's form.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::access::roles::Roles;
use crate::access::users::Users;
use crate::tls::material::Files;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    pub listen: SocketAddr,
    /// Its certificate and key, and the authorities that it trusts.
    pub files: Files,
    /// Who has a password.
    pub users: UserSource,
    /// Who may do what.
    pub roles: Roles,
    /// Limits of what others can take of it.
    pub limits: Limits,
    /// Whom it runs as, where root runs the service.
    pub user: Option<String>,
}

impl GatewaySettings {
    /// The files that are read again when they change.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let Files { certificate, key, ca, crl } = self.files.clone();
        [certificate, key, ca].into_iter().chain(crl).chain(self.users.path()).collect()
    }
}

/// Where the users are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    File(PathBuf),
    /// In the configuration, where every user may read them: for a demonstration, on the loopback only.
    Demo(Users),
}

impl UserSource {
    /// The file, if they are in one.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Demo(_) => None,
        }
    }
}

/// See [`GatewaySettings::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Those of them that have not proven who they are yet.
    pub unauthenticated: usize,
    /// Those of one certificate.
    pub connections_each: usize,
    /// Calls at a time on each connection.
    pub streams: u32,
    /// The largest message, in bytes.
    pub message_size: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// A client that says nothing for so long is asked whether it is there; a third of it later, it is not.
    pub keepalive: Duration,
    /// How long a client may take nothing of what it is sent.
    pub stall: Duration,
    /// How long calls under way may take when the gateway ends.
    pub grace: Duration,
    /// How long a connection lives; none: as long as both ends want, and its certificate.
    pub max_age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            unauthenticated: 64,
            connections_each: 250,
            streams: 100,
            message_size: 4 << 20,
            handshake: Duration::from_secs(10),
            keepalive: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            max_age: None,
        }
    }
}
