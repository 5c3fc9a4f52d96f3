//! One connection over the unix socket, in frames; `remote.rs` has the other kind, and `connection.rs` both.
//! Sends a request, hands out its replies, and says of every failure how far the request can have come. Knows
//! nothing of trying again; that is `retry.rs`.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::client::socket::open;
use crate::sys::socket::{self, Blocking};
use crate::wire::envelope::{Behalf, Envelope};
use crate::wire::error::{Code, Error, SILENT};
use crate::wire::frame::{self, Frames};
use crate::wire::id::OrderKey;
use crate::wire::reply::{More, Reply};
use crate::wire::request::{CHANNEL_VERSION, Hello, Request};

/// How long the service may take for its first word, and for the answer to a request that it answers at once.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the host of providers may take to be ready.
pub(super) const HOST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after a host that has just ended the engine is asked for another one.
pub(super) const HOST_AGAIN: Duration = Duration::from_millis(5);
/// Bytes read at once, at first: the answer to one target. Long answers and streams read more at once.
const READ_LEN_MIN: usize = 4 << 10;
/// Bytes read at once, at most.
const READ_LEN_MAX: usize = 256 << 10;
/// A request up to this fits any socket buffer, so that writing it cannot wait.
const WRITE_AT_ONCE_MAX: usize = 32 << 10;

/// Why nothing more comes from a connection.
#[derive(Debug)]
pub(super) enum Fault {
    /// It broke before the whole request was out: the service did nothing.
    Unsent(io::Error),
    /// It broke after the request was out: what the service did is unknown.
    Broken(io::Error),
    /// The service lives, as far as we know, but said nothing for so long.
    Silent(Duration),
    /// The answer itself makes it senseless to go on.
    Final(Error),
}

/// Both sides' first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    /// Ours is still to be sent.
    Due,
    /// Theirs is still to come.
    Awaited,
    Exchanged,
}

#[derive(Debug)]
pub(super) struct Link {
    socket: Arc<UnixStream>,
    frames: Frames,
    /// How much is read at once.
    read_len: usize,
    greeting: Greeting,
    read_timeout: Option<Duration>,
    /// The last request asked for descriptors: those that have come so far. Others are closed by the kernel.
    shared: Option<Vec<OwnedFd>>,
}

impl Link {
    /// Connects. Nothing is sent until there is a request to send with it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        open(path).map(Self::over)
    }

    /// Over a socket that is connected already.
    pub(super) fn over(socket: UnixStream) -> Self {
        Self {
            socket: Arc::new(socket),
            frames: Frames::new(),
            read_len: READ_LEN_MIN,
            greeting: Greeting::Due,
            read_timeout: None,
            shared: None,
        }
    }

    pub(super) fn socket(&self) -> &Arc<UnixStream> {
        &self.socket
    }

    /// Sends a request; on a new connection with our greeting in front, in the same write.
    pub(super) fn send(
        &mut self,
        request: &Request,
        on_behalf_of: Option<&Behalf>,
        key: Option<OrderKey>,
    ) -> Result<(), Fault> {
        let mut out = Vec::with_capacity(256);
        if self.greeting == Greeting::Due {
            frame::put(&mut out, &Hello::ours().encode()).map_err(Fault::Final)?;
        }
        frame::put(&mut out, &Envelope::encode(request, on_behalf_of, key)).map_err(|e| {
            Fault::Final(
                e.hint("arguments, environment and targets of one request are together at most 4 MiB"),
            )
        })?;
        if out.len() > WRITE_AT_ONCE_MAX {
            self.socket.set_write_timeout(Some(TIMEOUT)).map_err(Fault::Unsent)?;
        }
        match (&*self.socket).write_all(&out) {
            Ok(()) => {}
            Err(e) if is_timeout(&e) => return Err(Fault::Silent(TIMEOUT)),
            Err(e) => return Err(Fault::Unsent(e)),
        }
        if self.greeting == Greeting::Due {
            self.greeting = Greeting::Awaited;
        }
        let shares = match request {
            Request::Follow(follow) => follow.share,
            // The host's own answer has none beside it.
            Request::Host | Request::GrpcListener | Request::GatewaySetup { .. } => true,
            _ => false,
        };
        self.shared = shares.then(Vec::new);
        Ok(())
    }

    /// The next reply. `timeout` is how long it may take once the service has greeted; none: as long as it
    /// takes.
    pub(super) fn receive(&mut self, timeout: Option<Duration>) -> Result<(Reply, More), Fault> {
        loop {
            match self.frames.take() {
                Err(e) => return Err(Fault::Final(garbled(&e))),
                Ok(Some(payload)) if self.greeting == Greeting::Exchanged => {
                    return Reply::decode(payload).map_err(|e| Fault::Final(garbled(&e)));
                }
                Ok(Some(payload)) => {
                    let hello = Hello::decode(payload).map_err(|e| Fault::Final(garbled(&e)))?;
                    check_greeting(hello)?;
                    self.greeting = Greeting::Exchanged;
                }
                Ok(None) => self.read(timeout)?,
            }
        }
    }

    /// The descriptors that came with the answer.
    pub(super) fn take_shared(&mut self) -> Vec<OwnedFd> {
        self.shared.take().unwrap_or_default()
    }

    fn read(&mut self, timeout: Option<Duration>) -> Result<(), Fault> {
        let timeout = if self.greeting == Greeting::Exchanged { timeout } else { Some(TIMEOUT) };
        if self.read_timeout != timeout {
            self.socket.set_read_timeout(timeout).map_err(Fault::Broken)?;
            self.read_timeout = timeout;
        }
        let room = self.frames.room(self.read_len);
        let read = match &mut self.shared {
            None => (&*self.socket).read(room),
            Some(shared) => socket::recvmsg(self.socket.as_fd(), room, Blocking::Wait).map(|(n, fds)| {
                shared.extend(fds);
                n
            }),
        };
        match read {
            Ok(0) => Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                self.frames.add(n);
                if n == self.read_len {
                    self.read_len = (n * 8).min(READ_LEN_MAX);
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) if is_timeout(&e) => Err(Fault::Silent(timeout.unwrap_or_default())),
            Err(e) => Err(Fault::Broken(e)),
        }
    }
}

