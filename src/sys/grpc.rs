//! Connected sockets handed over to the gRPC C core, which reads and writes them by itself from then on; and
//! the end of the core, which grpcio leaves out.

use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;

use grpcio::{Channel, ChannelBuilder, Server};

/// Lets a started server answer what comes from this socket.
pub fn serve(server: &mut Server, socket: UnixStream) -> io::Result<()> {
    // The core waits for readiness by itself; on a blocking socket it would hang in a read.
    socket.set_nonblocking(true)?;
    // SAFETY: the socket is a connected stream, and giving up its descriptor makes the core the only one to
    // use it.
    unsafe { server.add_channel_from_fd(socket.into_raw_fd()) };
    Ok(())
}

/// A channel over this socket. The target is only a name for it.
pub fn channel(builder: ChannelBuilder, target: &str, socket: UnixStream) -> io::Result<Channel> {
    socket.set_nonblocking(true)?;
    // SAFETY: as above.
    Ok(unsafe { builder.connect_from_fd(target, socket.into_raw_fd()) })
}

unsafe extern "C" {
    /// In the C core, which grpcio links.
    fn grpc_shutdown();
}

/// Gives back one use of the C core, of which each `grpcio::Environment` takes one: with the last one its
/// threads end. To be called once for each, when its completion threads have ended and its channels are gone.
pub fn release() {
    // SAFETY: it takes the core's own lock, and counts; the caller has nothing of the core any more. The core
    // may be taken up again.
    unsafe { grpc_shutdown() };
}
