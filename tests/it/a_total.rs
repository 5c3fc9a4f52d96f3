//! Kills under load, of the engine and of all there is, while several clients start, stop and remove. Nothing
//! that was acknowledged is lost, nothing is there twice, and nobody else is touched: canaries run beside,
//! and count signals.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::harness::{LATER, Options, Random, SOON, Service, procfs, rounds, wait};

/// How many clients, and names that each has for itself.
const CLIENTS: usize = 3;
const NAMES: usize = 3;
/// How many kills there are between two looks at everything.
const STRETCH: u32 = 5;
/// An engine that lived so long counts as healthy, and the next one is started without a delay.
const HEALTHY: Duration = Duration::from_millis(1100);

/// `many` with PROVOST_TEST_ROUNDS of 10 or more.
fn kills(few: u32, many: u32) -> u32 {
    if rounds(1) >= 10 { many } else { few }
}

/// How a process may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Absent,
    Running,
    Stopped,
}

/// What is done to it, by the words for it, and how it may be found while it is not known whether it was
/// done.
struct Deed {
    args: Vec<String>,
    then: Is,
    between: Vec<Is>,
}

/// What is known of each name: more than one, if the service died under a command.
type Known = Mutex<BTreeMap<String, Vec<Is>>>;

/// Everything that the clients share.
struct Load<'s> {
    service: &'s Service,
    known: Known,
    /// Held by each command; by the one who looks, nobody commands.
    quiet: RwLock<()>,
    is_over: AtomicBool,
    acknowledged: AtomicU32,
}

impl Load<'_> {
    fn deed(&self, name: &str, is: Is, random: &mut Random) -> Deed {
        let args = |args: &[&str]| args.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        match (is, random.below(3)) {
            (Is::Absent, _) => {
                Deed { args: self.service.start_args(name, &[]), then: Is::Running, between: vec![] }
            }
            (Is::Running, 0) => Deed {
                args: args(&["remove", "--force", name]),
                then: Is::Absent,
                between: vec![Is::Stopped],
            },
            (Is::Running, _) => Deed { args: args(&["stop", name]), then: Is::Stopped, between: vec![] },
            (Is::Stopped, 0) => Deed { args: args(&["remove", name]), then: Is::Absent, between: vec![] },
            (Is::Stopped, _) => Deed { args: args(&["start", name]), then: Is::Running, between: vec![] },
        }
    }

    /// One client, until it is over. `may_fail`: all die, and not only the engine.
    fn client(&self, n: usize, mut random: Random, may_fail: bool) {
        while !self.is_over.load(Ordering::Relaxed) {
            let _held = self.quiet.read();
            let name = format!("c{n}-{}", random.below(NAMES as u64));
            let now = self.known.lock().get(&name).cloned().unwrap_or_else(|| vec![Is::Absent]);
            // What is not known is found out by the next look.
            let [is] = now[..] else {
                wait::pass(Duration::from_millis(1));
                continue;
            };
            let Deed { args, then, between } = self.deed(&name, is, &mut random);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let done = self.service.cli(&args);
            let is_recorded = done.code == 0 && !done.err().contains("not recorded");
            assert!(is_recorded || may_fail, "provost {args:?}\n{done:?}\n{}", self.service.log());
            let may = if is_recorded { vec![then] } else { [vec![is, then], between].concat() };
            self.acknowledged.fetch_add(u32::from(is_recorded), Ordering::Relaxed);
            self.known.lock().insert(name, may);
        }
    }

    /// Looks at everything while nobody commands.
    #[track_caller]
    fn look(&self, what: &str) {
        let _quiet = self.quiet.write();
        let found = self.service.expect_sound(what);
        let mut known = self.known.lock();
        for (name, may) in known.iter_mut() {
            let is = match found.get(name) {
                None => Is::Absent,
                Some(p) if p["state"] == "running" => Is::Running,
                Some(p) if p["state"] == "stopped" => Is::Stopped,
                Some(p) => panic!("{what}: {p}"),
            };
            assert!(
                may.contains(&is),
                "{what}: {name} was to be {may:?}, and is {is:?}: {found:?}\n{}",
                self.service.log()
            );
            *may = vec![is];
        }
    }
}

/// Clients at work while `kill` does its own, told the number of the kill; a look now and then.
fn under_load(service: &Service, kills: u32, may_fail: bool, mut kill: impl FnMut(&mut Random)) {
    let mut random = Random::new();
    let load = Load {
        service,
        known: Mutex::default(),
        quiet: RwLock::new(()),
        is_over: AtomicBool::new(false),
        acknowledged: AtomicU32::new(0),
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (load, seeded) = (&load, Random::seeded(random.below(1 << 40)));
                scope.spawn(move || load.client(n, seeded, may_fail))
            })
            .collect();
        let killing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 1..=kills {
                // One that failed: on to its panic.
                if clients.iter().any(thread::ScopedJoinHandle::is_finished) {
                    return;
                }
                // All names are known now: enough is acknowledged, however slow the machine, before the next
                // kills.
                if n % STRETCH == 1 {
                    let enough = load.acknowledged.load(Ordering::Relaxed) + STRETCH;
                    wait::until("there is load", LATER, || {
                        load.acknowledged.load(Ordering::Relaxed) > enough
                            || clients.iter().any(thread::ScopedJoinHandle::is_finished)
                    });
                }
                kill(&mut random);
                if n % STRETCH == 0 || n == kills {
                    load.look(&format!("after {n} kills"));
                }
            }
        }));
        load.is_over.store(true, Ordering::Relaxed);
        killing.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    });
    let acknowledged = load.acknowledged.into_inner();
    println!("{kills} kills, {acknowledged} commands acknowledged: none lost, nothing doubled");
}

