//! What of the history is kept, and so shown: the store deletes what is older a little at a time, and the
//! feed has it for longer.

use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::settings::HistorySettings;
use crate::engine::store::{CalmClock, Prune};
use crate::sys::clock;
use crate::wire::event::Event;
use crate::wire::time::{Timestamp, millis};

/// The limits of the history, and the clock by which it is judged what is old.
#[derive(Debug)]
pub struct Retention {
    pub settings: HistorySettings,
    clock: Mutex<CalmClock>,
}

impl Retention {
    #[must_use]
    pub fn new(settings: HistorySettings) -> Self {
        Self { settings, clock: Mutex::new(CalmClock::new(Timestamp::now(), clock::now_ms())) }
    }

    /// This time is known to have been.
    pub fn has_seen(&self, at: Timestamp) {
        *self.clock.lock() = CalmClock::new(at, clock::now_ms());
    }

    /// The time by which it is judged what is old.
    pub fn now(&self) -> Timestamp {
        self.clock.lock().now(Timestamp::now(), clock::now_ms())
    }

    /// What is to be deleted at present.
    pub fn prune(&self) -> Prune {
        let now = self.now();
        let ago = |keep: Duration| Timestamp(now.0.saturating_sub(millis(keep.max(Duration::from_secs(1)))));
        let HistorySettings { keep, keep_events, keep_audit, .. } = self.settings;
        Prune { before: ago(keep), keep: keep_events, audit_before: ago(keep_audit) }
    }

    /// Leaves of these events those that are kept. `newest`: the number of the newest there is.
    pub fn keep(&self, events: &mut Vec<Event>, newest: u64) {
        let prune = self.prune();
        let first = newest.saturating_sub(prune.keep).saturating_add(1);
        events.retain(|event| event.seq >= first && event.at >= prune.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::EventKind;

    fn kept(settings: HistorySettings, newest: u64) -> Vec<u64> {
        let retention = Retention::new(settings);
        let now = Timestamp::now().0;
        let event = |(seq, age)| Event {
            seq,
            at: Timestamp(now - age),
            mono_ms: 0,
            id: None,
            name: String::new(),
            run: 0,
            pid: None,
            kind: EventKind::EnvChanged,
            cause: String::new(),
            exit: None,
            detail: String::new(),
        };
        let mut events: Vec<_> = [(7, 90_000), (8, 30_000), (9, 0)].map(event).into();
        retention.keep(&mut events, newest);
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_kept_by_age_and_by_number() {
        let settings = |secs, keep_events| HistorySettings {
            keep: Duration::from_secs(secs),
            keep_events,
            ..HistorySettings::default()
        };
        assert_eq!(kept(settings(3600, 1000), 9), [7, 8, 9]);
        assert_eq!(kept(settings(60, 1000), 9), [8, 9]);
        assert_eq!(kept(settings(3600, 2), 9), [8, 9]);
        assert_eq!(kept(settings(3600, 1000), 1008), [9], "the newest counts, wherever it is");
    }
}
