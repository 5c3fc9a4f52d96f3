//! What the keeper holds of each process: its memory, its pipes, its number, and its end until the engine has
//! it.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::OwnedFd;

use crate::keeper::spawn::SpawnedChild;
use crate::wire::id::ProcessId;
use crate::wire::keeper::{Ended, Open};

/// Room made at the start, so that the table rarely grows later.
const CAPACITY: usize = 1024;
/// How many ends of orphans are remembered: as many programs may put themselves into the background and end
/// there at once before the engine has heard of the first.
const ORPHANS_MAX: usize = 64;

#[derive(Debug)]
pub struct Held {
    pub memory: File,
    pub run: u64,
    /// 0: nothing runs.
    pub pid: u32,
    /// Read ends, kept until the engine has acknowledged the end of the run.
    pub pipes: Option<(OwnedFd, OwnedFd)>,
    /// The end of the run, until it is acknowledged.
    pub ended: Option<Ended>,
    /// Where the process says that it is ready, if it does.
    pub notify: Option<OwnedFd>,
}

impl Held {
    /// Which descriptors a listing sends.
    pub fn open(&self) -> Open {
        match (&self.pipes, self.pid) {
            (None, _) => Open::Memory,
            (Some(_), 0) => Open::Pipes,
            (Some(_), _) => Open::Running,
        }
    }
}

/// All processes, by id and by the number of their present run.
#[derive(Debug)]
pub struct Table {
    held: HashMap<ProcessId, Held>,
    by_pid: HashMap<u32, ProcessId>,
    /// The last ends of processes that are none of these, the newest at the end.
    orphans: VecDeque<Ended>,
}

impl Table {
    pub fn new() -> Self {
        Self {
            held: HashMap::with_capacity(CAPACITY),
            by_pid: HashMap::with_capacity(CAPACITY),
            orphans: VecDeque::new(),
        }
    }

    /// Holds a process's memory from now on. One that is held already keeps what it has.
    pub fn hold(&mut self, id: ProcessId, memory: File) {
        self.held.entry(id).or_insert(Held {
            memory,
            run: 0,
            pid: 0,
            pipes: None,
            ended: None,
            notify: None,
        });
    }

    /// Holds this socket of it too, instead of one before.
    pub fn hold_notify(&mut self, id: ProcessId, socket: OwnedFd) {
        if let Some(held) = self.held.get_mut(&id) {
            held.notify = Some(socket);
        }
    }

    pub fn get(&self, id: ProcessId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// Holds what another program held in this process.
    pub fn restore(&mut self, id: ProcessId, held: Held) {
        if held.pid != 0 {
            self.by_pid.insert(held.pid, id);
        }
        self.held.insert(id, held);
    }

    pub fn iter(&self) -> impl Iterator<Item = (ProcessId, &Held)> {
        self.held.iter().map(|(id, held)| (*id, held))
    }

    pub fn ids(&self) -> Vec<ProcessId> {
        self.held.keys().copied().collect()
    }

    /// Notes a child that was just spawned; returns its pidfd for the engine.
    pub fn spawned(&mut self, id: ProcessId, run: u64, spawned: SpawnedChild) -> OwnedFd {
        let SpawnedChild { pid, pidfd, stdout, stderr } = spawned;
        if let Some(held) = self.held.get_mut(&id) {
            held.run = run;
            held.pid = pid;
            held.pipes = Some((stdout, stderr));
            held.ended = None;
            self.by_pid.insert(pid, id);
        }
        pidfd
    }

    /// Whether this is its present run.
    pub fn is_run(&self, id: ProcessId, run: u64) -> bool {
        self.held.get(&id).is_some_and(|held| held.run == run)
    }

    /// Its run is of this process from here on. False: that one is another's.
    pub fn set_main(&mut self, id: ProcessId, pid: u32) -> bool {
        if self.by_pid.get(&pid).is_some_and(|of| *of != id) {
            return false;
        }
        self.unset_main(id);
        let Some(held) = self.held.get_mut(&id) else { return false };
        (held.pid, held.ended) = (pid, None);
        self.by_pid.insert(pid, id);
        true
    }

    /// The process of its run is not there any more, as far as we are to know.
    pub fn unset_main(&mut self, id: ProcessId) {
        if let Some(held) = self.held.get_mut(&id) {
            self.by_pid.remove(&held.pid);
            held.pid = 0;
        }
    }

    pub fn orphan_ended(&mut self, ended: Ended) {
        if self.orphans.len() == ORPHANS_MAX {
            self.orphans.pop_front();
        }
        self.orphans.push_back(ended);
    }

    /// How an orphan of this number has ended, the latest of them.
    pub fn take_orphan(&mut self, pid: u32) -> Option<Ended> {
        let at = self.orphans.iter().rposition(|ended| ended.pid == pid)?;
        self.orphans.remove(at)
    }

    /// Notes the end of the run of this process; `None`: it is an orphan's.
    pub fn ended(&mut self, ended: Ended) -> Option<ProcessId> {
        let id = self.by_pid.remove(&ended.pid)?;
        let held = self.held.get_mut(&id)?;
        held.pid = 0;
        held.ended = Some(ended);
        Some(id)
    }

    /// The engine has recorded the end of this run and read its pipes.
    pub fn acknowledge(&mut self, id: ProcessId, run: u64) {
        if let Some(held) = self.held.get_mut(&id)
            && held.run == run
            && held.pid == 0
        {
            held.ended = None;
            held.pipes = None;
        }
    }

    /// Drops what does not run.
    pub fn forget(&mut self, id: ProcessId) {
        if self.held.get(&id).is_some_and(|h| h.pid == 0) {
            self.held.remove(&id);
        }
    }

    /// Numbers of all that run.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.by_pid.keys().copied()
    }

    pub fn is_running(&self) -> bool {
        !self.by_pid.is_empty()
    }
}
