//! The present run of an alias, shared by the threads that want it: one of them starts it, again where that
//! is allowed, and the others wait for what comes of it. Knows nothing of processes and calls.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::provider::alias::{Decision, Machine, Phase};

/// How a run is started.
pub struct Starts<'a, R, F> {
    /// Tries it once.
    pub start: &'a dyn Fn() -> Result<R, F>,
    /// Whether another attempt may go better after this failure. It counts for the limit of starts then.
    pub counts: fn(&F) -> bool,
    /// How long to wait after this many attempts have failed; none: no longer.
    pub pause: &'a dyn Fn(u32) -> Option<Duration>,
    /// Why there is none once it is closed.
    pub closed: &'a dyn Fn() -> F,
    /// Ends a run that nobody gets.
    pub discard: &'a dyn Fn(&R),
    /// The time, ms.
    pub now_ms: &'a dyn Fn() -> u64,
}

#[derive(Debug)]
pub struct Current<R, F> {
    machine: Mutex<Machine<R, F>>,
    /// The machine has another state.
    changed: Condvar,
}

/// A start lasts longer than somebody could wait.
#[derive(Debug)]
pub struct StillStarting;

impl<R, F> Default for Current<R, F> {
    fn default() -> Self {
        Self { machine: Mutex::default(), changed: Condvar::new() }
    }
}

