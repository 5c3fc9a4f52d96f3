//! One attempt by a program: a child of the engine, in a session of its own, and where there are cgroups in
//! one below the process's own. It never outlives the attempt, nor does what it has started.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::engine::process::tree::Tree;
use crate::sys::beside::{self, Place};
use crate::sys::pidfd::PidFd;
use crate::sys::poll::{self, PollFd};
use crate::sys::{clock, errno, signal, socket};
use crate::wire::launch::Launch;
use crate::wire::leader::Leader;
use crate::wire::spec::Scope;

/// What its cgroup is called, below that of the process.
pub const CGROUP: &str = "probe";
/// How much of what it said last is kept, in bytes.
const SAID_MAX: usize = 512;
/// How long the end of one that was killed is waited for, ms: one that hangs in the kernel is left.
const DYING_MS: u64 = 100;

/// A program that looks, and has not ended yet.
#[derive(Debug)]
pub struct ExecAttempt {
    child: Child,
    pidfd: PidFd,
    /// Its own tree.
    tree: Tree,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
    /// How much of that is kept, in bytes.
    keeps: usize,
}

impl ExecAttempt {
    /// Starts what was prepared as if it were the process. `process`: the tree of that.
    pub fn start(launch: &Launch, process: &Tree) -> Result<Self, String> {
        Self::begin(launch, process, CGROUP, Stdio::null)
    }

    /// The same, and nothing of what it says is shown.
    pub fn unheard(mut self) -> Self {
        self.keeps = 0;
        self
    }

    /// As [`Self::start`], with what it says on both streams. Its cgroup is called so, and nothing else is
    /// left there.
    pub fn start_heard(
        launch: &Launch,
        process: &Tree,
        cgroup: &str,
    ) -> Result<(Self, OwnedFd, OwnedFd), String> {
        if let Some(left) = process.cgroup.as_ref().map(|of_process| of_process.below(cgroup)) {
            let _ = left.kill();
        }
        let mut attempt = Self::begin(launch, process, cgroup, Stdio::piped)?;
        match (attempt.child.stdout.take(), attempt.stderr.take()) {
            (Some(stdout), Some(stderr)) => Ok((attempt, stdout.into(), stderr.into())),
            _ => Err("what it says cannot be heard".to_owned()),
        }
    }

    fn begin(launch: &Launch, process: &Tree, cgroup: &str, stdout: fn() -> Stdio) -> Result<Self, String> {
        let cgroup = process.cgroup.as_ref().map(|of_process| of_process.below(cgroup));
        let cgroup = cgroup.filter(|cgroup| cgroup.create().is_ok());
        let mut error = io::Error::from_raw_os_error(errno::ENOENT);
        for candidate in launch.candidates.iter() {
            let place = Place {
                procs: cgroup.as_ref().and_then(|cgroup| cgroup.procs().ok()),
                uid: launch.uid,
                gid: launch.gid,
                groups: launch.groups.clone(),
                no_new_privs: launch.no_new_privs,
            };
            let mut command = command(OsStr::from_bytes(candidate.to_bytes()), launch);
            match beside::spawn(command.stdout(stdout()), place) {
                Ok(child) => {
                    let own = Tree { first_ticks: None, leader_gone: false, ..process.clone() };
                    let tree = Tree { cgroup, notified: Vec::new(), ..own };
                    let pidfd = PidFd::open(child.id());
                    return Self::new(child, pidfd, tree).map_err(|e| format!("cannot look after it: {e}"));
                }
                Err(e) => {
                    if e.kind() != io::ErrorKind::NotFound {
                        error = e;
                    }
                }
            }
        }
        let program = launch.argv.iter().next().unwrap_or_default().to_string_lossy().into_owned();
        Err(format!("cannot execute {program}: {error}"))
    }

