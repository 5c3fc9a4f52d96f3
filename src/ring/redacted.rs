//! Output in which something must not be seen. It stands apart until its lines are whole, and only what is
//! left of them goes into the ring: whoever reads the ring does not know of it.
//!
//! For each stream of each writer there is a room far behind the ring, in the same memory: whatever was taken
//! from a pipe is there for the next engine. A room has two halves. What comes is appended in one; what of it
//! is no whole line yet goes to the begin of the other, while the rest goes into the ring. The words in front
//! of the rooms, which are written by one call within a page and so by no kill cut in two, say which half
//! counts and how far the ring is written. What was spliced since, the file's own position tells.

use std::io::{self, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use crate::ring::layout::Source;
use crate::ring::write::{Ring, Taken};
use crate::sys::memory::{PAGE, splice};
use crate::wire::redact::{Ending, LINE_MAX, Next, Redactor};
use crate::wire::time::Timestamp;

/// Where the rooms are, from the end of the ring on: specs and launches, which lie between, take less.
const BEHIND: u64 = 32 << 20;
/// The most bytes in half a room: enough that a flood takes few calls.
const HALF_MAX: u64 = 64 << 10;
const ROOMS: usize = 4;
const WORDS: usize = ROOMS + 2;

/// Whose output it is: the lines of the two do not get mixed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Writer {
    #[default]
    Program,
    Hook,
}

/// What has been read and is not in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Room {
    half: u64,
    /// Bytes in it.
    len: u64,
    /// The rest of its present line is swallowed.
    swallows: bool,
}

impl Room {
    fn is_empty(self) -> bool {
        self.len == 0 && !self.swallows
    }
}

/// The words.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Rooms {
    rooms: [Room; ROOMS],
    /// Up to here the ring is written.
    head: u64,
    /// Of which stream its last bytes are, and when they came.
    tag: u64,
}

impl Rooms {
    fn encode(&self) -> Vec<u8> {
        let rooms = self.rooms.map(|room| room.len << 2 | u64::from(room.swallows) << 1 | room.half);
        rooms.into_iter().chain([self.head, self.tag]).flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8; 8 * WORDS], half_len: u64) -> Self {
        let word = |n: usize| u64::from_le_bytes(bytes[8 * n..][..8].try_into().expect("eight bytes"));
        let room = |n: usize| {
            let word = word(n);
            Room { half: word & 1, len: (word >> 2).min(half_len), swallows: word & 2 != 0 }
        };
        Self { rooms: std::array::from_fn(room), head: word(ROOMS), tag: word(ROOMS + 1) }
    }
}

fn room_of(writer: Writer, source: Source) -> usize {
    2 * writer as usize + source as usize
}

