//! What can be asked of the service: one enum, which both ends decode to and encode from. A new request does
//! not compile until engine, gateway and client have an answer to it.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message;

use crate::wire::audit::{AuditLog, Note};
use crate::wire::error::Error;
use crate::wire::event::Event;
use crate::wire::grpc_probe::GrpcProbe;
use crate::wire::id::{ProcessId, UpgradeId};
use crate::wire::keep::Keep;
use crate::wire::module::ModuleCall;
use crate::wire::proto::v1::request::Body;
use crate::wire::proto::{same_variants, v1};
use crate::wire::provider::ProviderCall;
use crate::wire::registry::RegistryCall;
use crate::wire::spec::{INSTANCES_MAX, Scope, Spec, known, pairs_from_wire, pairs_to_wire};
use crate::wire::time::millis;

/// The version of the command channel.
pub const CHANNEL_VERSION: u32 = 1;
/// How many connections a service gives to its clients at a time.
pub const CONNECTIONS_MAX: usize = 512;
/// The most processes whose memory is shared with one reply.
pub const SHARED_MAX: usize = 8;
/// The most events that a host announces at once.
pub const ANNOUNCED_MAX: usize = 64;
/// The most targets of one request.
pub const TARGETS_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new process or several instances.
    Start(Box<Start>),
    /// Start again what is stopped.
    StartAgain(Vec<String>),
    /// Have a process run in another way.
    Update(Box<Update>),
    /// How processes are to be run, with all values.
    Definitions(Vec<String>),
    Stop(Stop),
    Restart(Vec<String>),
    Remove(Remove),
    Signal(Signal),
    /// Wait for a state.
    Wait(Wait),
    Status(Status),
    List(List),
    /// The output kept, in one instant.
    Output(Output),
    /// Output as it comes.
    Stream(Stream),
    /// Output where it lies.
    Follow(Follow),
    /// Show or change the global environment.
    Env(EnvChange),
    Events(Events),
    /// About the service itself.
    Service,
    /// Move the service to another binary.
    Upgrade(Upgrade),
    /// How the service is.
    Health,
    /// Who asked for what.
    AuditLog(AuditLog),
    /// Put on record that something was refused.
    Note(Note),
    /// About providers: of the host, not of the engine.
    Provider(ProviderCall),
    /// About the registry: of the host, not of the engine.
    Registry(RegistryCall),
    /// What happened to providers, from their host: the engine gives it numbers.
    Announce(Vec<Event>),
    /// The process that hosts providers is to run.
    Host,
    /// The socket for gRPC on this machine, beside the reply.
    GrpcListener,
    /// What the gateway works with, as descriptors beside the reply. `listens`: with its listener.
    GatewaySetup {
        listens: bool,
    },
    /// The gateway is to be as the configuration says by now.
    Reload,
    /// About modules: of the host.
    Module(ModuleCall),
    /// How a server of gRPC is: of the host, asked by the engine.
    GrpcProbe(GrpcProbe),
    /// A change of the host's, and what is kept of it.
    Keep(Box<Keep>),
    /// All documents of this kind.
    Documents(String),
    /// The output of this process waits for its reader while this lasts.
    Hold(ProcessId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub spec: Spec,
    /// One id for each instance, chosen by the client: a repeated request finds what the first one made.
    pub ids: Vec<ProcessId>,
    /// Whether the instances are numbered.
    pub numbering: Numbering,
}

/// A process keeps its id, its name, its history and its output, and is run as this says from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// One process.
    pub target: String,
    /// All of how it is to be run, with its present name.
    pub spec: Spec,
    pub outdated: OutdatedRun,
}

/// What becomes of a run that is of an older definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutdatedRun {
    /// Another one follows at once.
    Restart,
    /// It goes on until it ends.
    Continue,
}

