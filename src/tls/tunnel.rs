//! The handshake, on the thread that calls, with one deadline for all of it; and the connection that comes of
//! it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::Error as Tls;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;

use crate::sys::poll::{self, PollFd, Wait, Waker};
use crate::sys::{clock, socket};
use crate::tls::closer::Closer;
use crate::tls::error_texts;
use crate::tls::identity::{self, Peer};
use crate::tls::material::ALPN;
use crate::tls::session::Session;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::time::Timestamp;

/// How much is read at once while the handshake goes on.
const READ_LEN: usize = 8 << 10;
/// For how long a refused peer may take to read why, in milliseconds. Closing at once, with bytes of its
/// unread, would take the alert back.
const LINGER_MS: u64 = 500;
/// How much it may say meanwhile.
const LINGER_LEN_MAX: usize = 1 << 20;
/// How much plaintext may be on its way between the pump and its other end, in bytes: with less they take
/// turns instead of working at the same time.
const PLAIN_LEN: u32 = 512 << 10;
/// For how long bytes may stay unacknowledged, in milliseconds: then the peer is gone.
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// A connection with both ends authenticated. [`Tunnel::run`](crate::tls::pump) carries its
/// bytes.
pub struct Tunnel {
    pub(in crate::tls) tcp: TcpStream,
    pub(in crate::tls) session: Session,
    /// What the other end is called in messages.
    pub(in crate::tls) peer: &'static str,
    pub(in crate::tls) closer: Closer,
    /// When the client's certificate ends (monotonic ms).
    pub(in crate::tls) until_ms: Option<u64>,
}

/// Why a client did not get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was not done by the deadline.
    TimedOut,
    /// It has left before the end.
    Gone,
    /// What it has shown or said is not acceptable: why, in words.
    Unacceptable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the TLS handshake was not done in time"),
            Self::Gone => f.write_str("the connection was closed during the TLS handshake"),
            Self::Unacceptable(why) => f.write_str(why),
        }
    }
}

/// Lets a client in that proves who it is before the deadline (monotonic ms).
pub fn accept(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    deadline_ms: u64,
) -> Result<(Tunnel, Peer), Refused> {
    const PEER: &str = "client";
    let session =
        Session::server(config).map_err(|e| Refused::Unacceptable(error_texts::failure(&e, PEER)))?;
    let mut tunnel = shake_hands(tcp, session, PEER, deadline_ms)?;
    let chain = tunnel.session.state().peer_certificates();
    let peer =
        identity::peer(chain.expect("rustls has required a certificate")).map_err(Refused::Unacceptable)?;
    let left = peer.not_after.0.saturating_sub(Timestamp::now().0);
    tunnel.until_ms = Some(clock::now_ms().saturating_add(left));
    Ok((tunnel, peer))
}

/// Connects to a server with a certificate for this name or address, before the deadline (monotonic ms).
/// Whether the server accepts our certificate shows later: [`Ended::Refused`](crate::tls::pump::Ended).
pub fn connect(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    server_name: &str,
    deadline_ms: u64,
) -> Result<Tunnel, Error> {
    const PEER: &str = "server";
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| Error::usage(format!("{} is not the name of a host", quoted(server_name))))?;
    let failed = |why| match why {
        Refused::TimedOut => Error::new(Code::TimedOut, why.to_string()),
        Refused::Gone => Error::new(Code::Unreachable, why.to_string()),
        Refused::Unacceptable(why) => Error::new(Code::Refused, why),
    };
    let session = Session::client(config, name).map_err(|e| Error::usage(error_texts::failure(&e, PEER)))?;
    shake_hands(tcp, session, PEER, deadline_ms).map_err(failed)
}

/// Two connected stream sockets: one for the end that speaks plaintext, the other for
/// [`Tunnel::run`](crate::tls::pump).
pub fn plain_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (theirs, ours) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for end in [&theirs, &ours] {
        // If it cannot be more, it is as it was.
        let _ = socket::set_send_buffer(end.as_fd(), PLAIN_LEN);
    }
    Ok((theirs, ours.into()))
}

