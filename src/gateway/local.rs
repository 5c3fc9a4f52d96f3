//! gRPC for programs on this machine: over a unix socket, without TLS and passwords. The kernel says who is
//! at the other end, and who is let in has a role that root gave: so the C core has the connection itself,
//! without a pump and a meter between. Who is in by a group has narrower limits instead.
//!
//! The keeper holds the listening socket and the engine lends it, so that connections wait in it while there
//! is no gateway.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::client::{Client, grpc_socket};
use crate::gateway::caller::Caller;
use crate::gateway::connection;
use crate::gateway::live::End;
use crate::gateway::shared::Gateway;
use crate::gateway::unread::Unread;
use crate::sys::poll::{self, PollFd};
use crate::sys::socket::{self, PeerCredentials};
use crate::sys::{clock, thread};
use crate::wire::error::{Code, Error};
use crate::wire::role::Role;

/// How long no connection is accepted when there is no descriptor or memory for one more, ms.
const SHUT_MS: u64 = 100;
/// The most connections of a user who is in by a group.
const OTHER_MAX: usize = 24;

/// Begins to serve the socket beside that of the service. Where it is, or none if this service has none,
/// which is an error only where `is_needed`.
pub(super) fn begin(
    gateway: &Arc<Gateway>,
    service: &Path,
    is_needed: bool,
) -> Result<Option<String>, Error> {
    let listener = match Client::connect_to(&gateway.address).and_then(|mut client| client.grpc_listener()) {
        Ok(listener) => listener,
        Err(e) if e.code == Code::NotFound && !is_needed => return Ok(None),
        Err(e) => return Err(e),
    };
    let ours = Arc::clone(gateway);
    thread::spawn("grpc-local", move || run(&ours, &listener))
        .map_err(|e| Error::failed("start a thread", &e))?;
    Ok(grpc_socket(service).map(|path| path.display().to_string()))
}

/// Lets clients in until the gateway ends: those who come later wait in the socket for the next one.
fn run(gateway: &Arc<Gateway>, listener: &OwnedFd) {
    let slots = Arc::default();
    let mut shut_until = None;
    loop {
        // Shut, the listener is not looked at: it would be ready all the time.
        let looked_at = shut_until.is_none().then(|| listener.as_fd());
        let _ = poll::wait(&mut [PollFd::maybe(looked_at, PollFd::readable)], shut_until);
        shut_until = None;
        if gateway.serving.is_ending() {
            return;
        }
        if let Err(e) = let_in(gateway, &slots, listener) {
            gateway.log.say(&format!("cannot let connections in for a moment: {e}"));
            shut_until = Some(clock::now_ms() + SHUT_MS);
        }
    }
}

/// How many connections each user has.
type Slots = Mutex<BTreeMap<u32, usize>>;

/// One of them, for as long as this is kept.
struct LocalSlot(Arc<Slots>, u32);

impl LocalSlot {
    /// A slot, if there is one: users who are in by their groups have a few each, and no more together than
    /// leaves most of them to root.
    fn take(slots: &Arc<Slots>, uid: u32, is_other: bool, max: usize) -> Option<Self> {
        let mut taken = slots.lock();
        let (all, its) = (taken.values().sum::<usize>(), taken.get(&uid).copied().unwrap_or(0));
        if all >= max || is_other && (its >= OTHER_MAX || all >= max.div_ceil(2)) {
            return None;
        }
        taken.insert(uid, its + 1);
        Some(Self(Arc::clone(slots), uid))
    }
}

impl Drop for LocalSlot {
    fn drop(&mut self) {
        let mut taken = self.0.lock();
        if let Some(count) = taken.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

fn let_in(gateway: &Arc<Gateway>, slots: &Arc<Slots>, listener: &OwnedFd) -> io::Result<()> {
    while let Some(client) = socket::next_connection(|| socket::accept(listener.as_fd()))? {
        let client = UnixStream::from(client);
        let peer = socket::peer_credentials(client.as_fd())?;
        // Where no group has a role the mode of the socket keeps others out; this holds when somebody
        // loosens it.
        let Some(role) = gateway.groups.of_peer(client.as_fd(), &peer, gateway.service_uid) else {
            gateway
                .log
                .say(&format!("uid {} pid {}: refused: not the user of this service", peer.uid, peer.pid));
            continue;
        };
        let is_other = peer.uid != 0 && peer.uid != gateway.service_uid;
        let Some(slot) = LocalSlot::take(slots, peer.uid, is_other, gateway.limits.connections) else {
            gateway.log.say(&format!("uid {} pid {}: refused: too many connections", peer.uid, peer.pid));
            continue;
        };
        let gateway = Arc::clone(gateway);
        thread::spawn("grpc-conn", move || {
            if let Err(e) = serve(&gateway, client, peer, role) {
                gateway.log.say(&format!("uid {} pid {}: {e}", peer.uid, peer.pid));
            }
            drop(slot);
        })?;
    }
    Ok(())
}

/// The whole life of the connection.
fn serve(gateway: &Arc<Gateway>, client: UnixStream, peer: PeerCredentials, role: Role) -> Result<(), Error> {
    let failed = |e: io::Error| Error::failed("look after the connection", &e);
    let watched = client.try_clone().map_err(failed)?;
    let end = End::Local(client.try_clone().map_err(failed)?);
    // Who may do everything anyway need not be watched.
    let is_member = peer.uid != 0 && peer.uid != gateway.service_uid;
    let unread = if is_member { Unread::watched() } else { Unread::default() };
    let server = connection::serve_calls(gateway, Caller::Local(peer, role), unread.clone(), client)?;
    let _live = connection::enter(gateway, end, &server);
    loop {
        // The C core shuts the socket down at its end, and the client at its own: either is seen here.
        let mut fds = [PollFd::traffic(watched.as_fd(), false, false)];
        let due = unread.due_ms().filter(|_| is_member);
        poll::wait(&mut fds, due).map_err(failed)?;
        if fds[0].is_hung_up() {
            return Ok(());
        }
        if due.is_some_and(|due| due <= clock::now_ms()) && unread.due_ms() == due {
            socket::shutdown(watched.as_fd());
            return Err(Error::new(Code::Refused, "connection ended: it takes no answers"));
        }
    }
}
