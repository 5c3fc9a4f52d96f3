//! The store on real files: what comes back, what is refused, and what it says when the disk does not do as
//! it should.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tempfile::TempDir;

use crate::engine::process::fresh::fresh;
use crate::engine::store::content::{Change, Kept, Prune, Put, Written};
use crate::engine::store::error::{ErrorKind, StoreError};
use crate::engine::store::rows::RUNS_MAX;
use crate::engine::store::schema::{self, MIGRATIONS};
use crate::engine::store::sqlite::{EVENTS_MAX, Sqlite, connect};
use crate::sys::system;
use crate::wire::audit::AuditLine;
use crate::wire::error::{Code, Error};
use crate::wire::event::{Event, EventKind};
use crate::wire::id::ProcessId;
use crate::wire::keep::Document;
use crate::wire::leader::Leader;
use crate::wire::process::{End, Exit, StartFailure, State};
use crate::wire::record::Record;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// A directory of a test's own.
pub(super) struct Dir(TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Where the store is to be; not there yet.
    pub(super) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.state().join("provost.db")
    }
}

fn new_store() -> (Dir, Sqlite) {
    let dir = Dir::new();
    let store = Sqlite::open(&dir.state()).unwrap();
    (dir, store)
}

/// A process in its first run; of one name always the same.
pub(super) fn running(name: &str, pid: u32) -> Kept {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    let mut spec = Spec::new(["sleep", "1000"]);
    spec.name = Some(name.parse().unwrap());
    spec.env.push(("SECRET".into(), format!("of {name}")));
    let record = Record {
        state: State::Running,
        run: 1,
        pid: Some(pid),
        created_at: Timestamp(500),
        started_at: Some(Timestamp(1000)),
        cause: "started by uid 0".into(),
        ..fresh(ProcessId::from_bytes(id), spec.name.clone(), None)
    };
    let leader = Some(Leader { pid, start_ticks: 777 });
    Kept { spec, record, wanted: true, leader, boot_id: "boot-1".into() }
}

pub(super) fn put(kept: &Kept) -> Put<'_> {
    let Kept { spec, record, wanted, leader, boot_id } = kept;
    Put { spec, record, wanted: *wanted, leader: *leader, boot_id }
}

fn puts(kept: &[Kept]) -> Change<'_> {
    Change { put: kept.iter().map(put).collect(), ..Change::default() }
}

pub(super) fn event(seq: u64, id: Option<ProcessId>) -> Event {
    Event {
        seq,
        at: Timestamp(1_700_000_000_000 + seq),
        mono_ms: 5 * seq,
        id,
        name: id.map(|_| "web".to_owned()).unwrap_or_default(),
        run: u64::from(id.is_some()),
        pid: id.map(|_| 4711),
        kind: if id.is_some() { EventKind::Exited } else { EventKind::EnvChanged },
        cause: "stop by uid 1000".into(),
        exit: id.map(|_| exit(End::Code(3))),
        detail: String::new(),
    }
}

fn exit(end: End) -> Exit {
    Exit {
        end,
        core: true,
        oom: false,
        ran: Duration::from_millis(1234),
        user: Duration::from_micros(5),
        system: Duration::from_micros(6),
        max_rss_kib: 7,
    }
}

fn of_events(events: &[Event]) -> Change<'_> {
    Change { events, ..Change::default() }
}

