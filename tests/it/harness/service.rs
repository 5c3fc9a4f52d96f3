//! The service of one test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde_json::Value;

use crate::harness::cli::{self, Output, Running, code_of};
use crate::harness::options::OPEN_BINARY;
use crate::harness::{LATER, Options, SOON, Scratch, as_nobody, binary, procfs, wait};

/// The variable by which the children of one service are known.
const MARKER: &str = "TEST_SERVICE";
/// How long the end of a service may take: the longest stop timeout that a test leaves to it, and some.
const END_LIMIT: Duration = Duration::from_secs(40);

/// The exit code of a service that another one keeps from beginning.
const REFUSED: i32 = 6;

/// Held by every service; exclusively by those that measure time.
static MACHINE: RwLock<()> = RwLock::new(());

// Only held, never read.
enum Lease {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// `provost serve`, as it was started last.
struct Keeper {
    pid: u32,
    ended: Receiver<ExitStatus>,
    /// Whether the test has ended it.
    has_ended: bool,
}

/// A running service with a directory of its own.
pub struct Service {
    options: Options,
    socket: String,
    keeper: Mutex<Keeper>,
    log: Arc<Mutex<Vec<u8>>>,
    scratch: Scratch,
    _lease: Lease,
}

impl Service {
    /// A service as by default.
    #[track_caller]
    pub fn new() -> Self {
        Options::new().start()
    }

