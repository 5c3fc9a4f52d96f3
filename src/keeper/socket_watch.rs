//! Tells that the file of a socket has gone. The files themselves are watched, and not their directory, which
//! may be one like `/tmp`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::keeper::socket_dir::{GrpcSocket, SocketDir};
use crate::sys::clock;
use crate::sys::watch::Watch;

/// When to try again to make a socket that could not be made, ms.
const RETRY_MS: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub struct SocketWatch {
    /// None: the kernel gives none.
    watch: Option<Watch>,
    /// When to look, though nothing tells (monotonic ms).
    look_at: Option<u64>,
}

impl SocketWatch {
    /// Of all sockets that there are.
    pub fn new(socket_dir: &SocketDir, grpc: Option<&GrpcSocket>) -> Self {
        let mut all = Self { watch: Watch::new().ok(), look_at: None };
        all.add(socket_dir.socket());
        if let Some(grpc) = grpc {
            all.add(grpc.path());
        }
        all
    }

    /// Readable when there may be something to make again.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// When to look, though nothing tells.
    pub fn due(&self) -> Option<u64> {
        self.look_at
    }

    /// Whether there may be something to make again.
    pub fn take(&mut self) -> bool {
        let is_due = self.look_at.take_if(|at| *at <= clock::now_ms()).is_some();
        self.watch.as_ref().is_some_and(Watch::drain) || is_due
    }

    /// It could not be made: another attempt.
    pub fn look_later(&mut self) {
        self.look_at = Some(clock::now_ms() + RETRY_MS);
    }

    /// This one was made again.
    pub fn add(&mut self, socket: &Path) {
        // One that has gone in this moment is found by looking.
        if self.watch.as_ref().is_some_and(|watch| watch.add_file(socket).is_err()) {
            self.look_later();
        }
    }
}
