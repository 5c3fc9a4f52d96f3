//! A spawn on record: what a child writes before anything else into a file beside the socket, so that a
//! service that begins knows whom an earlier one has spawned, whatever became of everybody since.
//!
//! A record is 64 bytes, all numbers little endian, and never torn unseen: it ends with a sum over the rest.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::sys::{procfs, system};
use crate::wire::id::ProcessId;

/// The length of a record, in bytes.
pub const RECORD_LEN: usize = 64;
/// No more of a file of records is read, in bytes: what 100,000 take.
pub const LOG_LEN_MAX: u64 = 100_000 * RECORD_LEN as u64;
/// Where the sum begins.
const SUM_AT: usize = 60;

/// The file of these records that belongs to a socket.
#[must_use]
pub fn spawn_log_path(socket: &Path) -> PathBuf {
    let mut path = socket.to_owned();
    path.as_mut_os_string().push(".spawns");
    path
}

/// Whether what was opened is a file that nobody else could write to: others' records are not believed.
pub fn is_trusted(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    Ok(meta.is_file() && meta.uid() == system::euid() && meta.mode() & 0o022 == 0)
}

/// One that was spawned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnRecord {
    /// Counts all spawns at this socket.
    pub sequence: u32,
    /// Of which boot this is, see [`this_boot`].
    pub boot: u32,
    /// Whose database knows it; nil: the engine did not say.
    pub service: Uuid,
    pub id: ProcessId,
    pub run: u32,
    /// Just before the clone, ns since boot.
    pub before: u64,
    pub pid: u32,
    /// How much later this was written, µs.
    pub age_us: u32,
}

impl SpawnRecord {
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.sequence.to_le_bytes());
        put(&self.boot.to_le_bytes());
        put(self.service.as_bytes());
        put(self.id.as_bytes());
        put(&self.run.to_le_bytes());
        put(&self.before.to_le_bytes());
        put(&self.pid.to_le_bytes());
        put(&self.age_us.to_le_bytes());
        let sum = sum(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None`: nobody has written it, or not to its end.
    #[must_use]
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        let sequence = u32::from_le_bytes(take(&mut rest)?);
        let boot = u32::from_le_bytes(take(&mut rest)?);
        let service = Uuid::from_bytes(take(&mut rest)?);
        let id = ProcessId::from_bytes(take(&mut rest)?);
        let run = u32::from_le_bytes(take(&mut rest)?);
        let before = u64::from_le_bytes(take(&mut rest)?);
        let pid = u32::from_le_bytes(take(&mut rest)?);
        let age_us = u32::from_le_bytes(take(&mut rest)?);
        let is_whole = u32::from_le_bytes(take(&mut rest)?) == sum(&bytes[..SUM_AT]);
        is_whole.then_some(Self { sequence, boot, service, id, run, before, pid, age_us })
    }

    /// Whether the process that has this number now, and started then (in clock ticks since boot), is the one
    /// that was spawned.
    #[must_use]
    pub fn is(&self, start_ticks: u64) -> bool {
        let written = self.before.saturating_add(u64::from(self.age_us).saturating_mul(1000) + 999);
        (self.first_ticks()..=ticks(written)).contains(&start_ticks)
    }

    /// It started no earlier than that, in clock ticks since boot.
    #[must_use]
    pub fn first_ticks(&self) -> u64 {
        ticks(self.before)
    }
}

fn ticks(ns: u64) -> u64 {
    ns / (1_000_000_000 / system::ticks_per_second())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (now, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*now)
}

/// Tells this boot of the machine from others; 0 where the kernel does not say.
#[must_use]
pub fn this_boot() -> u32 {
    let id = procfs::boot_id();
    if id.is_empty() { 0 } else { sum(id.as_bytes()) }
}

/// FNV-1a: no proof against anybody, but it tells a record from half of one.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum: u32, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SpawnRecord {
        SpawnRecord {
            sequence: 7,
            boot: this_boot(),
            service: Uuid::from_bytes([3; 16]),
            id: ProcessId::new(),
            run: 9,
            before: 12_345_678_901,
            pid: 4711,
            age_us: 20_000,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_half_of_one_is_none() {
        let spawn = example();
        let bytes = spawn.encode();
        assert_eq!(SpawnRecord::decode(&bytes), Some(spawn));
        assert_eq!(SpawnRecord::decode(&[0; RECORD_LEN]), None, "a place that nobody has written to");
        for at in 0..RECORD_LEN {
            let mut torn = bytes;
            torn[at..].fill(0);
            assert!(torn == bytes || SpawnRecord::decode(&torn).is_none(), "the first {at} bytes alone");
        }
    }

    #[test]
    fn a_number_that_was_used_again_is_not_taken_for_the_one_that_was_spawned() {
        let spawn = SpawnRecord { before: 50_000_000_000, ..example() };
        let per_second = system::ticks_per_second();
        let start = 50 * per_second;
        assert!(spawn.is(start) && spawn.is(start + per_second / 50));
        assert!(!spawn.is(start - 1) && !spawn.is(start + 1 + per_second / 50));
    }
}
