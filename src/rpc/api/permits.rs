//! Permits, reports and chains as the public messages have them, both ways.

use prost::Message;
use prost_types::Struct;

use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::Paged;
use crate::rpc::api::registry::{failure, failure_back};
use crate::rpc::api::requests::Ask;
use crate::rpc::api::values::{Invalid, Pairs, ms, proto, proto_time, same_names, time};
use crate::rpc::services::public as api;
use crate::wire::error::Error;
use crate::wire::permit::{Chain, ChainValue, Outcome, Permit, Report, Wanted};
use crate::wire::proto::v1;
use crate::wire::proto::v1::request::Body;
use crate::wire::provider::ProviderName;
use crate::wire::registry::RegistryAnswer;
use crate::wire::reply::Reply;

const OUTCOMES: Pairs<v1::PermitOutcome, api::CallOutcome> =
    same_names!(v1::PermitOutcome as CallOutcome: Ok Failed Ignored);

fn target_of(field: &str, target: Option<api::ProviderTarget>) -> Result<v1::RegistryTarget, Invalid> {
    let target = target.unwrap_or_default();
    // Checked here, so that the field is named.
    ProviderName::new(&target.set, &target.alias).map_err(|e| Invalid::new(field, e))?;
    Ok(v1::RegistryTarget { set: target.set, alias: target.alias })
}

impl Ask for api::PermitCallRequest {
    fn body(self) -> Result<Body, Invalid> {
        let target = target_of("target", self.target)?;
        Ok(Body::Registry(v1::RegistryCall {
            set: target.set,
            alias: target.alias,
            verb: v1::RegistryVerb::Permit.into(),
            expires_ms: self.expiry.map_or(Ok(0), |sent| ms("expiry", sent))?,
            ..Default::default()
        }))
    }
}

impl Ask for api::ReportCallRequest {
    fn body(self) -> Result<Body, Invalid> {
        let missing = || Invalid::because("outcome", "it is missing");
        let outcome = OUTCOMES.asked("outcome", self.outcome)?.ok_or_else(missing)?;
        if self.permit.is_empty() {
            return Err(Invalid::because("permit", "it is missing"));
        }
        let report = v1::RegistryReport { permit: self.permit, outcome: outcome.into(), reason: self.reason };
        let verb = v1::RegistryVerb::Report.into();
        Ok(Body::Registry(v1::RegistryCall { verb, report: Some(report), ..Default::default() }))
    }
}

impl Ask for api::CallChainRequest {
    fn body(self) -> Result<Body, Invalid> {
        let targets = self.targets.into_iter().map(|target| target_of("targets", Some(target)));
        let chain = v1::RegistryChain {
            targets: targets.collect::<Result<_, _>>()?,
            path: self.path,
            permit: self.permit,
            expires_ms: self.expiry.map_or(Ok(0), |sent| ms("expiry", sent))?,
            timeout_ms: self.timeout.map_or(Ok(0), |sent| ms("timeout", sent))?,
        };
        let verb = v1::RegistryVerb::Chain.into();
        Ok(Body::Registry(v1::RegistryCall { verb, chain: Some(chain), ..Default::default() }))
    }
}

impl From<&Report> for api::ReportCallRequest {
    fn from(report: &Report) -> Self {
        let outcome = match report.outcome {
            Outcome::Ok => api::CallOutcome::Ok,
            Outcome::Failed => api::CallOutcome::Failed,
            Outcome::Ignored => api::CallOutcome::Ignored,
        };
        Self { permit: report.permit.clone(), outcome: outcome.into(), reason: report.reason.clone() }
    }
}

impl From<&Chain> for api::CallChainRequest {
    fn from(chain: &Chain) -> Self {
        let targets = chain.names.iter().map(Into::into).collect();
        let timeout = chain.timeout.map(proto);
        match &chain.wanted {
            Wanted::Value(path) => Self { targets, path: path.clone(), timeout, ..Default::default() },
            Wanted::Permit(expiry) => {
                Self { targets, permit: true, expiry: expiry.map(proto), timeout, ..Default::default() }
            }
        }
    }
}

impl From<Permit> for api::CallPermit {
    fn from(permit: Permit) -> Self {
        Self {
            id: permit.id,
            target: Some((&permit.name).into()),
            expire_time: Some(proto_time(permit.expires_at)),
            probe: permit.is_probe,
        }
    }
}

impl TryFrom<api::CallPermit> for Permit {
    type Error = Error;

    fn try_from(permit: api::CallPermit) -> Result<Self, Error> {
        let target = permit.target.unwrap_or_default();
        Ok(Self {
            id: permit.id,
            name: ProviderName::new(&target.set, &target.alias)?,
            expires_at: permit.expire_time.map_or_else(Default::default, time),
            is_probe: permit.probe,
        })
    }
}

impl Answer for api::PermitCallResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Registry(answer) = reply {
            self.permit = answer.permit.map(Into::into);
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let permit = self.permit.map(TryInto::try_into).transpose()?;
        Ok(vec![Reply::Registry(RegistryAnswer { permit, ..RegistryAnswer::default() })])
    }
}

impl Answer for api::CallChainResponse {
    fn put(&mut self, reply: Reply) {
        let Reply::Registry(answer) = reply else { return };
        self.permit = answer.permit.map(Into::into);
        self.failures = answer.failures.into_iter().map(failure).collect();
        if let Some(ChainValue { name, value }) = answer.value {
            self.target = Some((&name).into());
            self.value = Struct::decode(value.as_slice()).ok();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let value = match (self.target, self.value) {
            (Some(target), Some(value)) => Some(ChainValue {
                name: ProviderName::new(&target.set, &target.alias)?,
                value: value.encode_to_vec(),
            }),
            _ => None,
        };
        Ok(vec![Reply::Registry(RegistryAnswer {
            permit: self.permit.map(TryInto::try_into).transpose()?,
            failures: self.failures.into_iter().map(failure_back).collect::<Result<_, _>>()?,
            value,
            ..RegistryAnswer::default()
        })])
    }
}

impl Paged for api::PermitCallResponse {}
impl Paged for api::CallChainResponse {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Code;
    use crate::wire::time::Timestamp;

    #[test]
    fn what_is_answered_comes_back() {
        let name = ProviderName::new("ci", "app").unwrap();
        let permit = Permit { id: "p".into(), name: name.clone(), expires_at: Timestamp(1), is_probe: true };
        let given = RegistryAnswer {
            permit: Some(permit),
            failures: vec![(name.clone(), Error::new(Code::Refused, "no").reason("circuit_open"))],
            value: Some(ChainValue { name, value: Struct::default().encode_to_vec() }),
            ..RegistryAnswer::default()
        };
        let mut answer = api::CallChainResponse::default();
        answer.put(Reply::Registry(given.clone()));
        assert_eq!(answer.take(), Ok(vec![Reply::Registry(given)]));
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let field = |request: Result<_, Invalid>| request.map(drop).unwrap_err().field;
        assert_eq!(field(api::PermitCallRequest::default().request()), "target");
        assert_eq!(field(api::ReportCallRequest::default().request()), "outcome");
        let report = api::ReportCallRequest { outcome: api::CallOutcome::Ok.into(), ..Default::default() };
        assert_eq!(field(report.request()), "permit");
    }
}
