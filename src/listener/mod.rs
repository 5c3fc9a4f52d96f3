//! The listener: where clients come in over the unix socket. One thread (`listener`) accepts and refuses;
//! each connection has a thread of its own (`conn-N`), which reads a request, calls the [`Service`], and
//! writes what it answers.
//!
//! Knows frames, limits and who is at the other end; knows nothing of processes. Every wait has a deadline or
//! ends when the other end goes, except for one: a client that has greeted may be silent for as long as it
//! likes.

#![forbid(unsafe_code)]

mod channel;
mod connection;
mod limits;
mod replies;
mod slots;

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

pub use crate::listener::channel::Closed;
use crate::listener::connection::Connection;
pub use crate::listener::connection::{Caller, Service};
pub use crate::listener::limits::Limits;
pub use crate::listener::replies::{Counts, Replies, Woken};
use crate::listener::slots::{Admission, Slot, Slots};
use crate::sys::errno::{EMFILE, ENFILE, ENOMEM};
use crate::sys::poll::{self, PollFd, Wait, Waker};
use crate::sys::socket::{Blocking, PeerCredentials};
use crate::sys::spares::Spares;
use crate::sys::{clock, socket, system, thread};
use crate::wire::error::{Code, Error, SILENT};
use crate::wire::frame;
use crate::wire::request::Hello;
use crate::wire::role::{GroupRoles, Role};
use crate::wire::time::millis;

/// Descriptors kept for clients when all others are taken: who cannot connect cannot stop what took them.
const RESERVE: usize = 4;
/// How long the listener waits before it tries again what the system had no means for, unless a connection
/// ends first.
const RETRY_MS: u64 = 1000;
/// How long a refused client has to send what it was about to send and then read why: closing at once would
/// break its write before it comes to reading.
const REFUSED_MS: u64 = 1000;
/// The most refused clients that are given that time.
const REFUSED_MAX: usize = 64;

/// Where clients come in.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// Anybody of this machine who is let in.
    pub listener: &'a OwnedFd,
    /// The gateway, which alone has the other end and sends connected sockets over it. Who comes in there is
    /// not asked for credentials.
    pub gateway: Option<&'a OwnedFd>,
}

/// Lets clients in until the listening socket fails, and returns how it did. Besides root and the service's
/// own user that is who has a role by one of `groups`. `opened` is called when everything that the listener
/// itself needs is there.
pub fn run(
    ways: Ways<'_>,
    service: &Arc<dyn Service>,
    limits: Limits,
    groups: &GroupRoles,
    opened: impl FnOnce(),
) -> io::Error {
    let mut listener = Listener {
        ways,
        is_gateway_there: false,
        service,
        limits,
        groups,
        slots: Arc::new(Slots::new(limits, Waker::for_this_thread())),
        gateway_slots: Arc::new(Slots::new(limits, Waker::for_this_thread())),
        reserve: Spares::new(RESERVE),
        refused: VecDeque::new(),
    };
    listener.reserve.fill();
    opened();
    loop {
        if let Err(e) = listener.step() {
            return e;
        }
    }
}

struct Listener<'a> {
    ways: Ways<'a>,
    /// The gateway has sent something.
    is_gateway_there: bool,
    service: &'a Arc<dyn Service>,
    limits: Limits,
    groups: &'a GroupRoles,
    slots: Arc<Slots>,
    /// As many, so that nobody takes any from others.
    gateway_slots: Arc<Slots>,
    reserve: Spares,
    /// Refused clients, and when each is closed.
    refused: VecDeque<(u64, Arc<UnixStream>)>,
}

