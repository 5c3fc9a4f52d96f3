//! Starts while something has run out or fails: descriptors, processes, memory, the steps between fork and
//! exec. What cannot start says why, leaves nothing half made, and everything else goes on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{LATER, Options, Output, Running, SOON, Service, fixture, procfs, wait};
use crate::raw::Peer;

/// Starts sleepers until one is refused; the refusal, and how many run.
#[track_caller]
fn start_until_refused(service: &Service) -> (Output, usize) {
    for n in 0..100 {
        let start = service.cli(&["start", "--", "sleep", "71000"]);
        assert!(start.took < Duration::from_secs(5), "slow: {start:?}");
        if start.code != 0 {
            return (start, n);
        }
    }
    panic!("100 sleepers within 64 descriptors");
}

#[track_caller]
fn expect_out_of_descriptors(output: &Output) {
    output.expect(6);
    assert!(output.err().contains("out of file descriptors"), "{output:?}");
    assert!(output.err().contains("hint: "), "{output:?}");
    assert_eq!(output.out(), "", "no UUID for what does not run");
}

#[test]
fn c5_a_start_without_descriptors_fails_and_the_engine_answers() {
    let service = Options::new().through(&["prlimit", "--nofile=64"]).start();
    let engine = service.engine_pid();
    let (refused, running) = start_until_refused(&service);
    expect_out_of_descriptors(&refused);
    assert!(running >= 8, "only {running} of 64 descriptors' worth");
    // Refused again and again, nothing leaks, and everybody who asks something else is answered.
    let full = service.footprint();
    for _ in 0..20 {
        expect_out_of_descriptors(&service.cli(&["start", "--", "sleep", "71000"]));
        service.ok(&["list"]);
    }
    expect_out_of_descriptors(&service.cli(&[
        "start",
        "--instances",
        "5",
        "--name",
        "a",
        "--",
        "sleep",
        "71000",
    ]));
    assert_eq!(service.list_json().len(), running, "what was refused is not listed");
    assert_eq!(service.below().len(), running, "and does not run");
    service.until_footprint(full);
    assert_eq!(service.engine_pid(), engine, "the engine was never lost");
    service.expect_answer();

    // The next engine finds as little room, and everything.
    let before = service.list_json();
    service.kill_engine();
    let after = service.list_json();
    let pids = |list: &[serde_json::Value]| list.iter().map(|p| p["pid"].clone()).collect::<Vec<_>>();
    assert_eq!(pids(&before), pids(&after));
    expect_out_of_descriptors(&service.cli(&["start", "--", "sleep", "71000"]));

    // What is removed makes room.
    for process in &before[..3] {
        service.ok(&["remove", "--force", process["id"].as_str().expect("text")]);
    }
    let ids: Vec<_> = (0..3).map(|_| service.start(&["--", "sleep", "71000"])).collect();
    assert!(ids.iter().all(|id| service.state(id) == "running"));
    service.ok(&["stop", "*"]);
    assert_eq!(service.below(), Vec::<u32>::new());
}

/// The same when clients hold what the engine has: who comes to stop something is still let in.
#[test]
fn c5_each_start_is_done_or_refused_when_clients_hold_all_descriptors() {
    let service = Options::new().through(&["prlimit", "--nofile=64"]).start();
    let engine = service.engine_pid();
    let held: Vec<_> = (0..35).map(|_| Peer::greeted(service.socket())).collect();
    let (refused, mut running) = start_until_refused(&service);
    assert!(matches!(refused.code, 1 | 6), "{refused:?}");
    assert!(refused.err().contains("hint: "), "{refused:?}");
    // What a client held that has just gone makes room for one more: each start is wholly done or wholly
    // refused.
    for _ in 0..5 {
        running += usize::from(service.cli(&["start", "--", "sleep", "71000"]).code == 0);
        service.ok(&["list"]);
        assert_eq!(service.list_json().len(), running);
    }
    assert_eq!(service.below().len(), running, "what was refused does not run");
    service.ok(&["stop", "*"]);
    service.ok(&["remove", "*"]);
    drop(held);
    service.start(&["--", "sleep", "71000"]);
    assert_eq!(service.engine_pid(), engine, "the engine was never lost");
}

