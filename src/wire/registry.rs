//! The registry of providers as it is asked about: what a client says of an entry, and what the host answers.

use std::time::Duration;

use crate::wire::discovery::Discovery;
use crate::wire::error::Error;
use crate::wire::permit::{Chain, ChainValue, Permit, Report, checked_expiry};
#[cfg(test)]
use crate::wire::permit::{Outcome, Wanted};
use crate::wire::proto::v1;
#[cfg(test)]
use crate::wire::provider::Definition;
use crate::wire::provider::{Provider, ProviderName, check_set};
use crate::wire::registration::Registration;
use crate::wire::spec::{pairs_from_wire, pairs_to_wire};
use crate::wire::time::{Timestamp, millis};

/// The shortest time from one check of a provider's health to the next, and the longest.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// The shortest time from one look at what providers there are to be to the next.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The type of an entry that only names a secret.
pub const TYPE_CREDENTIAL: &str = "credential";
/// The longest reason why a breaker is held, in bytes.
const REASON_LEN_MAX: usize = 256;

/// What is asked about the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryCall {
    pub whom: Whom,
    pub verb: Verb,
}

/// Which entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    One(ProviderName),
    /// Of this set, or of all.
    All(Option<String>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Show entries; starts none.
    Show,
    /// Make an entry and start it.
    Register(Box<Registration>),
    /// Wait for its users, end it, and forget it.
    Unregister,
    /// Have it running, also where it was disposed of.
    Initialize,
    /// End it, and refuse calls until it is initialised again.
    Dispose,
    Start,
    /// End its process; the next call starts it.
    Stop,
    Restart,
    /// Start the next one, give it the calls, then end this one.
    Replace,
    /// Forget its failures and close its breaker.
    Reset,
    Health,
    /// Hold its breaker open, for this reason.
    Hold(String),
    Release,
    /// Check its health again and again, in this interval, or in that of the configuration.
    Monitor(Option<Duration>),
    Unmonitor,
    /// Look again and again what providers there are to be, in this interval, or in that of the
    /// configuration.
    Refresh(Option<Duration>),
    StopRefresh,
    /// Dispose of all of them within a time.
    ShutDown,
    /// Look what providers there are to be, and see to it.
    Discover(Discovery),
    /// Look what providers there are to be, and whether they can be.
    Validate,
    /// Let somebody make a call of what it stands for; the permit is good for so long, or as configured.
    Permit(Option<Duration>),
    /// Such a call has ended.
    Report(Report),
    /// Use the first of several that can be used.
    Chain(Chain),
}

/// What a discovery has found about one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What was done, or would be: "added", "changed", "removed", "shadowed", "valid" or "invalid".
    pub what: String,
    /// The provider, or of what has no name, where it is.
    pub name: String,
    /// Where it was found: "config", "plugin" or "environment".
    pub source: String,
    /// More about it.
    pub detail: String,
}

/// An entry as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which type it is.
    pub kind: String,
    /// "initializing", "ready", "degraded", "idle", "stopped", "error", "disposing" or "disposed".
    pub status: String,
    /// "api", "config", "plugin" or "environment".
    pub source: String,
    /// Other sources that have one of this name, which is not used.
    pub shadows: Vec<String>,
    /// Of the plugin that it comes from, as its manifest says.
    pub version: String,
    /// What it can, as its manifest says, and the type that it says itself.
    pub capabilities: Vec<String>,
    pub registered_at: Timestamp,
    pub labels: Vec<(String, String)>,
    /// The last check of its health.
    pub check: Option<Check>,
    pub breaker: Breaker,
    /// From one check of its health to the next; none: it is not checked.
    pub interval: Option<Duration>,
    pub provider: Provider,
}

/// How a provider was when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    pub at: Timestamp,
    /// What it said: "ok", "degraded", "starting" or "unspecified"; "failed" without an answer.
    pub health: String,
    pub message: String,
    pub latency_ms: u64,
}

/// The breaker of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// "closed", "open", "half-open" or "isolated".
    pub state: String,
    /// In its window.
    pub failures: u32,
    /// Why calls do not pass.
    pub reason: String,
    /// When the next probe is let through.
    pub next_probe_at: Option<Timestamp>,
}

