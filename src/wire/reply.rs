//! What the service answers: one enum. Every request is answered by one or more replies, the last one marked.

use bytes::Bytes;
use prost::Message;

use crate::wire::audit::AuditLine;
use crate::wire::error::Error;
use crate::wire::event::Event;
use crate::wire::frame;
use crate::wire::health::Health;
use crate::wire::id::ProcessId;
use crate::wire::keep::Document;
use crate::wire::module::ModuleAnswer;
use crate::wire::process::Process;
use crate::wire::proto::v1;
use crate::wire::proto::v1::reply::Body;
use crate::wire::provider::ProviderAnswer;
use crate::wire::registry::RegistryAnswer;
use crate::wire::spec::{Spec, pairs_from_wire, pairs_to_wire};
use crate::wire::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The request as a whole failed.
    Error(Error),
    /// The result for one target.
    Item(Item),
    /// A part of a list.
    Processes(Vec<Process>),
    /// How a process is to be run.
    Definition(Box<Definition>),
    Chunk(Chunk),
    /// Output bytes that are no longer there.
    Gap(Gap),
    /// The memory of processes' output, one for each that was asked for.
    Rings(Vec<RingState>),
    Environment(Environment),
    /// How the service is.
    Health(Health),
    /// Lines of the audit, in order.
    Audit(Vec<AuditLine>),
    Events(EventBatch),
    /// About the service itself.
    Service(Service),
    /// The service was moved to another binary.
    Upgraded(Upgraded),
    /// About providers.
    Provider(ProviderAnswer),
    /// About modules.
    Module(ModuleAnswer),
    /// About the registry.
    Registry(RegistryAnswer),
    /// The number of the line of what is kept.
    Kept(u64),
    Document(Document),
    /// Nothing more to say.
    Done,
}

/// The result for one target of a batch: the process as it is then, and what went wrong, if anything did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// As it was asked for; for a pattern, the name or id that matched.
    pub target: String,
    /// The process, if there is one.
    pub process: Option<Process>,
    pub error: Option<Error>,
    /// What was done, but could not be recorded, and why.
    pub unrecorded: Option<String>,
    /// It needs others, or others go when it does: who stops or restarts it may look what became of those.
    pub has_others: bool,
}

/// How a process is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub process: Process,
    pub spec: Spec,
}

/// Output bytes of one stream, in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub id: ProcessId,
    /// Of the first byte, counted over both streams since the first start.
    pub offset: u64,
    /// Standard error, not standard output.
    pub stderr: bool,
    /// When they were read.
    pub at: Timestamp,
    pub data: Bytes,
}

impl Chunk {
    pub(in crate::wire) fn into_wire(self) -> v1::Chunk {
        v1::Chunk {
            id: self.id.as_bytes().to_vec(),
            offset: self.offset,
            stderr: self.stderr,
            at: self.at.0,
            data: self.data,
        }
    }
}

/// Output bytes that were overwritten before they could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub id: ProcessId,
    /// Of the first one missed.
    pub offset: u64,
    pub missed: u64,
}

/// The memory of one process's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    /// Bytes that it keeps.
    pub keep: u64,
    /// The process is at rest, or removed: what it has written so far is all there is.
    pub over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Environment {
    pub env: Vec<(String, String)>,
    /// Why a change is not recorded, if it is not.
    pub unrecorded: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventBatch {
    pub events: Vec<Event>,
    /// How many came before the first of these and are no longer kept.
    pub missed: u64,
}

/// About the service itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub version: String,
    /// Pid of the keeper: the one to signal to end the service.
    pub keeper_pid: u32,
    /// Pid of the engine.
    pub engine_pid: u32,
    /// When the service started.
    pub started_at: Timestamp,
    /// How often an engine was started; 1 when none ever died.
    pub engine_starts: u64,
    /// How many processes are known.
    pub processes: u32,
    /// How many of them run.
    pub running: u32,
    /// Whether each process gets a cgroup of its own.
    pub cgroups: bool,
    /// The keeper's version; empty when it does not tell.
    pub keeper_version: String,
    /// The number of the last event; 0 through a gateway.
    pub last_event: u64,
    /// The service is about to end; not told through a gateway.
    pub is_stopping: bool,
}

/// What an upgrade came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    pub before: String,
    pub after: String,
    /// The binary that runs now.
    pub path: String,
}

/// Whether more replies follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    Follows,
    /// This was the last one.
    Last,
}

impl Reply {
    /// Encoded, without the frame.
    #[must_use]
    pub fn encode(&self, more: More) -> Vec<u8> {
        self.to_wire(more).encode_to_vec()
    }

    /// Encoded right into `out`, as a frame.
    pub fn put(&self, more: More, out: &mut Vec<u8>) -> Result<(), Error> {
        frame::put_message(out, &self.to_wire(more))
    }

    fn to_wire(&self, more: More) -> v1::Reply {
        v1::Reply { last: more == More::Last, body: Some(self.to_body()) }
    }

