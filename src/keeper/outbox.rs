//! Messages on their way to the engine. Sending never waits: a keeper that waited for a stopped engine would
//! not reap. What does not go out at once goes out in order when there is room. An engine asks for one thing
//! of a process at a time, so the box holds at most a few messages for each.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::keeper::table::Table;
use crate::sys::clock;
use crate::sys::errno::ETOOMANYREFS;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::is_gone;
use crate::sys::socket::{Blocking, sendmsg};
use crate::wire::id::ProcessId;
use crate::wire::keeper::{Step, ToEngine};

/// One message. What the table still knows when it is sent is not kept twice.
#[derive(Debug)]
pub enum Outgoing {
    /// A message as it is.
    Plain(ToEngine),
    /// The answer to the engine's hello, with its descriptors.
    Hello(ToEngine, Vec<OwnedFd>),
    /// What is held of this process.
    Entry(ProcessId),
    /// Its socket, if it has one.
    Notify(ProcessId),
    Spawned {
        id: ProcessId,
        run: u64,
        pid: u32,
        pidfd: OwnedFd,
    },
    Exited(ProcessId),
}

/// How soon it is tried again where the kernel lets no more descriptors be on their way: no `poll` tells when
/// it does.
const RETRY_MS: u64 = 5;

/// The box. The keeper's loop owns it.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<Outgoing>,
    /// Room in the channel is not what is waited for, but this time.
    retry_at: Option<u64>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// For a dead engine: the next one learns everything from the listing.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn push(&mut self, message: Outgoing) {
        self.messages.push_back(message);
    }

    /// When to try again, if room in the channel says nothing about that.
    pub fn retry_at(&self) -> Option<u64> {
        self.retry_at
    }

    /// Sends as much as there is room for. An error means that the engine is gone.
    ///
    /// A user who is not root may have as many descriptors on their way in sockets as one process may have
    /// open (`ETOOMANYREFS`, unix(7)); they are fewer again when the engine has taken some.
    pub fn flush(&mut self, channel: BorrowedFd<'_>, table: &Table) -> io::Result<()> {
        self.retry_at = None;
        while let Some(message) = self.messages.front() {
            match send(channel, table, message) {
                Ok(()) => drop(self.messages.pop_front()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.raw_os_error() == Some(ETOOMANYREFS) => {
                    self.retry_at = Some(clock::now_ms() + RETRY_MS);
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn send(channel: BorrowedFd<'_>, table: &Table, message: &Outgoing) -> io::Result<()> {
    let post = |m: &ToEngine, fds: &[BorrowedFd<'_>]| sendmsg(channel, &m.encode(), fds, Blocking::Never);
    match message {
        Outgoing::Plain(m) => post(m, &[]),
        Outgoing::Hello(m, fds) => post(m, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>()),
        Outgoing::Entry(id) => entry(channel, table, *id),
        Outgoing::Notify(id) => match table.get(*id).and_then(|held| held.notify.as_ref()) {
            Some(socket) => post(&ToEngine::Notify { id: *id }, &[socket.as_fd()]),
            None => Ok(()),
        },
        Outgoing::Spawned { id, run, pid, pidfd } => {
            let Some((stdout, stderr)) = table.get(*id).and_then(|h| h.pipes.as_ref()) else { return Ok(()) };
            post(
                &ToEngine::Spawned { id: *id, run: *run, pid: *pid },
                &[pidfd.as_fd(), stdout.as_fd(), stderr.as_fd()],
            )
        }
        Outgoing::Exited(id) => {
            let Some(held) = table.get(*id) else { return Ok(()) };
            let Some(ended) = held.ended else { return Ok(()) };
            post(&ToEngine::Exited { id: *id, run: held.run, ended }, &[])
        }
    }
}

fn entry(channel: BorrowedFd<'_>, table: &Table, id: ProcessId) -> io::Result<()> {
    let Some(held) = table.get(id) else { return Ok(()) };
    let message = ToEngine::Entry { id, run: held.run, pid: held.pid, ended: held.ended, open: held.open() };
    let mut fds = vec![held.memory.as_fd()];
    if let Some((stdout, stderr)) = &held.pipes {
        fds.extend([stdout.as_fd(), stderr.as_fd()]);
    }
    // We are its parent and have not reaped it, so this is certainly the one. A main process may have another
    // parent, and be gone: who asked for that knows it by its start time.
    let pidfd = match held.pid {
        0 => None,
        pid => PidFd::open(pid).map(Some).or_else(is_gone)?,
    };
    fds.extend(pidfd.as_ref().map(AsFd::as_fd));
    sendmsg(channel, &message.encode(), &fds, Blocking::Never)
}

/// The answer to a spawn that did not come to a child.
#[must_use]
pub fn not_spawned(id: ProcessId, run: u64, step: Step, error: &io::Error) -> Outgoing {
    let errno = error.raw_os_error().unwrap_or(0);
    Outgoing::Plain(ToEngine::NotSpawned { id, run, step, errno })
}
