//! Moving the running service to another binary. First the engine: the present one is killed and the new
//! binary's started; one that is not ready in time, or ends, is the end of the attempt, and the old one is
//! started again. Then the new keeper is rehearsed in a process of its own: it looks whether it could go on.
//! Only then this one becomes it, which is `handover.rs`. Whatever the outcome is, every engine is told, and
//! tells who asked.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};

use crate::keeper::attempt::{Attempt, CURRENT_IMAGE, Trial};
use crate::keeper::notice::Notice;
use crate::keeper::outbox::Outgoing;
use crate::keeper::state::{Keeper, Stop};
use crate::sys::child::{self, Reaped, Status};
use crate::sys::errno::{EIO, EMFILE};
use crate::sys::{clock, signal};
use crate::wire::id::UpgradeId;
use crate::wire::keeper::ToEngine;
use crate::wire::upgrade::{UpgradeOutcome, UpgradeResult, Version};

/// How long the new engine may take until it is ready, ms. Less than the 10 s that a client waits for its
/// greeting: who comes meanwhile is still there when the old engine is back.
const READY_MS: u64 = 8_000;

/// What the end of the new engine says about the attempt; `None`: it was the old one's.
fn result(trial: Trial, died: Status) -> Option<UpgradeResult> {
    match (trial, died) {
        (Trial::Due, _) => None,
        (Trial::Late, _) => {
            Some(UpgradeResult::NotReady { after_ms: i32::try_from(READY_MS).expect("some seconds") })
        }
        (Trial::Started { errno: Some(errno), .. }, _) => Some(UpgradeResult::NotExecuted { errno }),
        (_, Status::Exited(code)) => Some(UpgradeResult::Exited { code: i32::from(code) }),
        (_, Status::Signalled { signal, .. }) => Some(UpgradeResult::Signalled { signal: i32::from(signal) }),
    }
}

/// The errno of an error; every one that comes here has one.
pub fn errno_of(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(EIO)
}

impl Keeper<'_> {
    /// The engine asks for it, in the name of a client.
    pub fn begin_upgrade(&mut self, id: UpgradeId, mut fds: Vec<OwnedFd>) {
        // Who asked a second time finds the first one's outcome, or is refused by the next engine.
        if self.attempt.is_some() || self.stop != Stop::No {
            return;
        }
        self.spares.free();
        let binary = fds.pop().ok_or_else(|| io::Error::from_raw_os_error(EMFILE));
        match binary.and_then(|binary| Attempt::new(id, binary)) {
            Ok(attempt) => {
                self.attempt = Some(attempt);
                (self.notify)(Notice::Upgrading);
                self.notifier.reloading();
            }
            Err(e) => self.decide(id, UpgradeResult::Unprepared { errno: errno_of(&e) }),
        }
    }

    /// Does what is due of an upgrade, at the top of the loop: there an engine that is up has not been
    /// reaped, and can be killed by its number.
    pub fn go_on_with_upgrade(&mut self) {
        let is_up = self.engine.pid().is_some();
        let Some(attempt) = &mut self.attempt else { return };
        let is_late = attempt.deadline().is_some_and(|until| until <= clock::now_ms());
        match attempt.trial {
            Trial::Due if is_up => self.give_up_engine(),
            Trial::Due | Trial::Late => {}
            // Whatever it would come to, the end of the service does not wait for it: the old engine sees to
            // that.
            Trial::Started { .. } if self.stop != Stop::No => self.give_up_engine(),
            // And it is not for a keeper that does not know how far it has come.
            _ if self.stop != Stop::No => {
                self.end_rehearsal();
                self.binary = self.attempt.take().map(|attempt| attempt.binary);
            }
            _ if is_late => {
                self.end_rehearsal();
                self.set_trial(Trial::Late);
                self.give_up_engine();
            }
            Trial::Ready { until } => self.rehearse(until),
            // Nothing of what we still have to say is handed over: it is said first.
            Trial::Passed { .. } if self.outbox.is_empty() => {
                if let Some(attempt) = self.attempt.take() {
                    self.replace(attempt);
                }
            }
            Trial::Started { .. } | Trial::Rehearsed { .. } | Trial::Passed { .. } => {}
        }
    }

    /// Tries the new keeper without being replaced by it.
    fn rehearse(&mut self, until: u64) {
        let Some(attempt) = &self.attempt else { return };
        match self.start_rehearsal(attempt) {
            Ok(pid) => {
                self.set_trial(Trial::Rehearsed { pid, until });
            }
            Err(e) => {
                self.decide(attempt.id, UpgradeResult::NotStarted { errno: errno_of(&e) });
                self.give_up_engine();
            }
        }
    }

    /// Kills a rehearsal that is not over: it holds the lock, the listener and all the pipes. As long as the
    /// attempt says so it was not reaped, and its number is its own.
    fn end_rehearsal(&self) {
        if let Some(Attempt { trial: Trial::Rehearsed { pid, .. }, .. }) = self.attempt {
            let _ = child::signal_child(pid, signal::KILL);
        }
    }

    fn set_trial(&mut self, trial: Trial) {
        if let Some(attempt) = &mut self.attempt {
            attempt.trial = trial;
        }
    }

    /// A child was reaped. Whether it was a rehearsal.
    pub fn upgrade_rehearsed(&mut self, reaped: &Reaped) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let Trial::Rehearsed { pid, until } = attempt.trial else { return false };
        if pid != reaped.pid {
            return false;
        }
        let result = match child::status(reaped.status) {
            Status::Exited(0) => {
                attempt.trial = Trial::Passed { until };
                return true;
            }
            Status::Exited(code) => UpgradeResult::KeeperRefuses { code: i32::from(code) },
            // As a shell would tell it.
            Status::Signalled { signal, .. } => {
                UpgradeResult::KeeperRefuses { code: 128 + i32::from(signal) }
            }
        };
        let id = attempt.id;
        // It is reaped: its number is nobody's to signal.
        attempt.trial = Trial::Late;
        self.decide(id, result);
        self.give_up_engine();
        true
    }

    /// Which program the next engine is.
    pub fn engine_program(&self) -> PathBuf {
        let binary = self.attempt.as_ref().map(|a| &a.binary).or(self.binary.as_ref());
        binary.map_or_else(|| CURRENT_IMAGE.into(), by_descriptor)
    }

    /// An engine was started.
    pub fn upgrade_engine_started(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.trial = Trial::Started { until: clock::now_ms() + READY_MS, errno: None };
        }
    }

    /// There is no process for it. The old one is due then.
    pub fn upgrade_engine_not_started(&mut self, e: &io::Error) {
        if let Some(attempt) = &self.attempt {
            self.decide(attempt.id, UpgradeResult::NotStarted { errno: errno_of(e) });
        }
    }

    /// The program of an engine could not be executed.
    pub fn upgrade_engine_not_executed(&mut self, because: i32) {
        if let Some(Attempt { trial: Trial::Started { errno, .. }, .. }) = &mut self.attempt {
            *errno = Some(because);
        }
    }

    /// An engine is ready.
    pub fn upgrade_engine_ready(&mut self) {
        if let Some(attempt) = &mut self.attempt
            && let Trial::Started { until, .. } = attempt.trial
        {
            attempt.trial = Trial::Ready { until };
        }
    }

    /// An engine has ended. Whether it was the upgrade's doing; then the next one is due at once.
    pub fn upgrade_engine_died(&mut self, died: Status) -> bool {
        let Some(attempt) = &self.attempt else { return false };
        if let Some(result) = result(attempt.trial, died) {
            self.decide(attempt.id, result);
        }
        true
    }

    /// The upgrade has come to this. The engine that is there learns it now, the next one when it greets.
    pub fn decide(&mut self, id: UpgradeId, result: UpgradeResult) {
        self.end_rehearsal();
        self.attempt = None;
        let outcome = UpgradeOutcome { id, result, before: Version::ours() };
        self.outcome = Some(outcome);
        self.outbox.push(Outgoing::Plain(ToEngine::Upgrade(outcome)));
        (self.notify)(Notice::NotUpgraded { why: result.describe() });
        self.report_ready();
    }

    /// How the last upgrade stands, for an engine that greets.
    pub fn present_outcome(&self) -> Option<UpgradeOutcome> {
        let tried = |a: &Attempt| UpgradeOutcome {
            id: a.id,
            result: UpgradeResult::Undecided,
            before: Version::ours(),
        };
        self.attempt.as_ref().map(tried).or(self.outcome)
    }
}

