//! One alias as a state machine: who starts it, who waits, and when it is tried no more. Pure: it is told
//! what time it is, and knows nothing of processes and calls.

use std::collections::VecDeque;

/// The most starts within the window; after that it has failed until the window has passed.
const STARTS_MAX: usize = 5;
/// The window, ms.
pub const WINDOW_MS: u64 = 60_000;

/// What is so now. `R` is a run that can be used, `F` why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase<R, F> {
    Idle,
    /// A thread is at it, the others wait.
    Starting,
    Ready(R),
    Failed {
        until_ms: u64,
        why: F,
    },
}

/// What a thread that wants a run has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<R, F> {
    Use(R),
    /// Start one, and say what came of it.
    Start,
    /// Another thread is starting it: ask again when something has changed.
    Wait,
    Fail(F),
    /// There are no more runs.
    Closed,
}

#[derive(Clone, Debug)]
pub struct Machine<R, F> {
    phase: Phase<R, F>,
    /// When the starts of the window were, ms.
    recent: VecDeque<u64>,
    /// Starts since it was made.
    pub starts: u64,
    /// Runs that have ended by themselves.
    pub crashes: u64,
    /// The number of the latest attempt, whatever came of it.
    attempt: u64,
    /// The latest attempt that failed, and why.
    failure: Option<(u64, F)>,
    /// Somebody wants that the start under way is the last one for now.
    is_given_up: bool,
    /// Nobody waits any more to end what the start under way brings: who starts it does.
    is_abandoned: bool,
    /// No run is given out or started any more.
    is_closed: bool,
}

impl<R, F> Default for Machine<R, F> {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            recent: VecDeque::new(),
            starts: 0,
            crashes: 0,
            attempt: 0,
            failure: None,
            is_given_up: false,
            is_abandoned: false,
            is_closed: false,
        }
    }
}

impl<R: Clone + PartialEq, F: Clone> Machine<R, F> {
    pub fn phase(&self) -> &Phase<R, F> {
        &self.phase
    }