/// The same when it is a process's own restart that finds no room: it waits for its next attempt like any
/// other.
#[test]
fn c5_a_restart_without_descriptors_waits_for_its_next_attempt() {
    let service = Options::new().through(&["prlimit", "--nofile=64"]).start();
    let gate = service.scratch().file("gate");
    let script = format!(
        "while [ ! -e {gate} ]; do sleep 0.02; done; [ $PROVOST_RUN = 1 ] && exit 1; exec sleep 71000"
    );
    let patient = ["--restart", "always", "--restart-delay", "50ms", "--restart-delay-max", "50ms"];
    let id = service.start(&[&patient[..], &["--max-restarts", "none", "--", "sh", "-c", &script]].concat());
    let (refused, _) = start_until_refused(&service);
    expect_out_of_descriptors(&refused);
    std::fs::write(&gate, "").expect("the directory is ours");
    // Its own descriptors are free again when it restarts, so it finds room.
    wait::until("it runs again", SOON, || {
        let process = service.status_json(&id);
        process["state"] == "running" && process["run"].as_u64() > Some(1)
    });
    service.expect_answer();
}

/// Attaches strace to a process and its future children, to make a system call fail.
#[track_caller]
fn inject(pid: u32, what: &str) -> Running {
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("inject={what}"), "-p", &pid.to_string()]);
    let strace = Running::new(strace);
    wait::until("strace is attached", SOON, || strace.stderr_text().contains("attached"));
    strace
}

/// Some versions of strace never end when they are asked to in the middle of a delay; the kernel lets go for
/// one that is killed.
fn let_go(strace: Running, pid: u32) {
    strace.signal("INT");
    if !wait::holds_within(Duration::from_secs(3), || !strace.is_running()) {
        strace.signal("KILL");
    }
    strace.end(SOON);
    let traced = || procfs::status_line(pid, "TracerPid").is_some_and(|tracer| tracer != "0");
    wait::until("strace let go", SOON, || !traced());
}

/// Each step between fork and exec fails once. (What fails, options of the start, the step as it is
/// recorded.)
const STEPS: [(&str, &[&str], &str); 12] = [
    ("clone3:error=EAGAIN", &[], "fork"),
    ("clone3:error=ENOMEM", &[], "fork"),
    ("pipe2:error=EMFILE", &[], "pipe"),
    ("setsid:error=EPERM", &[], "setsid"),
    ("dup2:error=EBADF", &[], "descriptors"),
    ("close_range:error=EINVAL", &[], "descriptors"),
    ("prlimit64:error=EPERM", &["--limit", "core=0"], "setrlimit"),
    ("setgroups:error=EPERM", &["--user", "nobody"], "setgroups"),
    ("setresgid:error=EPERM", &["--user", "nobody"], "setgid"),
    ("setresuid:error=EAGAIN", &["--user", "nobody"], "setuid"),
    ("chdir:error=EIO", &["--cwd", "/usr"], "chdir"),
    ("execve:error=EIO", &[], "exec"),
];

/// In a child that the keeper has just made, or in the keeper itself: told as the step that it was, no half
/// child.
#[test]
fn c6_a_failed_step_before_the_exec_is_named() {
    let service = Service::new();
    let known = service.start(&["--name", "known", "--", "sleep", "71001"]);
    let keeper = service.keeper_pid();
    let before = service.footprint();
    for (what, options, step) in STEPS {
        let strace = inject(keeper, what);
        let args = [&["start"], options, &["--", "sh", "-c", "echo half; exec sleep 71001"]].concat();
        let start = service.cli(&args);
        let_go(strace, keeper);
        assert!(matches!(start.code, 1 | 6), "{what}: {start:?}");
        assert!(start.err().starts_with("provost: cannot start: "), "{what}: {start:?}");
        let events = service.events();
        let failed = events.iter().rfind(|e| e["kind"] == "start-failed").expect("it is told");
        let detail = failed["detail"].as_str().expect("text");
        let rest = detail.strip_prefix(step).unwrap_or_default();
        assert!(rest.starts_with(": ") || rest.starts_with(" '"), "{what}: {failed}");
        assert_eq!(service.below().len(), 1, "{what}: no half child");
        service.cli(&["run", "--", "true"]).expect(0);
    }
    assert_eq!(service.list_json().iter().filter(|p| p["state"] == "running").count(), 1);
    assert_eq!(service.state(&known), "running");
    service.ok(&["remove", "*", "--force"]);
    service.until_footprint(before);
}

