//! Permits that are out, each with its place in a breaker, until it is reported or expires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::guard::gate;
use crate::registry::entry::Entry;
use crate::sys::clock;

/// The most that are out at a time.
pub const PERMITS_MAX: usize = 10_000;
/// Those that are out.
#[derive(Default)]
pub struct Permits {
    held: Mutex<BTreeMap<String, Held>>,
    /// Until when nothing has to be given back (monotonic ms). It may be too early.
    quiet_until: AtomicU64,
}

pub struct Held {
    pub entry: Arc<Entry>,
    pub permit: gate::Permit,
    pub expires_ms: u64,
}

impl Permits {
    /// Gives the places of those back that have expired.
    pub fn give_back(&self) {
        let now = clock::now_ms();
        if now < self.quiet_until.load(Ordering::Relaxed) {
            return;
        }
        let mut held = self.held.lock();
        held.retain(|_, one| now < one.expires_ms);
        let next = held.values().map(|one| one.expires_ms).min();
        self.quiet_until.store(next.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// None: there are too many.
    pub fn add(&self, held: Held) -> Option<String> {
        let id = Uuid::new_v4().to_string();
        let mut all = self.held.lock();
        if all.len() >= PERMITS_MAX {
            return None;
        }
        self.quiet_until.fetch_min(held.expires_ms, Ordering::Relaxed);
        all.insert(id.clone(), held);
        Some(id)
    }

    pub fn take(&self, id: &str) -> Option<Held> {
        self.held.lock().remove(id)
    }
}
