//! Says when which provider is to be asked how it is. Checks come in rounds: who is checked in the same
//! interval is asked in the same moment, so what rests is woken once in an interval, and not once for each
//! provider. One thread has the schedule, which is pure, and sleeps until a round; a few threads make the
//! checks of a round and end with it. Where none of them gets on, there are more: a slow provider delays
//! nobody. One provider is never checked twice at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::provider::ProviderName;
use crate::wire::time::millis;

/// Threads that begin a round: providers answer in less than a millisecond, and two or three that do not are
/// no obstacle.
const THREADS: usize = 4;
/// The most threads; what is due beyond what they can do waits.
const THREADS_MAX: usize = 128;
/// How long nothing may get on before there are twice as many, ms.
const PATIENCE_MS: u64 = 50;
/// Messages that wait for the thread.
const QUEUE_MAX: usize = 4096;
/// A round is late by less than this part of the interval, so that services do not keep step.
const JITTER_PART: u64 = 10;

/// Checks a provider; whether it runs, and so is to be checked again.
pub type CheckOf = Arc<dyn Fn(&ProviderName) -> bool + Send + Sync>;

/// A handle: says who is to be checked.
#[derive(Clone, Debug)]
pub struct Monitor(Sender<MonitorMsg>);

#[derive(Debug)]
enum MonitorMsg {
    Watch(ProviderName, Duration),
    Unwatch(ProviderName),
    /// A thread has nothing more to check.
    Ended,
}

/// What the thread reads.
#[derive(Debug)]
pub struct MonitorQueue(Receiver<MonitorMsg>);

impl Monitor {
    #[must_use]
    pub fn new() -> (Self, MonitorQueue) {
        let (to, from) = bounded(QUEUE_MAX);
        (Self(to), MonitorQueue(from))
    }

    /// Has it checked from now on; a second time changes the interval.
    pub fn watch(&self, name: &ProviderName, interval: Duration) {
        let _ = self.0.send(MonitorMsg::Watch(name.clone(), interval));
    }

    pub fn unwatch(&self, name: &ProviderName) {
        let _ = self.0.send(MonitorMsg::Unwatch(name.clone()));
    }

    /// Begins to check.
    pub fn begin(&self, queue: MonitorQueue, check: CheckOf) -> Result<(), Error> {
        let checks = Arc::new(Checks { work: Mutex::default(), check, to: self.0.clone() });
        thread::spawn("health", move || run(&queue, &checks))
            .map(drop)
            .map_err(|e| Error::failed("start a thread", &e))
    }
}

