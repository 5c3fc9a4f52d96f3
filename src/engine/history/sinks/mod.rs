//! Sinks: where events go besides the database. Each has a thread of its own (`sink-NAME`) that takes events
//! from a [`Source`] when it is ready for them, so there is no queue: what a sink has not taken yet is what
//! the source keeps. A dead sink costs a counter and a line in the log, and nobody waits for it.

mod bulk;
pub mod jsonl;
pub mod opensearch;
mod rotation;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::engine::history::sinks::jsonl::Jsonl;
use crate::engine::history::sinks::opensearch::OpenSearch;
use crate::engine::history::sinks::worker::Worker;
use crate::engine::settings::{SinkKind, SinkSettings};
use crate::sys::thread;
use crate::wire::event::Event;
use crate::wire::time::Timestamp;

/// Where a sink's events come from.
pub trait Source: Send + Sync {
    /// Events after `since`, at most `max`.
    fn read(&self, since: u64, max: usize) -> Batch;
    /// Waits until there may be something after `since`, or until the deadline (monotonic milliseconds), or
    /// until the end is asked for: then false. After `u64::MAX` there is never anything.
    fn wait(&self, since: u64, deadline_ms: Option<u64>) -> bool;
    /// Remembers how far this sink has come. To lose it means that events are sent again.
    fn delivered(&self, sink: &str, seq: u64);
}

/// What a [`Source`] has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order; empty when there is nothing new now.
    pub events: Vec<Event>,
    /// How many before them are no longer kept.
    pub missed: u64,
    /// The number to go on after.
    pub next: u64,
}

/// Takes events to where they go. Called by one thread only; may wait, with a deadline of its own.
pub trait Deliver: Send {
    /// The most events it wants at a time.
    fn batch_max(&self) -> usize;
    /// The last event that is there already, where the other side knows that better than we do.
    fn resume(&mut self) -> Result<Option<u64>, Failed>;
    /// Delivers some of these, from the first on. Never called without events.
    fn deliver(&mut self, events: &[Event]) -> Result<Taken, Failed>;
}

/// What became of the events that were given to a [`Deliver`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many, from the first on, were dealt with; at least one.
    pub count: usize,
    /// Those of them that were refused for ever.
    pub rejected: u64,
    /// Why the first of those was.
    pub reason: Option<String>,
    /// Indices of those that are to be sent again, ascending, and why.
    pub again: Option<(Vec<usize>, Failed)>,
}

/// Nothing was delivered, or it is not known what: all of it is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// What happened to which object and why, in one line.
    pub message: String,
    /// The other side asked for this delay.
    pub after: Option<Duration>,
}

impl Failed {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), after: None }
    }
}

/// Is given lines for the log.
pub type Notify = Arc<dyn Fn(String) + Send + Sync>;

/// How a sink is getting on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All events up to this one have been dealt with.
    pub seq: u64,
    /// How many were delivered since this engine started.
    pub delivered: u64,
    /// How many were refused for ever by the other side.
    pub rejected: u64,
    /// How many were no longer kept when their turn came.
    pub missed: u64,
    /// How many attempts have failed.
    pub failed: u64,
    /// Failed attempts since the last one that worked; 0: it works.
    pub failing: u32,
    /// The last failure, and when it was; it stays visible.
    pub last_error: Option<(Timestamp, String)>,
}

/// A sink that runs. Cheap to clone; its thread ends when its source says so.
#[derive(Clone, Debug)]
pub struct SinkState {
    name: Arc<str>,
    standing: Arc<Mutex<Standing>>,
}

impl SinkState {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is getting on.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// How many events it has still to deal with, when this is the newest one.
    #[must_use]
    pub fn behind(&self, newest: u64) -> u64 {
        newest.saturating_sub(self.standing.lock().seq)
    }
}

/// From where a sink goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// What [`Source::delivered`] was last told of it.
    pub since: u64,
    /// The newest event there is: a sink that has come further met another numbering.
    pub newest: u64,
}

/// Starts a sink. `service` is what makes its events different from those of other services.
pub fn start(
    settings: &SinkSettings,
    service: Uuid,
    begin: Begin,
    source: Arc<dyn Source>,
    notify: Notify,
) -> io::Result<(SinkState, JoinHandle<()>)> {
    let to: Box<dyn Deliver> = match &settings.kind {
        SinkKind::Jsonl(jsonl) => Box::new(Jsonl::new(jsonl.clone())),
        SinkKind::OpenSearch(search) => Box::new(OpenSearch::new(search.clone(), service)),
    };
    run(&settings.name, to, begin, source, notify)
}

fn run(
    name: &str,
    to: Box<dyn Deliver>,
    begin: Begin,
    source: Arc<dyn Source>,
    notify: Notify,
) -> io::Result<(SinkState, JoinHandle<()>)> {
    let standing = Mutex::new(Standing { seq: begin.since.min(begin.newest), ..Standing::default() });
    let state = SinkState { name: name.into(), standing: Arc::new(standing) };
    let mut worker = Worker::new(state.clone(), to, source, notify);
    // Linux keeps 15 bytes; a name is ASCII.
    let short: String = format!("sink-{name}").chars().take(15).collect();
    Ok((state, thread::spawn(&short, move || worker.run(begin))?))
}
