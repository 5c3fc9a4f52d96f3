//! The keeper's side of a spawn: pipes, fork, and what to keep. Policy-free; a failure names its step.
//!
//! The life of a spawn, from the decision to the record of it:
//!
//! 1. `engine/process/state.rs` decides: the record says starting, with the next run, and the action is
//!    `Spawn`. (How the wish for it comes there is told in `src/lib.rs`.)
//! 2. `engine/process/worker/mod.rs` has the record published, then acts (`try_spawn`): not before those
//!    that it needs are ready (`engine/process/worker/needs.rs`) and its hook is over
//!    (`engine/process/worker/hooks.rs`).
//! 3. `engine/process/prepare.rs`, which `engine/process/worker/prepare.rs` calls, resolves program,
//!    environment and user; the worker lays the launch into the process's memory (`engine/memory.rs`) and
//!    makes the cgroup and the pipe that closes at the exec.
//! 4. The worker sends `Spawn` with these descriptors to the keeper (`wire/keeper.rs` has the messages).
//! 5. `keeper/mod.rs` receives it and calls [`Spawner::spawn`], here: the pipes of the output are made.
//! 6. `keeper/spawn_slots.rs` puts the child's descriptors at low numbers, if a slot is free.
//! 7. `sys/child.rs` clones the child, into its cgroup if it has one. First of all it puts itself on
//!    record (`keeper/spawn_log.rs`).
//! 8. `keeper/child.rs` is the child: session, limits, user, descriptors, then the exec. A step that fails is
//!    written to the process's memory.
//! 9. `keeper/table.rs` keeps the pid and the read ends of the pipes; `keeper/outbox.rs` reports the pid to
//!    the engine, with the pidfd and these ends. There `engine/mod.rs` hands it to the worker.
//! 10. The pipe of step 3 closes: the worker looks whether there is a failure in the memory, and tells
//!     `engine/process/state.rs`, which puts running, or the failure, on record.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::keeper::child::{self, ChildSetup};
use crate::keeper::notice::Notice;
use crate::keeper::spawn_log::{NewRun, SpawnLog};
use crate::keeper::spawn_slots::{ChildFds, SpawnSlots};
use crate::sys::child::{Fork, SingleThreaded, fork, fork_with_low};
use crate::sys::pipe::pipe;
use crate::sys::signal::Ignored;
use crate::wire::keeper::{ByteRange, Step};
use crate::wire::spawn_record::spawn_log_path;

/// What every spawn uses.
#[derive(Debug)]
pub struct Spawner {
    alone: SingleThreaded,
    null: File,
    nofile: (u64, u64),
    ignored: Ignored,
    spawn_slots: Option<SpawnSlots>,
    /// None: nobody is put on record.
    spawns: Option<SpawnLog>,
}

/// A child that was just spawned, and our ends of its pipes.
#[derive(Debug)]
pub struct SpawnedChild {
    pub pid: u32,
    pub pidfd: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What the engine gives with a spawn.
#[derive(Debug)]
pub struct Given {
    /// The child keeps it until its exec: that it closes tells the engine.
    pub until_exec: Option<OwnedFd>,
    /// The cgroup that the child starts in.
    pub cgroup: Option<OwnedFd>,
    /// What it executes, if that is not at a path.
    pub program: Option<OwnedFd>,
    /// None: /dev/null.
    pub stdin: Option<File>,
}

impl Spawner {
    /// `nofile`: the limit of descriptors children get unless they ask for another. Made early, while low
    /// numbers are free.
    pub fn new(nofile: (u64, u64)) -> io::Result<Self> {
        let (alone, null) = (SingleThreaded::claim()?, File::open("/dev/null")?);
        let ignored = Ignored::now();
        ignored.block();
        Ok(Self { alone, null, nofile, ignored, spawn_slots: SpawnSlots::new(nofile.1), spawns: None })
    }

    /// Spawns are on record from now on, beside this socket. Without that the service works, and a later one
    /// may not know all that is left of it.
    pub fn record_spawns(&mut self, socket: &Path, notify: &mut dyn FnMut(Notice)) {
        let path = spawn_log_path(socket);
        match SpawnLog::open(&path) {
            Ok(spawns) => self.spawns = Some(spawns),
            Err(e) => {
                let text = format!("spawns are not on record: cannot open {}: {e}", path.display());
                notify(Notice::Failure(text));
            }
        }
    }

