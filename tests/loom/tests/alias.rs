//! What holds of an alias whatever the threads that use it do when: at most one run is there at a time, one
//! thread starts it for all, and nobody waits in vain. loom goes through the orders, and finds a thread that
//! waits for ever, and one that wakes others for ever, by itself.

#![forbid(unsafe_code)]

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use provost_loom::provider::alias::Phase;
use provost_loom::provider::current::{Current, Starts};

type Result<T> = std::result::Result<T, &'static str>;

/// A run that is there; 0: none.
#[derive(Default)]
struct World {
    current: Current<u64, &'static str>,
    present: AtomicU64,
    begun: AtomicU64,
}

impl World {
    fn begin(&self, fails: bool) -> Result<u64> {
        let run = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
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

    /// The first so many starts fail.
    fn get(&self, failing: u64, retries: u32) -> Result<u64> {
        let how = Starts {
            start: &|| self.begin(self.begun.load(Ordering::SeqCst) < failing),
            counts: |_| true,
            pause: &|failed| (failed <= retries).then_some(Duration::ZERO),
            closed: &|| "closed",
            discard: &|run| self.end(*run),
            now_ms: &|| 0,
        };
        self.current.get(&how).0
    }

    fn stop(&self) {
        if let Some(run) = self.current.take() {
            self.end(run);
            self.current.rest();
        }
    }

    /// It ends by itself, and whoever used it says so; whether that was news.
    fn crash(&self, run: u64) -> bool {
        let mut machine = self.current.lock();
        let is_news = machine.ended(&run, "crashed");
        if is_news {
            self.end(run);
        }
        is_news
    }

    /// What is there is what the machine says.
    fn is_sound(&self) {
        let expected = match *self.current.lock().phase() {
            Phase::Ready(run) => run,
            Phase::Idle | Phase::Failed { .. } => 0,
            Phase::Starting => panic!("nobody is at it any more"),
        };
        assert_eq!(self.present.load(Ordering::SeqCst), expected);
    }
}

/// Runs these at once, in every order that there is; the last of them on the thread of the model.
fn model(threads: &'static [fn(&World)], check: fn(&World)) {
    loom::model(move || {
        let world = Arc::new(World::default());
        let (last, others) = threads.split_last().expect("there is one");
        let others: Vec<_> = others
            .iter()
            .map(|act| {
                let world = Arc::clone(&world);
                thread::spawn(move || act(&world))
            })
            .collect();
        last(&world);
        others.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        world.is_sound();
        check(&world);
    });
}

fn wants(world: &World) {
    assert!(world.get(0, 0).is_ok());
}

#[test]
fn three_who_want_it_have_one_run() {
    model(&[wants, wants, wants], |world| assert_eq!(world.begun.load(Ordering::SeqCst), 1));
}

#[test]
fn who_waits_for_a_start_that_fails_learns_of_it_or_tries_it_itself() {
    fn wants(world: &World) {
        let _ = world.get(1, 0);
    }
    model(&[wants, wants, wants], |world| {
        assert!((1..=2).contains(&world.begun.load(Ordering::SeqCst)));
    });
}

#[test]
fn who_stops_it_while_others_want_it_stops_one_run_and_leaves_room_for_the_next() {
    model(&[wants, wants, World::stop], |world| {
        assert!((1..=2).contains(&world.begun.load(Ordering::SeqCst)));
    });
}

#[test]
fn two_who_stop_it_stop_it_once() {
    model(&[wants, World::stop, World::stop], |world| {
        assert_eq!(world.begun.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_end_that_two_find_is_news_once_and_takes_away_no_later_run() {
    fn finds(world: &World) {
        if let Ok(run) = world.get(0, 0) {
            world.crash(run);
        }
    }
    model(&[finds, finds], |world| {
        let begun = world.begun.load(Ordering::SeqCst);
        assert_eq!(world.current.lock().crashes, begun, "each run has ended once");
    });
    model(&[finds, wants, World::stop], |_| {});
}

#[test]
fn retries_end_with_a_stop_and_nobody_waits_for_them_in_vain() {
    fn retries(world: &World) {
        let _ = world.get(2, 2);
    }
    model(&[retries, World::stop], |_| {});
    model(&[retries, wants_what_fails, World::stop], |_| {});
}

fn wants_what_fails(world: &World) {
    let _ = world.get(2, 0);
}
