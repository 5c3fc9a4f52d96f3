//! Providers as the public messages have them: requests into what is asked of the host, answers back; and the
//! other way round for a client of a gateway.

use prost::Message;
use prost_types::{Duration as ProtoDuration, Struct};

use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::Paged;
use crate::rpc::api::requests::Ask;
use crate::rpc::api::specs::{landlock, limit, limits};
use crate::rpc::api::values::{Invalid, Pairs, ms, proto, same_names};
use crate::rpc::services::public as api;
use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::proto::v1::provider_call::What;
use crate::wire::proto::v1::request::Body;
use crate::wire::provider::{
    Definition, Provider, ProviderAnswer, ProviderEnvironment, ProviderHealth, ProviderName, ProviderState,
};
use crate::wire::provider_rules::{ShownStderr, Timeouts, Tls};
use crate::wire::remote_end::{EndFiles, RemoteEnd};
use crate::wire::reply::Reply;

const STATES: Pairs<ProviderState, api::ProviderState> =
    same_names!(ProviderState as ProviderState: Idle Starting Ready Failed);

const VARIABLES: Pairs<v1::ProviderEnvironment, api::ProviderVariables> =
    same_names!(v1::ProviderEnvironment as ProviderVariables: Inherit Allow Clear);

const STDERR: Pairs<v1::ProviderStderr, api::ProviderStderr> =
    same_names!(v1::ProviderStderr as ProviderStderr: Off OnError All);

const TLS: Pairs<v1::ProviderTls, api::ProviderTls> =
    same_names!(v1::ProviderTls as ProviderTls: Off Required);

const HEALTH: Pairs<&str, api::ProviderHealthStatus> = Pairs(&[
    ("ok", api::ProviderHealthStatus::Ok),
    ("degraded", api::ProviderHealthStatus::Degraded),
    ("starting", api::ProviderHealthStatus::Starting),
]);

/// A question about one provider.
fn of(target: Option<api::ProviderTarget>, what: What) -> Result<Body, Invalid> {
    let target = target.unwrap_or_default();
    // Checked here, so that the field is named.
    ProviderName::new(&target.set, &target.alias).map_err(|e| Invalid::new("target", e))?;
    Ok(Body::Provider(v1::ProviderCall { set: target.set, alias: target.alias, what: Some(what), louder: 0 }))
}

impl Ask for api::StartProviderRequest {
    fn body(self) -> Result<Body, Invalid> {
        let spec = self.spec.ok_or_else(|| Invalid::because("spec", "it is missing"))?;
        of(self.target, What::Start(definition(spec)?))
    }
}

/// How a provider is run.
pub(super) fn definition(spec: api::ProviderSpec) -> Result<v1::ProviderDefinition, Invalid> {
    let variables = VARIABLES.asked("spec.variables", spec.variables)?;
    Ok(v1::ProviderDefinition {
        binary: spec.binary,
        config: spec.config.map(|config| config.encode_to_vec()).unwrap_or_default(),
        source_file_path: spec.source_file_path,
        user: spec.user,
        group: spec.group,
        cwd: spec.working_directory,
        environment: variables.unwrap_or(v1::ProviderEnvironment::Inherit).into(),
        allowed_variables: spec.allowed_variables,
        sha256: spec.sha256,
        pin_type: spec.pin_type,
        pin_version: spec.pin_version,
        allow_external: spec.allow_external,
        timeouts: spec.timeouts.map(timeouts).transpose()?,
        retries: spec.retries,
        retry_delay_ms: spec.retry_delay.map_or(Ok(0), |delay| ms("spec.retry_delay", delay))?,
        stderr: STDERR.asked("spec.stderr", spec.stderr)?.unwrap_or(v1::ProviderStderr::OnError).into(),
        limits: spec.resource_limits.into_iter().map(limit).collect(),
        landlock: spec.landlock.map(landlock),
        tls: TLS.asked("spec.tls", spec.tls)?.unwrap_or(v1::ProviderTls::Off).into(),
        cookie: spec.cookie,
        // Only what is discovered changes.
        swap: false,
        remote: spec.remote.map(|end| v1::ProviderRemote {
            address: end.address,
            certificate: end.certificate_file,
            key: end.key_file,
            ca: end.ca_file,
        }),
        schemas: spec.schemas,
    })
}

fn timeouts(sent: api::ProviderTimeouts) -> Result<v1::ProviderTimeouts, Invalid> {
    let ms = |field: &str, sent: Option<ProtoDuration>| {
        sent.map_or(Ok(0), |sent| ms(&format!("spec.timeouts.{field}"), sent))
    };
    Ok(v1::ProviderTimeouts {
        handshake_ms: ms("handshake", sent.handshake)?,
        health_ms: ms("health", sent.health)?,
        starting_ms: ms("starting", sent.starting)?,
        init_ms: ms("init", sent.init)?,
        fetch_ms: ms("fetch", sent.fetch)?,
        info_ms: ms("info", sent.info)?,
        shutdown_ms: ms("shutdown", sent.shutdown)?,
        term_ms: ms("term", sent.term)?,
        idle_ms: ms("idle", sent.idle)?,
    })
}

