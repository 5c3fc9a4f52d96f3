//! The first thing a process's thread does under a new engine: go on where the last one stopped, or an
//! earlier service. And the last thing it does before it waits for long.

use crate::engine::process::handle::Inherited;
use crate::engine::process::input::Input;
use crate::engine::process::pipes::Pipes;
use crate::engine::process::probe::notify::NotifySocket;
use crate::engine::process::state::{Action, Whom};
use crate::engine::process::tree::Rest;
use crate::engine::process::worker::Worker;
use crate::ring::Source;
use crate::sys::{clock, procfs, thread};
use crate::wire::error::{Code, Error};
use crate::wire::leader::Leader;
use crate::wire::process::State;
use crate::wire::spec::Scope;

/// How soon to look again whether an inherited child has executed, ms. The pipe that would tell ended with
/// the last engine.
const EXEC_LOOK_MS: u64 = 10;
use crate::wire::record::StopPhase;

impl Worker {
    /// Goes on where the last engine stopped.
    pub(super) fn resume(&mut self, inherited: Inherited) {
        // It has ended with the last engine, and is begun again where it is needed.
        self.record.hook = None;
        self.go_on(inherited);
        if self.is_read_still() {
            self.read(Source::Stdout);
        }
        self.note_end_of_tree();
    }

    fn go_on(&mut self, inherited: Inherited) {
        let Inherited { run, pid, leader, pipes, ended, cgroup, notify } = inherited;
        // Without it the process cannot be heard; nothing else depends on it.
        self.probes.notify = notify.and_then(|socket| NotifySocket::inherited(socket).ok());
        self.tree.cgroup = cgroup.or(self.tree.cgroup.take());
        if run != self.record.run {
            // The keeper has not heard of our run: whatever it still says is of the one before.
            match (ended, pipes) {
                // That one waits for the reader of the one before.
                (Some(_), Some((stdout, stderr))) if self.record.held => {
                    self.pipes = Pipes::new(stdout, stderr);
                    self.pipes.run_ended(run);
                }
                (Some(_), _) => self.acknowledge(run),
                (None, _) => {}
            }
            self.tree.cgroup = self
                .tree
                .cgroup
                .take()
                .or_else(|| self.process.context.cgroup_of_another_keeper(self.process.id));
            return if self.record.adopted { self.look_after() } else { self.resume_state() };
        }
        if let Some((stdout, stderr)) = pipes {
            self.pipes = Pipes::new(stdout, stderr);
        }
        // A main process that is another's child is known by what is on record alone.
        if self.record.first_ticks.is_none() && !self.record.leader_gone {
            self.know_leader(ended.map_or(pid, |ended| ended.pid), leader);
        }
        if self.record.adopted {
            return self.look_after();
        }
        if self.record.first_ticks.is_some() && !self.record.leader_gone {
            return self.resume_main(pid, ended);
        }
        if pid != 0 {
            if self.record.pid.is_none() {
                self.apply_quietly(Input::Spawned { pid });
            }
            self.look_for_exec();
        }
        match ended {
            Some(ended) if !self.record.leader_gone => return self.exited(ended),
            // On record already, only the keeper does not know that it is.
            Some(_) => self.pipes.run_ended(run),
            None if pid == 0 && self.pipes.stdout.is_some() => self.pipes.run_ended(run),
            // On record as running, and the keeper knows of nothing.
            None if pid == 0 && self.record.pid.is_some() => return self.lost(),
            None => {}
        }
        self.resume_state();
    }

    /// The child that the keeper has, or had: the last engine may not have come to look at it.
    fn know_leader(&mut self, pid: u32, seen: Leader) {
        let is_known = self.record.tree.is_some_and(|tree| tree.pid == pid);
        let leader = match seen.pid {
            0 if pid == 0 || is_known => return,
            0 => self.process.context.spawns.leader(self.process.id, self.record.run, pid, None),
            _ => seen,
        };
        self.tree.leader = leader;
        self.record.tree = Some(leader);
    }

    /// From the end of its tree on, the pipes are read for as long as it says.
    pub(super) fn note_end_of_tree(&mut self) {
        if matches!(self.record.state, State::Stopped | State::Scheduled | State::Failed | State::Backoff) {
            let spares = self.record.stop.scope.killed() != Scope::Tree;
            self.pipes.tree_ended(spares, clock::now_ms());
        }
    }

    pub(super) fn resume_state(&mut self) {
        self.end_left_probe();
        match self.record.state {
            State::Starting if self.record.pid.is_none() => {
                let failed = self.act(Action::Spawn);
                self.follow(failed);
            }
            State::Stopping => self.resume_stop(),
            State::Running => {
                self.note_others_again();
                self.watch_memory();
                self.start_probes();
            }
            State::Starting => self.note_others_again(),
            // The last engine may have ended before it could ask for that.
            State::Stopped | State::Failed => {
                let asked = self.record.ends_service.map(|code| Action::EndService { code });
                asked.into_iter().for_each(|action| drop(self.act(action)));
            }
            State::Scheduled | State::Backoff => {}
        }
    }

    /// Nobody knows whether the last engine's signal went out: once more does no harm.
    fn resume_stop(&mut self) {
        let stop = self.record.stop;
        let end = self.looked(stop.scope);
        if stop.phase == StopPhase::Asked {
            self.act(Action::Signal { signal: stop.signal, scope: stop.scope, whom: Whom::All });
        } else {
            self.act(Action::Kill { scope: stop.scope });
        }
        self.follow(end);
    }

    /// Sees whether a child that the last engine had asked for has executed by now. One that has ended has
    /// said why in its memory, and the keeper's word of its end follows.
    pub(super) fn look_for_exec(&mut self) {
        self.pipes.exec_look_at = None;
        if self.record.state != State::Starting {
            return;
        }
        let has_not_executed = |pid| procfs::stat(pid).is_some_and(|s| !s.has_executed);
        if self.record.pid.is_some_and(has_not_executed) {
            self.pipes.exec_look_at = Some(clock::now_ms() + EXEC_LOOK_MS);
        } else {
            self.executed();
        }
    }

    /// Never a second copy beside a first one, also where that was left alone.
    pub(super) fn refuse_beside_survivors(&self) -> Result<(), Error> {
        if matches!(self.tree.rest(Scope::Tree, &self.process.context.reserve), Rest::Empty) {
            return Ok(());
        }
        let label = self.process.label();
        let pids: Vec<_> = self.tree.pids(Scope::Tree).iter().take(8).map(u32::to_string).collect();
        Err(Error::new(
            Code::Refused,
            format!("{label} still runs from an earlier service: pid {}", pids.join(", ")),
        )
        .hint(format!("'provost stop {label}' ends what is left of it")))
    }

    /// It runs, and may do so for days: what it took to come to this is given back, once for each run.
    pub(super) fn settle(&mut self) {
        if self.record.state == State::Running && !self.is_settled {
            self.is_settled = true;
            thread::give_back_stack();
        }
    }
}
