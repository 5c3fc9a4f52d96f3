//! Lines of the audit that the store has not got yet, in the global memory that the keeper holds, behind the
//! feed: what was answered is on record over the death of an engine, also while no database works.
//!
//! A line has a slot until it is stored. A line that got its result is written into another slot before the
//! first one is free, so each is whole at every instant. Slots that became free are used again first: as long
//! as the store works, only a few are ever touched.
//!
//! ```text
//! 0  number of the line, 0: free      8  length, and behind it the line      2048  the next slot
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::sys::memory::Window;
use crate::wire::audit::{AuditLine, LINE_LEN_MAX};

/// The most lines that wait for a database: the oldest make room for more.
pub const LINES_MAX: usize = 4096;
const SLOT_LEN: usize = 2048;
const HEAD_LEN: usize = 12;
/// One more: the version of a line with its result needs a slot before the first one is free.
const LEN: usize = (LINES_MAX + 1) * SLOT_LEN;

const _: () = assert!(HEAD_LEN + LINE_LEN_MAX <= SLOT_LEN, "every line fits");

/// Shared by all threads.
#[derive(Debug)]
pub struct AuditMemory {
    window: Window,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    /// Where each line is, and whether with its result.
    used: BTreeMap<u64, (usize, bool)>,
    /// Free ones that were used before; then those from here on.
    free: Vec<usize>,
    unused_from: usize,
}

impl AuditMemory {
    /// Takes over what is behind `offset` in the global memory, or begins. Also the lines that are there.
    pub fn open(file: &File, offset: u64) -> io::Result<(Self, Vec<AuditLine>)> {
        let end = offset + LEN as u64;
        if file.metadata()?.len() < end {
            file.set_len(end)?;
        }
        let memory = Self { window: Window::map_known(file, offset, LEN)?, slots: Mutex::default() };
        let mut lines: BTreeMap<u64, AuditLine> = BTreeMap::new();
        for slot in touched(file, offset)? {
            let Some(line) = memory.line(slot) else { continue };
            let mut slots = memory.slots.lock();
            let free = slots.unused_from..slot;
            slots.free.extend(free);
            slots.unused_from = slot + 1;
            // Killed between the two versions of a line: the one with its result counts.
            let has_result = line.result.is_some();
            match slots.used.get(&line.seq).copied() {
                Some((_, true)) => memory.clear(&mut slots, slot),
                other => {
                    slots.used.insert(line.seq, (slot, has_result));
                    lines.insert(line.seq, line);
                    other.into_iter().for_each(|(before, _)| memory.clear(&mut slots, before));
                }
            }
        }
        Ok((memory, lines.into_values().collect()))
    }

    /// Keeps a line, instead of its version without a result if there is one.
    pub fn keep(&self, line: &AuditLine) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.next() else { return };
        let bytes = line.encode();
        let at = slot * SLOT_LEN;
        self.window.write(at + HEAD_LEN, &bytes);
        self.window.write(at + 8, &u32::try_from(bytes.len()).expect("a slot's length").to_le_bytes());
        self.window.atomic(at).store(line.seq, Ordering::Release);
        let before = slots.used.insert(line.seq, (slot, line.result.is_some()));
        before.into_iter().for_each(|(before, _)| self.clear(&mut slots, before));
        if slots.used.len() > LINES_MAX {
            let oldest = slots.used.pop_first();
            oldest.into_iter().for_each(|(_, (slot, _))| self.clear(&mut slots, slot));
        }
    }

    /// These are stored. What has changed meanwhile is not.
    pub fn stored(&self, lines: &[AuditLine]) {
        let mut slots = self.slots.lock();
        for line in lines {
            if let Some((slot, has_result)) = slots.used.get(&line.seq).copied()
                && has_result == line.result.is_some()
            {
                slots.used.remove(&line.seq);
                self.clear(&mut slots, slot);
            }
        }
    }

    fn clear(&self, slots: &mut Slots, slot: usize) {
        self.window.atomic(slot * SLOT_LEN).store(0, Ordering::Release);
        slots.free.push(slot);
    }

    fn line(&self, slot: usize) -> Option<AuditLine> {
        let at = slot * SLOT_LEN;
        let seq = self.window.atomic(at).load(Ordering::Acquire);
        if seq == 0 {
            return None;
        }
        let len = u32::from_le_bytes(<[u8; 4]>::try_from(self.window.read(at + 8, 4)?).ok()?);
        let len = usize::try_from(len).ok()?.min(SLOT_LEN - HEAD_LEN);
        AuditLine::decode(&self.window.read(at + HEAD_LEN, len)?).filter(|line| line.seq == seq)
    }
}