impl Listener<'_> {
    /// Lets one client in, or waits for one.
    fn step(&mut self) -> io::Result<()> {
        if self.is_gateway_there {
            self.take_from_gateway();
        }
        match socket::accept(self.ways.listener.as_fd()) {
            Ok(socket) => {
                self.admit(&Arc::new(UnixStream::from(socket)));
                Ok(())
            }
            Err(e) => match (e.kind(), e.raw_os_error()) {
                (io::ErrorKind::WouldBlock, _) => self.wait_for_client(),
                // The client has gone already.
                (io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted, _) => Ok(()),
                (_, Some(EMFILE | ENFILE)) if self.give_way() => Ok(()),
                // The client stays in the queue. Looking at the socket would find it there again and again.
                (_, Some(EMFILE | ENFILE | ENOMEM)) => self.wait_for_means(),
                _ => Err(e),
            },
        }
    }

    /// Lets in what the gateway has sent, if it is a connection.
    fn take_from_gateway(&mut self) {
        let Some(way) = self.ways.gateway else { return };
        // Nothing, an error and a message without descriptors are the same: there is nobody to let in. Those
        // that there was no descriptor for are gone, which the gateway sees at its end.
        let received = socket::recvmsg(way.as_fd(), &mut [0; 16], Blocking::Never);
        self.is_gateway_there = received.is_ok();
        let Some(client) = received.ok().and_then(|(_, mut fds)| fds.pop()) else { return };
        let client = Arc::new(UnixStream::from(client));
        let Ok(peer) = socket::peer_credentials(client.as_fd()) else { return };
        if socket::set_nonblocking(client.as_fd(), true).is_err() {
            return;
        }
        let PeerCredentials { uid, gid, pid } = peer;
        let caller = Caller { uid, gid, pid, is_owner: false, role: Role::Viewer, is_gateway: true };
        let slots = Arc::clone(&self.gateway_slots);
        self.serve(&client, caller, &slots, None);
    }

    fn wait_for_client(&mut self) -> io::Result<()> {
        if self.is_gateway_there {
            return Ok(());
        }
        let now = clock::now_ms();
        while self.refused.front().is_some_and(|&(until, _)| until <= now) {
            self.refused.pop_front();
        }
        self.reserve.fill();
        let refill = (!self.reserve.is_full()).then_some(now + RETRY_MS);
        let deadline = refill.into_iter().chain(self.refused.front().map(|&(until, _)| until)).min();
        let gateway = PollFd::maybe(self.ways.gateway.map(AsFd::as_fd), PollFd::readable);
        let mut fds = [PollFd::readable(self.ways.listener.as_fd()), gateway];
        poll::wait(&mut fds, deadline)?;
        self.is_gateway_there = fds[1].is_readable();
        // A socket that was shut down is ready for ever, and never has anybody.
        if fds[0].is_hung_up() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the listening socket was shut down"));
        }
        Ok(())
    }

    /// Frees a descriptor for the next client, if there is one to free.
    fn give_way(&mut self) -> bool {
        self.refused.pop_front().is_some() || self.reserve.free_one()
    }

    fn wait_for_means(&mut self) -> io::Result<()> {
        self.slots.call_at_next_change();
        poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS)).map(drop)
    }

    fn admit(&mut self, client: &Arc<UnixStream>) {
        let Ok(peer) = socket::peer_credentials(client.as_fd()) else { return };
        let PeerCredentials { uid, gid, pid } = peer;
        let service_uid = system::euid();
        let Some(role) = self.groups.of_peer(client.as_fd(), &peer, service_uid) else {
            return self.refuse(client, no_role(uid, service_uid, self.groups));
        };
        let is_owner = uid == 0 || uid == service_uid;
        let caller = Caller { uid, gid, pid, is_owner, role, is_gateway: false };
        let slots = Arc::clone(&self.slots);
        self.serve(client, caller, &slots, (!is_owner).then_some(uid));
    }

    /// Gives a connection its thread, if there is a slot for it.
    fn serve(&mut self, client: &Arc<UnixStream>, caller: Caller, slots: &Arc<Slots>, other: Option<u32>) {
        let slot = match self.slot(client, slots, other) {
            Ok(slot) => slot,
            Err(e) => return self.refuse(client, e),
        };
        // So many that were sent away have not left yet that their threads would pile up.
        if slots.is_crowded() {
            let _ = poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS));
        }
        let name = slot.thread_name();
        let connection =
            Connection::new(Arc::clone(client), slot, Arc::clone(self.service), caller, self.limits);
        if let Err(e) = thread::spawn(&name, move || connection.run()) {
            let e =
                Error::new(Code::Refused, format!("the service cannot make a thread for the client: {e}"));
            self.refuse(client, e.hint("see the limits of processes and memory of the service"));
        }
    }

    /// A slot for one more client. When all are taken, the client that has been silent for the longest has to
    /// go.
    fn slot(
        &mut self,
        client: &Arc<UnixStream>,
        slots: &Arc<Slots>,
        other: Option<u32>,
    ) -> Result<Slot, Error> {
        let (retry_until, moment) = (clock::now_ms() + RETRY_MS, millis(self.limits.moment));
        while clock::now_ms() < retry_until {
            let silent = match slots.take(client, other) {
                Admission::Free(slot) => return Ok(slot),
                Admission::OverShare => return Err(over_share(self.limits)),
                Admission::Silent(silent) => silent,
                Admission::None => break,
            };
            // Who has sent something is not silent: in a burst, its thread has not come to reading it yet.
            let mut fds: Vec<_> = silent.iter().map(|(_, client)| PollFd::readable(client.as_fd())).collect();
            let looked = poll::wait(&mut fds, Some(0));
            let since = clock::now_ms().saturating_sub(moment);
            let mut without_bytes = silent.iter().zip(fds).filter(|(_, fd)| !fd.is_ready());
            match without_bytes.find(|((number, _), _)| slots.dismiss(*number, since)) {
                Some(((_, silent), _)) => {
                    let e =
                        Error::new(Code::Refused, "too many clients are silent, this one for the longest");
                    self.refuse(silent, e.hint("send the hello at once after connecting").reason(SILENT));
                    let _ = silent.shutdown(Shutdown::Read);
                }
                // A change that the look has already shown must not be waited for.
                None if looked.is_ok_and(|wait| wait == Wait::Woken) => {}
                None => drop(poll::wait(&mut [], Some(retry_until.min(clock::now_ms() + moment)))),
            }
        }
        let most = self.limits.connections;
        Err(Error::new(Code::Refused, format!("too many connections: {most} are open"))
            .hint("close some of them: 'provost stream' and 'events --follow' keep theirs open"))
    }

    /// Says why, and closes a little later.
    fn refuse(&mut self, client: &Arc<UnixStream>, error: Error) {
        let mut out = Vec::new();
        let hello = Hello { error: Some(error), ..Hello::ours() };
        if frame::put(&mut out, &hello.encode()).is_ok() {
            // It fits: nothing was sent on this socket before. If it does not, closing says enough.
            let _ = socket::send(client.as_fd(), &out);
        }
        let _ = client.shutdown(Shutdown::Write);
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((clock::now_ms() + REFUSED_MS, Arc::clone(client)));
    }
}

fn over_share(limits: Limits) -> Error {
    let e = format!("too many connections of users with a role by their group: {} each", limits.other);
    Error::new(Code::Refused, format!("{e}, {} in all", limits.others)).hint("close some of them")
}

fn no_role(uid: u32, service_uid: u32, groups: &GroupRoles) -> Error {
    let whose = if groups.is_empty() { "" } else { ": it is in none of the groups in [local.group_roles]" };
    Error::new(
        Code::Refused,
        format!("user {uid} may not use this service, which runs as user {service_uid}{whose}"),
    )
    .hint(match service_uid {
        _ if !groups.is_empty() => "an administrator of the service adds the user to one".to_owned(),
        0 => "run the command as root".to_owned(),
        service_uid => {
            format!("run the command as user {service_uid} or as root, or start a service of your own")
        }
    })
}

#[cfg(test)]
mod tests;
