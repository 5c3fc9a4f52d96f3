//! Carries bytes between a TLS connection and a stream socket of ours that holds the plaintext: one thread,
//! one `poll` over both.
//!
//! Each direction is a buffer of one batch: nothing is read from one side before the last batch has gone to
//! the other. So an end that does not read stops its sender, at the other end of both connections, and memory
//! stays at two batches. A socket that gave less than it was asked for is empty, and is not read again before
//! `poll` says so.
//!
//! The end of one direction leaves the other as it is: end of the plaintext is a close_notify and a FIN to
//! the peer, and a close_notify of the peer is the end of the plaintext. A FIN without one may come from
//! an attacker in between: then everything ends at once.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustls::Error as Tls;

use crate::sys::poll::{self, PollFd, Wait, Waker};
use crate::sys::spin::Spin;
use crate::sys::{clock, socket, thread};
use crate::tls::error_texts;
use crate::tls::tunnel::Tunnel;
use crate::wire::buffer::Buffer;

/// A batch is read at once, in bytes: at first so many.
const BATCH_LEN: usize = 16 << 10;
/// And with every one that was full twice as many, up to this: then wake-ups no longer count.
const BATCH_LEN_MAX: usize = 256 << 10;
/// Longer batches, in bytes, are neither short requests nor short answers, so the pump does not spin.
const SPIN_LEN: usize = 4 << 10;
/// After how long without traffic buffers and stack are given back, in milliseconds. Once; nothing ticks.
const IDLE_MS: u64 = 1000;
/// What the peer has not taken this long after our side is gone, in milliseconds, it does not get.
const GOODBYE_MS: u64 = 10_000;
/// For how long the peer may then still send, in milliseconds: it is read and ignored. Closing at once, with
/// bytes unread, could take back what the peer has not read yet.
const LINGER_MS: u64 = 1000;

/// Watches the plaintext. Called on the pump's thread, before the bytes go on.
pub trait Meter {
    /// Bytes from the peer.
    fn inbound(&mut self, _plaintext: &[u8], _now_ms: u64) -> MeterDecision {
        MeterDecision::Pass
    }

    /// Bytes to the peer.
    fn outbound(&mut self, _plaintext: &[u8], _now_ms: u64) -> MeterDecision {
        MeterDecision::Pass
    }

    /// When the connection ends unless this changes (monotonic ms), and why. Asked when bytes have passed.
    fn due(&mut self) -> Option<(u64, &'static str)> {
        None
    }
}

/// What becomes of bytes, and of those after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterDecision {
    Pass,
    /// They go on; in this direction no more are read before this time (monotonic ms).
    PauseUntil(u64),
    /// They do not go on, and the connection ends: why, in words.
    Kill(&'static str),
}

impl MeterDecision {
    fn heed(self, paused_ms: &mut u64) -> Result<(), Ended> {
        match self {
            Self::Pass => {}
            Self::PauseUntil(at) => *paused_ms = at,
            Self::Kill(why) => return Err(Ended::Killed(why)),
        }
        Ok(())
    }
}

/// For ends that trust the other: everything passes.
pub struct Unmetered;

impl Meter for Unmetered {}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As both sides wanted.
    Done,
    /// Our side has closed its socket while the peer still talked.
    Dismissed,
    /// Without a close_notify: what came last may not be all that was sent.
    Truncated,
    /// The peer said that it does not go on, or broke the rules of TLS: in words.
    Refused(String),
    /// The meter did not like what passed.
    Killed(&'static str),
    /// The connection broke, or the peer did not take what was left for it.
    Lost(String),
    /// The peer's certificate is not valid any more.
    Expired,
    /// By [`Closer::close`].
    Closed,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("the connection was closed"),
            Self::Dismissed => f.write_str("the connection was given up on this side"),
            Self::Truncated => f.write_str("the connection was closed without a goodbye (close_notify)"),
            Self::Refused(why) | Self::Lost(why) => f.write_str(why),
            Self::Killed(why) => f.write_str(why),
            Self::Expired => f.write_str("the peer's certificate has expired"),
            Self::Closed => f.write_str("the connection was closed from this side"),
        }
    }
}

