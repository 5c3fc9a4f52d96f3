//! How a child gets its descriptors without a copy of the keeper's table, which has three for each running
//! process.
//!
//! A child starts with the keeper's own table and at once copies the low numbers of it, to which the keeper
//! has copied what the child needs. A slot is a few such numbers. From the fork on, the keeper leaves them
//! alone until the child says that it has left (a word in shared memory, and a byte in a pipe to wake the
//! keeper) or is reaped; then they mean /dev/null again. That must not take long, since as long as the keeper
//! has the ends of a child's pipes, nobody sees them close. Where all slots are taken, and where there are no
//! slots, a child starts with a copy of everything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::Ordering;

use crate::sys::child::can_fork_with_low;
use crate::sys::descriptor::replace;
use crate::sys::memory::{self, PAGE, Window};
use crate::sys::pipe::pipe;
use crate::sys::socket::set_nonblocking;

/// How many children can be on their way at once: starting 200 with one command, on two processors, found one
/// free each time. With four numbers each, and some that somebody else holds, they fit into the 64 that a
/// table has without an allocation.
const SLOTS: usize = 12;
/// How many of the bytes that children write are read at once. What is left wakes the keeper again.
const LEFT_LEN: usize = 256;
/// Numbers from here on are not low: copying so many that something else holds would be no gain.
const LOW_END: RawFd = 256;
/// With fewer descriptors than this there are none to spare, and few to copy.
const NOFILE_MIN: u64 = 1024;

/// Numbers of the keeper's at which a child finds what it needs.
#[derive(Debug)]
struct SpawnSlot {
    memory: File,
    stdout: File,
    stderr: File,
    /// /dev/null if there is none.
    until_exec: File,
    taken: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Its numbers mean /dev/null.
    No,
    /// They are for a child that is about to be forked.
    Filled,
    /// They are this child's.
    By(u32),
}

/// What a child needs: its process's memory, its ends of the pipes, and what it keeps until its exec.
#[derive(Clone, Copy, Debug)]
pub struct ChildFds<'a> {
    pub memory: &'a File,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    pub until_exec: Option<BorrowedFd<'a>>,
}

/// All slots. The keeper's loop owns it.
#[derive(Debug)]
pub struct SpawnSlots {
    null: File,
    slots: Vec<SpawnSlot>,
    /// A word for each slot: 1 when the child has left it.
    left: Window,
    /// Where children write that they have left, one of the low numbers, and where the keeper reads it.
    tell: File,
    have_left: File,
    first_high: u32,
}

impl SpawnSlots {
    /// `None` where there cannot be one. `nofile_max`: how many descriptors the keeper may have.
    pub fn new(nofile_max: u64) -> Option<Self> {
        if nofile_max < NOFILE_MIN || !can_fork_with_low() {
            return None;
        }
        Self::make().ok().filter(|spawn_slots| spawn_slots.first_high <= LOW_END.cast_unsigned())
    }

    fn make() -> io::Result<Self> {
        // Each takes the lowest number that is free.
        let null = File::open("/dev/null")?;
        let (have_left, tell) = pipe()?;
        set_nonblocking(tell.as_fd(), true)?;
        let slot = |_| {
            let [memory, stdout, stderr, until_exec] =
                [null.try_clone()?, null.try_clone()?, null.try_clone()?, null.try_clone()?];
            Ok(SpawnSlot { memory, stdout, stderr, until_exec, taken: Holder::No })
        };
        let slots: Vec<SpawnSlot> = (0..SLOTS).map(slot).collect::<io::Result<_>>()?;
        let left = Window::map(&memory::memfd_create(c"provost-slots", PAGE as u64)?, PAGE)?;
        let numbers = slots.iter().flat_map(SpawnSlot::numbers).chain([null.as_fd(), tell.as_fd()]);
        let highest = numbers.map(|fd| fd.as_raw_fd()).max().unwrap_or_default();
        let first_high = highest.cast_unsigned() + 1;
        Ok(Self { null, slots, left, tell: tell.into(), have_left: have_left.into(), first_high })
    }

