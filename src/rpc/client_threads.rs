//! The C core's threads for clients.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use grpcio::Environment;
use parking_lot::Mutex;

use crate::sys::grpc;

/// How long the completion thread may take to end. It only finishes what is under way.
const END_MAX: Duration = Duration::from_secs(5);

/// One set for all connections of a program. Never dropped: its last owner might be one of its threads, which
/// would wait for itself.
pub(crate) fn environment() -> Arc<Environment> {
    static ENVIRONMENT: OnceLock<Arc<Environment>> = OnceLock::new();
    let made = || Arc::new(grpc::environment(1).build());
    Arc::clone(ENVIRONMENT.get_or_init(made))
}

/// Threads that are there as long as a connection is: a program that lives for days is not to wake for
/// timers once a second when it has nothing to do. Owned beside each connection and dropped after it, never
/// by one of these threads.
pub(crate) struct Threads {
    environment: Option<Arc<Environment>>,
    has_ended: Receiver<()>,
}

impl Threads {
    /// Those that are there, or new ones.
    pub(crate) fn get() -> Arc<Self> {
        static PRESENT: Mutex<Weak<Threads>> = Mutex::new(Weak::new());
        let mut present = PRESENT.lock();
        present.upgrade().unwrap_or_else(|| {
            let threads = Arc::new(Self::start());
            *present = Arc::downgrade(&threads);
            threads
        })
    }

    fn start() -> Self {
        let (ending, has_ended) = bounded(1);
        let environment = grpc::environment(1).before_stop(move || _ = ending.try_send(())).build();
        Self { environment: Some(Arc::new(environment)), has_ended }
    }

    pub(crate) fn environment(&self) -> Arc<Environment> {
        Arc::clone(self.environment.as_ref().expect("it is taken when this is dropped"))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.environment = None;
        // With a completion queue that is still in use the C core must not go.
        if self.has_ended.recv_timeout(END_MAX).is_ok() {
            grpc::release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_shared_and_end_with_their_last_owner() {
        for _ in 0..20 {
            let threads = Threads::get();
            let more = Threads::get();
            assert!(Arc::ptr_eq(&threads, &more));
            let has_ended = more.has_ended.clone();
            drop(threads);
            assert!(has_ended.is_empty());
            drop(more);
            assert!(has_ended.recv_timeout(Duration::ZERO).is_err(), "it was waited for");
        }
    }
}
