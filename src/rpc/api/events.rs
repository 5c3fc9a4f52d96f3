//! Events as the public messages show them, and back.

use crate::rpc::api::processes::exit;
use crate::rpc::api::values::{Pairs, proto_time, same_names, time};
use crate::rpc::services::public as api;
use crate::wire::error::Error;
use crate::wire::event::{Event, EventKind};
use crate::wire::time::Timestamp;

const KINDS: Pairs<EventKind, api::ProcessEventKind> = same_names! { EventKind as ProcessEventKind:
    Created Started StartFailed Ready Exited AttemptFailed GaveUp Stopping Killed Stuck Stopped Signalled
    Removed Adopted Lost TakenOver Updated ProviderRegistered ProviderUnregistered ProviderStarted
    ProviderStopped ProviderError HealthStatusChanged CircuitBreakerOpened CircuitBreakerHalfOpen
    CircuitBreakerClosed CircuitBreakerIsolated Unfit Unready ModuleMissing ModuleBack ModuleDeaf CanaryStarted
    CanaryPromoted CanaryRolledBack CanaryAborted Missed Forked EndsService HookFailed OomKilled OverMemory;
    EnvChanged = EnvironmentChanged
};

impl From<Event> for api::ProcessEvent {
    fn from(e: Event) -> Self {
        Self {
            sequence: e.seq,
            time: Some(proto_time(e.at)),
            monotonic_ms: e.mono_ms,
            process_id: e.id.map(|id| id.to_string()).unwrap_or_default(),
            process_name: e.name,
            run: e.run,
            pid: e.pid.unwrap_or(0),
            kind: KINDS.number(e.kind),
            cause: e.cause,
            end: e.exit.map(Into::into),
            detail: e.detail,
        }
    }
}

impl TryFrom<api::ProcessEvent> for Event {
    type Error = Error;

    fn try_from(e: api::ProcessEvent) -> Result<Self, Error> {
        Ok(Self {
            seq: e.sequence,
            at: e.time.map_or(Timestamp(0), time),
            mono_ms: e.monotonic_ms,
            id: (!e.process_id.is_empty()).then(|| e.process_id.parse()).transpose()?,
            name: e.process_name,
            run: e.run,
            pid: (e.pid != 0).then_some(e.pid),
            kind: KINDS.known(e.kind).unwrap_or(EventKind::Unknown),
            cause: e.cause,
            exit: e.end.and_then(exit),
            detail: e.detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;

    #[test]
    fn an_event_of_every_kind_comes_back() {
        for (kind, _) in KINDS.0 {
            let event = Event {
                seq: 1,
                at: Timestamp(2),
                mono_ms: 3,
                id: Some(ProcessId::new()),
                name: "web".into(),
                run: 4,
                pid: Some(5),
                kind: *kind,
                cause: "uid 0".into(),
                exit: None,
                detail: "a".into(),
            };
            assert_eq!(Event::try_from(api::ProcessEvent::from(event.clone())), Ok(event));
        }
    }
}
