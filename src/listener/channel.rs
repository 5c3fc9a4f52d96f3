//! Frames over one socket, both ways, with deadlines. The socket does not block; the thread that owns a
//! channel waits only in here. The kernel closes descriptors that a client sends beside its bytes, since
//! they are not asked for.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::listener::limits::{Limits, after};
use crate::sys::clock;
use crate::sys::poll::{self, PollFd, Wait};
use crate::sys::socket::{self, Blocking};
use crate::wire::error::{Code, Error};
use crate::wire::frame::{self, FRAME_LEN_MAX, Frames};

/// Read at once, in bytes: on the stack of a thread that has little of it, and many a request in one go.
const READ_LEN: usize = 8 << 10;
/// Replies collected before they are sent without being asked to, in bytes.
const WRITE_LEN: usize = 64 << 10;
/// What may be on its way to a client that takes a stream, in bytes.
const STREAM_LEN: u32 = 512 << 10;
/// Memory kept for replies while a connection waits, in bytes: there may be hundreds of them.
const KEEP_LEN: usize = 1 << 10;
/// The longest hello, in bytes: a stranger gets no more memory than this.
const HELLO_LEN_MAX: usize = 4 << 10;
/// Read and thrown away from a client that has broken the rules, in bytes, so that it gets to reading.
const GOODBYE_LEN_MAX: usize = 8 << 20;

/// The client is gone or would not read: nothing more can be said to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Why nothing more is read from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    /// It does not keep to the protocol.
    Broken(Error),
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

/// One end of a connection.
pub(super) struct Channel {
    socket: Arc<UnixStream>,
    limits: Limits,
    frames: Frames,
    /// Grows when the hello was good.
    frame_len_max: usize,
    out: Vec<u8>,
    /// The thread was woken while it waited for room to write; the next wait has to report it.
    woken: bool,
}

