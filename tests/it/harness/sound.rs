//! What must be true whenever a service is at rest, however often it was killed with all it has and started
//! again over the same state. Children that are started by [`Service::start_args`] notice by themselves when
//! two run in one's place.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::harness::{SOON, Service, procfs, wait};

/// The states that last.
const AT_REST: [&str; 3] = ["running", "stopped", "failed"];

impl Service {
    /// A start of a child that tells when it is not the only one: the lock of its name is held while it
    /// lives. A flock(1) that the test kills in the middle says nothing about others.
    pub fn start_args<'w>(&self, name: &'w str, options: &[&'w str]) -> Vec<String> {
        let (locks, doubles) = (self.scratch().file("lock"), self.scratch().file("doubles"));
        let script = format!(
            "exec 9>>{locks}-{name}; flock -n -E 75 9; \
             [ $? -ne 75 ] || echo \"{name} $PROVOST_ID $PROVOST_RUN\" >>{doubles}; \
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
        let doubles = fs::read_to_string(self.scratch().file("doubles")).unwrap_or_default();
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
        let copy = self.scratch().file("copy.db");
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
        format!("{}/provost.db", self.state_dir())
    }
}

fn integrity(db: &Connection) -> String {
    let row = db.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    row.unwrap_or_else(|e| format!("cannot be checked: {e}"))
}