    /// The same after somebody has taken away what is beside the socket.
    pub fn renew_log(&mut self, socket: &Path) -> io::Result<()> {
        self.spawns.as_mut().map_or(Ok(()), |spawns| spawns.renew(&spawn_log_path(socket)))
    }

    /// The token that lets the keeper fork its engine.
    pub fn alone(&self) -> &SingleThreaded {
        &self.alone
    }

    /// Readable when there is something to [`clear_left_slots`](Self::clear_left_slots).
    pub fn have_left(&self) -> Option<BorrowedFd<'_>> {
        self.spawn_slots.as_ref().map(SpawnSlots::have_left)
    }

    /// Children have their descriptors; what was kept for them is closed.
    pub fn clear_left_slots(&mut self) {
        if let Some(spawn_slots) = &mut self.spawn_slots {
            spawn_slots.clear_left_slots();
        }
    }

    /// A child was reaped: nothing is kept for it any more.
    pub fn reaped(&mut self, pid: u32) {
        if let Some(spawns) = &mut self.spawns {
            spawns.ended(pid);
        }
        if let Some(spawn_slots) = &mut self.spawn_slots {
            spawn_slots.reaped(pid);
        }
    }

    /// Starts the program that lies at `launch` in `memory`. Returns before it executes.
    pub fn spawn(
        &mut self,
        memory: &File,
        new_run: NewRun,
        launch: ByteRange,
        given: &Given,
    ) -> Result<SpawnedChild, (Step, io::Error)> {
        let new_pipe = || pipe().map_err(|e| (Step::Pipe, e));
        let ((stdout, child_out), (stderr, child_err)) = (new_pipe()?, new_pipe()?);
        let fds = ChildFds {
            memory,
            stdout: child_out.as_fd(),
            stderr: child_err.as_fd(),
            until_exec: given.until_exec.as_ref().map(AsFd::as_fd),
        };
        // Where there is no room on record, it is spawned all the same: a full disk holds nobody up.
        let setup = ChildSetup {
            fds,
            program: given.program.as_ref().map(AsFd::as_fd),
            launch,
            run: new_run.run,
            spawn: self.spawns.as_mut().and_then(|spawns| spawns.expect(new_run).ok()),
            stdin: given.stdin.as_ref().unwrap_or(&self.null),
            nofile: self.nofile,
            ignored: self.ignored,
        };
        let cgroup = given.cgroup.as_ref().map(AsFd::as_fd);
        let is_on_record = setup.spawn.is_some();
        // A slot has no number for either: such a child, which is rare, gets a copy of everything.
        let is_plain = given.program.is_none() && given.stdin.is_none();
        let slots = self.spawn_slots.as_mut().filter(|_| is_plain);
        let filled = slots.and_then(|spawn_slots| Some((spawn_slots.fill(&fds)?, spawn_slots)));
        let spawned = match filled {
            None => fork(&self.alone, cgroup).map(|fork| match fork {
                Fork::Child => {
                    let Ok(()) = child::record(&setup).map_err(|e| child::refuse(&setup, &e));
                    child::run(&setup)
                }
                Fork::Parent { pid, pidfd } => (pid, pidfd),
            }),
            Some((at, spawn_slots)) => fork_in_slot(&self.alone, cgroup, spawn_slots, at, &setup),
        };
        let (pid, pidfd) = spawned.map_err(|e| (Step::Fork, e))?;
        if let Some(spawns) = self.spawns.as_mut().filter(|_| is_on_record) {
            spawns.spawned(pid);
        }
        Ok(SpawnedChild { pid, pidfd, stdout, stderr })
    }
}

/// Forks a child into this slot, which is filled.
fn fork_in_slot(
    alone: &SingleThreaded,
    cgroup: Option<BorrowedFd<'_>>,
    spawn_slots: &mut SpawnSlots,
    at: usize,
    setup: &ChildSetup<'_>,
) -> io::Result<(u32, OwnedFd)> {
    let own = ChildSetup { fds: spawn_slots.fds(at), stdin: spawn_slots.null(), ..*setup };
    let first = || child::record(&own);
    match fork_with_low(alone, cgroup, spawn_slots.first_high(), first, |e| child::refuse(&own, &e)) {
        Ok(Fork::Child) => {
            spawn_slots.leave(at);
            child::run(&own)
        }
        Ok(Fork::Parent { pid, pidfd }) => {
            spawn_slots.take(at, pid);
            Ok((pid, pidfd))
        }
        Err(e) => {
            spawn_slots.clear(at);
            Err(e)
        }
    }
}
