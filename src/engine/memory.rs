//! One process's memory, held by the keeper and mapped here: record, output, spec and launch. Every
//! instruction leaves it whole: data first, then the word that publishes it. A record goes into the slot that
//! is not current, then the word turns; so an engine that maps this, after any end of ours, sees the last
//! transition that was finished.
//!
//! ```text
//! 0      words (see the constants)      128, 2112  two record slots
//! 4096   output index                   then, page by page: output ring; spec and launch, each at its place
//! ```
//!
//! Spec and launch each have a word that holds their length, and in its upper half the page at which they
//! begin, counted from the end of the ring. A new spec is written where neither the present one nor the
//! launch is, then its word is stored: a child on its way to its exec reads its launch undisturbed, and an
//! engine that comes after any end of ours finds the old spec or the new one. Where a process was never given
//! another spec, the words are bare lengths, as they always were: the spec is first, the launch behind it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use crate::ring::{Geometry, Ring};
use crate::sys::memory::{PAGE, Window, memfd_create};
use crate::wire::error::{Code, Error};
use crate::wire::keeper::{ByteRange, FAILURE_AT, FAILURE_LEN, Failure};
use crate::wire::launch::{Laid, Launch};
use crate::wire::record::Record;
use crate::wire::spec::{STRINGS_LEN_MAX, Spec};

/// "PROVOST1", the layout's name.
const MAGIC: u64 = u64::from_le_bytes(*b"PROVOST1");
const MAGIC_AT: usize = 0;
/// Grows by one with each record; its last bit is the current slot.
const TURN_AT: usize = 8;
const OUTPUT_BYTES_AT: usize = 40;
/// The place of the spec, see [`Place`].
const SPEC_AT: usize = 48;
/// The place of the launch; page 0 stands for the one behind a spec that is first.
const LAUNCH_AT: usize = 56;
/// How far the log is, see [`LogPosition`].
const LOG_AT: u64 = 80;
const LOG_LEN: usize = 48;
const SLOT_AT: [usize; 2] = [128, 2112];
const SLOT_LEN: usize = 1984;
/// The length in front of a record in its slot.
const LEN_LEN: usize = 4;

/// One process's memory. Records and launches are written by one thread at a time (the one that owns
/// the record); output by the process's own thread.
#[derive(Debug)]
pub struct Memory {
    window: Window,
    file: File,
    geometry: Geometry,
}

impl Memory {
    /// New memory for a process with this spec.
    pub fn create(spec: &Spec) -> Result<Self, Error> {
        let failed = |e: io::Error| {
            Error::failed("make memory for the process", &e)
                .hint("each process takes one descriptor of the service, each running one three")
        };
        let geometry = Geometry::new(spec.output_bytes);
        let bytes = spec.encode();
        let spec_at = geometry.end();
        let file = memfd_create(c"provost-process", spec_at + pages(bytes.len())).map_err(failed)?;
        file.write_all_at(&bytes, spec_at).map_err(failed)?;
        let window = Window::map(&file, geometry.window_len()).map_err(failed)?;
        window.atomic(OUTPUT_BYTES_AT).store(spec.output_bytes, Ordering::Release);
        window.atomic(SPEC_AT).store(Place { page: 0, len: bytes.len() as u64 }.word(), Ordering::Release);
        let memory = Self { window, file, geometry };
        memory.ring().start().map_err(failed)?;
        memory.window.atomic(MAGIC_AT).store(MAGIC, Ordering::Release);
        Ok(memory)
    }

