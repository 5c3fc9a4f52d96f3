//! What of the engine can be set. Plain values that have been checked; `config` makes them from a file, and
//! knows the file's form.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::spec::Spec;

/// What becomes of processes that an earlier keeper started and that outlived it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrphanPolicy {
    /// They stay, and no second copy is started beside them.
    Adopt,
    /// They are killed before a new copy is started.
    #[default]
    Kill,
    /// They stay, and are reported.
    Leave,
}

/// What the configuration has for the gateway, whenever that is asked: the engine itself knows no more of it.
#[derive(Clone)]
pub struct GatewaySource {
    /// Opens what the gateway works with; the argument: with the socket that it listens on.
    pub setup: Arc<dyn Fn(bool) -> Result<Vec<File>, Error> + Send + Sync>,
    /// How it is to be run.
    pub specs: Arc<dyn Fn() -> Result<GatewaySpecs, Error> + Send + Sync>,
    /// Where the host of providers listens, to whom the gateway is connected.
    pub host: PathBuf,
}

/// At most one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewaySpecs {
    /// All the time.
    pub always: Option<Spec>,
    /// Once somebody connects for gRPC on this machine.
    pub on_demand: Option<Spec>,
}

impl fmt::Debug for GatewaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewaySource")
    }
}

/// How long events are kept, until either limit is reached, and what has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    pub keep: Duration,
    pub keep_events: u64,
    /// How long the audit is kept, by time alone: nobody pushes lines out with others.
    pub keep_audit: Duration,
    /// How many processes without a name are kept after their end, each with its output, and how long.
    pub keep_ended: u64,
    pub keep_ended_for: Duration,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(30 * 86_400),
            keep_events: 1_000_000,
            keep_audit: Duration::from_secs(90 * 86_400),
            keep_ended: 100,
            keep_ended_for: Duration::from_secs(86_400),
        }
    }
}

/// Where events go besides the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// Unique among the sinks.
    pub name: String,
    pub kind: SinkKind,
}

/// The kinds of sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// A file of lines.
    Jsonl(JsonlSettings),
    OpenSearch(OpenSearchSettings),
}

/// A file with an event on each line, rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonlSettings {
    /// The file; rotated ones are beside it, with a number at the end.
    pub path: PathBuf,
    /// A file does not get longer than this, unless by a single line.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub max_files: u32,
}

/// An index of OpenSearch, or of what speaks its bulk API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSearchSettings {
    /// `http(s)://HOST[:PORT][/PATH]`, without a slash at the end.
    pub url: String,
    /// Where documents are put.
    pub index: String,
    pub login: Option<Login>,
    /// Certificates to trust instead of the public ones, as PEM.
    pub ca: Option<Vec<u8>>,
    /// The most documents in one request.
    pub batch: usize,
    /// For a whole request, the answer included.
    pub timeout: Duration,
}

/// A user's name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}

/// Text that appears in no message, log or dump: it has neither `Display` nor a serial form, and its `Debug`
/// is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that has to send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_dumped() {
        let login = Login { username: "u".into(), password: Secret::new("hush".into()) };
        assert!(!format!("{login:?}").contains("hush"));
        assert_eq!(login.password.reveal(), "hush");
    }
}
