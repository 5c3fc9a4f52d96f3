//! The registry of providers as the public messages have it, both ways.

use std::time::Duration;

use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::{NextPage, Page, Paged};
use crate::rpc::api::processes::{CODES, labels};
use crate::rpc::api::providers::definition;
use crate::rpc::api::requests::Ask;
use crate::rpc::api::values::{Invalid, Pairs, duration, ms, proto, proto_time, same_names, time};
use crate::rpc::services::public as api;
use crate::wire::error::{Code, Detail, Error};
use crate::wire::proto::v1;
use crate::wire::proto::v1::request::Body;
use crate::wire::provider::ProviderName;
use crate::wire::registration::Registration;
use crate::wire::registry::{Breaker, Check, Entry, Finding, RegistryAnswer, RegistryCall, Verb, Whom};
use crate::wire::reply::Reply;

const STATUSES: Pairs<&str, api::EntryStatus> = Pairs(&[
    ("initializing", api::EntryStatus::Initializing),
    ("ready", api::EntryStatus::Ready),
    ("degraded", api::EntryStatus::Degraded),
    ("idle", api::EntryStatus::Idle),
    ("stopped", api::EntryStatus::Stopped),
    ("error", api::EntryStatus::Error),
    ("disposing", api::EntryStatus::Disposing),
    ("disposed", api::EntryStatus::Disposed),
    ("unregistered", api::EntryStatus::Unregistered),
]);

const SOURCES: Pairs<&str, api::EntrySource> = Pairs(&[
    ("api", api::EntrySource::Api),
    ("config", api::EntrySource::Config),
    ("plugin", api::EntrySource::Plugin),
    ("environment", api::EntrySource::Environment),
]);

const CIRCUITS: Pairs<&str, api::CircuitState> = Pairs(&[
    ("closed", api::CircuitState::Closed),
    ("open", api::CircuitState::Open),
    ("half-open", api::CircuitState::HalfOpen),
    ("isolated", api::CircuitState::Isolated),
]);

const ACTIONS: Pairs<v1::RegistryVerb, api::EntryAction> = same_names! { v1::RegistryVerb as EntryAction:
    Unregister Initialize Dispose Start Stop Restart Replace Reset Health Hold Release Monitor Unmonitor ShutDown
    Refresh StopRefresh
};

/// The public number of a word; 0 for one that it has none for.
fn number<B: Copy + Into<i32>>(pairs: &Pairs<&str, B>, word: &str) -> i32 {
    pairs.0.iter().find(|(ours, _)| *ours == word).map_or(0, |(_, number)| (*number).into())
}

/// The word of a public number; "unknown" for one of a newer service.
fn word<B: Copy + PartialEq + TryFrom<i32> + Into<i32>>(
    pairs: &Pairs<&'static str, B>,
    number: i32,
) -> String {
    pairs.known(number).unwrap_or("unknown").to_owned()
}

/// Checked here, so that the field is named.
fn check_name(set: &str, alias: &str, field: &str) -> Result<(), Invalid> {
    ProviderName::new(set, alias).map(drop).map_err(|e| Invalid::new(field, e))
}

impl Ask for api::RegisterProviderRequest {
    fn body(self) -> Result<Body, Invalid> {
        let target = self.target.unwrap_or_default();
        check_name(&target.set, &target.alias, "target")?;
        let definition = match self.spec {
            Some(_) if !self.namespace.is_empty() => {
                return Err(Invalid::because("namespace", "it is given, and a spec"));
            }
            Some(spec) => Some(definition(spec)?),
            None if self.namespace.is_empty() => return Err(Invalid::because("spec", "it is missing")),
            None => None,
        };
        Ok(Body::Registry(v1::RegistryCall {
            set: target.set,
            alias: target.alias,
            verb: v1::RegistryVerb::Register.into(),
            r#type: self.r#type,
            definition,
            namespace: self.namespace,
            labels: self.labels.into_iter().map(|l| v1::EnvVar { key: l.key, value: l.value }).collect(),
            ..Default::default()
        }))
    }
}

impl Ask for api::ListEntriesRequest {
    fn page(&self) -> Page {
        Page::new(self.page_size, &self.page_token)
    }

    fn body(self) -> Result<Body, Invalid> {
        let (set, alias, verb) = (self.set, self.alias, v1::RegistryVerb::Show.into());
        Ok(Body::Registry(v1::RegistryCall { set, alias, verb, ..Default::default() }))
    }
}

