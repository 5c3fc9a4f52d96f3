//! What goes into the store and what comes out of it.

use std::path::PathBuf;

use uuid::Uuid;

use crate::wire::audit::AuditLine;
use crate::wire::event::Event;
use crate::wire::id::ProcessId;
use crate::wire::keep::Document;
use crate::wire::leader::Leader;
use crate::wire::process::Exit;
use crate::wire::record::Record;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// A process as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub spec: Spec,
    /// As of the last write, without events.
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
    pub spec: &'a Spec,
    /// The events in it are not kept here, but those in [`Change::events`].
    pub record: &'a Record,
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
    /// Requests for changes. A line whose number is there already gets another result.
    pub audit: &'a [AuditLine],
    /// How far each sink has got.
    pub cursors: &'a [(String, u64)],
    /// Documents as they are from now on.
    pub documents: &'a [Document],
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
    /// Lines of the audit from before this moment go, however many there are.
    pub audit_before: Timestamp,
}

impl Default for Prune {
    fn default() -> Self {
        Self { before: Timestamp(0), keep: u64::MAX, audit_before: Timestamp(0) }
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
    /// What brought its last state.
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
