//! Output that the service sends over the connection. After a broken connection one new request resumes each
//! process at its own next byte: nothing is lost, and nothing comes twice.

use bytes::Buf;

use crate::client::connection::Connection;
use crate::client::link::Fault;
use crate::client::retry::{Attempts, Repeat};
use crate::client::stream::followed::{Followed, StreamItem};
use crate::wire::error::Error;
use crate::wire::reply::{Chunk, Gap, More, Reply};
use crate::wire::request::{Request, Since, Status, Stream};

#[derive(Debug)]
pub struct SentStream {
    pub followed: Followed,
    /// The connection while an answer is under way.
    link: Option<Connection>,
    attempts: Attempts,
}

impl SentStream {
    pub fn new(followed: Followed) -> Self {
        Self { followed, link: None, attempts: Attempts::new() }
    }

    /// Waits until there is an item or the end.
    pub fn fill(&mut self) -> Result<(), Error> {
        while self.followed.ready.is_empty() && !self.followed.ended {
            if let Err(fault) = self.step() {
                self.link = None;
                self.attempts.after(fault, Repeat::Safe, &self.followed.session.address)?;
                self.drop_the_removed()?;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Fault> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.followed.session.send(&self.request())?,
        };
        let (reply, more) = link.receive(None)?;
        self.followed.since = None;
        self.attempts.received();
        match reply {
            Reply::Error(e) => return Err(Fault::Final(e)),
            Reply::Chunk(chunk) => self.take_chunk(chunk),
            Reply::Gap(gap) => self.take_gap(gap),
            Reply::Item(item) => {
                if let Some(process) = &item.process {
                    self.followed.cursors.retain(|cursor| cursor.id != process.id);
                }
                self.followed.ready.push_back(StreamItem::Ended(Box::new(item)));
            }
            _ => {}
        }
        self.followed.ended = more == More::Last;
        self.link = Some(link);
        Ok(())
    }

    fn request(&self) -> Request {
        Request::Stream(Stream {
            targets: self.followed.cursors.iter().map(|cursor| cursor.id.to_string()).collect(),
            kind: self.followed.kind,
            since: match &self.followed.since {
                Some(since) => since.clone(),
                None => Since::Offsets(self.followed.offsets()),
            },
        })
    }

    fn take_chunk(&mut self, mut chunk: Chunk) {
        let Some(cursor) = self.followed.cursors.iter_mut().find(|cursor| cursor.id == chunk.id) else {
            return;
        };
        let end = chunk.offset + chunk.data.len() as u64;
        if end <= cursor.next {
            return;
        }
        if let Ok(known @ 1..) = usize::try_from(cursor.next.saturating_sub(chunk.offset)) {
            chunk.data.advance(known);
            chunk.offset = cursor.next;
        }
        cursor.next = end;
        self.followed.ready.push_back(StreamItem::Chunk(chunk));
    }

    fn take_gap(&mut self, gap: Gap) {
        let Some(cursor) = self.followed.cursors.iter_mut().find(|cursor| cursor.id == gap.id) else {
            return;
        };
        cursor.next = cursor.next.max(gap.offset + gap.missed);
        self.followed.ready.push_back(StreamItem::Gap(gap));
    }

    /// A process may have been removed while the connection was broken; the others must go on without it.
    fn drop_the_removed(&mut self) -> Result<(), Error> {
        let ids: Vec<_> = self.followed.cursors.iter().map(|cursor| cursor.id.to_string()).collect();
        for item in self.followed.session.items(Request::Status(Status::from(ids)))? {
            if item.error.is_some() {
                self.followed.cursors.retain(|cursor| cursor.id.to_string() != item.target);
                self.followed.ready.push_back(StreamItem::Ended(Box::new(item)));
            }
        }
        self.followed.ended = self.followed.cursors.is_empty();
        Ok(())
    }
}