/// What the registry answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryAnswer {
    /// In the order of set and alias.
    pub entries: Vec<Entry>,
    /// Of those that it was not done for.
    pub failures: Vec<(ProviderName, Error)>,
    /// Of a discovery.
    pub findings: Vec<Finding>,
    /// The right to one call.
    pub permit: Option<Permit>,
    /// Of a chain.
    pub value: Option<ChainValue>,
}

impl Verb {
    /// As it is written on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Register(_) => "register",
            Self::Unregister => "unregister",
            Self::Initialize => "initialize",
            Self::Dispose => "dispose",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Reset => "reset",
            Self::Health => "health",
            Self::Hold(_) => "hold",
            Self::Release => "release",
            Self::Monitor(_) => "monitor",
            Self::Unmonitor => "unmonitor",
            Self::Refresh(_) => "refresh",
            Self::StopRefresh => "stop to refresh",
            Self::ShutDown => "shut down",
            Self::Discover(_) => "discover",
            Self::Validate => "validate",
            Self::Permit(_) => "permit",
            Self::Report(_) => "report",
            Self::Chain(_) => "chain",
        }
    }

    fn to_wire(&self) -> v1::RegistryVerb {
        match self {
            Self::Show => v1::RegistryVerb::Show,
            Self::Register(_) => v1::RegistryVerb::Register,
            Self::Unregister => v1::RegistryVerb::Unregister,
            Self::Initialize => v1::RegistryVerb::Initialize,
            Self::Dispose => v1::RegistryVerb::Dispose,
            Self::Start => v1::RegistryVerb::Start,
            Self::Stop => v1::RegistryVerb::Stop,
            Self::Restart => v1::RegistryVerb::Restart,
            Self::Replace => v1::RegistryVerb::Replace,
            Self::Reset => v1::RegistryVerb::Reset,
            Self::Health => v1::RegistryVerb::Health,
            Self::Hold(_) => v1::RegistryVerb::Hold,
            Self::Release => v1::RegistryVerb::Release,
            Self::Monitor(_) => v1::RegistryVerb::Monitor,
            Self::Unmonitor => v1::RegistryVerb::Unmonitor,
            Self::Refresh(_) => v1::RegistryVerb::Refresh,
            Self::StopRefresh => v1::RegistryVerb::StopRefresh,
            Self::ShutDown => v1::RegistryVerb::ShutDown,
            Self::Discover(_) => v1::RegistryVerb::Discover,
            Self::Validate => v1::RegistryVerb::Validate,
            Self::Permit(_) => v1::RegistryVerb::Permit,
            Self::Report(_) => v1::RegistryVerb::Report,
            Self::Chain(_) => v1::RegistryVerb::Chain,
        }
    }
}

impl RegistryCall {
    /// Whether it puts itself on record, in one write with what is kept of it.
    #[must_use]
    pub fn has_its_own_line(&self) -> bool {
        matches!((&self.whom, &self.verb), (Whom::One(_), Verb::Register(_)))
    }

