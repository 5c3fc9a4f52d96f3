//! The output of one process: a ring of bytes, and an index that says which stream they came from and when.
//!
//! Offsets count the bytes of both streams since the first start and never go back. Bytes go from the pipe into the ring
//! inside the kernel (splice), which moves the file's own position in the same call. So nothing is ever taken from a pipe
//! that the next engine does not find: if we are killed before the offset is published, the position tells how far the
//! ring was written, and the word of intent from which stream.
//!
//! The ring is larger than what is promised by one chunk, the most that one splice may overwrite: the promised bytes are
//! whole at every instant. Readers copy without a lock, then look whether the writer came past them meanwhile.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::sys::memory::{PAGE, Window, splice};
use crate::wire::request::StreamKind;
use crate::wire::time::Timestamp;

/// Bytes written so far.
const HEAD_AT: usize = 16;
/// Stream and time of the splice under way.
const INTENT_AT: usize = 24;
/// Index entries written so far.
const INDEXED_AT: usize = 32;
/// Offset, then time and stream.
const ENTRY_LEN: usize = 16;
/// The most bytes one splice takes.
const CHUNK_MAX: u64 = 256 << 10;
const CHUNK_MIN: u64 = 16 << 10;
/// One index entry for so many bytes: lines are longer than this on average, or the time does not change.
const BYTES_PER_ENTRY: u64 = 64;
const ENTRIES_MIN: u64 = 256;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

impl Source {
    /// Whether a reader of these streams wants it.
    pub fn is_in(self, kind: StreamKind) -> bool {
        match kind {
            StreamKind::Both => true,
            StreamKind::Stdout => self == Self::Stdout,
            StreamKind::Stderr => self == Self::Stderr,
        }
    }

    fn pack(self, at: Timestamp) -> u64 {
        (at.0 << 1) | u64::from(self == Self::Stderr)
    }

    fn unpack(word: u64) -> (Self, Timestamp) {
        (if word & 1 == 1 { Self::Stderr } else { Self::Stdout }, Timestamp(word >> 1))
    }
}

/// Where things lie for a given number of bytes to keep.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    keep: u64,
    chunk: u64,
    entries: u64,
    ring_at: u64,
    ring_len: u64,
}

impl Geometry {
    pub fn new(keep: u64) -> Self {
        let page = PAGE as u64;
        let chunk = (keep / 4).clamp(CHUNK_MIN, CHUNK_MAX);
        let entries = (keep / BYTES_PER_ENTRY).max(ENTRIES_MIN);
        let ring_at = page + (entries * ENTRY_LEN as u64).next_multiple_of(page);
        Self { keep, chunk, entries, ring_at, ring_len: (keep + chunk).next_multiple_of(page) }
    }

    /// What has to be mapped: the words and the index.
    pub fn window_len(&self) -> usize {
        usize::try_from(self.ring_at).expect("a few MiB")
    }

    /// The first byte after the ring.
    pub fn end(&self) -> u64 {
        self.ring_at + self.ring_len
    }
}

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
    /// The bytes of one of its pieces.
    pub fn bytes(&self, piece: &Piece) -> Bytes {
        self.bytes.slice(piece.range.clone())
    }

    /// The bytes of all pieces in a row.
    pub fn join(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| self.bytes(piece)).collect()
    }
}

/// What a splice found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes.
    Bytes(u64),
    /// Nothing now.
    Empty,
    /// Nothing ever again: all writers are gone.
    End,
}

/// The ring and its index, in a process's memory. One thread writes; any number read.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'m> {
    window: &'m Window,
    file: &'m File,
    geometry: Geometry,
}

impl<'m> Ring<'m> {
    pub fn new(window: &'m Window, file: &'m File, geometry: Geometry) -> Self {
        Self { window, file, geometry }
    }

    /// Puts the file's position where the first byte goes.
    pub fn start(&self) -> io::Result<()> {
        self.seek(0)
    }

    /// Publishes what an engine before us had spliced but not published.
    pub fn recover(&self) -> io::Result<()> {
        let position = (&mut &*self.file).stream_position()?;
        let head = self.head();
        let g = &self.geometry;
        let written = position.checked_sub(g.ring_at).filter(|&w| w <= g.ring_len);
        let Some(written) = written else {
            return self.seek(head);
        };
        let more = (written + g.ring_len - head % g.ring_len) % g.ring_len;
        if more > 0 {
            let (source, at) = Source::unpack(self.window.word(INTENT_AT).load(Ordering::Acquire));
            self.publish(source, at, more);
        }
        Ok(())
    }