    fn new(mut child: Child, pidfd: io::Result<PidFd>, mut tree: Tree) -> io::Result<Self> {
        let pidfd = pidfd.inspect_err(|_| abandon(&mut child, &tree))?;
        tree.leader = Leader::of(child.id(), &pidfd);
        let stderr = child.stderr.take();
        let attempt = Self { child, pidfd, tree, stderr, said: Vec::new(), keeps: SAID_MAX };
        if let Some(stderr) = &attempt.stderr {
            socket::set_nonblocking(stderr.as_fd(), true)?;
        }
        Ok(attempt)
    }

    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let stderr: Option<BorrowedFd<'_>> = self.stderr.as_ref().map(AsFd::as_fd);
        vec![PollFd::readable(self.pidfd.as_fd()), PollFd::maybe(stderr, PollFd::readable)]
    }

    /// Reads what it says; none: it has not ended.
    pub fn go_on(&mut self) -> Option<Result<(), String>> {
        self.listen();
        let status = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status,
            Err(e) => return Some(Err(format!("its end is not known: {e}"))),
        };
        self.end_tree();
        let how = match (status.code(), status.signal()) {
            (Some(0), _) => return Some(Ok(())),
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(number)) => signal::name(number.cast_unsigned()),
            (None, None) => "it failed".to_owned(),
        };
        let said = String::from_utf8_lossy(&self.said);
        let line = said.lines().rev().find(|line| !line.trim().is_empty());
        Some(Err(line.map_or_else(|| how.clone(), |line| format!("{how}: {}", line.trim()))))
    }

    fn listen(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut bytes = [0; SAID_MAX];
        // Bounded: what is left then wakes us again.
        for _ in 0..64 {
            match stderr.read(&mut bytes) {
                Ok(0) => {
                    self.stderr = None;
                    return;
                }
                Ok(n) => self.said.extend_from_slice(&bytes[..n]),
                Err(_) => return,
            }
            let more = self.said.len().saturating_sub(self.keeps);
            self.said.drain(..more);
        }
    }

    /// Whatever it has started goes with it.
    fn end_tree(&self) {
        let scope = if self.tree.cgroup.is_some() { Scope::Tree } else { Scope::Group };
        let _ = self.tree.kill(scope);
    }
}

impl Drop for ExecAttempt {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.end_tree();
        let _ = self.pidfd.signal(signal::KILL);
        // Wakes that come meanwhile are for the thread, when it waits for what it waits for.
        let mut fds = [PollFd::readable(self.pidfd.as_fd())];
        let _ = poll::wait_unwoken(&mut fds, clock::now_ms() + DYING_MS);
        let _ = self.child.try_wait();
    }
}

/// Ends one that cannot be looked after: for want of a descriptor there is none to wait with. It is our child
/// and not yet waited for, so its number is its own.
fn abandon(child: &mut Child, tree: &Tree) {
    if let Some(cgroup) = &tree.cgroup {
        let _ = cgroup.kill();
    }
    let _ = child.kill();
    // It has begun a moment ago, and is killed: the kernel does not keep us waiting.
    let _ = child.wait();
}

fn command(program: &OsStr, launch: &Launch) -> Command {
    let mut argv = launch.argv.iter().map(|arg| OsStr::from_bytes(arg.to_bytes()));
    let mut command = Command::new(program);
    command.arg0(argv.next().unwrap_or(program)).args(argv).env_clear().current_dir(&launch.cwd);
    for variable in launch.env.iter() {
        let bytes = variable.to_bytes();
        if let Some(at) = bytes.iter().position(|&b| b == b'=') {
            command.env(OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]));
        }
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Wait, Waker};
    use crate::wire::id::ProcessId;
    use std::path::Path;

    fn child() -> Child {
        let mut command = Command::new("sleep");
        command.arg("71301").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        beside::spawn(&mut command, Place::default()).unwrap()
    }

    fn tree() -> Tree {
        Tree {
            id: ProcessId::new(),
            service: uuid::Uuid::nil(),
            cgroup: None,
            leader: Leader::default(),
            first_ticks: None,
            leader_gone: false,
            notified: Vec::new(),
            looks: std::sync::Arc::default(),
        }
    }

    #[test]
    fn one_that_cannot_be_looked_after_is_ended() {
        let child = child();
        let pid = child.id();
        let error = ExecAttempt::new(child, Err(io::Error::from_raw_os_error(errno::EMFILE)), tree());
        assert_eq!(error.unwrap_err().raw_os_error(), Some(errno::EMFILE));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_wake_during_its_end_is_not_lost() {
        let child = child();
        let pidfd = PidFd::open(child.id());
        let attempt = ExecAttempt::new(child, pidfd, tree()).unwrap();
        Waker::for_this_thread().wake();
        drop(attempt);
        assert_eq!(poll::wait(&mut [], Some(clock::now_ms())).unwrap(), Wait::Woken);
    }
}