    /// Takes over what another engine left. `None`: there is no telling what it is, because that engine never
    /// got as far as a first record, or because it is damaged. An error is the system's, and says nothing
    /// about the memory.
    pub fn open(file: File) -> io::Result<Option<(Self, Spec, Record)>> {
        let head = Window::map(&file, PAGE)?;
        let atomic = |at| head.atomic(at).load(Ordering::Acquire);
        if atomic(MAGIC_AT) != MAGIC || atomic(TURN_AT) == 0 {
            return Ok(None);
        }
        let geometry = Geometry::new(atomic(OUTPUT_BYTES_AT));
        let place = Place::of(atomic(SPEC_AT));
        let len = usize::try_from(place.len).unwrap_or(usize::MAX).min(2 * STRINGS_LEN_MAX);
        let spec_at = geometry.end() + place.page * PAGE as u64;
        if file.metadata()?.len() < spec_at + len as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, spec_at)?;
        let window = Window::map(&file, geometry.window_len())?;
        let memory = Self { window, file, geometry };
        memory.ring().recover()?;
        Ok(Spec::decode(&bytes)
            .and_then(|spec| Ok((spec, memory.record()?)))
            .ok()
            .map(|(s, r)| (memory, s, r)))
    }

    /// For the keeper to hold.
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The same for a reader, which cannot write to it.
    pub fn open_for_reading(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// How many bytes of output it keeps.
    pub fn keeps(&self) -> u64 {
        self.window.atomic(OUTPUT_BYTES_AT).load(Ordering::Acquire)
    }

    pub fn ring(&self) -> Ring<'_> {
        Ring::new(&self.window, &self.file, self.geometry)
    }

    /// Makes this record the current one.
    pub fn publish(&self, record: &Record) {
        let mut bytes = record.encode();
        if bytes.len() > SLOT_LEN - LEN_LEN {
            // Texts are cut where they are made, so this is out of reach; and words of the past are what can
            // be spared.
            let bare = Record { events: Vec::new(), ..record.clone() };
            bytes = bare.encode();
        }
        let turn = self.window.atomic(TURN_AT).load(Ordering::Acquire) + 1;
        let slot = SLOT_AT[usize::from(turn % 2 == 1)];
        let len = u32::try_from(bytes.len()).expect("a slot's length");
        self.window.write(slot + LEN_LEN, &bytes);
        self.window.write(slot, &len.to_le_bytes());
        self.window.atomic(TURN_AT).store(turn, Ordering::Release);
    }

    fn record(&self) -> Result<Record, Error> {
        let turn = self.window.atomic(TURN_AT).load(Ordering::Acquire);
        let slot = SLOT_AT[usize::from(turn % 2 == 1)];
        let broken = || Error::new(Code::Failed, "a process's record is broken");
        let len = self.window.read(slot, LEN_LEN).ok_or_else(broken)?;
        let len = u32::from_le_bytes(<[u8; LEN_LEN]>::try_from(len).map_err(|_| broken())?) as usize;
        if len > SLOT_LEN - LEN_LEN {
            return Err(broken());
        }
        Record::decode(&self.window.read(slot + LEN_LEN, len).ok_or_else(broken)?)
    }

    /// How far the log of this process is.
    pub fn log_position(&self) -> LogPosition {
        let bytes =
            self.window.read(usize::try_from(LOG_AT).expect("small"), LOG_LEN).expect("in the first page");
        let words: Vec<u64> = (bytes.chunks_exact(8))
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .collect();
        let file = |at: usize| LogFile { inode: words[at], len: words[at + 1] };
        LogPosition { offset: words[0], lost: words[1], files: [file(2), file(4)] }
    }

    /// Notes how far it is: in one write within a page, which no kill cuts in two.
    pub fn set_log_position(&self, position: &LogPosition) -> io::Result<()> {
        let [out, err] = position.files;
        let words = [position.offset, position.lost, out.inode, out.len, err.inode, err.len];
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        self.file.write_all_at(&bytes, LOG_AT)
    }

    fn place(&self, word: usize) -> Place {
        Place::of(self.window.atomic(word).load(Ordering::Acquire))
    }

    fn launch_place(&self) -> Place {
        let (spec, launch) = (self.place(SPEC_AT), self.place(LAUNCH_AT));
        if launch.page == 0 { Place { page: spec.end(), ..launch } } else { launch }
    }

    fn offset(&self, place: Place) -> u64 {
        self.geometry.end() + place.page * PAGE as u64
    }

    /// Writes another spec beside the present one, which stays what it is until [`Memory::turn_to`].
    pub fn lay_spec(&self, spec: &Spec) -> io::Result<LaidSpec> {
        let bytes = spec.encode();
        let taken = [self.place(SPEC_AT), self.launch_place()];
        let place = Place::free(bytes.len(), 0, &taken).ok_or(io::ErrorKind::OutOfMemory)?;
        self.write(place, &bytes)?;
        Ok(LaidSpec(place))
    }

    /// Makes a spec that was laid the present one.
    pub fn turn_to(&self, LaidSpec(place): LaidSpec) {
        // The launch stays where it is, and says so before "behind the spec" has another meaning.
        self.window.atomic(LAUNCH_AT).store(self.launch_place().word(), Ordering::Release);
        self.window.atomic(SPEC_AT).store(place.word(), Ordering::Release);
    }

    /// Lays the launch of the next run where its child will find it.
    pub fn lay_launch(&self, launch: &Launch) -> io::Result<ByteRange> {
        let bytes = launch.encode().map_err(io::Error::other)?;
        let spec = self.place(SPEC_AT);
        let place = Place::free(bytes.len(), 1, &[spec]).ok_or(io::ErrorKind::OutOfMemory)?;
        self.write(place, &bytes)?;
        let is_behind = spec.page == 0 && place.page == spec.end();
        let word = if is_behind { Place { page: 0, ..place } } else { place };
        self.window.atomic(LAUNCH_AT).store(word.word(), Ordering::Release);
        Ok(ByteRange { offset: self.offset(place), len: bytes.len() as u64 })
    }

    fn write(&self, place: Place, bytes: &[u8]) -> io::Result<()> {
        let end = self.geometry.end() + place.end() * PAGE as u64;
        if self.file.metadata()?.len() < end {
            self.file.set_len(end)?;
        }
        self.file.write_all_at(bytes, self.offset(place))
    }

    /// The launch that was laid last, to say what a step of it was about.
    pub fn launch(&self) -> io::Result<Launch> {
        let place = self.launch_place();
        let mut bytes = vec![0; usize::try_from(place.len).unwrap_or(0).min(4 * STRINGS_LEN_MAX)];
        self.file.read_exact_at(&mut bytes, self.offset(place))?;
        let laid = Laid::find(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        laid.to_launch().map_err(io::Error::other)
    }

    /// Why the child of this run did not come to its exec; `None`: it did, or has not yet.
    pub fn failure(&self, run: u64) -> Option<Failure> {
        Failure::decode(&self.window.read(FAILURE_AT, FAILURE_LEN)?).filter(|f| f.run == run)
    }
}

