//! Answers that go on: output as it comes, events as they happen. Each is written by its connection's thread
//! at the client's own pace; the rings do not wait, and what a slow client missed is counted for it.

use std::fs::File;
use std::sync::Arc;

use crate::engine::history::journal;
use crate::engine::history::sinks::Batch;
use crate::engine::process::handle::Process;
use crate::engine::service::engine::{Answer, Asked, Engine, check};
use crate::listener::{Closed, Replies};
use crate::ring::{READ_MAX, Read, Source};
use crate::sys::clock;
use crate::wire::error::{Code, Error};
use crate::wire::id::{ProcessId, Target};
use crate::wire::reply::{Chunk, EventBatch, Gap, More, Reply, RingState};
use crate::wire::request::{Events, Follow, Output, Since, Stream, StreamKind};

/// How long the next reader for whom output waits is given until the last one has gone, ms: the end of a
/// command is seen a moment after it.
const NEXT_READER_MS: u64 = 2000;
/// The most events in one reply.
const BATCH_MAX: usize = 512;

/// Where a stream is with one process.
struct Follower {
    process: Arc<Process>,
    next: u64,
}

impl Engine {
    /// What is kept, in one instant.
    pub(super) fn output(&self, r: &Output, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        let process = self.one(&r.target)?;
        check(&process, asked)?;
        let read = process.memory.ring().read(0, u64::MAX, r.kind);
        send(process.id, &read.map_err(|e| Error::failed("read the output", &e))?, replies)?;
        Ok(Reply::Done)
    }

    fn has_history(&self, id: ProcessId) -> bool {
        journal::stored(&self.context, 0, 1, Some(id)).is_ok_and(|page| !page.events.is_empty())
    }

    /// What the store has of one process, without reading all events. Returns the number to go on after.
    fn history_of(&self, id: ProcessId, mut since: u64, replies: &mut Replies<'_>) -> Result<u64, Closed> {
        while since.saturating_add(1) < self.context.feed.oldest() {
            let Ok(page) = journal::stored(&self.context, since, BATCH_MAX, Some(id)) else { break };
            let mut events = page.events;
            let Some(last) = events.last() else {
                return Ok(since.max(self.context.feed.oldest() - 1));
            };
            since = last.seq;
            self.context.retention.keep(&mut events, self.context.feed.newest());
            replies.send(&Reply::Events(EventBatch { events, missed: 0 }), More::Follows)?;
        }
        Ok(since)
    }

    fn one(&self, target: &str) -> Result<Arc<Process>, Error> {
        let mut found = self.table.find(target)?;
        match (found.pop(), found.len()) {
            (Some(process), 0) => Ok(process),
            (_, others) => Err(Error::usage(format!("'{target}' means {} processes", others + 1))
                .hint("name one; 'provost stream' takes several")),
        }
    }

    /// Output as it comes, until every process is at rest and all of it was sent.
    pub(super) fn stream(&self, r: &Stream, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        let (found, missing) = self.find_allowed(&r.targets, asked);
        if let Some((_, error)) = missing.into_iter().next() {
            return Err(error.into());
        }
        replies.widen();
        let _watches: Vec<_> = found.iter().map(|p| p.watch(replies.waker())).collect();
        let mut followers: Vec<_> = (found.into_iter().enumerate())
            .map(|(n, process)| Follower { next: first(&process, &r.since, n), process })
            .collect();
        while !followers.is_empty() {
            let mut more = false;
            let mut still = Vec::with_capacity(followers.len());
            for mut follower in followers {
                // In this order: what is written before it rests is there when it rests.
                let over = ring(&follower.process).over;
                let got = follower.step(r.kind, replies)?;
                more |= got;
                if got || !over {
                    still.push(follower);
                }
            }
            followers = still;
            if !more && !followers.is_empty() {
                replies.wait(None)?;
            }
        }
        Ok(Reply::Done)
    }

    /// For a client that reads output where it lies: tells when there is some, and shares that memory.
    pub(super) fn follow(&self, r: &Follow, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        let found: Vec<_> = r.ids.iter().map(|&id| self.table.get(id)).collect();
        found.iter().flatten().try_for_each(|process| check(process, asked))?;
        if r.share {
            let (rings, files) = share(&found, asked)?;
            replies.share(rings, &files)?;
            return Ok(Reply::Done);
        }
        if r.hold {
            for (process, &offset) in found.iter().zip(&r.offsets) {
                if let Some(process) = process {
                    process.context.holds.advance(process.id, offset);
                    process.wake();
                }
            }
        }
        let _watches: Vec<_> = found.iter().flatten().map(|p| p.watch(replies.waker())).collect();
        loop {
            let (mut rings, mut is_news) = (Vec::with_capacity(found.len()), false);
            for (process, &offset) in found.iter().zip(&r.offsets) {
                // In this order: what is written before it rests is there when it rests.
                let ring = process.as_deref().map_or(RingState { keep: 0, over: true }, ring);
                is_news |= ring.over || process.as_ref().is_some_and(|p| p.memory.ring().head() > offset);
                rings.push(ring);
            }
            if is_news {
                replies.send(&Reply::Rings(rings), More::Follows)?;
                return Ok(Reply::Done);
            }
            replies.wait(None)?;
        }
    }

