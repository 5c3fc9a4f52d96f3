//! How each process stands, for those that need it: written by the thread of a process with each of its
//! transitions, read by the threads of the others. Whoever waits for others is woken when one of those
//! changes, and by nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::sys::poll::Waker;
use crate::wire::id::ProcessId;
use crate::wire::needs::{Needs, OnDependency};
use crate::wire::process::State;

/// What the end of one takes beside its grace, ms: SIGKILL.
const KILL_MS: u64 = 2500;

/// How a process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Empty: it has none, and nobody can need it.
    pub name: String,
    pub needs: Arc<Needs>,
    pub state: State,
    pub run: u64,
    /// When that began. Monotonic clock, ms.
    pub started_mono: u64,
    /// Ready, or a job whose work is done.
    pub is_ready: bool,
    pub is_job: bool,
    /// Something of it runs.
    pub is_active: bool,
    /// It waits for others that do not come by themselves.
    pub is_blocked: bool,
    /// It is about to be stopped: who needs it goes first.
    pub is_leaving: bool,
    /// The grace of its stop, ms.
    pub stop_ms: u64,
}

impl Standing {
    /// Whether it is meant by this name, or `@GROUP`.
    #[must_use]
    pub fn is_meant_by(&self, name: &str) -> bool {
        match name.strip_prefix('@') {
            Some(group) => self.needs.in_group.as_deref() == Some(group),
            None => !self.name.is_empty() && self.name == name,
        }
    }

    fn needs(&self, other: &Self) -> bool {
        self.needs.all().any(|name| other.is_meant_by(name))
    }

