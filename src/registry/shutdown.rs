//! The end of many providers at once: monitoring stops first, then all are ended in parallel, each within its
//! limit and all within one, and whoever did not end by itself is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::provider::Providers;
use crate::registry::entry::{Entry, Life};
use crate::registry::{Cause, Registry, failure};
use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::ProviderName;
use crate::wire::time::millis;

/// The most that end at the same moment: each needs a connection to the engine.
const AT_ONCE_MAX: usize = 200;
/// After how long it is said for whom it waits, ms.
const SAY_AFTER_MS: u64 = 1000;
/// The most names in one line.
const NAMES_MAX: usize = 10;
/// What is left at the end for the last of them to be killed.
const KILL_MS: u64 = 1000;
/// How long the engine may take to take in the last events.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// The cause of what the end of the service does.
const CAUSE_SERVICE: &str = "end of the service";

/// Of those that did not end as they should, why.
type Failures = BTreeMap<ProviderName, Error>;

impl Registry {
    /// Disposes of these.
    pub(super) fn dispose_all(&self, entries: &[Arc<Entry>], cause: Cause<'_>) -> Vec<(ProviderName, Error)> {
        let (ending, failures) = self.end_all(entries, cause);
        for entry in ending {
            entry.set_life(Life::Disposed);
            self.look(&entry, None, cause);
            self.save(&entry);
        }
        self.tell_failures(&failures, cause);
        failures.into_iter().collect()
    }

    /// Ends the providers with the service. The next one finds the entries as they were.
    pub fn end(&self) {
        let (ending, failures) = self.end_all(&self.of_set(None), CAUSE_SERVICE);
        for entry in &ending {
            self.look(entry, None, CAUSE_SERVICE);
        }
        self.tell_failures(&failures, CAUSE_SERVICE);
        failures.values().for_each(|e| (self.say)(&e.message));
        self.events.flush(FLUSH_MAX);
    }

    fn tell_failures(&self, failures: &Failures, cause: Cause<'_>) {
        for (name, e) in failures {
            let why = failure::without_name(name, &e.message);
            self.events.tell(EventKind::ProviderError, name, cause, why);
        }
    }

    /// Ends them, and returns those that it is done with, however that went.
    fn end_all(&self, entries: &[Arc<Entry>], cause: Cause<'_>) -> (Vec<Arc<Entry>>, Failures) {
        let (mut ending, mut failures) = (Vec::new(), Failures::new());
        for entry in entries.iter().filter(|entry| !entry.is_passive()) {
            match self.begin_disposal(entry) {
                Ok(()) => ending.push(Arc::clone(entry)),
                Err(e) if entry.life() != Life::Gone => drop(failures.insert(entry.name.clone(), e)),
                Err(_) => {}
            }
        }
        if let Some(watch) = self.watch.get() {
            ending.iter().for_each(|entry| watch.monitor.unwatch(&entry.name));
        }
        let timeout = self.settings.graceful_shutdown_timeout;
        let deadline = clock::now_ms().saturating_add(millis(timeout));
        let kill_at = deadline.saturating_sub(KILL_MS.min(millis(timeout) / 4));
        let (to, results) = bounded(ending.len());
        self.begin_to_end(&ending, kill_at, &to);
        drop(to);
        let mut waiting: BTreeMap<_, _> = ending.iter().map(|entry| (entry.name.clone(), ())).collect();
        let mut say_at = clock::now_ms() + SAY_AFTER_MS;
        while !waiting.is_empty() {
            let left = deadline.min(say_at).saturating_sub(clock::now_ms());
            match results.recv_timeout(Duration::from_millis(left)) {
                Ok((name, result)) => {
                    waiting.remove(&name);
                    if let Err(e) = result {
                        failures.insert(name, e);
                    }
                }
                Err(RecvTimeoutError::Timeout) if clock::now_ms() < deadline => {
                    (self.say)(&format!("{cause}: waiting for {}", names(waiting.keys())));
                    say_at = deadline;
                }
                Err(_) => break,
            }
        }
        for name in waiting.into_keys() {
            let e = failure::not_ended(&name, timeout);
            failures.insert(name, e);
        }
        (ending, failures)
    }

    /// Has threads end them, which send what came of each.
    fn begin_to_end(
        &self,
        ending: &[Arc<Entry>],
        kill_at: u64,
        to: &Sender<(ProviderName, Result<(), Error>)>,
    ) {
        let (queue, next) = bounded(ending.len());
        ending.iter().for_each(|entry| drop(queue.send(Arc::clone(entry))));
        drop(queue);
        let limit = self.settings.dispose_timeout;
        for _ in 0..ending.len().min(AT_ONCE_MAX) {
            let (next, to, providers) = (next.clone(), to.clone(), self.providers.clone());
            let work = move || {
                while let Ok(entry) = next.recv() {
                    let _ = to.send((entry.name.clone(), end_one(&entry, &providers, limit, kill_at)));
                }
            };
            if thread::spawn("provider", work.clone()).is_err() {
                // One thread is enough, if all the same none is there.
                work();
                break;
            }
        }
    }
}

/// Lets its users leave for half of the time, and ends it in the other half.
fn end_one(entry: &Entry, providers: &Providers, limit: Duration, kill_at: u64) -> Result<(), Error> {
    let left = || Duration::from_millis(kill_at.saturating_sub(clock::now_ms()));
    let limit = limit.min(left());
    let until = clock::now_ms() + millis(limit);
    entry.alone(limit / 2, || {
        let rest = Duration::from_millis(until.saturating_sub(clock::now_ms()));
        providers.end(&entry.name, rest.min(left()))
    })
}

/// The first of them, and how many more there are.
fn names<'a>(all: impl ExactSizeIterator<Item = &'a ProviderName>) -> String {
    let more = all.len().saturating_sub(NAMES_MAX);
    let named: Vec<_> = all.take(NAMES_MAX).map(ToString::to_string).collect();
    let named = named.join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}