impl Ring<'_> {
    /// As [`Ring::take`], without what these patterns match: what comes of the lines that are whole goes into
    /// the ring, at most one chunk.
    pub fn take_redacted(
        &self,
        pipe: BorrowedFd<'_>,
        (writer, source): (Writer, Source),
        redactor: &Redactor,
    ) -> io::Result<Taken> {
        let (mut rooms, n) = (self.rooms()?, room_of(writer, source));
        let Room { half, len, .. } = rooms.rooms[n];
        if len >= LINE_MAX as u64 {
            // Left by another engine, or when there was no memory.
            self.bring_out_rest((writer, source), Some(redactor), Ending::Open)?;
            return Ok(Taken::Bytes(0));
        }
        // From here on the file's position says nothing about the ring.
        (&mut &*self.file).seek(SeekFrom::Start(self.half_at(n, half) + len))?;
        match splice(pipe, self.file, usize::try_from(self.half_len() - len).expect("some KiB")) {
            Ok(0) if rooms.rooms[n].is_empty() => Ok(Taken::End),
            Ok(0) => self.bring_out(&mut rooms, n, Some(redactor), Ending::Final).map(|()| Taken::Bytes(0)),
            Ok(count) => {
                rooms.rooms[n].len += count as u64;
                self.commit(&rooms)?;
                self.bring_out(&mut rooms, n, Some(redactor), Ending::Open)?;
                Ok(Taken::Bytes(count as u64))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Taken::Empty),
            Err(e) => Err(e),
        }
    }

    /// Whether there ever were patterns here.
    pub fn has_rooms(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.len() > self.words_at())
    }

    /// Whether a writer has something in a room: which stream's.
    pub fn rest_of(&self, writer: Writer) -> io::Result<Option<Source>> {
        if !self.has_rooms() {
            return Ok(None);
        }
        let rooms = self.rooms()?.rooms;
        let has_rest = |&source: &Source| !rooms[room_of(writer, source)].is_empty();
        Ok([Source::Stdout, Source::Stderr].into_iter().find(has_rest))
    }

    /// Brings out what is whole of what this writer has in a room; finally all, since nothing more comes.
    /// Without patterns as it is.
    pub fn bring_out_rest(
        &self,
        (writer, source): (Writer, Source),
        redactor: Option<&Redactor>,
        ending: Ending,
    ) -> io::Result<()> {
        // Where it is now may be in the half that counts then, and further than that is filled.
        (&mut &*self.file).seek(SeekFrom::Start(self.words_at()))?;
        self.bring_out(&mut self.rooms()?, room_of(writer, source), redactor, ending)
    }

    /// Without patterns from here on: [`Ring::take`] goes on where the ring ends.
    pub fn leave_rooms(&self) -> io::Result<()> {
        self.seek(self.head())
    }

    /// Finishes what an engine before us was at; the file's position was this.
    pub(super) fn recover_rooms(&self, position: u64) -> io::Result<()> {
        if !self.has_rooms() {
            return Ok(());
        }
        let mut rooms = self.rooms()?;
        self.publish_committed(&rooms);
        for n in 0..ROOMS {
            let at = self.half_at(n, rooms.rooms[n].half);
            if (at..=at + self.half_len()).contains(&position) && position - at > rooms.rooms[n].len {
                rooms.rooms[n].len = position - at;
                self.commit(&rooms)?;
            }
        }
        Ok(())
    }

    fn words_at(&self) -> u64 {
        self.geometry.end() + BEHIND
    }

    fn half_len(&self) -> u64 {
        self.geometry.chunk.min(HALF_MAX)
    }

    /// With a page between any two, so that the end of one is not the begin of the next.
    fn half_at(&self, room: usize, half: u64) -> u64 {
        let page = PAGE as u64;
        self.words_at() + page + (2 * room as u64 + half) * (self.half_len() + page)
    }

    fn rooms(&self) -> io::Result<Rooms> {
        let mut bytes = [0; 8 * WORDS];
        match self.file.read_exact_at(&mut bytes, self.words_at()) {
            Ok(()) => Ok(Rooms::decode(&bytes, self.half_len())),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Rooms::default()),
            Err(e) => Err(e),
        }
    }

    fn commit(&self, rooms: &Rooms) -> io::Result<()> {
        self.file.write_all_at(&rooms.encode(), self.words_at())
    }

    fn publish_committed(&self, rooms: &Rooms) {
        // The ring may have been written without us since.
        let more = rooms.head.saturating_sub(self.head());
        if more > 0 {
            let (source, at) = Source::unpack(rooms.tag);
            self.publish(source, at, more);
        }
    }

    fn bring_out(
        &self,
        rooms: &mut Rooms,
        n: usize,
        redactor: Option<&Redactor>,
        ending: Ending,
    ) -> io::Result<()> {
        let Room { half, len, swallows } = rooms.rooms[n];
        let mut bytes = vec![0; usize::try_from(len).expect("some KiB")];
        self.file.read_exact_at(&mut bytes, self.half_at(n, half))?;
        let next = match redactor {
            Some(redactor) => redactor.next(&bytes, swallows, ending),
            None => Next { taken: bytes.len(), out: bytes.clone(), swallows: false },
        };
        rooms.rooms[n].swallows = next.swallows;
        if next.taken > 0 {
            let (head, rest) = (self.head(), &bytes[next.taken..]);
            self.write_at(head, &next.out)?;
            self.file.write_all_at(rest, self.half_at(n, 1 - half))?;
            rooms.rooms[n] = Room { half: 1 - half, len: rest.len() as u64, swallows: next.swallows };
            rooms.head = head + next.out.len() as u64;
            let source = if n.is_multiple_of(2) { Source::Stdout } else { Source::Stderr };
            rooms.tag = source.pack(Timestamp::now());
        }
        self.commit(rooms)?;
        self.publish_committed(rooms);
        Ok(())
    }

    /// Writes into the ring what is not published yet.
    fn write_at(&self, head: u64, bytes: &[u8]) -> io::Result<()> {
        let g = &self.geometry;
        let at = head % g.ring_len;
        let first = usize::try_from(g.ring_len - at).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all_at(&bytes[..first], g.ring_at + at)?;
        self.file.write_all_at(&bytes[first..], g.ring_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Geometry;
    use crate::sys::memory::{Window, memfd_create};
    use crate::sys::pipe::pipe;
    use crate::wire::request::StreamKind;
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsFd, OwnedFd};

    const OUT: (Writer, Source) = (Writer::Program, Source::Stdout);
    const ERR: (Writer, Source) = (Writer::Program, Source::Stderr);
    const HOOK: (Writer, Source) = (Writer::Hook, Source::Stdout);

    struct Rig {
        window: Window,
        file: File,
        geometry: Geometry,
        pipes: [(OwnedFd, Option<File>); ROOMS],
        redactor: Redactor,
    }

    impl Rig {
        fn new(keep: u64) -> Self {
            let geometry = Geometry::new(keep);
            let file = memfd_create(c"test", geometry.end()).unwrap();
            let window = Window::map(&file, geometry.window_len()).unwrap();
            let pipes = [(); ROOMS].map(|()| pipe().map(|(r, w)| (r, Some(File::from(w)))).unwrap());
            let redactor = Redactor::new(&["key=[0-9]+".to_owned()]).unwrap().unwrap();
            let rig = Self { window, file, geometry, pipes, redactor };
            rig.ring().start().unwrap();
            rig
        }

        fn ring(&self) -> Ring<'_> {
            Ring::new(&self.window, &self.file, self.geometry)
        }

        fn pipe(&self, (writer, source): (Writer, Source)) -> &(OwnedFd, Option<File>) {
            &self.pipes[room_of(writer, source)]
        }

        fn write(&self, of: (Writer, Source), text: &str) {
            self.pipe(of).1.as_ref().unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn take(&self, of: (Writer, Source)) -> Taken {
            self.ring().take_redacted(self.pipe(of).0.as_fd(), of, &self.redactor).unwrap()
        }

        /// All that is there.
        fn put(&self, of: (Writer, Source), text: &str) {
            self.write(of, text);
            while let Taken::Bytes(_) = self.take(of) {}
        }

        /// What the next engine does.
        fn recover(&self, redactor: Option<&Redactor>) {
            self.ring().recover().unwrap();
            self.ring().recover().unwrap();
            let ending = if redactor.is_some() { Ending::Open } else { Ending::Final };
            for of in [OUT, ERR, HOOK] {
                self.ring().bring_out_rest(of, redactor, ending).unwrap();
            }
            self.ring().recover().unwrap();
        }

        fn text(&self, kind: StreamKind) -> String {
            let read = self.ring().read(0, u64::MAX, kind).unwrap();
            assert_eq!(read.missed, 0);
            String::from_utf8(read.join()).unwrap()
        }
    }

    #[test]
    fn a_line_comes_when_it_is_whole_whatever_others_write() {
        let mut rig = Rig::new(1 << 20);
        rig.put(OUT, "one ke");
        rig.put(ERR, "err key=77\nopen");
        rig.put(HOOK, "hook\n");
        assert_eq!(rig.text(StreamKind::Both), "err ***\nhook\n");
        rig.put(OUT, "y=12 x\nlast key=");
        rig.put(OUT, "3");
        assert_eq!(rig.text(StreamKind::Stdout), "hook\none *** x\n");
        assert_eq!(rig.ring().rest_of(Writer::Hook).unwrap(), None);
        // The end of a pipe, and of a writer.
        rig.pipes[0].1 = None;
        assert_eq!([rig.take(OUT), rig.take(OUT)], [Taken::Bytes(0), Taken::End]);
        assert_eq!(rig.ring().rest_of(Writer::Program).unwrap(), Some(Source::Stderr));
        rig.ring().bring_out_rest(ERR, Some(&rig.redactor), Ending::Final).unwrap();
        assert_eq!(rig.ring().rest_of(Writer::Program).unwrap(), None);
        assert_eq!(rig.text(StreamKind::Stdout), "hook\none *** x\nlast ***");
        assert_eq!(rig.text(StreamKind::Stderr), "err ***\nopen");
        // Without patterns, and with them again.
        rig.ring().leave_rooms().unwrap();
        rig.write(ERR, " key=8");
        assert_eq!(rig.ring().take(rig.pipe(ERR).0.as_fd(), ERR.1).unwrap(), Taken::Bytes(6));
        rig.recover(None);
        rig.put(ERR, " key=9\n");
        assert_eq!(rig.text(StreamKind::Stderr), "err ***\nopen key=8 ***\n");
    }

    #[test]
    fn what_is_swallowed_ends_with_its_line() {
        let mut rig = Rig::new(1 << 20);
        rig.put(OUT, &format!("key={}", "7".repeat(60_000)));
        rig.put(OUT, "77\nnext\n");
        assert_eq!(rig.text(StreamKind::Both), "***\nnext\n");
        rig.put(OUT, &format!("key={}", "7".repeat(LINE_MAX - 4)));
        assert_eq!(rig.ring().rest_of(Writer::Program).unwrap(), Some(Source::Stdout));
        rig.pipes[0].1 = None;
        assert_eq!([rig.take(OUT), rig.take(OUT)], [Taken::Bytes(0), Taken::End]);
        assert_eq!(rig.text(StreamKind::Both), "***\nnext\n***");
    }

    #[test]
    fn whenever_an_engine_is_killed_the_next_one_goes_on() {
        let rig = Rig::new(1 << 20);
        let (ring, n) = (rig.ring(), room_of(OUT.0, OUT.1));
        let mut expected = String::new();
        for round in 0..2000 {
            let begin = if round > 0 { "beg" } else { "" };
            rig.write(OUT, &format!("line {round} key=1{round}\nbeg"));
            expected.push_str(&format!("{begin}line {round} ***\n"));
            let mut rooms = ring.rooms().unwrap();
            let Room { half, len, .. } = rooms.rooms[n];
            (&mut &*ring.file).seek(SeekFrom::Start(ring.half_at(n, half) + len)).unwrap();
            if round % 4 > 0 {
                rooms.rooms[n].len += splice(rig.pipe(OUT).0.as_fd(), &rig.file, 1 << 14).unwrap() as u64;
            }
            if round % 4 > 1 {
                ring.commit(&rooms).unwrap();
            }
            if round % 4 > 2 {
                // Killed between the words and the ring's own.
                let head = ring.window.atomic(crate::ring::layout::HEAD_AT);
                let before = head.load(std::sync::atomic::Ordering::Acquire);
                ring.bring_out(&mut rooms, n, Some(&rig.redactor), Ending::Open).unwrap();
                head.store(before, std::sync::atomic::Ordering::Release);
            }
            rig.recover(Some(&rig.redactor));
            while let Taken::Bytes(_) = rig.take(OUT) {}
            if round % 3 == 0 {
                rig.recover(Some(&rig.redactor));
            }
        }
        assert!(rig.text(StreamKind::Both) == expected);
        rig.recover(None);
        assert!(rig.text(StreamKind::Both) == expected + "beg");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_flood_of_both_streams_comes_through(
            writes in prop::collection::vec((0usize..9000, any::<bool>(), any::<bool>()), 1..40),
            keep in prop::sample::select(vec![400u64 << 10, 4 << 20]),
        ) {
            let rig = Rig::new(keep);
            let mut expected = [String::new(), String::new()];
            for (n, (len, is_err, is_killed)) in writes.into_iter().enumerate() {
                let of = if is_err { ERR } else { OUT };
                let text = "ab key=77 ".chars().cycle().skip(n).take(len).collect::<String>();
                let text = format!("{text}|key=5|{}", if n % 3 == 0 { "" } else { "\n" });
                expected[of.1 as usize].push_str(&text);
                rig.write(of, &text);
                if is_killed {
                    rig.recover(Some(&rig.redactor));
                }
                rig.put(of, "");
            }
            for of in [OUT, ERR] {
                rig.ring().bring_out_rest(of, Some(&rig.redactor), Ending::Final).unwrap();
            }
            let all = regex::Regex::new("key=[0-9]+").unwrap();
            for (kind, text) in [StreamKind::Stdout, StreamKind::Stderr].into_iter().zip(&expected) {
                prop_assert_eq!(rig.text(kind), all.replace_all(text, "***").into_owned());
            }
        }
    }
}
