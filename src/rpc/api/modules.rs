//! Modules as the public messages have them: requests into what is asked of the host, answers back; and the
//! other way round for a client of a gateway.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;

use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::Paged;
use crate::rpc::api::processes::CODES;
use crate::rpc::api::requests::Ask;
use crate::rpc::api::values::{Invalid, duration, ms, proto, proto_time, time};
use crate::rpc::services::public as api;
use crate::rpc::services::public::call_module_batch_response::Outcome;
use crate::wire::error::{Code, Error};
use crate::wire::module::{ModuleAnswer, ModuleConnection, ModuleExpectation, ModuleInfo, ModuleOrder};
use crate::wire::module::{ModuleBatch, PARALLEL};
use crate::wire::proto::v1;
use crate::wire::proto::v1::module_call::What;
use crate::wire::proto::v1::request::Body;
use crate::wire::reply::Reply;
use crate::wire::time::Timestamp;

/// How long a call may take, and what is drained may go on, if nothing is said, ms.
const TIMEOUT_MS: u64 = 30_000;

fn ask(what: What) -> Body {
    Body::Module(v1::ModuleCall { what: Some(what) })
}

fn limit(field: &str, sent: Option<ProtoDuration>) -> Result<u64, Invalid> {
    sent.map_or(Ok(TIMEOUT_MS), |sent| ms(field, sent))
}

fn needed(field: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() { Err(Invalid::because(field, "it is missing")) } else { Ok(()) }
}

impl Ask for api::CallModuleRequest {
    fn body(self) -> Result<Body, Invalid> {
        needed("name", &self.name)?;
        let metadata = self.metadata.into_iter().map(|(key, value)| v1::EnvVar { key, value });
        Ok(ask(What::Call(v1::ModuleOrder {
            name: self.name,
            input: if self.input.is_empty() { b"{}".to_vec() } else { self.input },
            timeout_ms: limit("timeout", self.timeout)?,
            tagged: self.tagged,
            metadata: metadata.collect(),
        })))
    }
}

impl From<&ModuleOrder> for api::CallModuleRequest {
    fn from(order: &ModuleOrder) -> Self {
        Self {
            name: order.name.clone(),
            input: order.input.clone(),
            timeout: Some(proto(order.timeout)),
            tagged: order.tagged,
            metadata: order.metadata.iter().cloned().collect(),
        }
    }
}

impl Ask for api::CallModuleBatchRequest {
    fn body(self) -> Result<Body, Invalid> {
        needed("name", &self.name)?;
        let metadata = self.metadata.into_iter().map(|(key, value)| v1::EnvVar { key, value });
        let order = v1::ModuleOrder {
            name: self.name,
            input: Vec::new(),
            timeout_ms: limit("timeout", self.timeout)?,
            tagged: self.tagged,
            metadata: metadata.collect(),
        };
        let parallel = if self.parallel == 0 { PARALLEL } else { self.parallel };
        Ok(ask(What::Batch(v1::ModuleBatch { order: Some(order), inputs: self.inputs, parallel })))
    }
}

impl From<&ModuleBatch> for api::CallModuleBatchRequest {
    fn from(batch: &ModuleBatch) -> Self {
        let order = &batch.order;
        Self {
            name: order.name.clone(),
            inputs: batch.inputs.clone(),
            timeout: Some(proto(order.timeout)),
            tagged: order.tagged,
            metadata: order.metadata.iter().cloned().collect(),
            parallel: batch.parallel,
        }
    }
}

impl Ask for api::ListModulesRequest {
    fn body(self) -> Result<Body, Invalid> {
        Ok(ask(What::List(true)))
    }
}

impl Ask for api::ListModuleConnectionsRequest {
    fn body(self) -> Result<Body, Invalid> {
        Ok(ask(What::Connections(true)))
    }
}

impl Ask for api::ListExpectedModulesRequest {
    fn body(self) -> Result<Body, Invalid> {
        Ok(ask(What::Expected(true)))
    }
}

