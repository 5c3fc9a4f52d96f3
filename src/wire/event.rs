//! Something that happened to a process or to the service, numbered without gaps.

use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::process::Exit;
use crate::wire::proto::v1;
use crate::wire::time::Timestamp;

/// What the detail of a signal ends with that the survivors of a run get which ended by itself.
pub const LEFT_BEHIND: &str = "that it left behind";

/// The details of a stop that ended no run, so that there is no [`EventKind::Stopping`] of it.
pub const STOPPED_WAITING: &str = "while it waited for its next attempt";
/// The same of one with a schedule.
pub const STOPPED_SCHEDULE: &str = "its schedule is suspended";

/// What the cause begins with of what follows from the end of a process that it requires, whose name is
/// behind it.
pub const CAUSE_DEPENDENCY: &str = "dependency ";
/// What stands in the cause between who asked and the process that was asked for, where that requires this
/// one.
pub const CAUSE_FOR: &str = ", for ";

/// Whether the cause is what was done to another process.
pub fn is_of_another(cause: &str) -> bool {
    cause.starts_with(CAUSE_DEPENDENCY) || cause.contains(CAUSE_FOR)
}

/// The cause of events that follow from what a new engine or service has found.
pub const CAUSE_RECONCILER: &str = "reconciler";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A newer service's kind that this program does not know.
    #[default]
    Unknown,
    Created,
    /// A run began: the program executes.
    Started,
    /// A start did not come to an exec.
    StartFailed,
    Ready,
    /// The process ended; others of its tree may be left.
    Exited,
    /// A run failed, and another attempt is due.
    AttemptFailed,
    /// Too many failures: there will be no other attempt.
    GaveUp,
    Stopping,
    /// The grace ended, SIGKILL was sent.
    Killed,
    /// Something would not die.
    Stuck,
    /// Nothing of it is left.
    Stopped,
    /// A person sent it a signal.
    Signalled,
    /// Is no longer known.
    Removed,
    /// A process has outlived its service, and the new one looks after it. In old databases also what is
    /// `TakenOver` now.
    Adopted,
    /// The global environment changed.
    EnvChanged,
    /// A run ended, or was given up, without anybody having seen its end.
    Lost,
    /// A new engine goes on with what runs.
    TakenOver,
    /// A process is to be run in another way.
    Updated,
    /// A provider has an entry in the registry.
    ProviderRegistered,
    /// It has none any more.
    ProviderUnregistered,
    /// A provider runs and is initialised.
    ProviderStarted,
    /// Its process was ended.
    ProviderStopped,
    /// A start failed, or it crashed, or a check or its end did.
    ProviderError,
    /// It says something else of its health than before.
    HealthStatusChanged,
    /// Calls do not pass any more.
    CircuitBreakerOpened,
    /// A call is let through, to see.
    CircuitBreakerHalfOpen,
    /// Calls pass again.
    CircuitBreakerClosed,
    /// A person holds it open.
    CircuitBreakerIsolated,
    /// A probe says that a run has failed: it is ended.
    Unfit,
    /// A running process said that it is ready no more.
    Unready,
    /// A time of a schedule passed without a run of its own.
    Missed,
    /// Nobody executes a module that is expected.
    ModuleMissing,
    /// Somebody does again.
    ModuleBack,
    /// A provider of modules beats, and its executor does not answer.
    ModuleDeaf,
    /// A new version of modules is to be tried.
    CanaryStarted,
    /// A member of it has passed, or all have.
    CanaryPromoted,
    /// A member of it has failed, or goes back with it.
    CanaryRolledBack,
    /// A person has ended it.
    CanaryAborted,
    /// Another process of its tree is its main one from here on.
    Forked,
    /// It was essential and has ended for good: the service ends.
    EndsService,
    /// A program beside its life has failed.
    HookFailed,
    /// Something of its tree was killed for want of memory, and it goes on.
    OomKilled,
    /// It holds more memory than it is to, and is restarted.
    OverMemory,
}

/// An event that has no number and no time yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub kind: EventKind,
    pub detail: String,
}