/// Why it came to nothing, before it is put in words.
enum Failure {
    TimedOut,
    Io,
    Tls(Tls),
    Alpn,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl From<Tls> for Failure {
    fn from(e: Tls) -> Self {
        Self::Tls(e)
    }
}

fn shake_hands(
    tcp: TcpStream,
    session: Session,
    peer: &'static str,
    deadline_ms: u64,
) -> Result<Tunnel, Refused> {
    let mut tunnel = Tunnel { tcp, session, peer, closer: Closer::default(), until_ms: None };
    let mut deadline = Deadline { deadline_ms, woken: false };
    let done = tunnel.handshake(&mut deadline);
    if done.is_err() {
        deadline.deadline_ms = deadline_ms.min(clock::now_ms() + LINGER_MS);
        tunnel.part(&mut deadline);
    }
    if deadline.woken {
        // Not for us: for what this thread does next.
        Waker::for_this_thread().wake();
    }
    match done {
        Ok(()) => Ok(tunnel),
        Err(Failure::TimedOut) => Err(Refused::TimedOut),
        Err(Failure::Io) => Err(Refused::Gone),
        Err(Failure::Tls(e)) => Err(Refused::Unacceptable(error_texts::failure(&e, peer))),
        Err(Failure::Alpn) => Err(Refused::Unacceptable(error_texts::no_alpn(peer))),
    }
}

impl Tunnel {
    /// For closing it while it runs.
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    fn handshake(&mut self, deadline: &mut Deadline) -> Result<(), Failure> {
        self.tcp.set_nonblocking(true)?;
        self.tcp.set_nodelay(true)?;
        socket::set_user_timeout(self.tcp.as_fd(), UNACKNOWLEDGED_MS)?;
        loop {
            if let Err(e) = self.session.advance() {
                self.session.alert();
                // The peer may be gone: the error is what matters.
                let _ = self.flush(deadline);
                return Err(e.into());
            }
            self.flush(deadline)?;
            if !self.session.state().is_handshaking() {
                break;
            }
            let room = self.session.incoming.room(READ_LEN);
            match socket::recv(self.tcp.as_fd(), room) {
                Ok(0) => return Err(Failure::Io),
                Ok(n) => self.session.incoming.add(n),
                Err(e) => deadline.wait_after(e, PollFd::readable(self.tcp.as_fd()))?,
            }
        }
        // Checked by rustls only if the peer speaks of it at all.
        if self.session.state().alpn_protocol() == Some(ALPN) { Ok(()) } else { Err(Failure::Alpn) }
    }

    fn flush(&mut self, deadline: &mut Deadline) -> Result<(), Failure> {
        while !self.session.outgoing.is_empty() {
            match socket::send(self.tcp.as_fd(), self.session.outgoing.filled()) {
                Ok(n) => self.session.outgoing.consume(n),
                Err(e) => deadline.wait_after(e, PollFd::writable(self.tcp.as_fd()))?,
            }
        }
        Ok(())
    }

    /// Lets the peer read the alert, and then go.
    fn part(&mut self, deadline: &mut Deadline) {
        socket::shutdown_write(self.tcp.as_fd());
        let mut read = 0;
        let mut ignored = [0; READ_LEN];
        while read < LINGER_LEN_MAX {
            match socket::recv(self.tcp.as_fd(), &mut ignored) {
                Ok(0) => return,
                Ok(n) => read += n,
                Err(e) => {
                    if deadline.wait_after(e, PollFd::readable(self.tcp.as_fd())).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// One deadline for many waits.
struct Deadline {
    deadline_ms: u64,
    /// Another thread has woken this one meanwhile.
    woken: bool,
}

impl Deadline {
    /// After a call that would have had to wait; another error stays one.
    fn wait_after(&mut self, e: io::Error, fd: PollFd<'_>) -> Result<(), Failure> {
        match e.kind() {
            ErrorKind::Interrupted => return Ok(()),
            ErrorKind::WouldBlock => {}
            _ => return Err(e.into()),
        }
        // Bytes that come one by one do not move the deadline.
        if clock::now_ms() >= self.deadline_ms {
            return Err(Failure::TimedOut);
        }
        match poll::wait(&mut [fd], Some(self.deadline_ms))? {
            Wait::Deadline => Err(Failure::TimedOut),
            Wait::Ready => Ok(()),
            Wait::Woken => {
                self.woken = true;
                Ok(())
            }
        }
    }
}