impl Ask for api::DrainModuleConnectionRequest {
    fn body(self) -> Result<Body, Invalid> {
        needed("connection", &self.connection)?;
        let deadline_ms = limit("deadline", self.deadline)?;
        let (connection, reason) = (self.connection, self.reason);
        Ok(ask(What::Drain(v1::ModuleDrain { connection, reason, deadline_ms })))
    }
}

impl Ask for api::AllowModuleChangeRequest {
    fn body(self) -> Result<Body, Invalid> {
        needed("name", &self.name)?;
        Ok(ask(What::Allow(self.name)))
    }
}

impl Answer for api::CallModuleResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Module(ModuleAnswer::Value(json)) = reply {
            self.output = json;
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        Ok(vec![Reply::Module(ModuleAnswer::Value(self.output))])
    }
}

impl Answer for api::CallModuleBatchResponse {
    fn put(&mut self, reply: Reply) {
        self.outcome = match reply {
            Reply::Module(ModuleAnswer::Outcome(Ok(json))) => Some(Outcome::Output(json)),
            Reply::Module(ModuleAnswer::Outcome(Err(e))) => {
                let error = api::TargetError { code: CODES.number(e.code), message: e.message, hint: e.hint };
                Some(Outcome::Failure(api::ModuleCallFailure { error: Some(error), reason: e.reason }))
            }
            _ => None,
        };
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let outcome = match self.outcome {
            None => return Ok(Vec::new()),
            Some(Outcome::Output(json)) => Ok(json),
            Some(Outcome::Failure(failure)) => {
                let e = failure.error.unwrap_or_default();
                let code = CODES.known(e.code).unwrap_or(Code::Failed);
                Err(Error::new(code, e.message).hint(e.hint).reason(failure.reason))
            }
        };
        Ok(vec![Reply::Module(ModuleAnswer::Outcome(outcome))])
    }
}

impl Answer for api::ListModulesResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Module(ModuleAnswer::Modules(all)) = reply {
            self.modules = all.into_iter().map(Into::into).collect();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let all = self.modules.into_iter().map(Into::into).collect();
        Ok(vec![Reply::Module(ModuleAnswer::Modules(all))])
    }
}

impl Answer for api::ListModuleConnectionsResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Module(ModuleAnswer::Connections(all)) = reply {
            self.connections = all.into_iter().map(Into::into).collect();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let all = self.connections.into_iter().map(Into::into).collect();
        Ok(vec![Reply::Module(ModuleAnswer::Connections(all))])
    }
}

impl Answer for api::ListExpectedModulesResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Module(ModuleAnswer::Expected(all)) = reply {
            self.modules = all.into_iter().map(Into::into).collect();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let all = self.modules.into_iter().map(Into::into).collect();
        Ok(vec![Reply::Module(ModuleAnswer::Expected(all))])
    }
}

impl Answer for api::DrainModuleConnectionResponse {
    fn put(&mut self, _: Reply) {}

    fn take(self) -> Result<Vec<Reply>, Error> {
        Ok(vec![Reply::Module(ModuleAnswer::Done)])
    }
}

impl Answer for api::AllowModuleChangeResponse {
    fn put(&mut self, _: Reply) {}

    fn take(self) -> Result<Vec<Reply>, Error> {
        Ok(vec![Reply::Module(ModuleAnswer::Done)])
    }
}

impl Paged for api::AllowModuleChangeResponse {}
impl Paged for api::CallModuleResponse {}
impl Paged for api::ListModulesResponse {}
impl Paged for api::ListModuleConnectionsResponse {}
impl Paged for api::ListExpectedModulesResponse {}
impl Paged for api::DrainModuleConnectionResponse {}

fn latency(us: u64) -> Option<ProtoDuration> {
    Some(proto(Duration::from_micros(us)))
}

fn latency_us(sent: Option<ProtoDuration>) -> u64 {
    u64::try_from(duration(sent).as_micros()).unwrap_or(u64::MAX)
}

impl From<ModuleInfo> for api::RegisteredModule {
    fn from(m: ModuleInfo) -> Self {
        Self {
            name: m.name,
            signature: m.signature,
            version: m.version,
            description: m.description,
            members: m.members,
            requests: m.requests,
            errors: m.errors,
            mean_latency: latency(m.mean_latency_us),
            changes: m.changes,
        }
    }
}

