//! Facts, processes, runs and events as rows. A row that decides what runs has a sum over all that decides,
//! so that no damaged byte becomes a command; a row that only tells the past has none.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Type, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Statement, ToSql, params};

use crate::engine::store::content::{Kept, Put, Run};
use crate::sys::signal;
use crate::wire::audit::AuditLine;
use crate::wire::event::{Event, EventKind};
use crate::wire::id::{ProcessId, quoted};
use crate::wire::keep::Document;
use crate::wire::leader::Leader;
use crate::wire::process::{End, Exit};
use crate::wire::record::Record;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// The most runs of a process that are kept.
pub(super) const RUNS_MAX: u64 = 100;

/// A number of ours; SQLite has one bit less, and what it has no room for is as good as endless.
pub(super) struct Number(pub u64);

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Integer(i64::try_from(self.0).unwrap_or(i64::MAX))))
    }
}

impl FromSql for Number {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = i64::column_result(value)?;
        u64::try_from(number).map(Self).map_err(|_| FromSqlError::OutOfRange(number))
    }
}

fn moment(at: Option<Timestamp>) -> Option<Number> {
    at.map(|at| Number(at.0))
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Over these parts, each with its length: what moves from one to the next is another sum.
fn sum(parts: &[&[u8]]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    i64::from(hasher.finalize())
}

/// The error for a row that cannot be believed.
fn unbelievable(column: usize, kind: Type, why: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, why.into())
}

/// What the database knows about itself and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The version of its tables.
    Schema,
    /// The service's name for ever.
    Service,
    BootId,
    /// The newest event's number, where that event itself was left out.
    LastSeq,
}

impl Fact {
    fn key(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Service => "service",
            Self::BootId => "boot_id",
            Self::LastSeq => "last_seq",
        }
    }
}

/// A fact, if it was ever written.
pub(super) fn fact(conn: &Connection, fact: Fact) -> rusqlite::Result<Option<String>> {
    let row = conn
        .query_row("SELECT value, sum FROM service WHERE key = ?1", [fact.key()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    let Some((value, kept)) = row else { return Ok(None) };
    if sum(&[fact.key().as_bytes(), value.as_bytes()]) != kept {
        return Err(unbelievable(1, Type::Integer, "the sum of a fact is wrong"));
    }
    Ok(Some(value))
}

pub(super) fn put_fact(conn: &Connection, fact: Fact, value: &str) -> rusqlite::Result<()> {
    let sum = sum(&[fact.key().as_bytes(), value.as_bytes()]);
    conn.execute(
        "INSERT OR REPLACE INTO service (key, value, sum) VALUES (?1, ?2, ?3)",
        params![fact.key(), value, sum],
    )
    .map(drop)
}

/// Writes the whole global environment.
pub(super) fn put_env(conn: &Connection, env: &[(String, String)]) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM env", ())?;
    let mut insert = conn.prepare("INSERT INTO env (key, value, sum) VALUES (?1, ?2, ?3)")?;
    for (key, value) in env {
        insert.execute(params![key, value, sum(&[key.as_bytes(), value.as_bytes()])])?;
    }
    Ok(())
}

/// Writes a document, or takes it away.
pub(super) fn put_document(conn: &Connection, document: &Document) -> rusqlite::Result<()> {
    let Document { kind, key, content } = document;
    let Some(content) = content else {
        return conn
            .execute("DELETE FROM documents WHERE kind = ?1 AND key = ?2", params![kind, key])
            .map(drop);
    };
    let put = "INSERT INTO documents (kind, key, revision, content, sum) VALUES (?1, ?2, 1, ?3, ?4)
        ON CONFLICT (kind, key) DO UPDATE SET revision = revision + 1, content = ?3, sum = ?4";
    conn.execute(put, params![kind, key, content, sum_of_document(kind, key, content)]).map(drop)
}

fn sum_of_document(kind: &str, key: &str, content: &[u8]) -> i64 {
    sum(&[kind.as_bytes(), key.as_bytes(), content])
}

/// A document; none: it cannot be read, or its sum is wrong.
pub(super) fn document(row: &Row<'_>) -> Option<Document> {
    let (kind, key, content): (String, String, Vec<u8>) =
        (row.get(0).ok()?, row.get(1).ok()?, row.get(2).ok()?);
    let is_right = row.get::<_, i64>(3).ok()? == sum_of_document(&kind, &key, &content);
    is_right.then_some(Document { kind, key, content: Some(content) })
}

/// A variable, or why there is none.
pub(super) fn variable(row: &Row<'_>) -> Result<(String, String), String> {
    let read = || -> rusqlite::Result<(String, String, i64)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
    let (key, value, kept) = read().map_err(|e| format!("a variable of the global environment: {e}"))?;
    if sum(&[key.as_bytes(), value.as_bytes()]) == kept {
        Ok((key, value))
    } else {
        Err(format!("variable {} of the global environment: its sum is wrong", quoted(&key)))
    }
}

/// Everything of a process that decides, as it lies in its row.
struct Deciding<'a> {
    id: &'a [u8],
    wanted: bool,
    pid: Option<u32>,
    start_ticks: Option<u64>,
    boot_id: &'a str,
    spec: &'a [u8],
    record_bytes: &'a [u8],
}