/// The path by which an open file is executed, whatever is at its own path by now.
pub fn by_descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The path that this program was started from, where its replacement will be: as it was typed, with its
/// symbolic links. Only if that is unknown, where the program itself is.
pub fn started_from() -> Option<PathBuf> {
    let image = fs::metadata(CURRENT_IMAGE).ok()?;
    let is_ours =
        |p: &PathBuf| fs::metadata(p).is_ok_and(|m| (m.dev(), m.ino()) == (image.dev(), image.ino()));
    let typed = env::args_os().next().unwrap_or_default();
    let found = if typed.as_bytes().contains(&b'/') {
        absolute(Path::new(&typed)).ok().filter(is_ours)
    } else {
        let search = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&search).filter_map(|dir| absolute(dir.join(&typed)).ok()).find(is_ours)
    };
    found.or_else(|| fs::read_link(CURRENT_IMAGE).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_engine_is_judged_by_how_far_it_had_come() {
        let killed = Status::Signalled { signal: 9, core: false };
        assert_eq!(result(Trial::Due, killed), None);
        assert_eq!(result(Trial::Late, killed), Some(UpgradeResult::NotReady { after_ms: 8000 }));
        let started = |errno| Trial::Started { until: 1, errno };
        assert_eq!(result(started(None), killed), Some(UpgradeResult::Signalled { signal: 9 }));
        assert_eq!(result(started(None), Status::Exited(1)), Some(UpgradeResult::Exited { code: 1 }));
        assert_eq!(
            result(started(Some(8)), Status::Exited(8)),
            Some(UpgradeResult::NotExecuted { errno: 8 })
        );
        assert_eq!(result(Trial::Ready { until: 1 }, killed), Some(UpgradeResult::Signalled { signal: 9 }));
    }

    #[test]
    fn a_program_knows_where_it_was_started_from() {
        let from = started_from().unwrap();
        assert_eq!(fs::canonicalize(from).unwrap(), env::current_exe().unwrap());
    }
}