    pub(in crate::wire) fn to_body(&self) -> Body {
        match self {
            Self::Error(e) => Body::Error(e.to_wire()),
            Self::Item(i) => Body::Item(v1::Item {
                target: i.target.clone(),
                process: i.process.as_ref().map(Process::to_wire),
                error: i.error.as_ref().map(Error::to_wire),
                unrecorded: i.unrecorded.clone().unwrap_or_default(),
                has_others: i.has_others,
            }),
            Self::Processes(all) => {
                Body::Processes(v1::Processes { processes: all.iter().map(Process::to_wire).collect() })
            }
            Self::Definition(d) => Body::Definition(v1::Definition {
                process: Some(d.process.to_wire()),
                spec: Some(d.spec.to_wire()),
            }),
            Self::Chunk(c) => Body::Chunk(c.clone().into_wire()),
            Self::Gap(g) => {
                Body::Gap(v1::Gap { id: g.id.as_bytes().to_vec(), offset: g.offset, missed: g.missed })
            }
            Self::Rings(rings) => Body::Rings(v1::Rings {
                rings: rings.iter().map(|r| v1::Ring { keep: r.keep, over: r.over }).collect(),
            }),
            Self::Environment(e) => Body::Environment(v1::Environment {
                env: pairs_to_wire(&e.env),
                unrecorded: e.unrecorded.clone().unwrap_or_default(),
            }),
            Self::Health(health) => Body::Health(health.to_wire()),
            Self::Events(b) => Body::Events(v1::EventBatch {
                events: b.events.iter().map(Event::to_wire).collect(),
                missed: b.missed,
            }),
            Self::Service(s) => Body::Service(v1::ServiceInfo {
                version: s.version.clone(),
                keeper_pid: s.keeper_pid,
                engine_pid: s.engine_pid,
                started_at: s.started_at.0,
                engine_starts: s.engine_starts,
                processes: s.processes,
                running: s.running,
                cgroups: s.cgroups,
                keeper_version: s.keeper_version.clone(),
                last_event: s.last_event,
                stopping: s.is_stopping,
            }),
            Self::Upgraded(u) => Body::Upgraded(v1::Upgraded {
                before: u.before.clone(),
                after: u.after.clone(),
                path: u.path.clone(),
            }),
            Self::Audit(lines) => {
                Body::Audit(v1::AuditLines { lines: lines.iter().map(AuditLine::to_wire).collect() })
            }
            Self::Provider(answer) => Body::Provider(answer.to_wire()),
            Self::Module(answer) => Body::Module(answer.to_wire()),
            Self::Registry(answer) => Body::Registry(answer.to_wire()),
            Self::Kept(line) => Body::Kept(*line),
            Self::Document(document) => Body::Document(document.to_wire()),
            Self::Done => Body::Done(v1::Empty {}),
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<(Self, More), Error> {
        let w =
            v1::Reply::decode(bytes).map_err(|e| Error::usage(format!("cannot decode the reply: {e}")))?;
        let unknown = || Error::usage("a reply of a kind that this client does not know");
        let reply = Self::from_body(w.body.ok_or_else(unknown)?)?;
        Ok((reply, if w.last { More::Last } else { More::Follows }))
    }

    pub(in crate::wire) fn from_body(body: Body) -> Result<Self, Error> {
        Ok(match body {
            Body::Error(e) => Self::Error(Error::from_wire(e)),
            Body::Item(i) => Self::Item(Item {
                target: i.target,
                process: i.process.map(Process::from_wire).transpose()?,
                error: i.error.map(Error::from_wire),
                unrecorded: (!i.unrecorded.is_empty()).then_some(i.unrecorded),
                has_others: i.has_others,
            }),
            Body::Processes(all) => {
                Self::Processes(all.processes.into_iter().map(Process::from_wire).collect::<Result<_, _>>()?)
            }
            Body::Definition(d) => {
                let lacking = || Error::usage("a definition without its process or its spec");
                Self::Definition(Box::new(Definition {
                    process: Process::from_wire(d.process.ok_or_else(lacking)?)?,
                    spec: Spec::from_wire(d.spec.ok_or_else(lacking)?)?,
                }))
            }
            Body::Chunk(c) => Self::Chunk(Chunk {
                id: ProcessId::from_wire(&c.id)?,
                offset: c.offset,
                stderr: c.stderr,
                at: Timestamp(c.at),
                data: c.data,
            }),
            Body::Gap(g) => {
                Self::Gap(Gap { id: ProcessId::from_wire(&g.id)?, offset: g.offset, missed: g.missed })
            }
            Body::Rings(r) => {
                Self::Rings(r.rings.into_iter().map(|r| RingState { keep: r.keep, over: r.over }).collect())
            }
            Body::Environment(e) => Self::Environment(Environment {
                env: pairs_from_wire(e.env),
                unrecorded: (!e.unrecorded.is_empty()).then_some(e.unrecorded),
            }),
            Body::Health(health) => Self::Health(Health::from_wire(health)?),
            Body::Events(b) => Self::Events(EventBatch {
                events: b.events.into_iter().map(Event::from_wire).collect::<Result<_, _>>()?,
                missed: b.missed,
            }),
            Body::Service(s) => Self::Service(Service {
                version: s.version,
                keeper_pid: s.keeper_pid,
                engine_pid: s.engine_pid,
                started_at: Timestamp(s.started_at),
                engine_starts: s.engine_starts,
                processes: s.processes,
                running: s.running,
                cgroups: s.cgroups,
                keeper_version: s.keeper_version,
                last_event: s.last_event,
                is_stopping: s.stopping,
            }),
            Body::Upgraded(u) => Self::Upgraded(Upgraded { before: u.before, after: u.after, path: u.path }),
            Body::Audit(a) => Self::Audit(a.lines.into_iter().map(AuditLine::from_wire).collect()),
            Body::Provider(answer) => Self::Provider(ProviderAnswer::from_wire(answer)?),
            Body::Module(answer) => Self::Module(ModuleAnswer::from_wire(answer)?),
            Body::Registry(answer) => Self::Registry(RegistryAnswer::from_wire(answer)?),
            Body::Kept(line) => Self::Kept(line),
            Body::Document(document) => Self::Document(Document::from_wire(document)?),
            Body::Done(v1::Empty {}) => Self::Done,
        })
    }
}
