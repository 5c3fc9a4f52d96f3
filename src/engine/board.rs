//! How each process stands, for those that need it: written by the thread of a process with each of its
//! transitions, read by the threads of the others. Whoever waits for others is woken when one of those
//! changes, and by nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::sys::poll::Waker;
use crate::wire::id::ProcessId;
use crate::wire::needs::{Needs, OnDependency};
use crate::wire::process::State;

/// What the end of one takes beside its grace, ms: SIGKILL.
const KILL_MS: u64 = 2500;
/// How deep needs are followed where it is asked how long they take.
const DEPTH_MAX: u32 = 64;

/// How a process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Empty: it has none, and nobody can need it.
    pub name: String,
    pub needs: Arc<Needs>,
    pub state: State,
    pub run: u64,
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
    /// How one stands from now on. Those that need it, and those that it needs, are woken if that is new.
    pub fn put(&self, id: ProcessId, standing: Standing) {
        let mut inner = self.0.lock();
        if inner.standings.get(&id) == Some(&standing) {
            return;
        }
        inner.wake(&standing);
        inner.standings.insert(id, standing);
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
        inner.standings.get(&id).map_or(0, |own| inner.waits_ms(own, 0))
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

    fn waits_ms(&self, own: &Standing, depth: u32) -> u64 {
        if depth == DEPTH_MAX || own.name.is_empty() {
            return 0;
        }
        let others = self.standings.values().filter(|s| s.is_active && s.name != own.name && s.needs(own));
        others.map(|s| s.stop_ms + KILL_MS + self.waits_ms(s, depth + 1)).max().unwrap_or(0)
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
mod tests {
    use super::*;

    fn standing(name: &str, requires: &[&str]) -> Standing {
        let requires = requires.iter().map(|&name| name.to_owned()).collect();
        Standing {
            name: name.to_owned(),
            needs: Arc::new(Needs { requires, ..Needs::default() }),
            state: State::Running,
            run: 1,
            is_ready: true,
            is_job: false,
            is_active: true,
            is_blocked: false,
            is_leaving: false,
            stop_ms: 1000,
        }
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
        let needs = Needs { after: vec!["db".into()], ..Needs::default() };
        board.put(web, Standing { needs: Arc::new(needs), ..standing("web", &[]) });
        assert!(!board.has_to_wait(db, false) && board.has_to_wait(db, true), "at the end everybody goes");
    }
}