    /// Whether nothing runs, and nobody is at it.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Failed { .. })
    }

    /// What a thread has to do that wants a run. After [`Decision::Start`] everyone else waits until
    /// [`Machine::started`].
    pub fn get(&mut self, now_ms: u64) -> Decision<R, F> {
        match &self.phase {
            _ if self.is_closed => Decision::Closed,
            Phase::Ready(run) => Decision::Use(run.clone()),
            Phase::Starting => Decision::Wait,
            Phase::Failed { until_ms, why } if now_ms < *until_ms => Decision::Fail(why.clone()),
            Phase::Failed { .. } | Phase::Idle => {
                self.phase = Phase::Starting;
                self.attempt += 1;
                (self.is_given_up, self.is_abandoned) = (false, false);
                Decision::Start
            }
        }
    }

    /// The attempt that is under way, for those who wait for it.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Why this attempt failed, if it did.
    pub fn failure_of(&self, attempt: u64) -> Option<F> {
        self.failure.as_ref().filter(|(failed, _)| *failed == attempt).map(|(_, why)| why.clone())
    }

    /// A process was started: it counts.
    pub fn count_start(&mut self, now_ms: u64) {
        self.starts += 1;
        self.recent.push_back(now_ms);
        while self.recent.front().is_some_and(|&at| now_ms.saturating_sub(at) >= WINDOW_MS) {
            self.recent.pop_front();
        }
    }

    /// Whether a start that has failed may be tried again, for those who wait for it.
    pub fn may_try_again(&self) -> bool {
        self.recent.len() < STARTS_MAX && !self.is_given_up
    }

    /// The start that is under way is not to be tried again.
    pub fn give_up(&mut self) {
        self.is_given_up = true;
    }

    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// What the start that is under way brings is to be ended at once by who has started it.
    pub fn abandon(&mut self) {
        (self.is_given_up, self.is_abandoned) = (true, true);
    }

    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }

    /// From now on nobody gets a run; the present one can still be taken away.
    pub fn close(&mut self) {
        (self.is_given_up, self.is_closed) = (true, true);
    }

    /// Takes back [`Machine::close`].
    pub fn reopen(&mut self) {
        self.is_closed = false;
    }

    /// What came of a start. `is_of_the_start`: another one may go better, so it is tried again, but not for
    /// ever.
    pub fn started(&mut self, result: Result<R, F>, is_of_the_start: bool) {
        self.failure = result.as_ref().err().map(|why| (self.attempt, why.clone()));
        self.phase = match result {
            Ok(run) => Phase::Ready(run),
            Err(why) if is_of_the_start && self.recent.len() >= STARTS_MAX => self.failed(why),
            Err(_) => Phase::Idle,
        };
    }

    /// A run has ended by itself, for this reason. What is known of it no more changes nothing; whether it
    /// was news.
    pub fn ended(&mut self, run: &R, why: F) -> bool {
        let is_news = self.is_present(run);
        if is_news {
            self.crashes += 1;
            self.phase = if self.recent.len() >= STARTS_MAX { self.failed(why) } else { Phase::Idle };
        }
        is_news
    }

    /// A run was stopped by others, which is no failure of it; whether it was news.
    pub fn stopped(&mut self, run: &R) -> bool {
        let is_news = self.is_present(run);
        if is_news {
            self.phase = Phase::Idle;
        }
        is_news
    }

    fn is_present(&self, run: &R) -> bool {
        matches!(&self.phase, Phase::Ready(present) if present == run)
    }

    /// A run that is ready has taken the place of `old`, if that was still there or had just ended by itself.
    /// Else it is nobody's: whether it was taken.
    pub fn succeed(&mut self, old: &R, new: R) -> bool {
        let is_taken = match &self.phase {
            _ if self.is_closed => false,
            Phase::Ready(present) => present == old,
            Phase::Idle | Phase::Failed { .. } => true,
            Phase::Starting => false,
        };
        if is_taken {
            self.recent.clear();
            self.starts += 1;
            self.phase = Phase::Ready(new);
        }
        is_taken
    }

    /// When earlier hosts have started it, within the window, the oldest first: that counts here.
    pub fn started_before(&mut self, at_ms: &[u64]) {
        self.recent.extend(at_ms);
    }

    /// A run of an earlier host has ended by itself, for this reason.
    pub fn ended_before(&mut self, now_ms: u64, why: F) {
        self.crashes += 1;
        // Where nobody knows of its start, it was now.
        if self.recent.is_empty() {
            self.recent.push_back(now_ms);
        }
        self.starts += 1;
        if self.recent.len() >= STARTS_MAX {
            self.phase = self.failed(why);
        }
    }

    /// Takes the run away to be stopped; no other thread gets it any more. None: there is none, or another
    /// thread is at it.
    pub fn take(&mut self) -> Option<R> {
        match std::mem::replace(&mut self.phase, Phase::Starting) {
            Phase::Ready(run) => Some(run),
            Phase::Starting => None,
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// What was taken is gone; the next thread starts afresh.
    pub fn rest(&mut self) {
        self.phase = Phase::Idle;
    }

    /// Forgets failures.
    pub fn reset(&mut self) {
        self.recent.clear();
        if matches!(self.phase, Phase::Failed { .. }) {
            self.phase = Phase::Idle;
        }
    }

    fn failed(&self, why: F) -> Phase<R, F> {
        let until_ms = self.recent.front().map_or(0, |first| first + WINDOW_MS);
        Phase::Failed { until_ms, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type M = Machine<u32, &'static str>;

    /// A start at this time, and what comes of it.
    fn start(machine: &mut M, now: u64, result: Result<u32, &'static str>) {
        assert_eq!(machine.get(now), Decision::Start, "at {now}");
        machine.count_start(now);
        machine.started(result, true);
    }

    #[test]
    fn one_thread_starts_and_the_others_wait() {
        let mut machine = M::default();
        assert_eq!(machine.get(0), Decision::Start);
        assert_eq!((machine.get(0), machine.get(1)), (Decision::Wait, Decision::Wait));
        machine.started(Ok(7), false);
        assert_eq!((machine.get(2), machine.get(3)), (Decision::Use(7), Decision::Use(7)));
        assert_eq!(machine.failure_of(machine.attempt()), None);
    }

    #[test]
    fn who_has_waited_for_an_attempt_learns_why_it_failed() {
        let mut machine = M::default();
        assert_eq!(machine.get(0), Decision::Start);
        let waited_for = machine.attempt();
        machine.started(Err("why"), true);
        assert_eq!((machine.failure_of(waited_for), machine.get(0)), (Some("why"), Decision::Start));
        machine.started(Ok(1), true);
        assert_eq!(machine.failure_of(waited_for), None);
    }

    #[test]
    fn what_fails_again_and_again_is_left_alone_until_the_window_has_passed() {
        let mut machine = M::default();
        for n in 0..STARTS_MAX as u64 {
            start(&mut machine, n * 100, Err("why"));
        }
        assert_eq!(machine.get(500), Decision::Fail("why"));
        assert_eq!(machine.get(WINDOW_MS - 1), Decision::Fail("why"));
        start(&mut machine, WINDOW_MS, Ok(1));
        assert_eq!(machine.starts, 6);
    }

    #[test]
    fn ends_count_as_starts_do_and_a_reset_forgets_them() {
        let mut machine = M::default();
        for n in 0..STARTS_MAX as u32 {
            start(&mut machine, 0, Ok(n));
            machine.ended(&n, "crashed");
        }
        assert_eq!(machine.get(1), Decision::Fail("crashed"));
        machine.reset();
        start(&mut machine, 1, Ok(9));
        machine.ended(&8, "of another run");
        assert_eq!(machine.get(2), Decision::Use(9));
    }

    #[test]
    fn starts_of_earlier_hosts_count() {
        let mut machine = M::default();
        machine.started_before(&[0, 1000, 2000, 3000]);
        machine.ended_before(4000, "crashed");
        start(&mut machine, 5000, Ok(1));
        machine.ended(&1, "again");
        assert_eq!(machine.get(6000), Decision::Fail("again"));
        assert_eq!(machine.get(WINDOW_MS), Decision::Start, "the first of them is too long ago");
        let mut machine = M::default();
        machine.started_before(&[0, 1, 2, 3, 4]);
        machine.ended_before(5, "crashed");
        assert_eq!(machine.get(6), Decision::Fail("crashed"));
        let mut machine = M::default();
        machine.ended_before(5, "crashed");
        assert_eq!((machine.get(6), machine.starts, machine.crashes), (Decision::Start, 1, 1));
    }

    #[test]
    fn what_is_wrong_with_the_definition_does_not_count() {
        let mut machine = M::default();
        for _ in 0..100 {
            assert_eq!(machine.get(0), Decision::Start);
            machine.started(Err("no such file"), false);
        }
        assert_eq!(machine.starts, 0);
    }

    #[test]
    fn a_run_takes_the_place_of_another_that_nobody_has_taken_away() {
        let mut machine = M::default();
        start(&mut machine, 0, Ok(1));
        assert!(machine.succeed(&1, 2) && machine.get(0) == Decision::Use(2) && machine.starts == 2);
        assert!(!machine.succeed(&1, 3), "another one has taken its place");
        assert!(!machine.ended(&1, "crashed"), "the old one is known no more");
        machine.ended(&2, "crashed");
        assert!(machine.succeed(&2, 3), "the old one has ended by itself meanwhile");
        assert_eq!(machine.take(), Some(3));
        assert!(!machine.succeed(&3, 4), "it is being stopped");
        machine.rest();
        machine.close();
        assert!(!machine.succeed(&3, 4), "there are no more runs");
    }

    #[test]
    fn what_is_taken_is_nobody_elses() {
        let mut machine = M::default();
        assert_eq!(machine.take(), None);
        start(&mut machine, 0, Ok(1));
        assert_eq!(machine.take(), Some(1));
        assert_eq!((machine.take(), machine.get(0)), (None, Decision::Wait));
        machine.ended(&1, "meanwhile");
        assert_eq!(machine.get(0), Decision::Wait);
        machine.rest();
        assert_eq!(machine.get(0), Decision::Start);
    }
}
