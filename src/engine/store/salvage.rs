//! What can still be read from a damaged database: each process on its own, and only if its sum is right.
//! Nothing that is found here was not once put.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use crate::engine::store::content::Kept;
use crate::engine::store::rows;
use crate::engine::store::sqlite::connect;
use crate::wire::id::ProcessId;

/// The most rows that are looked for: a damaged tree may lead anywhere.
const ROWS_MAX: u32 = 100_000;

/// Who the service was, and the newest event that can be found, in the database at this path.
pub fn salvage_numbers(database: &Path) -> (Option<Uuid>, u64) {
    let Ok(conn) = connect(database) else { return (None, 0) };
    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    let service = rows::fact(&conn, rows::Fact::Service).ok().flatten().and_then(|text| text.parse().ok());
    let newest = |sql: &str| conn.query_row(sql, (), |row| row.get::<_, Option<i64>>(0)).ok().flatten();
    let seq = newest("SELECT max(seq) FROM events").or_else(|| newest("SELECT max(seq) FROM sinks"));
    (service, seq.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0))
}

/// The processes in the damaged database at this path, without those that cannot be read. The database stays
/// as it is.
pub fn salvage(database: &Path) -> Vec<Kept> {
    let Ok(conn) = connect(database) else { return Vec::new() };
    // What is in the log stays there: this is evidence.
    if conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).is_err() {
        return Vec::new();
    }
    let mut found = BTreeMap::<ProcessId, Kept>::new();
    for rowid in rowids(&conn) {
        let sql = format!("SELECT {} FROM processes WHERE rowid = ?1", rows::KEPT);
        let row = conn.query_row(&sql, [rowid], |row| Ok(rows::kept(row))).optional();
        if let Ok(Some(Ok(kept))) = row
            && found.get(&kept.record.id).is_none_or(|other| other.record.run < kept.record.run)
        {
            found.insert(kept.record.id, kept);
        }
    }
    found.into_values().collect()
}

/// Rows that there may be: from the table's one end as far as it goes, from the other, and by its index.
fn rowids(conn: &Connection) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    for order in ["NOT INDEXED ORDER BY rowid", "NOT INDEXED ORDER BY rowid DESC", "ORDER BY id"] {
        let sql = format!("SELECT rowid FROM processes {order} LIMIT {ROWS_MAX}");
        if let Ok(mut statement) = conn.prepare(&sql)
            && let Ok(rows) = statement.query_map((), |row| row.get::<_, i64>(0))
        {
            // The first that cannot be read is the last from this side.
            found.extend(rows.map_while(Result::ok));
        }
    }
    found
}
