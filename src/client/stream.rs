//! Output of several processes as an iterator. Each has its next byte noted here; after a broken connection
//! one new request goes on with each at its own, so that nothing is lost and nothing comes twice.

use std::collections::VecDeque;
use std::io;

use bytes::Buf;

use crate::client::Client;
use crate::client::connection::Connection;
use crate::client::link::Fault;
use crate::client::retry::{self, Attempts, Repeat};
use crate::ring::{SharedOutput, Source};
use crate::wire::error::{Code, Error};
use crate::wire::id::ProcessId;
use crate::wire::reply::{Chunk, Gap, Item, More, Reply};
use crate::wire::request::{Follow, Request, SHARED_MAX, Since, Stream, StreamKind};

/// The most bytes read at a time where they lie, and in one chunk then: as many as any malloc takes from its
/// heap, together with its frame. Twice what the service sends at a time, for whoever takes them pays for
/// each message.
const PIECE_MAX: u64 = 240 << 10;

/// What an [`OutputStream`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// Output bytes.
    Chunk(Chunk),
    /// Output bytes that were overwritten before they could be sent.
    Gap(Gap),
    /// Nothing more comes of this target: it is at rest, or its error says why not.
    Ended(Item),
}

/// Output as it comes, made by [`Client::stream`]. Ends when every process is at rest and all was delivered.
///
/// ```no_run
/// use provost::client::StreamItem;
/// use provost::wire::request::{Since, Stream, StreamKind};
///
/// let mut client = provost::Client::connect_default()?;
/// let stream = Stream { targets: vec!["web".into()], kind: StreamKind::Stdout, since: Since::Start };
/// for item in client.stream(stream)? {
///     match item? {
///         StreamItem::Chunk(chunk) => print!("{}", String::from_utf8_lossy(&chunk.data)),
///         StreamItem::Gap(gap) => println!("({} bytes were missed)", gap.missed),
///         StreamItem::Ended(item) => println!("({} ended)", item.target),
///     }
/// }
/// # Ok::<(), provost::Error>(())
/// ```
#[derive(Debug)]
pub struct OutputStream {
    client: Client,
    kind: StreamKind,
    cursors: Vec<Cursor>,
    /// What the first request says; the ones after it name every byte.
    since: Option<Since>,
    /// The connection while an answer is under way.
    link: Option<Connection>,
    ready: VecDeque<StreamItem>,
    attempts: Attempts,
    /// All cursors have their memory: output is read there, and the service only tells when there is some.
    is_shared: bool,
    ended: bool,
}

#[derive(Debug)]
struct Cursor {
    id: ProcessId,
    label: String,
    /// The byte that comes next.
    next: u64,
    /// What its output is in, if that is shared.
    memory: Option<SharedOutput>,
    /// What is in its memory is all there is.
    is_over: bool,
}

