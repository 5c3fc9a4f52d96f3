//! What both kinds of output stream share: the processes that are followed, and the next byte of each.

use std::collections::VecDeque;

use crate::client::session::Session;
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::reply::{Chunk, Gap, Item};
use crate::wire::request::{Request, Since, Stream, StreamKind};

/// What an [`OutputStream`](crate::client::OutputStream) yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    Chunk(Chunk),
    /// Output bytes that were overwritten before they could be sent.
    Gap(Gap),
    /// Nothing more comes of this target: it is at rest, or its error says why not.
    Ended(Box<Item>),
}

#[derive(Debug)]
pub struct Cursor {
    pub id: ProcessId,
    pub label: String,
    /// The offset of the byte that comes next.
    pub next: u64,
}

/// Whether the output waits for this reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderIs {
    Passed,
    Awaited,
}

#[derive(Debug)]
pub struct Followed {
    pub session: Session,
    pub reader: ReaderIs,
    pub kind: StreamKind,
    pub cursors: Vec<Cursor>,
    /// Where the first read begins, if not at the cursors.
    pub since: Option<Since>,
    /// Items that are still to be handed out.
    pub ready: VecDeque<StreamItem>,
    pub ended: bool,
}

impl Followed {
    /// Finds the processes. Fails with the first target's error if there is none to follow.
    pub fn find(mut session: Session, stream: Stream) -> Result<Self, Error> {
        let mut cursors: Vec<Cursor> = Vec::new();
        let mut ready = VecDeque::new();
        let mut offsets =
            if let Since::Offsets(all) = &stream.since { all.clone() } else { Vec::new() }.into_iter();
        for item in session.items(Request::Status(stream.targets.into()))? {
            let offset = offsets.next();
            let Some(process) = item.process.as_ref().filter(|_| item.error.is_none()) else {
                ready.push_back(StreamItem::Ended(Box::new(item)));
                continue;
            };
            if cursors.iter().any(|cursor| cursor.id == process.id) {
                continue;
            }
            let next = match &stream.since {
                Since::Start => process.output_start,
                Since::Now => process.output_end,
                Since::Offset(offset) => *offset,
                Since::Offsets(_) => offset.unwrap_or(process.output_end),
            };
            cursors.push(Cursor { id: process.id, label: process.label(), next });
        }
        if let (true, Some(StreamItem::Ended(item))) = (cursors.is_empty(), ready.front())
            && let Some(e) = &item.error
        {
            return Err(e.clone());
        }
        // What was overwritten since the status is no gap to a client that asks for the oldest byte kept.
        let since = (stream.since == Since::Start).then_some(Since::Start);
        let ended = cursors.is_empty();
        let reader = ReaderIs::Passed;
        Ok(Self { session, reader, kind: stream.kind, cursors, since, ready, ended })
    }

    pub fn ids(&self) -> Vec<ProcessId> {
        self.cursors.iter().map(|cursor| cursor.id).collect()
    }

    pub fn offsets(&self) -> Vec<u64> {
        self.cursors.iter().map(|cursor| cursor.next).collect()
    }
}