impl Tunnel {
    /// Carries bytes between the peer and `plain`, a stream socket that does not block, to their end. To be
    /// called near the top of a thread that `sys::thread` made: its stack is given back while there is
    /// nothing to do.
    pub fn run(self, plain: OwnedFd, meter: &mut dyn Meter) -> Ended {
        self.closer.wakes(Waker::for_this_thread());
        let closer = self.closer.clone();
        let ended = Pump::new(self, plain, meter).run();
        closer.has_ended();
        ended
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The last bytes are on their way.
    Ending,
    Ended,
    /// The bytes have no reader left: they are read and ignored.
    Ignored,
}

/// What is known of a socket without asking again.
struct Side {
    readable: bool,
    writable: bool,
    /// The other end is gone; `poll` would say so without end.
    hung_up: bool,
    /// How much is read at once.
    batch_len: usize,
}

impl Side {
    fn new() -> Self {
        Self { readable: true, writable: true, hung_up: false, batch_len: BATCH_LEN }
    }

    fn poll<'a>(&self, fd: BorrowedFd<'a>, reads: bool, writes: bool) -> PollFd<'a> {
        if self.hung_up && !reads && !writes { PollFd::nothing() } else { PollFd::traffic(fd, reads, writes) }
    }

    /// After reading so much: less than asked for is all there was.
    fn took(&mut self, len: usize) {
        self.readable = len == self.batch_len;
        if self.readable {
            self.batch_len = (self.batch_len * 2).min(BATCH_LEN_MAX);
        }
    }

    fn note(&mut self, fd: &PollFd<'_>) {
        self.readable |= fd.is_readable();
        self.writable |= fd.is_writable();
        self.hung_up |= fd.is_hung_up();
    }
}

struct Pump<'a> {
    tunnel: Tunnel,
    plain: OwnedFd,
    meter: &'a mut dyn Meter,
    /// From `plain`, not encrypted yet: empty between two turns.
    batch: Buffer,
    tcp_side: Side,
    plain_side: Side,
    inbound: Flow,
    outbound: Flow,
    /// Not read before (monotonic ms).
    inbound_paused_ms: u64,
    outbound_paused_ms: u64,
    /// When it ends whatever is left.
    deadline_ms: Option<u64>,
    /// For what our side says to what has come, and for what the peer says to what went out.
    spin_for_plain: Spin,
    spin_for_tcp: Spin,
}

impl<'a> Pump<'a> {
    fn new(tunnel: Tunnel, plain: OwnedFd, meter: &'a mut dyn Meter) -> Self {
        Self {
            tunnel,
            plain,
            meter,
            batch: Buffer::default(),
            tcp_side: Side::new(),
            plain_side: Side::new(),
            inbound: Flow::Open,
            outbound: Flow::Open,
            inbound_paused_ms: 0,
            outbound_paused_ms: 0,
            deadline_ms: None,
            spin_for_plain: Spin::default(),
            spin_for_tcp: Spin::default(),
        }
    }

    fn run(mut self) -> Ended {
        // What came together with the end of the handshake is decrypted already.
        let ended = match self.meter_inbound().and_then(|()| self.carry()) {
            Ok(()) | Err(Ended::Done) if self.inbound == Flow::Ignored => Ended::Dismissed,
            Ok(()) => Ended::Done,
            Err(ended) => ended,
        };
        self.part(&ended);
        ended
    }

    /// Tells the peer, if TLS has a word for it and there is room for it.
    fn part(&mut self, ended: &Ended) {
        match ended {
            Ended::Done | Ended::Dismissed | Ended::Truncated | Ended::Lost(_) => return,
            Ended::Refused(_) => self.tunnel.session.alert(),
            // What is in the way of it is not worth waiting for.
            Ended::Killed(_) | Ended::Expired | Ended::Closed => drop(self.tunnel.session.close()),
        }
        let _ = socket::send(self.tunnel.tcp.as_fd(), self.tunnel.session.outgoing.filled());
        socket::shutdown_write(self.tunnel.tcp.as_fd());
    }

    fn carry(&mut self) -> Result<(), Ended> {
        let mut idle = false;
        loop {
            if self.tunnel.closer.is_wanted() {
                return Err(Ended::Closed);
            }
            let now = clock::now_ms();
            if self.tunnel.until_ms.is_some_and(|at| now >= at) {
                return Err(Ended::Expired);
            }
            let moved = self.inbound(now)? | self.outbound(now)?;
            if let Some((_, why)) = self.meter.due().filter(|(at, _)| now >= *at) {
                return Err(Ended::Killed(why));
            }
            if self.is_done(now) {
                return Ok(());
            }
            if self.deadline_ms.is_some_and(|at| now >= at) {
                let peer = self.tunnel.peer;
                return Err(Ended::Lost(format!("the {peer} does not take what is left for it")));
            }
            if moved {
                idle = false;
            } else if self.spin_for_plain.again() || self.spin_for_tcp.again() {
                (self.tcp_side.readable, self.plain_side.readable) = (true, true);
            } else {
                idle = self.wait(now, idle)?;
            }
        }
    }