    /// What it changes, in words; none: nothing.
    #[must_use]
    pub fn change(&self) -> Option<String> {
        let whom = match &self.whom {
            Whom::One(name) => format!("provider {name}"),
            Whom::All(Some(set)) => format!("all providers of set {set}"),
            Whom::All(None) => "all providers".to_owned(),
        };
        match &self.verb {
            // As a call of a provider, the next three change nothing.
            Verb::Show | Verb::Health | Verb::Validate => None,
            Verb::Permit(_) | Verb::Report(_) | Verb::Chain(_) => None,
            Verb::Discover(discovery) if discovery.is_dry_run => None,
            Verb::Discover(_) => Some("discover providers".to_owned()),
            Verb::Register(r) => Some(format!("register {whom}: {}", r.what())),
            Verb::Hold(reason) => Some(format!("hold the breaker of {whom}: {reason}")),
            Verb::Release => Some(format!("release the breaker of {whom}")),
            Verb::Monitor(_) => Some(format!("check the health of {whom}")),
            Verb::Unmonitor => Some(format!("check the health of {whom} no more")),
            Verb::Refresh(_) => Some("discover providers again and again".to_owned()),
            Verb::StopRefresh => Some("discover providers no more".to_owned()),
            verb => Some(format!("{} {whom} in the registry", verb.name())),
        }
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::RegistryCall {
        let (set, alias) = match &self.whom {
            Whom::One(name) => (name.set().to_owned(), name.alias().to_owned()),
            Whom::All(set) => (set.clone().unwrap_or_default(), String::new()),
        };
        let mut wire =
            v1::RegistryCall { set, alias, verb: self.verb.to_wire().into(), ..Default::default() };
        match &self.verb {
            Verb::Register(r) => {
                wire.r#type.clone_from(&r.kind);
                wire.definition = r.namespace.is_none().then(|| r.definition.to_wire());
                wire.namespace = r.namespace.clone().unwrap_or_default();
                wire.labels = pairs_to_wire(&r.labels);
            }
            Verb::Hold(reason) => wire.reason.clone_from(reason),
            Verb::Discover(discovery) => discovery.fill(&mut wire),
            Verb::Monitor(interval) | Verb::Refresh(interval) => {
                wire.interval_ms = interval.map_or(0, millis);
            }
            Verb::Permit(expiry) => wire.expires_ms = expiry.map_or(0, millis),
            Verb::Report(report) => wire.report = Some(report.to_wire()),
            Verb::Chain(chain) => wire.chain = Some(chain.to_wire()),
            _ => {}
        }
        wire
    }

    pub(in crate::wire) fn from_wire(mut w: v1::RegistryCall) -> Result<Self, Error> {
        let known = v1::RegistryVerb::try_from(w.verb);
        let verb = match known.map_err(|_| Error::usage("the registry does not know this question"))? {
            v1::RegistryVerb::Show => Verb::Show,
            v1::RegistryVerb::Register => {
                Verb::Register(Box::new(Registration::from_wire(&mut w)?.with_kind()))
            }
            v1::RegistryVerb::Unregister => Verb::Unregister,
            v1::RegistryVerb::Initialize => Verb::Initialize,
            v1::RegistryVerb::Dispose => Verb::Dispose,
            v1::RegistryVerb::Start => Verb::Start,
            v1::RegistryVerb::Stop => Verb::Stop,
            v1::RegistryVerb::Restart => Verb::Restart,
            v1::RegistryVerb::Replace => Verb::Replace,
            v1::RegistryVerb::Reset => Verb::Reset,
            v1::RegistryVerb::Health => Verb::Health,
            v1::RegistryVerb::Hold if w.reason.trim().is_empty() || w.reason.len() > REASON_LEN_MAX => {
                let e = format!("why the breaker is held is said in 1 to {REASON_LEN_MAX} bytes");
                return Err(Error::usage(e));
            }
            v1::RegistryVerb::Hold => Verb::Hold(w.reason),
            v1::RegistryVerb::Release => Verb::Release,
            v1::RegistryVerb::Monitor => Verb::Monitor(interval(w.interval_ms)?),
            v1::RegistryVerb::Unmonitor => Verb::Unmonitor,
            v1::RegistryVerb::Refresh | v1::RegistryVerb::StopRefresh if !w.alias.is_empty() => {
                return Err(Error::usage("all are refreshed, and not one"));
            }
            v1::RegistryVerb::Refresh => Verb::Refresh(look_interval(w.interval_ms)?),
            v1::RegistryVerb::StopRefresh => Verb::StopRefresh,
            v1::RegistryVerb::ShutDown => Verb::ShutDown,
            v1::RegistryVerb::Discover => Verb::Discover(Discovery::from_wire(&mut w)?),
            v1::RegistryVerb::Validate => Verb::Validate,
            v1::RegistryVerb::Permit => Verb::Permit(checked_expiry(w.expires_ms)?),
            v1::RegistryVerb::Report => Verb::Report(Report::from_wire(w.report.unwrap_or_default())?),
            v1::RegistryVerb::Chain => Verb::Chain(Chain::from_wire(w.chain.unwrap_or_default())?),
        };
        let name = |e: Error| e.reason("invalid_name");
        let whom = if !w.alias.is_empty() || matches!(verb, Verb::Register(_) | Verb::Permit(_)) {
            Whom::One(ProviderName::new(&w.set, &w.alias).map_err(name)?)
        } else {
            let set = (!w.set.is_empty()).then_some(w.set);
            set.as_deref().map(check_set).transpose().map_err(name)?;
            Whom::All(set)
        };
        Ok(Self { whom, verb })
    }
}

/// None is that of the configuration.
fn interval(ms: u64) -> Result<Option<Duration>, Error> {
    let interval = Duration::from_millis(ms);
    match ms {
        0 => Ok(None),
        _ if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(Some(interval)),
        _ => Err(Error::usage("health is checked every 100ms to 1d")),
    }
}

/// The same of looks at what there is to be.
fn look_interval(ms: u64) -> Result<Option<Duration>, Error> {
    match Duration::from_millis(ms) {
        Duration::ZERO => Ok(None),
        interval if (LOOK_MIN..=INTERVAL_MAX).contains(&interval) => Ok(Some(interval)),
        _ => Err(Error::usage("it is looked every 1s to 1d")),
    }
}

impl Entry {
    pub(super) fn to_wire(&self) -> v1::RegistryEntry {
        let name = &self.provider.name;
        let check = self.check.clone().unwrap_or_default();
        v1::RegistryEntry {
            set: name.set().to_owned(),
            alias: name.alias().to_owned(),
            r#type: self.kind.clone(),
            status: self.status.clone(),
            source: self.source.clone(),
            registered_at: self.registered_at.0,
            labels: pairs_to_wire(&self.labels),
            checked_at: check.at.0,
            health: check.health,
            health_message: check.message,
            latency_ms: check.latency_ms,
            breaker: self.breaker.state.clone(),
            failures: self.breaker.failures,
            breaker_reason: self.breaker.reason.clone(),
            next_probe_at: Timestamp::to_wire(self.breaker.next_probe_at),
            provider: Some(self.provider.to_wire()),
            interval_ms: self.interval.map_or(0, millis),
            shadows: self.shadows.clone(),
            version: self.version.clone(),
            capabilities: self.capabilities.clone(),
        }
    }