    /// Whether it goes when this one does.
    fn follows(&self, other: &Self) -> bool {
        self.needs.on_dependency != OnDependency::Ignore
            && self.needs.requires.iter().any(|name| other.is_meant_by(name))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Board(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    standings: HashMap<ProcessId, Standing>,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    who: ProcessId,
    changed: Arc<AtomicBool>,
    waker: Waker,
}

impl Board {
    /// How one stands from now on. Those that need it, and those that it needs, are woken if that is new; so
    /// are those of which that was true before.
    pub fn put(&self, id: ProcessId, standing: Standing) {
        let mut inner = self.0.lock();
        let past = inner.standings.get(&id);
        if past == Some(&standing) {
            return;
        }
        if let Some(past) = past.filter(|past| past.needs != standing.needs) {
            inner.wake(past);
        }
        inner.wake(&standing);
        inner.standings.insert(id, standing);
    }

    /// A start of it is ordered: nobody takes it for one at rest until it says itself how it stands.
    pub fn start_is_ordered(&self, id: ProcessId) {
        let mut inner = self.0.lock();
        let at_rest = inner.standings.get(&id).filter(|past| past.state.is_at_rest());
        if let Some(past) = at_rest {
            let standing = Standing { state: State::Starting, is_blocked: false, ..past.clone() };
            inner.wake(&standing);
            inner.standings.insert(id, standing);
        }
    }

    /// It is no more.
    pub fn remove(&self, id: ProcessId) {
        let mut inner = self.0.lock();
        if let Some(standing) = inner.standings.remove(&id) {
            inner.wake(&standing);
        }
    }

    /// Those of this name, or of this group, but not the one who asks.
    #[must_use]
    pub fn meant_by(&self, name: &str, but: ProcessId) -> Vec<Standing> {
        let inner = self.0.lock();
        let meant = |(id, standing): &(&ProcessId, &Standing)| **id != but && standing.is_meant_by(name);
        inner.standings.iter().filter(meant).map(|(_, standing)| standing.clone()).collect()
    }

    /// Whether it needs others, or others go when it does.
    #[must_use]
    pub fn has_others(&self, id: ProcessId) -> bool {
        let inner = self.0.lock();
        let Some(own) = inner.standings.get(&id) else { return false };
        !own.needs.is_none() || inner.standings.values().any(|other| other.follows(own))
    }

    /// Whether others have to go before this one does. `all`: at the end of the service everybody goes.
    #[must_use]
    pub fn has_to_wait(&self, id: ProcessId, all: bool) -> bool {
        let inner = self.0.lock();
        let Some(own) = inner.standings.get(&id).filter(|own| !own.name.is_empty()) else { return false };
        let mut others = inner.standings.iter().filter(|(other, _)| **other != id).map(|(_, s)| s);
        others.any(|s| {
            s.is_active
                && s.needs(own)
                && (all || s.state == State::Stopping || s.is_leaving || s.follows(own))
        })
    }

    /// How long it may take until those have gone, ms, and those before them.
    #[must_use]
    pub fn waits_ms(&self, id: ProcessId) -> u64 {
        let inner = self.0.lock();
        let is_needed = |own: &Standing| inner.standings.values().any(|s| s.is_active && s.needs(own));
        match inner.standings.get(&id).is_some_and(is_needed) {
            true => inner.all_waits_ms().remove(&id).unwrap_or(0),
            false => 0,
        }
    }

    /// The longest of all of these times, ms.
    #[must_use]
    pub fn longest_wait_ms(&self) -> u64 {
        self.0.lock().all_waits_ms().into_values().max().unwrap_or(0)
    }

    /// Tells this thread, until the watch is dropped, when one of those changes whom it needs or who need it.
    #[must_use]
    pub fn watch(self: &Arc<Self>, who: ProcessId, waker: Waker) -> Watch {
        let changed = Arc::new(AtomicBool::new(true));
        self.0.lock().watchers.push(Watcher { who, changed: Arc::clone(&changed), waker });
        Watch { board: Arc::clone(self), who, changed }
    }
}

impl Inner {
    fn wake(&self, changed: &Standing) {
        for watcher in &self.watchers {
            let concerns = |own: &Standing| own.needs(changed) || changed.needs(own);
            if self.standings.get(&watcher.who).is_some_and(concerns) {
                watcher.changed.store(true, Ordering::Release);
                watcher.waker.wake();
            }
        }
    }

    /// How long each waits at its end for those that need it, ms: from those that nobody needs on, one after
    /// the other, each once.
    fn all_waits_ms(&self) -> HashMap<ProcessId, u64> {
        let mut by_name: HashMap<String, Vec<ProcessId>> = HashMap::new();
        for (id, standing) in &self.standings {
            if !standing.name.is_empty() {
                by_name.entry(standing.name.clone()).or_default().push(*id);
            }
            if let Some(group) = &standing.needs.in_group {
                by_name.entry(format!("@{group}")).or_default().push(*id);
            }
        }
        let needed_by = |id: ProcessId, standing: &Standing| -> BTreeSet<ProcessId> {
            let meant = standing.needs.all().filter_map(|name| by_name.get(name)).flatten().copied();
            meant.filter(|other| *other != id).collect()
        };
        let active = self.standings.iter().filter(|(_, standing)| standing.is_active);
        let needs: HashMap<_, _> = active.map(|(id, standing)| (*id, needed_by(*id, standing))).collect();
        let mut left: HashMap<ProcessId, usize> = HashMap::new();
        for id in needs.values().flatten() {
            *left.entry(*id).or_default() += 1;
        }
        let mut waits: HashMap<ProcessId, u64> = HashMap::new();
        let mut free: Vec<_> = needs.keys().filter(|id| !left.contains_key(*id)).copied().collect();
        while let Some(id) = free.pop() {
            let (Some(needed), Some(own)) = (needs.get(&id), self.standings.get(&id)) else { continue };
            let until = waits.get(&id).unwrap_or(&0).saturating_add(own.stop_ms).saturating_add(KILL_MS);
            for other in needed {
                let wait = waits.entry(*other).or_default();
                *wait = until.max(*wait);
                let count = left.entry(*other).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push(*other);
                }
            }
        }
        waits
    }
}

/// Keeps a thread being told.
#[derive(Debug)]
pub struct Watch {
    board: Arc<Board>,
    who: ProcessId,
    changed: Arc<AtomicBool>,
}

impl Watch {
    /// Whether something has changed since this was last asked, or since the beginning.
    pub fn has_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.board.0.lock();
        if let Some(at) = inner.watchers.iter().position(|w| w.who == self.who) {
            inner.watchers.swap_remove(at);
        }
    }
}