    /// Both are at their end, or the peer has had time enough to hear that we are.
    fn is_done(&self, now: u64) -> bool {
        let lingered = self.deadline_ms.is_some_and(|at| now >= at);
        self.outbound == Flow::Ended && (self.inbound == Flow::Ended || lingered)
    }

    /// TCP to plaintext. Whether anything moved.
    fn inbound(&mut self, now: u64) -> Result<bool, Ended> {
        let mut moved = false;
        if !self.tunnel.session.plain.is_empty() && self.plain_side.writable {
            moved |= self.deliver();
        }
        if !self.tunnel.session.plain.is_empty() {
            return Ok(moved);
        }
        if self.tunnel.session.is_peer_closed() && self.inbound != Flow::Ended {
            socket::shutdown_write(self.plain.as_fd());
            self.inbound = Flow::Ended;
            return Ok(true);
        }
        if self.wants_tcp(now) && self.tcp_side.readable {
            moved |= self.receive()?;
        }
        Ok(moved)
    }

    fn wants_tcp(&self, now: u64) -> bool {
        self.inbound != Flow::Ended && self.tunnel.session.plain.is_empty() && now >= self.inbound_paused_ms
    }

    fn receive(&mut self) -> Result<bool, Ended> {
        let session = &mut self.tunnel.session;
        let len = self.tcp_side.batch_len;
        match socket::recv(self.tunnel.tcp.as_fd(), &mut session.incoming.room(len)[..len]) {
            Ok(0) if self.inbound == Flow::Ignored && self.outbound == Flow::Ended => {
                return Err(Ended::Done);
            }
            Ok(0) => return Err(Ended::Truncated),
            Ok(n) => {
                self.tcp_side.took(n);
                session.incoming.add(n);
            }
            Err(e) => return blocked(e, &mut self.tcp_side.readable).map(|()| false).map_err(lost),
        }
        session.advance().map_err(|e| self.broken(&e))?;
        self.meter_inbound()?;
        if self.inbound == Flow::Ignored {
            self.tunnel.session.plain.clear();
        } else {
            self.deliver();
        }
        Ok(true)
    }

    fn meter_inbound(&mut self) -> Result<(), Ended> {
        let plain = self.tunnel.session.plain.filled();
        if plain.is_empty() {
            return Ok(());
        }
        self.meter.inbound(plain, clock::now_ms()).heed(&mut self.inbound_paused_ms)
    }

    /// Gives plaintext to our side. Whether it took anything.
    fn deliver(&mut self) -> bool {
        let plain = &mut self.tunnel.session.plain;
        match socket::send(self.plain.as_fd(), plain.filled()) {
            Ok(n) => {
                self.plain_side.writable = n == plain.len();
                plain.consume(n);
                self.spin_for_tcp.end();
                if n <= SPIN_LEN {
                    self.spin_for_plain.begin();
                }
                true
            }
            Err(e) => {
                if blocked(e, &mut self.plain_side.writable).is_err() {
                    self.ignore_peer();
                }
                false
            }
        }
    }

    /// Our side is gone: what comes has no reader, and what is left for the peer has a deadline.
    fn ignore_peer(&mut self) {
        self.tunnel.session.plain.clear();
        if self.inbound != Flow::Ended {
            self.inbound = Flow::Ignored;
        }
        let timeout = if self.outbound == Flow::Ended { LINGER_MS } else { GOODBYE_MS };
        self.deadline_ms.get_or_insert(clock::now_ms() + timeout);
    }

    /// Plaintext to TCP. Whether anything moved.
    fn outbound(&mut self, now: u64) -> Result<bool, Ended> {
        let mut moved = false;
        if !self.tunnel.session.outgoing.is_empty() && self.tcp_side.writable {
            moved |= self.transmit()?;
        }
        if !self.tunnel.session.outgoing.is_empty() {
            return Ok(moved);
        }
        if self.outbound == Flow::Ending {
            socket::shutdown_write(self.tunnel.tcp.as_fd());
            self.outbound = Flow::Ended;
            if self.inbound == Flow::Ignored {
                let linger = clock::now_ms() + LINGER_MS;
                self.deadline_ms = self.deadline_ms.map(|at| at.min(linger));
            }
            return Ok(true);
        }
        if self.wants_plain(now) && self.plain_side.readable {
            moved |= self.collect()?;
        }
        Ok(moved)
    }