impl Ask for api::ChangeEntriesRequest {
    fn body(self) -> Result<Body, Invalid> {
        let missing = || Invalid::because("action", "it is missing");
        let verb = ACTIONS.asked("action", self.action)?.ok_or_else(missing)?;
        if !self.alias.is_empty() {
            check_name(&self.set, &self.alias, "alias")?;
        }
        match verb {
            v1::RegistryVerb::Unregister if self.alias.is_empty() => {
                return Err(Invalid::because("alias", "it is missing: one is unregistered at a time"));
            }
            v1::RegistryVerb::Refresh | v1::RegistryVerb::StopRefresh if !self.alias.is_empty() => {
                return Err(Invalid::because("alias", "all are refreshed, and not one"));
            }
            v1::RegistryVerb::ShutDown if !self.alias.is_empty() => {
                return Err(Invalid::because("alias", "all are shut down; DISPOSE is for one"));
            }
            _ => {}
        }
        Ok(Body::Registry(v1::RegistryCall {
            set: self.set,
            alias: self.alias,
            verb: verb.into(),
            reason: self.reason,
            interval_ms: self.check_interval.map_or(Ok(0), |sent| ms("check_interval", sent))?,
            ..Default::default()
        }))
    }
}

impl Ask for api::DiscoverProvidersRequest {
    fn body(self) -> Result<Body, Invalid> {
        let source = |number: i32| {
            let missing = || Invalid::because("sources", "it is no source");
            SOURCES.asked("sources", number)?.map(str::to_owned).ok_or_else(missing)
        };
        Ok(Body::Registry(v1::RegistryCall {
            verb: v1::RegistryVerb::Discover.into(),
            sources: self.sources.into_iter().map(source).collect::<Result<_, _>>()?,
            dry_run: self.dry_run,
            config_file: self.config_file,
            plugin_directory: self.plugin_directory,
            ..Default::default()
        }))
    }
}

impl Ask for api::ValidateProvidersRequest {
    fn body(self) -> Result<Body, Invalid> {
        let verb = v1::RegistryVerb::Validate.into();
        Ok(Body::Registry(v1::RegistryCall { verb, ..Default::default() }))
    }
}

/// What a client asks a gateway, for a question of the registry.
pub(crate) enum Question {
    Register(Box<api::RegisterProviderRequest>),
    List(api::ListEntriesRequest),
    Change(api::ChangeEntriesRequest),
    Discover(api::DiscoverProvidersRequest),
    Validate(api::ValidateProvidersRequest),
    Permit(api::PermitCallRequest),
    Report(api::ReportCallRequest),
    Chain(api::CallChainRequest),
}

impl From<&RegistryCall> for Question {
    fn from(call: &RegistryCall) -> Self {
        let (set, alias) = match &call.whom {
            Whom::One(name) => (name.set().to_owned(), name.alias().to_owned()),
            Whom::All(set) => (set.clone().unwrap_or_default(), String::new()),
        };
        let change = |action: api::EntryAction| api::ChangeEntriesRequest {
            set: set.clone(),
            alias: alias.clone(),
            action: action.into(),
            ..Default::default()
        };
        Self::Change(match &call.verb {
            Verb::Show => {
                return Self::List(api::ListEntriesRequest { set, alias, ..Default::default() });
            }
            Verb::Register(registration) => {
                let Registration { kind, definition, namespace, labels: notes } = &**registration;
                return Self::Register(Box::new(api::RegisterProviderRequest {
                    target: Some(api::ProviderTarget { set, alias }),
                    spec: namespace.is_none().then(|| definition.into()),
                    labels: labels(notes.clone()),
                    r#type: kind.clone(),
                    namespace: namespace.clone().unwrap_or_default(),
                }));
            }
            Verb::Discover(discovery) => {
                return Self::Discover(api::DiscoverProvidersRequest {
                    sources: discovery.sources.iter().map(|source| number(&SOURCES, source)).collect(),
                    dry_run: discovery.is_dry_run,
                    config_file: discovery.config_file.clone().unwrap_or_default(),
                    plugin_directory: discovery.plugin_directory.clone().unwrap_or_default(),
                });
            }
            Verb::Validate => return Self::Validate(api::ValidateProvidersRequest {}),
            Verb::Permit(expiry) => {
                let target = Some(api::ProviderTarget { set, alias });
                return Self::Permit(api::PermitCallRequest { target, expiry: expiry.map(proto) });
            }
            Verb::Report(report) => return Self::Report(report.into()),
            Verb::Chain(chain) => return Self::Chain(chain.into()),
            Verb::Unregister => change(api::EntryAction::Unregister),
            Verb::Initialize => change(api::EntryAction::Initialize),
            Verb::Dispose => change(api::EntryAction::Dispose),
            Verb::Start => change(api::EntryAction::Start),
            Verb::Stop => change(api::EntryAction::Stop),
            Verb::Restart => change(api::EntryAction::Restart),
            Verb::Replace => change(api::EntryAction::Replace),
            Verb::Reset => change(api::EntryAction::Reset),
            Verb::Health => change(api::EntryAction::Health),
            Verb::Hold(reason) => {
                api::ChangeEntriesRequest { reason: reason.clone(), ..change(api::EntryAction::Hold) }
            }
            Verb::Release => change(api::EntryAction::Release),
            Verb::Monitor(interval) => api::ChangeEntriesRequest {
                check_interval: interval.map(proto),
                ..change(api::EntryAction::Monitor)
            },
            Verb::Unmonitor => change(api::EntryAction::Unmonitor),
            Verb::Refresh(interval) => api::ChangeEntriesRequest {
                check_interval: interval.map(proto),
                ..change(api::EntryAction::Refresh)
            },
            Verb::StopRefresh => change(api::EntryAction::StopRefresh),
            Verb::ShutDown => change(api::EntryAction::ShutDown),
        })
    }
}