/// How far the log of a process is. All zero, as in memory that knows of none: at the begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// Output before this offset is in the files, or lost.
    pub offset: u64,
    /// Bytes that are lost, in all.
    pub lost: u64,
    /// Of standard output and standard error, as they were then.
    pub files: [LogFile; 2],
}

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogFile {
    pub inode: u64,
    pub len: u64,
}

/// A spec that lies in the memory and is not yet the present one.
#[derive(Debug)]
#[must_use]
pub struct LaidSpec(Place);

/// Where a spec or a launch lies behind the ring: its first page, and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    page: u64,
    len: u64,
}

impl Place {
    /// Half a word each: 16 TiB of pages, 4 GiB of bytes.
    const HALF: u32 = 32;

    fn of(word: u64) -> Self {
        Self { page: word >> Self::HALF, len: word & u64::from(u32::MAX) }
    }

    fn word(self) -> u64 {
        self.page << Self::HALF | self.len
    }

    /// The first page behind it.
    fn end(self) -> u64 {
        self.page + self.len.div_ceil(PAGE as u64)
    }

    /// The first pages from `first` on that have room for so many bytes and are not taken.
    fn free(len: usize, first: u64, taken: &[Self]) -> Option<Self> {
        let len = u64::from(u32::try_from(len).ok()?);
        let begins = taken.iter().map(|t| t.end()).filter(|&end| end > first).chain([first]);
        let places = begins.map(|page| Self { page, len });
        places.filter(|p| taken.iter().all(|t| p.end() <= t.page || t.end() <= p.page)).min_by_key(|p| p.page)
    }
}

