//! A provider's listener where its host asks for TLS: a thread lets connections in, and one for each shakes
//! hands and carries plaintext to the gRPC server. Nothing reaches the server that is not the host's.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grpcio::Server;
use parking_lot::Mutex;
use rustls::ServerConfig;

use crate::sys::{clock, grpc, poll, thread};
use crate::tls::pump::Unmetered;
use crate::tls::tunnel::{accept, plain_pair};
use crate::wire::error::Error;

/// Connections at once. A host has one.
const CONNECTIONS_MAX: usize = 64;
/// How long a handshake may take, ms.
const HANDSHAKE_MS: u64 = 5000;
/// How long no connection is accepted when there is no descriptor or memory for one more, ms.
const SHUT_MS: u64 = 100;

/// The server, as long as it takes connections.
pub type Open = Arc<Mutex<Option<Server>>>;

/// On a free port of 127.0.0.1, and which one.
pub fn bind() -> Result<(TcpListener, u16), Error> {
    let failed = |e| Error::failed("listen on a port of 127.0.0.1", &e);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

/// Lets clients in that prove who they are, until the process ends.
pub fn serve(listener: TcpListener, tls: Arc<ServerConfig>, server: Open) -> Result<(), Error> {
    let connections = Arc::new(AtomicUsize::new(0));
    let accept_all = move || {
        loop {
            match listener.accept() {
                Ok((tcp, _)) => let_in(tcp, &tls, &server, &connections),
                Err(_) => drop(poll::wait(&mut [], Some(clock::now_ms() + SHUT_MS))),
            }
        }
    };
    thread::spawn("tls-accept", accept_all).map(drop).map_err(|e| Error::failed("start a thread", &e))
}

/// On a thread of its own. What there is no room for is closed.
fn let_in(tcp: TcpStream, tls: &Arc<ServerConfig>, server: &Open, connections: &Arc<AtomicUsize>) {
    let (tls, server, connections) = (Arc::clone(tls), Arc::clone(server), Arc::clone(connections));
    let counted = Counted::new(connections);
    let _ = thread::spawn("tls", move || {
        if counted.is_one_of(CONNECTIONS_MAX) {
            carry(tcp, tls, &server);
        }
    });
}

fn carry(tcp: TcpStream, tls: Arc<ServerConfig>, server: &Open) {
    let Ok((tunnel, _)) = accept(tcp, tls, clock::now_ms() + HANDSHAKE_MS) else { return };
    let Ok((theirs, ours)) = plain_pair() else { return };
    let is_served = match &mut *server.lock() {
        Some(server) => grpc::serve(server, theirs).is_ok(),
        None => false,
    };
    if is_served {
        tunnel.run(ours, &mut Unmetered);
    }
}

/// A connection that is there.
struct Counted {
    all: Arc<AtomicUsize>,
    number: usize,
}

impl Counted {
    fn new(all: Arc<AtomicUsize>) -> Self {
        let number = all.fetch_add(1, Ordering::AcqRel) + 1;
        Self { all, number }
    }

    fn is_one_of(&self, max: usize) -> bool {
        self.number <= max
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::AcqRel);
    }
}
