//! The store in SQLite: one connection in WAL mode, a full sync with each transaction. Statements are
//! prepared for each transaction and gone with it: nothing is left over from a failed one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use crate::engine::store::content::{About, Change, EventsPage, Loaded, Prune, Run, Written};
use crate::engine::store::directory::{Files, StoreDir, WAL, with_suffix};
use crate::engine::store::error::{ErrorKind, StoreError, shown};
use crate::engine::store::numbers;
use crate::engine::store::rows::{self, Fact, Number, PutStatements, RUNS_MAX};
use crate::engine::store::schema::{self, MIGRATIONS};
use crate::wire::audit::AuditLine;
use crate::wire::id::ProcessId;
use crate::wire::keep::Document;
use crate::wire::time::Timestamp;

/// The oldest SQLite that will do: in earlier ones, a checkpoint and a write could meet and damage the
/// database.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How long another program's transaction is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages kept in memory, in KiB. What is read at once is small, and history is read seldom.
const CACHE_KIB: i32 = 256;
/// What is left of the log after a burst, in bytes.
const WAL_LEN_AT_REST: u32 = 4 << 20;
/// The log at which events are left out, in bytes: SQLite begins to empty it at 4 MiB, so a reader
/// keeps it from that.
const WAL_LEN_FOR_EVENTS: u64 = 64 << 20;
/// The log at which nothing is written any more, in multiples of that.
const WAL_FACTOR_MAX: u64 = 4;
/// The most events that one write prunes, so that none takes long.
const PRUNE_MAX: u64 = 2000;
/// How many lines of the audit come between two prunings of it.
const PRUNE_AUDIT_EACH: u64 = 64;
/// The most lines of the audit: a few gigabytes, more than anybody asks for by hand.
const AUDIT_LINES_MAX: u64 = 10_000_000;

/// The most events that one call of [`Sqlite::events`] returns.
pub(super) const EVENTS_MAX: usize = 4096;

/// The store.
#[derive(Debug)]
pub struct Sqlite {
    // Closed before the lock is given back: fields are dropped in this order.
    pub(super) conn: Connection,
    files: Files,
    pub(super) wal_len_for_events: u64,
    directory: StoreDir,
}

impl Sqlite {
    /// Goes on as the service that another database was of, which was lost: with its name, and behind its
    /// last event.
    pub fn go_on_as(&mut self, service: Uuid, last_seq: u64) -> Result<(), StoreError> {
        let failed = self.failed("name the service in the store");
        rows::put_fact(&self.conn, Fact::Service, &service.to_string())
            .and_then(|()| rows::put_fact(&self.conn, Fact::LastSeq, &last_seq.to_string()))
            .map_err(failed)
    }