/// Rounded up to whole pages.
fn pages(len: usize) -> u64 {
    (len.div_ceil(PAGE) * PAGE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::fresh::fresh;
    use crate::wire::id::ProcessId;

    #[test]
    fn what_was_published_last_is_what_the_next_engine_reads() {
        let mut spec = Spec::new(["a"]);
        spec.output_bytes = 5000;
        let memory = Memory::create(&spec).unwrap();
        assert!(Memory::open(memory.file.try_clone().unwrap()).unwrap().is_none(), "no record yet");
        let mut record = fresh(ProcessId::new(), None, None);
        for run in 1..=5 {
            record.run = run;
            memory.publish(&record);
            let (_, spec_read, record_read) =
                Memory::open(memory.file.try_clone().unwrap()).unwrap().unwrap();
            assert_eq!((spec_read, record_read), (spec.clone(), record.clone()));
        }
    }

    #[test]
    fn a_launch_may_be_longer_than_the_last_one() {
        let memory = Memory::create(&Spec::new(["a"])).unwrap();
        for len in [1, 100_000, 10] {
            let mut launch = Launch::default();
            launch.argv.push(&[&"x".repeat(len)]).unwrap();
            let range = memory.lay_launch(&launch).unwrap();
            assert!(range.len > len as u64);
            assert_eq!(memory.launch().unwrap(), launch);
        }
    }

    #[test]
    fn another_spec_is_there_whole_or_not_at_all() {
        let spec = |len: usize| Spec::new(["x".repeat(len)]);
        let mut present = spec(10);
        let memory = Memory::create(&present).unwrap();
        memory.publish(&fresh(ProcessId::new(), None, None));
        let opened = || Memory::open(memory.file.try_clone().unwrap()).unwrap().unwrap().1;
        let mut launch = Launch::default();
        for (n, len) in [10, 9000, 10, 100_000, 5000, 9000, 1].into_iter().enumerate() {
            launch.argv.push(&[&"y".repeat(3000 * n)]).unwrap();
            let range = memory.lay_launch(&launch).unwrap();
            let mut before = vec![0; range.len as usize];
            memory.file.read_exact_at(&mut before, range.offset).unwrap();
            for more in [0, 20_000] {
                let next = spec(len + more);
                let laid = memory.lay_spec(&next).unwrap();
                assert_eq!(opened(), present, "an engine that ends here has changed nothing");
                memory.turn_to(laid);
                assert_eq!(opened(), next);
                present = next;
                // A child may read its launch at any time.
                let mut now = vec![0; range.len as usize];
                memory.file.read_exact_at(&mut now, range.offset).unwrap();
                assert!(now == before && memory.launch().unwrap() == launch);
            }
        }
        let len = memory.file.metadata().unwrap().len() - memory.geometry.end();
        assert!(len < 600_000, "places are used again: {len} bytes");
    }

    /// As it was laid out before a process could be given another spec, and as it still is until it is.
    #[test]
    fn the_words_of_a_first_spec_and_its_launch_are_bare_lengths() {
        let spec = Spec::new(["x".repeat(5000)]);
        let memory = Memory::create(&spec).unwrap();
        memory.publish(&fresh(ProcessId::new(), None, None));
        let mut launch = Launch::default();
        launch.argv.push(&["a"]).unwrap();
        let range = memory.lay_launch(&launch).unwrap();
        let word = |at| memory.window.atomic(at).load(Ordering::Acquire);
        assert_eq!((word(SPEC_AT), word(LAUNCH_AT)), (spec.encode().len() as u64, range.len));
        assert_eq!(range.offset, memory.geometry.end() + pages(spec.encode().len()));
        let (opened, read, _) = Memory::open(memory.file.try_clone().unwrap()).unwrap().unwrap();
        assert!(read == spec && opened.launch().unwrap() == launch);
        // Another spec, and the launch that is already there is still found.
        opened.turn_to(opened.lay_spec(&Spec::new(["b"])).unwrap());
        assert_eq!(memory.launch().unwrap(), launch);
    }

    #[test]
    fn the_position_of_a_log_stands_beside_the_rest() {
        let memory = Memory::create(&Spec::new(["a"])).unwrap();
        let record = fresh(ProcessId::new(), None, None);
        memory.publish(&record);
        assert_eq!(memory.log_position(), LogPosition::default());
        let file = |inode| LogFile { inode, len: u64::MAX };
        let position = LogPosition { offset: 7, lost: 8, files: [file(1), file(2)] };
        memory.set_log_position(&position).unwrap();
        assert_eq!((memory.log_position(), memory.record().unwrap()), (position, record));
        assert_eq!(memory.failure(1), None);
        assert!(LOG_AT as usize + LOG_LEN <= SLOT_AT[0] && LOG_AT as usize >= FAILURE_AT + FAILURE_LEN);
    }

    #[test]
    fn a_failure_belongs_to_its_run() {
        let memory = Memory::create(&Spec::new(["a"])).unwrap();
        assert_eq!(memory.failure(1), None);
        let failure = Failure { run: 2, step: crate::wire::keeper::Step::Exec, errno: 2 };
        memory.window.write(FAILURE_AT, &failure.encode());
        assert_eq!((memory.failure(1), memory.failure(2)), (None, Some(failure)));
    }
}
