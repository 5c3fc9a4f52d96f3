//! What is asked of the host about modules, and what it answers.

use std::time::Duration;

use crate::wire::canary::{self, Canary, CanaryCall};
use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::proto::v1::module_answer::What as AnswerBody;
use crate::wire::proto::v1::module_call::What as CallBody;
use crate::wire::proto::v1::module_outcome::What as OutcomeBody;
use crate::wire::spec::{pairs_from_wire, pairs_to_wire};
use crate::wire::time::{Timestamp, millis};

/// The longest input of a call, in bytes: what fits a message to an executor with its tags.
pub const INPUT_LEN_MAX: usize = 1 << 20;
/// The most metadata of a call, and all of it together in bytes.
const METADATA_MAX: usize = 32;
const METADATA_LEN_MAX: usize = 8 << 10;
/// The longest a call may take.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The most inputs of one batch, and all of them together in bytes: one frame.
pub const INPUTS_MAX: usize = 1000;
pub const INPUTS_LEN_MAX: usize = 3 << 20;
/// How many are executed at once, if nothing is said, and at most.
pub const PARALLEL: u32 = 8;
pub const PARALLEL_MAX: u32 = 64;

/// One question about modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleCall {
    /// What there is.
    List,
    /// Who has registered it.
    Connections,
    /// Have one executed.
    Call(ModuleOrder),
    /// The same with each of several inputs.
    Batch(ModuleBatch),
    /// How what is expected is.
    Expected,
    /// Give a connection nothing new, and end it by then.
    Drain { connection: String, reason: String, deadline: Duration },
    /// Have a new version tried by a share of the calls.
    Canary(CanaryCall),
    /// Let the next registration of this module change its types so that callers may fail.
    Allow(String),
}

/// A module that is to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleOrder {
    /// With its namespace.
    pub name: String,
    /// JSON.
    pub input: Vec<u8>,
    pub timeout: Duration,
    /// Whether the answer is JSON with tags.
    pub tagged: bool,
    /// For the executor: `traceparent` and the like.
    pub metadata: Vec<(String, String)>,
}

/// A module that is to be executed with each of several inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleBatch {
    /// How each is called; its input is not used, and its time is that of each.
    pub order: ModuleOrder,
    /// JSON each.
    pub inputs: Vec<Vec<u8>>,
    /// How many are executed at once.
    pub parallel: u32,
}

/// A module, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// With its namespace.
    pub name: String,
    /// Parameters and result.
    pub signature: String,
    pub version: String,
    pub description: String,
    /// How many execute it now.
    pub members: u32,
    /// Calls of all that have registered it, since they have; and of these, those that failed.
    pub requests: u64,
    pub errors: u64,
    /// Of those that have an answer.
    pub mean_latency_us: u64,
    /// How its types differ from those of the registration before, in words; empty: they do not.
    pub changes: String,
}

/// A provider of modules, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleConnection {
    pub id: String,
    pub namespace: String,
    /// Empty: it is alone.
    pub group: String,
    pub executor: String,
    /// "registered", "restored", "active", "deaf" or "draining".
    pub state: String,
    /// Without the namespace.
    pub modules: Vec<String>,
    pub registered_at: Timestamp,
    pub last_heartbeat_at: Option<Timestamp>,
    pub in_flight: u32,
    pub requests: u64,
    pub errors: u64,
    /// Empty: none yet.
    pub last_error: String,
    /// Of those that have an answer.
    pub mean_latency_us: u64,
    /// Why it gets no calls; empty: it does.
    pub reason: String,
}

/// What the host answers about modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleAnswer {
    Modules(Vec<ModuleInfo>),
    Connections(Vec<ModuleConnection>),
    /// JSON.
    Value(Vec<u8>),
    /// The same of the next input of a batch, or why there is none.
    Outcome(Result<Vec<u8>, Error>),
    Expected(Vec<ModuleExpectation>),
    Done,
    Canaries(Vec<Canary>),
}

/// A module that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleExpectation {
    /// `demo.add`; `demo.*`: any of the namespace.
    pub name: String,
    /// Since when nobody executes it; none: somebody does, or not for long.
    pub missing_since: Option<Timestamp>,
    /// Why it is missing; empty: it is not.
    pub why: String,
}

impl ModuleCall {
    pub(in crate::wire) fn to_wire(&self) -> v1::ModuleCall {
        let what = match self {
            Self::List => CallBody::List(true),
            Self::Connections => CallBody::Connections(true),
            Self::Call(order) => CallBody::Call(order.to_wire()),
            Self::Expected => CallBody::Expected(true),
            Self::Batch(batch) => CallBody::Batch(batch.to_wire()),
            Self::Drain { connection, reason, deadline } => CallBody::Drain(v1::ModuleDrain {
                connection: connection.clone(),
                reason: reason.clone(),
                deadline_ms: millis(*deadline),
            }),
            Self::Canary(call) => CallBody::Canary(call.to_wire()),
            Self::Allow(name) => CallBody::Allow(name.clone()),
        };
        v1::ModuleCall { what: Some(what) }
    }

