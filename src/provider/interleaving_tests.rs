//! Every order in which a few threads can use the machine of an alias. What they do with it they do under its
//! lock, one step after the other, so the orders of these steps are all that there are.

use std::collections::HashSet;

use crate::provider::alias::{Decision, Machine, Phase};

type M = Machine<u8, u8>;

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// It wants a run.
    Wants,
    /// It waits for this attempt of another thread, since so many changes.
    Waits {
        attempt: u64,
        changes: u8,
    },
    /// It starts one.
    Starts,
    /// It wants that there is none.
    Stops,
    /// It waits for a start to be over.
    AwaitsStart {
        changes: u8,
    },
    /// It stops what it has taken.
    Ends(u8),
    /// It finds that the run that it used has ended.
    Finds(u8),
    Done,
}

/// Everything that there is.
#[derive(Clone)]
struct World {
    machine: M,
    threads: Vec<At>,
    /// How often everybody was woken who waited by then.
    changes: u8,
    /// Runs that there are.
    alive: Vec<u8>,
    begun: u8,
    /// Whether the next start fails.
    fails: bool,
}

impl World {
    fn new(threads: &[At], fails: bool) -> Self {
        let (machine, alive) = (M::default(), Vec::new());
        Self { machine, threads: threads.to_vec(), changes: 0, alive, begun: 0, fails }
    }

    /// One step of this thread. None: it sleeps, or is done.
    fn step(&self, n: usize) -> Option<Self> {
        let mut next = self.clone();
        next.threads[n] = match self.threads[n] {
            At::Done => return None,
            At::Waits { changes, .. } | At::AwaitsStart { changes } if changes == self.changes => {
                return None;
            }
            At::Waits { attempt, .. } if self.machine.failure_of(attempt).is_some() => At::Done,
            At::Wants | At::Waits { .. } => match next.machine.get(0) {
                Decision::Use(run) => {
                    assert!(
                        self.alive.contains(&run) || self.threads.contains(&At::Finds(run)),
                        "a dead run"
                    );
                    At::Done
                }
                Decision::Fail(_) | Decision::Closed => At::Done,
                Decision::Wait => At::Waits { attempt: next.machine.attempt(), changes: next.changes },
                Decision::Start => At::Starts,
            },
            At::Starts => {
                assert_eq!(next.alive, [0; 0], "another run is there");
                next.begun += 1;
                next.machine.count_start(0);
                let result = if next.fails { Err(next.begun) } else { Ok(next.begun) };
                if result.is_ok() {
                    next.alive.push(next.begun);
                }
                next.fails = false;
                next.machine.started(result, true);
                next.changes += 1;
                At::Done
            }
            At::Stops | At::AwaitsStart { .. } => match next.machine.phase() {
                Phase::Starting => {
                    next.machine.give_up();
                    At::AwaitsStart { changes: next.changes }
                }
                _ => next.machine.take().map_or(At::Done, At::Ends),
            },
            At::Ends(run) => {
                // It may have ended by itself before.
                assert!(next.alive == [run] || next.alive.is_empty(), "it is taken once");
                next.alive.clear();
                next.machine.rest();
                next.changes += 1;
                At::Done
            }
            At::Finds(run) => {
                next.machine.ended(&run, 99);
                At::Done
            }
        };
        Some(next)
    }

    /// The present run ends by itself, and this thread, which used it, will find out.
    fn crash(&self, n: usize) -> Option<Self> {
        let Phase::Ready(run) = *self.machine.phase() else { return None };
        let is_free = self.threads[n] == At::Done && self.alive.contains(&run);
        is_free.then(|| {
            let mut next = self.clone();
            next.alive.clear();
            next.threads[n] = At::Finds(run);
            next
        })
    }

    fn key(&self) -> String {
        let rest = (&self.threads, self.changes, &self.alive, self.begun, self.fails);
        format!("{:?} {rest:?}", self.machine)
    }
}

/// Goes every way from here, and returns how many worlds there are. `crashes`: how many runs may still end by
/// themselves.
fn explore(world: World, crashes: u8, seen: &mut HashSet<String>) {
    if !seen.insert(format!("{crashes} {}", world.key())) {
        return;
    }
    let mut is_over = true;
    for n in 0..world.threads.len() {
        if let Some(next) = world.step(n) {
            is_over = false;
            explore(next, crashes, seen);
        }
        if crashes > 0
            && let Some(next) = world.crash(n)
        {
            explore(next, crashes - 1, seen);
        }
    }
    if is_over {
        assert!(world.threads.iter().all(|&at| at == At::Done), "waits for ever: {:?}", world.threads);
        assert!(!matches!(world.machine.phase(), Phase::Starting), "nobody is at it any more");
        assert!(world.alive.len() <= 1);
    }
}

#[test]
fn in_every_order_of_three_who_want_it_and_one_who_stops_it_there_is_one_run_and_nobody_waits_in_vain() {
    for fails in [false, true] {
        for stoppers in 0..=2 {
            let mut threads = vec![At::Wants; 3];
            threads.extend(vec![At::Stops; stoppers]);
            let mut seen = HashSet::new();
            explore(World::new(&threads, fails), 2, &mut seen);
            assert!(seen.len() > 50, "{} worlds", seen.len());
        }
    }
}

#[test]
fn a_defect_would_be_found() {
    // Whoever starts it says nothing to those who wait.
    let mut world = World::new(&[At::Wants, At::Wants], false);
    world = world.step(0).unwrap().step(1).unwrap().step(0).unwrap();
    world.changes = 0;
    let found = std::panic::catch_unwind(|| explore(world, 0, &mut HashSet::new()));
    assert!(found.is_err());
}