impl OutputStream {
    pub(super) fn begin(mut client: Client, stream: Stream) -> Result<Self, Error> {
        let mut cursors: Vec<Cursor> = Vec::new();
        let mut ready = VecDeque::new();
        let mut offsets =
            if let Since::Offsets(all) = &stream.since { all.clone() } else { Vec::new() }.into_iter();
        for item in client.status(stream.targets)? {
            let offset = offsets.next();
            let Some(process) = item.process.as_ref().filter(|_| item.error.is_none()) else {
                ready.push_back(StreamItem::Ended(item));
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
            cursors.push(Cursor {
                id: process.id,
                label: process.label(),
                next,
                memory: None,
                is_over: false,
            });
        }
        if let (true, Some(StreamItem::Ended(Item { error: Some(e), .. }))) =
            (cursors.is_empty(), ready.front())
        {
            return Err(e.clone());
        }
        // What was overwritten since the status is no gap to somebody who asks for the oldest byte kept.
        let since = (stream.since == Since::Start).then_some(Since::Start);
        let attempts = Attempts::new();
        Ok(Self {
            client,
            kind: stream.kind,
            ended: cursors.is_empty(),
            cursors,
            since,
            link: None,
            ready,
            attempts,
            is_shared: false,
        })
    }

    /// Asks for the memory that the output is in. Without it, the bytes come over the connection.
    pub(super) fn borrow(mut self) -> Self {
        if (1..=SHARED_MAX).contains(&self.cursors.len())
            && let Ok(all) = self.borrowed()
            && all.len() == self.cursors.len()
        {
            self.is_shared = true;
            self.cursors.iter_mut().zip(all).for_each(|(cursor, memory)| cursor.memory = Some(memory));
        }
        self
    }

    fn borrowed(&mut self) -> Result<Vec<SharedOutput>, Fault> {
        let request = self.follow(true);
        let mut link = self.client.send(&request)?;
        let mut rings = Vec::new();
        loop {
            match link.receive(retry::timeout(&request))? {
                (Reply::Error(e), _) => return Err(Fault::Final(e)),
                (Reply::Rings(all), _) => rings = all,
                (_, More::Last) => break,
                (_, More::Follows) => {}
            }
        }
        let shared = link.take_shared();
        self.client.link = Some(link);
        let all = shared.into_iter().zip(rings).map(|(memory, ring)| SharedOutput::open(memory, ring.keep));
        all.collect::<io::Result<_>>().map_err(Fault::Broken)
    }

    /// The processes that are followed, with their names, or else their ids.
    pub fn labels(&self) -> impl Iterator<Item = (ProcessId, &str)> {
        self.cursors.iter().map(|cursor| (cursor.id, cursor.label.as_str()))
    }

    /// Whether the service shares the memory that the output is in.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The next item, if it comes without a wait.
    pub fn next_ready(&mut self) -> Option<Result<StreamItem, Error>> {
        while self.ready.is_empty() && self.is_shared {
            match self.look() {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    self.ended = true;
                    return Some(Err(e));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }

    /// Waits until there is an item or the end.
    fn fill(&mut self) -> Result<(), Error> {
        while self.ready.is_empty() && !self.ended {
            if self.is_shared {
                if !self.look()? {
                    self.wait()?;
                }
            } else if let Err(fault) = self.step() {
                self.link = None;
                self.attempts.after(fault, Repeat::Safe, &self.client.address)?;
                self.drop_the_removed()?;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Fault> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.client.send(&self.request())?,
        };
        let (reply, more) = link.receive(None)?;
        self.since = None;
        self.attempts.received();
        match reply {
            Reply::Error(e) => return Err(Fault::Final(e)),
            Reply::Chunk(chunk) => self.take_chunk(chunk),
            Reply::Gap(gap) => self.take_gap(gap),
            Reply::Item(item) => {
                if let Some(process) = &item.process {
                    self.cursors.retain(|cursor| cursor.id != process.id);
                }
                self.ready.push_back(StreamItem::Ended(item));
            }
            _ => {}
        }
        self.ended = more == More::Last;
        self.link = Some(link);
        Ok(())
    }

    /// Takes what lies in the memory of all cursors, one piece of each; whether there was any.
    fn look(&mut self) -> Result<bool, Error> {
        let mut is_more = false;
        for cursor in &mut self.cursors {
            let Some(memory) = &cursor.memory else { continue };
            let read = memory.reader().read(cursor.next, PIECE_MAX, self.kind);
            let read = read.map_err(|e| Error::new(Code::Failed, format!("cannot read the output: {e}")))?;
            if read.missed > 0 && self.since.is_none() {
                let gap = Gap { id: cursor.id, offset: cursor.next, missed: read.missed };
                self.ready.push_back(StreamItem::Gap(gap));
            }
            is_more |= read.next > cursor.next;
            cursor.next = cursor.next.max(read.next);
            self.ready.extend(read.pieces.iter().map(|piece| {
                let (stderr, data) = (piece.source == Source::Stderr, read.bytes(piece));
                StreamItem::Chunk(Chunk { id: cursor.id, offset: piece.offset, stderr, at: piece.at, data })
            }));
        }
        self.since = None;
        Ok(is_more)
    }

    /// Everything was taken: waits until there is more in the memory of a process, or nothing to come.
    fn wait(&mut self) -> Result<(), Error> {
        self.cursors.retain(|cursor| !cursor.is_over);
        self.ended = self.cursors.is_empty();
        if self.ended {
            return Ok(());
        }
        for reply in self.client.call(self.follow(false))? {
            if let Reply::Rings(rings) = reply {
                self.cursors.iter_mut().zip(rings).for_each(|(cursor, ring)| cursor.is_over = ring.over);
            }
        }
        Ok(())
    }

    fn follow(&self, share: bool) -> Request {
        Request::Follow(Follow {
            ids: self.cursors.iter().map(|cursor| cursor.id).collect(),
            offsets: self.cursors.iter().map(|cursor| cursor.next).collect(),
            share,
        })
    }

    fn request(&self) -> Request {
        Request::Stream(Stream {
            targets: self.cursors.iter().map(|cursor| cursor.id.to_string()).collect(),
            kind: self.kind,
            since: match &self.since {
                Some(since) => since.clone(),
                None => Since::Offsets(self.cursors.iter().map(|cursor| cursor.next).collect()),
            },
        })
    }

    fn take_chunk(&mut self, mut chunk: Chunk) {
        let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.id == chunk.id) else { return };
        let end = chunk.offset + chunk.data.len() as u64;
        if end <= cursor.next {
            return;
        }
        if let Ok(known @ 1..) = usize::try_from(cursor.next.saturating_sub(chunk.offset)) {
            chunk.data.advance(known);
            chunk.offset = cursor.next;
        }
        cursor.next = end;
        self.ready.push_back(StreamItem::Chunk(chunk));
    }

    fn take_gap(&mut self, gap: Gap) {
        let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.id == gap.id) else { return };
        cursor.next = cursor.next.max(gap.offset + gap.missed);
        self.ready.push_back(StreamItem::Gap(gap));
    }

    /// A process may have been removed while the connection was broken; the others must go on without it.
    fn drop_the_removed(&mut self) -> Result<(), Error> {
        let ids = self.cursors.iter().map(|cursor| cursor.id.to_string()).collect();
        for item in self.client.status(ids)? {
            if item.error.is_some() {
                self.cursors.retain(|cursor| cursor.id.to_string() != item.target);
                self.ready.push_back(StreamItem::Ended(item));
            }
        }
        self.ended = self.cursors.is_empty();
        Ok(())
    }
}

impl Iterator for OutputStream {
    type Item = Result<StreamItem, Error>;

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
    use crate::client::fake_server::{Act, FakeServer, process};
    use crate::wire::error::Code;
    use crate::wire::time::Timestamp;

    fn status(names: &[&str]) -> Act {
        Act::Answer(
            (names.iter())
                .map(|name| {
                    Reply::Item(Item {
                        target: (*name).into(),
                        process: Some(process(name)),
                        error: None,
                        unrecorded: None,
                    })
                })
                .collect(),
        )
    }

    fn chunk(name: &str, offset: u64, data: &str) -> Reply {
        let (id, data) = (process(name).id, data.as_bytes().to_vec());
        Reply::Chunk(Chunk { id, offset, stderr: false, at: Timestamp(1), data: data.into() })
    }

    fn text_of(items: &[StreamItem], name: &str) -> String {
        let id = process(name).id;
        let mut text = String::new();
        for item in items {
            match item {
                StreamItem::Chunk(c) if c.id == id => text += std::str::from_utf8(&c.data).unwrap(),
                StreamItem::Gap(g) if g.id == id => text += &format!("<{}>", g.missed),
                StreamItem::Chunk(_) | StreamItem::Gap(_) | StreamItem::Ended(_) => {}
            }
        }
        text
    }

    #[test]
    fn each_process_goes_on_at_its_own_byte() {
        let gap = Reply::Gap(Gap { id: process("b").id, offset: 12, missed: 5 });
        let server = FakeServer::new(vec![
            vec![status(&["a", "b"]), Act::Partly(vec![chunk("a", 0, "one "), chunk("b", 10, "B1"), gap])],
            vec![status(&["a", "b"]), Act::Hangup],
            // The overlap is dropped, byte for byte.
            vec![status(&["a", "b"]), Act::Answer(vec![chunk("a", 2, "e two"), chunk("b", 17, "B2")])],
        ]);
        let stream = Stream { targets: vec!["*".into()], kind: StreamKind::Both, since: Since::Start };
        let items: Vec<_> = server.client().stream(stream).unwrap().map(Result::unwrap).collect();
        assert_eq!((text_of(&items, "a").as_str(), text_of(&items, "b").as_str()), ("one two", "B1<5>B2"));
        let seen = server.finish().requests;
        let asked: Vec<_> = seen
            .iter()
            .filter_map(|r| if let Request::Stream(s) = r { Some(&s.since) } else { None })
            .collect();
        assert_eq!(asked, [&Since::Start, &Since::Offsets(vec![4, 17]), &Since::Offsets(vec![4, 17])]);
    }

    #[test]
    fn the_others_go_on_without_a_removed_one() {
        let gone = Reply::Item(Item {
            target: process("a").id.to_string(),
            process: None,
            error: Some(Error::new(Code::NotFound, "gone")),
            unrecorded: None,
        });
        let left = Reply::Item(Item {
            target: "b".into(),
            process: Some(process("b")),
            error: None,
            unrecorded: None,
        });
        let server = FakeServer::new(vec![
            vec![status(&["a", "b"]), Act::Hangup],
            vec![Act::Answer(vec![gone, left]), Act::Answer(vec![chunk("b", 100, "x")])],
        ]);
        let stream = Stream { targets: vec!["*".into()], kind: StreamKind::Both, since: Since::Now };
        let items: Vec<_> = server.client().stream(stream).unwrap().map(Result::unwrap).collect();
        assert!(matches!(&items[0], StreamItem::Ended(item) if item.error.is_some()));
        assert_eq!(text_of(&items, "b"), "x");
        server.finish();
    }
}