    pub(in crate::wire) fn from_wire(w: v1::ModuleCall) -> Result<Self, Error> {
        Ok(match w.what.ok_or_else(|| Error::usage("the host does not know this question"))? {
            CallBody::List(_) => Self::List,
            CallBody::Connections(_) => Self::Connections,
            CallBody::Expected(_) => Self::Expected,
            CallBody::Call(order) => Self::Call(ModuleOrder::from_wire(order)?),
            CallBody::Batch(batch) => Self::Batch(ModuleBatch::from_wire(batch)?),
            CallBody::Drain(drain) => Self::Drain {
                connection: drain.connection,
                reason: drain.reason,
                deadline: Duration::from_millis(drain.deadline_ms).min(CALL_TIMEOUT_MAX),
            },
            CallBody::Canary(call) => Self::Canary(CanaryCall::from_wire(call)?),
            CallBody::Allow(name) => Self::Allow(name),
        })
    }

    /// What it changes, in words; none: nothing.
    #[must_use]
    pub fn change(&self) -> Option<String> {
        match self {
            Self::Drain { connection, .. } => Some(format!("drain module connection {connection:.80}")),
            Self::Canary(call) => call.change(),
            Self::Allow(name) => Some(format!("allow other types of module {name:.80}")),
            Self::List | Self::Connections | Self::Expected | Self::Call(_) | Self::Batch(_) => None,
        }
    }
}

impl ModuleOrder {
    fn to_wire(&self) -> v1::ModuleOrder {
        v1::ModuleOrder {
            name: self.name.clone(),
            input: self.input.clone(),
            timeout_ms: millis(self.timeout),
            tagged: self.tagged,
            metadata: pairs_to_wire(&self.metadata),
        }
    }

    fn from_wire(w: v1::ModuleOrder) -> Result<Self, Error> {
        check_input(&w.input)?;
        let timeout = Duration::from_millis(w.timeout_ms).min(CALL_TIMEOUT_MAX);
        let metadata = pairs_from_wire(w.metadata);
        let len: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if metadata.len() > METADATA_MAX || len > METADATA_LEN_MAX {
            return Err(Error::usage(format!(
                "a call has at most {METADATA_MAX} metadata of {METADATA_LEN_MAX} bytes together"
            )));
        }
        Ok(Self { name: w.name, input: w.input, timeout, tagged: w.tagged, metadata })
    }
}

/// Refuses an input that is too long.
fn check_input(input: &[u8]) -> Result<(), Error> {
    let len = input.len();
    if len > INPUT_LEN_MAX {
        return Err(Error::usage(format!("an input of {len} bytes is over {INPUT_LEN_MAX}")));
    }
    Ok(())
}

impl ModuleBatch {
    fn to_wire(&self) -> v1::ModuleBatch {
        let order = Some(self.order.to_wire());
        v1::ModuleBatch { order, inputs: self.inputs.clone(), parallel: self.parallel }
    }

    fn from_wire(w: v1::ModuleBatch) -> Result<Self, Error> {
        w.inputs.iter().try_for_each(|input| check_input(input))?;
        let len: usize = w.inputs.iter().map(Vec::len).sum();
        if w.inputs.len() > INPUTS_MAX || len > INPUTS_LEN_MAX {
            let e = format!("a batch has at most {INPUTS_MAX} inputs of {INPUTS_LEN_MAX} bytes together");
            return Err(Error::usage(e).hint("ask for the others in batches of their own"));
        }
        let order = ModuleOrder::from_wire(w.order.unwrap_or_default())?;
        Ok(Self { order, inputs: w.inputs, parallel: w.parallel.clamp(1, PARALLEL_MAX) })
    }
}

fn outcome_to_wire(outcome: &Result<Vec<u8>, Error>) -> v1::ModuleOutcome {
    let what = match outcome {
        Ok(json) => OutcomeBody::Value(json.clone()),
        Err(e) => {
            let v1::Error { code, message, hint, reason, .. } = e.to_wire();
            OutcomeBody::Failure(v1::ModuleFailure { code, message, hint, reason })
        }
    };
    v1::ModuleOutcome { what: Some(what) }
}

fn outcome_from_wire(w: v1::ModuleOutcome) -> Result<Result<Vec<u8>, Error>, Error> {
    Ok(match w.what.ok_or_else(|| Error::usage("an outcome that is not understood"))? {
        OutcomeBody::Value(json) => Ok(json),
        OutcomeBody::Failure(v1::ModuleFailure { code, message, hint, reason }) => {
            Err(Error::from_wire(v1::Error { code, message, hint, reason, ..v1::Error::default() }))
        }
    })
}