    /// Opens the store in this directory, which is made if need be; brings its tables up to date and looks
    /// through the small ones.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            let message =
                format!("SQLite {} is linked in, the store needs 3.51.3 or later", rusqlite::version());
            return Err(StoreError::new(ErrorKind::Refused, message).hint("build with the bundled SQLite"));
        }
        let directory = StoreDir::claim(dir)?;
        directory.prepare()?;
        // On a full disk another time.
        let _ = numbers::prepare(directory.path());
        let path = directory.database();
        let failed = |e: rusqlite::Error| StoreError::sqlite("open the store", path, &e);
        let mut conn = connect(path).map_err(failed)?;
        set_up(&conn).map_err(failed)?;
        schema::migrate(&mut conn, path, MIGRATIONS)?;
        schema::check(&conn, path)?;
        // Reading has made the log, so all the files are there now.
        let files = Files::at(path);
        let store = Self { files, conn, wal_len_for_events: WAL_LEN_FOR_EVENTS, directory };
        store.settle()?;
        Ok(store)
    }

    /// What was found in the log may never have reached the disk: the writer may have been told so, or
    /// have died before. Writing the same again would write nothing, and so not sync; moved into the
    /// database, all of it is synced.
    fn settle(&self) -> Result<(), StoreError> {
        match self.empty_log() {
            // Then it is not moved, and nothing that failed to sync is in it: those fail in another way.
            Err(e) if matches!(e.kind, ErrorKind::Full | ErrorKind::Locked) => Ok(()),
            other => other,
        }
    }

    /// Moves the log into the database and cuts it off, as far as no reader stands in the way.
    fn empty_log(&self) -> Result<(), StoreError> {
        // A reader in the way is not waited for.
        let emptied = self
            .conn
            .busy_timeout(Duration::ZERO)
            .and_then(|()| self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())));
        self.conn.busy_timeout(BUSY_TIMEOUT).and(emptied).map_err(self.failed("empty the log of"))
    }

    /// What was removed lies on in the log until that is moved into the database and cut off.
    pub fn overwrite_removed(&mut self) {
        // With a reader in the way, the log is overwritten later, as always.
        let _ = self.empty_log();
    }

    fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        move |e| StoreError::sqlite(doing, self.directory.database(), &e)
    }

    /// Gives back the memory of pages that were read and will hardly be read again.
    fn forget_pages(&self) {
        // It is only thrift.
        let _ = self.conn.release_memory();
    }

    fn wal_len(&self) -> u64 {
        file_len(&with_suffix(self.directory.database(), WAL))
    }

    /// Whether the log has room for events; an error: not even for the rest.
    fn has_room_for_events(&self) -> Result<bool, StoreError> {
        if self.wal_len() <= self.wal_len_for_events {
            return Ok(true);
        }
        // The reader that kept it from being emptied may have gone.
        self.empty_log()?;
        let len = self.wal_len();
        let max = WAL_FACTOR_MAX * self.wal_len_for_events;
        if len > max {
            let path = shown(self.directory.database());
            let message = format!("the log of the store {path} has {len} bytes, the limit is {max}");
            return Err(StoreError::new(ErrorKind::Locked, message)
                .hint("another program reads the database without end: end that one"));
        }
        Ok(len <= self.wal_len_for_events)
    }

    fn read_loaded(&self) -> rusqlite::Result<Result<Loaded, &'static str>> {
        let Some(service) = rows::fact(&self.conn, Fact::Service)?.and_then(|text| text.parse().ok()) else {
            return Ok(Err("the service's identity is not in it"));
        };
        let mut damaged = Vec::new();
        let last_seq = last_seq(&self.conn)?;
        let last_audit = last_audit(&self.conn)?;
        let mut env = Vec::new();
        let mut statement = self.conn.prepare("SELECT key, value, sum FROM env ORDER BY place")?;
        for row in statement.query_map((), |row| Ok(rows::variable(row)))? {
            row?.map_or_else(|why| damaged.push(why), |variable| env.push(variable));
        }
        let mut kept = Vec::new();
        let mut statement =
            self.conn.prepare(&format!("SELECT {} FROM processes ORDER BY rowid", rows::KEPT))?;
        for row in statement.query_map((), |row| Ok(rows::kept(row)))? {
            row?.map_or_else(|why| damaged.push(why), |process| kept.push(process));
        }
        let mut cursors = Vec::new();
        let mut statement = self.conn.prepare("SELECT name, seq FROM sinks ORDER BY name")?;
        for row in statement.query_map((), |row| Ok((row.get(0)?, row.get::<_, Number>(1)?.0)))? {
            let (name, seq): (String, u64) = row?;
            if seq <= last_seq {
                cursors.push((name, seq));
            } else {
                damaged.push(format!("the place of sink {name}: {seq} is past the last event, {last_seq}"));
            }
        }
        let last_boot_id = rows::fact(&self.conn, Fact::BootId)?.unwrap_or_default();
        Ok(Ok(Loaded { service, last_boot_id, last_seq, last_audit, env, kept, cursors, damaged }))
    }

    /// Everything but events and runs; once, after opening.
    pub fn load(&mut self) -> Result<Loaded, StoreError> {
        let loaded = self.read_loaded().map_err(self.failed("read the store"))?.map_err(|why| {
            let path = shown(self.directory.database());
            StoreError::new(ErrorKind::Corrupt, format!("the store {path} makes no sense: {why}"))
        })?;
        self.forget_pages();
        Ok(loaded)
    }

    /// All of the change or nothing, and on the disk when it returns.
    pub fn write(&mut self, change: &Change<'_>) -> Result<Written, StoreError> {
        self.files.check(self.directory.database())?;
        let has_room = self.has_room_for_events()?;
        let doing = "write the store";
        let path = self.directory.database();
        let failed = |e: rusqlite::Error| StoreError::sqlite(doing, path, &e);
        // Dropped without a commit, it is rolled back.
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        apply(&tx, change, has_room).map_err(failed)?;
        tx.commit().map_err(failed)?;
        Ok(Written { left_out: if has_room { 0 } else { change.events.len() } })
    }

    /// Events after `since` in their order, at most `max` and [`EVENTS_MAX`]; those of one process when `of`
    /// is given.
    pub fn events(
        &mut self,
        since: u64,
        max: usize,
        of: Option<ProcessId>,
    ) -> Result<EventsPage, StoreError> {
        let failed = self.failed("read events from the store");
        let read = || -> rusqlite::Result<EventsPage> {
            // One view of both, whatever others write.
            let tx = self.conn.unchecked_transaction()?;
            let columns = rows::EVENT;
            let max = max.min(EVENTS_MAX) as u64;
            let events = match of {
                None => tx
                    .prepare(&format!("SELECT {columns} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?
                    .query_map(params![Number(since), Number(max)], rows::event)?
                    .collect::<Result<_, _>>()?,
                Some(id) => tx
                    .prepare(&format!(
                        "SELECT {columns} FROM events WHERE id = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2"
                    ))?
                    .query_map(params![Number(since), Number(max), id.as_bytes()], rows::event)?
                    .collect::<Result<_, _>>()?,
            };
            let oldest = match ends(&tx)? {
                Some((oldest, _)) => oldest,
                None => last_seq(&tx)?.saturating_add(1),
            };
            Ok(EventsPage { events, oldest })
        };
        let page = read().map_err(failed)?;
        self.forget_pages();
        Ok(page)
    }

    /// Lines of the audit after `since` in their order, at most `max`.
    pub fn audit(&mut self, since: u64, max: usize) -> Result<Vec<AuditLine>, StoreError> {
        let read = || -> rusqlite::Result<Vec<AuditLine>> {
            self.conn
                .prepare("SELECT seq, at, who, what, result FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
                .query_map(params![Number(since), Number(max as u64)], rows::audit)?
                .collect()
        };
        let lines = read().map_err(self.failed("read the audit from the store"))?;
        self.forget_pages();
        Ok(lines)
    }

    /// The documents of this kind, in the order of their keys. One that cannot be believed is left out.
    pub fn documents(&mut self, kind: &str) -> Result<Vec<Document>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Document>> {
            let all = self
                .conn
                .prepare("SELECT kind, key, content, sum FROM documents WHERE kind = ?1 ORDER BY key")?
                .query_map([kind], |row| Ok(rows::document(row)))?
                .collect::<Result<Vec<_>, _>>()?;
            Ok(all.into_iter().flatten().collect())
        };
        let documents = read().map_err(self.failed("read documents from the store"))?;
        self.forget_pages();
        Ok(documents)
    }

    /// Runs of a process, newest first, at most `max` and [`RUNS_MAX`].
    pub fn runs(&mut self, of: ProcessId, max: usize) -> Result<Vec<Run>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Run>> {
            let columns = rows::RUN;
            let max = Number((max as u64).min(RUNS_MAX));
            self.conn
                .prepare(&format!("SELECT {columns} FROM runs WHERE id = ?1 ORDER BY run DESC LIMIT ?2"))?
                .query_map(params![of.as_bytes(), max], rows::run)?
                .collect()
        };
        read().map_err(self.failed("read runs from the store"))
    }

    /// How it is, for the doctor.
    pub fn about(&mut self) -> About {
        let count = self.conn.query_row("SELECT count(*) FROM events", (), |row| row.get::<_, Number>(0));
        About {
            path: self.directory.database().to_owned(),
            bytes: file_len(self.directory.database()),
            wal_bytes: self.wal_len(),
            events: count.ok().map(|n| n.0),
            sqlite: rusqlite::version(),
        }
    }
}

