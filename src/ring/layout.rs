//! How the output lies in a process's memory: a ring of bytes, and an index that says for each part which
//! stream it came from and when.
//!
//! Offsets count the bytes of both streams since the first start and never go back. The ring is larger than
//! what is promised by one chunk, the most that one splice may overwrite: the promised bytes are whole at
//! every instant. Readers copy without a lock, then look whether the writer came past them meanwhile.

use crate::sys::memory::PAGE;
use crate::wire::request::StreamKind;
use crate::wire::time::Timestamp;

/// Bytes written so far.
pub(super) const HEAD_AT: usize = 16;
/// Stream and time of the splice under way.
pub(super) const INTENT_AT: usize = 24;
/// Index entries written so far.
pub(super) const INDEXED_AT: usize = 32;
/// Offset, then time and stream.
pub(super) const ENTRY_LEN: usize = 16;
/// The most bytes one splice takes.
const CHUNK_MAX: u64 = 256 << 10;
const CHUNK_MIN: u64 = 16 << 10;
/// One index entry for so many bytes: lines are longer than this on average, or the time does not change.
const BYTES_PER_ENTRY: u64 = 64;
const ENTRIES_MIN: u64 = 256;
/// The most bytes to read at a time while streaming, and in one chunk of a reply: with its frame, what malloc
/// takes from its heap. For more it would ask the kernel, and be given zeroed pages again each time.
pub const READ_MAX: u64 = 120 << 10;

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

    pub(super) fn pack(self, at: Timestamp) -> u64 {
        (at.0 << 1) | u64::from(self == Self::Stderr)
    }

    pub(super) fn unpack(packed: u64) -> (Self, Timestamp) {
        (if packed & 1 == 1 { Self::Stderr } else { Self::Stdout }, Timestamp(packed >> 1))
    }
}

/// Where things lie for a given number of bytes to keep.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub(super) keep: u64,
    pub(super) chunk: u64,
    pub(super) entries: u64,
    pub(super) ring_at: u64,
    pub(super) ring_len: u64,
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