impl<R: Clone + PartialEq, F: Clone> Current<R, F> {
    /// For what needs no waiting.
    pub fn lock(&self) -> MutexGuard<'_, Machine<R, F>> {
        self.machine.lock()
    }

    /// A run that can be used: the present one, or a fresh one that this thread starts, or that another
    /// thread does. The second is whether it was this one.
    pub fn get(&self, how: &Starts<'_, R, F>) -> (Result<R, F>, bool) {
        let mut machine = self.machine.lock();
        let mut waited_for = None;
        loop {
            if let Some(why) = waited_for.and_then(|attempt| machine.failure_of(attempt)) {
                return (Err(why), false);
            }
            match machine.get((how.now_ms)()) {
                Decision::Use(run) => return (Ok(run), false),
                Decision::Fail(why) => return (Err(why), false),
                Decision::Closed => return (Err((how.closed)()), false),
                Decision::Wait => {
                    waited_for = Some(machine.attempt());
                    self.changed.wait(&mut machine);
                }
                Decision::Start => return (self.start(&mut machine, how), true),
            }
        }
    }

    /// Starts a run, for all that wait for one.
    fn start(&self, machine: &mut MutexGuard<'_, Machine<R, F>>, how: &Starts<'_, R, F>) -> Result<R, F> {
        let mut failed = 0;
        loop {
            let mut result = MutexGuard::unlocked(machine, how.start);
            let counts = result.as_ref().err().is_none_or(how.counts);
            if let (Ok(run), true) = (&result, machine.is_abandoned()) {
                MutexGuard::unlocked(machine, || (how.discard)(run));
                result = Err((how.closed)());
            }
            let now_ms = (how.now_ms)();
            if counts {
                machine.count_start(now_ms);
            }
            failed += 1;
            let pause =
                if result.is_err() && counts && machine.may_try_again() { (how.pause)(failed) } else { None };
            if pause.is_some_and(|pause| self.pause(machine, pause)) {
                continue;
            }
            machine.started(result.clone(), counts);
            self.changed.notify_all();
            return result;
        }
    }

    /// Returns whether it was waited to the end: somebody may want that no run is started any more.
    fn pause(&self, machine: &mut MutexGuard<'_, Machine<R, F>>, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while !machine.is_given_up() {
            if self.changed.wait_until(machine, until).timed_out() {
                return !machine.is_given_up();
            }
        }
        false
    }

    /// Takes the run away to be stopped, if there is one: no other thread gets it any more, nor a new one,
    /// until [`Current::rest`]. A start that is under way is waited for, and not tried again.
    pub fn take(&self) -> Option<R> {
        let mut machine = self.machine.lock();
        while matches!(machine.phase(), Phase::Starting) {
            self.give_up(&mut machine);
            self.changed.wait(&mut machine);
        }
        machine.take()
    }

    /// Nobody gets a run any more, who waits for one neither.
    pub fn close(&self) {
        self.machine.lock().close();
        self.changed.notify_all();
    }

    /// The same as [`Current::take`], unless a start is under way that lasts longer than that: what it brings
    /// is then ended by who has started it.
    pub fn take_by(&self, until: Instant) -> Result<Option<R>, StillStarting> {
        let mut machine = self.machine.lock();
        while matches!(machine.phase(), Phase::Starting) {
            self.give_up(&mut machine);
            if self.changed.wait_until(&mut machine, until).timed_out()
                && matches!(machine.phase(), Phase::Starting)
            {
                machine.abandon();
                return Err(StillStarting);
            }
        }
        Ok(machine.take())
    }

    /// Says so once: two who wait for the same start would wake each other until it is over.
    fn give_up(&self, machine: &mut Machine<R, F>) {
        if !machine.is_given_up() {
            machine.give_up();
            self.changed.notify_all();
        }
    }

    /// What was taken is gone; the next thread starts afresh.
    pub fn rest(&self) {
        self.machine.lock().rest();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    type C = Current<u64, &'static str>;

    /// At most one run may be there at a time.
    #[derive(Default)]
    struct World {
        /// 0: none.
        present: AtomicU64,
        runs: AtomicU64,
        now_ms: AtomicU64,
    }

    impl World {
        fn begin(&self, fails: bool) -> Result<u64, &'static str> {
            let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
            assert_eq!(self.present.swap(run, Ordering::SeqCst), 0, "another one is there");
            if fails {
                self.end(run);
                return Err("why");
            }
            Ok(run)
        }

        fn end(&self, run: u64) {
            assert_eq!(self.present.swap(0, Ordering::SeqCst), run, "another one is there");
        }

        fn get(&self, current: &C, fails: bool, retries: u32) -> Result<u64, &'static str> {
            let how = Starts {
                start: &|| self.begin(fails),
                counts: |_| true,
                pause: &|failed| (failed <= retries).then_some(Duration::from_micros(10)),
                closed: &|| "closed",
                discard: &|run| self.end(*run),
                now_ms: &|| self.now_ms.fetch_add(1000, Ordering::Relaxed),
            };
            current.get(&how).0
        }
    }

    /// What one thread does in a round, by a number.
    fn act(world: &World, current: &C, what: u64) {
        match what % 8 {
            0 => {
                if let Some(run) = current.take() {
                    world.end(run);
                    current.rest();
                }
            }
            1 => current.lock().reset(),
            2 => {
                // It ends by itself, as whoever finds out says; another one may have taken it before.
                let mut machine = current.lock();
                if let Phase::Ready(run) = *machine.phase() {
                    world.end(run);
                    machine.ended(&run, "crashed");
                }
            }
            3 => drop(world.get(current, true, u32::from(what > 100))),
            _ => drop(world.get(current, false, 0)),
        }
    }

    /// All threads begin each round at once. A wake-up that is lost would leave one waiting for ever, and two
    /// runs at a time are found by the world.
    #[test]
    fn ten_thousand_rounds_of_threads_never_have_two_runs_and_never_wait_in_vain() {
        let (world, current) = (World::default(), C::default());
        let barrier = std::sync::Barrier::new(4);
        thread::scope(|scope| {
            for n in 0..4_u64 {
                let (world, current, barrier) = (&world, &current, &barrier);
                scope.spawn(move || {
                    let mut random = n * 0x9e37_79b9 + 1;
                    for _ in 0..10_000 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        barrier.wait();
                        act(world, current, (random >> 20) & 0xff);
                    }
                });
            }
        });
        current.lock().reset();
        assert!(world.get(&current, false, 0).is_ok());
        assert!(world.runs.load(Ordering::Relaxed) > 1000);
    }

    #[test]
    fn a_start_is_tried_again_as_often_as_is_said_and_told_to_all_who_wait() {
        let (world, current) = (World::default(), C::default());
        let waiters = 3;
        thread::scope(|scope| {
            let gets: Vec<_> = (0..waiters).map(|_| scope.spawn(|| world.get(&current, true, 2))).collect();
            gets.into_iter().for_each(|get| assert_eq!(get.join().unwrap(), Err("why")));
        });
        let runs = world.runs.load(Ordering::Relaxed);
        // Who came after the others had given up has tried it itself.
        assert!((3..=3 * waiters).contains(&runs), "{runs}");
        assert_eq!(current.lock().starts, runs);
    }

    #[test]
    fn retries_end_with_the_limit_of_starts() {
        let (world, current) = (World::default(), C::default());
        assert_eq!(world.get(&current, true, 10), Err("why"));
        assert_eq!(world.runs.load(Ordering::Relaxed), 5);
        assert_eq!(world.get(&current, false, 0), Err("why"), "it has failed for a minute");
    }

    #[test]
    fn who_wants_it_stopped_does_not_wait_for_the_retries() {
        let (world, current) = (World::default(), C::default());
        let (to, began) = crossbeam_channel::bounded(10);
        thread::scope(|scope| {
            let getting = scope.spawn(|| {
                let start = || {
                    to.send(()).unwrap();
                    world.begin(true)
                };
                let how = Starts {
                    start: &start,
                    counts: |_| true,
                    pause: &|_| Some(Duration::from_secs(3600)),
                    closed: &|| "closed",
                    discard: &|run| world.end(*run),
                    now_ms: &|| 0,
                };
                current.get(&how)
            });
            began.recv().unwrap();
            assert_eq!(current.take(), None);
            assert_eq!(getting.join().unwrap(), (Err("why"), true));
        });
        assert_eq!(world.runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_start_that_nobody_waits_for_leaves_nothing() {
        let (world, current) = (World::default(), C::default());
        let ((to, began), (go_on, goes_on)) =
            (crossbeam_channel::bounded(10), crossbeam_channel::bounded::<()>(10));
        thread::scope(|scope| {
            let getting = scope.spawn(|| {
                let start = || {
                    to.send(()).unwrap();
                    goes_on.recv().unwrap();
                    world.begin(false)
                };
                let how = Starts {
                    start: &start,
                    counts: |_| true,
                    pause: &|_| None,
                    closed: &|| "closed",
                    discard: &|run| world.end(*run),
                    now_ms: &|| 0,
                };
                current.get(&how)
            });
            began.recv().unwrap();
            assert!(current.take_by(Instant::now()).is_err());
            go_on.send(()).unwrap();
            assert_eq!(getting.join().unwrap(), (Err("closed"), true));
        });
        assert_eq!((world.present.load(Ordering::SeqCst), current.take()), (0, None));
        assert_eq!(world.get(&current, false, 0), Ok(2), "the next one is not meant");
    }

    #[test]
    fn nothing_is_started_after_the_close() {
        let (world, current) = (World::default(), C::default());
        assert_eq!(world.get(&current, false, 0), Ok(1));
        current.close();
        assert_eq!(world.get(&current, false, 0), Err("closed"));
        world.end(current.take().unwrap());
        current.rest();
        assert_eq!(world.get(&current, false, 0), Err("closed"));
        current.lock().reopen();
        assert_eq!(world.get(&current, false, 0), Ok(2));
    }
}