fn run(queue: &MonitorQueue, checks: &Arc<Checks>) {
    let mut schedule = Schedule::new(RandomState::new().hash_one("health"));
    // How many waited at the last look, and when to look again.
    let (mut waited, mut look_at): (usize, Option<u64>) = (0, None);
    loop {
        let message = match [schedule.next_ms(), look_at].into_iter().flatten().min() {
            None => queue.0.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => queue.0.recv_timeout(Duration::from_millis(at.saturating_sub(clock::now_ms()))),
        };
        let now = clock::now_ms();
        match message {
            Ok(MonitorMsg::Watch(name, interval)) => schedule.watch(name, millis(interval), now),
            Ok(MonitorMsg::Unwatch(name)) => schedule.unwatch(&name),
            Ok(MonitorMsg::Ended) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let mut work = checks.work.lock();
        for (name, runs) in work.ended.drain(..) {
            schedule.done(&name, runs, now);
        }
        work.waiting.extend(schedule.take_due(now));
        let is_look = look_at.is_none_or(|at| at <= now);
        let is_stuck = look_at.is_some() && is_look && work.waiting.len() >= waited;
        checks.add_threads(&mut work, is_stuck);
        if work.threads == 0 {
            // Without a thread now, there may be one at the next turn.
            work.waiting.drain(..).for_each(|name| schedule.done(&name, true, now));
        }
        if is_look {
            (waited, look_at) = (work.waiting.len(), (!work.waiting.is_empty()).then_some(now + PATIENCE_MS));
        }
    }
}

/// What is to be checked now, shared with the threads that do it.
struct Checks {
    work: Mutex<Work>,
    check: CheckOf,
    to: Sender<MonitorMsg>,
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<ProviderName>,
    /// Who was checked, and whether they run.
    ended: Vec<(ProviderName, bool)>,
    threads: usize,
}

impl Work {
    /// How many threads are missing. `is_stuck`: none of those that there are gets on.
    fn missing(&self, is_stuck: bool) -> usize {
        let wanted = if is_stuck { self.threads * 2 } else { THREADS };
        wanted.clamp(THREADS, THREADS_MAX).saturating_sub(self.threads).min(self.waiting.len())
    }
}

impl Checks {
    fn add_threads(self: &Arc<Self>, work: &mut Work, is_stuck: bool) {
        for _ in 0..work.missing(is_stuck) {
            let ours = Arc::clone(self);
            if thread::spawn("check", move || ours.run()).is_err() {
                return;
            }
            work.threads += 1;
        }
    }

    fn run(&self) {
        while let Some(name) = self.next() {
            let runs = (self.check)(&name);
            self.work.lock().ended.push((name, runs));
        }
        let _ = self.to.send(MonitorMsg::Ended);
    }

    fn next(&self) -> Option<ProviderName> {
        let mut work = self.work.lock();
        let next = work.waiting.pop_front();
        work.threads -= usize::from(next.is_none());
        next
    }
}

/// Who is due when. Pure: it is told the time.
#[derive(Debug)]
struct Schedule {
    turns: BTreeMap<ProviderName, Turn>,
    /// Those that are not under way, by when they are due.
    due: BTreeSet<(u64, ProviderName)>,
    seed: u64,
}

#[derive(Debug)]
struct Turn {
    at_ms: u64,
    interval_ms: u64,
    is_under_way: bool,
    /// What came during the check that is under way: it is to go after it, or to stay whatever it finds.
    stays: Option<bool>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        Self { turns: BTreeMap::new(), due: BTreeSet::new(), seed }
    }

    fn watch(&mut self, name: ProviderName, interval_ms: u64, now_ms: u64) {
        let at_ms = self.next_round(interval_ms, now_ms);
        match self.turns.get_mut(&name) {
            Some(turn) if turn.is_under_way => (turn.interval_ms, turn.stays) = (interval_ms, Some(true)),
            _ => self.set(name, at_ms, interval_ms),
        }
    }

    fn unwatch(&mut self, name: &ProviderName) {
        match self.turns.get_mut(name) {
            Some(turn) if turn.is_under_way => turn.stays = Some(false),
            _ => self.remove(name),
        }
    }

    /// Those that are to be checked now; who has waited longest comes first.
    fn take_due(&mut self, now_ms: u64) -> Vec<ProviderName> {
        let mut taken = Vec::new();
        while self.next_ms().is_some_and(|at| at <= now_ms) {
            let Some((_, name)) = self.due.pop_first() else { break };
            if let Some(turn) = self.turns.get_mut(&name) {
                turn.is_under_way = true;
            }
            taken.push(name);
        }
        taken
    }

    fn done(&mut self, name: &ProviderName, runs: bool, now_ms: u64) {
        let Some(turn) = self.turns.get(name).filter(|turn| turn.is_under_way) else { return };
        let (interval_ms, stays) = (turn.interval_ms, turn.stays.unwrap_or(runs));
        if stays {
            self.set(name.clone(), self.next_round(interval_ms, now_ms), interval_ms);
        } else {
            self.remove(name);
        }
    }

    fn set(&mut self, name: ProviderName, at_ms: u64, interval_ms: u64) {
        let turn = Turn { at_ms, interval_ms, is_under_way: false, stays: None };
        if let Some(before) = self.turns.insert(name.clone(), turn) {
            self.due.remove(&(before.at_ms, name.clone()));
        }
        self.due.insert((at_ms, name));
    }

    fn remove(&mut self, name: &ProviderName) {
        if let Some(before) = self.turns.remove(name) {
            self.due.remove(&(before.at_ms, name.clone()));
        }
    }

    /// When somebody is due.
    fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    /// When all who have this interval are checked next.
    fn next_round(&self, interval_ms: u64, now_ms: u64) -> u64 {
        let begin = self.seed % interval_ms;
        let round = now_ms.saturating_sub(begin) / interval_ms;
        let at = |round: u64| {
            // One step of a congruential generator: enough to spread rounds.
            let random = (self.seed ^ round).wrapping_mul(6_364_136_223_846_793_005) >> 33;
            begin + round * interval_ms + random % (interval_ms / JITTER_PART).max(1)
        };
        if at(round) > now_ms { at(round) } else { at(round + 1) }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    fn name(n: usize) -> ProviderName {
        ProviderName::new("", &format!("p{n:03}")).unwrap()
    }

    #[test]
    fn each_is_due_in_its_interval_and_never_twice_at_a_time() {
        let mut schedule = Schedule::new(1);
        assert_eq!(schedule.next_ms(), None, "nobody wakes it");
        schedule.watch(name(1), 1000, 0);
        let first = schedule.next_ms().unwrap();
        assert!((1..1100).contains(&first) && schedule.take_due(first - 1).is_empty());
        assert_eq!(schedule.take_due(first), [name(1)]);
        assert!(schedule.take_due(first + 10_000).is_empty() && schedule.next_ms().is_none());
        schedule.done(&name(1), true, first + 10_000);
        let second = schedule.next_ms().unwrap();
        assert!((first + 10_001..first + 11_100).contains(&second));
        assert_eq!(schedule.take_due(second), [name(1)]);
        schedule.done(&name(1), false, second);
        assert!(schedule.turns.is_empty(), "it does not run any more");
    }

    #[test]
    fn who_has_the_same_interval_is_due_in_the_same_round_whenever_it_came() {
        for seed in [0, 1, 77, u64::MAX] {
            let mut schedule = Schedule::new(seed);
            (0..100).for_each(|n| schedule.watch(name(n), 30_000, 100_000 + 100 * n as u64));
            let (mut last, mut rounds) = (130_000, BTreeSet::new());
            for _ in 0..20 {
                let at = schedule.next_ms().unwrap();
                let due = schedule.take_due(at);
                // Those that came after the first round are not in it.
                assert!(due.len() == 100 || at < 133_000, "{} at {at}", due.len());
                assert!(at < 133_000 || (27_000..=33_000).contains(&(at - last)), "{at} after {last}");
                // They take a different time each.
                due.iter().enumerate().for_each(|(n, name)| schedule.done(name, true, at + 10 * n as u64));
                last = at;
                rounds.insert((at - seed % 30_000) % 30_000);
            }
            assert!(rounds.len() > 10, "they are not regular to the millisecond: {rounds:?}");
        }
    }

    #[test]
    fn who_has_waited_longest_is_next() {
        let mut schedule = Schedule::new(1);
        schedule.watch(name(1), 10_000, 0);
        schedule.watch(name(2), 100, 0);
        assert_eq!(schedule.take_due(20_000), [name(2), name(1)]);
    }

    #[test]
    fn what_comes_during_a_check_holds_after_it() {
        let mut schedule = Schedule::new(1);
        schedule.watch(name(1), 10, 0);
        schedule.take_due(100);
        schedule.unwatch(&name(1));
        schedule.done(&name(1), true, 100);
        assert!(schedule.turns.is_empty());
        // It runs again before the check has found that it did not.
        schedule.watch(name(1), 10, 0);
        schedule.take_due(200);
        schedule.unwatch(&name(1));
        schedule.watch(name(1), 20, 200);
        schedule.done(&name(1), false, 200);
        assert!(schedule.next_ms().is_some());
    }

    #[test]
    fn a_round_has_a_few_threads_and_twice_as_many_where_none_gets_on() {
        let work = |waiting: usize, threads| Work {
            waiting: (0..waiting).map(name).collect(),
            ended: Vec::new(),
            threads,
        };
        assert_eq!([0, 1, 3, 100].map(|waiting| work(waiting, 0).missing(false)), [0, 1, 3, THREADS]);
        assert_eq!(work(100, THREADS).missing(false), 0);
        assert_eq!(work(100, THREADS).missing(true), THREADS);
        assert_eq!((work(2, THREADS).missing(true), work(900, THREADS_MAX).missing(true)), (2, 0));
    }

    /// Those that hang fill all threads of a round, again and again, and the last one is checked all the
    /// same.
    #[test]
    fn providers_that_hang_do_not_keep_others_from_their_check() {
        const HANG: usize = 3 * THREADS;
        let ((checked, was_checked), (go_on, goes_on)) = (unbounded(), bounded::<()>(0));
        let (monitor, queue) = Monitor::new();
        let check = move |provider: &ProviderName| {
            if (0..HANG).any(|n| *provider == name(n)) {
                let _ = goes_on.recv();
            }
            checked.send(provider.clone()).is_ok()
        };
        monitor.begin(queue, Arc::new(check)).unwrap();
        (0..=HANG).for_each(|n| monitor.watch(&name(n), Duration::from_millis(100)));
        let well: Vec<_> = (0..3).map(|_| was_checked.recv().unwrap()).collect();
        assert!(well.iter().all(|provider| *provider == name(HANG)), "{well:?}");
        drop(go_on);
    }
}