    #[track_caller]
    pub(in crate::harness) fn with(options: Options) -> Self {
        let lease = if options.alone {
            Lease::Alone { _guard: MACHINE.write() }
        } else {
            // Recursive: a test with two services must not wait for one that waits for it.
            Lease::Shared { _guard: MACHINE.read_recursive() }
        };
        let scratch = Scratch::new();
        options.prepare(&scratch);
        let socket = options.socket.clone().unwrap_or_else(|| scratch.file("engine.sock"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let keeper = serve(&options, &scratch, &socket, &log).unwrap_or_else(|| {
            panic!("the service was refused\n{}", String::from_utf8_lossy(&log.lock()));
        });
        Self { options, socket, keeper: Mutex::new(keeper), log, scratch, _lease: lease }
    }

    /// Ends the service in good order.
    #[track_caller]
    pub fn end(&self) {
        procfs::signal("TERM", self.keeper_pid());
        assert_eq!(self.keeper_end(END_LIMIT), 0, "exit code of the keeper\n{}", self.log());
    }

    /// Kills keeper and engine with SIGKILL; what they kept lives on, and is the test's to end.
    #[track_caller]
    pub fn kill_service(&self) {
        let engine = self.engine_now();
        procfs::signal("KILL", self.keeper_pid());
        assert_eq!(self.keeper_end(SOON), 128 + 9);
        if let Some(engine) = engine {
            procfs::signal("KILL", engine);
            // Its threads, the last of which closes the socket, may outlive what is shown as dead.
            wait::until("the engine is gone", SOON, || {
                !procfs::alive(engine) && UnixStream::connect(&self.socket).is_err()
            });
        }
    }

    /// Kills keeper, engine and all they kept with SIGKILL, as a power cut does.
    #[track_caller]
    pub fn kill_all(&self) {
        let below = procfs::descendants(self.keeper_pid());
        self.kill_service();
        wait::until("everything is gone", SOON, || {
            let left =
                below.iter().filter(|s| procfs::stat(s.pid).is_some_and(|now| now.started == s.started));
            let left: Vec<u32> =
                left.map(|s| s.pid).filter(|&pid| procfs::alive(pid)).chain(self.marked()).collect();
            left.iter().for_each(|&pid| procfs::signal("KILL", pid));
            left.is_empty()
        });
    }

    /// Kills keeper and engine with SIGKILL at one moment, wherever they are, and `also`.
    #[track_caller]
    pub fn kill_at_once(&self, also: &[u32]) {
        let mut kill = Command::new("kill");
        kill.args(["-s", "KILL", "--", &self.keeper_pid().to_string()]);
        kill.args(self.engine_now().iter().chain(also).map(ToString::to_string));
        // One that is gone already is as good.
        cli::run(kill, SOON);
        self.until_killed();
    }

    /// Waits for the end of keeper and engine, the first of which was killed.
    #[track_caller]
    pub fn until_killed(&self) {
        // An engine without its keeper ends by itself.
        wait::until("the service is gone", SOON, || self.ours().is_empty());
        assert_eq!(self.keeper_end(SOON), 128 + 9, "the keeper was killed\n{}", self.log());
        self.log.lock().extend(b"--- killed\n");
    }

    /// Starts the service again, on the same socket and with the same state, after the test has ended it. As
    /// long as a child of the one before is on its way to its exec, it may be refused, and is tried again.
    #[track_caller]
    pub fn serve_again(&self) {
        assert!(self.keeper.lock().has_ended, "the service is to be ended first");
        let serve = || serve(&self.options, &self.scratch, &self.socket, &self.log);
        *self.keeper.lock() = wait::until_some("the service begins", SOON, serve);
    }

    /// Where the service keeps its database, unless the test has chosen another place.
    pub fn state_dir(&self) -> String {
        state_dir(&self.socket)
    }

    /// What `provost doctor` says, as JSON; that not all is well is no failure. What has happened so far is
    /// recorded when the database is sound then.
    #[track_caller]
    pub fn doctor(&self) -> Value {
        let output = self.cli(&["doctor", "--json"]);
        assert!(matches!(output.code, 0 | 3), "doctor\n{output:?}");
        let doctor = output.json().remove(0);
        assert_eq!(doctor["well"], output.code == 0, "{output:?}");
        doctor
    }

    /// Waits until the database is in this state: "sound", "degraded".
    #[track_caller]
    pub fn until_store(&self, state: &str) -> Value {
        let mut last = Value::Null;
        let found = wait::holds_within(SOON, || {
            last = self.doctor();
            last["store"]["state"] == state
        });
        assert!(found, "the database is not {state}: {last}\n{}", self.log());
        last
    }

    /// What became of each process when the service began: its name, or else its id, and the words for it.
    #[track_caller]
    pub fn outcomes(&self) -> BTreeMap<String, String> {
        let report = self.cli(&["reconcile", "--json"]).expect(0).json().remove(0);
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let label = |p: &Value| if p["name"] == "" { text(&p["id"]) } else { text(&p["name"]) };
        let list = |v: &Value| v.as_array().expect("a list").clone();
        let args = |p: &Value| list(&p["what"]).iter().map(text).collect::<Vec<_>>().join(", ");
        list(&report["processes"]).iter().map(|p| (label(p), args(p))).collect()
    }

    /// Its socket's path.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Its directory; a test may keep files there.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// What keeper and engine said on standard error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock()).into_owned()
    }

    /// Waits until they have said this: what was done is told a moment behind its answer.
    #[track_caller]
    pub fn until_said(&self, what: &str) {
        let said = wait::holds_within(SOON, || self.log().contains(what));
        assert!(said, "no word of {what:?}\n{}", self.log());
    }

    /// The keeper, which is `provost serve` itself.
    pub fn keeper_pid(&self) -> u32 {
        self.keeper.lock().pid
    }

    /// The engine, as the kernel shows it; none at the moment between two engines.
    pub fn engine_now(&self) -> Option<u32> {
        let mut found = procfs::children(self.keeper_pid()).into_iter().filter(|s| s.state != 'Z');
        found.find(|s| procfs::command(s.pid).split(' ').nth(1) == Some("engine")).map(|s| s.pid)
    }

    /// The engine.
    #[track_caller]
    pub fn engine_pid(&self) -> u32 {
        wait::until_some("there is an engine", SOON, || self.engine_now())
    }

    /// Kills the engine with SIGKILL, and waits until another one answers. Returns the new one's pid.
    #[track_caller]
    pub fn kill_engine(&self) -> u32 {
        let new = self.kill_engine_only();
        self.ok(&["version"]);
        new
    }

    /// Kills the engine with SIGKILL, and waits until there is another one, which may not answer yet.
    #[track_caller]
    pub fn kill_engine_only(&self) -> u32 {
        let old = self.engine_pid();
        procfs::signal("KILL", old);
        wait::until_some("there is a new engine", SOON, || self.engine_now().filter(|&pid| pid != old))
    }

    /// A command for this service, to be run in any way.
    pub fn command(&self, args: &[&str]) -> Command {
        // The client talks to root's service or to its own user's.
        let mut command = if self.options.is_of_nobody() {
            as_nobody(&self.scratch.file(OPEN_BINARY), &self.socket, &[])
        } else {
            Command::new(binary())
        };
        command.args(args).env("PROVOST_SOCKET", &self.socket).env_remove(MARKER);
        command
    }

    /// Runs a command of the command line to its end, however it ends.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        cli::run(self.command(args), LATER)
    }

