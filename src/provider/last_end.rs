//! The last run of a provider that has ended by itself. What ended while no host ran, the next one finds
//! among the events of the service.

use crate::client::{Client, FeedItem};
use crate::provider::failure::Ending;
use crate::wire::event::EventKind;
use crate::wire::id::ProcessId;
use crate::wire::request::Events;
use crate::wire::time::Timestamp;

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
    let events = Events { since: 0, follow: false, target: Some(process.to_string()) };
    for item in client.events(events).ok()? {
        let FeedItem::Event(event) = item.ok()? else { continue };
        match event.kind {
            EventKind::Exited if event.run == run => {
                return Some((Ending { exit: event.exit, ..Ending::default() }, event.at));
            }
            EventKind::Stopping if event.run == run => return None,
            _ => {}
        }
    }
    None
}
