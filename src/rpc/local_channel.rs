//! A channel to a server of gRPC on this machine, over a connection of our own: the C core does not say
//! whether it is still connected, so the socket is kept, too.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{ChannelBuilder, Client, Environment};

use crate::sys::grpc;
use crate::sys::poll::{self, PollFd};

#[derive(Clone)]
pub(crate) struct LocalChannel {
    pub client: Client,
    /// The one that the C core uses.
    socket: Arc<OwnedFd>,
}

impl fmt::Debug for LocalChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalChannel").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl LocalChannel {
    /// `receive_max`: the longest message that is taken, in bytes. None is taken compressed.
    pub fn connect(
        address: SocketAddr,
        timeout: Duration,
        environment: Arc<Environment>,
        receive_max: i32,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, timeout)?;
        socket.set_nodelay(true)?;
        Self::over(socket.into(), &address.to_string(), environment, receive_max)
    }

    /// The same over a stream socket that is connected already. The target is only a name for it.
    pub fn over(
        socket: OwnedFd,
        target: &str,
        environment: Arc<Environment>,
        receive_max: i32,
    ) -> io::Result<Self> {
        let builder = ChannelBuilder::new(environment)
            .max_receive_message_len(receive_max)
            .max_send_message_len(-1)
            .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0);
        let theirs = UnixStream::from(socket.try_clone()?);
        let channel = grpc::channel(builder, target, theirs)?;
        Ok(Self { client: Client::new(channel), socket: Arc::new(socket) })
    }

    /// Whether it is known to be broken: a call over it would fail before it reaches the server.
    pub fn is_lost(&self) -> bool {
        let mut fds = [PollFd::hangup(self.socket.as_fd())];
        poll::wait(&mut fds, Some(0)).is_ok() && fds[0].is_hung_up()
    }
}
