//! Many clients at one process. All they did and all they were answered must fit one order of events in which
//! every request happened between its question and its answer: the history is linearizable (`linear.rs`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use provost::Client;
use provost::wire::process::State;
use provost::wire::reply::Item;
use provost::wire::request::Stop;

use crate::harness::{Random, Service, procfs, rounds};
use crate::linear::{Model, Op, Request, history, in_order, linearize};

/// A step of the model: a restart is a rest, a run, and a look at what is there when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Runs afterwards, at least for an instant.
    Runs,
    /// Was asked to run, and perhaps a stop came first.
    MayRun,
    /// Rests, at least for an instant.
    Rests,
    /// Was seen so.
    Seen(State, u64),
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Start,
    Stop,
    Restart,
    Status,
}

/// What the model knows: whether it runs, and the number of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Runs {
    runs: bool,
    run: u64,
}

impl Model for Runs {
    type Step = Step;

    fn shows(self, step: Step) -> bool {
        match step {
            Step::Seen(State::Running | State::Starting, run) => self.runs && self.run == run,
            Step::Seen(State::Stopped, run) => !self.runs && self.run == run,
            // On its way down: not there yet, or already on its way up again.
            Step::Seen(State::Stopping, run) => self.run == run,
            Step::Seen(State::Backoff | State::Failed | State::Scheduled, _)
            | Step::Runs
            | Step::MayRun
            | Step::Rests => false,
        }
    }

    fn after(self, step: Step) -> Vec<Self> {
        let started = if self.runs { self } else { Self { runs: true, run: self.run + 1 } };
        match step {
            Step::Runs => vec![started],
            Step::MayRun if self.runs => vec![self],
            Step::MayRun => vec![started, self],
            Step::Rests => vec![Self { runs: false, ..self }],
            Step::Seen(..) => vec![],
        }
    }

    /// Run numbers only grow: what was seen of an earlier run can no longer be explained.
    fn is_over(self, step: Step) -> bool {
        matches!(step, Step::Seen(_, run) if run < self.run)
    }
}

/// The steps of one request by its answer.
fn steps(verb: Verb, item: &Item) -> Vec<Step> {
    let process = item.process.as_ref().expect("it is never removed");
    let seen = Step::Seen(process.state, process.run);
    // Overtaken by what another client asked for: then it claims nothing but what it saw.
    let done = item.error.is_none();
    match verb {
        Verb::Start if done => vec![Step::Runs, seen],
        Verb::Start => vec![Step::MayRun, seen],
        // Without --no-kill it was gone in any case; an error says that it was started again since.
        Verb::Stop => vec![Step::Rests, seen],
        Verb::Restart if done => vec![Step::Rests, Step::Runs, seen],
        Verb::Restart => vec![Step::Rests, Step::MayRun, seen],
        Verb::Status => vec![seen],
    }
}

/// How often each client asks.
const ASKS: u32 = 50;

/// One client: asks at random and writes down what it was told.
fn client(mut client: Client, id: &str, seed: u64, clock: &AtomicU64) -> Vec<Request<Step>> {
    let mut random = Random::seeded(seed);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let target = || vec![id.to_owned()];
    let mut requests = Vec::new();
    for _ in 0..ASKS {
        let verb = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Status][random.below(4) as usize];
        let asked = tick();
        let answer = match verb {
            Verb::Start => client.start_again(target()),
            Verb::Stop => client.stop(Stop { targets: target(), ..Stop::default() }),
            Verb::Restart => client.restart(target()),
            Verb::Status => client.status(target()),
        };
        let answered = tick();
        let items = answer.expect("the service answers");
        requests.push((steps(verb, &items[0]), asked, answered));
    }
    requests
}

#[test]
fn b12_history_is_linearizable() {
    // Short histories: the search for an order grows with their length.
    for _ in 0..rounds(1) {
        contest(&Service::new());
    }
}

fn contest(service: &Service) {
    let id = service.start(&["--name", "contested", "--", "sleep", "86000"]);
    let clock = AtomicU64::new(0);
    let end = AtomicBool::new(false);
    let mut random = Random::new();
    let seeds: Vec<u64> = (0..8).map(|_| random.below(1 << 50)).collect();
    let (histories, most) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // Whoever asks for what: there is never more than one.
            let mut most = 0;
            while !end.load(Ordering::Relaxed) {
                let ours = procfs::children(service.keeper_pid()).into_iter();
                let alive = ours.filter(|s| s.state != 'Z' && procfs::command(s.pid) == "sleep 86000");
                most = most.max(alive.count());
            }
            most
        });
        let clients: Vec<_> = (seeds.iter())
            .map(|&seed| {
                let (connected, id, clock) = (service.client(), &id, &clock);
                scope.spawn(move || client(connected, id, seed, clock))
            })
            .collect();
        let histories: Vec<_> = clients.into_iter().map(|c| c.join().expect("it was answered")).collect();
        end.store(true, Ordering::Relaxed);
        (histories, watcher.join().expect("it only looks"))
    });
    assert!(most <= 1, "{most} instances at once");
    let ops = history(histories.into_iter().flatten());
    if let Err(why) = linearize(&ops, Runs { runs: true, run: 1 }) {
        std::fs::write(service.scratch().file("history"), in_order(&ops)).expect("the directory is ours");
        panic!("no order explains the history, which is in the kept directory: {why}");
    }
    let process = service.status_json(&id);
    let events = service.events();
    let mut starts: Vec<_> =
        events.iter().filter(|e| e["kind"] == "started").map(|e| e["run"].as_u64()).collect();
    let all = starts.len();
    starts.dedup();
    assert_eq!(starts.len(), all, "each run is started once at most");
    assert!(
        starts.is_sorted() && process["run"].as_u64() >= starts.last().copied().flatten(),
        "{starts:?} {process}"
    );
}

/// The search itself: it must be able to say no.
#[test]
fn b12_the_search_finds_what_cannot_be() {
    let op = |step, asked, answered| Op { step, asked, answered, after: None };
    let begin = Runs { runs: false, run: 0 };
    let run = |asked, answered| {
        [op(Step::Runs, asked, answered), op(Step::Seen(State::Running, 1), asked, answered)]
    };
    let good =
        [&run(0, 5)[..], &[op(Step::Seen(State::Stopped, 0), 1, 2), op(Step::Seen(State::Running, 1), 3, 4)]];
    assert_eq!(linearize(&good.concat(), begin), Ok(()));
    let stale = [&run(0, 1)[..], &[op(Step::Seen(State::Stopped, 0), 2, 3)]];
    assert!(linearize(&stale.concat(), begin).is_err());
    let twice = [&run(0, 1)[..], &[op(Step::Runs, 2, 3), op(Step::Seen(State::Running, 2), 2, 3)]];
    assert!(linearize(&twice.concat(), begin).is_err());
}
