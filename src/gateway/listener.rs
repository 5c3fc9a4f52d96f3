//! Lets connections in: the only TCP listener there is. One thread; it never waits for a client.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::gateway::connection;
use crate::gateway::settings::Limits;
use crate::gateway::shared::Gateway;
use crate::guard::slots::{SlotLimits, Slots};
use crate::sys::poll::{self, PollFd};
use crate::sys::socket::next_connection;
use crate::sys::{clock, thread};

/// How long no connection is accepted when there is no descriptor or memory for one more, ms.
const SHUT_MS: u64 = 100;

/// Lets clients in until the listening socket is shut down.
pub(super) fn run(gateway: &Arc<Gateway>, listener: &TcpListener) {
    let Limits { connections, unauthenticated, connections_each, .. } = gateway.limits;
    let limits = SlotLimits { all: connections, unproven: unauthenticated, each: connections_each };
    let slots = Slots::new(limits);
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

fn let_in(gateway: &Arc<Gateway>, slots: &Arc<Slots>, listener: &TcpListener) -> io::Result<()> {
    while let Some((tcp, address)) = next_connection(|| listener.accept())? {
        let address = address.ip();
        if !gateway.rate_limit.may_enter(address, clock::now_ms()) {
            continue;
        }
        let Some(slot) = slots.take(address) else { continue };
        let gateway = Arc::clone(gateway);
        thread::spawn("grpc-conn", move || connection::serve(&gateway, tcp, address, slot))?;
    }
    Ok(())
}