impl Ask for api::FetchValueRequest {
    fn body(self) -> Result<Body, Invalid> {
        of(self.target, What::Fetch(v1::ProviderPath { segments: self.path }))
    }
}

/// Questions about one provider that say nothing else.
macro_rules! questions {
    ($($request:ident: $what:ident;)*) => {
        $(impl Ask for api::$request {
            fn body(self) -> Result<Body, Invalid> {
                of(self.target, What::$what(true))
            }
        })*
    };
}

questions! {
    ProviderInfoRequest: Info;
    ProviderHealthRequest: Health;
    StopProviderRequest: Stop;
    ResetProviderRequest: Reset;
    ReplaceProviderRequest: Replace;
}

/// Questions about all of a set.
macro_rules! about_sets {
    ($($request:ident: $what:ident;)*) => {
        $(impl Ask for api::$request {
            fn body(self) -> Result<Body, Invalid> {
                let (set, alias) = (self.set, String::new());
                Ok(Body::Provider(v1::ProviderCall { set, alias, what: Some(What::$what(true)), louder: 0 }))
            }
        })*
    };
}

about_sets! {
    ListProvidersRequest: List;
    ShutDownProvidersRequest: ShutDown;
}

impl From<&ProviderName> for api::ProviderTarget {
    fn from(name: &ProviderName) -> Self {
        Self { set: name.set().to_owned(), alias: name.alias().to_owned() }
    }
}

impl From<&Definition> for api::ProviderSpec {
    fn from(d: &Definition) -> Self {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (variables, allowed_variables) = match &d.environment {
            ProviderEnvironment::Inherit => (api::ProviderVariables::Inherit, Vec::new()),
            ProviderEnvironment::Allow(names) => (api::ProviderVariables::Allow, names.clone()),
            ProviderEnvironment::Clear => (api::ProviderVariables::Clear, Vec::new()),
        };
        Self {
            binary: d.binary.clone(),
            // What cannot be decoded was encoded by no client of ours.
            config: Struct::decode(d.config.as_slice()).ok(),
            source_file_path: d.source_file_path.clone(),
            user: text(&d.user),
            group: text(&d.group),
            working_directory: text(&d.cwd),
            variables: variables.into(),
            allowed_variables,
            sha256: text(&d.sha256),
            pin_type: text(&d.pin_type),
            pin_version: text(&d.pin_version),
            allow_external: d.allow_external,
            timeouts: Some((&d.timeouts).into()),
            retries: d.retries.count,
            retry_delay: Some(proto(d.retries.delay)),
            stderr: match d.stderr {
                ShownStderr::Off => api::ProviderStderr::Off,
                ShownStderr::OnError => api::ProviderStderr::OnError,
                ShownStderr::All => api::ProviderStderr::All,
            }
            .into(),
            resource_limits: limits(&d.limits),
            landlock: (&d.landlock).into(),
            tls: match d.tls {
                Tls::Off => api::ProviderTls::Off,
                Tls::Required => api::ProviderTls::Required,
            }
            .into(),
            cookie: d.cookie,
            remote: d.remote.as_ref().map(Into::into),
            schemas: d.schemas.clone(),
        }
    }
}

impl From<&RemoteEnd> for api::RemoteProvider {
    fn from(end: &RemoteEnd) -> Self {
        let file = |of: fn(&EndFiles) -> &String| end.files.as_ref().map(of).cloned().unwrap_or_default();
        Self {
            address: end.host.to_string(),
            certificate_file: file(|files| &files.certificate),
            key_file: file(|files| &files.key),
            ca_file: file(|files| &files.ca),
        }
    }
}

impl From<&Timeouts> for api::ProviderTimeouts {
    fn from(t: &Timeouts) -> Self {
        Self {
            handshake: Some(proto(t.handshake)),
            health: Some(proto(t.health)),
            starting: Some(proto(t.starting)),
            init: Some(proto(t.init)),
            fetch: Some(proto(t.fetch)),
            info: Some(proto(t.info)),
            shutdown: Some(proto(t.shutdown)),
            term: Some(proto(t.term)),
            idle: Some(proto(t.idle)),
        }
    }
}

impl From<Provider> for api::HostedProvider {
    fn from(p: Provider) -> Self {
        Self {
            target: Some((&p.name).into()),
            state: STATES.number(p.state),
            process_name: p.process,
            binary: p.binary,
            pid: p.pid.unwrap_or(0),
            port: p.port.map_or(0, u32::from),
            r#type: p.kind,
            version: p.version,
            starts: p.starts,
            failure: p.reason,
        }
    }
}

impl TryFrom<api::HostedProvider> for Provider {
    type Error = Error;

