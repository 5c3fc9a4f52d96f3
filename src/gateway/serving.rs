//! Whether the gateway serves, which it does while there is an engine behind it; and the calls that want to
//! know when that changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::rpc::services::descriptors::SERVICES;
use crate::rpc::services::health::health_check_response::ServingStatus;

/// The most watches of one connection: a channel has one.
const WATCHES_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Serving {
    is_ending: AtomicBool,
    /// Nothing is behind that would answer.
    is_alone: AtomicBool,
    watching: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    next: u64,
    by_number: BTreeMap<u64, Waker>,
}

/// A call that is woken by a change, for as long as this is kept.
pub(super) struct Watching<'a>(&'a Serving, u64);

impl Serving {
    /// The gateway is about to end.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.tell();
    }

    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// The engine has gone, or is there again.
    pub fn set_alone(&self, is_alone: bool) {
        if self.is_alone.swap(is_alone, Ordering::AcqRel) != is_alone {
            self.tell();
        }
    }

    fn tell(&self) {
        self.watching.lock().by_number.values().for_each(Waker::wake_by_ref);
    }

    pub fn of(&self, service: &str) -> ServingStatus {
        match service.is_empty() || SERVICES.contains(&service) {
            false => ServingStatus::ServiceUnknown,
            true if self.is_ending() || self.is_alone.load(Ordering::Acquire) => ServingStatus::NotServing,
            true => ServingStatus::Serving,
        }
    }

    pub fn watch(&self) -> Watching<'_> {
        let mut watching = self.watching.lock();
        watching.next += 1;
        Watching(self, watching.next)
    }
}

impl Watching<'_> {
    /// From here on a change wakes this. What it is now is to be asked after this.
    pub fn wakes(&self, waker: &Waker) {
        self.0.watching.lock().by_number.insert(self.1, waker.clone());
    }
}

/// How many watches one connection has.
#[derive(Clone, Default)]
pub(super) struct Watches(Arc<AtomicUsize>);

/// One of them, for as long as this is kept.
pub(super) struct WatchPlace(Watches);

impl Watches {
    /// A place for one more, if there is any.
    pub fn take(&self) -> Option<WatchPlace> {
        let place = WatchPlace(self.clone());
        (self.0.fetch_add(1, Ordering::Relaxed) < WATCHES_MAX).then_some(place)
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watching.lock().by_number.remove(&self.1);
    }
}
