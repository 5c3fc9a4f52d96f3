//! Reading: beside the writer, without a lock.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::ring::layout::{ENTRY_LEN, Geometry, HEAD_AT, INDEXED_AT, Source};
use crate::sys::memory::{PAGE, Window, read_exact_at};
use crate::wire::request::StreamKind;
use crate::wire::time::Timestamp;

/// A piece of output: bytes of one stream, read at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub offset: u64,
    pub source: Source,
    pub at: Timestamp,
    /// Where its bytes are in what was read.
    range: Range<usize>,
}

/// What a reader gets: pieces in order, the offset to go on from, and how much was gone before they began.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Read {
    pub missed: u64,
    pub pieces: Vec<Piece>,
    pub next: u64,
    bytes: Bytes,
}

impl Read {
    /// Pieces that were read from the end of the gap on.
    #[cfg(test)]
    pub fn of(from: u64, missed: u64, all: &[(Source, &str)]) -> Self {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        for (source, more) in all {
            let range = text.len()..text.len() + more.len();
            pieces.push(Piece { offset: from + text.len() as u64, source: *source, at: Timestamp(1), range });
            text.push_str(more);
        }
        Self { missed, pieces, next: from + text.len() as u64, bytes: text.into_bytes().into() }
    }

    /// The bytes of one of its pieces.
    pub fn bytes(&self, piece: &Piece) -> Bytes {
        self.bytes.slice(piece.range.clone())
    }

    /// The bytes of all pieces in a row.
    pub fn join(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| self.bytes(piece)).collect()
    }
}

/// A ring and its index, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'m> {
    pub(super) window: &'m Window,
    pub(super) file: &'m File,
    pub(super) geometry: Geometry,
}

impl<'m> Reader<'m> {
    pub(super) fn entry(&self, n: u64) -> (&'m AtomicU64, &'m AtomicU64) {
        let slot = usize::try_from(n % self.geometry.entries).expect("an index into the window");
        let at = PAGE + slot * ENTRY_LEN;
        (self.window.atomic(at), self.window.atomic(at + 8))
    }

    /// Bytes written so far: the offset of the next one.
    pub fn head(&self) -> u64 {
        self.window.atomic(HEAD_AT).load(Ordering::Acquire)
    }

    /// The offsets that can be read, of one instant: never more than is to be kept, however quick the writer.
    pub fn kept(&self) -> Range<u64> {
        let head = self.head();
        let indexed = self.window.atomic(INDEXED_AT).load(Ordering::Acquire);
        let by_bytes = head.saturating_sub(self.geometry.keep);
        // One entry less than there is room for: the oldest one may be being overwritten.
        let tail = match indexed.checked_sub(self.geometry.entries - 1) {
            None | Some(0) => by_bytes,
            Some(oldest) => by_bytes.max(self.entry(oldest).0.load(Ordering::Acquire)),
        };
        // The writer may have come round the index since the head was looked at.
        tail.min(head)..head
    }

    /// The oldest offset that can be read.
    pub fn tail(&self) -> u64 {
        self.kept().start
    }

    /// Whether all from `from` on can still be read when the writer has taken one chunk more.
    pub fn spares(&self, from: u64) -> bool {
        let g = &self.geometry;
        let by_bytes = (self.head() + g.chunk).saturating_sub(g.keep);
        let indexed = self.window.atomic(INDEXED_AT).load(Ordering::Acquire);
        // The next entry, and one that is never read: see `kept`.
        let by_index = match (indexed + 2).checked_sub(g.entries) {
            None | Some(0) => 0,
            Some(oldest) => self.entry(oldest).0.load(Ordering::Acquire),
        };
        by_bytes.max(by_index) <= from
    }

    /// Reads from `from` on, at most `max` bytes, of the streams wanted.
    pub fn read(&self, from: u64, max: u64, kind: StreamKind) -> io::Result<Read> {
        let Range { start: tail, end: head } = self.kept();
        if from >= head {
            return Ok(Read { next: from, ..Read::default() });
        }
        let start = from.max(tail);
        let end = head.min(start.saturating_add(max));
        let tags = self.tags(start, end);
        let bytes = self.copy(start, end)?;
        // What the writer reached meanwhile may be overwritten, bytes and index alike.
        let valid = start.max(self.tail()).min(end);
        let mut pieces: Vec<Piece> = Vec::new();
        for (n, &(offset, tag)) in tags.iter().enumerate() {
            let (piece_start, piece_end) =
                (offset.max(valid), tags.get(n + 1).map_or(end, |next| next.0).min(end));
            let (source, at) = Source::unpack(tag);
            if piece_start < piece_end && source.is_in(kind) {
                let at_byte = |offset: u64| usize::try_from(offset - start).expect("within the copy");
                let range = at_byte(piece_start)..at_byte(piece_end);
                pieces.push(Piece { offset: piece_start, source, at, range });
            }
        }
        Ok(Read { missed: valid - from, pieces, next: end, bytes })
    }

    /// The index from the entry that covers `start` to the last one before `end`.
    fn tags(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let indexed = self.window.atomic(INDEXED_AT).load(Ordering::Acquire);
        let mut tags = Vec::new();
        for n in (indexed.saturating_sub(self.geometry.entries)..indexed).rev() {
            let (offset, tag) = self.entry(n);
            let (offset, tag) = (offset.load(Ordering::Acquire), tag.load(Ordering::Acquire));
            if offset < end {
                tags.push((offset, tag));
            }
            if offset <= start {
                break;
            }
        }
        tags.reverse();
        tags
    }

    fn copy(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let g = &self.geometry;
        let len = usize::try_from(end - start).expect("at most the ring");
        let at = start % g.ring_len;
        let first = usize::try_from(g.ring_len - at).expect("at most the ring").min(len);
        let mut bytes = Vec::with_capacity(len);
        read_exact_at(self.file, &mut bytes, g.ring_at + at, first)?;
        read_exact_at(self.file, &mut bytes, g.ring_at, len - first)?;
        Ok(bytes.into())
    }
}

/// A ring in memory that another process writes and shares.
#[derive(Debug)]
pub struct SharedOutput {
    window: Window,
    file: File,
    geometry: Geometry,
}

impl SharedOutput {
    /// Over a descriptor that is open for reading, of memory that keeps so many bytes of output.
    pub fn open(memory: OwnedFd, keep: u64) -> io::Result<Self> {
        let (file, geometry) = (File::from(memory), Geometry::new(keep));
        if file.metadata()?.len() < geometry.end() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the memory is smaller than its ring"));
        }
        let window = Window::map_for_reading(&file, geometry.window_len())?;
        Ok(Self { window, file, geometry })
    }

    /// For reading what is there.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { window: &self.window, file: &self.file, geometry: self.geometry }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::memory::memfd_create;

    #[test]
    fn memory_without_a_ring_is_not_taken() {
        let len = Geometry::new(4096).end();
        for (len, is_taken) in [(0, false), (len - 1, false), (len, true)] {
            let file = memfd_create(c"test", len).unwrap();
            let shared = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            let shared = SharedOutput::open(shared.into(), 4096);
            assert_eq!(shared.is_ok(), is_taken, "{len} bytes");
            assert!(shared.is_err() || shared.is_ok_and(|shared| shared.reader().head() == 0));
        }
    }
}
