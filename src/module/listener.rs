//! Lets providers connect: plain TCP on this machine alone; for elsewhere see `tls_listener.rs`. One thread
//! accepts; the C core gets the accepted sockets, never the listening one, so that there is a limit on them.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use grpcio::{ChannelBuilder, EnvBuilder, Environment, Server, ServerBuilder};
use rustls::ServerConfig;

use crate::meter::unfinished::Budget;
use crate::module::owner::Owner;
use crate::module::server::Server as Answers;
use crate::module::shared::Shared;
use crate::module::tls_listener;
use crate::module::tls_listener::ServerParts;
use crate::rpc::services::constellation::module_provider_service;
use crate::sdk::module::protocol::MESSAGE_LEN_MAX;
use crate::sys::poll::{self, PollFd};
use crate::sys::socket::next_connection;
use crate::sys::{clock, grpc, thread};
use crate::wire::error::{Code, Error};

/// The most connections at once.
const CONNECTIONS_MAX: usize = 2000;
/// The most calls of one connection at once.
const CALLS_MAX: i32 = 16;
/// How long no connection is accepted when there is no descriptor or memory for one more, ms.
const SHUT_MS: u64 = 100;

/// Opens the listening socket.
pub fn open(address: SocketAddr, is_secured: bool) -> Result<TcpListener, Error> {
    if !is_secured && !address.ip().is_loopback() {
        let e = format!("modules are listened for without TLS on this machine alone, not on {address}");
        return Err(Error::new(Code::Refused, e).hint("'tls = true' in [modules]"));
    }
    let failed = |e: io::Error| Error::failed(&format!("listen on {address} for modules"), &e);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Serves what connects, on a thread of its own, until the process ends.
pub fn run(listener: TcpListener, tls: Option<Arc<ServerConfig>>, shared: &Arc<Shared>) -> Result<(), Error> {
    let env = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("grpc").build());
    let failed = |e: io::Error| Error::failed("start a thread", &e);
    if let Some(tls) = tls {
        let (calls_max, message_len_max) = (CALLS_MAX as u32, MESSAGE_LEN_MAX as u64);
        let unfinished = Budget::default();
        let parts = Arc::new(ServerParts { env, arguments, calls_max, message_len_max, unfinished });
        let shared = Arc::clone(shared);
        let accepting = move || tls_listener::accept_all(&listener, &tls, &parts, &shared);
        return thread::spawn("modules", accepting).map(drop).map_err(failed);
    }
    let answers = Answers { shared: Arc::clone(shared), owner: Owner::default() };
    let mut server = ServerBuilder::new(Arc::clone(&env))
        .channel_args(arguments(env).build_args())
        .register_service(module_provider_service(answers))
        .build()
        .map_err(|e| Error::failed("make a server", &e))?;
    server.start();
    thread::spawn("modules", move || accept_all(&listener, server)).map(drop).map_err(failed)
}

/// What the C core is told about every connection.
fn arguments(env: Arc<Environment>) -> ChannelBuilder {
    ChannelBuilder::new(env)
        .max_receive_message_len(MESSAGE_LEN_MAX)
        .max_send_message_len(MESSAGE_LEN_MAX)
        .max_concurrent_stream(CALLS_MAX)
        .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
}

fn accept_all(listener: &TcpListener, mut server: Server) {
    // A descriptor of each socket beside the C core's: its end is seen here.
    let mut open: Vec<TcpStream> = Vec::new();
    let mut shut_until = None;
    loop {
        let is_full = open.len() >= CONNECTIONS_MAX;
        // Shut, the listener is not looked at: it would be ready all the time.
        let looked_at = (shut_until.is_none() && !is_full).then(|| listener.as_fd());
        let mut fds = vec![PollFd::maybe(looked_at, PollFd::readable)];
        fds.extend(open.iter().map(|socket| PollFd::hangup(socket.as_fd())));
        let _ = poll::wait(&mut fds, shut_until);
        let is_ended: Vec<bool> = fds[1..].iter().map(PollFd::is_hung_up).collect();
        drop(fds);
        let mut ended = is_ended.into_iter();
        open.retain(|_| !ended.next().unwrap_or(false));
        shut_until = accept(listener, &mut server, &mut open).is_err().then(|| clock::now_ms() + SHUT_MS);
    }
}

fn accept(listener: &TcpListener, server: &mut Server, open: &mut Vec<TcpStream>) -> io::Result<()> {
    while open.len() < CONNECTIONS_MAX
        && let Some((socket, _)) = next_connection(|| listener.accept())?
    {
        socket.set_nodelay(true)?;
        let theirs = UnixStream::from(OwnedFd::from(socket.try_clone()?));
        grpc::serve(server, theirs)?;
        open.push(socket);
    }
    Ok(())
}