    /// Readable when a child has left.
    pub fn have_left(&self) -> BorrowedFd<'_> {
        self.have_left.as_fd()
    }

    /// The numbers from here on are not for children.
    pub fn first_high(&self) -> u32 {
        self.first_high
    }

    /// /dev/null, for children to read.
    pub fn null(&self) -> &File {
        &self.null
    }

    /// A slot with everything in it; `None`: all are taken, or it could not be filled.
    pub fn fill(&mut self, fds: &ChildFds<'_>) -> Option<usize> {
        // In a burst of spawns the keeper is not woken between them.
        self.clear_left();
        let at = self.slots.iter().position(|slot| slot.taken == Holder::No)?;
        self.left.atomic(offset_of(at)).store(0, Ordering::Relaxed);
        let slot = &mut self.slots[at];
        slot.taken = Holder::Filled;
        if slot.fill(fds).is_err() {
            self.clear(at);
            return None;
        }
        Some(at)
    }

    /// What is in this slot, by the numbers that the child will have too.
    pub fn fds(&self, at: usize) -> ChildFds<'_> {
        let SpawnSlot { memory, stdout, stderr, until_exec, .. } = &self.slots[at];
        let until_exec = Some(until_exec.as_fd());
        ChildFds { memory, stdout: stdout.as_fd(), stderr: stderr.as_fd(), until_exec }
    }

    /// This child uses it.
    pub fn take(&mut self, at: usize, pid: u32) {
        self.slots[at].taken = Holder::By(pid);
    }

    /// For the child, as soon as it has descriptors of its own.
    pub fn leave(&self, at: usize) {
        self.left.atomic(offset_of(at)).store(1, Ordering::Release);
        // A keeper that is gone needs no waking, and a pipe that is full, which nobody waits for, wakes it as
        // well.
        let _ = (&self.tell).write(&[1]);
    }

    /// Children have said that they left.
    pub fn clear_left_slots(&mut self) {
        let _ = (&self.have_left).read(&mut [0; LEFT_LEN]);
        self.clear_left();
    }

    /// A child was reaped, whichever slot it used.
    pub fn reaped(&mut self, pid: u32) {
        if let Some(at) = self.slots.iter().position(|slot| slot.taken == Holder::By(pid)) {
            self.clear(at);
        }
    }

    fn clear_left(&mut self) {
        for at in 0..self.slots.len() {
            let has_left = || self.left.atomic(offset_of(at)).load(Ordering::Acquire) == 1;
            if matches!(self.slots[at].taken, Holder::By(_)) && has_left() {
                self.clear(at);
            }
        }
    }

    /// Nobody is in it any more.
    pub fn clear(&mut self, at: usize) {
        let slot = &self.slots[at];
        let cleared = slot.numbers().into_iter().try_for_each(|number| replace(number, self.null.as_fd()));
        // Replacing what is open by what is open does not fail; if it does, the slot is not used again.
        if cleared.is_ok() {
            self.slots[at].taken = Holder::No;
        }
    }
}

impl SpawnSlot {
    fn numbers(&self) -> [BorrowedFd<'_>; 4] {
        [self.memory.as_fd(), self.stdout.as_fd(), self.stderr.as_fd(), self.until_exec.as_fd()]
    }

    fn fill(&self, fds: &ChildFds<'_>) -> io::Result<()> {
        replace(self.memory.as_fd(), fds.memory.as_fd())?;
        replace(self.stdout.as_fd(), fds.stdout)?;
        replace(self.stderr.as_fd(), fds.stderr)?;
        fds.until_exec.map_or(Ok(()), |fd| replace(self.until_exec.as_fd(), fd))
    }
}

/// Where the word of a slot is.
fn offset_of(at: usize) -> usize {
    at * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    /// A slot's number, and the other end of what the child would have as its standard output.
    fn filled(spawn_slots: &mut SpawnSlots) -> Option<(usize, File)> {
        let memory = memory::memfd_create(c"test", PAGE as u64).unwrap();
        let (end, stdout): (OwnedFd, OwnedFd) = pipe().unwrap();
        let null = spawn_slots.null().try_clone().unwrap();
        let fds =
            ChildFds { memory: &memory, stdout: stdout.as_fd(), stderr: null.as_fd(), until_exec: None };
        let at = spawn_slots.fill(&fds)?;
        set_nonblocking(end.as_fd(), true).unwrap();
        Some((at, end.into()))
    }

    fn is_held(mut end: &File) -> bool {
        end.read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn what_a_child_needs_is_kept_until_it_leaves_or_is_reaped() {
        let mut spawn_slots = SpawnSlots::make().unwrap();
        let (first, first_end) = filled(&mut spawn_slots).unwrap();
        let (second, second_end) = filled(&mut spawn_slots).unwrap();
        spawn_slots.take(first, 101);
        spawn_slots.take(second, 102);
        assert_eq!(spawn_slots.fds(first).memory.metadata().unwrap().len(), PAGE as u64);
        spawn_slots.reaped(100);
        spawn_slots.clear_left();
        assert!(is_held(&first_end) && is_held(&second_end));
        spawn_slots.leave(second);
        spawn_slots.clear_left_slots();
        assert!(is_held(&first_end) && !is_held(&second_end), "the second has left");
        spawn_slots.reaped(101);
        assert!(!is_held(&first_end), "the first is dead");
        // What was said about a slot before counts no more.
        let (at, end) = filled(&mut spawn_slots).unwrap();
        spawn_slots.take(at, 103);
        spawn_slots.clear_left();
        assert!(is_held(&end));
    }

    #[test]
    fn a_full_set_takes_no_child_until_one_leaves() {
        let mut spawn_slots = SpawnSlots::make().unwrap();
        let all: Vec<_> = (0..SLOTS).map(|_| filled(&mut spawn_slots).unwrap()).collect();
        for (n, (at, _)) in all.iter().enumerate() {
            spawn_slots.take(*at, 100 + u32::try_from(n).unwrap());
        }
        assert!(filled(&mut spawn_slots).is_none());
        // Nobody reads what is told: it must not hold up a child.
        (0..100_000).for_each(|_| spawn_slots.leave(3));
        let (again, _) = filled(&mut spawn_slots).unwrap();
        assert_eq!(again, all[3].0);
        // A spawn that failed.
        spawn_slots.clear(again);
        assert_eq!(filled(&mut spawn_slots).unwrap().0, again);
    }

    #[test]
    fn a_child_gets_every_number_of_its_slot() {
        let spawn_slots = SpawnSlots::make().unwrap();
        let mut numbers = spawn_slots
            .slots
            .iter()
            .flat_map(SpawnSlot::numbers)
            .chain([spawn_slots.null.as_fd(), spawn_slots.tell.as_fd()]);
        assert!(numbers.all(|fd| fd.as_raw_fd().cast_unsigned() < spawn_slots.first_high()));
        assert!(SpawnSlots::new(64).is_none(), "where there are few descriptors, none are put aside");
    }
}