fn seqs(store: &mut Sqlite, since: u64, max: usize, of: Option<ProcessId>) -> Vec<u64> {
    store.events(since, max, of).unwrap().events.iter().map(|e| e.seq).collect()
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> ErrorKind {
    result.unwrap_err().kind
}

#[test]
fn everything_comes_back() {
    let dir = Dir::new();
    let mut kept = vec![running("web-1", 10), running("web-2", 11), running("db", 12)];
    kept[1].record.exit = Some(exit(End::Signal(9)));
    kept[1].record.stopped_at = Some(Timestamp(2000));
    kept[1].wanted = false;
    kept[2].leader = None;
    kept[2].record.pid = None;
    let env = [("Z".to_owned(), "1".to_owned()), ("A".to_owned(), String::new())];
    let events = [event(1, None), event(2, Some(kept[0].record.id)), event(3, None)];
    let cursors = [("file".to_owned(), 3), ("opensearch".to_owned(), 1)];
    let mut store = Sqlite::open(&dir.state()).unwrap();
    let new = store.load().unwrap();
    assert_eq!((new.last_seq, new.last_boot_id.as_str(), new.kept.len()), (0, "", 0));
    let change = Change {
        env: Some(&env),
        boot_id: Some("boot-1"),
        events: &events,
        cursors: &cursors,
        ..puts(&kept)
    };
    assert_eq!(store.write(&change).unwrap(), Written::default());
    for _ in 0..2 {
        drop(store);
        store = Sqlite::open(&dir.state()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.kept, kept);
        assert_eq!((loaded.service, loaded.last_seq), (new.service, 3));
        assert_eq!((&loaded.env[..], &loaded.cursors[..]), (&env[..], &cursors[..]));
        assert_eq!((loaded.last_boot_id.as_str(), &loaded.damaged[..]), ("boot-1", &[][..]));
        assert_eq!(store.events(0, 10, None).unwrap().events, events);
        // The same once more changes nothing.
        store.write(&change).unwrap();
    }
    let about = store.about();
    assert_eq!((about.events, &about.path), (Some(3), &dir.database().canonicalize().unwrap()));
    assert!(about.bytes >= 4096 && about.wal_bytes > 0, "{about:?}");
    let pragma =
        |name| store.conn.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
    assert_eq!(pragma("synchronous").unwrap(), 2.into(), "FULL");
}

#[test]
fn a_record_is_kept_without_its_events() {
    let dir = Dir::new();
    let mut kept = running("web", 10);
    kept.record.events = vec![event(1, None)];
    let mut store = Sqlite::open(&dir.state()).unwrap();
    store.write(&puts(std::slice::from_ref(&kept))).unwrap();
    kept.record.events.clear();
    assert_eq!(store.load().unwrap().kept, [kept]);
}

#[test]
fn runs_are_told_by_records() {
    let (_dir, mut store) = new_store();
    let mut kept = running("web", 10);
    let id = kept.record.id;
    let mut write = |kept: &Kept| {
        for _ in 0..2 {
            store.write(&Change { put: vec![put(kept)], ..Change::default() }).unwrap();
        }
        store.runs(id, 10).unwrap()
    };
    let runs = write(&kept);
    assert_eq!((runs.len(), runs[0].pid, runs[0].start_ticks), (1, Some(10), Some(777)));
    assert_eq!((runs[0].exit, runs[0].stopped_at), (None, None));

    // Its end: the record has lost the pid, the run has not.
    kept.leader = None;
    kept.boot_id = "boot-2".into();
    kept.record.pid = None;
    kept.record.exit = Some(exit(End::Signal(15)));
    kept.record.stopped_at = Some(Timestamp(2000));
    let first = write(&kept).remove(0);
    assert_eq!((first.pid, first.start_ticks, first.boot_id.as_str()), (Some(10), Some(777), "boot-1"));
    assert_eq!((first.exit, first.stopped_at), (kept.record.exit, Some(Timestamp(2000))));

    // The next run is not over, nor is a start that fails: the exit in their record is the first one's.
    kept.record.run = 2;
    kept.record.stopped_at = None;
    let runs = write(&kept);
    assert_eq!((runs.len(), runs[0].exit, &runs[1]), (2, None, &first));
    kept.record.run = 3;
    kept.record.stopped_at = Some(Timestamp(3000));
    kept.record.start_failure = Some(StartFailure { step: "exec".into(), errno: 2, object: "x".into() });
    let runs = write(&kept);
    assert_eq!((runs[0].run, runs[0].exit, runs[0].stopped_at), (3, None, Some(Timestamp(3000))));

    kept.record.run = 2 + RUNS_MAX;
    let runs = write(&kept);
    assert_eq!(runs.iter().map(|r| r.run).collect::<Vec<_>>(), [2 + RUNS_MAX, 3]);
}

#[test]
fn a_process_goes_with_its_runs_and_leaves_its_events() {
    let (_dir, mut store) = new_store();
    let kept = [running("web", 10), running("db", 11)];
    let (gone, stays) = (kept[0].record.id, kept[1].record.id);
    store.write(&Change { events: &[event(1, Some(gone))], ..puts(&kept) }).unwrap();
    store.write(&Change { remove: vec![gone], ..Change::default() }).unwrap();
    assert_eq!(store.load().unwrap().kept, kept[1..]);
    assert_eq!((store.runs(gone, 10).unwrap().len(), store.runs(stays, 10).unwrap().len()), (0, 1));
    assert_eq!(seqs(&mut store, 0, 10, Some(gone)), [1]);
    // Put and removed in one change: it is gone.
    store.write(&Change { remove: vec![stays], ..puts(&kept[1..]) }).unwrap();
    assert!(store.load().unwrap().kept.is_empty());
}

#[test]
fn events_come_in_pages() {
    let (_dir, mut store) = new_store();
    let id = ProcessId::new();
    assert_eq!(store.events(0, 10, None).unwrap().oldest, 1);
    let events: Vec<_> = (1..=5000).map(|seq| event(seq, (seq % 10 == 0).then_some(id))).collect();
    store.write(&of_events(&events)).unwrap();
    assert_eq!(seqs(&mut store, 0, 3, None), [1, 2, 3]);
    assert_eq!(seqs(&mut store, 4998, 3, None), [4999, 5000]);
    assert_eq!(seqs(&mut store, 15, 3, Some(id)), [20, 30, 40]);
    assert_eq!(seqs(&mut store, 0, 3, Some(ProcessId::new())), [0; 0]);
    assert_eq!(seqs(&mut store, 0, usize::MAX, None).len(), EVENTS_MAX);
    assert_eq!(seqs(&mut store, u64::MAX, 3, None), [0; 0]);
    // What is there is not written over.
    store.write(&of_events(&[Event { detail: "another".into(), ..event(7, None) }])).unwrap();
    assert_eq!(store.events(6, 1, None).unwrap().events[0], event(7, None));
}

#[test]
fn old_events_are_pruned_from_their_end() {
    let (_dir, mut store) = new_store();
    let events: Vec<_> = (1..=5000).map(|seq| event(seq, None)).collect();
    store.write(&of_events(&events)).unwrap();
    let mut prune = |keep, before| {
        let prune = Prune { keep, before: Timestamp(before), ..Prune::default() };
        store.write(&Change { prune, ..Change::default() }).unwrap();
        let page = store.events(0, EVENTS_MAX, None).unwrap();
        assert_eq!(page.events.first().map(|e| e.seq), Some(page.oldest));
        (page.oldest, page.oldest + page.events.len() as u64)
    };
    let at = |seq| event(seq, None).at.0;
    assert_eq!(prune(4900, 0), (101, 101 + 4096));
    assert_eq!(prune(u64::MAX, at(151)), (151, 151 + 4096));
    // Both at once, the larger counts; not more than the limit with one write.
    assert_eq!(prune(4800, at(301)), (301, 301 + 4096));
    assert_eq!(prune(10, 0), (2301, 5001));
    assert_eq!(prune(10, 0), (4301, 5001));
    assert_eq!(prune(10, 0), (4991, 5001));
    assert_eq!(prune(10, 0), (4991, 5001));
    // Never all of them: the newest holds the number.
    assert_eq!(prune(0, u64::MAX), (5000, 5001));
    assert_eq!(store.load().unwrap().last_seq, 5000);
}

#[test]
fn files_are_for_the_owner_alone() {
    let dir = Dir::new();
    let state = dir.0.path().join("a/b/state");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let files = ["provost.db", "provost.db-wal", "provost.db-shm", "lock"].map(|name| state.join(name));
    for _ in 0..2 {
        let _store = Sqlite::open(&state).unwrap();
        assert_eq!(mode(&state), 0o700);
        files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
        assert_ne!(mode(&dir.0.path().join("a")), 0o700, "parents are made as usual");
        // As a backup may leave it.
        fs::set_permissions(&files[0], fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert_eq!(mode(&files[0]), 0o644);
    let _store = Sqlite::open(&state).unwrap();
    assert_eq!(mode(&files[0]), 0o600);
}

#[test]
fn a_place_that_is_not_safe_is_refused() {
    let refused = |prepare: &dyn Fn(&Dir), part: &str| {
        let dir = Dir::new();
        fs::create_dir(dir.state()).unwrap();
        prepare(&dir);
        let error = Sqlite::open(&dir.state()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains(part) && error.message.contains("state"), "{error}");
        assert!(error.hint.contains("state"), "{}", error.hint);
        let error = Error::from(error);
        assert_eq!(error.code, Code::Refused);
    };
    let set_mode = |dir: &Dir, mode| fs::set_permissions(dir.state(), fs::Permissions::from_mode(mode));
    refused(&|dir| set_mode(dir, 0o777).unwrap(), "others may write there (mode 0777)");
    refused(&|dir| set_mode(dir, 0o720).unwrap(), "others may write there (mode 0720)");
    refused(&|dir| fs::create_dir(dir.database()).unwrap(), "a directory");
    refused(&|dir| symlink("/dev/null", dir.database()).unwrap(), "a symbolic link");
    refused(&|dir| symlink("elsewhere", dir.database()).unwrap(), "a symbolic link");
    if system::euid() == 0 {
        refused(&|dir| std::os::unix::fs::chown(dir.state(), Some(65534), None).unwrap(), "to user 65534");
        refused(
            &|dir| {
                fs::write(dir.database(), "").unwrap();
                std::os::unix::fs::chown(dir.database(), Some(65534), None).unwrap();
            },
            "to user 65534",
        );
    }
    let dir = Dir::new();
    fs::write(dir.state(), "").unwrap();
    assert_eq!(kind(Sqlite::open(&dir.state())), ErrorKind::Refused);
}

#[test]
fn a_second_service_is_refused_by_name() {
    let dir = Dir::new();
    let first = Sqlite::open(&dir.state()).unwrap();
    let error = Sqlite::open(&dir.state()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains(&format!("pid {}", std::process::id())), "{error}");
    drop(first);
    Sqlite::open(&dir.state()).unwrap();
}

/// The database as it would be found after a kill at this moment.
pub(super) fn copy_as_after_a_kill(from: &Dir, to: &Dir) {
    fs::create_dir(to.state()).unwrap();
    for name in ["provost.db", "provost.db-wal"] {
        fs::copy(from.state().join(name), to.state().join(name)).unwrap();
    }
}

#[test]
fn a_newer_database_is_left_alone() {
    let (dir, mut store) = new_store();
    let newest = i32::try_from(MIGRATIONS.len()).unwrap();
    schema::step(&mut store.conn, newest + 6, "CREATE TABLE later (x)").unwrap();
    drop(store);
    let before = fs::read(dir.database()).unwrap();
    let error = Sqlite::open(&dir.state()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Newer);
    assert!(error.message.contains(&format!("version {}", newest + 7)), "{error}");
    assert!(error.message.contains(&format!("knows {newest}")), "{error}");
    assert!(error.hint.contains("later"), "{}", error.hint);
    assert!(fs::read(dir.database()).unwrap() == before);
}

#[test]
fn another_programs_database_is_not_ours() {
    for sql in ["CREATE TABLE theirs (x)", "CREATE TABLE theirs (x); PRAGMA user_version = 1"] {
        let dir = Dir::new();
        drop(Sqlite::open(&dir.state()).unwrap());
        fs::write(dir.database(), "").unwrap();
        connect(&dir.database()).unwrap().execute_batch(sql).unwrap();
        assert_eq!(kind(Sqlite::open(&dir.state())), ErrorKind::Corrupt, "{sql}");
    }
}

#[test]
fn every_version_comes_to_the_newest() {
    // One more than there is: so that the step from the newest is there too.
    let mut all = MIGRATIONS.to_vec();
    all.push("ALTER TABLE processes ADD COLUMN later TEXT; INSERT INTO sinks VALUES ('moved', 0)");
    for from in 0..all.len() {
        let dir = Dir::new();
        fs::create_dir(dir.state()).unwrap();
        fs::write(dir.database(), "").unwrap();
        let mut conn = connect(&dir.database()).unwrap();
        schema::migrate(&mut conn, &dir.database(), &all[..from]).unwrap();
        if from > 0 {
            conn.execute("INSERT INTO sinks VALUES ('kept', 5)", ()).unwrap();
        }
        for _ in 0..2 {
            schema::migrate(&mut conn, &dir.database(), &all).unwrap();
        }
        let sinks: i64 = conn.query_row("SELECT count(*) FROM sinks", (), |row| row.get(0)).unwrap();
        assert_eq!(sinks, 1 + i64::from(from > 0), "from {from}");
        schema::check(&conn, &dir.database()).unwrap();
    }
}

#[test]
fn documents_are_kept_by_kind_and_key_and_what_is_damaged_is_left_out() {
    let (_dir, mut store) = new_store();
    let document = |kind: &str, key: &str, content: Option<&[u8]>| Document {
        kind: kind.into(),
        key: key.into(),
        content: content.map(<[u8]>::to_vec),
    };
    let (one, two) = (document("entry", "a", Some(b"one")), document("entry", "b", Some(b"")));
    let other = document("other", "a", Some(b"else"));
    let all = [two.clone(), one, other.clone()];
    store.write(&Change { documents: &all, ..Change::default() }).unwrap();
    let one = document("entry", "a", Some(b"changed"));
    store.write(&Change { documents: std::slice::from_ref(&one), ..Change::default() }).unwrap();
    assert_eq!(store.documents("entry").unwrap(), [one, two.clone()]);
    let revision = "SELECT revision FROM documents WHERE kind = 'entry' AND key = 'a'";
    assert_eq!(store.conn.query_row(revision, (), |row| row.get::<_, u32>(0)).unwrap(), 2);
    store.conn.execute("UPDATE documents SET content = 'x' WHERE kind = 'entry' AND key = 'a'", ()).unwrap();
    assert_eq!(store.documents("entry").unwrap(), [two]);
    let gone = [document("entry", "b", None), document("entry", "never", None)];
    store.write(&Change { documents: &gone, ..Change::default() }).unwrap();
    assert_eq!(store.documents("entry").unwrap(), []);
    assert_eq!(store.documents("other").unwrap(), [other]);
}

#[test]
fn the_audit_is_kept_by_time_whatever_becomes_of_events() {
    let (_dir, mut store) = new_store();
    let line = |seq, result: Option<&str>| {
        let (who, what, result) = ("uid 0".into(), "stop web".into(), result.map(str::to_owned));
        AuditLine { seq, at: Timestamp(1000 * seq), who, what, result }
    };
    let mut write = |lines: &[AuditLine], prune| {
        store.write(&Change { audit: lines, prune, ..Change::default() }).unwrap();
        store.audit(0, 1000).unwrap()
    };
    write(&[line(1, None), line(2, None)], Prune::default());
    let both = write(&[line(1, Some("done")), line(2, Some("done"))], Prune::default());
    assert_eq!(both, [line(1, Some("done")), line(2, Some("done"))]);
    // Now and then, and never the newest.
    let lines: Vec<_> = (3..=128).map(|seq| line(seq, None)).collect();
    let of_events = Prune { before: Timestamp(u64::MAX), keep: 100, ..Prune::default() };
    assert_eq!(write(&lines, of_events).len(), 128);
    let left = write(&[line(192, None)], Prune { audit_before: Timestamp(29_000), ..Prune::default() });
    assert_eq!((left[0].seq, left.len()), (29, 101));
    let left = write(&[line(256, None)], Prune { audit_before: Timestamp(u64::MAX), ..Prune::default() });
    assert_eq!(left, [line(256, None)]);
    assert_eq!(store.audit(255, 1).unwrap().len() + store.audit(256, 1).unwrap().len(), 1);
    assert_eq!(store.load().unwrap().last_audit, 256);
}

#[test]
fn a_migration_is_whole_or_was_not() {
    let (dir, mut store) = new_store();
    let kept = [running("web", 10)];
    store.write(&puts(&kept)).unwrap();
    let newest = i32::try_from(MIGRATIONS.len()).unwrap();
    // It fails in the middle.
    schema::step(&mut store.conn, newest, "DROP TABLE processes; CREATE TABLE env (x)").unwrap_err();
    assert_eq!(store.load().unwrap().kept, kept);
    // It is killed in the middle, after SQLite had to write some of it.
    let tx = store.conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.pragma_update(None, "cache_size", 1).unwrap();
    tx.execute_batch(
        "CREATE TABLE later (x); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 999)
         INSERT INTO later SELECT zeroblob(5000) FROM n; DROP TABLE processes",
    )
    .unwrap();
    tx.pragma_update(None, "user_version", newest + 1).unwrap();
    let killed = Dir::new();
    copy_as_after_a_kill(&dir, &killed);
    assert!(fs::metadata(killed.state().join("provost.db-wal")).unwrap().len() > 1 << 20);
    assert_eq!(Sqlite::open(&killed.state()).unwrap().load().unwrap().kept, kept);
    // Killed just behind its end.
    tx.commit().unwrap();
    let killed = Dir::new();
    copy_as_after_a_kill(&dir, &killed);
    assert_eq!(kind(Sqlite::open(&killed.state())), ErrorKind::Corrupt, "a version without its fact");
}

#[test]
fn replaced_files_are_noticed() {
    let kept = [running("web", 10)];
    let other = Dir::new();
    let mut others = Sqlite::open(&other.state()).unwrap();
    let theirs = [running("theirs", 11)];
    others.write(&puts(&theirs)).unwrap();
    drop(others);
    let replace = |to: &Path| {
        fs::copy(other.database(), to.with_extension("new")).unwrap();
        fs::rename(to.with_extension("new"), to).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a [Kept]);
    let damages: [Damage; 5] = [
        ("provost.db", &replace, &theirs),
        ("provost.db", &remove, &[]),
        ("provost.db-wal", &remove, &kept),
        ("provost.db-wal", &|path| fs::rename(path, path.with_extension("old")).unwrap(), &kept),
        ("provost.db-shm", &remove, &kept),
    ];
    for (name, damage, found_then) in damages {
        let dir = Dir::new();
        let mut store = Sqlite::open(&dir.state()).unwrap();
        store.write(&puts(&kept)).unwrap();
        damage(&dir.state().join(name));
        let error = store.write(&of_events(&[event(1, None)])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Replaced, "{name}");
        assert!(error.message.contains(name), "{error}");
        drop(store);
        let mut store = Sqlite::open(&dir.state()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!((&loaded.kept[..], loaded.last_seq), (found_then, 0), "{name}");
        store.write(&puts(&kept)).unwrap();
    }
}

#[test]
fn a_lock_of_another_program_is_waited_for_with_a_limit() {
    let (dir, mut store) = new_store();
    let other = Connection::open(dir.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begin = Instant::now();
    assert_eq!(kind(store.write(&of_events(&[event(1, None)]))), ErrorKind::Locked);
    let took = begin.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
    // Reading goes on meanwhile.
    assert_eq!(store.load().unwrap().last_seq, 0);
    other.execute_batch("COMMIT").unwrap();
    store.write(&of_events(&[event(1, None)])).unwrap();
    assert_eq!(seqs(&mut store, 0, 10, None), [1]);
}

#[test]
fn a_full_disk_takes_all_or_nothing() {
    let (_dir, mut store) = new_store();
    let before = running("before", 10);
    store.write(&puts(std::slice::from_ref(&before))).unwrap();
    let pages: i64 = store.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.conn.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(())).unwrap();
    let mut changed = before.clone();
    changed.wanted = false;
    let large = Event { detail: "x".repeat(20_000), ..event(1, None) };
    for _ in 0..3 {
        let change =
            Change { put: vec![put(&changed)], events: std::slice::from_ref(&large), ..Change::default() };
        assert_eq!(kind(store.write(&change)), ErrorKind::Full);
        let loaded = store.load().unwrap();
        assert_eq!((loaded.last_seq, &loaded.kept[..]), (0, &[before.clone()][..]));
    }
    store.write(&of_events(&[event(1, None)])).unwrap();
    store.conn.pragma_update_and_check(None, "max_page_count", pages + 1000, |_| Ok(())).unwrap();
    store.write(&of_events(&[Event { seq: 2, ..large }])).unwrap();
    assert_eq!(seqs(&mut store, 0, 10, None), [1, 2]);
}

#[test]
fn a_reader_without_end_costs_events_and_nothing_else() {
    let (dir, mut store) = new_store();
    store.wal_len_for_events = 256 << 10;
    let kept = [running("web", 10)];
    let reader = Connection::open(dir.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM events").unwrap();
    let mut seq = 0;
    let left_out = (0..1000).map(|_| {
        seq += 1;
        store.write(&Change { events: &[event(seq, None)], ..puts(&kept) }).unwrap().left_out
    });
    assert_eq!(left_out.filter(|n| *n > 0).take(1).sum::<usize>(), 1);
    assert!(store.about().wal_bytes > 256 << 10);
    let loaded = store.load().unwrap();
    assert_eq!((loaded.last_seq, &loaded.kept[..]), (seq, &kept[..]), "its number is not given again");
    assert_eq!(store.events(0, EVENTS_MAX, None).unwrap().events.len() as u64, seq - 1);

    // Far beyond it nothing is written, and it is said what is in the way.
    let mut kept = kept;
    let error = (0..1000).find_map(|n| {
        kept[0].record.restarts = n;
        store.write(&puts(&kept)).err()
    });
    let error = error.unwrap();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert!(error.message.contains("log") && error.hint.contains("reads"), "{error}: {}", error.hint);

    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(store.write(&of_events(&[event(1001, None)])).unwrap(), Written::default());
    assert_eq!(seqs(&mut store, seq, 10, None), [1001]);
    assert!(store.about().wal_bytes < 128 << 10, "{:?}", store.about());
}
