//! Connections to executors: without TLS to this machine, with mutual TLS to the hosts that the configuration
//! names, wherever they are. Every address that a host has is tried.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::module::executor::ExecutorAddress;
use crate::module::settings::Elsewhere;
use crate::sys::{clock, lookup};
use crate::tls::carried::carry;
use crate::tls::{material, tunnel};
use crate::wire::error::Error;
use crate::wire::time::millis;

/// How long a connection may take to each address of this machine, and with TLS to all that a host has.
const HERE_MAX: Duration = Duration::from_secs(1);
const SECURED_MAX_MS: u64 = 10_000;

/// The way to executors.
#[derive(Debug, Default)]
pub struct Dialer {
    elsewhere: Option<Elsewhere>,
}

impl Dialer {
    pub fn new(elsewhere: Option<Elsewhere>) -> Self {
        Self { elsewhere }
    }

    /// Whether it is one of the hosts that are spoken to with TLS, which takes a while.
    pub fn is_secured(&self, address: &ExecutorAddress) -> bool {
        self.secured(address).is_some()
    }

    fn secured(&self, address: &ExecutorAddress) -> Option<&Elsewhere> {
        self.elsewhere.as_ref().filter(|elsewhere| elsewhere.hosts.contains(address.host()))
    }

    /// A stream socket that is connected to the first of the addresses that lets us in, within this time.
    pub fn connect(&self, address: &ExecutorAddress, within: Duration) -> io::Result<OwnedFd> {
        match self.secured(address) {
            None => here(address, within.min(HERE_MAX)),
            Some(elsewhere) => {
                let deadline_ms = clock::now_ms() + millis(within).min(SECURED_MAX_MS);
                secured(address, elsewhere, deadline_ms)
            }
        }
    }
}

/// On this machine; so long for each address.
fn here(address: &ExecutorAddress, timeout: Duration) -> io::Result<OwnedFd> {
    let mut failure = io::Error::other("it is not on this machine");
    for ip in address.literals().into_iter().filter(|ip| ip.is_loopback()) {
        match TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), timeout) {
            Ok(tcp) => return tcp.set_nodelay(true).map(|()| tcp.into()),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

/// The plaintext of a connection that both ends have authenticated. The files are read for each: they may
/// have been renewed.
fn secured(address: &ExecutorAddress, elsewhere: &Elsewhere, deadline_ms: u64) -> io::Result<OwnedFd> {
    let other = |e: Error| io::Error::other(e.message);
    let config = material::client(&elsewhere.files).map_err(other)?;
    let mut all = address.literals();
    if all.is_empty() {
        all = lookup::addresses(address.host(), deadline_ms).map_err(io::Error::other)?;
    }
    let mut failure = io::Error::from(ErrorKind::TimedOut);
    while let Some(ip) = (!all.is_empty()).then(|| all.remove(0)) {
        let left_ms = deadline_ms.saturating_sub(clock::now_ms());
        if left_ms == 0 {
            break;
        }
        // One that says nothing leaves time for the others.
        let until_ms = clock::now_ms() + left_ms / (all.len() as u64 + 1);
        let left = Duration::from_millis((until_ms - clock::now_ms()).max(1));
        let connected = TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), left)
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .and_then(|tcp| tunnel::connect(tcp, config.clone(), address.host(), until_ms).map_err(other));
        match connected {
            Ok(tunnel) => return carry(tunnel).map(|(ours, _)| ours.into()),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}