impl From<Entry> for api::RegistryEntry {
    fn from(e: Entry) -> Self {
        Self {
            r#type: e.kind,
            status: number(&STATUSES, &e.status),
            source: number(&SOURCES, &e.source),
            shadows: e.shadows.iter().map(|source| number(&SOURCES, source)).collect(),
            register_time: Some(proto_time(e.registered_at)),
            labels: labels(e.labels),
            plugin_version: e.version,
            capabilities: e.capabilities,
            check: e.check.map(|check| api::EntryCheck {
                time: Some(proto_time(check.at)),
                health: check.health,
                message: check.message,
                latency: Some(proto(Duration::from_millis(check.latency_ms))),
            }),
            circuit: Some(api::EntryCircuit {
                state: number(&CIRCUITS, &e.breaker.state),
                failures: e.breaker.failures,
                reason: e.breaker.reason,
                next_probe_time: e.breaker.next_probe_at.map(proto_time),
            }),
            check_interval: e.interval.map(proto),
            provider: Some(e.provider.into()),
        }
    }
}

impl TryFrom<api::RegistryEntry> for Entry {
    type Error = Error;

    fn try_from(e: api::RegistryEntry) -> Result<Self, Error> {
        let circuit = e.circuit.unwrap_or_default();
        let latency = |sent| u64::try_from(duration(sent).as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            kind: e.r#type,
            status: word(&STATUSES, e.status),
            source: word(&SOURCES, e.source),
            shadows: e.shadows.into_iter().map(|source| word(&SOURCES, source)).collect(),
            version: e.plugin_version,
            capabilities: e.capabilities,
            registered_at: e.register_time.map_or_else(Default::default, time),
            labels: e.labels.into_iter().map(|label| (label.key, label.value)).collect(),
            check: e.check.map(|check| Check {
                at: check.time.map_or_else(Default::default, time),
                health: check.health,
                message: check.message,
                latency_ms: latency(check.latency),
            }),
            breaker: Breaker {
                state: word(&CIRCUITS, circuit.state),
                failures: circuit.failures,
                reason: circuit.reason,
                next_probe_at: circuit.next_probe_time.map(time),
            },
            interval: e.check_interval.map(|interval| duration(Some(interval))),
            provider: e.provider.unwrap_or_default().try_into()?,
        })
    }
}

impl From<Finding> for api::DiscoveryFinding {
    fn from(f: Finding) -> Self {
        Self { what: f.what, name: f.name, source: number(&SOURCES, &f.source), detail: f.detail }
    }
}

impl From<api::DiscoveryFinding> for Finding {
    fn from(f: api::DiscoveryFinding) -> Self {
        Self { what: f.what, name: f.name, source: word(&SOURCES, f.source), detail: f.detail }
    }
}

