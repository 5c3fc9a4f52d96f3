//! Says when which provider is to be asked how it is. One thread has the schedule, which is pure, and sleeps
//! until somebody is due; each check is made on a thread that lasts as long as it does, so a slow provider
//! delays nobody. One provider is never checked twice at a time.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::provider::ProviderName;
use crate::wire::time::millis;

/// Checks at once; what is due beyond them waits.
const CHECKS_MAX: usize = 128;
/// Messages that wait for the thread.
const QUEUE_MAX: usize = 4096;
/// An interval is longer or shorter by up to this part of it, so that checks do not come all at once.
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
    /// A check has ended; whether there is to be a next one.
    Done {
        name: ProviderName,
        runs: bool,
    },
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
        let to = self.0.clone();
        thread::spawn("health", move || run(&to, &queue, &check))
            .map(drop)
            .map_err(|e| Error::failed("start a thread", &e))
    }
}

fn run(to: &Sender<MonitorMsg>, queue: &MonitorQueue, check: &CheckOf) {
    let mut schedule = Schedule::new(RandomState::new().hash_one("health"));
    loop {
        let message = match schedule.next_ms() {
            None => queue.0.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => queue.0.recv_timeout(Duration::from_millis(at.saturating_sub(clock::now_ms()))),
        };
        let now = clock::now_ms();
        match message {
            Ok(MonitorMsg::Watch(name, interval)) => schedule.watch(name, millis(interval), now),
            Ok(MonitorMsg::Unwatch(name)) => schedule.unwatch(&name),
            Ok(MonitorMsg::Done { name, runs }) => schedule.done(&name, runs, now),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for name in schedule.take_due(now) {
            let (to, check, whose) = (to.clone(), Arc::clone(check), name.clone());
            let work = move || {
                let runs = check(&whose);
                let _ = to.send(MonitorMsg::Done { name: whose, runs });
            };
            if thread::spawn("check", work).is_err() {
                // Without a thread now, there may be one at the next turn.
                schedule.done(&name, true, now);
            }
        }
    }
}

/// Who is due when. Pure: it is told the time.
#[derive(Debug)]
struct Schedule {
    turns: BTreeMap<ProviderName, Turn>,
    under_way: usize,
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
        Self { turns: BTreeMap::new(), under_way: 0, seed }
    }

    fn watch(&mut self, name: ProviderName, interval_ms: u64, now_ms: u64) {
        let at_ms = now_ms.saturating_add(self.jittered(interval_ms));
        let turn =
            self.turns.entry(name).or_insert(Turn { at_ms, interval_ms, is_under_way: false, stays: None });
        turn.interval_ms = interval_ms;
        if turn.is_under_way {
            turn.stays = Some(true);
        } else {
            turn.at_ms = at_ms;
        }
    }

    fn unwatch(&mut self, name: &ProviderName) {
        match self.turns.get_mut(name) {
            Some(turn) if turn.is_under_way => turn.stays = Some(false),
            _ => drop(self.turns.remove(name)),
        }
    }

    /// Those that are to be checked now, as many as may be at once; who has waited longest comes first.
    fn take_due(&mut self, now_ms: u64) -> Vec<ProviderName> {
        let is_due = |turn: &Turn| !turn.is_under_way && turn.at_ms <= now_ms;
        let mut due: Vec<_> = self.turns.iter_mut().filter(|(_, turn)| is_due(turn)).collect();
        due.sort_by_key(|(_, turn)| turn.at_ms);
        due.truncate(CHECKS_MAX - self.under_way);
        let names: Vec<_> = due
            .into_iter()
            .map(|(name, turn)| {
                turn.is_under_way = true;
                name.clone()
            })
            .collect();
        self.under_way += names.len();
        names
    }

    fn done(&mut self, name: &ProviderName, runs: bool, now_ms: u64) {
        let Some(interval_ms) = self.turns.get(name).filter(|t| t.is_under_way).map(|t| t.interval_ms) else {
            return;
        };
        self.under_way -= 1;
        let at_ms = now_ms.saturating_add(self.jittered(interval_ms));
        match self.turns.get_mut(name) {
            Some(turn) if turn.stays.unwrap_or(runs) => {
                *turn = Turn { at_ms, interval_ms, is_under_way: false, stays: None };
            }
            _ => drop(self.turns.remove(name)),
        }
    }

    /// When somebody is due; none while as many as may be are under way.
    fn next_ms(&self) -> Option<u64> {
        let waiting = self.turns.values().filter(|turn| !turn.is_under_way).map(|turn| turn.at_ms);
        if self.under_way >= CHECKS_MAX { None } else { waiting.min() }
    }

    fn jittered(&mut self, interval_ms: u64) -> u64 {
        // A congruential generator: enough to spread checks.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (interval_ms / JITTER_PART).max(1);
        interval_ms.saturating_sub(part) + (self.seed >> 33) % (2 * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> ProviderName {
        ProviderName::new("", &format!("p{n}")).unwrap()
    }

    #[test]
    fn each_is_due_in_its_interval_and_never_twice_at_a_time() {
        let mut schedule = Schedule::new(1);
        assert_eq!(schedule.next_ms(), None, "nobody wakes it");
        schedule.watch(name(1), 1000, 0);
        let first = schedule.next_ms().unwrap();
        assert!((900..1100).contains(&first) && schedule.take_due(first - 1).is_empty());
        assert_eq!(schedule.take_due(first), [name(1)]);
        assert!(schedule.take_due(first + 10_000).is_empty() && schedule.next_ms().is_none());
        schedule.done(&name(1), true, first + 10_000);
        let second = schedule.next_ms().unwrap();
        assert!((first + 10_900..first + 11_100).contains(&second));
        assert_eq!(schedule.take_due(second), [name(1)]);
        schedule.done(&name(1), false, second);
        assert_eq!((schedule.next_ms(), schedule.under_way), (None, 0), "it does not run any more");
    }

    #[test]
    fn so_many_at_once_and_who_has_waited_longest_is_next() {
        let mut schedule = Schedule::new(1);
        (0..CHECKS_MAX + 10).for_each(|n| schedule.watch(name(n), 10, 0));
        schedule.watch(name(CHECKS_MAX + 10), 5, 0);
        let first = schedule.take_due(100);
        assert!(first.len() == CHECKS_MAX && first[0] == name(CHECKS_MAX + 10));
        assert_eq!(schedule.next_ms(), None);
        schedule.done(&name(CHECKS_MAX + 10), true, 100);
        assert_eq!(schedule.take_due(1000).len(), 1);
    }

    #[test]
    fn what_comes_during_a_check_holds_after_it() {
        let mut schedule = Schedule::new(1);
        schedule.watch(name(1), 10, 0);
        schedule.take_due(100);
        schedule.unwatch(&name(1));
        schedule.done(&name(1), true, 100);
        assert_eq!((schedule.next_ms(), schedule.under_way), (None, 0));
        // It runs again before the check has found that it did not.
        schedule.watch(name(1), 10, 0);
        schedule.take_due(200);
        schedule.unwatch(&name(1));
        schedule.watch(name(1), 20, 200);
        schedule.done(&name(1), false, 200);
        assert!(schedule.next_ms().is_some());
    }
}
