//! The tables, and how a database of an older version gets them.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use uuid::Uuid;

use crate::engine::store::error::{ErrorKind, StoreError, shown};
use crate::engine::store::rows::{self, Fact};

/// "PRVS" in the header of our databases.
const APPLICATION_ID: i32 = 0x5052_5653;

/// From each version to the next; a database's `user_version` is how many of them it has behind it. What has
/// been released is never changed. `service` and its `schema` row keep their form for ever: that is what
/// tells a newer database from a damaged one.
///
/// Times are milliseconds since 1970. Columns that are also in a blob are for people; `sum` is over what
/// decides (`rows.rs`).
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE service (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE processes (
        id BLOB PRIMARY KEY, name TEXT, instance INTEGER, wanted INTEGER NOT NULL, state TEXT NOT NULL,
        run INTEGER NOT NULL, pid INTEGER, start_ticks INTEGER, boot_id TEXT NOT NULL, created INTEGER NOT NULL,
        started INTEGER, stopped INTEGER, exit TEXT, cause TEXT NOT NULL, command TEXT NOT NULL,
        spec BLOB NOT NULL, life BLOB NOT NULL, sum INTEGER NOT NULL
    );
    CREATE TABLE runs (
        id BLOB NOT NULL, run INTEGER NOT NULL, pid INTEGER, start_ticks INTEGER, boot_id TEXT NOT NULL,
        started INTEGER, stopped INTEGER, exit TEXT, cause TEXT NOT NULL, ended BLOB,
        PRIMARY KEY (id, run)
    ) WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, mono INTEGER NOT NULL, id BLOB, name TEXT,
        run INTEGER, pid INTEGER,
        kind TEXT NOT NULL, cause TEXT, ended BLOB, detail TEXT
    );
    CREATE INDEX events_of ON events (id) WHERE id IS NOT NULL;
    CREATE TABLE env (place INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT NOT NULL, sum INTEGER NOT NULL);
    CREATE TABLE sinks (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
",
"
    CREATE TABLE audit (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, result TEXT);
",
"
    CREATE TABLE documents (
        kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, content BLOB NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    );
"];

/// The tables that are looked through at each opening: small, and what decides what runs is in them.
const CHECKED: [&str; 4] = ["service", "processes", "env", "sinks"];

/// Brings the database to the newest of these versions, each in a transaction of its own.
pub(super) fn migrate(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let failed = |e: rusqlite::Error| StoreError::sqlite("bring up to date", path, &e);
    let corrupt = |what: String| {
        StoreError::new(ErrorKind::Corrupt, format!("the store {} makes no sense: {what}", shown(path)))
    };
    let version = pragma(conn, "user_version").map_err(failed)?;
    let application = pragma(conn, "application_id").map_err(failed)?;
    let newest = i32::try_from(migrations.len()).expect("a short list");
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    if version == 0 && tables > 0 {
        return Err(corrupt(format!("it has {tables} tables and indexes, but no version")));
    }
    if version != 0 && application != APPLICATION_ID {
        return Err(corrupt("it is another program's database".to_owned()));
    }
    if version != 0 && rows::fact(conn, Fact::Schema).map_err(failed)? != Some(version.to_string()) {
        return Err(corrupt(format!("its version is not {version}, as its header says")));
    }
    if version > newest {
        let message = format!(
            "the store {} has version {version} of its tables, this provost ({}) knows {newest}",
            shown(path),
            env!("CARGO_PKG_VERSION")
        );
        return Err(StoreError::new(ErrorKind::Newer, message));
    }
    for (from, migration) in (0..).zip(migrations).skip(usize::try_from(version).unwrap_or(0)) {
        step(conn, from, migration).map_err(failed)?;
    }
    Ok(())
}

/// From one version to the next: both the tables and the number, or neither.
pub(super) fn step(conn: &mut Connection, from: i32, migration: &str) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(migration)?;
    if from == 0 {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        rows::put_fact(&tx, Fact::Service, &Uuid::now_v7().to_string())?;
    }
    rows::put_fact(&tx, Fact::Schema, &(from + 1).to_string())?;
    tx.pragma_update(None, "user_version", from + 1)?;
    tx.commit()
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i32> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}

/// Looks through the small tables: a database that is damaged there is better not built upon.
pub(super) fn check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    for table in CHECKED {
        let found = conn
            .query_row(&format!("PRAGMA integrity_check('{table}')"), (), |row| row.get::<_, String>(0))
            .optional()
            .map_err(|e| StoreError::sqlite("check", path, &e))?;
        match found.as_deref() {
            Some("ok") => {}
            found => {
                let what = found.unwrap_or("no answer");
                let message = format!("table {table} of the store {} is damaged: {what}", shown(path));
                return Err(StoreError::new(ErrorKind::Corrupt, message));
            }
        }
    }
    Ok(())
}