/// Kinds with their numbers on the wire and names: the one list of them.
const KINDS: [(EventKind, v1::EventKind, &str); 44] = [
    (EventKind::Unknown, v1::EventKind::Unknown, "unknown"),
    (EventKind::Created, v1::EventKind::Created, "created"),
    (EventKind::Started, v1::EventKind::Started, "started"),
    (EventKind::StartFailed, v1::EventKind::StartFailed, "start-failed"),
    (EventKind::Ready, v1::EventKind::Ready, "ready"),
    (EventKind::Exited, v1::EventKind::Exited, "exited"),
    (EventKind::AttemptFailed, v1::EventKind::AttemptFailed, "attempt-failed"),
    (EventKind::GaveUp, v1::EventKind::GaveUp, "gave-up"),
    (EventKind::Stopping, v1::EventKind::Stopping, "stopping"),
    (EventKind::Killed, v1::EventKind::Killed, "killed"),
    (EventKind::Stuck, v1::EventKind::Stuck, "stuck"),
    (EventKind::Stopped, v1::EventKind::Stopped, "stopped"),
    (EventKind::Signalled, v1::EventKind::Signalled, "signalled"),
    (EventKind::Removed, v1::EventKind::Removed, "removed"),
    (EventKind::Adopted, v1::EventKind::Adopted, "adopted"),
    (EventKind::EnvChanged, v1::EventKind::EnvChanged, "env-changed"),
    (EventKind::Lost, v1::EventKind::Lost, "lost"),
    (EventKind::TakenOver, v1::EventKind::TakenOver, "taken-over"),
    (EventKind::Updated, v1::EventKind::Updated, "updated"),
    (EventKind::ProviderRegistered, v1::EventKind::ProviderRegistered, "provider-registered"),
    (EventKind::ProviderUnregistered, v1::EventKind::ProviderUnregistered, "provider-unregistered"),
    (EventKind::ProviderStarted, v1::EventKind::ProviderStarted, "provider-started"),
    (EventKind::ProviderStopped, v1::EventKind::ProviderStopped, "provider-stopped"),
    (EventKind::ProviderError, v1::EventKind::ProviderError, "provider-error"),
    (EventKind::HealthStatusChanged, v1::EventKind::HealthStatusChanged, "health-status-changed"),
    (EventKind::CircuitBreakerOpened, v1::EventKind::CircuitBreakerOpened, "circuit-breaker-opened"),
    (EventKind::CircuitBreakerHalfOpen, v1::EventKind::CircuitBreakerHalfOpen, "circuit-breaker-half-open"),
    (EventKind::CircuitBreakerClosed, v1::EventKind::CircuitBreakerClosed, "circuit-breaker-closed"),
    (EventKind::CircuitBreakerIsolated, v1::EventKind::CircuitBreakerIsolated, "circuit-breaker-isolated"),
    (EventKind::Unfit, v1::EventKind::Unfit, "unfit"),
    (EventKind::Unready, v1::EventKind::Unready, "unready"),
    (EventKind::Missed, v1::EventKind::Missed, "missed"),
    (EventKind::ModuleMissing, v1::EventKind::ModuleMissing, "module-missing"),
    (EventKind::ModuleBack, v1::EventKind::ModuleBack, "module-back"),
    (EventKind::ModuleDeaf, v1::EventKind::ModuleDeaf, "module-deaf"),
    (EventKind::CanaryStarted, v1::EventKind::CanaryStarted, "canary-started"),
    (EventKind::CanaryPromoted, v1::EventKind::CanaryPromoted, "canary-promoted"),
    (EventKind::CanaryRolledBack, v1::EventKind::CanaryRolledBack, "canary-rolled-back"),
    (EventKind::CanaryAborted, v1::EventKind::CanaryAborted, "canary-aborted"),
    (EventKind::Forked, v1::EventKind::Forked, "forked"),
    (EventKind::EndsService, v1::EventKind::EndsService, "ends-service"),
    (EventKind::HookFailed, v1::EventKind::HookFailed, "hook-failed"),
    (EventKind::OomKilled, v1::EventKind::OomKilled, "oom-killed"),
    (EventKind::OverMemory, v1::EventKind::OverMemory, "over-memory"),
];

/// The detail of a `Ready` of a run that was ready before.
pub const READY_AGAIN: &str = "again";

