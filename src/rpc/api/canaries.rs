//! Canaries as the public messages have them, and back.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;

use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::Paged;
use crate::rpc::api::requests::Ask;
use crate::rpc::api::values::{Invalid, duration, ms, proto, proto_time, time};
use crate::rpc::services::public as api;
use crate::wire::canary::{Canary, CanaryMember, CanaryOrder, CanaryStep, Part};
use crate::wire::error::Error;
use crate::wire::module::ModuleAnswer;
use crate::wire::proto::v1;
use crate::wire::proto::v1::module_call::What;
use crate::wire::proto::v1::request::Body;
use crate::wire::reply::Reply;
use crate::wire::time::{Timestamp, millis};

fn ask(what: v1::module_canary::What) -> Body {
    let canary = v1::ModuleCanary { what: Some(what) };
    Body::Module(v1::ModuleCall { what: Some(What::Canary(canary)) })
}

fn needed(field: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() { Err(Invalid::because(field, "it is missing")) } else { Ok(()) }
}

/// A fraction in ten-thousandths; 0 stands for the default.
fn part(field: &str, sent: f64, default: Part) -> Result<u32, Invalid> {
    if sent == 0.0 {
        return Ok(default.ten_thousandths());
    }
    let part =
        Part::of_fraction(sent).ok_or_else(|| Invalid::because(field, "it is not between 0.0001 and 1"));
    part.map(Part::ten_thousandths)
}

fn span(field: &str, sent: Option<ProtoDuration>, default: Duration) -> Result<u64, Invalid> {
    sent.map_or(Ok(millis(default)), |sent| ms(field, sent))
}

impl Ask for api::StartModuleCanaryRequest {
    fn body(self) -> Result<Body, Invalid> {
        needed("namespace", &self.namespace)?;
        needed("version", &self.version)?;
        let default = CanaryOrder::new("", "");
        Ok(ask(v1::module_canary::What::Start(v1::ModuleCanaryOrder {
            namespace: self.namespace,
            version: self.version,
            share: part("share", self.share, default.share)?,
            success_ratio: part("success_ratio", self.success_ratio, default.success_ratio)?,
            latency_ms: span("latency", self.latency, default.latency)?,
            window_ms: span("window", self.window, default.window)?,
            min_calls: if self.min_calls == 0 { default.min_calls } else { self.min_calls },
            keeps_promoted: self.keep_promoted,
        })))
    }
}

impl From<&CanaryOrder> for api::StartModuleCanaryRequest {
    fn from(order: &CanaryOrder) -> Self {
        Self {
            namespace: order.namespace.clone(),
            version: order.version.clone(),
            share: order.share.fraction(),
            success_ratio: order.success_ratio.fraction(),
            latency: Some(proto(order.latency)),
            window: Some(proto(order.window)),
            min_calls: order.min_calls,
            keep_promoted: !order.rolls_back,
        }
    }
}

impl From<api::StartModuleCanaryRequest> for CanaryOrder {
    fn from(sent: api::StartModuleCanaryRequest) -> Self {
        let default = Self::new(&sent.namespace, &sent.version);
        Self {
            share: Part::of_fraction(sent.share).unwrap_or(default.share),
            success_ratio: Part::of_fraction(sent.success_ratio).unwrap_or(default.success_ratio),
            latency: duration(sent.latency),
            window: duration(sent.window),
            min_calls: sent.min_calls,
            rolls_back: !sent.keep_promoted,
            ..default
        }
    }
}

impl Ask for api::AbortModuleCanaryRequest {
    fn body(self) -> Result<Body, Invalid> {
        needed("namespace", &self.namespace)?;
        Ok(ask(v1::module_canary::What::Abort(self.namespace)))
    }
}

impl Ask for api::ListModuleCanariesRequest {
    fn body(self) -> Result<Body, Invalid> {
        Ok(ask(v1::module_canary::What::Status(self.namespace)))
    }
}

macro_rules! canaries {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Reply::Module(ModuleAnswer::Canaries(all)) = reply {
                    self.canaries = all.into_iter().map(Into::into).collect();
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                let all = self.canaries.into_iter().map(Into::into).collect();
                Ok(vec![Reply::Module(ModuleAnswer::Canaries(all))])
            }
        }

        impl Paged for api::$answer {})*
    };
}