impl ModuleAnswer {
    pub(in crate::wire) fn to_wire(&self) -> v1::ModuleAnswer {
        let what = match self {
            Self::Modules(all) => AnswerBody::Modules(v1::ModuleList {
                modules: all
                    .iter()
                    .map(|m| v1::ModuleInfo {
                        name: m.name.clone(),
                        signature: m.signature.clone(),
                        version: m.version.clone(),
                        description: m.description.clone(),
                        members: m.members,
                        requests: m.requests,
                        errors: m.errors,
                        mean_latency_us: m.mean_latency_us,
                        changes: m.changes.clone(),
                    })
                    .collect(),
            }),
            Self::Connections(all) => AnswerBody::Connections(v1::ModuleConnections {
                connections: all.iter().map(ModuleConnection::to_wire).collect(),
            }),
            Self::Value(json) => AnswerBody::Value(json.clone()),
            Self::Outcome(outcome) => AnswerBody::Outcome(outcome_to_wire(outcome)),
            Self::Expected(all) => AnswerBody::Expected(v1::ModuleExpectations {
                expectations: all.iter().map(ModuleExpectation::to_wire).collect(),
            }),
            Self::Done => AnswerBody::Done(true),
            Self::Canaries(all) => AnswerBody::Canaries(canary::list_to_wire(all)),
        };
        v1::ModuleAnswer { what: Some(what) }
    }

    pub(in crate::wire) fn from_wire(w: v1::ModuleAnswer) -> Result<Self, Error> {
        Ok(match w.what.ok_or_else(|| Error::usage("the host's answer is not understood"))? {
            AnswerBody::Modules(list) => Self::Modules(
                list.modules
                    .into_iter()
                    .map(|m| ModuleInfo {
                        name: m.name,
                        signature: m.signature,
                        version: m.version,
                        description: m.description,
                        members: m.members,
                        requests: m.requests,
                        errors: m.errors,
                        mean_latency_us: m.mean_latency_us,
                        changes: m.changes,
                    })
                    .collect(),
            ),
            AnswerBody::Connections(list) => {
                Self::Connections(list.connections.into_iter().map(ModuleConnection::from_wire).collect())
            }
            AnswerBody::Value(json) => Self::Value(json),
            AnswerBody::Outcome(outcome) => Self::Outcome(outcome_from_wire(outcome)?),
            AnswerBody::Expected(all) => {
                Self::Expected(all.expectations.into_iter().map(ModuleExpectation::from_wire).collect())
            }
            AnswerBody::Done(_) => Self::Done,
            AnswerBody::Canaries(all) => Self::Canaries(canary::list_from_wire(all)?),
        })
    }
}

impl ModuleExpectation {
    fn to_wire(&self) -> v1::ModuleExpectation {
        let missing_since_ms = self.missing_since.map(|at| at.0);
        v1::ModuleExpectation { name: self.name.clone(), missing_since_ms, why: self.why.clone() }
    }

    fn from_wire(w: v1::ModuleExpectation) -> Self {
        Self { name: w.name, missing_since: w.missing_since_ms.map(Timestamp), why: w.why }
    }
}

impl ModuleConnection {
    fn to_wire(&self) -> v1::ModuleConnection {
        v1::ModuleConnection {
            id: self.id.clone(),
            namespace: self.namespace.clone(),
            group: self.group.clone(),
            executor: self.executor.clone(),
            state: self.state.clone(),
            modules: self.modules.clone(),
            registered_at_ms: self.registered_at.0,
            last_heartbeat_at_ms: self.last_heartbeat_at.map(|at| at.0),
            in_flight: self.in_flight,
            requests: self.requests,
            errors: self.errors,
            last_error: self.last_error.clone(),
            mean_latency_us: self.mean_latency_us,
            reason: self.reason.clone(),
        }
    }

    fn from_wire(w: v1::ModuleConnection) -> Self {
        Self {
            id: w.id,
            namespace: w.namespace,
            group: w.group,
            executor: w.executor,
            state: w.state,
            modules: w.modules,
            registered_at: Timestamp(w.registered_at_ms),
            last_heartbeat_at: w.last_heartbeat_at_ms.map(Timestamp),
            in_flight: w.in_flight,
            requests: w.requests,
            errors: w.errors,
            last_error: w.last_error,
            mean_latency_us: w.mean_latency_us,
            reason: w.reason,
        }
    }
}

#[cfg(test)]
impl ModuleBatch {
    /// With these inputs.
    pub(crate) fn sample(inputs: Vec<Vec<u8>>) -> Self {
        let metadata = vec![("k".to_owned(), "v".to_owned())];
        let timeout = Duration::from_secs(1);
        let order = ModuleOrder { name: "a.b".into(), input: Vec::new(), timeout, tagged: true, metadata };
        Self { order, inputs, parallel: 3 }
    }
}

