//! A process that is not the keeper's child, but has outlived another one's: no SIGCHLD tells of its end, and
//! somebody else reaps it.

use std::os::fd::AsFd;

use crate::engine::process::input::Input;
use crate::engine::process::worker::Worker;
use crate::sys::pipe::{inode_of_both_ways, open_of};
use crate::sys::poll::PollFd;
use crate::sys::{clock, procfs};
use crate::wire::event::CAUSE_RECONCILER;
use crate::wire::keeper::Ended;
use crate::wire::leader::Leader;
use crate::wire::spec::Scope;
use crate::wire::time::Timestamp;

/// How long it is waited for that somebody reaps it, where its end cannot be seen before, ms.
const REAPED_MS: u64 = 1000;

impl Worker {
    /// Looks after a process that is not the keeper's child: its own end is all that is told of it.
    pub(super) fn look_after(&mut self) {
        let pid = self.record.pid.unwrap_or_default();
        self.tree.leader = Leader { pid, start_ticks: self.record.start_ticks.unwrap_or_default() };
        self.foreign = self.tree.leader.open();
        if self.foreign.is_none() {
            return self.lost();
        }
        self.reopen_pipes();
        self.resume_state();
    }

    /// It goes on writing into pipes that nobody of ours has: whoever of its tree has them lets us in.
    fn reopen_pipes(&mut self) {
        let leader = self.tree.leader.pid;
        // Of a run that was not stored: as it was given them, which nobody else does so.
        let given = || Some([inode_of_both_ways(leader, 1)?, inode_of_both_ways(leader, 2)?]);
        let Some(inodes) = self.record.pipes.or_else(given) else { return };
        self.record.pipes = Some(inodes);
        let pids = self.tree.pids(Scope::Tree);
        let open =
            |inode| [leader].into_iter().chain(pids.iter().copied()).find_map(|pid| open_of(pid, inode));
        let [stdout, stderr] = inodes.map(open);
        (self.pipes.stdout, self.pipes.stderr) = (stdout, stderr);
    }

    /// Its end, or, from then on, that it was reaped.
    pub(super) fn end_of_foreign(&self) -> PollFd<'_> {
        match &self.foreign {
            Some(process) if self.unreaped_until.is_some() => PollFd::hangup(process.as_fd()),
            Some(process) => PollFd::readable(process.as_fd()),
            None => PollFd::nothing(),
        }
    }

    /// It has ended. The kernel tells how, before it was reaped or (from 6.15 on) after that.
    pub(super) fn foreign_ended(&mut self) {
        let Some(process) = &self.foreign else { return self.unreaped_until = None };
        if !self.record.adopted {
            // The main process of one that went into the background: the keeper says how, if it is its
            // parent.
            self.foreign = None;
            return self.tell_main();
        }
        let Leader { pid, start_ticks } = self.tree.leader;
        // In this order: it may be reaped in between.
        let status = procfs::unreaped_status(pid, start_ticks).or_else(|| process.exit_status());
        let now = clock::now_ms();
        match status {
            Some(status) => self.saw_end(status),
            None if self.unreaped_until.is_some_and(|until| until <= now) => self.lost(),
            None if procfs::stat(pid).is_none_or(|stat| stat.start_ticks != start_ticks) => self.lost(),
            None => self.unreaped_until = Some(self.unreaped_until.unwrap_or(now + REAPED_MS)),
        }
    }

    fn saw_end(&mut self, status: i32) {
        self.forget_foreign();
        // What it used was not told.
        let ended = Ended {
            pid: self.tree.leader.pid,
            status,
            user_us: 0,
            system_us: 0,
            max_rss_kib: 0,
            at: Timestamp::now().0,
            at_mono: clock::now_ms(),
        };
        let exit = self.exit_of(&ended);
        self.apply_quietly(Input::Exited(exit));
    }

    /// The run has ended, and nobody has seen how.
    pub(super) fn lost(&mut self) {
        self.forget_foreign();
        self.apply(Input::Lost, CAUSE_RECONCILER);
    }

    fn forget_foreign(&mut self) {
        (self.foreign, self.unreaped_until) = (None, None);
        self.drain();
        self.probes.end();
        self.tree.leader_gone = true;
        self.pipes.run_ended(self.record.run);
        self.close_pipes_if_done();
    }
}