#[cfg(test)]
impl Standing {
    /// Of one that runs, is ready and needs nobody.
    pub fn running(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            needs: Arc::default(),
            state: State::Running,
            run: 1,
            started_mono: 0,
            is_ready: true,
            is_job: false,
            is_active: true,
            is_blocked: false,
            is_leaving: false,
            stop_ms: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(name: &str, requires: &[&str]) -> Standing {
        let requires = requires.iter().map(|&name| name.to_owned()).collect();
        Standing { needs: Arc::new(Needs { requires, ..Needs::default() }), ..Standing::running(name) }
    }

    #[test]
    fn who_waits_is_told_of_those_and_of_nobody_else() {
        let board = Arc::new(Board::default());
        let (web, db, other) = (ProcessId::new(), ProcessId::new(), ProcessId::new());
        board.put(web, standing("web", &["db"]));
        let watch = board.watch(web, Waker::for_this_thread());
        assert!(watch.has_changed() && !watch.has_changed());
        board.put(other, standing("other", &[]));
        assert!(!watch.has_changed());
        board.put(db, standing("db", &[]));
        assert!(watch.has_changed());
        board.put(db, standing("db", &[]));
        assert!(!watch.has_changed(), "it stands as it did");
        board.remove(db);
        assert!(watch.has_changed());
    }

    #[test]
    fn who_is_about_to_start_is_not_at_rest_until_it_says_so() {
        let board = Arc::new(Board::default());
        let (web, db) = (ProcessId::new(), ProcessId::new());
        let stopped = Standing { state: State::Stopped, is_blocked: true, ..standing("db", &[]) };
        board.put(web, standing("web", &["db"]));
        board.put(db, stopped.clone());
        let watch = board.watch(web, Waker::for_this_thread());
        assert!(watch.has_changed());
        let state = || board.meant_by("db", web).remove(0);
        board.start_is_ordered(db);
        assert!(watch.has_changed() && state().state == State::Starting && !state().is_blocked);
        board.put(db, stopped.clone());
        assert!(watch.has_changed() && state() == stopped);
        // It has begun by itself meanwhile.
        board.put(db, standing("db", &[]));
        board.start_is_ordered(db);
        assert_eq!(state(), standing("db", &[]));
    }

    #[test]
    fn who_is_needed_goes_last() {
        let board = Board::default();
        let (web, db, top) = (ProcessId::new(), ProcessId::new(), ProcessId::new());
        board.put(db, standing("db", &[]));
        board.put(web, standing("web", &["db"]));
        board.put(top, standing("top", &["web"]));
        assert!(
            board.has_to_wait(db, false) && board.has_to_wait(web, false) && !board.has_to_wait(top, true)
        );
        assert_eq!((board.waits_ms(db), board.waits_ms(top)), (2 * (1000 + KILL_MS), 0));
        let alone = ProcessId::new();
        board.put(alone, standing("alone", &[]));
        assert_eq!([db, web, top, alone].map(|id| board.has_others(id)), [true, true, true, false]);
        let needs = Needs { after: vec!["db".into()], ..Needs::default() };
        board.put(web, Standing { needs: Arc::new(needs), ..standing("web", &[]) });
        assert!(!board.has_to_wait(db, false) && board.has_to_wait(db, true), "at the end everybody goes");
    }

    /// What it needs no more may be waiting for it.
    #[test]
    fn who_was_needed_before_is_told_too() {
        let board = Arc::new(Board::default());
        let (web, db) = (ProcessId::new(), ProcessId::new());
        board.put(db, standing("db", &[]));
        board.put(web, standing("web", &["db"]));
        let watch = board.watch(db, Waker::for_this_thread());
        assert!(watch.has_changed());
        board.put(web, standing("web", &[]));
        assert!(watch.has_changed() && !board.has_to_wait(db, true));
        board.put(web, standing("web", &["other"]));
        assert!(!watch.has_changed());
    }

    #[test]
    fn many_ways_to_one_are_each_gone_once() {
        let board = Board::default();
        let id = |_| ProcessId::new();
        let layers: Vec<[ProcessId; 2]> = (0..30).map(|_| [0, 1].map(id)).collect();
        for (layer, ids) in layers.iter().enumerate() {
            let below = layer.checked_sub(1);
            let needs: Vec<_> =
                below.map(|n| [format!("a{n}"), format!("b{n}")]).into_iter().flatten().collect();
            let needs: Vec<_> = needs.iter().map(String::as_str).collect();
            board.put(ids[0], standing(&format!("a{layer}"), &needs));
            board.put(ids[1], standing(&format!("b{layer}"), &needs));
        }
        let begin = std::time::Instant::now();
        assert_eq!(board.waits_ms(layers[0][0]), 29 * (1000 + KILL_MS));
        assert_eq!(board.waits_ms(layers[29][1]), 0);
        assert_eq!(board.longest_wait_ms(), 29 * (1000 + KILL_MS));
        assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}
