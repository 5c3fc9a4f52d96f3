//! What the keeper has told of the last upgrade.

use parking_lot::Mutex;

use crate::sys::clock;
use crate::sys::poll::{self, Wait, Waker};
use crate::wire::upgrade::{UpgradeOutcome, UpgradeResult};

/// How long an upgrade may stay undecided, ms: three times what the keeper gives a new engine.
pub(super) const DECIDED_MS: u64 = 30_000;
/// How many may wait for the outcome of one upgrade.
const WAITING_MAX: usize = 64;

/// Shared by connections and the thread that listens to the
/// keeper.
#[derive(Debug, Default)]
pub struct Upgrades(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last: Option<UpgradeOutcome>,
    waiting: Vec<Waker>,
}

impl Upgrades {
    /// The keeper has told how an upgrade stands.
    pub fn decided(&self, outcome: UpgradeOutcome) {
        let waiting = {
            let mut known = self.0.lock();
            known.last = Some(outcome);
            std::mem::take(&mut known.waiting)
        };
        waiting.iter().for_each(Waker::wake);
    }

    /// Waits until none is being tried any more.
    pub fn wait(&self) {
        let deadline = clock::now_ms() + DECIDED_MS;
        while self.watch(Waker::for_this_thread()).is_some_and(|last| last.result == UpgradeResult::Undecided)
        {
            if !matches!(poll::wait(&mut [], Some(deadline)), Ok(Wait::Woken)) {
                return;
            }
        }
    }

    /// How the last one stands. When that changes, the waker is used.
    pub(super) fn watch(&self, waker: Waker) -> Option<UpgradeOutcome> {
        let mut known = self.0.lock();
        known.waiting.retain(|w| !w.is(&waker));
        if known.waiting.len() < WAITING_MAX {
            known.waiting.push(waker);
        }
        known.last
    }
}
