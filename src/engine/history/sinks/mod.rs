//! Sinks: where events go besides the database. Each has a thread of its own (`sink-NAME`) that takes events
//! from a [`Source`] when it is ready for them, so there is no queue: what a sink has not taken yet is what
//! the source keeps. A dead sink costs a counter and a line in the log, and no other thread waits for it.

mod bulk;
mod deliver;
pub mod jsonl;
pub mod opensearch;
mod rotation;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use uuid::Uuid;

use crate::engine::context::Notify;
use crate::engine::history::sinks::deliver::Deliver;
use crate::engine::history::sinks::jsonl::Jsonl;
use crate::engine::history::sinks::opensearch::OpenSearch;
use crate::engine::history::sinks::worker::Worker;
use crate::engine::settings::{SinkKind, SinkSettings};
use crate::sys::thread;

pub use crate::engine::history::sinks::worker::{Batch, Begin, SinkState, Source};

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
    let state = SinkState::new(name, begin);
    let mut worker = Worker::new(state.clone(), to, source, notify);
    // Linux keeps 15 bytes; a name is ASCII.
    let short: String = format!("sink-{name}").chars().take(15).collect();
    Ok((state, thread::spawn(&short, move || worker.run(begin))?))
}
