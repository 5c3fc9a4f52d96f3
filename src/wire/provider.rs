//! Providers as they are asked about: what a client says of one, and what the host answers.

use crate::wire::error::Error;
use crate::wire::id::{NAME_LEN_MAX, Name, PROVIDER_PREFIX, PROVIDER_SECOND_PREFIX, quoted};
use crate::wire::landlock::Landlock;
use crate::wire::proto::v1;
use crate::wire::provider_rules::{Retries, ShownStderr, Timeouts, Tls};
use crate::wire::remote_end::RemoteEnd;
use crate::wire::spec::{Rlimit, limits_from_wire, limits_to_wire};
use crate::wire::values::sha256;
use std::fmt;

/// The type of an entry that is an executable, which the host runs.
pub const TYPE_PROCESS: &str = "process";
/// The type of an entry that somebody else runs.
pub const TYPE_REMOTE: &str = "remote";
/// The set where none is named.
pub const SET_DEFAULT: &str = "default";
/// The process of the service's own that hosts providers.
pub const HOST: &str = "provost.host";
/// The longest configuration, in bytes of its encoding.
pub const CONFIG_LEN_MAX: usize = 1 << 20;
/// The most schemas that a configuration has to fit.
pub const SCHEMAS_MAX: usize = 2;
/// The longest schema, in bytes.
pub const SCHEMA_LEN_MAX: usize = 128 << 10;
/// The most segments of a path.
pub const SEGMENTS_MAX: usize = 64;
/// The longest segment, in bytes.
pub const SEGMENT_LEN_MAX: usize = 4 << 10;

/// Which provider: an alias in a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderName {
    set: String,
    alias: String,
}

impl ProviderName {
    /// Checks both.
    pub fn new(set: &str, alias: &str) -> Result<Self, Error> {
        let set = if set.is_empty() { SET_DEFAULT } else { set };
        check_set(set)?;
        check("alias", alias, |c| matches!(c, '_' | '@' | '-' | '.'))?;
        let max = NAME_LEN_MAX - PROVIDER_PREFIX.len() - 1;
        if set.len() + alias.len() > max {
            return Err(Error::usage(format!("set and alias have more than {max} characters together")));
        }
        Ok(Self { set: set.to_owned(), alias: alias.to_owned() })
    }

    #[must_use]
    pub fn set(&self) -> &str {
        &self.set
    }

    #[must_use]
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// What its process is called.
    #[must_use]
    pub fn process(&self) -> Name {
        self.process_of(PROVIDER_PREFIX)
    }

    /// What the process is called that takes the place of one that is called as [`ProviderName::process`]
    /// says: for a while there are both.
    #[must_use]
    pub fn second_process(&self) -> Name {
        self.process_of(PROVIDER_SECOND_PREFIX)
    }

    fn process_of(&self, prefix: &str) -> Name {
        let name = format!("{prefix}{}.{}", self.set, self.alias);
        name.parse().expect("set and alias were checked to make a name")
    }

    /// Of the provider whose process has this name, either of the two.
    #[must_use]
    pub fn of_process(process: &str) -> Option<Self> {
        let rest = process.strip_prefix(PROVIDER_PREFIX);
        let (set, alias) = rest.or_else(|| process.strip_prefix(PROVIDER_SECOND_PREFIX))?.split_once('.')?;
        Self::new(set, alias).ok()
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.set == SET_DEFAULT {
            f.write_str(&self.alias)
        } else {
            write!(f, "{}.{}", self.set, self.alias)
        }
    }
}

/// Whether this can be the name of a set.
pub(in crate::wire) fn check_set(set: &str) -> Result<(), Error> {
    check("set", set, |c| matches!(c, '_' | '@' | '-'))
}

fn check(what: &str, text: &str, is_also: fn(char) -> bool) -> Result<(), Error> {
    let begins = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if begins && text.chars().all(|c| c.is_ascii_alphanumeric() || is_also(c)) {
        return Ok(());
    }
    Err(Error::usage(format!("bad {what} {}", quoted(text))).hint(format!(
        "the {what} of a provider begins with a letter or a digit, and has besides them _ @ -"
    )))
}

