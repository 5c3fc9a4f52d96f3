//! The record of spawns beside the socket, read by the engine: who was spawned, whatever became of it since.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys::pidfd::PidFd;
use crate::sys::{O_NOFOLLOW, O_NONBLOCK, procfs};
use crate::wire::id::ProcessId;
use crate::wire::leader::Leader;
use crate::wire::spawn_record::{
    LOG_LEN_MAX, RECORD_LEN, SpawnRecord, is_trusted, spawn_log_path, this_boot,
};

/// Where the records are.
#[derive(Debug)]
pub struct Spawns(PathBuf);

impl Spawns {
    #[must_use]
    pub fn beside(socket: &Path) -> Self {
        Self(spawn_log_path(socket))
    }

    /// Those of this boot, the first one first. Of a file that cannot be read to its end, what can.
    #[must_use]
    pub fn all(&self) -> Vec<SpawnRecord> {
        let boot = this_boot();
        let mut bytes = Vec::new();
        if let Ok(file) = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&self.0)
            && is_trusted(&file).unwrap_or(false)
        {
            let _ = (&file).take(LOG_LEN_MAX).read_to_end(&mut bytes);
        }
        let all = bytes.as_chunks::<RECORD_LEN>().0.iter().filter_map(SpawnRecord::decode);
        let mut spawns: Vec<_> = all.filter(|spawn| boot != 0 && spawn.boot == boot).collect();
        spawns.sort_by_key(|spawn| spawn.sequence);
        spawns
    }

    /// The child of this run, which the keeper says had this number. One that was reaped before anybody could
    /// look at it is known by its record: its number still names its group and its session, and whoever is
    /// in these started no earlier than that says.
    #[must_use]
    pub fn leader(&self, id: ProcessId, run: u64, pid: u32, pidfd: Option<&PidFd>) -> Leader {
        let seen = pidfd.map_or_else(Leader::default, |pidfd| Leader::of(pid, pidfd));
        if seen.pid != 0 || pid == 0 {
            return seen;
        }
        let is_it = |s: &&SpawnRecord| s.id == id && u64::from(s.run) == run && s.pid == pid;
        let start_ticks = self.all().iter().rev().find(is_it).map_or(0, |spawn| {
            let alive = procfs::stat(pid).map(|stat| stat.start_ticks).filter(|&ticks| spawn.is(ticks));
            alive.unwrap_or_else(|| spawn.first_ticks())
        });
        Leader { pid, start_ticks }
    }
}
