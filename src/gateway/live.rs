//! The connections there are, so that some can be ended: all of them when the gateway ends, those of a
//! certificate when it is revoked.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grpcio::Server;
use parking_lot::{Condvar, Mutex};

use crate::sys::socket;
use crate::tls::closer::Closer;
use crate::tls::identity::Peer;

#[derive(Clone, Default)]
pub(super) struct Live(Arc<Inner>);

#[derive(Default)]
struct Inner {
    connections: Mutex<Connections>,
    /// Notified when the last one has gone.
    none_left: Condvar,
}

#[derive(Default)]
struct Connections {
    next: u64,
    by_number: BTreeMap<u64, Connection>,
}

struct Connection {
    end: End,
    server: Arc<Mutex<Server>>,
}

/// How a connection is ended at once.
pub(super) enum End {
    Remote(Peer, Closer),
    Local(UnixStream),
}

impl End {
    fn come(&self) {
        match self {
            Self::Remote(_, closer) => closer.close(),
            Self::Local(client) => socket::shutdown(client.as_fd()),
        }
    }
}

/// A connection, for as long as this is kept.
pub(super) struct Entered(Live, u64);

impl Live {
    /// `server` is to be dropped after what this returns, which keeps it for others.
    pub fn enter(&self, end: End, server: &Arc<Mutex<Server>>) -> Entered {
        let mut connections = self.0.connections.lock();
        let number = connections.next;
        connections.next += 1;
        connections.by_number.insert(number, Connection { end, server: Arc::clone(server) });
        Entered(self.clone(), number)
    }

    /// Ends the connections of these peers at once; how many.
    pub fn close_if(&self, is_bad: impl Fn(&Peer) -> bool) -> usize {
        let connections = self.0.connections.lock();
        let is_bad = |connection: &&Connection| match &connection.end {
            End::Remote(peer, _) => is_bad(peer),
            End::Local(_) => false,
        };
        connections.by_number.values().filter(is_bad).map(|connection| connection.end.come()).count()
    }

    /// Tells all clients that no more calls are taken (GOAWAY); those under way go on, and the connection
    /// ends with the last of them.
    pub fn drain(&self) {
        self.0.connections.lock().by_number.values().for_each(|connection| drain(&connection.server));
    }

    /// Ends all connections at once.
    pub fn close(&self) {
        self.0.connections.lock().by_number.values().for_each(|connection| connection.end.come());
    }

    /// Waits until there is none left, so long at most. Whether there is none.
    pub fn until_none(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut connections = self.0.connections.lock();
        while !connections.by_number.is_empty() {
            if self.0.none_left.wait_until(&mut connections, deadline).timed_out() {
                return connections.by_number.is_empty();
            }
        }
        true
    }
}

/// The server takes no more calls, and ends with those that it has.
pub(super) fn drain(server: &Mutex<Server>) {
    // The core tells when it is done, too: by ending the connection.
    drop(server.lock().shutdown());
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut connections = self.0.0.connections.lock();
        let gone = connections.by_number.remove(&self.1);
        if connections.by_number.is_empty() {
            self.0.0.none_left.notify_all();
        }
        drop(connections);
        drop(gone);
    }
}
