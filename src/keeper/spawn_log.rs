//! The file beside the socket in which all spawns are on record. Each child writes its own record, before it
//! gives up the keeper's descriptors and with them the lock of the place: so whoever has the lock knows of
//! everybody that was spawned. The keeper only says where; a place is given to another some time after the
//! process has ended, so the file is as long as many live at once.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use uuid::Uuid;

use crate::sys::descriptor::replace;
use crate::sys::{O_NOFOLLOW, clock, procfs};
use crate::wire::id::ProcessId;
use crate::wire::spawn_record::{LOG_LEN_MAX, RECORD_LEN, SpawnRecord, is_trusted, this_boot};

/// How many of those that have ended stay on record: by their numbers, their groups are known when the
/// service dies at the same time.
const ENDED_KEPT: usize = 1024;
/// How many places the file grows by: a page of it, which the file system has to have before a child
/// needs it.
const GROWTH: u32 = 64;

/// All spawns at this socket.
#[derive(Debug)]
pub struct SpawnLog {
    file: File,
    boot: u32,
    /// Of the next one.
    sequence: u32,
    /// How many places there are, and the first of those that nobody has used.
    len: u32,
    unused: u32,
    /// Where those are that live.
    living: BTreeMap<u32, u32>,
    /// Of earlier keepers, so nobody tells of their end.
    foreign: Vec<(u32, SpawnRecord)>,
    /// Places of those that have ended, the longest ago first.
    ended: VecDeque<u32>,
}

/// Which run is to be spawned.
#[derive(Clone, Copy, Debug)]
pub struct NewRun {
    pub service: Uuid,
    pub id: ProcessId,
    pub run: u64,
}

/// One that is about to be spawned.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'b> {
    file: &'b File,
    at: u32,
    spawn: SpawnRecord,
}

impl SpawnLog {
    /// To be called with the lock of the place held.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let mut bytes = Vec::new();
        (&file).take(LOG_LEN_MAX).read_to_end(&mut bytes)?;
        let (boot, (records, _)) = (this_boot(), bytes.as_chunks::<RECORD_LEN>());
        let spawns = |at: usize| SpawnRecord::decode(&records[at]).filter(|spawn| spawn.boot == boot);
        let all: Vec<(u32, Option<SpawnRecord>)> = (0..).zip((0..records.len()).map(spawns)).collect();
        let (foreign, mut ended): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, spawn)| spawn.is_some_and(|spawn| is_there(&spawn)));
        ended.sort_by_key(|&(at, spawn)| (spawn.map_or(0, |spawn| spawn.sequence), at));
        let sequences = foreign.iter().chain(&ended).filter_map(|(_, spawn)| Some((*spawn)?.sequence));
        let len = u32::try_from(records.len()).expect("not that many are read");
        Ok(Self {
            boot,
            sequence: sequences.max().map_or(1, |last| last.wrapping_add(1)),
            len,
            unused: len,
            living: BTreeMap::new(),
            foreign: foreign.into_iter().filter_map(|(at, spawn)| Some((at, spawn?))).collect(),
            // One without a record may be that of a child which had not come to it before an upgrade.
            ended: ended.into_iter().map(|(at, _)| at).collect(),
            file,
        })
    }

    /// Has the file at this path again, after somebody has taken it away.
    pub fn renew(&mut self, path: &Path) -> io::Result<()> {
        if fs::exists(path)? {
            return Ok(());
        }
        let file = open(path)?;
        let mut bytes = vec![0; self.len as usize * RECORD_LEN];
        self.file.read_exact_at(&mut bytes, 0)?;
        file.write_all_at(&bytes, 0)?;
        // At the same number: a child that has come no further yet writes there.
        replace(self.file.as_fd(), file.as_fd())
    }

    /// Somebody is about to be spawned. An error: there is no room for more.
    pub fn expect(&mut self, new_run: NewRun) -> io::Result<Expected<'_>> {
        let at = match self.place() {
            Some(at) => at,
            None => self.grow()?,
        };
        let NewRun { service, id, run } = new_run;
        let spawn = SpawnRecord {
            sequence: self.sequence,
            boot: self.boot,
            service,
            id,
            run: u32::try_from(run).unwrap_or(u32::MAX),
            before: clock::boot_ns(),
            pid: 0,
            age_us: 0,
        };
        Ok(Expected { file: &self.file, at, spawn })
    }

    /// The one that was expected last has this number.
    pub fn spawned(&mut self, pid: u32) {
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(at) = self.place() {
            if at == self.unused {
                self.unused += 1;
            } else {
                self.ended.pop_front();
            }
            self.living.insert(pid, at);
        }
    }

    /// It has ended.
    pub fn ended(&mut self, pid: u32) {
        self.ended.extend(self.living.remove(&pid));
    }

    /// Where the next one goes, if there is room.
    fn place(&self) -> Option<u32> {
        let reused = || self.ended.front().filter(|_| self.ended.len() > ENDED_KEPT).copied();
        Some(self.unused).filter(|&at| at < self.len).or_else(reused)
    }

    /// Makes room, which children find allocated: what they write does not fail for want of space.
    fn grow(&mut self) -> io::Result<u32> {
        let (there, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.foreign).into_iter().partition(|(_, spawn)| is_there(spawn));
        self.foreign = there;
        self.ended.extend(gone.into_iter().map(|(at, _)| at));
        if let Some(at) = self.place() {
            return Ok(at);
        }
        let end = u64::from(self.len) * RECORD_LEN as u64;
        self.file.write_all_at(&[0; GROWTH as usize * RECORD_LEN], end)?;
        self.len += GROWTH;
        Ok(self.unused)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW);
    let file = options.open(path)?;
    if is_trusted(&file)? { Ok(file) } else { Err(io::Error::other("it is no file of ours alone")) }
}

