//! Lines on their way to a receiver, a datagram each. The receiver is a socket of another program: one that
//! is full is waited for as a file that is slow is, and one that is not there holds nobody up.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use crate::engine::logs::cut::Run;
use crate::engine::logs::message::Line;
use crate::engine::logs::render::name;
use crate::sys::clock;
use crate::sys::errno;
use crate::sys::memory::memfd_sealed;
use crate::sys::socket::{Blocking, sendmsg};
use crate::wire::receiver::{Protocol, Receiver};

/// A longer entry for the journal goes in a file in memory, in bytes: a datagram has room for little more
/// where the machine's buffers are small.
const DATAGRAM_MAX: usize = 32 << 10;

/// What sending has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes of output were refused for good.
    All { lost: u64 },
    /// The receiver takes none since then (monotonic ms).
    Full { since: u64 },
}

/// Where the lines of one process wait.
#[derive(Debug, Default)]
pub struct Outbox {
    socket: Option<UnixDatagram>,
    runs: VecDeque<Run>,
    /// Those of the line that is sent, and how many bytes of output that is.
    messages: VecDeque<Vec<u8>>,
    len: u64,
    lost: u64,
    full_since: Option<u64>,
}

/// The messages for a line.
pub type Render<'a> = dyn Fn(Line<'_>) -> Vec<Vec<u8>> + 'a;

/// A socket that is connected to it.
pub fn connect(receiver: &Receiver) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(&receiver.path)?;
    Ok(socket)
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.runs.is_empty()
    }

    /// Adds lines, and what is told before them.
    pub fn add(&mut self, notice: Vec<Vec<u8>>, runs: Vec<Run>) {
        self.messages.extend(notice);
        self.len = 0;
        self.runs.extend(runs);
    }

    /// Sends what is there. After an error the same is tried again, from the first message that has not gone.
    pub fn send(&mut self, receiver: &Receiver, render: &Render<'_>) -> io::Result<Sent> {
        let mut is_new = self.socket.is_none();
        while self.fetch(render) {
            let socket = match &self.socket {
                Some(socket) => socket,
                None => self.socket.insert(connect(receiver)?),
            };
            match post(socket, &self.messages[0], receiver.protocol) {
                Ok(()) => self.full_since = None,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let since = *self.full_since.get_or_insert_with(clock::now_ms);
                    return Ok(Sent::Full { since });
                }
                // It would be no shorter the next time.
                Err(e) if e.raw_os_error() == Some(errno::EMSGSIZE) => self.lost += mem::take(&mut self.len),
                Err(e) => {
                    self.socket = None;
                    if is_new {
                        return Err(e);
                    }
                    // It may have been started anew since.
                    is_new = true;
                    continue;
                }
            }
            self.messages.pop_front();
        }
        Ok(Sent::All { lost: mem::take(&mut self.lost) })
    }

    /// Makes the messages of the next line, if there are none. Whether there are any then.
    fn fetch(&mut self, render: &Render<'_>) -> bool {
        while self.messages.is_empty() {
            let Some(run) = self.runs.front_mut() else { return false };
            let end = run.bytes.iter().position(|&b| b == b'\n').map_or(run.bytes.len(), |at| at + 1);
            let line = run.bytes.split_to(end);
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let is_part = text.len() == line.len();
            self.len = line.len() as u64;
            if !line.is_empty() {
                self.messages.extend(render(Line { stream: name(run.source), at: run.at, text, is_part }));
            }
            if run.bytes.is_empty() {
                self.runs.pop_front();
            }
        }
        true
    }

    /// What becomes writable when the receiver takes more.
    pub fn awaits(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().filter(|_| !self.is_empty()).map(AsFd::as_fd)
    }
}

fn post(socket: &UnixDatagram, message: &[u8], protocol: Protocol) -> io::Result<()> {
    if protocol == Protocol::Journal && message.len() > DATAGRAM_MAX {
        let file = memfd_sealed(c"provost-line", message)?;
        return sendmsg(socket.as_fd(), b"", &[file.as_fd()], Blocking::Never);
    }
    sendmsg(socket.as_fd(), message, &[], Blocking::Never)
}
