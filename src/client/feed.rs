//! Events as an iterator. After a broken connection it resumes behind the last event that came.

use std::collections::VecDeque;

use crate::client::connection::Connection;
use crate::client::link::Fault;
use crate::client::retry::{self, Attempts, Repeat};
use crate::client::session::Session;
use crate::wire::error::Error;
use crate::wire::event::Event;
use crate::wire::reply::{EventBatch, More, Reply};
use crate::wire::request::{Events, Request};

/// What a [`Feed`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    Event(Event),
    /// So many events before the next one are no longer kept.
    Missed(u64),
}

/// Events, oldest first, made by [`Client::events`](crate::Client::events). Ends after what is kept, or never
/// when it follows.
///
/// ```no_run
/// use provost::client::FeedItem;
/// use provost::wire::request::Events;
///
/// let mut client = provost::Client::connect_default()?;
/// for item in client.events(Events { since: 0, follow: true, target: None })? {
///     match item? {
///         FeedItem::Event(event) => println!("{} {} {}", event.seq, event.name, event.kind.name()),
///         FeedItem::Missed(count) => println!("{count} events are no longer kept"),
///     }
/// }
/// # Ok::<(), provost::Error>(())
/// ```
#[derive(Debug)]
pub struct Feed {
    session: Session,
    /// With `since` at the last event that came.
    request: Events,
    /// The connection while an answer is under way.
    link: Option<Connection>,
    ready: VecDeque<FeedItem>,
    attempts: Attempts,
    ended: bool,
}

impl Feed {
    pub(super) fn begin(session: Session, request: Events) -> Result<Self, Error> {
        let attempts = Attempts::new();
        let mut feed = Self { session, request, link: None, ready: VecDeque::new(), attempts, ended: false };
        // The first answer is awaited here, so that a request that is refused has its error here.
        if !feed.request.follow {
            feed.fill()?;
        }
        Ok(feed)
    }

    /// Waits until there is an item or the end.
    fn fill(&mut self) -> Result<(), Error> {
        while self.ready.is_empty() && !self.ended {
            if let Err(fault) = self.step() {
                self.link = None;
                self.attempts.after(fault, Repeat::Safe, &self.session.address)?;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Fault> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.session.send(&Request::Events(self.request.clone()))?,
        };
        let (reply, more) = link.receive(retry::timeout(&Request::Events(self.request.clone())))?;
        self.attempts.received();
        match reply {
            Reply::Error(e) => return Err(Fault::Final(e)),
            Reply::Events(batch) => self.take(batch),
            _ => {}
        }
        self.ended = more == More::Last;
        self.link = Some(link);
        Ok(())
    }

    fn take(&mut self, batch: EventBatch) {
        if batch.missed > 0 {
            self.ready.push_back(FeedItem::Missed(batch.missed));
        }
        for event in batch.events {
            self.request.since = event.seq;
            self.ready.push_back(FeedItem::Event(event));
        }
    }
}

impl Feed {
    /// All events that have come, at least one; `None` at the end. A number of missed ones comes in front of
    /// its events.
    pub fn batch(&mut self) -> Option<Result<EventBatch, Error>> {
        let mut batch = EventBatch::default();
        loop {
            match self.ready.front() {
                Some(FeedItem::Missed(_)) if !batch.events.is_empty() => break,
                Some(FeedItem::Missed(count)) => batch.missed += count,
                Some(FeedItem::Event(event)) => batch.events.push(event.clone()),
                None if batch != EventBatch::default() || self.ended => break,
                None => {
                    if let Err(e) = self.fill() {
                        self.ended = true;
                        return Some(Err(e));
                    }
                    continue;
                }
            }
            self.ready.pop_front();
        }
        (batch != EventBatch::default()).then_some(Ok(batch))
    }
}

impl Iterator for Feed {
    type Item = Result<FeedItem, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(e) = self.fill() {
            self.ended = true;
            return Some(Err(e));
        }
        self.ready.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::{Act, FakeServer};
    use crate::wire::event::EventKind;
    use crate::wire::time::Timestamp;

    fn batch(seqs: &[u64], missed: u64) -> Reply {
        let event = |&seq| Event {
            seq,
            at: Timestamp(1),
            mono_ms: 1,
            id: None,
            name: String::new(),
            run: 0,
            pid: None,
            kind: EventKind::Started,
            cause: String::new(),
            exit: None,
            detail: String::new(),
        };
        Reply::Events(EventBatch { events: seqs.iter().map(event).collect(), missed })
    }

    #[test]
    fn events_go_on_behind_the_last_one() {
        let server = FakeServer::new(vec![
            vec![Act::Partly(vec![batch(&[4, 5], 3)])],
            vec![Act::Hangup],
            vec![Act::Answer(vec![batch(&[6], 0)])],
        ]);
        let request = Events { since: 0, follow: true, target: None };
        let items: Vec<_> = Feed::begin(server.session(), request).unwrap().map(Result::unwrap).collect();
        let seqs: Vec<u64> = (items.iter())
            .map(|item| match item {
                FeedItem::Missed(count) => 1000 + count,
                FeedItem::Event(event) => event.seq,
            })
            .collect();
        assert_eq!(seqs, [1003, 4, 5, 6]);
        let asked: Vec<u64> = (server.finish().requests.iter())
            .map(|r| if let Request::Events(events) = r { events.since } else { panic!("{r:?}") })
            .collect();
        assert_eq!(asked, [0, 5, 5]);
    }
}