fn file_len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Opens a database that is there.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}

fn set_up(conn: &Connection) -> rusqlite::Result<()> {
    let mut mode = String::new();
    // To the end of its rows: the transaction that turns it, and its error, come after the answer.
    conn.pragma(None, "journal_mode", "WAL", |row| row.get(0).map(|answer| mode = answer))?;
    if mode != "wal" {
        // Only a file system without shared memory, or a database in memory, has another.
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMMAP),
            Some(format!("the file system takes no write-ahead log (it gives mode {mode})")),
        ));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    // Values are secrets now and then: what is deleted is overwritten.
    conn.pragma(None, "secure_delete", "ON", |_| Ok(()))?;
    conn.pragma_update(None, "journal_size_limit", WAL_LEN_AT_REST)
}

fn apply(tx: &Transaction<'_>, change: &Change<'_>, has_room_for_events: bool) -> rusqlite::Result<()> {
    if !change.put.is_empty() {
        let mut statements = PutStatements::prepare(tx)?;
        for put in &change.put {
            statements.put(put)?;
        }
    }
    for id in &change.remove {
        tx.execute("DELETE FROM processes WHERE id = ?1", [id.as_bytes()])?;
        tx.execute("DELETE FROM runs WHERE id = ?1", [id.as_bytes()])?;
    }
    if let Some(env) = change.env {
        rows::put_env(tx, env)?;
    }
    if let Some(boot_id) = change.boot_id {
        rows::put_fact(tx, Fact::BootId, boot_id)?;
    }
    match change.events.iter().map(|event| event.seq).max() {
        Some(_) if has_room_for_events => rows::put_events(tx, change.events)?,
        // So that no number is given twice.
        Some(last) => rows::put_fact(tx, Fact::LastSeq, &last.to_string())?,
        None => {}
    }
    if !change.audit.is_empty() {
        rows::put_audit(tx, change.audit)?;
    }
    for (sink, seq) in change.cursors {
        let put = "INSERT OR REPLACE INTO sinks (name, seq) VALUES (?1, ?2)";
        tx.execute(put, params![sink, Number(*seq)])?;
    }
    for document in change.documents {
        rows::put_document(tx, document)?;
    }
    if change.audit.iter().any(|line| line.seq.is_multiple_of(PRUNE_AUDIT_EACH)) {
        prune_audit(tx, change.prune)?;
    }
    prune(tx, change.prune)
}