/// A process that has nothing to do with the service, and notes each signal that can be noted.
struct Canary {
    what: &'static str,
    child: Child,
    notes: String,
}

/// Ends with its standard input, and by a signal: after it was noted, if that can be.
const NOTES: &str =
    "for s in HUP INT QUIT TERM CONT USR1 USR2; do trap \"echo $s >>$0\" $s; done; echo up >>$0; read x";

impl Canary {
    fn new(what: &'static str, notes: String, set_up: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", NOTES, &notes]).stdin(Stdio::piped());
        set_up(&mut command);
        let child = command.spawn().expect("there is a shell");
        wait::until("the canary sings", SOON, || fs::read_to_string(&notes).is_ok_and(|n| n == "up\n"));
        Self { what, child, notes }
    }

    #[track_caller]
    fn expect_untouched(mut self) {
        let noted = fs::read_to_string(&self.notes).expect("the directory is ours");
        assert_eq!(noted, "up\n", "{} was signalled", self.what);
        let ended = self.child.try_wait().expect("it is our child");
        assert_eq!(ended, None, "{} has ended", self.what);
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Those who look most like ours. `id`: of a process that is killed and started all the time.
fn canaries(service: &Service, id: &str) -> Vec<Canary> {
    let notes = |n: u32| service.scratch().file(&format!("canary-{n}"));
    vec![
        Canary::new("somebody", notes(1), |_| {}),
        Canary::new("an engine by its command line", notes(2), |c| {
            c.arg0("provost").args(["engine", "--exe", "provost"]);
        }),
        Canary::new("one with an id of ours, of another service", notes(3), |c| {
            let other = "018f0000-0000-7000-8000-000000000000";
            c.envs([("PROVOST_ID", id), ("PROVOST_SERVICE", other), ("PROVOST_RUN", "1")]);
        }),
        Canary::new("one with the name of ours", notes(4), |c| {
            c.envs([("PROVOST_NAME", "steady"), ("PROVOST_RUN", "1")]);
        }),
    ]
}

/// One that is there all the time.
fn steady(service: &Service) -> String {
    let args = service.start_args("steady", &[]);
    service.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a1_acknowledged_holds_over_kills_of_the_engine() {
    let service = Service::new();
    let id = steady(&service);
    let canaries = canaries(&service, &id);
    let pid = procfs::with_variable("PROVOST_ID", &id);
    let follow = service.background(&["events", "--follow", "--since", "0", "--json"]);
    let mut killed = 0;
    under_load(&service, kills(30, 1000), false, |random| {
        wait::pass(Duration::from_micros(random.below(120_000)));
        let engine = service.engine_pid();
        procfs::signal("KILL", engine);
        wait::until("there is another engine", SOON, || service.engine_now().is_some_and(|e| e != engine));
        killed += 1;
        if killed % STRETCH == 0 {
            wait::pass(HEALTHY);
        }
    });
    canaries.into_iter().for_each(Canary::expect_untouched);
    let alive = procfs::with_variable("PROVOST_ID", &id);
    assert!(alive.iter().all(|p| pid.contains(p)) && alive.len() == 1, "{alive:?}, of {pid:?}");

    // A client that follows, and one that asks afterwards, get each event once and in order.
    let kept = service.cli(&["events", "--since", "0", "--json"]).expect(0).json();
    let numbers: Vec<u64> = kept.iter().filter_map(|e| e["seq"].as_u64()).collect();
    let all: Vec<u64> = (1..=kept.len() as u64).collect();
    assert_eq!(numbers, all, "what is kept has no hole");
    for event in &kept {
        let line = follow.line(LATER).expect("it goes on");
        let followed: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(&followed, event, "followed, and kept\n{}", follow.stderr_text());
    }
    println!("{} events, each followed once", kept.len());
    drop(follow);
    service.end();
}

#[test]
fn a1_acknowledged_holds_over_kills_of_all() {
    kills_of_all(&[], kills(15, 500));
}

#[test]
fn a1_acknowledged_holds_over_kills_of_all_without_cgroups() {
    kills_of_all(&["--cgroups", "off"], kills(10, 500));
}

/// Children live through some of the kills, and die in others; the service is killed also while it begins.
fn kills_of_all(options: &[&str], kills: u32) {
    let service = Options::new().serve(options).start();
    let id = steady(&service);
    let canaries = canaries(&service, &id);
    let mut seen = 0;
    under_load(&service, kills, true, |random| {
        let within = if random.below(4) == 0 { 30_000 } else { 400_000 };
        wait::pass(Duration::from_micros(random.below(within)));
        let mut also = Vec::new();
        if random.below(2) == 0 {
            also = service.marked();
            also.retain(|_| random.below(2) == 0);
        }
        service.kill_at_once(&also);
        service.expect_whole_files("killed");
        service.serve_again();
        seen += 1;
    });
    assert_eq!(seen, kills);
    assert_eq!(service.settled()["steady"]["state"], "running");
    canaries.into_iter().for_each(Canary::expect_untouched);
    service.end();
}
