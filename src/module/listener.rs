//! Where providers connect: without TLS on this machine alone (`plain_listener.rs`), with TLS from wherever
//! they are (`tls_listener.rs`). The C core gets an end of a socket pair for each, never a socket of the
//! network: what it would take from anybody has been metered.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use grpcio::{ChannelBuilder, Environment, ServerBuilder};

use crate::meter::unfinished;
use crate::module::credentials::Credentials;
use crate::module::owner::Owner;
use crate::module::plain_listener::{PlainLimits, PlainListener};
use crate::module::server::Server as Answers;
use crate::module::shared::Shared;
use crate::module::tls_listener;
use crate::module::tls_listener::ServerParts;
use crate::rpc::services::constellation::module_provider_service;
use crate::sdk::module::protocol::MESSAGE_LEN_MAX;
use crate::sys::{grpc, thread};
use crate::wire::error::{Code, Error};

/// The most calls of one connection at once.
const CALLS_MAX: i32 = 16;

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
pub fn run(listener: TcpListener, tls: Option<Credentials>, shared: &Arc<Shared>) -> Result<(), Error> {
    let env = Arc::new(grpc::environment(1).build());
    let failed = |e: io::Error| Error::failed("start a thread", &e);
    let (calls_max, message_len_max) = (CALLS_MAX as u32, MESSAGE_LEN_MAX as u64);
    if let Some(credentials) = tls {
        let unfinished = unfinished::budget(message_len_max);
        let parts = Arc::new(ServerParts { env, arguments, calls_max, unfinished });
        let shared = Arc::clone(shared);
        let accepting = move || tls_listener::accept_all(&listener, credentials, &parts, &shared);
        return thread::spawn("modules", accepting).map(drop).map_err(failed);
    }
    let answers = Answers { shared: Arc::clone(shared), owner: Owner::default() };
    let mut server = ServerBuilder::new(Arc::clone(&env))
        .channel_args(arguments(env).build_args())
        .register_service(module_provider_service(answers))
        .build()
        .map_err(|e| Error::failed("make a server", &e))?;
    server.start();
    let (limits, shared) = (PlainLimits { calls_max, message_len_max }, Arc::clone(shared));
    let serving = move || match PlainListener::new(listener, server, &shared, limits) {
        Ok(listener) => listener.run(),
        Err(e) => shared.say(&format!("nobody can register modules: {e}")),
    };
    thread::spawn("modules", serving).map(drop).map_err(failed)
}

/// What the C core is told about every connection.
fn arguments(env: Arc<Environment>) -> ChannelBuilder {
    ChannelBuilder::new(env)
        .max_receive_message_len(MESSAGE_LEN_MAX)
        .max_send_message_len(MESSAGE_LEN_MAX)
        .max_concurrent_stream(CALLS_MAX)
        .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
}