impl Expected<'_> {
    /// For the child, as its first act.
    pub fn record(&self) -> io::Result<()> {
        let age_us = clock::boot_ns().saturating_sub(self.spawn.before) / 1000;
        let age_us = u32::try_from(age_us).unwrap_or(u32::MAX);
        let spawn = SpawnRecord { pid: std::process::id(), age_us, ..self.spawn };
        self.file.write_all_at(&spawn.encode(), u64::from(self.at) * RECORD_LEN as u64)
    }
}

fn is_there(spawn: &SpawnRecord) -> bool {
    procfs::stat(spawn.pid).is_some_and(|stat| !stat.is_zombie() && spawn.is(stat.start_ticks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn new_run(run: u64) -> NewRun {
        NewRun { service: Uuid::nil(), id: ProcessId::new(), run }
    }

    fn record(spawns: &mut SpawnLog, run: u64) {
        let pid = std::process::id() + 1_000_000 + u32::try_from(run).unwrap();
        spawns.expect(new_run(run)).unwrap().record().unwrap();
        spawns.spawned(pid);
        spawns.ended(pid);
    }

    fn runs(path: &Path) -> Vec<u32> {
        let bytes = fs::read(path).unwrap();
        let mut spawns: Vec<_> = bytes.as_chunks().0.iter().filter_map(SpawnRecord::decode).collect();
        spawns.sort_by_key(|spawn| spawn.sequence);
        spawns.into_iter().map(|spawn| spawn.run).collect()
    }

    #[test]
    fn the_file_is_bounded_and_has_the_last_of_all_keepers() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spawns");
        let many = ENDED_KEPT as u64;
        let mut spawns = SpawnLog::open(&path).unwrap();
        (0..3 * many).for_each(|run| record(&mut spawns, run));
        let len = spawns.len;
        assert!(len <= u32::try_from(ENDED_KEPT).unwrap() + GROWTH + 1, "{len}");
        // The next keeper goes on behind it, and keeps what it found for as long.
        drop(spawns);
        let mut spawns = SpawnLog::open(&path).unwrap();
        (3 * many..4 * many).for_each(|run| record(&mut spawns, run));
        let kept = runs(&path);
        let last = u32::try_from(4 * many).unwrap();
        let wanted: Vec<u32> = (last - u32::try_from(kept.len()).unwrap()..last).collect();
        assert_eq!(kept, wanted, "the last ones, without a hole");
        assert!(kept.len() >= ENDED_KEPT);
    }

    #[test]
    fn who_lives_stays_on_record() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spawns");
        let mut spawns = SpawnLog::open(&path).unwrap();
        // This process stands for one of an earlier keeper, which it is not: it started long before.
        spawns.expect(new_run(1)).unwrap().record().unwrap();
        spawns.spawned(std::process::id());
        for run in 2..3 + 2 * ENDED_KEPT as u64 {
            record(&mut spawns, run);
        }
        assert_eq!(runs(&path)[0], 1, "the first one of all is still there");
        let all = runs(&path).len();
        assert!(all < 2 * ENDED_KEPT, "{all}");
    }
}