impl From<api::RegisteredModule> for ModuleInfo {
    fn from(m: api::RegisteredModule) -> Self {
        Self {
            name: m.name,
            signature: m.signature,
            version: m.version,
            description: m.description,
            members: m.members,
            requests: m.requests,
            errors: m.errors,
            mean_latency_us: latency_us(m.mean_latency),
            changes: m.changes,
        }
    }
}

impl From<ModuleExpectation> for api::ExpectedModule {
    fn from(e: ModuleExpectation) -> Self {
        Self { name: e.name, missing_since_time: e.missing_since.map(proto_time), reason: e.why }
    }
}

impl From<api::ExpectedModule> for ModuleExpectation {
    fn from(e: api::ExpectedModule) -> Self {
        Self { name: e.name, missing_since: e.missing_since_time.map(time), why: e.reason }
    }
}

impl From<ModuleConnection> for api::ModuleProviderConnection {
    fn from(c: ModuleConnection) -> Self {
        Self {
            id: c.id,
            namespace: c.namespace,
            group: c.group,
            executor: c.executor,
            state: c.state,
            modules: c.modules,
            register_time: Some(proto_time(c.registered_at)),
            last_heartbeat_time: c.last_heartbeat_at.map(proto_time),
            in_flight: c.in_flight,
            requests: c.requests,
            errors: c.errors,
            last_error: c.last_error,
            mean_latency: latency(c.mean_latency_us),
            reason: c.reason,
        }
    }
}

impl From<api::ModuleProviderConnection> for ModuleConnection {
    fn from(c: api::ModuleProviderConnection) -> Self {
        Self {
            id: c.id,
            namespace: c.namespace,
            group: c.group,
            executor: c.executor,
            state: c.state,
            modules: c.modules,
            registered_at: c.register_time.map_or(Timestamp(0), time),
            last_heartbeat_at: c.last_heartbeat_time.map(time),
            in_flight: c.in_flight,
            requests: c.requests,
            errors: c.errors,
            last_error: c.last_error,
            mean_latency_us: latency_us(c.mean_latency),
            reason: c.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::module::ModuleCall;
    use crate::wire::request::Request;

    #[test]
    fn a_call_comes_back_from_its_public_message() {
        let order = ModuleOrder {
            name: "a.b".into(),
            input: b"1".to_vec(),
            timeout: Duration::from_secs(3),
            tagged: true,
            metadata: vec![("traceparent".into(), "00".into())],
        };
        let request = api::CallModuleRequest::from(&order).request();
        assert_eq!(request, Ok(Request::Module(ModuleCall::Call(order))));
        let bare = api::CallModuleRequest { name: "a.b".into(), ..Default::default() }.request();
        let Ok(Request::Module(ModuleCall::Call(order))) = bare else { panic!("{bare:?}") };
        assert_eq!((&*order.input, order.timeout), (&b"{}"[..], Duration::from_secs(30)));
        assert_eq!(api::CallModuleRequest::default().request().unwrap_err().field, "name");
    }

    #[test]
    fn a_batch_and_its_outcomes_come_back_from_their_public_messages() {
        let batch = ModuleBatch::sample(vec![b"1".to_vec()]);
        let request = api::CallModuleBatchRequest::from(&batch).request();
        assert_eq!(request, Ok(Request::Module(ModuleCall::Batch(batch))));
        for outcome in [Ok(b"1".to_vec()), Err(Error::new(Code::TimedOut, "m").hint("h").reason("r"))] {
            let reply = Reply::Module(ModuleAnswer::Outcome(outcome));
            let mut answer = api::CallModuleBatchResponse::default();
            answer.put(reply.clone());
            assert_eq!(answer.take(), Ok(vec![reply]));
        }
    }

    #[test]
    fn answers_come_back_from_their_public_messages() {
        let all = Reply::Module(ModuleAnswer::Connections(vec![ModuleConnection::sample()]));
        let mut answer = api::ListModuleConnectionsResponse::default();
        answer.put(all.clone());
        assert_eq!(answer.take(), Ok(vec![all]));
    }
}
