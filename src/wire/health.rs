//! How the service is: its store, its sinks, and what it found when it began or took over.

use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::proto::v1;
use crate::wire::time::Timestamp;

/// How the service is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    pub store: Store,
    /// Where else events go.
    pub sinks: Vec<Sink>,
    pub reconciled: Reconciled,
    /// Which limits processes can have.
    pub controllers: Vec<Controller>,
}

/// Whether processes can have limits of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Controller {
    /// "memory", "cpu", "pids" or "io".
    pub name: String,
    /// Why they cannot; empty: they can.
    pub trouble: String,
    /// What to do about it.
    pub hint: String,
}

/// How the database is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Store {
    /// "sound", "degraded", "opening" or "off".
    pub state: String,
    pub path: String,
    pub why: String,
    pub since: Option<Timestamp>,
    /// Changes that are not recorded yet.
    pub unrecorded: u64,
    /// Events that were left out for ever.
    pub left_out: u64,
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    pub events: u64,
    pub sqlite: String,
}

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sink {
    pub name: String,
    /// The last event that it has dealt with.
    pub seq: u64,
    /// How many are still to come.
    pub behind: u64,
    /// How many it has delivered since this engine started.
    pub delivered: u64,
    /// How many the other side refused for ever.
    pub rejected: u64,
    /// How many were gone when their turn came.
    pub missed: u64,
    /// Attempts that failed since the last one that worked; 0: it works.
    pub failing: u32,
    pub last_error: String,
    pub last_error_at: Option<Timestamp>,
}

/// What was found when the service began, or when an engine took over.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reconciled {
    pub at: Timestamp,
    /// Why it was looked.
    pub why: String,
    /// Processes that the keeper held.
    pub found: u32,
    /// What became of each of the others.
    pub processes: Vec<RestoredProcess>,
    /// What was wrong with the database.
    pub notices: Vec<String>,
}

/// What became of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredProcess {
    pub id: ProcessId,
    /// Its name, or empty.
    pub name: String,
    /// In order: "stopped", "started", "lost", "adopted", "ended", "left".
    pub what: Vec<String>,
}

impl Health {
    pub(in crate::wire) fn to_wire(&self) -> v1::Health {
        let (store, reconciled) = (&self.store, &self.reconciled);
        v1::Health {
            store: Some(v1::StoreHealth {
                state: store.state.clone(),
                path: store.path.clone(),
                why: store.why.clone(),
                since: Timestamp::to_wire(store.since),
                unrecorded: store.unrecorded,
                left_out: store.left_out,
                bytes: store.bytes,
                wal_bytes: store.wal_bytes,
                events: store.events,
                sqlite: store.sqlite.clone(),
            }),
            sinks: (self.sinks.iter())
                .map(|s| v1::SinkHealth {
                    name: s.name.clone(),
                    seq: s.seq,
                    behind: s.behind,
                    delivered: s.delivered,
                    rejected: s.rejected,
                    missed: s.missed,
                    failing: s.failing,
                    last_error: s.last_error.clone(),
                    last_error_at: Timestamp::to_wire(s.last_error_at),
                })
                .collect(),
            controllers: (self.controllers.iter())
                .map(|c| v1::ControllerHealth {
                    name: c.name.clone(),
                    trouble: c.trouble.clone(),
                    hint: c.hint.clone(),
                })
                .collect(),
            reconciled: Some(v1::Reconciled {
                at: reconciled.at.0,
                why: reconciled.why.clone(),
                found: reconciled.found,
                fates: (reconciled.processes.iter())
                    .map(|f| v1::Fate {
                        id: f.id.as_bytes().to_vec(),
                        name: f.name.clone(),
                        what: f.what.clone(),
                    })
                    .collect(),
                notices: reconciled.notices.clone(),
            }),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::Health) -> Result<Self, Error> {
        let (store, reconciled) = (w.store.unwrap_or_default(), w.reconciled.unwrap_or_default());
        let process = |f: v1::Fate| {
            Ok(RestoredProcess { id: ProcessId::from_wire(&f.id)?, name: f.name, what: f.what })
        };
        Ok(Self {
            store: Store {
                state: store.state,
                path: store.path,
                why: store.why,
                since: Timestamp::from_wire(store.since),
                unrecorded: store.unrecorded,
                left_out: store.left_out,
                bytes: store.bytes,
                wal_bytes: store.wal_bytes,
                events: store.events,
                sqlite: store.sqlite,
            },
            sinks: (w.sinks.into_iter())
                .map(|s| Sink {
                    name: s.name,
                    seq: s.seq,
                    behind: s.behind,
                    delivered: s.delivered,
                    rejected: s.rejected,
                    missed: s.missed,
                    failing: s.failing,
                    last_error: s.last_error,
                    last_error_at: Timestamp::from_wire(s.last_error_at),
                })
                .collect(),
            controllers: (w.controllers.into_iter())
                .map(|c| Controller { name: c.name, trouble: c.trouble, hint: c.hint })
                .collect(),
            reconciled: Reconciled {
                at: Timestamp(reconciled.at),
                why: reconciled.why,
                found: reconciled.found,
                processes: reconciled.fates.into_iter().map(process).collect::<Result<_, Error>>()?,
                notices: reconciled.notices,
            },
        })
    }
}
