//! What an earlier service left is known without its own word: looks that an exec does not mislead, and
//! spawns that are on record before anything else of a process is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use provost::sys::environ::{Environ, Reader};

use crate::e_disk::{database, hold};
use crate::harness::{
    LATER, Options, Random, Running, SOON, Scratch, Service, UNMARKED, fixture, procfs, rounds, serve, wait,
};

/// A duration for `sleep` that no other test has: its processes are found by their command line alone.
fn nap(n: u32) -> String {
    format!("{}.{}", 82_000 + n, std::process::id())
}

fn naps(nap: &str) -> Vec<u32> {
    let mut found = procfs::with_command(&format!("sleep {nap}"));
    found.retain(|&pid| procfs::command(pid).starts_with("sleep "));
    found
}

/// Ends what a failed test leaves of those that carry no mark.
struct Sweep(String);

impl Drop for Sweep {
    fn drop(&mut self) {
        naps(&self.0).into_iter().chain(leaders(&self.0)).for_each(|pid| procfs::signal("KILL", pid));
    }
}

struct Looping(Vec<Child>);

impl Drop for Looping {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A million looks with PROVOST_TEST_ROUNDS=50.
#[test]
fn a18_no_look_at_processes_that_execute_all_the_time_misses_its_mark() {
    let again = || {
        let mut command = Command::new(fixture("again"));
        command.env_clear().env("PROVOST_ID", "looked-at").stdin(Stdio::null());
        command.spawn().expect("it is built")
    };
    let looping = Looping((0..4).map(|_| again()).collect());
    let pids: Vec<u32> = looping.0.iter().map(Child::id).collect();
    let mut reader = Reader::default();
    let looks = rounds(20_000);
    for n in 0..looks {
        let pid = pids[n as usize % pids.len()];
        let environ = reader.settle(pid).expect("there are means to look");
        let is_seen = matches!(environ, Environ::Is(env) if env == b"PROVOST_ID=looked-at\0");
        assert!(is_seen, "look {n} at {pid}: {environ:?}");
    }
    drop(looping);
    let nobody = reader.settle(pids[0]).expect("there are means to look");
    assert_eq!(nobody, Environ::Nothing, "it is gone");
    println!("{looks} looks, none missed");
}

/// Root without CAP_SYS_PTRACE, as it is in containers, may not look at what runs as another user; the mark
/// of whoever has left group, session and parents is found all the same.
#[test]
fn a18_root_without_ptrace_finds_what_runs_as_another_user() {
    let nap = nap(1);
    let _sweep = Sweep(nap.clone());
    // The other two let in, too, by newer kernels.
    let less = "-sys_ptrace,-perfmon,-sys_admin";
    let without = ["setpriv", "--bounding-set", less, "--inh-caps", less];
    let service = Options::new().without_cgroups().through(&without).start();
    let script = format!("(setsid sleep {nap} &); exec sleep 81999");
    let user = ["--user", "nobody", "--name", "web", "--", "sh", "-c", &script];
    service.start(&user);
    wait::until("the daemon is there", SOON, || naps(&nap).len() == 1);
    service.ok(&["stop", "web"]);
    assert_eq!(naps(&nap), Vec::<u32>::new(), "a stop ends it");
    service.ok(&["start", "web"]);
    wait::until("the daemon is there again", SOON, || naps(&nap).len() == 1);
    let old = naps(&nap);
    service.until_store("sound");
    service.kill_service();
    service.serve_again();
    service.until_state("web", "running");
    assert!(old.iter().all(|&pid| !procfs::alive(pid)), "the next service ends it, too");
    service.ok(&["stop", "web"]);
}

/// A service that does so with what has outlived it.
fn with_policy(policy: &str, options: Options) -> (Service, Scratch) {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    fs::write(&config, format!("orphans = {policy:?}\n")).expect("the directory is ours");
    (options.serve(&["--config", &config]).start(), scratch)
}

/// Runs of which nothing could be stored, by leaders that have thrown their marks away and write.
fn unstored(policy: &str, nap: &str) -> (Service, Scratch, Running) {
    let (service, scratch) = with_policy(policy, Options::new().without_cgroups());
    let options = ["--name", "web", "--restart", "always", "--restart-delay", "0", "--"];
    let script = format!("while :; do echo tick; sleep 0.1; done; : sleep {nap}");
    let leader = [&UNMARKED[..], &["PATH=/usr/bin:/bin", "sh", "-c", &script]].concat();
    service.start(&[&options[..], &leader].concat());
    wait::until("it has taken off its mark", SOON, || leaders(nap).len() == 1);
    service.until_store("sound");
    let holder = hold(&database(&service), "db.execute('begin immediate')");
    procfs::signal("KILL", service.pid("web"));
    wait::until("the next run is there", SOON, || {
        service.status_json("web")["run"] == 2 && leaders(nap) == [service.pid("web")]
    });
    (service, scratch, holder)
}

fn leaders(nap: &str) -> Vec<u32> {
    let mut found = procfs::with_command(&format!(": sleep {nap}"));
    found.retain(|&pid| procfs::command(pid).starts_with("sh "));
    found
}

#[test]
fn a19_a_run_that_nobody_stored_is_ended_before_the_next_one() {
    let nap = nap(2);
    let _sweep = Sweep(nap.clone());
    let (service, _config, holder) = unstored("kill", &nap);
    let old = service.pid("web");
    service.kill_service();
    drop(holder);
    service.serve_again();
    service.until_state("web", "running");
    assert!(!procfs::alive(old), "a second copy beside the first\n{}", service.log());
    wait::until("one is there", SOON, || leaders(&nap) == [service.pid("web")]);
    assert_eq!(service.status_json("web")["run"], 3, "no number is given twice");
    service.end();
    assert_eq!(leaders(&nap), Vec::<u32>::new());
}

#[test]
fn a19_a_run_that_nobody_stored_is_adopted() {
    let nap = nap(3);
    let _sweep = Sweep(nap.clone());
    let (service, _config, holder) = unstored("adopt", &nap);
    let old = service.pid("web");
    service.kill_service();
    drop(holder);
    service.serve_again();
    service.until_state("web", "running");
    let now = service.status_json("web");
    assert_eq!((&now["pid"], &now["run"]), (&old.into(), &2.into()), "{now}\n{}", service.log());
    let heard = || service.ok(&["output", "web"]).lines().count();
    let before = heard();
    wait::until("it is listened to", SOON, || heard() > before + 3);
    service.ok(&["stop", "web"]);
    assert_eq!(leaders(&nap), Vec::<u32>::new());
}

/// Who has neither mark nor parents, nor the session of its leader, and whose leader has ended before.
#[test]
fn a19_an_orphan_without_a_mark_is_ended_by_the_next_service() {
    let nap = nap(6);
    let _sweep = Sweep(nap.clone());
    let service = Options::new().without_cgroups().start();
    let script = format!("(setsid env -i sleep {nap} >/dev/null 2>&1 &); exec sleep 81998");
    service.start(&["--name", "web", "--", "sh", "-c", &script]);
    wait::until("it has taken off its mark", SOON, || naps(&nap).len() == 1);
    let old = naps(&nap);
    service.until_store("sound");
    let leader = service.pid("web");
    service.kill_at_once(&[leader]);
    service.serve_again();
    service.until_state("web", "running");
    assert!(old.iter().all(|&pid| !procfs::alive(pid)), "a second copy beside it\n{}", service.log());
    wait::until("one is there", SOON, || naps(&nap).len() == 1);
    service.end();
    assert_eq!(naps(&nap), Vec::<u32>::new(), "nothing outlives the end");
}

/// A process that not even its name is known of: its client was not told that it is recorded.
#[test]
fn a19_a_process_that_nobody_stored_is_ended() {
    let nap = nap(4);
    let _sweep = Sweep(nap.clone());
    let service = Options::new().without_cgroups().start();
    let holder = hold(&database(&service), "db.execute('begin immediate')");
    let start = ["start", "--name", "web", "--"];
    service.cli(&[&start[..], &UNMARKED, &["sleep", &nap]].concat()).expect(0);
    wait::until("it has taken off its mark", SOON, || naps(&nap).len() == 1);
    service.kill_service();
    drop(holder);
    service.serve_again();
    assert_eq!(naps(&nap), Vec::<u32>::new(), "{}", service.log());
    service.end();
}

/// Keeper and engine die together at any moment, while leaders without marks come and go.
#[test]
fn a19_nothing_is_left_and_nothing_is_doubled_over_kills_of_all() {
    let nap = nap(5);
    let _sweep = Sweep(nap.clone());
    let service = Options::new().without_cgroups().start();
    let options =
        ["--restart", "always", "--restart-delay", "0", "--max-restarts", "none", "--stop-timeout", "5s"];
    let names = ["one", "two", "three"];
    for name in names {
        let sleep = ["sleep", nap.as_str()];
        service.start(&[&["--name", name], &options[..], &["--"], &UNMARKED, &sleep].concat());
    }
    let mut random = Random::new();
    let kills = rounds(10);
    for n in 1..=kills {
        // SpawnLog all the time: who is killed comes back at once.
        let until = Duration::from_micros(random.below(150_000));
        let begin = Instant::now();
        while begin.elapsed() < until {
            naps(&nap).into_iter().for_each(|pid| procfs::signal("KILL", pid));
        }
        service.kill_at_once(&[]);
        service.serve_again();
        let mut found = (Vec::new(), Vec::new());
        let is_right = wait::holds_within(LATER, || {
            let mut pids: Vec<u32> = names
                .iter()
                .map(|name| service.status_json(name))
                .filter(|p| p["state"] == "running")
                .filter_map(|p| p["pid"].as_u64().and_then(|pid| pid.try_into().ok()))
                .collect();
            let mut left = naps(&nap);
            pids.sort_unstable();
            left.sort_unstable();
            found = (pids, left);
            found.0.len() == names.len() && found.0 == found.1
        });
        assert!(is_right, "after {n} kills: {found:?} are known, and there\n{}", service.log());
    }
    service.end();
    assert_eq!(naps(&nap), Vec::<u32>::new());
    println!("{kills} kills: nothing left, nothing doubled");
}

/// A hundred times, each with cgroups and without, with PROVOST_TEST_ROUNDS=20.
#[test]
fn a19_what_is_adopted_goes_on_over_kills_of_all() {
    const TICKS: &str = "trap 'exit 7' USR1; while :; do echo tick; sleep 0.02; done";
    for options in [Options::new(), Options::new().without_cgroups()] {
        let (service, _config) = with_policy("adopt", options);
        let names = ["one", "two", "three"];
        for name in names {
            service.start(&["--name", name, "--", "sh", "-c", TICKS]);
        }
        let state = || {
            names.map(|name| {
                let now = service.status_json(name);
                assert_eq!(now["state"], "running", "{now}\n{}", service.log());
                (now["pid"].clone(), now["run"].clone())
            })
        };
        let heard = || names.map(|name| service.status_json(name)["output_end"].as_u64().unwrap_or(0));
        let before = state();
        let mut random = Random::new();
        let kills = rounds(5);
        for n in 1..=kills {
            wait::pass(Duration::from_micros(random.below(100_000)));
            service.kill_at_once(&[]);
            service.serve_again();
            assert_eq!(state(), before, "after {n} kills\n{}", service.log());
            let then = heard();
            wait::until("all go on writing, and are heard", SOON, || {
                heard().iter().zip(&then).all(|(now, then)| now > then)
            });
        }
        for (pid, _) in &before {
            procfs::signal("USR1", pid.as_u64().expect("a number") as u32);
        }
        for name in names {
            let process = service.until_state(name, "stopped");
            // Before Linux 6.15 nobody knows how a stranger's child has ended.
            assert!(process["exit"]["code"] == 7 || procfs::kernel() < (6, 15), "{process}");
        }
        println!("{kills} kills: the same pids and runs, and all were heard");
    }
}

/// What a dead keeper left behind may hold its lock for a moment.
#[test]
fn a19_a_claim_waits_for_the_lock_of_a_dead_keeper() {
    let service = Service::new();
    service.start(&["--name", "web", "--", "sleep", "80000"]);
    service.kill_service();
    let mut command = Command::new("flock");
    command.args([&format!("{}.lock", service.socket()), "sh", "-c", "echo held; read x"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().expect("there is flock(1)");
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("it says so");
    let releasing = thread::spawn({
        let wants = format!("serve --socket {} ", service.socket());
        move || {
            wait::until("the next service is there", SOON, || !procfs::with_command(&wants).is_empty());
            drop(holder.stdin.take());
            holder.wait()
        }
    });
    // At the first attempt, which the harness would make again.
    let serve = Running::new(serve(service.socket()));
    wait::until("it serves", SOON, || service.cli(&["list"]).code == 0 || !serve.is_running());
    assert!(serve.is_running(), "{}", serve.stderr_text());
    releasing.join().expect("it does not panic").expect("it ends");
    serve.signal("TERM");
    assert_eq!(serve.end(LATER).code, 0);
    service.serve_again();
}
