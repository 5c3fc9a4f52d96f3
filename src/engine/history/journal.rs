//! All events in one row: the newest from the feed, older ones from the store, without a gap or a double
//! between them.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::context::Context;
use crate::engine::history::sinks::{self, Batch, Begin, SinkState, Source};
use crate::engine::settings::SinkSettings;
use crate::engine::store::EventsPage;
use crate::engine::write_queue::Question;
use crate::sys::poll::{self, Wait, Waker};
use crate::wire::id::ProcessId;

/// How the sinks are, as far as they have been started.
pub type SinkStates = Arc<Mutex<Vec<SinkState>>>;

/// The most events asked of the store at a time.
const BATCH_MAX: usize = 1000;

/// Events after `since`, at most `max`; `missed`: how many before them are no longer kept anywhere.
#[must_use]
pub fn read(context: &Context, since: u64, max: usize) -> Batch {
    let feed = &context.feed;
    if since.saturating_add(1) < feed.oldest()
        && let Ok(page) = stored(context, since, max, None)
        && let Some(last) = page.events.last()
    {
        // Also those in between that were never stored.
        let missed = (last.seq - since).saturating_sub(page.events.len() as u64);
        return Batch { next: last.seq, missed, events: page.events };
    }
    let (mut events, missed, mut next) = feed.read(since);
    if events.len() > max {
        events.truncate(max);
        next = events.last().map_or(next, |e| e.seq);
    }
    Batch { events, missed, next }
}

/// Events that the store has, once everything that has happened so far is in it. An error tells why it cannot
/// say.
pub fn stored(
    context: &Context,
    since: u64,
    max: usize,
    of: Option<ProcessId>,
) -> Result<EventsPage, String> {
    let max = max.min(BATCH_MAX);
    context.write_queue.ask(|to| Question::Events { since, max, of, to })
}

/// Starts the sinks where they were, or else with the oldest event that the feed has.
pub fn start_sinks(
    context: &Arc<Context>,
    states: &SinkStates,
    settings: &[SinkSettings],
    cursors: Option<&[(String, u64)]>,
) -> io::Result<()> {
    let feed = &context.feed;
    for sink in settings {
        let cursor =
            cursors.and_then(|all| all.iter().find(|(name, _)| *name == sink.name)).map(|(_, seq)| *seq);
        let oldest = if cursors.is_some() { 0 } else { feed.oldest() - 1 };
        let begin = Begin { since: cursor.unwrap_or(oldest), newest: feed.newest() };
        let source = Arc::new(Journal(Arc::clone(context)));
        let (state, _) = sinks::start(sink, feed.service(), begin, source, context.notify.clone())?;
        states.lock().push(state);
    }
    Ok(())
}

/// The events of an engine, for a sink.
struct Journal(Arc<Context>);

impl Source for Journal {
    fn read(&self, since: u64, max: usize) -> Batch {
        let mut batch = read(&self.0, since, max);
        let max = self.0.write_queue.give(batch.next);
        if batch.next > max {
            batch.events.retain(|event| event.seq <= max);
            batch.next = max.max(since);
            // Counted when its turn comes.
            batch.missed = if batch.events.is_empty() { 0 } else { batch.missed };
        }
        batch
    }

    fn wait(&self, since: u64, deadline_ms: Option<u64>) -> bool {
        let feed = &self.0.feed;
        let waker = Waker::for_this_thread();
        let _events = feed.follow(waker.clone());
        let write_queue = &self.0.write_queue;
        let _written = write_queue.woken_by_writes(waker);
        while feed.newest().min(write_queue.may_give()) <= since {
            // What cannot wait looks again.
            if !matches!(poll::wait(&mut [], deadline_ms), Ok(Wait::Woken)) {
                break;
            }
        }
        true
    }

    fn delivered(&self, sink: &str, seq: u64) {
        self.0.write_queue.mark_cursor(sink, seq);
    }
}
