//! Whether the gateway serves, and the threads that want to know when that changes.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::rpc::services::descriptors::SERVICES;
use crate::rpc::services::health::health_check_response::ServingStatus;
use crate::sys::poll::Waker;

#[derive(Default)]
pub(super) struct Serving {
    is_ending: AtomicBool,
    watching: Mutex<Vec<Waker>>,
}

/// A thread that is woken by a change, for as long as this is kept.
pub(super) struct Watching<'a>(&'a Serving, Waker);

impl Serving {
    /// The gateway is about to end.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.watching.lock().iter().for_each(Waker::wake);
    }

    pub fn of(&self, service: &str) -> ServingStatus {
        match service.is_empty() || SERVICES.contains(&service) {
            false => ServingStatus::ServiceUnknown,
            true if self.is_ending.load(Ordering::Acquire) => ServingStatus::NotServing,
            true => ServingStatus::Serving,
        }
    }

    /// From here on a change wakes this thread. What it is now is to be asked after this.
    pub fn watch(&self) -> Watching<'_> {
        let waker = Waker::for_this_thread();
        self.watching.lock().push(waker.clone());
        Watching(self, waker)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watching.lock().retain(|waker| !waker.is(&self.1));
    }
}