#[cfg(test)]
impl ModuleConnection {
    /// With all that there can be.
    pub(crate) fn sample() -> Self {
        Self {
            id: "i".into(),
            namespace: "n".into(),
            group: "g".into(),
            executor: "localhost:1".into(),
            state: "active".into(),
            modules: vec!["m".into()],
            registered_at: Timestamp(5),
            last_heartbeat_at: Some(Timestamp(6)),
            in_flight: 1,
            requests: 2,
            errors: 3,
            last_error: "e".into(),
            mean_latency_us: 4,
            reason: "deaf".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Code;

    #[test]
    fn questions_and_answers_survive_the_wire() {
        let order = ModuleOrder {
            name: "a.b".into(),
            input: b"{}".to_vec(),
            timeout: Duration::from_secs(3),
            tagged: true,
            metadata: vec![("traceparent".into(), "00-1-2-01".into())],
        };
        let deadline = Duration::from_secs(1);
        let drain = ModuleCall::Drain { connection: "c".into(), reason: "r".into(), deadline };
        let canary = ModuleCall::Canary(CanaryCall::Abort("a".into()));
        let plain = [
            ModuleCall::List,
            ModuleCall::Connections,
            ModuleCall::Expected,
            ModuleCall::Allow("a.b".into()),
        ];
        for call in plain.into_iter().chain([ModuleCall::Call(order), drain, canary]) {
            assert_eq!(ModuleCall::from_wire(call.to_wire()), Ok(call));
        }
        let info = ModuleInfo {
            name: "a.b".into(),
            signature: "a.b() -> Int".into(),
            version: "1".into(),
            description: "d".into(),
            members: 2,
            requests: 5,
            errors: 1,
            mean_latency_us: 9,
            changes: "c".into(),
        };
        for answer in [
            ModuleAnswer::Modules(vec![info]),
            ModuleAnswer::Connections(vec![ModuleConnection::sample()]),
            ModuleAnswer::Value(b"1".to_vec()),
            ModuleAnswer::Expected(vec![ModuleExpectation {
                name: "a.b".into(),
                missing_since: Some(Timestamp(7)),
                why: "w".into(),
            }]),
            ModuleAnswer::Done,
            ModuleAnswer::Canaries(vec![Canary::sample()]),
        ] {
            assert_eq!(ModuleAnswer::from_wire(answer.to_wire()), Ok(answer));
        }
    }

    #[test]
    fn an_input_has_a_limit() {
        let input = vec![0; INPUT_LEN_MAX + 1];
        let call = ModuleCall::Call(ModuleOrder {
            name: "a.b".into(),
            input,
            timeout: Duration::ZERO,
            tagged: false,
            metadata: Vec::new(),
        });
        assert!(ModuleCall::from_wire(call.to_wire()).is_err());
        let metadata = vec![("k".to_owned(), String::new()); METADATA_MAX + 1];
        let call = ModuleCall::Call(ModuleOrder {
            name: "a.b".into(),
            input: Vec::new(),
            timeout: Duration::ZERO,
            tagged: false,
            metadata,
        });
        assert!(ModuleCall::from_wire(call.to_wire()).is_err());
    }

    #[test]
    fn batches_and_outcomes_survive_the_wire() {
        let call = ModuleCall::Batch(ModuleBatch::sample(vec![b"1".to_vec(), b"{}".to_vec()]));
        assert_eq!(ModuleCall::from_wire(call.to_wire()), Ok(call));
        for outcome in [Ok(b"1".to_vec()), Err(Error::new(Code::TimedOut, "m").hint("h").reason("r"))] {
            let answer = ModuleAnswer::Outcome(outcome);
            assert_eq!(ModuleAnswer::from_wire(answer.to_wire()), Ok(answer));
        }
    }

    #[test]
    fn a_batch_has_limits() {
        let read = |batch: ModuleBatch| ModuleBatch::from_wire(batch.to_wire());
        for (inputs, fits) in [
            (vec![vec![b'1']; INPUTS_MAX], true),
            (vec![vec![b'1']; INPUTS_MAX + 1], false),
            (vec![vec![b'1'; INPUT_LEN_MAX]; 3], true),
            (vec![vec![b'1'; INPUT_LEN_MAX]; 4], false),
            (vec![vec![b'1'; INPUT_LEN_MAX + 1]], false),
        ] {
            assert_eq!(read(ModuleBatch::sample(inputs)).is_ok(), fits);
        }
        for (asked, got) in [(0, 1), (7, 7), (1000, PARALLEL_MAX)] {
            let batch = ModuleBatch { parallel: asked, ..ModuleBatch::sample(Vec::new()) };
            assert_eq!(read(batch).map(|batch| batch.parallel), Ok(got));
        }
    }
}
