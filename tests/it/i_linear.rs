//! Many clients at a few names of the registry. What they did to each name and were answered has to fit one
//! order of events: nobody sees an entry before it is registered or after it was unregistered, of two who
//! register one name one wins, and what was stopped runs only when somebody has started it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use provost::Client;
use provost::wire::error::Error;
use provost::wire::provider::{Definition, ProviderName, TYPE_PROCESS};
use provost::wire::registration::Registration;
use provost::wire::registry::{RegistryAnswer, RegistryCall, Verb, Whom};

use crate::harness::{Random, Registry};
use crate::linear::{Model, Op, Request, history, in_order, linearize};

const CLIENTS: u64 = 32;
/// How often each client asks.
const ASKS: u64 = 12;
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Where an entry is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Absent,
    /// Its name is taken.
    Registering,
    There,
    /// Its users leave.
    Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    life: Life,
    runs: bool,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reserves,
    Registers,
    Leaves,
    Goes,
    Runs,
    Rests,
    Seen(Seen),
}

/// What an answer says of how it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Absent,
    /// Its name is taken, however.
    Taken,
    /// It is being made or taken away.
    Between,
    /// There is nothing yet that could be started or stopped.
    NotYet,
    Running,
    Resting,
}

impl Model for Entry {
    type Step = Step;

    fn shows(self, step: Step) -> bool {
        let Step::Seen(seen) = step else { return false };
        match seen {
            Seen::Absent => self.life == Life::Absent,
            Seen::Taken => self.life != Life::Absent,
            Seen::Between => matches!(self.life, Life::Registering | Life::Leaving),
            Seen::NotYet => matches!(self.life, Life::Absent | Life::Registering),
            Seen::Running => self.life == Life::There && self.runs,
            Seen::Resting => self.life == Life::There && !self.runs,
        }
    }

    fn after(self, step: Step) -> Vec<Self> {
        let is_usable = matches!(self.life, Life::Registering | Life::There);
        match step {
            Step::Reserves if self.life == Life::Absent => {
                vec![Self { life: Life::Registering, runs: false }]
            }
            Step::Registers if self.life == Life::Registering => vec![Self { life: Life::There, ..self }],
            Step::Leaves if self.life == Life::There => vec![Self { life: Life::Leaving, ..self }],
            Step::Goes if self.life == Life::Leaving => vec![Self { life: Life::Absent, runs: false }],
            Step::Runs if is_usable => vec![Self { runs: true, ..self }],
            Step::Rests if is_usable => vec![Self { runs: false, ..self }],
            _ => vec![],
        }
    }

    /// All of it may come again.
    fn is_over(self, _: Step) -> bool {
        false
    }
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Register,
    Unregister,
    Get,
    List,
    Start,
    Stop,
}

impl Ask {
    /// Of twelve that are drawn: starts and stops of processes take their time.
    fn drawn(n: u64) -> Self {
        match n {
            0..3 => Self::Register,
            3..5 => Self::Unregister,
            5..8 => Self::Get,
            8 => Self::List,
            9..11 => Self::Stop,
            _ => Self::Start,
        }
    }

    fn call(self, name: &str) -> RegistryCall {
        let definition = Definition { binary: "fine".into(), ..Definition::default() };
        let registration =
            Registration { kind: TYPE_PROCESS.into(), definition, namespace: None, labels: Vec::new() };
        let verb = match self {
            Self::Register => Verb::Register(Box::new(registration)),
            Self::Unregister => Verb::Unregister,
            Self::Get | Self::List => Verb::Show,
            Self::Start => Verb::Start,
            Self::Stop => Verb::Stop,
        };
        let one = Whom::One(ProviderName::new("", name).expect("it is a name"));
        RegistryCall { whom: if matches!(self, Self::List) { Whom::All(None) } else { one }, verb }
    }

    /// What the answer says has happened to one name.
    fn steps(self, name: &str, answer: &Result<RegistryAnswer, Error>) -> Vec<Step> {
        let reason = answer.as_ref().err().map_or("", |e| e.reason.as_str());
        let seen = |seen| vec![Step::Seen(seen)];
        match (self, answer) {
            (Self::Register, Ok(_)) => vec![Step::Reserves, Step::Runs, Step::Registers],
            (Self::Register, Err(_)) if reason == "already_exists" => seen(Seen::Taken),
            (Self::Unregister, Ok(_)) => vec![Step::Leaves, Step::Goes],
            (Self::Unregister, Err(_)) if reason == "busy" => seen(Seen::Between),
            (Self::Start, Ok(_)) => vec![Step::Runs],
            (Self::Stop, Ok(_)) => vec![Step::Rests],
            (Self::Start | Self::Stop, Err(_)) if reason == "disposed" => seen(Seen::Between),
            (Self::Start | Self::Stop, Err(_)) if reason == "alias_not_found" => seen(Seen::NotYet),
            (Self::List, Ok(answer)) => {
                let is_there = answer.entries.iter().any(|entry| entry.provider.name.alias() == name);
                seen(if is_there { Seen::Taken } else { Seen::Absent })
            }
            (Self::Get, Ok(answer)) => match answer.entries[0].status.as_str() {
                "ready" => seen(Seen::Running),
                "idle" | "stopped" => seen(Seen::Resting),
                "disposing" | "unregistered" => seen(Seen::Between),
                // Of the entry, or of its process, which is on its way up or down.
                "initializing" => seen(Seen::Taken),
                other => panic!("{name} is {other}"),
            },
            (_, Err(_)) if reason == "not_found" => seen(Seen::Absent),
            (_, Err(e)) => panic!("{self:?} {name}: {e:?}"),
        }
    }
}

