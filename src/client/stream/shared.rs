//! Output that is read in the memory where the service keeps it. The service shares the memory once;
//! afterwards it only says when there is more. After an engine's death the memory is still the same, so there
//! is nothing to resume.

use std::io;

use crate::client::link::Fault;
use crate::client::retry;
use crate::client::stream::followed::{Followed, ReaderIs, StreamItem};
use crate::ring::{SharedOutput, Source};
use crate::wire::error::Error;
use crate::wire::reply::{Chunk, Gap, More, Reply};
use crate::wire::request::{Follow, Request, SHARED_MAX};

/// The most bytes in one chunk: as many as any malloc takes from its heap, together with their frame. It is
/// twice what the service sends at a time, because a client that forwards chunks pays for each message.
const PIECE_MAX: u64 = 240 << 10;

#[derive(Debug)]
pub struct SharedStream {
    pub followed: Followed,
    /// One for each cursor, in the same order.
    shares: Vec<Share>,
}

#[derive(Debug)]
pub struct Share {
    memory: SharedOutput,
    /// No more output will be written to the memory.
    is_over: bool,
}

/// Asks for the memory of all processes. None if the service does not share all of it.
pub fn request(followed: &mut Followed) -> Option<Vec<Share>> {
    if !(1..=SHARED_MAX).contains(&followed.cursors.len()) {
        return None;
    }
    receive(followed).ok().filter(|shares| shares.len() == followed.cursors.len())
}

fn receive(followed: &mut Followed) -> Result<Vec<Share>, Fault> {
    let request = follow(followed, true);
    let mut link = followed.session.send(&request)?;
    let mut rings = Vec::new();
    loop {
        match link.receive(retry::timeout(&request))? {
            (Reply::Error(e), _) => return Err(Fault::Final(e)),
            (Reply::Rings(all), _) => rings = all,
            (_, More::Last) => break,
            (_, More::Follows) => {}
        }
    }
    let descriptors = link.take_shared();
    followed.session.link = Some(link);
    let share = |memory| Share { memory, is_over: false };
    let all =
        descriptors.into_iter().zip(rings).map(|(fd, ring)| SharedOutput::open(fd, ring.keep).map(share));
    all.collect::<io::Result<_>>().map_err(Fault::Broken)
}

fn follow(followed: &Followed, share: bool) -> Request {
    let Followed { reader, .. } = followed;
    let hold = *reader == ReaderIs::Awaited && !share;
    Request::Follow(Follow { ids: followed.ids(), offsets: followed.offsets(), share, hold })
}

impl SharedStream {
    pub fn new(followed: Followed, shares: Vec<Share>) -> Self {
        Self { followed, shares }
    }

    /// Waits until there is an item or the end.
    pub fn fill(&mut self) -> Result<(), Error> {
        while self.followed.ready.is_empty() && !self.followed.ended {
            if !self.read()? {
                self.wait()?;
            }
        }
        Ok(())
    }

    /// Takes items that are there already, if there are any.
    pub fn fill_without_wait(&mut self) -> Result<(), Error> {
        while self.followed.ready.is_empty() && self.read()? {}
        Ok(())
    }

    /// Reads one piece of each memory; whether there was any.
    fn read(&mut self) -> Result<bool, Error> {
        let Followed { cursors, since, ready, kind, .. } = &mut self.followed;
        let mut is_more = false;
        for (cursor, share) in cursors.iter_mut().zip(&self.shares) {
            let read = share.memory.reader().read(cursor.next, PIECE_MAX, *kind);
            let read = read.map_err(|e| Error::failed("read the output", &e))?;
            if read.missed > 0 && since.is_none() {
                ready.push_back(StreamItem::Gap(Gap {
                    id: cursor.id,
                    offset: cursor.next,
                    missed: read.missed,
                }));
            }
            is_more |= read.next > cursor.next;
            cursor.next = cursor.next.max(read.next);
            ready.extend(read.pieces.iter().map(|piece| {
                let (stderr, data) = (piece.source == Source::Stderr, read.bytes(piece));
                StreamItem::Chunk(Chunk { id: cursor.id, offset: piece.offset, stderr, at: piece.at, data })
            }));
        }
        *since = None;
        Ok(is_more)
    }

    /// Everything was taken: waits until a memory has more, or all of them are over.
    fn wait(&mut self) -> Result<(), Error> {
        let mut shares = self.shares.iter();
        self.followed.cursors.retain(|_| shares.next().is_some_and(|share| !share.is_over));
        self.shares.retain(|share| !share.is_over);
        self.followed.ended = self.shares.is_empty();
        if self.followed.ended {
            return Ok(());
        }
        let request = follow(&self.followed, false);
        for reply in self.followed.session.call(request, None)? {
            if let Reply::Rings(rings) = reply {
                self.shares.iter_mut().zip(rings).for_each(|(share, ring)| share.is_over = ring.over);
            }
        }
        Ok(())
    }
}