/// Children that take their time until they have descriptors of their own, more than can be on their way at
/// once, hold up nobody, whether they get them in the end or die; and each gets its own.
#[test]
fn c8_children_slow_to_get_descriptors_delay_no_other() {
    const COUNT: usize = 30;
    let service = Service::new();
    let keeper = service.keeper_pid();
    service.ok(&["list"]);
    let before = service.footprint();
    let strace = inject(keeper, "close_range:delay_enter=2000000:when=1");
    let list = "ls /proc/$$/fd; echo $PROVOST_NAME; exec sleep 71004";
    let count = COUNT.to_string();
    let start =
        service.background(&["start", "--name", "slow", "--instances", &count, "--", "sh", "-c", list]);
    wait::until("all are born", SOON, || service.below().len() == COUNT);
    let newborn = |pid: &u32| procfs::command(*pid).contains("serve");
    let killed = service.below().into_iter().find(newborn).expect("it is held up");
    procfs::signal("KILL", killed);
    service.expect_answer();
    start.end(LATER);
    let_go(strace, keeper);
    let mut said = 0;
    for process in service.list_json() {
        let name = process["name"].as_str().expect("a name");
        if process["state"] == "running" {
            let wanted = format!("0\n1\n2\n{name}\n");
            wait::until("it lists", SOON, || service.output(name).len() >= wanted.len());
            assert_eq!(String::from_utf8_lossy(&service.output(name)), wanted);
            said += 1;
        }
    }
    assert_eq!(said, COUNT - 1, "all but the killed one");
    service.ok(&["remove", "*", "--force"]);
    service.until_footprint(before);
}

/// The same in the engine: no memory for a process, no thread for it. Whatever the answer is, it is true.
#[test]
fn c7_without_memory_or_threads_a_start_fails_cleanly() {
    let service = Service::new();
    for what in [
        "memfd_create:error=EMFILE",
        "memfd_create:error=ENOMEM",
        "ftruncate:error=ENOSPC",
        "pwrite64:error=ENOSPC",
        "sendmsg:error=ENOBUFS:when=1",
        "clone3:error=EAGAIN:when=1",
        "clone3:error=EAGAIN:when=2",
    ] {
        let engine = service.engine_pid();
        let strace = inject(engine, what);
        let answers: Vec<_> = (0..3).map(|_| service.cli(&["start", "--", "sleep", "71002"])).collect();
        let_go(strace, engine);
        for start in answers.iter().filter(|a| a.code != 0) {
            assert!(matches!(start.code, 1 | 6 | 7), "{what}: {start:?}");
            assert!(start.err().starts_with("provost: "), "{what}: {start:?}");
        }
        let ids: Vec<_> = answers.iter().filter(|a| a.code == 0).map(Output::out).collect();
        let listed = service.list_json();
        let running: Vec<_> = listed.iter().filter(|p| p["state"] == "running").collect();
        assert_eq!(running.len(), ids.len(), "{what}: {answers:?} {listed:?}");
        assert!(ids.iter().all(|id| running.iter().any(|p| p["id"] == **id)), "{what}: {listed:?}");
        assert_eq!(service.below().len(), ids.len(), "{what}: nothing runs that nobody knows");
        assert!(procfs::alive(engine), "{what}: the engine lives");
        service.cli(&["remove", "--force", "*"]);
        service.expect_answer();
    }
}

/// No thread can be made at all while clients come: nobody is let in, nothing runs unseen, and then all is
/// well.
#[test]
fn c4_without_threads_nothing_runs_unseen() {
    let service = Service::new();
    let engine = service.engine_pid();
    let known = service.start(&["--", "sleep", "71003"]);
    let strace = inject(engine, "clone3:error=EAGAIN");
    let refused = service.cli(&["start", "--", "sleep", "71003"]);
    let_go(strace, engine);
    refused.expect(6);
    assert!(refused.err().contains("cannot make a thread"), "{refused:?}");
    assert_eq!(service.below().len(), 1);
    assert_eq!(service.engine_pid(), engine);
    service.ok(&["stop", &known]);
    service.start(&["--", "sleep", "71003"]);
}

/// A cgroup of the machine with a limit of processes, which is gone with it.
struct Crowd(String);

