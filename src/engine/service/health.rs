//! How the service is, for an operator.

use crate::engine::process::limits;
use crate::engine::service::engine::Engine;
use crate::engine::write_queue::{Health as StoreHealth, Question};
use crate::wire::health::{Health, Sink, Store};

impl Engine {
    /// The store, the sinks, and the last reconciliation.
    pub fn health(&self) -> Health {
        let reconciled = self.reconciled.lock().clone();
        let controllers = limits::all(self.context.cgroups.as_ref());
        Health { store: self.store_health(), sinks: self.sink_healths(), reconciled, controllers }
    }

    fn store_health(&self) -> Store {
        let write_queue = &self.context.write_queue;
        let about = write_queue.ask(|to| Question::About { to });
        let (health, unrecorded, left_out) = write_queue.health();
        let (state, since, why) = match health {
            StoreHealth::Off => ("off", None, String::new()),
            StoreHealth::Opening => ("opening", None, String::new()),
            StoreHealth::Sound => ("sound", None, String::new()),
            StoreHealth::Degraded { since, why } => ("degraded", Some(since), why),
        };
        let mut store =
            Store { state: state.to_owned(), since, why, unrecorded, left_out, ..Store::default() };
        if let Ok(about) = about {
            store.path = about.path.to_string_lossy().into_owned();
            store.bytes = about.bytes;
            store.wal_bytes = about.wal_bytes;
            store.events = about.events.unwrap_or(0);
            store.sqlite = about.sqlite.to_owned();
        } else if let Some(dir) = write_queue.dir() {
            store.path = dir.to_string_lossy().into_owned();
        }
        store
    }

    fn sink_healths(&self) -> Vec<Sink> {
        let newest = self.context.feed.newest();
        let sinks = self.sinks.lock().clone();
        let health = |sink: &crate::engine::history::sinks::SinkState| {
            let standing = sink.standing();
            let (last_error_at, last_error) = standing.last_error.unzip();
            Sink {
                name: sink.name().to_owned(),
                seq: standing.seq,
                behind: sink.behind(newest),
                delivered: standing.delivered,
                rejected: standing.rejected,
                missed: standing.missed,
                failing: standing.failing,
                last_error: last_error.unwrap_or_default(),
                last_error_at,
            }
        };
        sinks.iter().map(health).collect()
    }
}