    /// The output of a process waits for its reader, for as long as that one's connection lasts.
    pub(super) fn hold_output(&self, id: ProcessId, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        if !asked.is_trusted {
            let e = "only root and the service's own user may have the output of a process wait";
            return Err(Error::new(Code::Refused, e).into());
        }
        let process = self.table.get(id);
        let watch = process.as_ref().map(|process| process.watch(replies.waker()));
        let until = clock::now_ms() + NEXT_READER_MS;
        while !self.context.holds.begin(id) {
            if clock::now_ms() >= until {
                let label = process.map_or_else(|| id.to_string(), |process| process.label());
                let e = format!(
                    "the output of {label} waits for another reader (run --hold), and for one at a time"
                );
                return Err(Error::new(Code::Refused, e)
                    .hint("try again when that command has ended")
                    .into());
            }
            replies.wait(Some(until))?;
        }
        drop(watch);
        let _held = HeldFor { engine: self, id };
        replies.send(&Reply::Rings(Vec::new()), More::Follows)?;
        loop {
            replies.wait(None)?;
        }
    }

    /// Events after a number, and on request those to come.
    pub(super) fn events(&self, r: &Events, replies: &mut Replies<'_>) -> Answer {
        let ids: Option<Vec<ProcessId>> = match &r.target {
            None => None,
            Some(target) => match (self.table.find(target), target.parse()) {
                (Ok(found), _) => Some(found.iter().map(|p| p.id).collect()),
                // What was removed has a history all the same.
                (Err(_), Ok(Target::Id(id))) if self.has_history(id) => Some(vec![id]),
                (Err(e), _) => return Err(e.into()),
            },
        };
        let _following = r.follow.then(|| self.context.feed.follow(replies.waker()));
        let mut since = r.since;
        if let Some([id]) = ids.as_deref() {
            since = self.history_of(*id, since, replies)?;
        }
        loop {
            let Batch { mut events, missed, next } = journal::read(&self.context, since, BATCH_MAX);
            let some = !events.is_empty();
            self.context.retention.keep(&mut events, self.context.feed.newest());
            if let Some(ids) = &ids {
                events.retain(|e| e.id.is_some_and(|id| ids.contains(&id)));
            }
            if !events.is_empty() || missed > 0 {
                replies.send(&Reply::Events(EventBatch { events, missed }), More::Follows)?;
            }
            since = next.max(since);
            if !some {
                if !r.follow {
                    return Ok(Reply::Done);
                }
                replies.wait(None)?;
            }
        }
    }
}

/// Ends with the connection of a reader.
struct HeldFor<'e> {
    engine: &'e Engine,
    id: ProcessId,
}

impl Drop for HeldFor<'_> {
    fn drop(&mut self) {
        self.engine.context.holds.end(self.id);
        if let Some(process) = self.engine.table.get(self.id) {
            process.wake();
            process.wake_watchers();
        }
    }
}

/// All of them, or none: a client that may not have them, or gets too few, still has [`Engine::stream`].
fn share(found: &[Option<Arc<Process>>], asked: &Asked) -> Result<(Vec<RingState>, Vec<File>), Error> {
    if !asked.is_trusted {
        return Err(Error::new(Code::Refused, "only root and the service's own user may have its memory"));
    }
    let gone = || Error::new(Code::NotFound, "a process is gone whose memory was asked for");
    let all = found.iter().map(|process| {
        let process = process.as_deref().ok_or_else(gone)?;
        Ok((
            ring(process),
            process.memory.open_for_reading().map_err(|e| Error::failed("share the memory", &e))?,
        ))
    });
    all.collect()
}

fn ring(process: &Process) -> RingState {
    let is_at_rest = process.record().state.is_at_rest() && !process.context.holds.has_more(process.id);
    let over = is_at_rest || process.is_removed();
    RingState { keep: process.memory.keeps(), over }
}

fn first(process: &Process, since: &Since, n: usize) -> u64 {
    match since {
        Since::Start => process.memory.ring().tail(),
        Since::Now => process.memory.ring().head(),
        Since::Offset(offset) => *offset,
        Since::Offsets(all) => all.get(n).copied().unwrap_or(0),
    }
}

impl Follower {
    /// Sends what is there, at most one read; false when there is nothing.
    fn step(&mut self, kind: StreamKind, replies: &mut Replies<'_>) -> Result<bool, Closed> {
        // A ring that cannot be read is memory that is gone: nothing will come of it.
        let Ok(read) = self.process.memory.ring().read(self.next, READ_MAX, kind) else {
            return Ok(false);
        };
        if read.missed > 0 {
            let gap = Gap { id: self.process.id, offset: self.next, missed: read.missed };
            replies.send(&Reply::Gap(gap), More::Follows)?;
        }
        let got = read.next > self.next;
        self.next = read.next.max(self.next);
        send(self.process.id, &read, replies)?;
        Ok(got)
    }
}

fn send(id: ProcessId, read: &Read, replies: &mut Replies<'_>) -> Result<(), Closed> {
    for piece in &read.pieces {
        let (stderr, mut offset) = (piece.source == Source::Stderr, piece.offset);
        let mut bytes = read.bytes(piece);
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(READ_MAX as usize));
            let next = offset + data.len() as u64;
            let chunk = Chunk { id, offset, stderr, at: piece.at, data };
            offset = next;
            replies.send(&Reply::Chunk(chunk), More::Follows)?;
        }
    }
    Ok(())
}
