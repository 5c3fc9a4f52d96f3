//! How the service is, as the public messages show it, and back.

use crate::rpc::api::values::{Pairs, proto_time, time};
use crate::rpc::services::public as api;
use crate::wire::error::Error;
use crate::wire::health::{Controller, Health, Reconciled, RestoredProcess, Sink, Store};
use crate::wire::time::Timestamp;

const STORE_STATES: Pairs<&str, api::StoreState> = Pairs(&[
    ("sound", api::StoreState::Sound),
    ("degraded", api::StoreState::Degraded),
    ("opening", api::StoreState::Opening),
    ("off", api::StoreState::Off),
]);

const ACTIONS: Pairs<&str, api::RestoreAction> = Pairs(&[
    ("stopped", api::RestoreAction::Stopped),
    ("started", api::RestoreAction::Started),
    ("lost", api::RestoreAction::Lost),
    ("adopted", api::RestoreAction::Adopted),
    ("ended", api::RestoreAction::Ended),
    ("left", api::RestoreAction::Left),
]);

/// What stands for a word of a newer service.
const UNKNOWN: &str = "unknown";

impl From<Health> for api::HealthResponse {
    fn from(health: Health) -> Self {
        let (store, restored) = (health.store, health.reconciled);
        let process = |p: RestoredProcess| api::RestoredProcess {
            id: p.id.to_string(),
            name: p.name,
            actions: p.what.iter().map(|what| word_number(&ACTIONS, what)).collect(),
        };
        Self {
            store: Some(api::StoreHealth {
                state: word_number(&STORE_STATES, &store.state),
                path: store.path,
                reason: store.why,
                since: store.since.map(proto_time),
                unrecorded: store.unrecorded,
                left_out: store.left_out,
                bytes: store.bytes,
                wal_bytes: store.wal_bytes,
                events: store.events,
                sqlite_version: store.sqlite,
            }),
            sinks: health.sinks.into_iter().map(Into::into).collect(),
            controllers: (health.controllers.into_iter())
                .map(|c| api::ControllerHealth { name: c.name, trouble: c.trouble, hint: c.hint })
                .collect(),
            restored: Some(api::RestoreReport {
                time: Some(proto_time(restored.at)),
                occasion: restored.why,
                found: restored.found,
                processes: restored.processes.into_iter().map(process).collect(),
                notices: restored.notices,
            }),
        }
    }
}

impl TryFrom<api::HealthResponse> for Health {
    type Error = Error;

    fn try_from(health: api::HealthResponse) -> Result<Self, Error> {
        let (store, restored) = (health.store.unwrap_or_default(), health.restored.unwrap_or_default());
        let process = |p: api::RestoredProcess| {
            let what = p.actions.iter().map(|&action| word(&ACTIONS, action)).collect();
            Ok(RestoredProcess { id: p.id.parse()?, name: p.name, what })
        };
        Ok(Self {
            store: Store {
                state: word(&STORE_STATES, store.state),
                path: store.path,
                why: store.reason,
                since: store.since.map(time),
                unrecorded: store.unrecorded,
                left_out: store.left_out,
                bytes: store.bytes,
                wal_bytes: store.wal_bytes,
                events: store.events,
                sqlite: store.sqlite_version,
            },
            sinks: health.sinks.into_iter().map(Into::into).collect(),
            controllers: (health.controllers.into_iter())
                .map(|c| Controller { name: c.name, trouble: c.trouble, hint: c.hint })
                .collect(),
            reconciled: Reconciled {
                at: restored.time.map_or(Timestamp(0), time),
                why: restored.occasion,
                found: restored.found,
                processes: restored.processes.into_iter().map(process).collect::<Result<_, Error>>()?,
                notices: restored.notices,
            },
        })
    }
}

impl From<Sink> for api::SinkHealth {
    fn from(s: Sink) -> Self {
        Self {
            name: s.name,
            sequence: s.seq,
            behind: s.behind,
            delivered: s.delivered,
            rejected: s.rejected,
            missed: s.missed,
            failed_attempts: s.failing,
            last_error: s.last_error,
            last_error_time: s.last_error_at.map(proto_time),
        }
    }
}

impl From<api::SinkHealth> for Sink {
    fn from(s: api::SinkHealth) -> Self {
        Self {
            name: s.name,
            seq: s.sequence,
            behind: s.behind,
            delivered: s.delivered,
            rejected: s.rejected,
            missed: s.missed,
            failing: s.failed_attempts,
            last_error: s.last_error,
            last_error_at: s.last_error_time.map(time),
        }
    }
}

fn word_number<B>(pairs: &Pairs<&'static str, B>, word: &str) -> i32
where
    B: Copy + PartialEq + TryFrom<i32> + Into<i32>,
{
    pairs.0.iter().find(|(known, _)| *known == word).map_or(0, |(_, number)| (*number).into())
}

fn word<B>(pairs: &Pairs<&'static str, B>, number: i32) -> String
where
    B: Copy + PartialEq + TryFrom<i32> + Into<i32>,
{
    pairs.known(number).unwrap_or(UNKNOWN).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;

    #[test]
    fn how_the_service_is_comes_back() {
        for (state, _) in STORE_STATES.0 {
            let controller = Controller { name: "io".into(), trouble: "none".into(), hint: "do that".into() };
            let health = Health {
                controllers: vec![controller],
                store: Store {
                    state: (*state).to_owned(),
                    path: "/a".into(),
                    why: "b".into(),
                    since: Some(Timestamp(1)),
                    unrecorded: 2,
                    left_out: 3,
                    bytes: 4,
                    wal_bytes: 5,
                    events: 6,
                    sqlite: "3".into(),
                },
                sinks: vec![Sink {
                    name: "c".into(),
                    seq: 7,
                    last_error_at: Some(Timestamp(8)),
                    ..Sink::default()
                }],
                reconciled: Reconciled {
                    at: Timestamp(9),
                    why: "d".into(),
                    found: 10,
                    processes: vec![RestoredProcess {
                        id: ProcessId::new(),
                        name: "e".into(),
                        what: ACTIONS.0.iter().map(|(word, _)| (*word).to_owned()).collect(),
                    }],
                    notices: vec!["f".into()],
                },
            };
            assert_eq!(Health::try_from(api::HealthResponse::from(health.clone())), Ok(health));
        }
    }
}
