//! Where a service is, on this machine or on another, and a connection to it of either kind.

use std::fmt;
#[cfg(feature = "gateway")]
use std::io;
#[cfg(feature = "gateway")]
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
#[cfg(feature = "gateway")]
use std::sync::Arc;
use std::time::Duration;

use crate::client::cancel::Canceller;
use crate::client::link::{Fault, Link};
#[cfg(feature = "gateway")]
use crate::client::pair::Pair;
#[cfg(feature = "gateway")]
use crate::client::remote::{Remote, RemoteLink};
use crate::client::socket;
#[cfg(feature = "gateway")]
use crate::sys::poll::{self, PollFd};
use crate::wire::envelope::Behalf;
#[cfg(feature = "gateway")]
use crate::wire::error::Code;
use crate::wire::error::Error;
use crate::wire::id::OrderKey;
use crate::wire::reply::{More, Reply};
use crate::wire::request::Request;

/// Where a service is, for as many connections as are wanted.
#[derive(Clone, Debug)]
pub struct Address(At);

#[derive(Clone, Debug)]
enum At {
    Socket(PathBuf),
    #[cfg(feature = "gateway")]
    Remote(Arc<Remote>),
    /// Of this machine, for its gateway.
    #[cfg(feature = "gateway")]
    Pair(Arc<Pair>),
    /// The host of providers beside it.
    #[cfg(feature = "gateway")]
    HostBehind(Arc<Pair>),
}

impl Address {
    /// The service that has started this process as its gateway, with this end of a socket pair. `shown`:
    /// where it listens.
    #[cfg(feature = "gateway")]
    #[must_use]
    pub(crate) fn of_gateway(end: OwnedFd, shown: PathBuf) -> Self {
        Self(At::Pair(Arc::new(Pair::new(end, shown))))
    }

    /// The host of providers beside the engine that is there.
    #[cfg(feature = "gateway")]
    #[must_use]
    pub(crate) fn of_host(&self) -> Self {
        match &self.0 {
            At::Pair(pair) => Self(At::HostBehind(Arc::clone(pair))),
            At::Socket(path) => Self(At::Socket(socket::host_socket(path))),
            At::Remote(_) | At::HostBehind(_) => self.clone(),
        }
    }

    /// At a unix socket of this machine.
    #[must_use]
    pub fn socket(path: PathBuf) -> Self {
        Self(At::Socket(path))
    }

    /// Behind the gateway of another machine.
    #[cfg(feature = "gateway")]
    #[must_use]
    pub fn remote(remote: Remote) -> Self {
        Self(At::Remote(Arc::new(remote)))
    }

    pub(super) fn open(&self) -> Result<Connection, Error> {
        match &self.0 {
            At::Socket(path) => Link::open(path).map(Connection::Socket),
            #[cfg(feature = "gateway")]
            At::Remote(remote) => remote.open().map(|link| Connection::Remote(Box::new(link))),
            #[cfg(feature = "gateway")]
            At::Pair(pair) => pair.connect().map(Connection::Socket),
            #[cfg(feature = "gateway")]
            At::HostBehind(pair) => pair.connect_to_host().map(Connection::Socket),
        }
    }

    /// The same in the middle of things, where a service was before. The socket of this machine is there all
    /// the time; a gateway that died comes back, and until then nothing was sent.
    pub(super) fn open_again(&self) -> Result<Connection, Fault> {
        self.open().map_err(|e| match &self.0 {
            #[cfg(feature = "gateway")]
            At::Remote(_) | At::HostBehind(_) if e.code == Code::Unreachable => {
                Fault::Unsent(io::Error::other(e.message))
            }
            _ => Fault::Final(e),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::Socket(path) => f.write_str(&socket::shown(path)),
            #[cfg(feature = "gateway")]
            At::Remote(remote) => remote.fmt(f),
            #[cfg(feature = "gateway")]
            At::Pair(pair) | At::HostBehind(pair) => f.write_str(&socket::shown(&pair.shown)),
        }
    }
}

#[derive(Debug)]
pub(super) enum Connection {
    Socket(Link),
    #[cfg(feature = "gateway")]
    Remote(Box<RemoteLink>),
}

impl Connection {
    /// A canceller ends what is waited for here. It works on this machine only: it is for programs that
    /// ask on behalf of others.
    pub fn watch(&self, canceller: &Canceller) -> Result<(), Error> {
        match self {
            Self::Socket(link) => canceller.moved_to(link.socket()),
            #[cfg(feature = "gateway")]
            Self::Remote(_) => Ok(()),
        }
    }

    pub fn send(
        &mut self,
        request: &Request,
        on_behalf_of: Option<&Behalf>,
        key: Option<OrderKey>,
    ) -> Result<(), Fault> {
        match self {
            Self::Socket(link) => link.send(request, on_behalf_of, key),
            // The gateway knows its caller.
            #[cfg(feature = "gateway")]
            Self::Remote(link) => link.send(request, key),
        }
    }

    /// The descriptors that came with the answer to a request for some.
    pub fn take_shared(&mut self) -> Vec<OwnedFd> {
        match self {
            Self::Socket(link) => link.take_shared(),
            #[cfg(feature = "gateway")]
            Self::Remote(_) => Vec::new(),
        }
    }

    /// Waits until the other end has gone; one on another machine is not waited for.
    #[cfg(feature = "gateway")]
    pub fn until_lost(&self) {
        let Self::Socket(link) = self else { return };
        let mut fds = [PollFd::hangup(link.socket().as_fd())];
        while poll::wait(&mut fds, None).is_ok() && !fds[0].is_hung_up() {}
    }

    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<(Reply, More), Fault> {
        match self {
            Self::Socket(link) => link.receive(timeout),
            #[cfg(feature = "gateway")]
            Self::Remote(link) => link.receive(timeout),
        }
    }
}