/// What is asked about providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderCall {
    /// Have one like this, running and initialised.
    Start(ProviderName, Box<Definition>),
    Fetch(ProviderName, Vec<String>),
    Info(ProviderName),
    Health(ProviderName),
    /// End its process; the definition stays.
    Stop(ProviderName),
    /// Forget that it has failed.
    Reset(ProviderName),
    /// Switch to a fresh process.
    Replace(ProviderName),
    /// Of this set, or of all; starts none.
    List(Option<String>),
    /// End all of this set, or of all, and forget their definitions.
    ShutDown(Option<String>),
    /// The same as this, and so many steps more is told of what the provider writes to its standard error.
    Louder(u32, Box<ProviderCall>),
}

/// How a provider is run. Two that are equal are one provider.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Definition {
    /// A path, or a name that is looked up in the provider directories.
    pub binary: String,
    /// `google.protobuf.Struct`, encoded.
    pub config: Vec<u8>,
    /// The file that the configuration was written in, or empty.
    pub source_file_path: String,
    pub user: Option<String>,
    pub group: Option<String>,
    pub cwd: Option<String>,
    pub environment: ProviderEnvironment,
    /// Of the binary: 64 hexadecimal digits in lower case.
    pub sha256: Option<String>,
    /// What Info has to say of its type.
    pub pin_type: Option<String>,
    /// What Info has to say of its version.
    pub pin_version: Option<String>,
    /// The binary may be outside of the provider directories.
    pub allow_external: bool,
    pub timeouts: Timeouts,
    /// When a start that failed is tried again.
    pub retries: Retries,
    /// Who is told what it writes to its standard error.
    pub stderr: ShownStderr,
    /// Resource limits of its process.
    pub limits: Vec<Rlimit>,
    /// Which files it may reach.
    pub landlock: Landlock,
    pub tls: Tls,
    /// Whoever answers on its port has to prove that it is the provider, by a token of its launch.
    pub cookie: bool,
    /// Where its definition changes, the next one runs before this one goes.
    pub swap: bool,
    /// Where it runs already; none: the host runs it.
    pub remote: Option<RemoteEnd>,
    /// JSON Schemas that the configuration has to fit, as JSON.
    pub schemas: Vec<String>,
}

/// Whose variables a provider gets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ProviderEnvironment {
    /// Those of the service, as every process.
    #[default]
    Inherit,
    /// Of those, the ones that are named.
    Allow(Vec<String>),
    Clear,
}

/// Where a provider is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProviderState {
    /// Its process does not run; the next call starts it.
    #[default]
    Idle,
    Starting,
    /// It runs and is initialised.
    Ready,
    /// It could not be started, or ended too often.
    Failed,
}

impl ProviderState {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// A provider as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub name: ProviderName,
    pub state: ProviderState,
    /// As it was found.
    pub binary: String,
    pub pid: Option<u32>,
    /// Of 127.0.0.1.
    pub port: Option<u16>,
    /// What Info says, or empty.
    pub kind: String,
    /// What Info says, or empty.
    pub version: String,
    /// Starts since the definition was given.
    pub starts: u64,
    /// Why it has failed, or empty.
    pub reason: String,
    /// The name of its process.
    pub process: String,
}

/// How a provider says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderHealth {
    /// "ok", "degraded", "starting" or "unspecified".
    pub status: String,
    pub message: String,
}

/// What the host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderAnswer {
    Provider(Box<Provider>),
    /// `google.protobuf.Struct`, encoded.
    Value(Vec<u8>),
    Health(ProviderHealth),
    List(Vec<Provider>),
    /// An answer, and what the provider has written to its standard error meanwhile.
    Said(String, Box<ProviderAnswer>),
}