pub(super) fn failure((name, e): (ProviderName, Error)) -> api::EntryFailure {
    api::EntryFailure {
        target: Some((&name).into()),
        retry_delay: (e.retry_after_ms > 0).then(|| proto(Duration::from_millis(e.retry_after_ms.into()))),
        details: e
            .wrong()
            .iter()
            .map(|d| api::ErrorDetail { path: d.path.clone(), message: d.message.clone() })
            .collect(),
        error: Some(api::TargetError { code: CODES.number(e.code), message: e.message, hint: e.hint }),
        reason: e.reason,
    }
}

pub(super) fn failure_back(sent: api::EntryFailure) -> Result<(ProviderName, Error), Error> {
    let (target, e) = (sent.target.unwrap_or_default(), sent.error.unwrap_or_default());
    let code = CODES.known(e.code).unwrap_or(Code::Failed);
    let details = sent.details.into_iter().map(|d| Detail { path: d.path, message: d.message }).collect();
    let retry_ms = duration(sent.retry_delay).as_millis();
    let error = Error {
        reason: sent.reason,
        retry_after_ms: u32::try_from(retry_ms).unwrap_or(u32::MAX),
        ..Error::new(code, e.message).hint(e.hint).details(details)
    };
    Ok((ProviderName::new(&target.set, &target.alias)?, error))
}

fn entries_back(sent: Vec<api::RegistryEntry>) -> Result<Vec<Entry>, Error> {
    sent.into_iter().map(TryInto::try_into).collect()
}

/// Answers with entries.
macro_rules! entries {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Reply::Registry(answer) = reply {
                    self.entries.extend(answer.entries.into_iter().map(api::RegistryEntry::from));
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                let entries = entries_back(self.entries)?;
                Ok(vec![Reply::Registry(RegistryAnswer { entries, ..RegistryAnswer::default() })])
            }
        })*
    };
}

entries! { RegisterProviderResponse ListEntriesResponse ReportCallResponse }

impl Paged for api::RegisterProviderResponse {}
impl Paged for api::ReportCallResponse {}

impl NextPage for api::ListEntriesRequest {
    fn begin_at(&mut self, token: String) {
        self.page_token = token;
    }
}

impl Paged for api::ListEntriesResponse {
    /// The token is the name of the last entry: they are in the order of their names.
    fn cut(&mut self, page: &Page) -> Result<(), Invalid> {
        let name_of = |entry: &api::RegistryEntry| {
            let target = entry.provider.as_ref().and_then(|provider| provider.target.clone());
            target.map(|target| (target.set, target.alias)).unwrap_or_default()
        };
        let begin = |token: &str, all: &[api::RegistryEntry]| {
            let (set, alias) = token.split_once('/')?;
            let last = ProviderName::new(set, alias).ok()?;
            let last = (last.set().to_owned(), last.alias().to_owned());
            Some(all.partition_point(|entry| name_of(entry) <= last))
        };
        let token = |_, last: &api::RegistryEntry| {
            let (set, alias) = name_of(last);
            format!("{set}/{alias}")
        };
        self.next_page_token = page.cut(&mut self.entries, begin, token)?;
        Ok(())
    }

    fn next_page(&self) -> &str {
        &self.next_page_token
    }
}

impl Answer for api::ChangeEntriesResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Registry(answer) = reply {
            self.entries.extend(answer.entries.into_iter().map(api::RegistryEntry::from));
            self.failures.extend(answer.failures.into_iter().map(failure));
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let entries = entries_back(self.entries)?;
        let failures = self.failures.into_iter().map(failure_back).collect::<Result<_, _>>()?;
        Ok(vec![Reply::Registry(RegistryAnswer { entries, failures, ..RegistryAnswer::default() })])
    }
}

impl Paged for api::ChangeEntriesResponse {}

/// Answers with what was found.
macro_rules! found {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Reply::Registry(answer) = reply {
                    self.findings.extend(answer.findings.into_iter().map(api::DiscoveryFinding::from));
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                let findings = self.findings.into_iter().map(Into::into).collect();
                Ok(vec![Reply::Registry(RegistryAnswer { findings, ..RegistryAnswer::default() })])
            }
        }

        impl Paged for api::$answer {})*
    };
}

