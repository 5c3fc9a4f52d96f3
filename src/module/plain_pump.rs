//! One connection without TLS: bytes on their way between a provider and the socket of the gRPC server, past
//! the meter. It does not wait: who has all of them (`plain_listener.rs`) calls it when something is ready.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::meter::FrameMeter;
use crate::sys::epoll::Interest;
use crate::sys::socket;
use crate::tls::closer::Closer;
use crate::tls::pump::{Ended, Meter, MeterDecision};
use crate::wire::buffer::Buffer;

/// How long a provider may take for what is left for it when the server's end is gone, ms.
const GOODBYE_MS: u64 = 10_000;
/// How often one connection reads in one go, before others have their turn.
const TURNS: usize = 8;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Provider,
    Server,
}

/// A connection.
pub struct Pump {
    tcp: TcpStream,
    plain: OwnedFd,
    meter: FrameMeter,
    closer: Closer,
    inbound: Way,
    outbound: Way,
    /// When it ends whatever is left; there is one once the server's end is gone.
    deadline_ms: Option<u64>,
    pub address: IpAddr,
}

impl Pump {
    pub fn new(tcp: TcpStream, address: IpAddr, plain: OwnedFd, meter: FrameMeter, closer: Closer) -> Self {
        let (inbound, outbound, deadline_ms) = (Way::default(), Way::default(), None);
        Self { tcp, plain, meter, closer, inbound, outbound, deadline_ms, address }
    }

    pub fn fd(&self, end: End) -> BorrowedFd<'_> {
        match end {
            End::Provider => self.tcp.as_fd(),
            End::Server => self.plain.as_fd(),
        }
    }

    /// What is waited for at this end, now.
    pub fn interest(&self, end: End, now_ms: u64) -> Interest {
        let (from, to) = match end {
            End::Provider => (&self.inbound, &self.outbound),
            End::Server => (&self.outbound, &self.inbound),
        };
        Interest { reads: from.wants_bytes(now_ms), writes: !to.waiting.is_empty() }
    }

    /// When it is to be looked at even if nothing is ready, monotonic ms.
    pub fn due(&self, now_ms: u64) -> Option<u64> {
        let paused = [self.inbound.paused_ms, self.outbound.paused_ms];
        paused.into_iter().filter(|at| *at > now_ms).chain(self.deadline_ms).min()
    }

    /// Whether it is to end for what it holds.
    pub fn is_unwanted(&self) -> bool {
        self.closer.is_wanted()
    }

    /// The server's end is gone. What it has said last still goes out, within a time.
    pub fn server_is_gone(&mut self, now_ms: u64) {
        self.inbound = Way { flow: Flow::Ended, ..Way::default() };
        self.deadline_ms.get_or_insert(now_ms + GOODBYE_MS);
    }

    /// Moves what can be moved, through `room`. How it has ended; none: it goes on.
    pub fn carry(&mut self, room: &mut [u8], now_ms: u64) -> Option<Ended> {
        if self.is_unwanted() {
            return Some(Ended::Closed);
        }
        let (tcp, plain, meter) = (self.tcp.as_fd(), self.plain.as_fd(), &mut self.meter);
        let mut turns = if self.deadline_ms.is_some() { usize::MAX } else { TURNS };
        match self.inbound.carry((tcp, plain), room, &mut turns, now_ms, |b| meter.inbound(b, now_ms)) {
            Ok(()) => {}
            Err(Broken::Killed(why)) => return Some(Ended::Killed(why)),
            Err(Broken::From(e)) => return Some(Ended::Lost(e.to_string())),
            Err(Broken::To(_)) => self.server_is_gone(now_ms),
        }
        let (tcp, plain, meter) = (self.tcp.as_fd(), self.plain.as_fd(), &mut self.meter);
        match self.outbound.carry((plain, tcp), room, &mut turns, now_ms, |b| meter.outbound(b, now_ms)) {
            Ok(()) => {}
            Err(Broken::Killed(why)) => return Some(Ended::Killed(why)),
            Err(Broken::To(e)) => return Some(Ended::Lost(e.to_string())),
            // It has left without reading everything.
            Err(Broken::From(_)) => self.outbound.flow = Flow::Ended,
        }
        if self.outbound.flow == Flow::Ended {
            return Some(if self.inbound.flow == Flow::Ended { Ended::Done } else { Ended::Dismissed });
        }
        let is_over = self.deadline_ms.is_some_and(|at| now_ms >= at);
        is_over.then(|| Ended::Lost("it does not take what is left for it".to_owned()))
    }
}

/// Bytes in one direction.
#[derive(Debug, Default)]
struct Way {
    /// Metered, and not taken by the other end yet. Nothing is read before they are.
    waiting: Buffer,
    /// Not read before (monotonic ms).
    paused_ms: u64,
    flow: Flow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// The last bytes are on their way.
    Ending,
    Ended,
}

/// Why bytes did not go on.
enum Broken {
    Killed(&'static str),
    From(io::Error),
    To(io::Error),
}

impl Way {
    fn wants_bytes(&self, now_ms: u64) -> bool {
        self.flow == Flow::Open && self.waiting.is_empty() && now_ms >= self.paused_ms
    }

    /// Moves bytes until one end has none, the other takes none, or its turns are over.
    fn carry(
        &mut self,
        (from, to): (BorrowedFd<'_>, BorrowedFd<'_>),
        room: &mut [u8],
        turns: &mut usize,
        now_ms: u64,
        mut meter: impl FnMut(&[u8]) -> MeterDecision,
    ) -> Result<(), Broken> {
        loop {
            if !self.waiting.is_empty() {
                let sent = sent(to, self.waiting.filled())?;
                self.waiting.consume(sent);
                if !self.waiting.is_empty() {
                    return Ok(());
                }
                // Most of the time there is nothing in it.
                self.waiting = Buffer::default();
            }
            if self.flow == Flow::Ending {
                socket::shutdown_write(to);
                self.flow = Flow::Ended;
            }
            if !self.wants_bytes(now_ms) || *turns == 0 {
                return Ok(());
            }
            *turns -= 1;
            let len = match socket::recv(from, room) {
                Ok(len) => len,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(Broken::From(e)),
            };
            if len == 0 {
                self.flow = Flow::Ending;
                continue;
            }
            match meter(&room[..len]) {
                MeterDecision::Pass => {}
                MeterDecision::PauseUntil(at) => self.paused_ms = at,
                MeterDecision::Kill(why) => return Err(Broken::Killed(why)),
            }
            let sent = sent(to, &room[..len])?;
            if sent < len {
                self.waiting.push(&room[sent..len]);
            }
        }
    }
}

/// How much went out.
fn sent(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Broken> {
    match socket::send(to, bytes) {
        Ok(n) => Ok(n),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(e) => Err(Broken::To(e)),
    }
}