impl Deciding<'_> {
    fn sum(&self) -> i64 {
        let pid = self.pid.map_or(-1, i64::from);
        let ticks = self.start_ticks.map_or(-1, |t| i64::try_from(t).unwrap_or(i64::MAX));
        sum(&[
            self.id,
            &[u8::from(self.wanted)],
            &pid.to_le_bytes(),
            &ticks.to_le_bytes(),
            self.boot_id.as_bytes(),
            self.spec,
            self.record_bytes,
        ])
    }
}

/// How a run ended, for people.
fn describe_exit(exit: Exit) -> String {
    match exit.end {
        End::Code(code) => format!("code {code}"),
        End::Signal(number) => signal::name(u32::from(number)),
    }
}

/// Writes processes and their runs.
pub(super) struct PutStatements<'a> {
    process: Statement<'a>,
    run: Statement<'a>,
    old_runs: Statement<'a>,
}

impl<'a> PutStatements<'a> {
    pub(super) fn prepare(conn: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            process: conn.prepare(
                "INSERT INTO processes (id, name, instance, wanted, state, run, pid, start_ticks, boot_id, created,
                     started, stopped, exit, cause, command, spec, life, sum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
                 ON CONFLICT (id) DO UPDATE SET name = ?2, instance = ?3, wanted = ?4, state = ?5, run = ?6,
                     pid = ?7, start_ticks = ?8, boot_id = ?9, created = ?10, started = ?11, stopped = ?12,
                     exit = ?13, cause = ?14, command = ?15, spec = ?16, life = ?17, sum = ?18",
            )?,
            // What was known once about a run is not forgotten when its process is gone, or the boot another.
            run: conn.prepare(
                "INSERT INTO runs (id, run, pid, start_ticks, boot_id, started, stopped, exit, cause, ended)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id, run) DO UPDATE SET pid = coalesce(?3, pid),
                     start_ticks = coalesce(?4, start_ticks), started = ?6, stopped = ?7, exit = ?8, cause = ?9,
                     ended = ?10",
            )?,
            old_runs: conn.prepare("DELETE FROM runs WHERE id = ?1 AND run <= ?2")?,
        })
    }

    pub(super) fn put(&mut self, put: &Put<'_>) -> rusqlite::Result<()> {
        let record = put.record;
        let record_bytes = Record { events: Vec::new(), ..record.clone() }.encode();
        let spec = put.spec.encode();
        let id = &record.id.as_bytes()[..];
        let pid = put.leader.map(|l| l.pid).or(record.pid);
        let start_ticks = put.leader.map(|l| l.start_ticks);
        let deciding = Deciding {
            id,
            wanted: put.wanted,
            pid,
            start_ticks,
            boot_id: put.boot_id,
            spec: &spec,
            record_bytes: &record_bytes,
        };
        self.process.execute(params![
            id,
            record.name.as_ref().map(|n| n.as_str()),
            record.instance,
            put.wanted,
            record.state.name(),
            Number(record.run),
            pid,
            start_ticks.map(Number),
            put.boot_id,
            Number(record.created_at.0),
            moment(record.started_at),
            moment(record.stopped_at),
            record.exit.map(describe_exit),
            record.cause,
            serde_json::to_string(&put.spec.command).expect("strings are always JSON"),
            spec,
            record_bytes,
            deciding.sum(),
        ])?;
        if record.run == 0 {
            return Ok(());
        }
        // A record keeps the last exit there was; it is this run's only if this run began to execute, and
        // ended.
        let over = record.stopped_at.is_some() && record.start_failure.is_none();
        let exit = record.exit.filter(|_| over);
        self.run.execute(params![
            id,
            Number(record.run),
            pid,
            start_ticks.map(Number),
            put.boot_id,
            moment(record.started_at),
            moment(record.stopped_at),
            exit.map(describe_exit),
            record.cause,
            exit.map(Exit::encode),
        ])?;
        if let Some(old) = record.run.checked_sub(RUNS_MAX) {
            self.old_runs.execute(params![id, Number(old)])?;
        }
        Ok(())
    }
}

/// The columns that [`kept`] reads.
pub(super) const KEPT: &str = "id, wanted, pid, start_ticks, boot_id, spec, life, sum, name";

/// A process, or in words why there is none. Whatever is returned is what was once put.
pub(super) fn kept(row: &Row<'_>) -> Result<Kept, String> {
    believed(row).map_err(|why| {
        let name = row.get::<_, String>(8).map(|name| format!("process {}", quoted(&name)));
        let id = || row.get::<_, [u8; 16]>(0).map(|id| format!("process {}", ProcessId::from_bytes(id)));
        format!("{}: {why}", name.or_else(|_| id()).unwrap_or_else(|_| "a process".to_owned()))
    })
}

