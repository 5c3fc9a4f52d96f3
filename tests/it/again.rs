//! A service that is killed with all it has, any number of times, and started again over the same state; and
//! what must be true whenever it is at rest. Its children notice by themselves when two run in one's place.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::harness::{LATER, Output, Running, SOON, Scratch, binary, cli, procfs, wait};

/// The variable by which what it started is known, also while it is nobody's.
const MARKER: &str = "TEST_SERVICE";
/// Whatever `list` shows for good.
const AT_REST: [&str; 3] = ["running", "stopped", "failed"];

/// A service over a state that outlives it.
pub struct Again {
    scratch: Scratch,
    socket: String,
    options: Vec<String>,
    serve: Mutex<Option<Running>>,
    logs: Mutex<String>,
}

impl Again {
    /// Begins one, with these options of `serve`.
    #[track_caller]
    pub fn new(options: &[&str]) -> Self {
        let scratch = Scratch::new();
        let socket = scratch.file("engine.sock");
        let options = options.iter().map(|&o| o.to_owned()).collect();
        let this =
            Self { scratch, socket, options, serve: Mutex::new(None), logs: Mutex::new(String::new()) };
        this.begin();
        this
    }

    /// Starts the service again. As long as a child of the one before is on its way to its exec, it may be
    /// refused.
    #[track_caller]
    pub fn begin(&self) {
        let state = self.scratch.file("state");
        let begin = || {
            let mut command = Command::new(binary());
            command.args(["serve", "--socket", &self.socket, "--state", &state]).args(&self.options);
            command.env_remove("PROVOST_SOCKET").env(MARKER, self.mark()).current_dir("/");
            let running = Running::new(command);
            let is_ready = || running.stderr_text().contains("provost: ready on ");
            let said = wait::holds_within(SOON, || is_ready() || !running.is_running());
            assert!(said, "neither ready nor refused: {}", running.stderr_text());
            if running.is_running() {
                return Some(running);
            }
            let refused = running.end(SOON);
            assert_eq!(refused.code, 6, "{refused:?}\n{}", self.log());
            None
        };
        *self.serve.lock() = Some(wait::until_some("the service begins", SOON, begin));
    }

    /// Kills keeper and engine, wherever they are, and `also`.
    #[track_caller]
    pub fn kill_tree(&self, also: &[u32]) {
        let mut kill = Command::new("kill");
        kill.args(["-s", "KILL", "--", &self.keeper().to_string()]);
        kill.args(self.engine_now().iter().chain(also).map(ToString::to_string));
        // One that is gone already is as good.
        cli::run(kill, SOON);
        self.until_killed();
    }

    /// Waits for the end of keeper and engine, which somebody killed.
    #[track_caller]
    pub fn until_killed(&self) {
        let Some(serve) = self.serve.lock().take() else { return };
        // An engine without its keeper ends by itself.
        wait::until("the service is gone", SOON, || self.ours().is_empty());
        let ended = serve.end(SOON);
        assert_eq!(ended.code, 128 + 9, "the keeper was killed\n{ended:?}");
        assert!(!ended.err().contains("panicked at"), "{ended:?}");
        let mut logs = self.logs.lock();
        logs.push_str(&ended.err());
        logs.push_str("\n--- killed\n");
    }

    /// Ends it in order; nothing may be left.
    #[track_caller]
    pub fn end(self) {
        let serve = self.serve.lock().take().expect("it runs");
        serve.signal("TERM");
        let ended = serve.end(LATER);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(!self.logs.lock().contains("panicked at") && !ended.err().contains("panicked at"));
        wait::until("nothing is left", SOON, || self.marked().is_empty());
    }

    /// A file of the test.
    pub fn file(&self, name: &str) -> String {
        self.scratch.file(name)
    }

    /// What keeper and engine said, all of them.
    pub fn log(&self) -> String {
        let now = self.serve.lock().as_ref().map(Running::stderr_text).unwrap_or_default();
        format!("{}{now}", self.logs.lock())
    }

    /// The keeper.
    #[track_caller]
    pub fn keeper(&self) -> u32 {
        self.serve.lock().as_ref().expect("it runs").pid()
    }

    /// The engine, if there is one at the moment.
    pub fn engine_now(&self) -> Option<u32> {
        let keeper = self.serve.lock().as_ref().map(Running::pid)?;
        let mut found = procfs::children(keeper).into_iter().filter(|s| s.state != 'Z');
        found.find(|s| procfs::command(s.pid).split(' ').nth(1) == Some("engine")).map(|s| s.pid)
    }

    /// The engine.
    #[track_caller]
    pub fn engine(&self) -> u32 {
        wait::until_some("there is an engine", SOON, || self.engine_now())
    }