impl Crowd {
    fn new(name: &str) -> Self {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let root = roots.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let path = format!("{}/provost-{name}-{}", root.expect("there are cgroups"), std::process::id());
        fs::create_dir(&path).expect("tests run as root");
        Self(path)
    }

    /// So many more than there are now, threads and processes.
    fn limit(&self, more: Option<i64>) {
        let present = fs::read_to_string(format!("{}/pids.current", self.0)).expect("pids are limited");
        let present: i64 = present.trim().parse().expect("a number");
        let max = more.map_or_else(|| "max".to_owned(), |more| (present + more).to_string());
        fs::write(format!("{}/pids.max", self.0), max).expect("tests run as root");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        wait::holds_within(LATER, || fs::remove_dir(&self.0).is_ok());
    }
}

/// Whoever is below the same service notices nothing, and all of it goes.
#[test]
fn l4_a_fork_bomb_at_its_limit_of_processes_holds_nobody_up() {
    let crowd = Crowd::new("l4");
    fs::write(format!("{}/pids.max", crowd.0), "200").expect("tests run as root");
    for options in [Options::new(), Options::new().without_cgroups()] {
        let service = options.start();
        let enter = format!("echo $$ > {}/cgroup.procs; exec {}", crowd.0, fixture("bomb"));
        let bomb = service.start(&["--stop-timeout", "200ms", "--", "sh", "-c", &enter]);
        wait::until("the bomb has grown", LATER, || service.tree_of(&bomb).len() >= 180);
        service.expect_answer();
        let other = service.start(&["--", "sleep", "71040"]);
        let begin = Instant::now();
        service.ok(&["stop", &bomb]);
        println!("stopped in {:?}", begin.elapsed());
        assert_eq!(service.tree_of(&bomb), Vec::<u32>::new(), "nothing of it is left");
        assert_eq!(service.state(&other), "running");
        service.expect_no_zombies();
    }
}

/// What cannot start says so, and what is to run is tried again until there is room; whatever was asked
/// meanwhile is answered.
#[test]
fn c3_at_the_limit_of_processes_a_start_fails_and_a_restart_waits() {
    let crowd = Crowd::new("c3");
    let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", crowd.0);
    let service = Options::new().without_cgroups().through(&["sh", "-c", &enter, "sh"]).start();
    let before = service.below();
    service.start(&[
        "--name",
        "web",
        "--restart",
        "always",
        "--restart-delay",
        "50ms",
        "--restart-delay-max",
        "50ms",
        "--max-restarts",
        "none",
        "--",
        "sleep",
        "71006",
    ]);
    let (engine, pid) = (service.engine_pid(), service.pid("web"));
    // One step after another finds no room: the client's thread, the process's, the child.
    let mut running = before.len() + 1;
    for more in 0..6 {
        crowd.limit(Some(more));
        let start = service.cli(&["start", "--", "sleep", "71007"]);
        crowd.limit(None);
        match start.code {
            0 => running += 1,
            code => {
                assert!(matches!(code, 1 | 6 | 7), "{start:?}");
                assert!(start.err().starts_with("provost: "), "{start:?}");
            }
        }
        wait::until("what was answered is what there is", LATER, || service.below().len() == running);
    }
    assert!(running < before.len() + 7, "no start was refused");
    // Its place is gone by the time that it wants to come back.
    crowd.limit(Some(-1));
    procfs::signal("KILL", pid);
    wait::until("it has ended", LATER, || !procfs::alive(pid));
    wait::pass(Duration::from_millis(500));
    crowd.limit(None);
    wait::until("it is back", LATER, || service.state("web") == "running" && service.pid("web") != pid);
    let web = service.status_json("web");
    assert!(service.events_of(&web).iter().any(|event| event["kind"] == "start-failed"), "{web}");
    assert_eq!(service.engine_pid(), engine, "the engine was never lost");
    service.cli(&["run", "--", "true"]).expect(0);
    service.end();
}

/// Threads wake each other by signals, which are refused nobody whose user has used up what may be pending.
#[test]
fn without_room_for_pending_signals_everything_is_answered() {
    let service = Options::new().through(&["prlimit", "--sigpending=0"]).start();
    for n in 0..5 {
        let id = service.start(&["--", "sleep", &format!("8302{n}")]);
        service.ok(&["restart", &id]);
        service.ok(&["stop", &id]);
    }
    service.kill_engine();
    assert_eq!(service.list_json().len(), 5);
}
