//! What is asked and answered about providers as messages, both ways.

use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::proto::v1::provider_answer::What as AnswerBody;
use crate::wire::proto::v1::provider_call::What as CallBody;
use crate::wire::provider::{
    Definition, Provider, ProviderAnswer, ProviderCall, ProviderHealth, ProviderName, ProviderState,
    SEGMENT_LEN_MAX, SEGMENTS_MAX, check_set,
};

impl ProviderCall {
    pub(in crate::wire) fn to_wire(&self) -> v1::ProviderCall {
        let of = |name: &ProviderName, what| v1::ProviderCall {
            set: name.set().to_owned(),
            alias: name.alias().to_owned(),
            what: Some(what),
            louder: 0,
        };
        let all = |set: &Option<String>, what| v1::ProviderCall {
            set: set.clone().unwrap_or_default(),
            alias: String::new(),
            what: Some(what),
            louder: 0,
        };
        match self {
            Self::Start(name, definition) => of(name, CallBody::Start(definition.to_wire())),
            Self::Fetch(name, path) => of(name, CallBody::Fetch(v1::ProviderPath { segments: path.clone() })),
            Self::Info(name) => of(name, CallBody::Info(true)),
            Self::Health(name) => of(name, CallBody::Health(true)),
            Self::Stop(name) => of(name, CallBody::Stop(true)),
            Self::Reset(name) => of(name, CallBody::Reset(true)),
            Self::Replace(name) => of(name, CallBody::Replace(true)),
            Self::List(set) => all(set, CallBody::List(true)),
            Self::ShutDown(set) => all(set, CallBody::ShutDown(true)),
            Self::Louder(louder, call) => v1::ProviderCall { louder: *louder, ..call.to_wire() },
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderCall) -> Result<Self, Error> {
        let name = || ProviderName::new(&w.set, &w.alias);
        let set = || {
            let some = (!w.set.is_empty()).then(|| check_set(&w.set));
            some.transpose().map(|checked| checked.map(|()| w.set.clone()))
        };
        let call = match w.what.ok_or_else(|| Error::usage("the host does not know this question"))? {
            CallBody::Start(definition) => Self::Start(name()?, Box::new(Definition::from_wire(definition)?)),
            CallBody::Fetch(path) => Self::Fetch(name()?, checked_path(path.segments)?),
            CallBody::Info(_) => Self::Info(name()?),
            CallBody::Health(_) => Self::Health(name()?),
            CallBody::Stop(_) => Self::Stop(name()?),
            CallBody::Reset(_) => Self::Reset(name()?),
            CallBody::Replace(_) => Self::Replace(name()?),
            CallBody::List(_) => Self::List(set()?),
            CallBody::ShutDown(_) => Self::ShutDown(set()?),
        };
        Ok(if w.louder == 0 { call } else { Self::Louder(w.louder, Box::new(call)) })
    }
}

/// Checks that a path is not too long.
pub(in crate::wire) fn checked_path(segments: Vec<String>) -> Result<Vec<String>, Error> {
    if segments.len() > SEGMENTS_MAX || segments.iter().any(|s| s.len() > SEGMENT_LEN_MAX) {
        return Err(Error::usage(format!(
            "a path has at most {SEGMENTS_MAX} segments of {SEGMENT_LEN_MAX} bytes each"
        )));
    }
    Ok(segments)
}

impl Provider {
    pub(in crate::wire) fn to_wire(&self) -> v1::Provider {
        let state = match self.state {
            ProviderState::Idle => v1::ProviderState::Idle,
            ProviderState::Starting => v1::ProviderState::Starting,
            ProviderState::Ready => v1::ProviderState::Ready,
            ProviderState::Failed => v1::ProviderState::Failed,
        };
        v1::Provider {
            set: self.name.set().to_owned(),
            alias: self.name.alias().to_owned(),
            state: state.into(),
            binary: self.binary.clone(),
            pid: self.pid.unwrap_or(0),
            port: self.port.map_or(0, u32::from),
            r#type: self.kind.clone(),
            version: self.version.clone(),
            starts: self.starts,
            reason: self.reason.clone(),
            process: self.process.clone(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::Provider) -> Result<Self, Error> {
        let state = match w.state() {
            v1::ProviderState::Idle => ProviderState::Idle,
            v1::ProviderState::Starting => ProviderState::Starting,
            v1::ProviderState::Ready => ProviderState::Ready,
            v1::ProviderState::Failed => ProviderState::Failed,
        };
        Ok(Self {
            name: ProviderName::new(&w.set, &w.alias)?,
            state,
            binary: w.binary,
            pid: (w.pid != 0).then_some(w.pid),
            port: u16::try_from(w.port).ok().filter(|port| *port != 0),
            kind: w.r#type,
            version: w.version,
            starts: w.starts,
            reason: w.reason,
            process: w.process,
        })
    }
}

impl ProviderAnswer {
    pub(in crate::wire) fn to_wire(&self) -> v1::ProviderAnswer {
        let what = match self {
            Self::Said(stderr, answer) => {
                return v1::ProviderAnswer { stderr: stderr.clone(), ..answer.to_wire() };
            }
            Self::Provider(provider) => AnswerBody::Provider(provider.to_wire()),
            Self::Value(bytes) => AnswerBody::Value(bytes.clone()),
            Self::Health(health) => AnswerBody::Health(v1::ProviderHealth {
                status: health.status.clone(),
                message: health.message.clone(),
            }),
            Self::List(all) => {
                AnswerBody::List(v1::ProviderList { providers: all.iter().map(Provider::to_wire).collect() })
            }
        };
        v1::ProviderAnswer { what: Some(what), stderr: String::new() }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderAnswer) -> Result<Self, Error> {
        let unknown = || Error::usage("an answer about providers that this client does not know");
        let answer = match w.what.ok_or_else(unknown)? {
            AnswerBody::Provider(provider) => Self::Provider(Box::new(Provider::from_wire(provider)?)),
            AnswerBody::Value(bytes) => Self::Value(bytes),
            AnswerBody::Health(h) => Self::Health(ProviderHealth { status: h.status, message: h.message }),
            AnswerBody::List(list) => {
                Self::List(list.providers.into_iter().map(Provider::from_wire).collect::<Result<_, _>>()?)
            }
        };
        Ok(if w.stderr.is_empty() { answer } else { Self::Said(w.stderr, Box::new(answer)) })
    }
}