    /// A command for it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).env("PROVOST_SOCKET", &self.socket).env_remove(MARKER);
        command
    }

    /// Runs a command to its end, however it ends.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        cli::run(self.command(args), LATER)
    }

    /// Starts a command in the background.
    #[track_caller]
    pub fn background(&self, args: &[&str]) -> Running {
        Running::new(self.command(args))
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert_eq!(output.code, 0, "provost {}\n{output:?}\n{}", args.join(" "), self.log());
        output.out()
    }

    /// A start of a child that tells when it is not the only one: the lock of its name is held while it
    /// lives.
    pub fn start_args<'w>(&self, name: &'w str, options: &[&'w str]) -> Vec<String> {
        let (locks, doubles) = (self.file("lock"), self.file("doubles"));
        let script = format!(
            "exec 9>>{locks}-{name}; flock -n 9 || echo \"{name} $PROVOST_ID $PROVOST_RUN\" >>{doubles}; \
             exec sleep 90000"
        );
        let args = [&["start", "--name", name, "--stop-timeout", "20s"], options].concat();
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        args.extend(["--", "sh", "-c", &script].map(str::to_owned));
        args
    }

    /// Everything known, by name, once nothing is on its way any more.
    #[track_caller]
    pub fn settled(&self) -> BTreeMap<String, Value> {
        let mut found = Vec::new();
        let at_rest = wait::holds_within(SOON, || {
            found = self.cli(&["list", "--json"]).expect(0).json();
            found.iter().all(|p| AT_REST.iter().any(|s| p["state"] == *s))
        });
        assert!(at_rest, "something never comes to rest: {found:?}\n{}", self.log());
        let count = found.len();
        let name = |p: &Value| p["name"].as_str().expect("all have names").to_owned();
        let named: BTreeMap<_, _> = found.into_iter().map(|p| (name(&p), p)).collect();
        assert_eq!(named.len(), count, "a name is there twice: {named:?}");
        named
    }

    /// Fails the test unless what runs is what is known to run, each once, and the database is whole and
    /// agrees.
    #[track_caller]
    pub fn expect_sound(&self, what: &str) -> BTreeMap<String, Value> {
        let known = self.settled();
        let mut expected = Vec::new();
        for (name, process) in &known {
            let id = process["id"].as_str().expect("the id is text");
            let copies = u32::from(process["state"] == "running");
            // A shell's flock(1) is there for a moment.
            let mut alive = Vec::new();
            let is_right = wait::holds_within(SOON, || {
                alive = procfs::with_variable("PROVOST_ID", id);
                alive.retain(|&pid| self.is_marked(pid));
                alive.len() == copies as usize
            });
            assert!(is_right, "{what}: {copies} of {name}, and not {alive:?}: {process}\n{}", self.log());
            assert!(copies == 0 || process["pid"] == alive[0], "{what}: {alive:?} {process}");
            expected.extend(alive);
        }
        let mut strangers = Vec::new();
        // Here too: the shell may have come to its flock(1) only now. A real stranger stays.
        let is_known = wait::holds_within(SOON, || {
            let ours = self.ours();
            strangers = self.marked();
            strangers.retain(|pid| !ours.contains(pid) && !expected.contains(pid) && procfs::alive(*pid));
            strangers.is_empty()
        });
        let shown: Vec<_> = strangers.iter().map(|&pid| (pid, procfs::command(pid))).collect();
        assert!(is_known, "{what}: these run and nobody knows them: {shown:?}\n{}", self.log());
        let doubles = fs::read_to_string(self.file("doubles")).unwrap_or_default();
        assert_eq!(doubles, "", "{what}: a second copy was started beside the first\n{}", self.log());
        let wanted: BTreeMap<String, bool> =
            known.iter().map(|(name, p)| (name.clone(), p["state"] == "running")).collect();
        let mut stored = BTreeMap::new();
        let agrees = wait::holds_within(SOON, || {
            stored = self.stored();
            stored == wanted
        });
        assert!(agrees, "{what}: the database has {stored:?}, and there is {known:?}\n{}", self.log());
        known
    }

    /// Whether the database as it lies there is whole: a copy of it, which is what the next service finds.
    #[track_caller]
    pub fn expect_whole_files(&self, what: &str) {
        let copy = self.file("copy.db");
        for end in ["", "-wal"] {
            let (from, to) = (format!("{}{end}", self.database()), format!("{copy}{end}"));
            let _ = fs::remove_file(&to);
            if fs::exists(&from).expect("the directory is ours") {
                fs::copy(&from, &to).expect("the directory is ours");
            }
        }
        let _ = fs::remove_file(format!("{copy}-shm"));
        let copy = Connection::open(copy).expect("a database");
        assert_eq!(integrity(&copy), "ok", "{what}");
    }

    /// What the database has: names, and whether they are wanted. It must be whole.
    #[track_caller]
    pub fn stored(&self) -> BTreeMap<String, bool> {
        let read = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(self.database(), flags)?;
            db.busy_timeout(Duration::from_secs(5))?;
            let whole = integrity(&db);
            let mut rows = db.prepare("SELECT coalesce(name, ''), wanted FROM processes")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, rusqlite::Error>((whole, rows.collect::<Result<BTreeMap<String, bool>, _>>()?))
        };
        let (whole, rows) = read().expect("the database can be read");
        assert_eq!(whole, "ok", "integrity\n{}", self.log());
        rows
    }

    fn database(&self) -> String {
        self.scratch.file("state/provost.db")
    }

    fn mark(&self) -> &str {
        self.scratch.path().to_str().expect("the path is text")
    }

    fn is_marked(&self, pid: u32) -> bool {
        procfs::variable(pid, MARKER).as_deref() == Some(self.mark())
    }

    /// All living processes that this service, in whatever life of it, has brought about.
    pub fn marked(&self) -> Vec<u32> {
        procfs::with_variable(MARKER, self.mark())
    }

    /// Keeper and engine, or what is left of them. What is on its way to its exec looks like the keeper, too.
    fn ours(&self) -> Vec<u32> {
        let args = |pid| procfs::command(pid).split(' ').nth(1).map(str::to_owned);
        let is_ours = |pid: &u32| matches!(args(*pid).as_deref(), Some("serve" | "engine"));
        self.marked().into_iter().filter(is_ours).collect()
    }
}

fn integrity(db: &Connection) -> String {
    let row = db.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    row.unwrap_or_else(|e| format!("cannot be checked: {e}"))
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- log of the service\n{}", self.log());
        }
        drop(self.serve.lock().take());
        wait::holds_within(Duration::from_secs(5), || {
            let marked = self.marked();
            marked.iter().for_each(|&pid| procfs::signal("KILL", pid));
            marked.is_empty()
        });
    }
}