/// One request for one name.
type Named = (&'static str, Request<Step>);

/// One client: asks at random and writes down what it was told.
fn client(mut host: Client, seed: u64, clock: &AtomicU64) -> Vec<Named> {
    let mut random = Random::seeded(seed);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let mut requests = Vec::new();
    for _ in 0..ASKS {
        let ask = Ask::drawn(random.below(12));
        let name = NAMES[random.below(NAMES.len() as u64) as usize];
        let asked = tick();
        let answer = host.registry(ask.call(name));
        let answered = tick();
        let names = if matches!(ask, Ask::List) { &NAMES[..] } else { &[name] };
        requests.extend(names.iter().map(|&name| (name, (ask.steps(name, &answer), asked, answered))));
    }
    requests
}

#[test]
fn the_registry_is_linearizable_under_32_threads() {
    let registry = Registry::start();
    // The host is run before they begin.
    registry.host();
    let (clock, mut random) = (AtomicU64::new(0), Random::new());
    let seeds: Vec<u64> = (0..CLIENTS).map(|_| random.below(1 << 50)).collect();
    let barrier = Barrier::new(seeds.len());
    let all: Vec<Named> = thread::scope(|scope| {
        let clients: Vec<_> = (seeds.iter())
            .map(|&seed| {
                let (host, clock, barrier) = (registry.host(), &clock, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    client(host, seed, clock)
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("it was answered")).collect()
    });
    let mut by_name: BTreeMap<&str, Vec<Request<Step>>> = BTreeMap::new();
    for (name, request) in all {
        by_name.entry(name).or_default().push(request);
    }
    let mut won = BTreeSet::new();
    for (name, mut requests) in by_name {
        // What is there in the end is part of the history.
        let end = clock.fetch_add(1, Ordering::SeqCst);
        let answer = registry.host().registry(Ask::Get.call(name));
        requests.push((Ask::Get.steps(name, &answer), end, end));
        let ops: Vec<Op<Step>> = history(requests);
        won.extend(ops.iter().any(|op| op.step == Step::Goes).then_some(name));
        if let Err(why) = linearize(&ops, Entry { life: Life::Absent, runs: false }) {
            std::fs::write(registry.0.scratch().file("history"), in_order(&ops)).expect("it is ours");
            panic!("no order explains the history of {name}, which is in the kept directory: {why}");
        }
    }
    // They met: most names have come and gone.
    assert!(won.len() >= NAMES.len() / 2, "{won:?}");
}

/// The model: it must be able to say no.
#[test]
fn what_the_registry_may_not_answer_has_no_order() {
    let fits = |requests: &[(&[Step], u64, u64)]| {
        let requests = requests.iter().map(|(steps, asked, answered)| (steps.to_vec(), *asked, *answered));
        linearize(&history(requests), Entry { life: Life::Absent, runs: false }).is_ok()
    };
    let register: &[Step] = &[Step::Reserves, Step::Runs, Step::Registers];
    let (unregister, seen): (&[Step], _) = (&[Step::Leaves, Step::Goes], |seen| [Step::Seen(seen)]);
    assert!(fits(&[(register, 0, 9), (&seen(Seen::Taken), 1, 2), (&seen(Seen::Running), 10, 11)]));
    // Two who register one name at once.
    assert!(!fits(&[(register, 0, 5), (register, 1, 6)]));
    assert!(fits(&[(register, 0, 5), (register, 1, 6), (unregister, 2, 3)]));
    // Seen after it has gone, and gone after it was seen.
    assert!(!fits(&[(register, 0, 1), (unregister, 2, 3), (&seen(Seen::Taken), 4, 5)]));
    assert!(!fits(&[(register, 0, 1), (&seen(Seen::Absent), 2, 3)]));
    // Stopped, and runs without a start.
    assert!(!fits(&[(register, 0, 1), (&[Step::Rests], 2, 3), (&seen(Seen::Running), 4, 5)]));
}
