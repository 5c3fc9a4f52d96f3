//! Writing. Bytes go from the pipe into the ring inside the kernel (splice), which moves the file's own
//! position in the same call. So nothing is ever taken from a pipe that the next engine does not find: if we
//! are killed before the offset is published, the position tells how far the ring was written, and the word
//! of intent from which stream.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use crate::ring::layout::{Geometry, HEAD_AT, INDEXED_AT, INTENT_AT, Source};
use crate::ring::read::Reader;
use crate::sys::memory::{Window, splice};
use crate::wire::time::Timestamp;

/// What a splice found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes.
    Bytes(u64),
    Empty,
    /// Nothing ever again: all writers are gone.
    End,
}

/// The ring and its index, in a process's memory. One thread writes; any number read.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'m>(Reader<'m>);

impl<'m> Deref for Ring<'m> {
    type Target = Reader<'m>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'m> Ring<'m> {
    pub fn new(window: &'m Window, file: &'m File, geometry: Geometry) -> Self {
        Self(Reader { window, file, geometry })
    }

    /// Puts the file's position where the first byte goes.
    pub fn start(&self) -> io::Result<()> {
        self.seek(0)
    }

    /// Publishes what an engine before us had spliced but not published.
    pub fn recover(&self) -> io::Result<()> {
        let position = (&mut &*self.file).stream_position()?;
        self.recover_rooms(position)?;
        let head = self.head();
        let g = &self.geometry;
        let written = position.checked_sub(g.ring_at).filter(|&w| w <= g.ring_len);
        let Some(written) = written else {
            return self.seek(head);
        };
        let more = (written + g.ring_len - head % g.ring_len) % g.ring_len;
        if more > 0 {
            let (source, at) = Source::unpack(self.window.atomic(INTENT_AT).load(Ordering::Acquire));
            self.publish(source, at, more);
        }
        Ok(())
    }

    /// Takes what the pipe has, at most one chunk.
    pub fn take(&self, pipe: BorrowedFd<'_>, source: Source) -> io::Result<Taken> {
        let g = &self.geometry;
        let at = Timestamp::now();
        self.window.atomic(INTENT_AT).store(source.pack(at), Ordering::Release);
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

    pub(super) fn seek(&self, head: u64) -> io::Result<()> {
        let g = &self.geometry;
        (&mut &*self.file).seek(SeekFrom::Start(g.ring_at + head % g.ring_len)).map(drop)
    }

    pub(super) fn publish(&self, source: Source, at: Timestamp, len: u64) {
        let head = self.head();
        let indexed = self.window.atomic(INDEXED_AT).load(Ordering::Acquire);
        let packed = source.pack(at);
        let same = indexed > 0 && self.entry(indexed - 1).1.load(Ordering::Acquire) == packed;
        if !same {
            let (offset, tag) = self.entry(indexed);
            offset.store(head, Ordering::Release);
            tag.store(packed, Ordering::Release);
            self.window.atomic(INDEXED_AT).store(indexed + 1, Ordering::Release);
        }
        self.window.atomic(HEAD_AT).store(head + len, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::memfd_create;
    use crate::sys::pipe::pipe;
    use crate::wire::request::StreamKind;
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
        // As an engine that is killed inside `take`: the intent is set, the bytes are moved, nothing is
        // published.
        let at = Timestamp(5);
        rig.window.atomic(INTENT_AT).store(Source::Stderr.pack(at), Ordering::Release);
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
                let kept = ring.kept();
                assert!(kept.start <= kept.end && kept.end - kept.start <= 4096, "{kept:?}");
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
