//! Requests: each method's message, the request of the service that it stands for, and back.

use crate::rpc::api::pages::Page;
use crate::rpc::api::processes::variables;
use crate::rpc::api::specs::{self, SCOPES};
use crate::rpc::api::values::{Invalid, Pairs, id_bytes, ms, proto, same_names};
use crate::rpc::services::public as api;
use crate::wire::id::OrderKey;
use crate::wire::proto::v1;
use crate::wire::proto::v1::provider_call::What;
use crate::wire::proto::v1::request::Body;
use crate::wire::request::{
    EnvChange, Events, List, Numbering, OutdatedRun, Output, Remove, Request, Signal, Since, Start, Stop,
    Stream, StreamKind, Until, Update, Upgrade, Wait,
};

const CONDITIONS: Pairs<Until, api::WaitCondition> =
    same_names!(Until as WaitCondition: Stopped Running Ready);

const SELECTIONS: Pairs<StreamKind, api::OutputSelection> =
    same_names!(StreamKind as OutputSelection: Both Stdout Stderr);

/// A message that asks for something.
pub(crate) trait Ask: prost::Message + Default + Sized + 'static {
    /// What is asked of the service, as the command channel carries it.
    fn body(self) -> Result<Body, Invalid>;

    /// Which part of the answer is wanted.
    fn page(&self) -> Page {
        Page::all()
    }

    /// By what an order is known when it comes again.
    fn key(&self) -> Result<Option<OrderKey>, Invalid> {
        Ok(None)
    }

    /// The same as the body, checked.
    fn request(self) -> Result<Request, Invalid> {
        let body = self.body()?;
        // What a body alone can be wrong in.
        let field = match &body {
            Body::Start(_) | Body::Update(_) => "spec",
            Body::Upgrade(_) => "path",
            Body::Provider(call) if matches!(call.what, Some(What::Fetch(_))) => "path",
            Body::Provider(_) => "spec",
            Body::Registry(call) if call.definition.is_some() => "spec",
            Body::Registry(_) => "action",
            Body::Module(_) => "input",
            _ => "targets",
        };
        Request::from_body(body).map_err(|e| Invalid::new(field, e))
    }
}

fn signal(field: &str, number: u32) -> Result<u32, Invalid> {
    match number {
        1..=64 => Ok(number),
        _ => Err(Invalid::because(field, &format!("there is no signal {number}"))),
    }
}

fn selection(number: i32) -> Result<i32, Invalid> {
    Ok(SELECTIONS.asked("selection", number)?.unwrap_or_default().to_wire() as i32)
}

/// Requests that stand for one of the service's without more ado.
macro_rules! asks {
    ($($request:ident($sent:ident) => $body:ident($wire:expr);)*) => {
        $(impl Ask for api::$request {
            fn body(self) -> Result<Body, Invalid> {
                let $sent = self;
                Ok(Body::$body($wire))
            }
        })*
    };
}

asks! {
    StartAgainRequest(r) => StartAgain(v1::StartAgain { targets: r.targets });
    DefinitionsRequest(r) => Definitions(v1::Targets { targets: r.targets });
    RemoveRequest(r) => Remove(v1::Remove { targets: r.targets, force: r.force });
    OutputRequest(r) => Output(v1::Output { target: r.target, kind: selection(r.selection)? });
    EventsRequest(r) => Events(v1::Events { since: r.after_sequence, follow: r.follow, target: r.target });
    HistoryRequest(r) => Events(v1::Events { since: r.after_sequence, follow: false, target: r.target });
    AuditRequest(r) => AuditLog(v1::AuditLog { since: r.after_sequence, max: r.limit });
    ServiceInfoRequest(_r) => Service(v1::Service {});
    HealthRequest(_r) => Health(v1::HealthRequest {});
    UpgradeRequest(r) => Upgrade(v1::Upgrade { id: id_bytes("id", &r.id)?, path: r.path });
}

impl Ask for api::StartRequest {
    fn body(self) -> Result<Body, Invalid> {
        let spec = self.spec.ok_or_else(|| Invalid::because("spec", "it is missing"))?;
        Ok(Body::Start(v1::Start {
            spec: Some(specs::to_wire(spec)?),
            ids: self.ids.iter().map(|id| id_bytes("ids", id)).collect::<Result<_, _>>()?,
            instances: self.numbered,
            count: self.count,
            first: self.first_number,
        }))
    }
}

impl Ask for api::UpdateRequest {
    fn body(self) -> Result<Body, Invalid> {
        let spec = self.spec.ok_or_else(|| Invalid::because("spec", "it is missing"))?;
        let (target, restart) = (self.target, self.restart);
        Ok(Body::Update(v1::Update { target, spec: Some(specs::to_wire(spec)?), restart }))
    }
}

impl Ask for api::StopRequest {
    fn body(self) -> Result<Body, Invalid> {
        Ok(Body::Stop(v1::StopTargets {
            targets: self.targets,
            signal: self.signal_number.map(|n| signal("signal_number", n)).transpose()?,
            timeout_ms: self.timeout.map(|d| ms("timeout", d)).transpose()?,
            scope: SCOPES.asked("scope", self.scope)?.map(|s| s.to_wire() as i32),
            no_kill: self.no_kill,
            keep_schedule: self.keep_schedule,
        }))
    }
}

fn order_key(text: &str) -> Result<Option<OrderKey>, Invalid> {
    let key = (!text.is_empty()).then(|| text.parse::<OrderKey>());
    key.transpose().map_err(|e| Invalid::new("idempotency_key", e))
}

impl Ask for api::RestartRequest {
    fn key(&self) -> Result<Option<OrderKey>, Invalid> {
        order_key(&self.idempotency_key)
    }

