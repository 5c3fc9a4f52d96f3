//! Lets providers on this machine connect without TLS. One thread has all of the connections, so that a
//! thousand providers at rest cost no threads: it accepts, meters, and carries bytes to the gRPC server,
//! which gets one end of a socket pair and never a socket of the network.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use grpcio::Server;

use crate::meter::budget::Budget;
use crate::meter::complaint::complaint;
use crate::meter::unfinished::{self, Unfinished};
use crate::meter::{FrameMeter, Quotas};
use crate::module::plain_pump::{End, Pump};
use crate::module::shared::Shared;
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::poll::{self, PollFd, Wait, Waker};
use crate::sys::socket::next_connection;
use crate::sys::{clock, grpc};
use crate::tls::closer::Closer;
use crate::tls::pump::Ended;
use crate::tls::tunnel::plain_pair;

/// The most connections at once.
const CONNECTIONS_MAX: usize = 2000;
/// How long no connection is accepted when there is no descriptor or memory for one more, ms.
const SHUT_MS: u64 = 100;
/// How much is read at once, in bytes.
const ROOM_LEN: usize = 64 << 10;

/// What connections may do.
pub struct PlainLimits {
    pub calls_max: u32,
    /// The longest message from a provider, in bytes.
    pub message_len_max: u64,
}

/// The thread's own.
pub struct PlainListener<'a> {
    listener: TcpListener,
    server: Server,
    shared: &'a Shared,
    limits: PlainLimits,
    epoll: Epoll,
    /// Connections by their number; a number is used again.
    all: Vec<Option<Open>>,
    free: Vec<usize>,
    /// Those that are to be looked at at a time, ready or not.
    timed: BTreeSet<usize>,
    unfinished: Budget,
    room: Vec<u8>,
}

struct Open {
    pump: Pump,
    /// What the list waits for at each end; none: the end is gone, and not on the list.
    listed: [Option<Interest>; 2],
}

const ENDS: [End; 2] = [End::Provider, End::Server];

impl<'a> PlainListener<'a> {
    pub fn new(
        listener: TcpListener,
        server: Server,
        shared: &'a Shared,
        limits: PlainLimits,
    ) -> io::Result<Self> {
        let unfinished = unfinished::budget(limits.message_len_max);
        Ok(Self {
            listener,
            server,
            shared,
            limits,
            epoll: Epoll::new()?,
            all: Vec::new(),
            free: Vec::new(),
            timed: BTreeSet::new(),
            unfinished,
            room: vec![0; ROOM_LEN],
        })
    }

    /// Serves until the process ends.
    pub fn run(mut self) {
        let mut shut_until = None;
        loop {
            let now_ms = clock::now_ms();
            let is_full = self.all.len() - self.free.len() >= CONNECTIONS_MAX;
            // Shut, the listener is not looked at: it would be ready all the time.
            let looked_at = (shut_until.is_none() && !is_full).then(|| self.listener.as_fd());
            let dues = self.timed.iter().filter_map(|n| self.all[*n].as_ref()?.pump.due(now_ms));
            let due = dues.chain(shut_until).min();
            let mut fds = [PollFd::maybe(looked_at, PollFd::readable), PollFd::readable(self.epoll.as_fd())];
            let woken = poll::wait(&mut fds, due);
            let [listener, _] = fds.map(|fd| fd.is_ready());
            self.carry(matches!(woken, Ok(Wait::Woken)));
            if shut_until.is_none_or(|at| clock::now_ms() >= at) {
                shut_until = None;
                if listener && self.accept().is_err() {
                    shut_until = Some(clock::now_ms() + SHUT_MS);
                }
            }
        }
    }

    /// Goes on with the connections that can. `is_woken`: one of them may be unwanted.
    fn carry(&mut self, is_woken: bool) {
        let now_ms = clock::now_ms();
        let mut some = self.timed.clone();
        if is_woken {
            let all = self.all.iter().enumerate();
            some.extend(
                all.filter(|(_, open)| open.as_ref().is_some_and(|o| o.pump.is_unwanted())).map(|(n, _)| n),
            );
        }
        for ready in self.epoll.ready().unwrap_or_default() {
            let key = usize::try_from(ready.key).unwrap_or(usize::MAX);
            let (n, end) = (key / ENDS.len(), ENDS[key % ENDS.len()]);
            some.insert(n);
            if ready.is_hung_up
                && let Some(open) = self.all.get_mut(n).and_then(Option::as_mut)
            {
                // The list would tell it again and again.
                let _ = self.epoll.remove(open.pump.fd(end));
                open.listed[end as usize] = None;
                if end == End::Server {
                    open.pump.server_is_gone(now_ms);
                }
            }
        }
        for n in some {
            let Some(open) = self.all.get_mut(n).and_then(Option::as_mut) else { continue };
            match open.pump.carry(&mut self.room, now_ms) {
                _ if open.listed[End::Provider as usize].is_none() => {
                    self.end(n, &Ended::Lost(String::new()))
                }
                Some(ended) => self.end(n, &ended),
                None => self.list(n, now_ms),
            }
        }
    }

    /// Has the list wait for what the connection waits for.
    fn list(&mut self, n: usize, now_ms: u64) {
        let Some(open) = &mut self.all[n] else { return };
        for end in ENDS {
            let key = (n * ENDS.len() + end as usize) as u64;
            let interest = open.pump.interest(end, now_ms);
            if let Some(listed) = &mut open.listed[end as usize]
                && *listed != interest
                && self.epoll.change(open.pump.fd(end), key, interest).is_ok()
            {
                *listed = interest;
            }
        }
        if open.pump.due(now_ms).is_some() {
            self.timed.insert(n);
        } else {
            self.timed.remove(&n);
        }
    }

    fn end(&mut self, n: usize, ended: &Ended) {
        let Some(open) = self.all[n].take() else { return };
        self.timed.remove(&n);
        self.free.push(n);
        if let Some(why) = complaint(ended) {
            self.shared.say(&format!("modules: {}: connection ended: {why}", open.pump.address));
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.all.len() - self.free.len() < CONNECTIONS_MAX
            && let Some((tcp, address)) = next_connection(|| self.listener.accept())?
        {
            tcp.set_nodelay(true)?;
            tcp.set_nonblocking(true)?;
            let (theirs, ours) = plain_pair()?;
            let (closer, now_ms) = (Closer::default(), clock::now_ms());
            closer.wakes(Waker::for_this_thread());
            let quotas = Quotas { calls_max: self.limits.calls_max, ..Quotas::default() };
            let unfinished = Unfinished::new(self.unfinished.enter(closer.clone()));
            let meter = FrameMeter::new(quotas, now_ms).also(unfinished, Box::new(|| None));
            let pump = Pump::new(tcp, address.ip(), ours, meter, closer);
            let n = self.free.pop().unwrap_or_else(|| {
                self.all.push(None);
                self.all.len() - 1
            });
            let reads = Interest { reads: true, writes: false };
            for end in ENDS {
                let key = (n * ENDS.len() + end as usize) as u64;
                if let Err(e) = self.epoll.add(pump.fd(end), key, reads) {
                    self.free.push(n);
                    return Err(e);
                }
            }
            self.all[n] = Some(Open { pump, listed: [Some(reads); 2] });
            if let Err(e) = grpc::serve(&mut self.server, theirs) {
                self.end(n, &Ended::Lost(String::new()));
                return Err(e);
            }
        }
        Ok(())
    }
}