fn believed(row: &Row<'_>) -> Result<Kept, String> {
    type Columns = ([u8; 16], bool, Option<u32>, Option<Number>, String, Vec<u8>, Vec<u8>, i64);
    let read = || -> rusqlite::Result<Columns> {
        let (id, wanted, pid, start_ticks) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((id, wanted, pid, start_ticks, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
    };
    let (id, wanted, pid, start_ticks, boot_id, spec, record_bytes, kept) =
        read().map_err(|e| e.to_string())?;
    let start_ticks = start_ticks.map(|n| n.0);
    let deciding = Deciding {
        id: &id,
        wanted,
        pid,
        start_ticks,
        boot_id: &boot_id,
        spec: &spec,
        record_bytes: &record_bytes,
    };
    if deciding.sum() != kept {
        return Err("its sum is wrong".to_owned());
    }
    let spec = Spec::decode(&spec).map_err(|e| e.message)?;
    let record = Record::decode(&record_bytes).map_err(|e| e.message)?;
    if record.id.as_bytes() != &id {
        return Err("its record is another's".to_owned());
    }
    let leader = pid.zip(start_ticks).map(|(pid, start_ticks)| Leader { pid, start_ticks });
    Ok(Kept { spec, record, wanted, leader, boot_id })
}

/// The columns that [`run`] reads.
pub(super) const RUN: &str = "run, pid, start_ticks, boot_id, started, stopped, ended, cause";

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let moment = |column| row.get::<_, Option<Number>>(column).map(|n| n.map(|n| Timestamp(n.0)));
    Ok(Run {
        run: row.get::<_, Number>(0)?.0,
        pid: row.get(1)?,
        start_ticks: row.get::<_, Option<Number>>(2)?.map(|n| n.0),
        boot_id: row.get(3)?,
        started_at: moment(4)?,
        stopped_at: moment(5)?,
        exit: exit(row, 6)?,
        cause: row.get(7)?,
    })
}

fn exit(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Exit>> {
    let Some(bytes) = row.get::<_, Option<Vec<u8>>>(column)? else { return Ok(None) };
    Exit::decode(&bytes).map(Some).ok_or_else(|| unbelievable(column, Type::Blob, "it is no exit"))
}

/// The columns of an event, as [`put_events`] writes and [`event`] reads them. What is empty is NULL, which
/// costs nothing.
pub(super) const EVENT: &str = "seq, at, mono, id, name, run, pid, kind, cause, ended, detail";

/// Writes events. One whose number is there stays as it is: the past does not change.
pub(super) fn put_events(conn: &Connection, events: &[Event]) -> rusqlite::Result<()> {
    let insert = "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (seq) DO NOTHING";
    let mut insert = conn.prepare(&format!("INSERT INTO events ({EVENT}) {insert}"))?;
    for event in events {
        insert.execute(params![
            Number(event.seq),
            Number(event.at.0),
            Number(event.mono_ms),
            event.id.as_ref().map(|id| &id.as_bytes()[..]),
            text(&event.name),
            (event.run != 0).then_some(Number(event.run)),
            event.pid,
            event.kind.name(),
            text(&event.cause),
            event.exit.map(Exit::encode),
            text(&event.detail),
        ])?;
    }
    Ok(())
}

/// Writes lines of the audit; of one that is there, the result.
pub(super) fn put_audit(conn: &Connection, lines: &[AuditLine]) -> rusqlite::Result<()> {
    let mut put = conn.prepare(
        "INSERT INTO audit (seq, at, who, what, result) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (seq) DO UPDATE SET what = ?4, result = ?5",
    )?;
    for line in lines {
        put.execute(params![Number(line.seq), Number(line.at.0), line.who, line.what, line.result])?;
    }
    Ok(())
}

/// A line of the audit, from all its columns.
pub(super) fn audit(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    Ok(AuditLine {
        seq: row.get::<_, Number>(0)?.0,
        at: Timestamp(row.get::<_, Number>(1)?.0),
        who: row.get(2)?,
        what: row.get(3)?,
        result: row.get(4)?,
    })
}

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    Ok(Event {
        seq: row.get::<_, Number>(0)?.0,
        at: Timestamp(row.get::<_, Number>(1)?.0),
        mono_ms: row.get::<_, Number>(2)?.0,
        id: row.get::<_, Option<[u8; 16]>>(3)?.map(ProcessId::from_bytes),
        name: text(4)?,
        run: row.get::<_, Option<Number>>(5)?.map_or(0, |n| n.0),
        pid: row.get(6)?,
        kind: EventKind::from_name(&row.get::<_, String>(7)?),
        cause: text(8)?,
        exit: exit(row, 9)?,
        detail: text(10)?,
    })
}