    fn try_from(p: api::HostedProvider) -> Result<Self, Error> {
        let target = p.target.unwrap_or_default();
        Ok(Self {
            name: ProviderName::new(&target.set, &target.alias)?,
            state: STATES.known(p.state).unwrap_or_default(),
            binary: p.binary,
            pid: (p.pid != 0).then_some(p.pid),
            port: u16::try_from(p.port).ok().filter(|port| *port != 0),
            kind: p.r#type,
            version: p.version,
            starts: p.starts,
            reason: p.failure,
            process: p.process_name,
        })
    }
}

/// What is answered about providers. What they write to their standard error is told on this machine alone.
fn answer(reply: Reply) -> Option<ProviderAnswer> {
    if let Reply::Provider(answer) = reply { Some(answer.into_plain().0) } else { None }
}

/// Answers with one provider.
macro_rules! single {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Some(ProviderAnswer::Provider(provider)) = answer(reply) {
                    self.provider = Some((*provider).into());
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                let provider = self.provider.unwrap_or_default().try_into()?;
                Ok(vec![Reply::Provider(ProviderAnswer::Provider(Box::new(provider)))])
            }
        }

        impl Paged for api::$answer {})*
    };
}

single! {
    StartProviderResponse ProviderInfoResponse StopProviderResponse ResetProviderResponse
    ReplaceProviderResponse
}

/// Answers with several.
macro_rules! several {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Some(ProviderAnswer::List(all)) = answer(reply) {
                    self.providers = all.into_iter().map(Into::into).collect();
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                let all = self.providers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                Ok(vec![Reply::Provider(ProviderAnswer::List(all))])
            }
        }

        impl Paged for api::$answer {})*
    };
}

several! { ListProvidersResponse ShutDownProvidersResponse }

impl Answer for api::FetchValueResponse {
    fn put(&mut self, reply: Reply) {
        if let Some(ProviderAnswer::Value(bytes)) = answer(reply) {
            // The host has seen to it that it is not too deep.
            self.value = Struct::decode(bytes.as_slice()).ok();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let bytes = self.value.unwrap_or_default().encode_to_vec();
        Ok(vec![Reply::Provider(ProviderAnswer::Value(bytes))])
    }
}

impl Paged for api::FetchValueResponse {}

impl Answer for api::ProviderHealthResponse {
    fn put(&mut self, reply: Reply) {
        if let Some(ProviderAnswer::Health(health)) = answer(reply) {
            let status = HEALTH.0.iter().find(|(word, _)| *word == health.status);
            self.status = status.map_or(0, |(_, status)| i32::from(*status));
            self.message = health.message;
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let status = HEALTH.known(self.status).unwrap_or("unspecified").to_owned();
        let health = ProviderHealth { status, message: self.message };
        Ok(vec![Reply::Provider(ProviderAnswer::Health(health))])
    }
}

impl Paged for api::ProviderHealthResponse {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::landlock::Landlock;
    use crate::wire::provider::ProviderCall;
    use crate::wire::provider_rules::Retries;
    use crate::wire::request::Request;
    use crate::wire::spec::Rlimit;

    #[test]
    fn a_definition_comes_back_from_its_public_message() {
        let definition = Definition {
            binary: "/bin/x".into(),
            config: Struct { fields: [("a".to_owned(), prost_types::Value { kind: None })].into() }
                .encode_to_vec(),
            source_file_path: "/etc/a".into(),
            user: Some("u".into()),
            group: Some("g".into()),
            cwd: Some("/".into()),
            environment: ProviderEnvironment::Allow(vec!["PATH".into()]),
            sha256: Some("ab".repeat(32)),
            pin_type: Some("t".into()),
            pin_version: Some("v".into()),
            allow_external: true,
            timeouts: Timeouts {
                term: Duration::from_millis(1),
                idle: Duration::from_secs(1),
                ..Timeouts::default()
            },
            retries: Retries { count: 2, delay: Duration::from_secs(1) },
            stderr: ShownStderr::All,
            limits: vec![Rlimit { resource: "nofile".into(), soft: 1, hard: 2 }],
            landlock: Landlock { read: vec!["/usr".into()], write: Vec::new(), optional: true },
            tls: Tls::Required,
            cookie: true,
            schemas: vec!["{}".into(), "true".into()],
            ..Definition::default()
        };
        let end = RemoteEnd::new("localhost:1", None).unwrap();
        let remote =
            Definition { remote: Some(end), config: definition.config.clone(), ..Definition::default() };
        for definition in [definition, remote] {
            comes_back(definition);
        }
    }

    fn comes_back(definition: Definition) {
        let name = ProviderName::new("ci", "app").unwrap();
        let request =
            api::StartProviderRequest { target: Some((&name).into()), spec: Some((&definition).into()) };
        let call = ProviderCall::Start(name, Box::new(definition));
        assert_eq!(request.request(), Ok(Request::Provider(call)));
    }

    #[test]
    fn a_bad_name_is_the_targets() {
        let target = Some(api::ProviderTarget { set: String::new(), alias: "a/b".into() });
        let refused = api::FetchValueRequest { target, path: Vec::new() }.request().unwrap_err();
        assert_eq!(refused.field, "target");
    }
}