/// What std makes of a timeout set on the socket.
fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn check_greeting(theirs: Hello) -> Result<(), Fault> {
    if let Some(error) = theirs.error {
        return Err(match error.code {
            // We were connected for a while before there was anything to say, and were let go: nothing of it
            // was heard.
            Code::TimedOut => Fault::Unsent(io::ErrorKind::TimedOut.into()),
            // The same, where there were many of us at once, and the machine had much to do.
            _ if error.reason == SILENT => Fault::Unsent(io::Error::other(error.message)),
            _ => Fault::Final(error),
        });
    }
    if theirs.versions.contains(&CHANNEL_VERSION) {
        return Ok(());
    }
    let versions: Vec<String> = theirs.versions.iter().map(u32::to_string).collect();
    let error = Error::new(
        Code::Refused,
        format!(
            "versions do not match: the service ({}) speaks version {} of the command channel, this program (provost {}) \
             speaks {CHANNEL_VERSION}",
            theirs.program,
            versions.join(", "),
            env!("CARGO_PKG_VERSION"),
        ),
    );
    Err(Fault::Final(error.hint("use the program of the service's version, or upgrade the service")))
}

fn garbled(e: &Error) -> Error {
    Error::new(Code::Unreachable, format!("what answers on the socket is not understood: {e}"))
        .hint("is it the socket of 'provost serve', of the same version?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::soon;
    use std::thread;

    fn answer_with(bytes: Vec<u8>) -> Fault {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || theirs.write_all(&bytes).unwrap());
        let mut link = Link::over(ours);
        peer.join().unwrap();
        link.receive(Some(TIMEOUT)).unwrap_err()
    }

    #[test]
    fn garbage_is_told_from_a_broken_connection() {
        assert!(matches!(answer_with(vec![0xff; 99]), Fault::Final(e) if e.code == Code::Unreachable));
        assert!(matches!(answer_with(b"\0\0\0\x09par".to_vec()), Fault::Broken(_)));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let hello = Hello { versions: vec![7, 8], program: "provost 9.9.9".into(), error: None };
        let mut bytes = Vec::new();
        frame::put(&mut bytes, &hello.encode()).unwrap();
        let Fault::Final(e) = answer_with(bytes) else { panic!("not final") };
        assert_eq!(e.code, Code::Refused);
        assert!(e.message.contains("provost 9.9.9") && e.message.contains("version 7, 8"), "{e}");
    }

    #[test]
    fn a_greeting_that_came_too_late_took_no_request_along() {
        let error = Error::new(Code::TimedOut, "the hello did not come");
        let mut bytes = Vec::new();
        frame::put(&mut bytes, &Hello { error: Some(error), ..Hello::ours() }.encode()).unwrap();
        assert!(matches!(answer_with(bytes), Fault::Unsent(_)));
        // So is one that was sent away for others.
        let refused = |reason: &str| {
            let error = Error::new(Code::Refused, "too many clients are silent").reason(reason);
            let mut bytes = Vec::new();
            frame::put(&mut bytes, &Hello { error: Some(error), ..Hello::ours() }.encode()).unwrap();
            answer_with(bytes)
        };
        assert!(matches!(refused(SILENT), Fault::Unsent(_)) && matches!(refused(""), Fault::Final(_)));
    }

    #[test]
    fn a_request_to_a_closed_peer_was_not_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut link = Link::over(ours);
        soon::until("it is closed", || {
            matches!(link.send(&Request::Service, None, None), Err(Fault::Unsent(_)))
        });
    }
}
