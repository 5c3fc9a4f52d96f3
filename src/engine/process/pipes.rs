//! Our ends of a run's pipes: taking from them into the ring, and knowing when there is nothing more to come.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::ring::{Ring, Source, Taken, Writer};
use crate::sys::clock;
use crate::sys::pipe::{self, widen_pipe};
use crate::wire::redact::Redactor;

/// How long after the end of a tree its pipes are read while somebody outside its tree holds them open, ms.
const DRAIN_MS: u64 = 2000;
/// A pipe that was found this full, in bytes, is widened: the child writes faster than we come by. A quarter
/// of a pipe, since many small writes rarely fill a whole one before we come.
const WIDEN_FROM: u64 = 16 << 10;
/// To this many bytes. Not from the start: the kernel grants each user 64 MiB of pipes in all.
const WIDE: usize = 256 << 10;
/// How long a pipe rests after an error, ms: it will be want of memory, and trying at once would spin.
const PAUSE_MS: u64 = 50;
/// The most bytes taken at the end of a run: all that its pipes can hold. What somebody adds meanwhile comes
/// later.
pub const HELD_MAX: u64 = 2 * WIDE as u64;

/// The pipes of one run. The process's thread owns them.
#[derive(Debug, Default)]
pub struct Pipes {
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Closes at the exec.
    pub executed: Option<OwnedFd>,
    /// It has closed before the keeper reported the spawn.
    pub executed_early: bool,
    /// When to look whether the child has executed, where no pipe tells (monotonic ms).
    pub exec_look_at: Option<u64>,
    /// The run has ended, and the keeper waits for our word that its ends may be closed.
    pub owed: Option<u64>,
    /// When we stop to listen to a run that has ended (monotonic ms).
    pub drain_until: Option<u64>,
    /// Nothing is read before (monotonic ms): the last attempt failed.
    pub paused_until: Option<u64>,
    pub writer: Writer,
    is_wide: bool,
}

impl Pipes {
    pub fn new(stdout: OwnedFd, stderr: OwnedFd) -> Self {
        Self { stdout: Some(stdout), stderr: Some(stderr), ..Self::default() }
    }

    /// The process itself has ended. Others of its tree may still write.
    pub fn run_ended(&mut self, run: u64) {
        self.owed = Some(run);
    }

    /// Nothing is left of the tree that was to end. Who still holds the pipes is an outsider, and is not
    /// listened to for ever; or was spared, and would die of SIGPIPE if nobody listened.
    pub fn tree_ended(&mut self, spares: bool, now: u64) {
        if self.owed.is_some() && !spares {
            self.drain_until.get_or_insert(now + DRAIN_MS);
        }
    }

    /// Its reader takes its time.
    pub fn drain_longer(&mut self, now: u64) {
        self.drain_until = Some(now + DRAIN_MS);
    }

    /// Whether the run has ended and everything of it was read.
    pub fn is_done(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.owed.is_some()
    }

    /// Takes one chunk, so that streams, messages and deadlines take turns. `None`: nothing is there now.
    pub fn take(&mut self, source: Source, ring: &Ring<'_>, redactor: Option<&Redactor>) -> Option<u64> {
        let writer = self.writer;
        let pipe = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let take = |pipe: &OwnedFd| match redactor {
            None => ring.take(pipe.as_fd(), source),
            Some(redactor) => ring.take_redacted(pipe.as_fd(), (writer, source), redactor),
        };
        match pipe.as_ref().map(take)? {
            Ok(Taken::Bytes(n)) => {
                if n >= WIDEN_FROM && !self.is_wide {
                    self.widen();
                }
                Some(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Some(0),
            // The keeper holds the pipe too, so closing it here would leave the child with a full one: tried
            // again.
            Err(_) => {
                self.paused_until = Some(clock::now_ms() + PAUSE_MS);
                None
            }
            Ok(Taken::End) => {
                *pipe = None;
                None
            }
            Ok(Taken::Empty) => None,
        }
    }

    fn widen(&mut self) {
        self.is_wide = true;
        for pipe in [&self.stdout, &self.stderr].into_iter().flatten() {
            // Refused beyond the user's share of pipe memory; then it stays as it is.
            let _ = widen_pipe(pipe.as_fd(), WIDE);
        }
    }
}

/// The inodes of the pipes of a run.
pub fn inodes((stdout, stderr): &(OwnedFd, OwnedFd)) -> Option<[u64; 2]> {
    let inode = |pipe: &OwnedFd| pipe::inode(pipe.as_fd()).ok();
    Some([inode(stdout)?, inode(stderr)?])
}