impl Channel {
    pub(super) fn new(socket: Arc<UnixStream>, limits: Limits) -> Self {
        Self {
            socket,
            limits,
            frames: Frames::new(),
            frame_len_max: HELLO_LEN_MAX,
            out: Vec::new(),
            woken: false,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// By when the hello has to have come.
    pub(super) fn hello_deadline(&self) -> Deadline {
        Deadline { at: after(self.limits.hello), what: "the hello", given: self.limits.hello }
    }

    /// From now on, frames may have their full size.
    pub(super) fn trust(&mut self) {
        self.frame_len_max = FRAME_LEN_MAX;
    }

    /// The next frame; waits for its first byte as long as it takes. What was put and not sent is sent
    /// before.
    pub(super) fn receive<T>(&mut self, decode: impl Fn(&[u8]) -> T) -> Result<T, End> {
        let mut deadline = None;
        loop {
            if let Some(received) = self.try_receive(deadline, &decode)? {
                return Ok(received);
            }
            if deadline.is_none() && self.frames.is_partial() {
                let given = self.limits.frame;
                deadline = Some(Deadline { at: after(given), what: "the rest of the request", given });
            }
            self.wait_for_bytes(deadline)?;
        }
    }

    /// The next frame, if all of it has come.
    pub(super) fn try_receive<T>(
        &mut self,
        deadline: Option<Deadline>,
        decode: impl Fn(&[u8]) -> T,
    ) -> Result<Option<T>, End> {
        loop {
            match self.frames.take() {
                Ok(Some(frame)) => return Ok(Some(decode(frame))),
                Ok(None) => {}
                Err(e) => return Err(End::Broken(not_understood(&e))),
            }
            if self.frames.missing() > self.frame_len_max {
                let e = Error::usage(format!("a hello has at most {HELLO_LEN_MAX} bytes"));
                return Err(End::Broken(not_understood(&e)));
            }
            // Also a client that always has one more byte has to be done in time.
            if let Some(deadline) = deadline
                && clock::now_ms() >= deadline.at
            {
                return Err(End::Broken(deadline.error()));
            }
            let mut buf = [0; READ_LEN];
            match socket::recv(self.fd(), &mut buf) {
                Ok(0) => return Err(End::Closed),
                Ok(n) => self.frames.feed(&buf[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Closed),
            }
        }
    }

    /// Waits until there is something to read, or the deadline has come.
    pub(super) fn wait_for_bytes(&mut self, deadline: Option<Deadline>) -> Result<(), End> {
        self.rest()?;
        // A wake is left over from a request that is done with.
        poll::wait(&mut [PollFd::readable(self.fd())], deadline.map(|d| d.at)).map_err(|_| End::Closed)?;
        Ok(())
    }

    /// More may be on its way than usual: with less, sender and client take turns instead of working at the
    /// same time.
    pub(super) fn widen(&self) {
        // If it cannot be more, it is as it was.
        let _ = socket::set_send_buffer(self.fd(), STREAM_LEN);
    }

    /// Adds a frame to what is to be sent; sends when much has come together.
    pub(super) fn put(&mut self, frame: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) -> Result<(), Put> {
        frame(&mut self.out).map_err(Put::TooLarge)?;
        if self.out.len() >= WRITE_LEN {
            self.flush().map_err(|Closed| Put::Closed)?;
        }
        Ok(())
    }

    /// Sends all there is to send. A client that takes nothing for too long counts as gone.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        let mut sent = 0;
        let mut deadline = None;
        while sent < self.out.len() {
            match socket::send(self.fd(), &self.out[sent..]) {
                Ok(n) => {
                    sent += n;
                    deadline = None;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let at = *deadline.get_or_insert_with(|| after(self.limits.write));
                    self.wait_for_room(at)?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Sends what was put since the last time, a few hundred bytes, in one go with descriptors beside it.
    pub(super) fn flush_with(&mut self, fds: &[BorrowedFd<'_>]) -> Result<(), Closed> {
        let at = after(self.limits.write);
        loop {
            match socket::sendmsg(self.fd(), &self.out, fds, Blocking::Never) {
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait_for_room(at)?,
                Err(_) => return Err(Closed),
            }
        }
        self.out.clear();
        Ok(())
    }

    fn wait_for_room(&mut self, deadline: u64) -> Result<(), Closed> {
        match poll::wait(&mut [PollFd::writable(self.fd())], Some(deadline)) {
            Ok(Wait::Ready) => Ok(()),
            Ok(Wait::Woken) => {
                self.woken = true;
                Ok(())
            }
            Ok(Wait::Deadline) | Err(_) => Err(Closed),
        }
    }

    /// Waits in one place for the three things that can end a wait. What was put and not sent is sent before.
    pub(super) fn wait(&mut self, deadline: Option<u64>) -> Result<Wait, Closed> {
        self.rest()?;
        if std::mem::take(&mut self.woken) {
            return Ok(Wait::Woken);
        }
        let mut fds = [PollFd::hangup(self.fd())];
        let wait = poll::wait(&mut fds, deadline).map_err(|_| Closed)?;
        if fds[0].is_ready() { Err(Closed) } else { Ok(wait) }
    }

    /// Before a wait that may be long: sends what is there and gives its memory back.
    fn rest(&mut self) -> Result<(), Closed> {
        self.flush()?;
        self.out.shrink_to(KEEP_LEN);
        Ok(())
    }

    /// The last words to a client that did not keep to the protocol. It may still be sending, and would not
    /// come to read them if the socket was closed under it.
    pub(super) fn goodbye(&mut self, payload: &[u8]) {
        let is_said = frame::put(&mut self.out, payload).is_ok() && self.flush().is_ok();
        if !is_said || self.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let at = after(self.limits.goodbye);
        let mut left = GOODBYE_LEN_MAX;
        let mut buf = [0; READ_LEN];
        while left > 0 && clock::now_ms() < at {
            match socket::recv(self.fd(), &mut buf) {
                Ok(n) if n > 0 => left = left.saturating_sub(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if poll::wait(&mut [PollFd::readable(self.fd())], Some(at)).is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Why a frame could not be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// The client is gone.
    Closed,
    /// No frame is that large.
    TooLarge(Error),
}

/// By when something has to have come.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    at: u64,
    what: &'static str,
    given: Duration,
}

impl Deadline {
    fn error(self) -> Error {
        Error::new(Code::TimedOut, format!("{} did not come within {:?}", self.what, self.given))
    }
}

/// What a client is told that speaks something else.
pub(super) fn not_understood(e: &Error) -> Error {
    Error::usage(format!("this is the command channel of provost, and what came is not understood: {e}")).hint(
        format!(
            "it expects frames, a length of 4 bytes (big endian, at most {FRAME_LEN_MAX}) and a message, the first \
             one a Hello; use the 'provost' command or its library"
        ),
    )
}
