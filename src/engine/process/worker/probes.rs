//! What the probes of a run find, and what it says of itself, as inputs of its state.

use std::os::fd::AsFd;

use crate::engine::process::input::Input;
use crate::engine::process::prepare::Variables;
use crate::engine::process::probe::Finding;
use crate::engine::process::probe::exec::{CGROUP, ExecAttempt};
use crate::engine::process::probe::net::listeners;
use crate::engine::process::probe::notify::{NotifySocket, Word};
use crate::engine::process::probe::repeated::Means;
use crate::engine::process::worker::Worker;
use crate::sys::cgroup::Cgroup;
use crate::sys::socket::PeerCredentials;
use crate::sys::{clock, procfs, system};
use crate::wire::error::Error;
use crate::wire::hooks::When;
use crate::wire::keeper::ToKeeper;
use crate::wire::probes::{Liveness, Readiness};
use crate::wire::process::State;
use crate::wire::record::cut;
use crate::wire::spec::{Scope, Spec};
use crate::wire::time::DURATION_MAX;

/// The most messages that are read in one go: the rest waits, as those who send them then do.
const MESSAGES_MAX: usize = 64;

/// Whether the process says by itself how it is.
fn says(spec: &Spec) -> bool {
    spec.ready == Some(Readiness::Notify) || spec.live == Some(Liveness::Notify)
}

impl Worker {
    /// Before a run starts: who has its port, and where it says how it is. Returns the variables of that.
    pub(super) fn prepare_probes(&mut self, spec: &Spec) -> Result<Variables, Error> {
        self.probes.end();
        self.process.set_last_look("");
        self.taken = listeners(spec.ready.as_ref().and_then(Readiness::port));
        if !says(spec) {
            return Ok(Vec::new());
        }
        if self.probes.notify.is_none() {
            let failed = |e| Error::failed("make the socket at which it says that it is ready", &e);
            let socket = NotifySocket::create(self.process.id).map_err(failed)?;
            self.process
                .context
                .link
                .send(&ToKeeper::HoldNotify { id: self.process.id }, &[socket.as_fd()])
                .map_err(failed)?;
            self.probes.notify = Some(socket);
        }
        let Some(socket) = &self.probes.notify else { return Ok(Vec::new()) };
        // What the run before has said is not this one's.
        while socket.next().is_some() {}
        let mut variables = Vec::from_iter(socket.name().map(|name| ("NOTIFY_SOCKET".to_owned(), name)));
        if spec.live == Some(Liveness::Notify) {
            let interval = spec.live_rules.interval.as_micros().to_string();
            variables.push(("WATCHDOG_USEC".to_owned(), interval));
        }
        Ok(variables)
    }

    /// Ends the probe of an engine before this one.
    pub(super) fn end_left_probe(&self) {
        let left = self.tree.cgroup.as_ref().map(|cgroup| cgroup.below(CGROUP));
        if let Some(left) = left.filter(Cgroup::exists) {
            let _ = left.kill();
        }
    }

    /// Starts to look whether the run is ready, if its definition says how that shows; else whether it is
    /// well.
    pub(super) fn start_probes(&mut self) {
        if self.record.state != State::Running {
            return;
        }
        let (spec, now) = (self.process.spec(), clock::now_ms());
        let was_ready = self.record.ready || self.record.was_ready;
        if was_ready && !self.probes.is_looking_for_life() {
            self.probes.look_for_life(&spec, now);
        }
        if self.record.ready {
            self.probes.look_for_end_of_ready(&spec, now);
        } else if !(was_ready && self.probes.look_for_ready_again(&spec, now)) {
            // Then it is what follows its start that shows it.
            if !was_ready && spec.ready.is_none() && !self.record.awaits_main {
                return self.found_ready();
            }
            self.probes.look_for_ready(&spec, self.record.output_from, self.record.started_mono);
            self.look_at_output();
        }
    }

    /// Whether what it says can be taken: not before its state says that it runs, and then until its end. If
    /// nobody read it, it would hang in saying it.
    pub(super) fn hears(&self) -> Option<&NotifySocket> {
        let speaks = matches!(self.record.state, State::Running | State::Stopping);
        self.probes.notify.as_ref().filter(|_| speaks)
    }

    pub(super) fn look_at_output(&mut self) {
        let finding = self.probes.read(&self.process.memory.ring());
        self.found(finding);
    }