impl Definition {
    /// Of which type what is defined so is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.remote.is_some() { TYPE_REMOTE } else { TYPE_PROCESS }
    }

    /// What it is, for people: the binary, or the address.
    #[must_use]
    pub fn what(&self) -> String {
        self.remote.as_ref().map_or_else(|| self.binary.clone(), |end| end.host.to_string())
    }

    /// Encoded; equal definitions have equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.to_wire())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wire = <v1::ProviderDefinition as prost::Message>::decode(bytes)
            .map_err(|e| Error::usage(format!("cannot decode the definition: {e}")))?;
        Self::from_wire(wire)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::ProviderDefinition {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (environment, allowed_variables) = match &self.environment {
            ProviderEnvironment::Inherit => (v1::ProviderEnvironment::Inherit, Vec::new()),
            ProviderEnvironment::Allow(names) => (v1::ProviderEnvironment::Allow, names.clone()),
            ProviderEnvironment::Clear => (v1::ProviderEnvironment::Clear, Vec::new()),
        };
        v1::ProviderDefinition {
            binary: self.binary.clone(),
            config: self.config.clone(),
            source_file_path: self.source_file_path.clone(),
            user: text(&self.user),
            group: text(&self.group),
            cwd: text(&self.cwd),
            environment: environment.into(),
            allowed_variables,
            sha256: text(&self.sha256),
            pin_type: text(&self.pin_type),
            pin_version: text(&self.pin_version),
            allow_external: self.allow_external,
            timeouts: Some(self.timeouts.to_wire()),
            retries: self.retries.count,
            retry_delay_ms: self.retries.delay_ms(),
            stderr: self.stderr.to_wire() as i32,
            limits: limits_to_wire(&self.limits),
            landlock: self.landlock.to_wire(),
            tls: self.tls.to_wire().into(),
            cookie: self.cookie,
            swap: self.swap,
            remote: self.remote.as_ref().map(RemoteEnd::to_wire),
            schemas: self.schemas.clone(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderDefinition) -> Result<Self, Error> {
        let text = |t: String| (!t.is_empty()).then_some(t);
        let (stderr, tls) = (ShownStderr::from_wire(w.stderr()), Tls::from_wire(w.tls()));
        let environment = match w.environment() {
            v1::ProviderEnvironment::Inherit => ProviderEnvironment::Inherit,
            v1::ProviderEnvironment::Allow => ProviderEnvironment::Allow(w.allowed_variables),
            v1::ProviderEnvironment::Clear => ProviderEnvironment::Clear,
        };
        let remote = w.remote.map(RemoteEnd::from_wire).transpose()?;
        if remote.is_none() && (w.binary.is_empty() || w.binary.contains('\0')) {
            return Err(Error::usage("no binary is given for the provider"));
        }
        if remote.is_some() && !w.binary.is_empty() {
            return Err(Error::usage("a provider is a binary, or runs at an address, and not both"));
        }
        if w.config.len() > CONFIG_LEN_MAX {
            let len = w.config.len();
            return Err(Error::usage(format!("a configuration of {len} bytes is over {CONFIG_LEN_MAX}")));
        }
        if w.schemas.len() > SCHEMAS_MAX || w.schemas.iter().any(|schema| schema.len() > SCHEMA_LEN_MAX) {
            let e =
                format!("a configuration has at most {SCHEMAS_MAX} schemas of {SCHEMA_LEN_MAX} bytes each");
            return Err(Error::usage(e));
        }
        let landlock = Landlock::from_wire(w.landlock);
        landlock.check()?;
        let sha256 = text(w.sha256).map(|digits| sha256(&digits)).transpose()?;
        Ok(Self {
            binary: w.binary,
            config: w.config,
            source_file_path: w.source_file_path,
            user: text(w.user),
            group: text(w.group),
            cwd: text(w.cwd),
            environment,
            sha256,
            pin_type: text(w.pin_type),
            pin_version: text(w.pin_version),
            allow_external: w.allow_external,
            timeouts: Timeouts::from_wire(w.timeouts.unwrap_or_default()),
            retries: Retries::from_wire(w.retries, w.retry_delay_ms)?,
            stderr,
            limits: limits_from_wire(w.limits)?,
            landlock,
            tls,
            cookie: w.cookie,
            swap: w.swap,
            remote,
            schemas: w.schemas,
        })
    }
}

impl ProviderCall {
    /// What is asked, and how loud.
    #[must_use]
    pub fn into_plain(self) -> (Self, u32) {
        if let Self::Louder(louder, call) = self { (call.into_plain().0, louder) } else { (self, 0) }
    }

    /// What is asked, however loud.
    #[must_use]
    pub fn plain(&self) -> &Self {
        if let Self::Louder(_, call) = self { call.plain() } else { self }
    }

    /// The provider that is asked about, if it is one.
    #[must_use]
    pub fn name(&self) -> Option<&ProviderName> {
        match self {
            Self::Start(name, _)
            | Self::Fetch(name, _)
            | Self::Info(name)
            | Self::Health(name)
            | Self::Stop(name)
            | Self::Reset(name)
            | Self::Replace(name) => Some(name),
            Self::List(_) | Self::ShutDown(_) => None,
            Self::Louder(_, call) => call.name(),
        }
    }

    /// What it changes, in words; none: nothing.
    #[must_use]
    pub fn change(&self) -> Option<String> {
        let set = |set: &Option<String>| set.clone().unwrap_or_else(|| "all sets".to_owned());
        match self {
            Self::Start(name, definition) => Some(format!("start provider {name}: {}", definition.what())),
            Self::Stop(name) => Some(format!("stop provider {name}")),
            Self::Reset(name) => Some(format!("reset provider {name}")),
            Self::Replace(name) => Some(format!("replace provider {name}")),
            Self::ShutDown(some) => Some(format!("shut down providers of {}", set(some))),
            Self::Fetch(..) | Self::Info(_) | Self::Health(_) | Self::List(_) => None,
            Self::Louder(_, call) => call.change(),
        }
    }
}

impl ProviderAnswer {
    /// The answer itself.
    #[must_use]
    pub fn plain(&self) -> &Self {
        if let Self::Said(_, answer) = self { answer.plain() } else { self }
    }

    /// The answer itself, and what the provider has written meanwhile, where that is told.
    #[must_use]
    pub fn into_plain(self) -> (Self, String) {
        if let Self::Said(stderr, answer) = self { (*answer, stderr) } else { (self, String::new()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::provider_rules::RETRIES_MAX;

    #[test]
    fn set_and_alias_make_the_name_of_a_process() {
        let name = ProviderName::new("", "app.config").unwrap();
        assert_eq!((name.set(), name.alias()), (SET_DEFAULT, "app.config"));
        assert_eq!(
            (name.process().as_str(), name.to_string().as_str()),
            ("provider.default.app.config", "app.config")
        );
        assert_eq!(ProviderName::new("ci", "x").unwrap().to_string(), "ci.x");
        for process in [name.process(), name.second_process()] {
            assert!(process.is_of_provider());
            assert_eq!(ProviderName::of_process(process.as_str()).as_ref(), Some(&name));
        }
        assert_ne!(name.process(), name.second_process());
        assert_eq!(ProviderName::of_process("web-1"), None);
        assert!(ProviderName::new("s", &"a".repeat(53)).is_ok());
        for (set, alias) in
            [("a.b", "x"), ("", ""), ("", "-x"), ("", "a/b"), ("", "ä"), ("s", &"a".repeat(54))]
        {
            assert!(ProviderName::new(set, alias).is_err(), "{set} {alias}");
        }
    }

    #[test]
    fn a_definition_comes_back_and_bad_ones_are_refused() {
        let definition = Definition {
            binary: "files".into(),
            config: vec![1, 2],
            user: Some("nobody".into()),
            environment: ProviderEnvironment::Allow(vec!["PATH".into()]),
            sha256: Some("ab".repeat(32)),
            allow_external: true,
            timeouts: Timeouts {
                fetch: Duration::from_millis(1),
                idle: Duration::from_secs(1),
                ..Timeouts::default()
            },
            retries: Retries { count: 3, delay: Duration::from_secs(1) },
            stderr: ShownStderr::All,
            limits: vec![Rlimit { resource: "nofile".into(), soft: 1, hard: 2 }],
            landlock: Landlock { read: vec!["/usr".into()], ..Landlock::default() },
            tls: Tls::Required,
            cookie: true,
            swap: true,
            ..Definition::default()
        };
        assert_eq!(Definition::decode(&definition.encode()), Ok(definition.clone()));
        let bad = |change: fn(&mut Definition)| {
            let mut bad = definition.clone();
            change(&mut bad);
            Definition::decode(&bad.encode())
        };
        assert!(bad(|d| d.binary.clear()).is_err());
        assert!(bad(|d| d.sha256 = Some("xyz".into())).is_err());
        assert!(bad(|d| d.config = vec![0; CONFIG_LEN_MAX + 1]).is_err());
        assert!(bad(|d| d.retries.count = RETRIES_MAX + 1).is_err());
        assert!(bad(|d| d.limits[0].soft = 3).is_err());
        assert!(bad(|d| d.landlock.write = vec!["tmp".into()]).is_err());
    }
}
