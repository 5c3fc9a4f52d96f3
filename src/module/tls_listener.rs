//! Lets providers connect from wherever they are, with mutual TLS: a thread for each connection shakes
//! hands and carries plaintext past a meter to a gRPC server of this connection alone, whose handlers know
//! the owner.

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{ChannelBuilder, Environment};
use rustls::ServerConfig;

use crate::guard::slots::{Slot, SlotLimits, Slots};
use crate::meter::budget::Budget;
use crate::meter::complaint::complaint;
use crate::meter::unfinished::Unfinished;
use crate::meter::{FrameMeter, Quotas};
use crate::module::credentials::{Credentials, Live};
use crate::module::owner::Owner;
use crate::module::server::Server as Answers;
use crate::module::shared::Shared;
use crate::rpc::server::of_one_connection;
use crate::rpc::services::constellation::module_provider_service;
use crate::sys::poll::{self, PollFd};
use crate::sys::socket::next_connection;
use crate::sys::{clock, grpc, thread};
use crate::tls::identity::Peer;
use crate::tls::pump::Ended;
use crate::tls::tunnel::{self, Tunnel, accept};
use crate::wire::error::Error;
use crate::wire::time::millis;

/// The most connections at once, and those of them that shake hands, and of one certificate.
const LIMITS: SlotLimits = SlotLimits { all: 1000, unproven: 64, each: 500 };
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long no connection is accepted when there is no descriptor or memory for one more, ms.
const SHUT_MS: u64 = 100;
/// A peer that says nothing for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What a server of one connection is made of.
pub struct ServerParts {
    pub env: Arc<Environment>,
    /// The limits of every connection.
    pub arguments: fn(Arc<Environment>) -> ChannelBuilder,
    pub calls_max: u32,
    /// What all connections hold of requests that are not at their end.
    pub unfinished: Budget,
}

/// Lets providers in until the process ends.
pub fn accept_all(
    listener: &TcpListener,
    mut credentials: Credentials,
    parts: &Arc<ServerParts>,
    shared: &Arc<Shared>,
) {
    let slots = Slots::new(LIMITS);
    let mut shut_until: Option<u64> = None;
    loop {
        // Shut, the listener is not looked at: it would be ready all the time.
        let looked_at = shut_until.is_none().then(|| listener.as_fd());
        let mut fds = [PollFd::maybe(looked_at, PollFd::readable), PollFd::readable(credentials.as_fd())];
        let _ = poll::wait(&mut fds, shut_until.into_iter().chain(credentials.due_ms()).min());
        let now_ms = clock::now_ms();
        credentials.look(now_ms).into_iter().for_each(|line| shared.say(&line));
        if shut_until.is_some_and(|at| now_ms < at) {
            continue;
        }
        let let_in = || -> io::Result<()> {
            while let Some((tcp, address)) = next_connection(|| listener.accept())? {
                let Some(slot) = slots.take(address.ip()) else { continue };
                let connection = Connection {
                    tls: credentials.server(),
                    live: credentials.live(),
                    parts: Arc::clone(parts),
                    shared: Arc::clone(shared),
                    address: address.ip(),
                };
                thread::spawn("modules-conn", move || connection.serve(tcp, slot))?;
            }
            Ok(())
        };
        shut_until = let_in().is_err().then(|| clock::now_ms() + SHUT_MS);
    }
}

struct Connection {
    tls: Arc<ServerConfig>,
    live: Live,
    parts: Arc<ServerParts>,
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Connection {
    /// The whole life of it.
    fn serve(self, tcp: TcpStream, mut slot: Slot) {
        let deadline_ms = clock::now_ms() + millis(HANDSHAKE_MAX);
        match accept(tcp, Arc::clone(&self.tls), deadline_ms) {
            Err(refused) => self.shared.say(&format!("modules: {}: refused: {refused}", self.address)),
            Ok((_, peer)) if !slot.prove(peer.typed.first().map_or("", String::as_str)) => {
                self.shared
                    .say(&format!("modules: {}: refused: its certificate has all it may", self.address));
            }
            Ok((tunnel, peer)) => {
                let say = |why: &dyn std::fmt::Display| {
                    self.shared.say(&format!("modules: {} ({}): {why}", self.address, peer.shown()));
                };
                let Some(_entered) = self.live.enter(&peer, tunnel.closer()) else {
                    return say(&"refused: its certificate is not let in any more");
                };
                match self.carry(tunnel, &peer) {
                    Ok(ended) => complaint(&ended)
                        .into_iter()
                        .for_each(|why| say(&format_args!("connection ended: {why}"))),
                    Err(e) => say(&e),
                }
            }
        }
    }

    fn carry(&self, tunnel: Tunnel, peer: &Peer) -> Result<Ended, Error> {
        let (theirs, ours) = tunnel::plain_pair().map_err(|e| Error::failed("make a socket pair", &e))?;
        let answers = Answers { shared: Arc::clone(&self.shared), owner: Owner::new(&peer.typed) };
        let arguments = (self.parts.arguments)(Arc::clone(&self.parts.env))
            .keepalive_time(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE / 3)
            .keepalive_permit_without_calls(true);
        let mut server = of_one_connection(&self.parts.env, arguments)
            .register_service(module_provider_service(answers))
            .build()
            .map_err(|e| Error::failed("make a server", &e))?;
        server.start();
        grpc::serve(&mut server, theirs).map_err(|e| Error::failed("hand over the socket", &e))?;
        let quotas = Quotas { calls_max: self.parts.calls_max, ..Quotas::default() };
        let unfinished = Unfinished::new(self.parts.unfinished.enter(tunnel.closer()));
        // What is answered here is short, and control streams have a limit of their own on what waits.
        let meter = FrameMeter::new(quotas, clock::now_ms());
        Ok(tunnel.run(ours, &mut meter.also(unfinished, Box::new(|| None))))
    }
}