    /// Takes what the pipe has, at most one chunk.
    pub fn take(&self, pipe: BorrowedFd<'_>, source: Source) -> io::Result<Taken> {
        let g = &self.geometry;
        let at = Timestamp::now();
        self.window.word(INTENT_AT).store(source.pack(at), Ordering::Release);
        let head = self.head();
        let room = g.ring_len - head % g.ring_len;
        if room == g.ring_len {
            // The position stands at the end of the ring, or at its beginning already.
            self.seek(head)?;
        }
        let len = usize::try_from(room.min(g.chunk)).expect("a chunk");
        match splice(pipe, self.file, len) {
            Ok(0) => Ok(Taken::End),
            Ok(n) => {
                self.publish(source, at, n as u64);
                Ok(Taken::Bytes(n as u64))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Taken::Empty),
            Err(e) => Err(e),
        }
    }

    fn seek(&self, head: u64) -> io::Result<()> {
        let g = &self.geometry;
        (&mut &*self.file).seek(SeekFrom::Start(g.ring_at + head % g.ring_len)).map(drop)
    }

    fn publish(&self, source: Source, at: Timestamp, len: u64) {
        let head = self.head();
        let indexed = self.window.word(INDEXED_AT).load(Ordering::Acquire);
        let packed = source.pack(at);
        let same = indexed > 0 && self.entry(indexed - 1).1.load(Ordering::Acquire) == packed;
        if !same {
            let (offset, tag) = self.entry(indexed);
            offset.store(head, Ordering::Release);
            tag.store(packed, Ordering::Release);
            self.window.word(INDEXED_AT).store(indexed + 1, Ordering::Release);
        }
        self.window.word(HEAD_AT).store(head + len, Ordering::Release);
    }

    fn entry(&self, n: u64) -> (&AtomicU64, &AtomicU64) {
        let slot = usize::try_from(n % self.geometry.entries).expect("an index into the window");
        let at = PAGE + slot * ENTRY_LEN;
        (self.window.word(at), self.window.word(at + 8))
    }

    /// Bytes written so far: the offset of the next one.
    pub fn head(&self) -> u64 {
        self.window.word(HEAD_AT).load(Ordering::Acquire)
    }

    /// The oldest offset that can be read.
    pub fn tail(&self) -> u64 {
        let indexed = self.window.word(INDEXED_AT).load(Ordering::Acquire);
        let by_bytes = self.head().saturating_sub(self.geometry.keep);
        // One entry less than there is room for: the oldest one may be being overwritten.
        match indexed.checked_sub(self.geometry.entries - 1) {
            None | Some(0) => by_bytes,
            Some(oldest) => by_bytes.max(self.entry(oldest).0.load(Ordering::Acquire)),
        }
    }

    /// Reads from `from` on, at most `max` bytes, of the streams wanted.
    pub fn read(&self, from: u64, max: u64, kind: StreamKind) -> io::Result<Read> {
        // In this order: between the two a quick writer may come round a small ring, and the tail must not be past the head.
        let tail = self.tail();
        let head = self.head();
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
        let indexed = self.window.word(INDEXED_AT).load(Ordering::Acquire);
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
        let mut bytes = vec![0; usize::try_from(end - start).expect("at most the ring")];
        let at = start % g.ring_len;
        let first = usize::try_from((g.ring_len - at).min(end - start)).expect("at most the ring");
        self.file.read_exact_at(&mut bytes[..first], g.ring_at + at)?;
        self.file.read_exact_at(&mut bytes[first..], g.ring_at)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::{memfd_create, pipe};
    use proptest::prelude::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    struct Rig {
        window: Window,
        file: File,
        geometry: Geometry,
    }

    impl Rig {
        fn new(keep: u64) -> Self {
            let geometry = Geometry::new(keep);
            let file = memfd_create(c"test", geometry.end()).unwrap();
            let window = Window::map(&file, geometry.window_len()).unwrap();
            let rig = Self { window, file, geometry };
            rig.ring().start().unwrap();
            rig
        }

        fn ring(&self) -> Ring<'_> {
            Ring::new(&self.window, &self.file, self.geometry)
        }

        /// What a child writes, taken chunk by chunk.
        fn put(&self, bytes: &[u8], source: Source) {
            let (r, w) = pipe().unwrap();
            let mut w = File::from(w);
            for part in bytes.chunks(10_000) {
                w.write_all(part).unwrap();
                let mut left = part.len() as u64;
                while left > 0 {
                    let Taken::Bytes(n) = self.ring().take(r.as_fd(), source).unwrap() else {
                        panic!("the pipe holds bytes")
                    };
                    left -= n;
                }
            }
        }
    }

