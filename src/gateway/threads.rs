//! Threads for calls that take long, one for each, and a limit on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::sys::thread;

/// See the module.
#[derive(Clone)]
pub(super) struct Threads {
    max: usize,
    busy: Arc<AtomicUsize>,
}

impl Threads {
    pub fn new(max: usize) -> Self {
        Self { max, busy: Arc::default() }
    }

    /// Does `work` with `what` on a thread of its own; gives `what` back if there is none for it.
    pub fn run<T: Send + 'static>(&self, what: T, work: impl FnOnce(T) + Send + 'static) -> Result<(), T> {
        if self.busy.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.busy.fetch_sub(1, Ordering::Relaxed);
            return Err(what);
        }
        let ours = Arc::new(Mutex::new(Some(what)));
        let (theirs, busy) = (Arc::clone(&ours), Arc::clone(&self.busy));
        let started = thread::spawn("call", move || {
            let what = theirs.lock().take();
            if let Some(what) = what {
                work(what);
            }
            busy.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_ok() {
            return Ok(());
        }
        self.busy.fetch_sub(1, Ordering::Relaxed);
        let back = ours.lock().take();
        back.map_or(Ok(()), Err)
    }
}