/// Whether names get the number of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// One process, its name as it is.
    Single,
    /// The names are NAME-1 to NAME-N.
    Numbered,
    /// The same from this number on, 1 or more: some of several.
    From(u32),
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Stop {
    pub targets: Vec<String>,
    /// Instead of the spec's signal.
    pub signal: Option<u32>,
    /// Instead of the spec's grace.
    pub timeout: Option<Duration>,
    /// Instead of the spec's scope.
    pub scope: Option<Scope>,
    /// At the end of the grace leave it running.
    pub no_kill: bool,
    /// What has a schedule keeps it: only its run ends.
    pub keep_schedule: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Remove {
    pub targets: Vec<String>,
    /// Stop first what still runs.
    pub force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    pub targets: Vec<String>,
    pub signal: u32,
    pub scope: Scope,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Until {
    /// At rest: stopped or failed.
    #[default]
    Stopped,
    Running,
    Ready,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wait {
    pub targets: Vec<String>,
    pub until: Until,
    /// How long at most; for ever when none is given.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Status {
    pub targets: Vec<String>,
    /// Also whether a signal has halted it, which takes a look at each.
    pub look: bool,
}

impl From<Vec<String>> for Status {
    /// As the service knows them.
    fn from(targets: Vec<String>) -> Self {
        Self { targets, look: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct List {
    /// Only names that match; all when none is given.
    pub pattern: Option<String>,
    /// Also what the service runs for itself.
    pub all: bool,
    /// Only those behind this one, in the order of creation; it need not be there any more.
    pub after: Option<ProcessId>,
    /// At most so many; 0: all.
    pub max: u32,
    /// With what each takes of the machine, which takes a look at all its processes.
    pub usage: bool,
    /// Only those whose last change follows from what was done to another process: its cause names that one.
    pub followers: bool,
}

/// Which of a process's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StreamKind {
    /// Standard output and standard error, in the order they came.
    #[default]
    Both,
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub target: String,
    pub kind: StreamKind,
}

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Since {
    /// At the oldest byte kept.
    Start,
    /// With what comes next.
    #[default]
    Now,
    /// At this byte, counted over both streams since the first start.
    Offset(u64),
    /// At a byte of its own for each target, in their order: how a client goes on after a broken connection.
    Offsets(Vec<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub targets: Vec<String>,
    pub kind: StreamKind,
    pub since: Since,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Follow {
    pub ids: Vec<ProcessId>,
    /// The byte of each that comes next: answered when there is one, or when the process is at rest.
    pub offsets: Vec<u64>,
    /// Answer at once, with the memory of at most [`SHARED_MAX`] processes beside the reply.
    pub share: bool,
    /// The asker is the reader for whom their output waits, see [`Request::Hold`].
    pub hold: bool,
}

impl Numbering {
    /// The number of the first one, if they are numbered.
    #[must_use]
    pub fn first(self) -> Option<u32> {
        match self {
            Self::Single => None,
            Self::Numbered => Some(1),
            Self::From(first) => Some(first.max(1)),
        }
    }

    fn from_wire(instances: bool, first: u32) -> Self {
        match (instances, first) {
            (false, _) => Self::Single,
            (true, 0 | 1) => Self::Numbered,
            (true, first) => Self::From(first),
        }
    }
}

/// See [`Request::Env`]. Without any change it shows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EnvChange {
    pub set: Vec<(String, String)>,
    pub unset: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Events {
    /// Events after this number.
    pub since: u64,
    /// Go on as they happen.
    pub follow: bool,
    /// Only of this process.
    pub target: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Chosen by the client: a repeated request finds what came of the first one.
    pub id: UpgradeId,
    /// The binary, absolute; none: where the service was started from.
    pub path: Option<String>,
}

impl Request {
    /// What goes into the envelope on the command channel.
    pub(crate) fn to_body(&self) -> Body {
        let targets = |t: &Vec<String>| v1::Targets { targets: t.clone() };
        match self {
            Self::Start(r) => Body::Start(v1::Start {
                spec: Some(r.spec.to_wire()),
                ids: r.ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
                instances: r.numbering != Numbering::Single,
                count: 0,
                first: r.numbering.first().unwrap_or(0),
            }),
            Self::StartAgain(t) => Body::StartAgain(v1::StartAgain { targets: t.clone() }),
            Self::Update(r) => Body::Update(v1::Update {
                target: r.target.clone(),
                spec: Some(r.spec.to_wire()),
                restart: r.outdated == OutdatedRun::Restart,
            }),
            Self::Definitions(t) => Body::Definitions(targets(t)),
            Self::Stop(r) => Body::Stop(v1::StopTargets {
                targets: r.targets.clone(),
                signal: r.signal,
                timeout_ms: r.timeout.map(millis),
                scope: r.scope.map(|s| s.to_wire() as i32),
                no_kill: r.no_kill,
                keep_schedule: r.keep_schedule,
            }),
            Self::Restart(t) => Body::Restart(targets(t)),
            Self::Remove(r) => Body::Remove(v1::Remove { targets: r.targets.clone(), force: r.force }),
            Self::Signal(r) => Body::Signal(v1::Signal {
                targets: r.targets.clone(),
                signal: r.signal,
                scope: r.scope.to_wire() as i32,
            }),
            Self::Wait(r) => Body::Wait(v1::Wait {
                targets: r.targets.clone(),
                until: r.until.to_wire() as i32,
                timeout_ms: r.timeout.map(millis),
            }),
            Self::Status(r) => Body::Status(v1::Status { targets: r.targets.clone(), look: r.look }),
            Self::List(r) => {
                let after = r.after.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
                let pattern = r.pattern.clone().unwrap_or_default();
                let List { all, max, usage, followers, .. } = *r;
                Body::List(v1::List { pattern, all, after, max, usage, followers })
            }
            Self::Output(r) => {
                Body::Output(v1::Output { target: r.target.clone(), kind: r.kind.to_wire() as i32 })
            }
            Self::Stream(r) => Body::Stream(v1::Stream {
                targets: r.targets.clone(),
                kind: r.kind.to_wire() as i32,
                since: Some(match &r.since {
                    Since::Start => v1::stream::Since::Start(true),
                    Since::Now => v1::stream::Since::Now(true),
                    Since::Offset(offset) => v1::stream::Since::Offset(*offset),
                    Since::Offsets(all) => v1::stream::Since::Offsets(v1::Offsets { offsets: all.clone() }),
                }),
            }),
            Self::Follow(r) => Body::Follow(v1::Follow {
                ids: r.ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
                offsets: r.offsets.clone(),
                lend: r.share,
                hold: r.hold,
            }),
            Self::Env(r) => Body::Env(v1::EnvChange { set: pairs_to_wire(&r.set), unset: r.unset.clone() }),
            Self::Events(r) => Body::Events(v1::Events {
                since: r.since,
                follow: r.follow,
                target: r.target.clone().unwrap_or_default(),
            }),
            Self::Service => Body::Service(v1::Service {}),
            Self::Upgrade(r) => Body::Upgrade(v1::Upgrade {
                id: r.id.as_bytes().to_vec(),
                path: r.path.clone().unwrap_or_default(),
            }),
            Self::Health => Body::Health(v1::HealthRequest {}),
            Self::AuditLog(r) => Body::AuditLog(v1::AuditLog { since: r.since, max: r.max }),
            Self::Note(r) => Body::Note(r.to_wire()),
            Self::Provider(call) => Body::Provider(call.to_wire()),
            Self::Registry(call) => Body::Registry(call.to_wire()),
            Self::Announce(events) => {
                Body::Announce(v1::Announce { events: events.iter().map(Event::to_wire).collect() })
            }
            Self::Host => Body::Host(true),
            Self::GrpcListener => Body::GrpcListener(true),
            Self::GatewaySetup { listens } => Body::GatewaySetup(*listens),
            Self::Reload => Body::Reload(true),
            Self::Module(call) => Body::Module(call.to_wire()),
            Self::GrpcProbe(probe) => Body::GrpcProbe(probe.to_wire()),
            Self::Keep(keep) => Body::Keep(keep.to_wire()),
            Self::Documents(kind) => Body::Documents(kind.clone()),
            Self::Hold(id) => Body::Hold(id.as_bytes().to_vec()),
        }
    }

    /// The same back, from the channel or from a message of gRPC; checked.
    pub(crate) fn from_body(body: Body) -> Result<Self, Error> {
        let text = |t: String| (!t.is_empty()).then_some(t);
        Ok(match body {
            Body::Start(r) => Self::Start(Box::new(Start::from_wire(r)?)),
            Body::StartAgain(r) => Self::StartAgain(checked(r.targets)?),
            Body::Update(r) => Self::Update(Box::new(Update {
                target: r.target,
                spec: Spec::asked(r.spec.ok_or_else(|| Error::usage("an update without a spec"))?)?,
                outdated: if r.restart { OutdatedRun::Restart } else { OutdatedRun::Continue },
            })),
            Body::Definitions(r) => Self::Definitions(checked(r.targets)?),
            Body::Stop(r) => Self::Stop(Stop {
                targets: checked(r.targets)?,
                signal: r.signal.map(checked_signal).transpose()?,
                timeout: r.timeout_ms.map(Duration::from_millis),
                scope: r.scope.map(|scope| known("scope", Scope::asked(scope))).transpose()?,
                no_kill: r.no_kill,
                keep_schedule: r.keep_schedule,
            }),
            Body::Restart(r) => Self::Restart(checked(r.targets)?),
            Body::Remove(r) => Self::Remove(Remove { targets: checked(r.targets)?, force: r.force }),
            Body::Signal(r) => Self::Signal(Signal {
                targets: checked(r.targets)?,
                signal: checked_signal(r.signal)?,
                scope: known("scope", Scope::asked(r.scope))?,
            }),
            Body::Wait(r) => Self::Wait(Wait {
                targets: checked(r.targets)?,
                until: known("until", Until::asked(r.until))?,
                timeout: r.timeout_ms.map(Duration::from_millis),
            }),
            Body::Status(r) => Self::Status(Status { targets: checked(r.targets)?, look: r.look }),
            Body::List(r) => {
                let after = (!r.after.is_empty()).then(|| ProcessId::from_wire(&r.after)).transpose()?;
                let v1::List { all, max, usage, followers, .. } = r;
                Self::List(List { pattern: text(r.pattern), all, after, max, usage, followers })
            }
            Body::Output(r) => {
                Self::Output(Output { target: r.target, kind: known("kind", StreamKind::asked(r.kind))? })
            }
            Body::Stream(r) => Self::Stream(Stream::from_wire(r)?),
            Body::Follow(r) => Self::Follow(Follow::from_wire(r)?),
            Body::Env(r) => Self::Env(EnvChange { set: pairs_from_wire(r.set), unset: r.unset }),
            Body::Events(r) => {
                Self::Events(Events { since: r.since, follow: r.follow, target: text(r.target) })
            }
            Body::Service(v1::Service {}) => Self::Service,
            Body::Upgrade(r) => {
                Self::Upgrade(Upgrade { id: UpgradeId::from_wire(&r.id)?, path: text(r.path) })
            }
            Body::Health(v1::HealthRequest {}) => Self::Health,
            Body::AuditLog(r) => Self::AuditLog(AuditLog { since: r.since, max: r.max }),
            Body::Note(r) => Self::Note(Note::from_wire(r)?),
            Body::Provider(call) => Self::Provider(ProviderCall::from_wire(call)?),
            Body::Registry(call) => Self::Registry(RegistryCall::from_wire(call)?),
            Body::Announce(r) if r.events.len() > ANNOUNCED_MAX => {
                return Err(Error::usage(format!("more than {ANNOUNCED_MAX} events at once")));
            }
            Body::Announce(r) => {
                Self::Announce(r.events.into_iter().map(Event::from_wire).collect::<Result<_, _>>()?)
            }
            Body::Host(_) => Self::Host,
            Body::GrpcListener(_) => Self::GrpcListener,
            Body::GatewaySetup(listens) => Self::GatewaySetup { listens },
            Body::Reload(_) => Self::Reload,
            Body::Module(call) => Self::Module(ModuleCall::from_wire(call)?),
            Body::GrpcProbe(probe) => Self::GrpcProbe(GrpcProbe::from_wire(probe)?),
            Body::Keep(keep) => Self::Keep(Box::new(Keep::from_wire(keep)?)),
            Body::Documents(kind) => Self::Documents(kind),
            Body::Hold(id) => Self::Hold(ProcessId::from_wire(&id)?),
        })
    }
}

impl Start {
    fn from_wire(r: v1::Start) -> Result<Self, Error> {
        let ids = r.ids.iter().map(|id| ProcessId::from_wire(id)).collect::<Result<Vec<_>, _>>()?;
        if let Some(id) = ids.iter().find(|id| !id.can_be_new()) {
            return Err(Error::usage(format!("{id} is no UUID of version 7 or 4")));
        }
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err(Error::usage("the same id was given twice"));
        }
        let count = if ids.is_empty() { r.count.max(1) as usize } else { ids.len() };
        if count > INSTANCES_MAX as usize {
            return Err(Error::usage(format!("{count} instances are outside 1 to {INSTANCES_MAX}")));
        }
        if r.count != 0 && r.count as usize != count {
            return Err(Error::usage(format!("{} instances with {count} ids", r.count)));
        }
        let numbering = Numbering::from_wire(r.instances, r.first);
        let last = numbering.first().map_or(0, |first| u64::from(first) + count as u64 - 1);
        if last > u64::from(INSTANCES_MAX) {
            return Err(Error::usage(format!("an instance with the number {last} is over {INSTANCES_MAX}")));
        }
        if numbering == Numbering::Single && count > 1 {
            return Err(Error::usage("several processes of one start need to be instances"));
        }
        let spec = Spec::asked(r.spec.ok_or_else(|| Error::usage("a start without a spec"))?)?;
        // A client that gives no ids cannot ask again without starting again.
        let ids = if ids.is_empty() { (0..count).map(|_| ProcessId::new()).collect() } else { ids };
        Ok(Self { spec, ids, numbering })
    }
}

impl Stream {
    fn from_wire(r: v1::Stream) -> Result<Self, Error> {
        let targets = checked(r.targets)?;
        let since = match r.since {
            Some(v1::stream::Since::Start(_)) => Since::Start,
            Some(v1::stream::Since::Offset(offset)) => Since::Offset(offset),
            Some(v1::stream::Since::Offsets(all)) if all.offsets.len() == targets.len() => {
                Since::Offsets(all.offsets)
            }
            Some(v1::stream::Since::Offsets(all)) => {
                let (offsets, count) = (all.offsets.len(), targets.len());
                return Err(Error::usage(format!("{offsets} offsets for {count} targets")));
            }
            Some(v1::stream::Since::Now(_)) | None => Since::Now,
        };
        Ok(Self { targets, kind: known("kind", StreamKind::asked(r.kind))?, since })
    }
}

impl Follow {
    fn from_wire(r: v1::Follow) -> Result<Self, Error> {
        let (count, max) = (r.ids.len(), if r.lend { SHARED_MAX } else { TARGETS_MAX });
        if count == 0 || count > max || count != r.offsets.len() {
            let offsets = r.offsets.len();
            return Err(Error::usage(format!(
                "{count} processes, 1 to {max} allowed, with {offsets} offsets"
            )));
        }
        let ids = r.ids.iter().map(|id| ProcessId::from_wire(id)).collect::<Result<_, _>>()?;
        Ok(Self { ids, offsets: r.offsets, share: r.lend, hold: r.hold })
    }
}

same_variants!(Until: Stopped, Running, Ready);
same_variants!(StreamKind: Both, Stdout, Stderr);

fn checked(targets: Vec<String>) -> Result<Vec<String>, Error> {
    if targets.is_empty() || targets.len() > TARGETS_MAX {
        return Err(Error::usage(format!("{} targets are outside 1 to {TARGETS_MAX}", targets.len())));
    }
    Ok(targets)
}

fn checked_signal(signal: u32) -> Result<u32, Error> {
    if (1..=64).contains(&signal) {
        Ok(signal)
    } else {
        Err(Error::usage(format!("there is no signal {signal}")))
    }
}

/// A side's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the channel that it speaks; in an answer, the one that was chosen.
    pub versions: Vec<u32>,
    /// Program and version, for people.
    pub program: String,
    /// Why the service will not talk.
    pub error: Option<Error>,
}

impl Hello {
    /// What this program says first.
    #[must_use]
    pub fn ours() -> Self {
        let program = format!("provost {}", env!("CARGO_PKG_VERSION"));
        Self { versions: vec![CHANNEL_VERSION], program, error: None }
    }

    /// Encoded, without the frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        v1::Hello {
            versions: self.versions.clone(),
            program: self.program.clone(),
            error: self.error.as_ref().map(Error::to_wire),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let w =
            v1::Hello::decode(bytes).map_err(|e| Error::usage(format!("cannot decode the hello: {e}")))?;
        Ok(Self { versions: w.versions, program: w.program, error: w.error.map(Error::from_wire) })
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