    #[test]
    fn exactly_the_last_bytes_are_kept() {
        let rig = Rig::new(1 << 20);
        let all: Vec<u8> = (0..3_000_000u32).flat_map(|n| (n % 251).to_le_bytes()).take(3_000_000).collect();
        rig.put(&all, Source::Stdout);
        let read = rig.ring().read(0, u64::MAX, StreamKind::Both).unwrap();
        assert_eq!(read.missed, 3_000_000 - (1 << 20));
        assert_eq!(read.next, 3_000_000);
        assert!(read.join() == all[all.len() - (1 << 20)..]);
    }

    #[test]
    fn streams_are_told_apart_in_their_order() {
        let rig = Rig::new(4096);
        rig.put(b"one", Source::Stdout);
        rig.put(b"two", Source::Stderr);
        rig.put(b"three", Source::Stdout);
        let text = |kind| rig.ring().read(0, u64::MAX, kind).unwrap().join();
        assert_eq!(text(StreamKind::Both), b"onetwothree");
        assert_eq!(text(StreamKind::Stdout), b"onethree");
        assert_eq!(text(StreamKind::Stderr), b"two");
        let read = rig.ring().read(4, 3, StreamKind::Both).unwrap();
        assert_eq!((read.join(), read.next, read.missed), (b"wot".to_vec(), 7, 0));
    }

    #[test]
    fn what_was_spliced_and_not_published_is_found() {
        let rig = Rig::new(4096);
        rig.put(b"before ", Source::Stdout);
        let (r, w) = pipe().unwrap();
        File::from(w).write_all(b"after").unwrap();
        // As an engine that is killed inside `take`: the intent is set, the bytes are moved, nothing is published.
        let at = Timestamp(5);
        rig.window.word(INTENT_AT).store(Source::Stderr.pack(at), Ordering::Release);
        assert_eq!(splice(r.as_fd(), &rig.file, 100).unwrap(), 5);
        assert_eq!(rig.ring().head(), 7);
        rig.ring().recover().unwrap();
        rig.ring().recover().unwrap();
        let read = rig.ring().read(7, 100, StreamKind::Both).unwrap();
        let [piece] = &read.pieces[..] else { panic!("one piece: {read:?}") };
        assert_eq!((piece.offset, piece.source, piece.at), (7, Source::Stderr, at));
        assert_eq!(read.bytes(piece), b"after"[..]);
    }

    #[test]
    fn many_tiny_writes_of_both_streams_stay_bounded() {
        let rig = Rig::new(4096);
        for n in 0..2000u32 {
            rig.put(b"a", if n % 2 == 0 { Source::Stdout } else { Source::Stderr });
        }
        let read = rig.ring().read(0, u64::MAX, StreamKind::Both).unwrap();
        assert_eq!(read.missed + read.join().len() as u64, 2000);
        assert_eq!(read.join().len(), 255, "as many as the index has room for");
    }

    #[test]
    fn a_writer_that_comes_round_while_we_read_does_no_harm() {
        let rig = Rig::new(4096);
        let (r, w) = pipe().unwrap();
        let (ring, mut w) = (rig.ring(), File::from(w));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    w.write_all(&[7; 8192]).unwrap();
                    while let Ok(Taken::Bytes(_)) = ring.take(r.as_fd(), Source::Stdout) {}
                }
                done.store(true, Ordering::Release);
            });
            let mut next = 0;
            while !done.load(Ordering::Acquire) {
                for from in [0, next] {
                    let read = ring.read(from, u64::MAX, StreamKind::Both).unwrap();
                    assert_eq!(from + read.missed + read.join().len() as u64, read.next);
                    next = read.next;
                }
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_sequence_reads_back(
            writes in prop::collection::vec((1usize..40_000, any::<bool>(), any::<bool>()), 1..30),
            keep in 4096u64..100_000,
        ) {
            let rig = Rig::new(keep);
            let mut all = Vec::new();
            let mut followed = Vec::new();
            let mut next = 0;
            for (n, (len, stderr, follow)) in writes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                rig.put(&bytes, if stderr { Source::Stderr } else { Source::Stdout });
                all.extend(bytes);
                if follow {
                    let read = rig.ring().read(next, 10_000, StreamKind::Both).unwrap();
                    followed.extend(std::iter::repeat_n(None, read.missed as usize));
                    followed.extend(read.join().into_iter().map(Some));
                    next = read.next;
                }
            }
            let read = rig.ring().read(0, u64::MAX, StreamKind::Both).unwrap();
            let kept = read.join();
            prop_assert_eq!(read.missed as usize + kept.len(), all.len());
            prop_assert!(kept.len() as u64 <= keep);
            prop_assert!(all.ends_with(&kept));
            prop_assert_eq!(followed.len() as u64, next);
            prop_assert!(followed.iter().zip(&all).all(|(f, a)| f.is_none_or(|f| f == *a)));
        }
    }
}