    fn wants_plain(&self, now: u64) -> bool {
        self.outbound == Flow::Open
            && self.tunnel.session.outgoing.is_empty()
            && now >= self.outbound_paused_ms
    }

    fn collect(&mut self) -> Result<bool, Ended> {
        let len = self.plain_side.batch_len;
        let room = &mut self.batch.room(len)[..len];
        let read = match socket::recv(self.plain.as_fd(), room) {
            Ok(n) => n,
            Err(e) => match blocked(e, &mut self.plain_side.readable) {
                Ok(()) => return Ok(false),
                // It has left without reading everything.
                Err(_) => 0,
            },
        };
        if read == 0 {
            self.tunnel.session.close().map_err(|e| self.broken(&e))?;
            self.outbound = Flow::Ending;
        } else {
            self.plain_side.took(read);
            self.meter.outbound(&room[..read], clock::now_ms()).heed(&mut self.outbound_paused_ms)?;
            self.tunnel.session.encrypt(&room[..read]).map_err(|e| self.broken(&e))?;
        }
        self.transmit()?;
        self.spin_for_plain.end();
        if read <= SPIN_LEN {
            self.spin_for_tcp.begin();
        }
        Ok(true)
    }

    /// Sends to the peer. Whether it took anything.
    fn transmit(&mut self) -> Result<bool, Ended> {
        let outgoing = &mut self.tunnel.session.outgoing;
        match socket::send(self.tunnel.tcp.as_fd(), outgoing.filled()) {
            Ok(n) => {
                self.tcp_side.writable = n == outgoing.len();
                outgoing.consume(n);
                Ok(true)
            }
            Err(e) => blocked(e, &mut self.tcp_side.writable).map(|()| false).map_err(lost),
        }
    }

    fn broken(&self, e: &Tls) -> Ended {
        Ended::Refused(error_texts::failure(e, self.tunnel.peer))
    }

    /// Waits until something can move. `idle`: whether memory was given back since the last time. Returns the
    /// same.
    fn wait(&mut self, now: u64, idle: bool) -> Result<bool, Ended> {
        let session = &self.tunnel.session;
        let (reads_tcp, writes_tcp) = (self.wants_tcp(now), !session.outgoing.is_empty());
        let (reads_plain, writes_plain) = (self.wants_plain(now), !session.plain.is_empty());
        let paused = [self.inbound_paused_ms, self.outbound_paused_ms];
        let mut deadline = paused
            .into_iter()
            .filter(|at| *at > now)
            .chain(self.deadline_ms)
            .chain(self.tunnel.until_ms)
            .chain(self.meter.due().map(|(at, _)| at))
            .min();
        if !idle {
            deadline = Some(deadline.map_or(now + IDLE_MS, |at| at.min(now + IDLE_MS)));
        }

        let mut fds = [
            self.tcp_side.poll(self.tunnel.tcp.as_fd(), reads_tcp, writes_tcp),
            self.plain_side.poll(self.plain.as_fd(), reads_plain, writes_plain),
        ];
        let woke = poll::wait(&mut fds, deadline).map_err(lost)?;
        let [tcp, plain] = fds;
        self.tcp_side.note(&tcp);
        self.plain_side.note(&plain);
        if self.plain_side.hung_up && self.inbound != Flow::Ignored {
            self.ignore_peer();
        }
        if woke == Wait::Deadline && !idle && clock::now_ms() >= now + IDLE_MS {
            self.give_back();
            return Ok(true);
        }
        Ok(idle)
    }

    fn give_back(&mut self) {
        (self.tcp_side.batch_len, self.plain_side.batch_len) = (BATCH_LEN, BATCH_LEN);
        self.batch.shrink();
        self.tunnel.session.shrink();
        thread::give_back_stack();
    }
}

/// Notes that a call would have had to wait; another error stays one.
fn blocked(e: io::Error, ready: &mut bool) -> io::Result<()> {
    match e.kind() {
        ErrorKind::WouldBlock => *ready = false,
        ErrorKind::Interrupted => {}
        _ => return Err(e),
    }
    Ok(())
}

fn lost(e: io::Error) -> Ended {
    Ended::Lost(format!("the connection broke: {e}"))
}