impl EventKind {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|k| k.0 == self).map_or("unknown", |k| k.2)
    }

    /// The kind of this name; unknown when there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        KINDS.iter().find(|k| k.2 == name).map_or(Self::Unknown, |k| k.0)
    }

    /// Whether it is about a provider: those are told by their host, not by the engine.
    #[must_use]
    pub fn is_of_provider(self) -> bool {
        match self {
            Self::ProviderRegistered
            | Self::ProviderUnregistered
            | Self::ProviderStarted
            | Self::ProviderStopped
            | Self::ProviderError
            | Self::HealthStatusChanged
            | Self::CircuitBreakerOpened
            | Self::CircuitBreakerHalfOpen
            | Self::CircuitBreakerClosed
            | Self::CircuitBreakerIsolated => true,
            Self::Unknown
            | Self::Created
            | Self::Started
            | Self::StartFailed
            | Self::Ready
            | Self::Exited
            | Self::AttemptFailed
            | Self::GaveUp
            | Self::Stopping
            | Self::Killed
            | Self::Stuck
            | Self::Stopped
            | Self::Signalled
            | Self::Removed
            | Self::Adopted
            | Self::EnvChanged
            | Self::Lost
            | Self::TakenOver
            | Self::Updated
            | Self::Unfit
            | Self::Unready
            | Self::Missed
            | Self::ModuleMissing
            | Self::ModuleBack
            | Self::ModuleDeaf
            | Self::CanaryStarted
            | Self::CanaryPromoted
            | Self::CanaryRolledBack
            | Self::CanaryAborted
            | Self::Forked
            | Self::EndsService
            | Self::HookFailed
            | Self::OomKilled
            | Self::OverMemory => false,
        }
    }

    /// Whether it is about modules: the same.
    #[must_use]
    pub fn is_of_modules(self) -> bool {
        matches!(
            self,
            Self::ModuleMissing
                | Self::ModuleBack
                | Self::ModuleDeaf
                | Self::CanaryStarted
                | Self::CanaryPromoted
                | Self::CanaryRolledBack
                | Self::CanaryAborted
        )
    }

    fn to_wire(self) -> v1::EventKind {
        KINDS.iter().find(|k| k.0 == self).map_or(v1::EventKind::Unknown, |k| k.1)
    }

    fn from_wire(kind: i32) -> Self {
        KINDS.iter().find(|k| k.1 as i32 == kind).map_or(Self::Unknown, |k| k.0)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its number; the next event has the next one.
    pub seq: u64,
    pub at: Timestamp,
    /// The same by the monotonic clock, ms: comparable within one boot.
    pub mono_ms: u64,
    /// To which process; none: to the service.
    pub id: Option<ProcessId>,
    /// That process's name, or empty.
    pub name: String,
    pub run: u64,
    pub pid: Option<u32>,
    pub kind: EventKind,
    /// Who, or which rule.
    pub cause: String,
    /// How the run ended.
    pub exit: Option<Exit>,
    /// More, in words; never an environment value.
    pub detail: String,
}

impl Event {
    /// Encoded, as the feed keeps it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.to_wire())
    }

    /// Decodes what [`Event::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let event = <v1::Event as prost::Message>::decode(bytes)
            .map_err(|e| Error::usage(format!("cannot decode an event: {e}")))?;
        Self::from_wire(event)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Event {
        v1::Event {
            seq: self.seq,
            at: self.at.0,
            mono_ms: self.mono_ms,
            id: self.id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            name: self.name.clone(),
            run: self.run,
            kind: self.kind.to_wire() as i32,
            cause: self.cause.clone(),
            exit: self.exit.map(Exit::to_wire),
            detail: self.detail.clone(),
            pid: self.pid.unwrap_or(0),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::Event) -> Result<Self, Error> {
        Ok(Self {
            seq: w.seq,
            at: Timestamp(w.at),
            mono_ms: w.mono_ms,
            id: if w.id.is_empty() { None } else { Some(ProcessId::from_wire(&w.id)?) },
            name: w.name,
            run: w.run,
            pid: (w.pid != 0).then_some(w.pid),
            kind: EventKind::from_wire(w.kind),
            cause: w.cause,
            exit: w.exit.as_ref().and_then(Exit::from_wire),
            detail: w.detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_another_says_so_in_its_cause() {
        for cause in ["dependency db", "uid 0, for web", "api of tests, for web-1"] {
            assert!(is_of_another(cause), "{cause}");
        }
        for cause in ["", "uid 0", "restart policy", CAUSE_RECONCILER, "uid 0 for web"] {
            assert!(!is_of_another(cause), "{cause}");
        }
    }
}
