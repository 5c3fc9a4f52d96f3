//! What time it is, for one who deletes what is old: a clock that is set decades ahead for a moment, or is
//! wrong when a machine starts, must not delete a history. Pure: the times come from the caller.

use crate::wire::time::Timestamp;

/// How far the wall clock may run ahead of the time that has passed before it is doubted, ms.
const AHEAD_MS: u64 = 3_600_000;
/// How long it has to stay there to be believed, ms: it was put right, or the machine slept.
const DOUBTED_MS: u64 = 3_600_000;

/// A wall clock that is believed as long as it goes on as time does. The store's thread owns it.
#[derive(Clone, Copy, Debug)]
pub struct CalmClock {
    believed: Timestamp,
    /// When that was (monotonic ms).
    at_mono: u64,
    doubted_since: Option<u64>,
}

impl CalmClock {
    /// `known`: a time that is known to have been; `mono_ms`: the present monotonic time.
    #[must_use]
    pub fn new(known: Timestamp, mono_ms: u64) -> Self {
        Self { believed: known, at_mono: mono_ms, doubted_since: None }
    }

    /// What is taken for the present when the wall clock shows `wall`. Back it may go at once: then less is
    /// old.
    pub fn now(&mut self, wall: Timestamp, mono_ms: u64) -> Timestamp {
        let expected = self.believed.0.saturating_add(mono_ms.saturating_sub(self.at_mono));
        if wall.0 <= expected.saturating_add(AHEAD_MS) {
            self.doubted_since = None;
        } else {
            let since = *self.doubted_since.get_or_insert(mono_ms);
            if mono_ms.saturating_sub(since) < DOUBTED_MS {
                return Timestamp(expected);
            }
            self.doubted_since = None;
        }
        (self.believed, self.at_mono) = (wall, mono_ms);
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DECADES: u64 = 30 * 365 * 24 * HOUR;

    #[test]
    fn a_clock_that_is_decades_ahead_for_a_moment_is_not_believed() {
        let start = 1_700_000_000_000;
        let mut clock = CalmClock::new(Timestamp(start), 1000);
        assert_eq!(clock.now(Timestamp(start + 5000), 6000), Timestamp(start + 5000));
        for n in 1..10 {
            let passed = 5000 + n * 60_000;
            let now = clock.now(Timestamp(start + passed + DECADES), 1000 + passed);
            assert_eq!(now, Timestamp(start + passed), "it is doubted, and time goes on");
        }
        assert_eq!(clock.now(Timestamp(start + 700_000), 701_000), Timestamp(start + 700_000));
        // The next jump is doubted for as long again.
        assert_eq!(clock.now(Timestamp(start + DECADES), 702_000), Timestamp(start + 701_000));
    }

    #[test]
    fn a_clock_that_stays_there_is_believed_and_one_that_goes_back_at_once() {
        let mut clock = CalmClock::new(Timestamp(0), 0);
        assert_eq!(clock.now(Timestamp(DECADES), 10), Timestamp(10));
        assert_eq!(clock.now(Timestamp(DECADES + HOUR), HOUR + 9), Timestamp(HOUR + 9));
        assert_eq!(clock.now(Timestamp(DECADES + HOUR), HOUR + 10), Timestamp(DECADES + HOUR));
        assert_eq!(clock.now(Timestamp(DECADES + HOUR + 5), HOUR + 15), Timestamp(DECADES + HOUR + 5));
        assert_eq!(clock.now(Timestamp(HOUR), HOUR + 20), Timestamp(HOUR));
    }
}
