//! What outlives the machine's boot: what should run, how its runs ended, every event, the global
//! environment. One trait with its SQLite implementation and nothing else.
//!
//! Called from one thread only, hence `&mut self` and no lock. It decides nothing: it keeps what it is told,
//! tells what it has, and names the kind of an error; what to do about it is its caller's affair.
//!
//! | file | what |
//! |---|---|
//! | `sqlite.rs` | the implementation: open, load, write, read |
//! | `directory.rs` | the directory, its lock, the files and whether they are still the ones that were opened |
//! | `schema.rs` | tables, and from one version of them to the next |
//! | `rows.rs` | a process, a run and an event as rows |
//! | `salvage.rs` | what can still be read from a damaged file |
//! | `opened.rs` | opening it whatever state it is in |
//! | `error.rs` | what SQLite and the system say, as one of eight kinds of error |

#[cfg(test)]
mod damage_tests;
mod directory;
mod error;
mod opened;
mod rows;
mod salvage;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use uuid::Uuid;

use crate::wire::audit::AuditLine;
use crate::wire::event::Event;
use crate::wire::id::ProcessId;
use crate::wire::leader::Leader;
use crate::wire::process::Exit;
use crate::wire::record::Record;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

pub use crate::engine::store::error::{ErrorKind, StoreError};
pub use crate::engine::store::opened::Opened;
pub use crate::engine::store::sqlite::Sqlite;

/// The most events that one call of [`Store::events`] returns.
pub const EVENTS_MAX: usize = 4096;
/// The most runs of a process that are kept, and that one call of [`Store::runs`] returns.
pub const RUNS_MAX: u64 = 100;

pub trait Store: Send {
    /// Everything but events and runs; once, after opening.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// All of the change or nothing, and on the disk when it returns.
    fn write(&mut self, change: &Change<'_>) -> Result<Written, StoreError>;

    /// Events after `since` in their order, at most `max` and [`EVENTS_MAX`]; those of one process when `of`
    /// is given.
    fn events(&mut self, since: u64, max: usize, of: Option<ProcessId>) -> Result<EventsPage, StoreError>;

    /// Lines of the audit after `since` in their order, at most `max`.
    fn audit(&mut self, since: u64, max: usize) -> Result<Vec<AuditLine>, StoreError>;

    /// Runs of a process, newest first, at most `max`.
    fn runs(&mut self, of: ProcessId, max: usize) -> Result<Vec<Run>, StoreError>;

    /// How it is, for the doctor.
    fn about(&mut self) -> About;
}

/// A process as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How it is to be run.
    pub spec: Spec,
    /// Its life as of the last write, without events.
    pub record: Record,
    /// Whether a person wants it to run.
    pub wanted: bool,
    /// The process itself, to be told from another of the same number.
    pub leader: Option<Leader>,
    /// The boot in which that number and that start time were true.
    pub boot_id: String,
}

/// A process to be kept, new or changed.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// How it is to be run.
    pub spec: &'a Spec,
    /// Its life; the events in it are not kept here, but those in [`Change::events`].
    pub record: &'a Record,
    /// Whether a person wants it to run.
    pub wanted: bool,
    /// The process itself, where it is known.
    pub leader: Option<Leader>,
    pub boot_id: &'a str,
}

/// What one transaction does, in this order.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// Kept from now on. Their runs are derived from their records.
    pub put: Vec<Put<'a>>,
    /// Forgotten, with their runs; what happened to them is still history.
    pub remove: Vec<ProcessId>,
    /// The whole global environment.
    pub env: Option<&'a [(String, String)]>,
    /// The present boot, when it is to be recorded as the last one.
    pub boot_id: Option<&'a str>,
    /// What happened. One whose number is there already is left as it is.
    pub events: &'a [Event],
    /// Who asked for what. A line whose number is there already gets another result.
    pub audit: &'a [AuditLine],
    /// How far each sink has got.
    pub cursors: &'a [(String, u64)],
    /// Which events and lines of the audit are too old.
    pub prune: Prune,
}

/// How long events and the audit are kept. They go oldest first, a limited number with each write, and the
/// newest always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Those from before this moment go.
    pub before: Timestamp,
    /// Of the numbers up to the newest, only this many stay.
    pub keep: u64,
}

impl Default for Prune {
    fn default() -> Self {
        Self { before: Timestamp(0), keep: u64::MAX }
    }
}

/// What a write did beyond what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Written {
    /// Events that were left out, because another program reads the database without end, and so its log
    /// grows.
    pub left_out: usize,
}

/// What the store knew when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Made with the database: names this service for ever.
    pub service: Uuid,
    /// The boot that was recorded last; empty in a new database.
    pub last_boot_id: String,
    /// The number of the newest event.
    pub last_seq: u64,
    /// The number of the newest line of the audit.
    pub last_audit: u64,
    pub env: Vec<(String, String)>,
    /// Processes, in the order in which they were made known.
    pub kept: Vec<Kept>,
    /// How far each sink has got.
    pub cursors: Vec<(String, u64)>,
    /// What is stored but cannot be believed, in words; it is in no other field.
    pub damaged: Vec<String>,
}

/// Some events, and where what is stored begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsPage {
    /// In the order of their numbers.
    pub events: Vec<Event>,
    /// The oldest number that is stored; smaller ones have been pruned. Past the newest when nothing is
    /// stored.
    pub oldest: u64,
}

/// One run of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub run: u64,
    /// Its pid, if it came to one.
    pub pid: Option<u32>,
    /// When that process started, in clock ticks since the boot.
    pub start_ticks: Option<u64>,
    /// The boot it began in.
    pub boot_id: String,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    /// How it ended, where that was seen.
    pub exit: Option<Exit>,
    /// Who or what brought its last state.
    pub cause: String,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub path: PathBuf,
    pub bytes: u64,
    /// The size of its write-ahead log. It grows while another program reads without end.
    pub wal_bytes: u64,
    /// Events stored; none: they could not be counted.
    pub events: Option<u64>,
    pub sqlite: &'static str,
}