    fn body(self) -> Result<Body, Invalid> {
        Ok(Body::Restart(v1::Targets { targets: self.targets }))
    }
}

impl Ask for api::SignalRequest {
    fn key(&self) -> Result<Option<OrderKey>, Invalid> {
        order_key(&self.idempotency_key)
    }

    fn body(self) -> Result<Body, Invalid> {
        Ok(Body::Signal(v1::Signal {
            targets: self.targets,
            signal: signal("signal_number", self.signal_number)?,
            scope: SCOPES.asked("scope", self.scope)?.unwrap_or_default().to_wire() as i32,
        }))
    }
}

impl Ask for api::WaitRequest {
    fn body(self) -> Result<Body, Invalid> {
        Ok(Body::Wait(v1::Wait {
            targets: self.targets,
            until: CONDITIONS.asked("condition", self.condition)?.unwrap_or_default().to_wire() as i32,
            timeout_ms: self.timeout.map(|d| ms("timeout", d)).transpose()?,
        }))
    }
}

impl Ask for api::StatusRequest {
    fn page(&self) -> Page {
        Page::new(self.page_size, &self.page_token)
    }

    fn body(self) -> Result<Body, Invalid> {
        Ok(Body::Status(v1::Status { targets: self.targets, look: true }))
    }
}

impl Ask for api::ListRequest {
    fn page(&self) -> Page {
        Page::new(self.page_size, &self.page_token)
    }

    fn body(self) -> Result<Body, Invalid> {
        let after = match self.page_token.as_str() {
            "" => Vec::new(),
            token => id_bytes("page_token", token)
                .map_err(|_| Invalid::because("page_token", "it is not from an answer to this request"))?,
        };
        // One more than goes into the page tells whether there is another page.
        let max = Page::new(self.page_size, "").size() + 1;
        let (pattern, all, usage) = (self.pattern, self.include_internal, self.usage);
        Ok(Body::List(v1::List { pattern, all, after, max, usage, followers: false }))
    }
}

impl Ask for api::StreamRequest {
    fn body(self) -> Result<Body, Invalid> {
        use api::stream_request::Since;
        Ok(Body::Stream(v1::Stream {
            targets: self.targets,
            kind: selection(self.selection)?,
            since: self.since.map(|since| match since {
                Since::Oldest(true) => v1::stream::Since::Start(true),
                Since::Oldest(false) => v1::stream::Since::Now(true),
                Since::Offset(offset) => v1::stream::Since::Offset(offset),
                Since::Offsets(all) => v1::stream::Since::Offsets(v1::Offsets { offsets: all.offsets }),
            }),
        }))
    }
}

impl From<&Stream> for api::StreamRequest {
    fn from(r: &Stream) -> Self {
        use api::stream_request::Since as Public;
        Self {
            targets: r.targets.clone(),
            selection: SELECTIONS.number(r.kind),
            since: match &r.since {
                Since::Start => Some(Public::Oldest(true)),
                Since::Now => None,
                Since::Offset(offset) => Some(Public::Offset(*offset)),
                Since::Offsets(all) => Some(Public::Offsets(api::TargetOffsets { offsets: all.clone() })),
            },
        }
    }
}

impl Ask for api::EnvironmentRequest {
    fn body(self) -> Result<Body, Invalid> {
        let variable = |v: api::EnvironmentVariable| v1::EnvVar { key: v.key, value: v.value };
        Ok(Body::Env(v1::EnvChange { set: self.set.into_iter().map(variable).collect(), unset: self.unset }))
    }
}

/// What a client of a gateway sends for each of the service's requests.
macro_rules! sent_as {
    ($($ours:ident as $request:ident($r:ident) => $fields:tt;)*) => {
        $(impl From<&$ours> for api::$request {
            fn from($r: &$ours) -> Self {
                Self $fields
            }
        })*
    };
}

sent_as! {
    Start as StartRequest(r) => {
        spec: Some((&r.spec).into()),
        ids: r.ids.iter().map(ToString::to_string).collect(),
        numbered: r.numbering != Numbering::Single,
        count: 0,
        first_number: r.numbering.first().unwrap_or(0),
    };
    Update as UpdateRequest(r) => {
        target: r.target.clone(),
        spec: Some((&r.spec).into()),
        restart: r.outdated == OutdatedRun::Restart,
    };
    Stop as StopRequest(r) => {
        targets: r.targets.clone(),
        signal_number: r.signal,
        timeout: r.timeout.map(proto),
        scope: r.scope.map_or(0, |scope| SCOPES.number(scope)),
        no_kill: r.no_kill,
        keep_schedule: r.keep_schedule,
    };
    Remove as RemoveRequest(r) => { targets: r.targets.clone(), force: r.force };
    Signal as SignalRequest(r) => {
        targets: r.targets.clone(),
        signal_number: r.signal,
        scope: SCOPES.number(r.scope),
        idempotency_key: String::new(),
    };
    Wait as WaitRequest(r) => {
        targets: r.targets.clone(),
        condition: CONDITIONS.number(r.until),
        timeout: r.timeout.map(proto),
    };
    List as ListRequest(r) => {
        pattern: r.pattern.clone().unwrap_or_default(),
        include_internal: r.all,
        usage: r.usage,
        ..Self::default()
    };
    Output as OutputRequest(r) => { target: r.target.clone(), selection: SELECTIONS.number(r.kind) };
    EnvChange as EnvironmentRequest(r) => { set: variables(r.set.clone()), unset: r.unset.clone() };
    Events as EventsRequest(r) => {
        after_sequence: r.since,
        follow: r.follow,
        target: r.target.clone().unwrap_or_default(),
    };
    Upgrade as UpgradeRequest(r) => { id: r.id.to_string(), path: r.path.clone().unwrap_or_default() };
}
