//! The last run of a provider that has ended by itself, and its last starts. What happened before this host,
//! or while there was none, it finds among the events of the service.

use std::collections::BTreeMap;

use crate::client::{Client, FeedItem};
use crate::provider::failure::Ending;
use crate::wire::event::{Event, EventKind};
use crate::wire::id::ProcessId;
use crate::wire::provider::ProviderName;
use crate::wire::request::Events;
use crate::wire::time::Timestamp;

/// The most events that are read for starts: those of a minute of a storm.
const EVENTS_MAX: u64 = 20_000;

/// How a run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    ByItself(String),
    /// A client of the service has stopped its process.
    Stopped,
}

/// Which it was, and how and when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEnd {
    /// Each run has a process of its own.
    pub process: ProcessId,
    pub how: String,
    pub at: Timestamp,
}

/// When this run has ended by itself; none: it has not, or somebody ended it.
pub fn own_end(client: &mut Client, process: ProcessId, run: u64) -> Option<(Ending, Timestamp)> {
    let event = begin_of_end(client, process, run).filter(|event| event.kind == EventKind::Exited)?;
    Some((Ending { exit: event.exit, ..Ending::default() }, event.at))
}

/// Whether this run has ended because it was stopped. Not where the service knows no more.
pub fn was_stopped(client: &mut Client, process: ProcessId, run: u64) -> bool {
    begin_of_end(client, process, run).is_some_and(|event| event.kind == EventKind::Stopping)
}

/// That it is stopped, or has ended, whichever came first.
fn begin_of_end(client: &mut Client, process: ProcessId, run: u64) -> Option<Event> {
    let events = Events { since: 0, follow: false, target: Some(process.to_string()) };
    for item in client.events(events).ok()? {
        let FeedItem::Event(event) = item.ok()? else { continue };
        if event.run == run && matches!(event.kind, EventKind::Exited | EventKind::Stopping) {
            return Some(event);
        }
    }
    None
}

/// When providers were started since then (monotonic ms), whoever their host was.
pub fn starts_since(client: &mut Client, since_ms: u64) -> BTreeMap<ProviderName, Vec<u64>> {
    let mut starts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let Ok(last) = client.service().map(|service| service.last_event) else { return starts };
    let events = Events { since: last.saturating_sub(EVENTS_MAX), follow: false, target: None };
    let Ok(feed) = client.events(events) else { return starts };
    for item in feed {
        let Ok(FeedItem::Event(event)) = item else { continue };
        if event.kind == EventKind::Started
            && event.mono_ms > since_ms
            && let Some(name) = ProviderName::of_process(&event.name)
        {
            starts.entry(name).or_default().push(event.mono_ms);
        }
    }
    starts
}