/// The oldest and the newest number stored.
fn ends(conn: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
    // Each by itself, or SQLite would read the whole table.
    let sql = "SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)";
    let number = |n: Option<Number>| n.map(|n| n.0);
    conn.query_row(sql, (), |row| Ok(number(row.get(0)?).zip(number(row.get(1)?))))
}

/// The number of the newest event, stored or left out.
fn last_seq(conn: &Connection) -> rusqlite::Result<u64> {
    let stored = ends(conn)?.map_or(0, |(_, newest)| newest);
    let left_out = rows::fact(conn, Fact::LastSeq)?.and_then(|text| text.parse().ok());
    Ok(left_out.unwrap_or(0).max(stored))
}

/// Prunes the audit from the old end, by time; of numbers only what no disk is made for.
fn prune_audit(tx: &Transaction<'_>, prune: Prune) -> rusqlite::Result<()> {
    let too_many = last_audit(tx)?.saturating_sub(AUDIT_LINES_MAX);
    tx.execute(
        "DELETE FROM audit WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM audit ORDER BY seq LIMIT ?1)
             WHERE (seq <= ?2 OR at < ?3) AND seq < (SELECT max(seq) FROM audit))",
        params![Number(PRUNE_MAX), Number(too_many), Number(prune.audit_before.0)],
    )
    .map(drop)
}

fn last_audit(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT coalesce(max(seq), 0) FROM audit", (), |row| Ok(row.get::<_, Number>(0)?.0))
}

/// Prunes from the old end, as far as everything there is too old or too much. The newest event stays: it
/// holds the number that the next one goes on from.
fn prune(tx: &Transaction<'_>, prune: Prune) -> rusqlite::Result<()> {
    if prune == Prune::default() {
        return Ok(());
    }
    let Some((oldest, newest)) = ends(tx)? else { return Ok(()) };
    let too_many = newest.saturating_sub(prune.keep);
    let first: Timestamp = tx.query_row("SELECT at FROM events WHERE seq = ?1", [Number(oldest)], |row| {
        Ok(Timestamp(row.get::<_, Number>(0)?.0))
    })?;
    if oldest > too_many && first >= prune.before {
        return Ok(());
    }
    // The first of the oldest ones that stays; past the last of them when none does.
    let stays: Option<Number> = tx.query_row(
        "SELECT min(seq) FROM (SELECT seq, at FROM events ORDER BY seq LIMIT ?1) WHERE seq > ?2 AND at >= ?3",
        params![Number(PRUNE_MAX), Number(too_many), Number(prune.before.0)],
        |row| row.get(0),
    )?;
    let stays = match stays {
        Some(number) => number.0,
        None => tx
            .query_row(
                "SELECT max(seq) FROM (SELECT seq FROM events ORDER BY seq LIMIT ?1)",
                [Number(PRUNE_MAX)],
                |row| Ok(row.get::<_, Number>(0)?.0),
            )?
            .saturating_add(1),
    };
    tx.execute("DELETE FROM events WHERE seq < ?1", [Number(stays.min(newest))]).map(drop)
}