/// The slots that have a line. They are read from the file, where a slot that was never used takes no memory:
/// a look at its page in the window would make one.
fn touched(file: &File, offset: u64) -> io::Result<Vec<usize>> {
    const AT_A_TIME: usize = 32;
    let mut found = Vec::new();
    let mut buf = vec![0; AT_A_TIME * SLOT_LEN];
    for first in (0..=LINES_MAX).step_by(AT_A_TIME) {
        let count = AT_A_TIME.min(LINES_MAX + 1 - first);
        let some = &mut buf[..count * SLOT_LEN];
        file.read_exact_at(some, offset + (first * SLOT_LEN) as u64)?;
        let slots = some.chunks_exact(SLOT_LEN).zip(first..);
        found.extend(slots.filter(|(slot, _)| slot[..8] != [0; 8]).map(|(_, number)| number));
    }
    Ok(found)
}

impl Slots {
    fn next(&mut self) -> Option<usize> {
        self.free.pop().or_else(|| {
            let slot = self.unused_from;
            self.unused_from += 1;
            (slot <= LINES_MAX).then_some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    use crate::sys::memory::{PAGE, memfd_create};
    use crate::wire::time::Timestamp;

    fn line(seq: u64, result: Option<&str>) -> AuditLine {
        let result = result.map(str::to_owned);
        AuditLine { seq, at: Timestamp(seq), who: "uid 0".to_owned(), what: "stop web".to_owned(), result }
    }

    #[test]
    fn what_was_not_stored_is_there_for_the_next_engine() {
        let file = memfd_create(c"test", 0).unwrap();
        let open = || AuditMemory::open(&file, PAGE as u64).unwrap();
        let (memory, none) = open();
        assert_eq!(none, []);
        memory.keep(&line(1, None));
        memory.keep(&line(2, None));
        memory.keep(&line(2, Some("done")));
        let (memory, lines) = open();
        assert_eq!(lines, [line(1, None), line(2, Some("done"))]);
        // It got its result while it was being stored without.
        memory.keep(&line(1, Some("done")));
        memory.stored(&[line(1, None), line(2, Some("done"))]);
        assert_eq!(open().1, [line(1, Some("done"))]);
        memory.stored(&[line(1, Some("done"))]);
        assert_eq!(open().1, []);
        for seq in 3..1000 {
            memory.keep(&line(seq, Some("done")));
            memory.stored(&[line(seq, Some("done"))]);
        }
        assert!(memory.slots.lock().unused_from <= 3, "free ones are used again");
        drop(open());
        assert!(file.metadata().unwrap().blocks() * 512 < 10 * PAGE as u64, "what nobody used takes nothing");
    }

    #[test]
    fn the_oldest_make_room() {
        let file = memfd_create(c"test", 0).unwrap();
        let (memory, _) = AuditMemory::open(&file, 0).unwrap();
        let last = LINES_MAX as u64 + 10;
        for seq in 1..=last {
            memory.keep(&line(seq, None));
            memory.keep(&line(seq, Some("done")));
        }
        let (memory, lines) = AuditMemory::open(&file, 0).unwrap();
        assert_eq!((lines.len(), lines[0].seq, lines.last().unwrap().seq), (LINES_MAX, 11, last));
        memory.keep(&line(last + 1, None));
        assert_eq!(AuditMemory::open(&file, 0).unwrap().1[0].seq, 12);
    }

    #[test]
    fn the_longest_line_fits() {
        let file = memfd_create(c"test", 0).unwrap();
        let (memory, _) = AuditMemory::open(&file, 0).unwrap();
        let long = "\u{20ac}".repeat(2000);
        memory.keep(&AuditLine { who: long.clone(), what: long, ..line(u64::MAX, Some("done")) });
        let lines = AuditMemory::open(&file, 0).unwrap().1;
        assert_eq!((lines.len(), lines[0].result.as_deref()), (1, Some("done")));
        assert!(lines[0].what.starts_with('\u{20ac}'));
    }
}
