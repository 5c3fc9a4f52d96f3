//! A process that has had nothing to do for a while gives back what its work has taken: free pages of malloc,
//! and the program's own code, which comes back from the page cache. One thread (`rest`) sees to that. It
//! wakes up every few seconds while there is work, and not at all while there is none.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::sys::{memory, system, thread};

/// How long there has to be nothing to do, at least; at most twice that.
const AFTER: Duration = Duration::from_secs(3);

static REST: Rest = Rest::new();

/// There is something to do. Costs nothing beside a request; a process that has not called [`begin`] keeps
/// everything.
pub fn used() {
    REST.used();
}

/// Sees to it from now on, for as long as this process lives.
pub fn begin() -> io::Result<()> {
    thread::spawn("rest", || REST.look_after(AFTER, give_back)).map(drop)
}

/// What is given back. It may be done at any time: whoever works meanwhile works on, a little slower.
pub fn give_back() {
    system::trim_malloc();
    memory::forget_code();
}

/// How often a process was used, and whether its thread waits for the next use.
struct Rest {
    uses: AtomicU64,
    is_at_rest: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Rest {
    const fn new() -> Self {
        Self { uses: AtomicU64::new(0), is_at_rest: AtomicBool::new(false), thread: OnceLock::new() }
    }

    fn used(&self) {
        self.uses.fetch_add(1, Ordering::SeqCst);
        if self.is_at_rest.load(Ordering::SeqCst)
            && self.is_at_rest.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// The thread's life.
    fn look_after(&self, after: Duration, give_back: impl Fn()) {
        let _ = self.thread.set(std::thread::current());
        let mut seen = self.uses.load(Ordering::SeqCst);
        loop {
            std::thread::sleep(after);
            let uses = self.uses.load(Ordering::SeqCst);
            if uses == seen {
                give_back();
                self.await_use(uses);
            }
            seen = uses;
        }
    }

    /// Comes back when there was a use behind those that were `seen`.
    fn await_use(&self, seen: u64) {
        self.is_at_rest.store(true, Ordering::SeqCst);
        // One that came before the line above has woken nobody.
        while self.uses.load(Ordering::SeqCst) == seen {
            std::thread::park();
        }
        self.is_at_rest.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn after_each_time_of_work_what_it_took_is_given_back_once() {
        let rest: &Rest = Box::leak(Box::new(Rest::new()));
        let (to, given_back) = mpsc::channel();
        let work = move || rest.look_after(Duration::from_millis(5), || to.send(rest.is_parked()).unwrap());
        std::thread::spawn(work);
        for _ in 0..20 {
            // Nobody gives back while nobody uses.
            assert!(!given_back.recv().unwrap());
            while !rest.is_parked() {
                std::thread::yield_now();
            }
            assert!(given_back.try_recv().is_err());
            rest.used();
        }
    }

    impl Rest {
        fn is_parked(&self) -> bool {
            self.is_at_rest.load(Ordering::SeqCst)
        }
    }
}