    /// Runs a command that must succeed, and returns its standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert_eq!(output.code, 0, "provost {}\n{output:?}\n{}", args.join(" "), self.log());
        output.out()
    }

    /// The same by the client library, for what is done a thousand times: a stop that must succeed.
    #[track_caller]
    pub fn stop_by(&self, client: &mut provost::Client, id: &str) -> provost::wire::process::Process {
        let stop = provost::wire::request::Stop { targets: vec![id.to_owned()], ..Default::default() };
        only(client.stop(stop))
    }

    /// A start of what is stopped that must succeed.
    #[track_caller]
    pub fn start_by(&self, client: &mut provost::Client, id: &str) -> provost::wire::process::Process {
        only(client.start_again(vec![id.to_owned()]))
    }

    /// Starts a command in the background.
    #[track_caller]
    pub fn background(&self, args: &[&str]) -> Running {
        Running::new(self.command(args))
    }

    /// The client library, connected.
    #[track_caller]
    pub fn client(&self) -> provost::Client {
        provost::Client::connect(self.socket.as_ref()).expect("the service answers")
    }

    /// Starts one process and returns its UUID. `args` are options, `--`, program and arguments.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> String {
        let id = self.ok(&[&["start"], args].concat());
        assert_eq!(id.len(), 36, "one UUID, not {id:?}");
        id
    }

    /// Starts a shell script with these options, and waits until it has said "up".
    #[track_caller]
    pub fn start_up(&self, options: &[&str], script: &str) -> String {
        let until_up = ["--ready-line", "up", "--wait=ready", "--", "sh", "-c", script];
        self.start(&[options, &until_up].concat())
    }

    /// A process as JSON.
    #[track_caller]
    pub fn status_json(&self, target: &str) -> Value {
        let output = self.cli(&["status", target, "--json"]);
        // 3: it is known, and not running.
        assert!(matches!(output.code, 0 | 3), "status of {target}\n{output:?}");
        let mut all = output.json();
        assert_eq!(all.len(), 1, "one process\n{output:?}");
        all.remove(0)
    }

    /// All processes as JSON.
    #[track_caller]
    pub fn list_json(&self) -> Vec<Value> {
        self.cli(&["list", "--json"]).expect(0).json()
    }

    /// A process's state.
    #[track_caller]
    pub fn state(&self, target: &str) -> String {
        self.status_json(target)["state"].as_str().expect("the state is text").to_owned()
    }

    /// A process's pid; it must run.
    #[track_caller]
    pub fn pid(&self, target: &str) -> u32 {
        let process = self.status_json(target);
        process["pid"].as_u64().unwrap_or_else(|| panic!("no pid: {process}")) as u32
    }

    /// Waits until a process is in this state, whatever comes before. For a state that lasts.
    #[track_caller]
    pub fn until_state(&self, target: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let found = wait::holds_within(SOON, || {
            last = self.status_json(target);
            last["state"] == state
        });
        assert!(found, "{target} is not {state}: {last}");
        last
    }

    /// What a process has written, as far as it is kept.
    #[track_caller]
    pub fn output(&self, target: &str) -> Vec<u8> {
        self.cli(&["output", target]).expect(0).stdout.clone()
    }

    /// All events kept, as JSON.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.cli(&["events", "--json"]).expect(0).json()
    }

    /// Those of one process, which is given as JSON too.
    #[track_caller]
    pub fn events_of(&self, process: &Value) -> Vec<Value> {
        self.events().into_iter().filter(|e| e["id"] == process["id"]).collect()
    }

    /// The processes below the keeper without the engine, living ones.
    #[track_caller]
    pub fn below(&self) -> Vec<u32> {
        loop {
            let engine = self.engine_pid();
            let below = procfs::descendants(self.keeper_pid()).into_iter();
            let below = below.filter(|s| s.state != 'Z' && s.pid != engine).map(|s| s.pid).collect();
            // Else another one may be among them.
            if self.engine_now() == Some(engine) {
                return below;
            }
        }
    }

    /// The living processes that carry this process's id, wherever they went.
    pub fn tree_of(&self, id: &str) -> Vec<u32> {
        procfs::with_variable("PROVOST_ID", id)
    }

    /// Fails the test if there is a zombie below the keeper that nobody collects.
    #[track_caller]
    pub fn expect_no_zombies(&self) {
        let zombies = || {
            procfs::descendants(self.keeper_pid()).into_iter().filter(|s| s.state == 'Z').collect::<Vec<_>>()
        };
        let clean = wait::holds_within(Duration::from_secs(3), || zombies().is_empty());
        assert!(clean, "zombies: {:?}", zombies());
    }

    /// Fails the test if the service takes a second to answer. The best of three: the machine may be busy.
    #[track_caller]
    pub fn expect_answer(&self) {
        let times: Vec<_> = (0..3).map(|_| self.cli(&["version"]).expect(0).took).collect();
        assert!(times.iter().any(|t| *t < Duration::from_secs(1)), "slow to answer: {times:?}");
    }

    /// Open descriptors and threads of keeper and engine: compared before and after, they show a leak.
    pub fn footprint(&self) -> [(usize, usize); 2] {
        [self.keeper_pid(), self.engine_pid()].map(|pid| (procfs::fd_count(pid), procfs::thread_count(pid)))
    }

    /// Waits until the footprint is what it was, or smaller.
    #[track_caller]
    pub fn until_footprint(&self, before: [(usize, usize); 2]) {
        let mut now = self.footprint();
        let back = wait::holds_within(Duration::from_secs(5), || {
            now = self.footprint();
            now.iter().zip(&before).all(|(n, b)| n.0 <= b.0 && n.1 <= b.1)
        });
        assert!(back, "descriptors and threads of keeper and engine: before {before:?}, now {now:?}");
    }

    /// Waits for the end of the keeper, which the test brought about, and returns its exit code.
    #[track_caller]
    pub fn keeper_end(&self, limit: Duration) -> i32 {
        let ended = self.keeper.lock().ended.clone();
        let Ok(status) = ended.recv_timeout(limit) else {
            panic!("the keeper did not end within {limit:?}\n{}", self.log());
        };
        self.keeper.lock().has_ended = true;
        code_of(status)
    }

    /// All living processes that carry this service's marker, keeper and engine included.
    pub fn marked(&self) -> Vec<u32> {
        procfs::with_variable(MARKER, self.mark())
    }

    /// Whether this process, whatever it is now, comes from this service.
    pub fn is_marked(&self, pid: u32) -> bool {
        procfs::variable(pid, MARKER).as_deref() == Some(self.mark())
    }

    fn mark(&self) -> &str {
        self.scratch.path().to_str().expect("the path is text")
    }

    /// Keeper and engine, or what is left of them. A child on its way to its exec looks like the keeper, too.
    pub fn ours(&self) -> Vec<u32> {
        let args = |pid| procfs::command(pid).split(' ').nth(1).map(str::to_owned);
        let is_ours = |pid: &u32| matches!(args(*pid).as_deref(), Some("serve" | "engine"));
        self.marked().into_iter().filter(is_ours).collect()
    }

    fn has_ended(&self) -> bool {
        self.keeper.lock().has_ended
    }

    fn finish(&self) {
        if !self.has_ended() {
            self.expect_answer();
            self.expect_no_zombies();
            let below = procfs::descendants(self.keeper_pid());
            procfs::signal("TERM", self.keeper_pid());
            assert_eq!(self.keeper_end(END_LIMIT), 0, "exit code of the keeper\n{}", self.log());
            let gone = wait::holds_within(Duration::from_secs(2), || {
                // A zombie is init's to collect by now.
                below.iter().all(|s| {
                    procfs::stat(s.pid).is_none_or(|now| now.started != s.started || now.state == 'Z')
                })
            });
            assert!(gone, "alive after the keeper's end: {below:?}");
        }
        let mut left = Vec::new();
        let gone = wait::holds_within(Duration::from_secs(2), || {
            left = self.marked();
            left.is_empty()
        });
        let named = || left.iter().map(|&pid| format!("{pid} {}", procfs::command(pid))).collect::<Vec<_>>();
        assert!(gone, "left over: {:?}", named());
        assert!(!self.log().contains("panicked at"), "a thread panicked:\n{}", self.log());
    }

    fn kill_everything(&self) {
        let mut left: Vec<u32> = procfs::descendants(self.keeper_pid()).iter().map(|s| s.pid).collect();
        let keeper = self.keeper.lock();
        if !keeper.has_ended && keeper.ended.is_empty() {
            left.insert(0, keeper.pid);
        }
        drop(keeper);
        for pid in left {
            procfs::signal("KILL", pid);
        }
        wait::holds_within(Duration::from_secs(5), || {
            let marked = self.marked();
            marked.iter().for_each(|&pid| procfs::signal("KILL", pid));
            marked.is_empty()
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- log of the service\n{}", self.log());
            self.kill_everything();
            return;
        }
        // A check that fails must not leave processes behind either.
        let checks = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.finish()));
        if let Err(failure) = checks {
            self.kill_everything();
            std::panic::resume_unwind(failure);
        }
    }
}

