//! A program that puts itself into the background: what was started ends with success, and another process
//! of its tree goes on. That one is named in a file, or says so itself. The keeper has become its parent by
//! then, and tells how it ended.

use crate::engine::process::input::Input;
use crate::engine::process::search::Search;
use crate::engine::process::worker::Worker;
use crate::sys::child::{Status, status};
use crate::sys::pidfd::PidFd;
use crate::sys::{clock, files, procfs};
use crate::wire::keeper::{Ended, ToKeeper};
use crate::wire::leader::Leader;
use crate::wire::process::State;

/// By how much the times of files may lag behind, ms.
const FILE_TIME_MS: u64 = 20;
/// What is read of a pid file, in bytes.
const PID_FILE_LEN: u64 = 32;

/// What a pid file says.
enum Named {
    /// Somebody of the tree, who is alive.
    Main(Leader, PidFd),
    /// Somebody who is gone, and the file is of this run.
    Gone(u32),
    /// Nobody yet, and why.
    Nobody(String),
}

impl Worker {
    /// Whether another process than the present main one has ended: it was followed while the keeper's word
    /// was on its way.
    pub(super) fn is_of_another(&self, ended: &Ended) -> bool {
        let is_main = |pid| ended.pid == 0 || ended.pid == pid;
        self.record.first_ticks.is_some() && !self.record.pid.is_some_and(is_main)
    }

    /// Whether what has ended has done its part, and the main process is to be looked for.
    pub(super) fn is_to_be_followed(&self, ended: &Ended) -> bool {
        let is_success = status(ended.status) == Status::Exited(0);
        self.record.awaits_main && self.record.state == State::Running && is_success
    }

    pub(super) fn search_for_main(&mut self, first: Ended) {
        self.search = Some(Search::new(first, clock::now_ms()));
        self.look_for_main();
    }

    pub(super) fn look_for_main(&mut self) {
        let path = self.process.spec().background.pid_file.clone();
        let named = path.as_deref().map(|path| (path, self.named(path)));
        let now = clock::now_ms();
        let Some(search) = &mut self.search else { return };
        match named {
            Some((path, Named::Main(main, pidfd))) => {
                return self.follow_main(main, Some(pidfd), &format!("named in {path}"));
            }
            Some((path, Named::Gone(pid))) => {
                let main = Leader { pid, start_ticks: 0 };
                return self.follow_main(main, None, &format!("named in {path}"));
            }
            Some((path, Named::Nobody(why))) => search.wrong = format!("its pid file {why}: {path}"),
            None => {}
        }
        if search.is_over(now) {
            let why = std::mem::take(&mut search.wrong);
            return self.apply(Input::Unfit(why), "pid file");
        }
        search.go_on(now);
    }

    /// Before a run: what is in the file now is of an earlier one, however young it is.
    pub(super) fn note_old_pid_file(&mut self, path: Option<&str>) {
        self.old_pid_file = path.and_then(|path| files::beginning(path.as_ref(), PID_FILE_LEN).ok());
    }

    fn named(&self, path: &str) -> Named {
        let (bytes, changed_at) = match files::beginning(path.as_ref(), PID_FILE_LEN) {
            Ok(found) => found,
            Err(e) => return Named::Nobody(format!("cannot be read: {e}")),
        };
        let text = String::from_utf8_lossy(&bytes);
        let digits = text.split_whitespace().next().unwrap_or_default();
        let Some(pid) = digits.parse::<u32>().ok().filter(|&pid| pid > 1) else {
            return Named::Nobody("names no process".to_owned());
        };
        match self.tree.find(pid) {
            Ok(Some((main, pidfd))) => Named::Main(main, pidfd),
            Err(e) => Named::Nobody(format!("names pid {pid}, which cannot be looked at: {e}")),
            Ok(None) => {
                let is_of_before = self.old_pid_file.as_ref() == Some(&(bytes, changed_at));
                let is_there = procfs::stat(pid).is_some_and(|stat| !stat.is_zombie());
                let begun = self.record.started_at.map_or(0, |at| at.0).saturating_sub(FILE_TIME_MS);
                if is_there {
                    Named::Nobody(format!("names pid {pid}, which is not of it"))
                } else if !is_of_before && u64::try_from(changed_at).is_ok_and(|at| at >= begun) {
                    Named::Gone(pid)
                } else {
                    Named::Nobody(format!("is old: pid {pid} is gone"))
                }
            }
        }
    }

    /// It has said itself which process is its main one. One that is not of it is not taken.
    pub(super) fn said_main(&mut self, pid: u32) {
        if self.record.state != State::Running || self.record.pid == Some(pid) {
            return;
        }
        if let Ok(Some((main, pidfd))) = self.tree.find(pid) {
            self.follow_main(main, Some(pidfd), "as it said itself");
        }
    }

    /// From here on the process is this one: on record first, then the keeper is told, which is its parent,
    /// or will be.
    fn follow_main(&mut self, main: Leader, pidfd: Option<PidFd>, how: &str) {
        self.search = None;
        let was_awaited = self.record.awaits_main;
        self.foreign = pidfd;
        self.tree.leader = main;
        self.apply_quietly(Input::Forked(main, format!("pid {} {how}", main.pid)));
        self.tree.first_ticks = self.record.first_ticks;
        self.tell_main();
        if was_awaited && self.process.spec().ready.is_none() {
            self.found_ready();
        }
    }

    /// Told again, it is the question how it has ended.
    pub(super) fn tell_main(&self) {
        if let Some(pid) = self.record.pid {
            self.send_to_keeper(&ToKeeper::Main { id: self.process.id, run: self.record.run, pid });
        }
    }

    /// The keeper does not know how the main process ended.
    pub(super) fn main_lost(&mut self) {
        if self.record.first_ticks.is_some() && !self.record.leader_gone && self.record.pid.is_some() {
            self.drain();
            self.pipes.run_ended(self.record.run);
            self.lost();
            self.close_pipes_if_done();
        }
    }

    /// Goes on with a main process that the last engine has followed; whether the keeper has heard of that is
    /// seen by what it listed.
    pub(super) fn resume_main(&mut self, pid: u32, ended: Option<Ended>) {
        let main = Leader {
            pid: self.record.pid.unwrap_or_default(),
            start_ticks: self.record.start_ticks.unwrap_or_default(),
        };
        self.tree.leader = main;
        self.record.tree = Some(main);
        match ended {
            Some(ended) if ended.pid == main.pid => return self.exited(ended),
            Some(_) | None => self.foreign = main.open(),
        }
        if pid != main.pid || self.foreign.is_none() {
            self.tell_main();
        }
        self.resume_state();
    }

    /// A run that is to end while its main process is looked for: what was started has ended long since.
    pub(super) fn end_of_search(&mut self) -> Option<Input> {
        let search = self.search.take_if(|_| self.record.state != State::Running)?;
        self.drain();
        self.tree.leader_gone = true;
        self.pipes.run_ended(self.record.run);
        Some(Input::Exited(self.exit_of(&search.first)))
    }
}