canaries! { StartModuleCanaryResponse AbortModuleCanaryResponse ListModuleCanariesResponse }

impl From<Canary> for api::ModuleCanary {
    fn from(c: Canary) -> Self {
        Self {
            request: Some((&c.order).into()),
            by: c.by,
            state: c.state,
            start_time: Some(proto_time(c.started_at)),
            end_time: c.ended_at.map(proto_time),
            reason: c.reason,
            next: c.next,
            holds: c.holds,
            members: c.members.into_iter().map(Into::into).collect(),
            steps: c.steps.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<api::ModuleCanary> for Canary {
    fn from(c: api::ModuleCanary) -> Self {
        Self {
            order: c.request.unwrap_or_default().into(),
            by: c.by,
            state: c.state,
            started_at: c.start_time.map_or(Timestamp(0), time),
            ended_at: c.end_time.map(time),
            reason: c.reason,
            next: c.next,
            holds: c.holds,
            members: c.members.into_iter().map(Into::into).collect(),
            steps: c.steps.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<CanaryMember> for api::ModuleCanaryMember {
    fn from(m: CanaryMember) -> Self {
        Self {
            executor: m.executor,
            version: m.version,
            standing: m.standing,
            since_time: m.since.map(proto_time),
            calls: m.calls,
            failures: m.failures,
            slow: m.slow,
            mean_latency: Some(proto(Duration::from_micros(m.mean_latency_us))),
            reason: m.reason,
        }
    }
}

impl From<api::ModuleCanaryMember> for CanaryMember {
    fn from(m: api::ModuleCanaryMember) -> Self {
        Self {
            executor: m.executor,
            version: m.version,
            standing: m.standing,
            since: m.since_time.map(time),
            calls: m.calls,
            failures: m.failures,
            slow: m.slow,
            mean_latency_us: u64::try_from(duration(m.mean_latency).as_micros()).unwrap_or(u64::MAX),
            reason: m.reason,
        }
    }
}

impl From<CanaryStep> for api::ModuleCanaryStep {
    fn from(s: CanaryStep) -> Self {
        Self { time: Some(proto_time(s.at)), what: s.what, executor: s.executor, detail: s.detail }
    }
}

impl From<api::ModuleCanaryStep> for CanaryStep {
    fn from(s: api::ModuleCanaryStep) -> Self {
        Self { at: s.time.map_or(Timestamp(0), time), what: s.what, executor: s.executor, detail: s.detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::canary::CanaryCall;
    use crate::wire::module::ModuleCall;
    use crate::wire::request::Request;

    #[test]
    fn an_order_comes_back_from_its_public_message_and_has_defaults() {
        let order = CanaryOrder { rolls_back: false, min_calls: 7, ..CanaryOrder::new("n", "2") };
        let start = |order| Ok(Request::Module(ModuleCall::Canary(CanaryCall::Start(order))));
        assert_eq!(api::StartModuleCanaryRequest::from(&order).request(), start(order));
        let bare = api::StartModuleCanaryRequest {
            namespace: "n".into(),
            version: "2".into(),
            ..Default::default()
        };
        assert_eq!(bare.clone().request(), start(CanaryOrder::new("n", "2")));
        for (bad, field) in [
            (api::StartModuleCanaryRequest { share: 1.5, ..bare.clone() }, "share"),
            (api::StartModuleCanaryRequest { success_ratio: f64::NAN, ..bare.clone() }, "success_ratio"),
            (api::StartModuleCanaryRequest { version: String::new(), ..bare }, "version"),
        ] {
            assert_eq!(bad.request().unwrap_err().field, field);
        }
        assert_eq!(api::AbortModuleCanaryRequest::default().request().unwrap_err().field, "namespace");
    }

    #[test]
    fn canaries_come_back_from_their_public_messages() {
        let all = Reply::Module(ModuleAnswer::Canaries(vec![Canary::sample()]));
        let mut answer = api::ListModuleCanariesResponse::default();
        answer.put(all.clone());
        assert_eq!(answer.take(), Ok(vec![all]));
    }
}