/// The process of an answer about one.
#[track_caller]
fn only(answer: Result<Vec<provost::wire::reply::Item>, provost::Error>) -> provost::wire::process::Process {
    let mut items = answer.expect("it was asked of a service that runs");
    assert_eq!(items.len(), 1, "one process: {items:?}");
    let item = items.remove(0);
    assert_eq!(item.error, None, "{item:?}");
    item.process.expect("an answer without an error has the process")
}

/// Starts a keeper and waits until it is ready; none if it was refused. Its lines go to `log`, and to a file
/// that is kept with the directory.
#[track_caller]
fn serve(options: &Options, scratch: &Scratch, socket: &str, log: &Arc<Mutex<Vec<u8>>>) -> Option<Keeper> {
    let marker = scratch.path().to_str().expect("the path is text").to_owned();
    let mut command = options.command(scratch, socket, &state_dir(socket), (MARKER, &marker));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let what = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {what}: {e}"));
    let (tell_ready, ready) = bounded(1);
    let (tell_end, ended) = bounded(1);
    let (kept, file) = (Arc::clone(log), scratch.file("serve.log"));
    let stderr = child.stderr.take().expect("stderr is a pipe");
    thread::spawn(move || {
        let file = fs::OpenOptions::new().create(true).append(true).open(file);
        let mut file = file.expect("the directory is ours");
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            let _ = writeln!(file, "{text}");
            kept.lock().extend_from_slice(format!("{text}\n").as_bytes());
            if let Some(pid) = ready_pid(&text) {
                let _ = tell_ready.try_send(pid);
            }
        }
    });
    thread::spawn(move || {
        let _ = tell_end.send(child.wait().expect("it is our child"));
    });
    let said = ready.recv_timeout(SOON);
    // It has closed its log, and so it ends.
    if said == Err(RecvTimeoutError::Disconnected)
        && ended.recv_timeout(SOON).is_ok_and(|status| code_of(status) == REFUSED)
    {
        return None;
    }
    let Ok(pid) = said else {
        for pid in procfs::with_variable(MARKER, &marker) {
            procfs::signal("KILL", pid);
        }
        panic!("no ready line from {what}\n{}", String::from_utf8_lossy(&log.lock()));
    };
    Some(Keeper { pid, ended, has_ended: false })
}

/// Each service keeps its own.
fn state_dir(socket: &str) -> String {
    format!("{socket}.state")
}

/// The pid in `provost: ready on SOCKET (keeper pid N)`.
fn ready_pid(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("provost: ready on ")?;
    rest.rsplit_once("(keeper pid ")?.1.strip_suffix(')')?.parse().ok()
}