found! { DiscoverProvidersResponse ValidateProvidersResponse }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::provider::{Provider, ProviderState, TYPE_PROCESS};
    use crate::wire::request::Request;
    use crate::wire::time::Timestamp;

    fn asked(question: Question) -> Result<Request, Invalid> {
        match question {
            Question::Register(r) => r.request(),
            Question::List(r) => r.request(),
            Question::Change(r) => r.request(),
            Question::Discover(r) => r.request(),
            Question::Validate(r) => r.request(),
            Question::Permit(r) => r.request(),
            Question::Report(r) => r.request(),
            Question::Chain(r) => r.request(),
        }
    }

    #[test]
    fn every_question_comes_back_from_its_public_message() {
        let name = || ProviderName::new("ci", "app").unwrap();
        for verb in Verb::samples() {
            let is_of_all = matches!(
                verb,
                Verb::ShutDown
                    | Verb::Validate
                    | Verb::Discover(_)
                    | Verb::Refresh(_)
                    | Verb::StopRefresh
                    | Verb::Report(_)
                    | Verb::Chain(_)
            );
            let whom = if is_of_all { Whom::All(None) } else { Whom::One(name()) };
            let call = RegistryCall { whom, verb };
            assert_eq!(asked((&call).into()), Ok(Request::Registry(call)));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let change = |action: api::EntryAction, alias: &str| {
            let (action, alias) = (action.into(), alias.to_owned());
            api::ChangeEntriesRequest { action, alias, ..Default::default() }.request().unwrap_err().field
        };
        assert_eq!(change(api::EntryAction::Unspecified, "a"), "action");
        assert_eq!(change(api::EntryAction::Unregister, ""), "alias");
        assert_eq!(change(api::EntryAction::Start, "a/b"), "alias");
        assert_eq!(change(api::EntryAction::ShutDown, "a"), "alias");
        let request = api::DiscoverProvidersRequest { sources: vec![0], ..Default::default() };
        assert_eq!(request.request().unwrap_err().field, "sources");
    }

    #[test]
    fn pages_hold_every_entry_once_also_when_some_go_in_between() {
        let entry = |n: u32| api::RegistryEntry {
            provider: Some(api::HostedProvider {
                target: Some(api::ProviderTarget { set: "ci".into(), alias: format!("app{n:04}") }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let page = |from: u32, page_size, page_token: &str| {
            let (entries, token) = ((from..2500).map(entry).collect(), page_token.to_owned());
            let mut answer = api::ListEntriesResponse { entries, next_page_token: String::new() };
            let request = api::ListEntriesRequest { page_size, page_token: token, ..Default::default() };
            answer.cut(&request.page()).map(|()| answer)
        };
        let first = page(0, 0, "").unwrap();
        assert_eq!((first.entries.len(), first.next_page_token.as_str()), (1000, "ci/app0999"));
        // Those before it have gone, and itself.
        let next = page(1000, 1400, &first.next_page_token).unwrap();
        assert_eq!((next.entries[0].clone(), next.entries.len()), (entry(1000), 1400));
        let last = page(0, 0, next.next_page()).unwrap();
        assert_eq!((last.entries.len(), last.next_page()), (100, ""));
        assert_eq!(page(0, 0, "no token").unwrap_err().field, "page_token");
    }

    #[test]
    fn an_answer_comes_back() {
        let name = ProviderName::new("ci", "app").unwrap();
        let provider = Provider {
            name: name.clone(),
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
        let check = Check { at: Timestamp(2), health: "ok".into(), message: "m".into(), latency_ms: 3 };
        let breaker = Breaker {
            state: "half-open".into(),
            failures: 1,
            reason: "down".into(),
            next_probe_at: Some(Timestamp(4)),
        };
        let entry = Entry {
            kind: TYPE_PROCESS.into(),
            status: "degraded".into(),
            source: "plugin".into(),
            shadows: vec!["environment".into()],
            version: "1.2".into(),
            capabilities: vec!["chat".into()],
            registered_at: Timestamp(1),
            labels: vec![("team".into(), "a".into())],
            check: Some(check),
            breaker,
            interval: Some(Duration::from_secs(30)),
            provider,
        };
        let detail = Detail { path: "/port".into(), message: "is not known".into() };
        let e = Error::new(Code::Refused, "no").hint("later").reason("circuit_open").details(vec![detail]);
        let e = Error { retry_after_ms: 1500, ..e };
        let given = RegistryAnswer { entries: vec![entry], failures: vec![(name, e)], ..Default::default() };
        let mut answer = api::ChangeEntriesResponse::default();
        answer.put(Reply::Registry(given.clone()));
        assert_eq!(answer.take(), Ok(vec![Reply::Registry(given)]));
    }
}
