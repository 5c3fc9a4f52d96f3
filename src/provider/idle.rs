//! Looks after what is open but not used: one thread, as long as there is something to look after. With it
//! goes what calls have taken of memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::sys::{clock, rest, thread};

/// When it is looked again if there were uses while it was looked, ms: under load there always are.
const AGAIN_MS: u64 = 1000;

#[derive(Clone, Debug, Default)]
pub struct Idle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Changes with everything that may have to be looked after.
    uses: u64,
    /// When the thread looks next, ms; none when there is no thread.
    wakes_at: Option<u64>,
}

impl Idle {
    /// There is something that may be due at this time, ms. What `make` gives looks what is due, and returns
    /// when something is next; it is asked for only if there is no thread yet.
    pub fn watch<L>(&self, at_ms: u64, make: impl FnOnce() -> L)
    where
        L: Fn() -> Option<u64> + Send + 'static,
    {
        let mut state = self.0.state.lock();
        state.uses += 1;
        if state.wakes_at.is_some_and(|wakes_at| wakes_at <= at_ms) {
            return;
        }
        if state.wakes_at.replace(at_ms).is_some() {
            self.0.changed.notify_one();
            return;
        }
        let (shared, look) = (Arc::clone(&self.0), make());
        // Without a thread it stays open until the next use.
        if thread::spawn("idle", move || shared.run(&look)).is_err() {
            state.wakes_at = None;
        }
    }
}

impl Shared {
    fn run(&self, look: &impl Fn() -> Option<u64>) {
        let mut state = self.state.lock();
        while let Some(at) = state.wakes_at {
            let now = clock::now_ms();
            if now < at {
                let until = Instant::now() + Duration::from_millis(at - now);
                self.changed.wait_until(&mut state, until);
                continue;
            }
            let uses = state.uses;
            drop(state);
            let next = look();
            state = self.state.lock();
            // What came meanwhile may not have been seen.
            state.wakes_at = next.or((state.uses != uses).then_some(now + AGAIN_MS));
        }
        drop(state);
        rest::give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn there_is_a_thread_as_long_as_something_is_due() {
        let (idle, made) = (Idle::default(), AtomicUsize::new(0));
        let (to, looks) = unbounded();
        let (next, answers) = unbounded();
        let watch = |at| {
            idle.watch(at, || {
                made.fetch_add(1, Ordering::Relaxed);
                let (to, answers) = (to.clone(), answers.clone());
                move || {
                    to.send(()).unwrap();
                    answers.recv().unwrap()
                }
            });
        };
        let look = || looks.recv_timeout(Duration::from_secs(20)).unwrap();
        // An earlier time is not slept over, and one thread looks after all.
        watch(clock::now_ms() + 1_000_000);
        watch(clock::now_ms());
        look();
        next.send(Some(clock::now_ms())).unwrap();
        look();
        assert_eq!(made.load(Ordering::Relaxed), 1);
        next.send(None).unwrap();
        while idle.0.state.lock().wakes_at.is_some() {
            std::thread::yield_now();
        }
        watch(clock::now_ms());
        look();
        assert_eq!(made.load(Ordering::Relaxed), 2);
        // A use while it looks is looked after, too.
        watch(clock::now_ms() + 10);
        next.send(None).unwrap();
        look();
        next.send(None).unwrap();
    }
}