    /// Does what is due.
    pub(super) fn go_on_with_probes(&mut self) {
        self.take_words();
        if self.record.state != State::Running {
            return;
        }
        let (tree, spec) = (self.tree.clone(), self.process.spec());
        // Apart, since a program is prepared with what else is here.
        let mut probes = std::mem::take(&mut self.probes);
        let start = |command: &[String]| {
            let spec = Spec { command: command.to_vec(), ..Spec::clone(&spec) };
            let prepared = self.prepare(&spec, &Vec::new()).map_err(|e| e.message)?;
            let attempt = ExecAttempt::start(&prepared.launch, &tree)?;
            Ok(if spec.redact.is_empty() { attempt } else { attempt.unheard() })
        };
        let means = Means { exec: &start, host: &self.process.context.host };
        let finding = probes.go_on(clock::now_ms(), &self.taken, &means);
        self.process.set_last_look(probes.last_look());
        self.probes = probes;
        self.found(finding);
    }

    fn found(&mut self, finding: Option<Finding>) {
        match finding {
            None => {}
            Some(Finding::Ready) => self.found_ready(),
            Some(Finding::Unready(why)) => {
                self.apply_quietly(Input::Unready(why));
                self.start_probes();
            }
            Some(Finding::Unfit(why)) => self.found_unfit(&why),
        }
    }

    pub(super) fn found_ready(&mut self) {
        let is_first = !self.record.was_ready && !self.record.ready;
        match if is_first { self.waits_for_hook(When::PostStart) } else { Ok(false) } {
            Ok(true) => {}
            Ok(false) => {
                self.apply_quietly(Input::Ready);
                self.start_probes();
            }
            Err(why) => self.apply(Input::Unfit(why), "hook"),
        }
    }

    fn found_unfit(&mut self, why: &str) {
        self.apply(Input::Unfit(why.to_owned()), "probe");
    }

    /// The time within which it had to be ready is over.
    pub(super) fn found_late(&mut self) {
        let limit = self.process.spec().ready_rules.timeout.unwrap_or_default();
        self.found_unfit(&self.probes.too_late(limit));
    }

    fn take_words(&mut self) {
        for _ in 0..MESSAGES_MAX {
            let Some((words, sender)) = self.hears().and_then(NotifySocket::next) else { return };
            if !self.is_ours(sender) {
                continue;
            }
            for word in words {
                self.heard(word);
            }
        }
    }

    fn heard(&mut self, word: Word) {
        let is_measure = self.process.spec().ready == Some(Readiness::Notify);
        match word {
            // Its end is under way: what it says of its readiness and its life comes too late.
            Word::Ready | Word::Stopping | Word::Watchdog | Word::Unwell
                if self.record.state != State::Running => {}
            Word::Ready if is_measure && !self.record.ready => self.found_ready(),
            Word::Ready => {}
            Word::Stopping => {
                self.probes.end_recheck();
                self.apply_quietly(Input::Unready("it said so".to_owned()));
            }
            Word::Status(status) => {
                let status = self.redactor.as_ref().map_or_else(|| status.clone(), |r| r.text(&status));
                let status = cut(&status);
                if status != self.record.status {
                    self.record.status = status;
                    self.commit(&[]);
                }
            }
            Word::Watchdog => self.probes.said_well(clock::now_ms()),
            Word::Unwell if self.process.spec().live == Some(Liveness::Notify) => {
                self.found_unfit("it said itself that it is not well");
            }
            Word::Unwell => {}
            Word::MainPid(pid) => self.said_main(pid),
            Word::Extend(time) => self.apply_quietly(Input::Extend(time.min(DURATION_MAX))),
        }
    }

    /// Whether somebody of the process has sent it. One who has ended meanwhile, as systemd-notify has at
    /// once, cannot be looked at: then the user counts, who may do as he likes with the process anyway.
    fn is_ours(&self, sender: PeerCredentials) -> bool {
        if sender.pid == self.tree.leader.pid && !self.tree.leader_gone {
            return true;
        }
        if procfs::stat(sender.pid).is_some_and(|stat| !stat.is_zombie()) {
            return match &self.tree.cgroup {
                Some(cgroup) => cgroup.holds(sender.pid).unwrap_or(false),
                None => self.tree.pids(Scope::Tree).contains(&sender.pid),
            };
        }
        let owner = procfs::owner(self.tree.leader.pid);
        sender.uid == 0 || sender.uid == system::euid() || Some(sender.uid) == owner
    }
}