    pub(super) fn from_wire(w: v1::RegistryEntry) -> Result<Self, Error> {
        let none = || Error::usage("an entry of the registry without its provider");
        let check = Timestamp::from_wire(w.checked_at).map(|at| Check {
            at,
            health: w.health,
            message: w.health_message,
            latency_ms: w.latency_ms,
        });
        Ok(Self {
            kind: w.r#type,
            status: w.status,
            source: w.source,
            shadows: w.shadows,
            version: w.version,
            capabilities: w.capabilities,
            registered_at: Timestamp(w.registered_at),
            labels: pairs_from_wire(w.labels),
            check,
            breaker: Breaker {
                state: w.breaker,
                failures: w.failures,
                reason: w.breaker_reason,
                next_probe_at: Timestamp::from_wire(w.next_probe_at),
            },
            interval: (w.interval_ms > 0).then(|| Duration::from_millis(w.interval_ms)),
            provider: Provider::from_wire(w.provider.ok_or_else(none)?)?,
        })
    }
}

impl Finding {
    pub(super) fn to_wire(&self) -> v1::RegistryFinding {
        v1::RegistryFinding {
            what: self.what.clone(),
            name: self.name.clone(),
            source: self.source.clone(),
            detail: self.detail.clone(),
        }
    }

    pub(super) fn from_wire(w: v1::RegistryFinding) -> Self {
        Self { what: w.what, name: w.name, source: w.source, detail: w.detail }
    }
}

#[cfg(test)]
impl Verb {
    /// One of each kind.
    pub(crate) fn samples() -> Vec<Self> {
        let registration = Registration {
            kind: "process".into(),
            definition: Definition { binary: "files".into(), ..Definition::default() },
            namespace: None,
            labels: vec![("team".into(), "a".into())],
        };
        let namespace = Registration {
            kind: "module".into(),
            definition: Definition::default(),
            namespace: Some("orders".into()),
            labels: Vec::new(),
        };
        vec![
            Self::Show,
            Self::Register(Box::new(registration)),
            Self::Register(Box::new(namespace)),
            Self::Unregister,
            Self::Initialize,
            Self::Dispose,
            Self::Start,
            Self::Stop,
            Self::Restart,
            Self::Replace,
            Self::Reset,
            Self::Health,
            Self::Hold("repairs".into()),
            Self::Release,
            Self::Monitor(None),
            Self::Monitor(Some(Duration::from_secs(1))),
            Self::Unmonitor,
            Self::Refresh(None),
            Self::Refresh(Some(Duration::from_secs(1))),
            Self::StopRefresh,
            Self::ShutDown,
            Self::Discover(Discovery {
                sources: vec!["plugin".into()],
                is_dry_run: true,
                config_file: Some("/srv/more.toml".into()),
                plugin_directory: Some("/srv/plugins".into()),
            }),
            Self::Validate,
            Self::Permit(None),
            Self::Permit(Some(Duration::from_secs(1))),
            Self::Report(Report { permit: "p".into(), outcome: Outcome::Failed, reason: "down".into() }),
            Self::Chain(Chain {
                names: vec![ProviderName::new("ci", "app").expect("it is a name")],
                wanted: Wanted::Value(vec!["x".into()]),
                timeout: Some(Duration::from_secs(1)),
            }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::provider::{ProviderState, TYPE_PROCESS};

    fn name() -> ProviderName {
        ProviderName::new("ci", "app").unwrap()
    }

    #[test]
    fn every_question_comes_back_and_bad_ones_are_refused() {
        for verb in Verb::samples() {
            let is_of_all = matches!(verb, Verb::Refresh(_) | Verb::StopRefresh);
            let whom = if is_of_all { Whom::All(None) } else { Whom::One(name()) };
            let call = RegistryCall { whom, verb };
            assert_eq!(RegistryCall::from_wire(call.to_wire()), Ok(call));
        }
        for set in [None, Some("ci".to_owned())] {
            let call = RegistryCall { whom: Whom::All(set), verb: Verb::Stop };
            assert_eq!(RegistryCall::from_wire(call.to_wire()), Ok(call));
        }
        let verb = v1::RegistryVerb::Register.into();
        let e = RegistryCall::from_wire(v1::RegistryCall { verb, ..Default::default() }).unwrap_err();
        assert!(e.message.contains("binary"), "{e}");
        let e = RegistryCall::from_wire(v1::RegistryCall { alias: "a/b".into(), ..Default::default() });
        assert_eq!(e.unwrap_err().reason, "invalid_name");
        let verb = v1::RegistryVerb::Monitor.into();
        let quick = v1::RegistryCall { verb, interval_ms: 99, ..Default::default() };
        assert!(RegistryCall::from_wire(quick).is_err());
        assert!(RegistryCall::from_wire(v1::RegistryCall { verb: 99, ..Default::default() }).is_err());
    }

    #[test]
    fn an_answer_comes_back() {
        let provider = Provider {
            name: name(),
            state: ProviderState::Ready,
            binary: "/x".into(),
            pid: Some(1),
            port: Some(2),
            kind: "files".into(),
            version: "1".into(),
            starts: 3,
            reason: String::new(),
            process: "provider.ci.app".into(),
        };
        let entry = Entry {
            kind: TYPE_PROCESS.into(),
            status: "ready".into(),
            source: "api".into(),
            shadows: vec!["config".into()],
            capabilities: vec!["chat".into()],
            version: "1.2".into(),
            registered_at: Timestamp(1),
            labels: Vec::new(),
            check: Some(Check { at: Timestamp(2), health: "ok".into(), message: "m".into(), latency_ms: 3 }),
            breaker: Breaker {
                state: "open".into(),
                failures: 0,
                reason: "down".into(),
                next_probe_at: Some(Timestamp(4)),
            },
            interval: Some(Duration::from_secs(30)),
            provider,
        };
        let finding = Finding {
            what: "added".into(),
            name: "app".into(),
            source: "plugin".into(),
            detail: String::new(),
        };
        let failures = vec![(name(), Error::usage("no"))];
        let answer =
            RegistryAnswer { entries: vec![entry], failures, findings: vec![finding], ..Default::default() };
        assert_eq!(RegistryAnswer::from_wire(answer.to_wire()), Ok(answer.clone()));
        // Sent in parts it is the same.
        let three = answer.clone().and(answer.clone()).and(answer);
        let parts = three.clone().in_parts(2);
        assert_eq!(parts.iter().map(|part| part.entries.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(parts.into_iter().reduce(RegistryAnswer::and), Some(three));
    }
}
