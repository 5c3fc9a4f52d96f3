//! How the calls of a rolling window went: how many there were, how many have failed, and how many were slow.
//! It is kept in a few parts of the window, so that it is small however many calls there are: a part is
//! forgotten as a whole. Pure.

use std::collections::VecDeque;

/// The parts of a window.
const PARTS: u64 = 10;

/// From where on a share counts.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub percent: u32,
    /// So many calls it takes.
    pub calls: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Share(VecDeque<Part>);

#[derive(Clone, Copy, Debug)]
struct Part {
    /// Its number since the beginning of the clock.
    number: u64,
    calls: u64,
    failed: u64,
    slow: u64,
}

impl Share {
    /// A call has ended: whether it has failed, and whether it was slow.
    pub fn add(&mut self, window_ms: u64, (has_failed, is_slow): (bool, bool), now_ms: u64) {
        let number = now_ms / (window_ms / PARTS).max(1);
        // One part more than the window has, which is not over yet. A clock that goes back begins anew.
        self.0.retain(|part| part.number <= number && number - part.number < PARTS);
        if self.0.back().is_none_or(|last| last.number != number) {
            self.0.push_back(Part { number, calls: 0, failed: 0, slow: 0 });
        }
        if let Some(last) = self.0.back_mut() {
            last.calls += 1;
            last.failed += u64::from(has_failed);
            last.slow += u64::from(is_slow);
        }
    }

    pub fn is_failing(&self, limit: Limit) -> bool {
        self.is_over(limit, |part| part.failed)
    }

    pub fn is_slow(&self, limit: Limit) -> bool {
        self.is_over(limit, |part| part.slow)
    }

    fn is_over(&self, limit: Limit, of: impl Fn(&Part) -> u64) -> bool {
        let calls: u64 = self.0.iter().map(|part| part.calls).sum();
        let some: u64 = self.0.iter().map(of).sum();
        calls >= u64::from(limit.calls.max(1)) && some * 100 >= calls * u64::from(limit.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_from_enough_calls_on_and_only_of_the_window() {
        let (mut share, limit) = (Share::default(), Limit { percent: 50, calls: 4 });
        let add = |share: &mut Share, has_failed, now_ms| {
            share.add(1000, (has_failed, !has_failed), now_ms);
            (share.is_failing(limit), share.is_slow(limit))
        };
        assert_eq!(add(&mut share, true, 0), (false, false));
        assert_eq!(add(&mut share, true, 10), (false, false));
        assert_eq!(add(&mut share, true, 20), (false, false), "three are too few");
        assert_eq!(add(&mut share, false, 30), (true, false));
        assert_eq!(add(&mut share, false, 950), (true, false), "three of five");
        // The first part has gone, and the four in it.
        assert_eq!(add(&mut share, true, 1000), (false, false));
        assert_eq!(add(&mut share, false, 1010), (false, false));
        assert_eq!(add(&mut share, false, 1020), (false, true), "three of four");
        // A clock that goes back does no harm, and it stays small.
        assert_eq!(add(&mut share, true, 0), (false, false));
        for n in 0..100_000 {
            add(&mut share, n % 2 == 0, n);
        }
        assert!(share.0.len() <= PARTS as usize, "{share:?}");
    }
}
