//! What the keeper is at any moment. It decides nothing here.

use std::fs::File;

use crate::keeper::attempt::Attempt;
use crate::keeper::engine::Engine;
use crate::keeper::notice::Notice;
use crate::keeper::notify::Notifier;
use crate::keeper::outbox::Outbox;
use crate::keeper::resources::Resources;
use crate::keeper::table::Table;
use crate::sys::spares::Spares;
use crate::wire::time::Timestamp;
use crate::wire::upgrade::UpgradeOutcome;

/// Descriptors kept for the next engine when all others are taken: an engine that cannot be reached cannot
/// give any back.
const SPARES: usize = 8;

/// How far the end of the service has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    No,
    /// The engine stops everything in order.
    Orderly {
        until: u64,
    },
    /// The engine kills everything.
    Hurried {
        until: u64,
    },
    Done,
}

impl Stop {
    /// An orderly stop may take until then; one in a hurry waits for nobody.
    pub fn lasts_until(&mut self, then: u64) {
        if let Self::Orderly { until } = self {
            *until = (*until).max(then);
        }
    }
}

/// The keeper: what its loop in `mod.rs` owns, with upgrades in `upgrade.rs` and `handover.rs`.
pub struct Keeper<'n> {
    pub resources: Resources,
    pub table: Table,
    pub outbox: Outbox,
    /// Given up when an engine is started.
    pub spares: Spares,
    pub engine: Engine,
    pub engine_starts: u64,
    /// Engines in a row that did not work for long.
    pub short_runs: u32,
    /// The present engine has said that it is ready.
    pub engine_is_up: bool,
    pub started_at: Timestamp,
    pub stop: Stop,
    /// What the service ends with, if everything else goes well.
    pub exit_code: u8,
    pub announced: bool,
    /// An upgrade in progress.
    pub attempt: Option<Attempt>,
    /// What the last one came to.
    pub outcome: Option<UpgradeOutcome>,
    /// What engines are started from, where it is not our own program: after an upgrade that the engine made
    /// and the keeper did not.
    pub binary: Option<File>,
    pub notifier: Notifier,
    pub notify: &'n mut dyn FnMut(Notice),
}

impl<'n> Keeper<'n> {
    /// One that holds nothing yet and is about to start its first engine.
    pub fn new(resources: Resources, notify: &'n mut dyn FnMut(Notice)) -> Self {
        Self {
            resources,
            table: Table::new(),
            outbox: Outbox::default(),
            spares: Spares::new(SPARES),
            engine: Engine::Down { start_at: 0 },
            engine_starts: 0,
            short_runs: 0,
            engine_is_up: false,
            started_at: Timestamp::now(),
            stop: Stop::No,
            exit_code: 0,
            announced: false,
            attempt: None,
            outcome: None,
            binary: None,
            notifier: Notifier::from_env(),
            notify,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orderly_stop_lasts_as_long_as_the_longest_grace() {
        let after = |mut stop: Stop, then| {
            stop.lasts_until(then);
            stop
        };
        assert_eq!(after(Stop::Orderly { until: 120 }, 300), Stop::Orderly { until: 300 });
        assert_eq!(after(Stop::Orderly { until: 120 }, 20), Stop::Orderly { until: 120 });
        assert_eq!(after(Stop::Hurried { until: 5 }, 300), Stop::Hurried { until: 5 });
        assert_eq!(after(Stop::No, 300), Stop::No);
    }
}
