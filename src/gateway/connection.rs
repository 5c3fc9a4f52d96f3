//! One connection, on a thread of its own: the handshake, then a gRPC server for this connection alone, fed
//! by the pump until one side ends it. The server's handlers own the caller, so that no call can ever have
//! the rights of another caller.

use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{ChannelBuilder, Server};
use parking_lot::Mutex;

use crate::gateway::caller::Caller;
use crate::gateway::calls::Calls;
use crate::gateway::live::{self, End, Entered};
use crate::gateway::rate_limit::Violation;
use crate::gateway::serving::Watches;
use crate::gateway::shared::{Access, Gateway};
use crate::gateway::shares::Holder;
use crate::gateway::unread::Unread;
use crate::guard::slots::Slot;
use crate::meter::complaint::complaint;
use crate::meter::slowdown::Slowdown;
use crate::meter::unfinished::Unfinished;
use crate::meter::{FrameMeter, Quotas};
use crate::rpc::server::of_one_connection;
use crate::rpc::services::health::health_service;
use crate::rpc::services::public::{
    module_service_service, process_service_service, provider_service_service, registry_service_service,
};
use crate::rpc::services::reflection::server_reflection_service;
use crate::rpc::services::reflection_alpha::server_reflection_service as older_reflection_service;
use crate::sys::{clock, grpc};
use crate::tls::identity::Peer;
use crate::tls::pump::Ended;
use crate::tls::tunnel::{self, Refused, Tunnel, accept};
use crate::wire::error::{Code, Error};
use crate::wire::time::millis;

/// What a user who is in by a group may have at once over one connection: nothing counts there what has come
/// of requests that are not at their end, as the meter does over the network.
const MEMBER_CALLS: u32 = 8;
const MEMBER_MESSAGE_LEN: usize = 512 << 10;
/// The most bytes of a call's metadata.
const METADATA_MAX: i32 = 16 << 10;

/// How often a client may ping an idle connection. The C core's own limit of five minutes would end the
/// connection of a client that wants to see a failure within seconds.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The whole life of the connection.
pub(super) fn serve(gateway: &Arc<Gateway>, tcp: TcpStream, address: IpAddr, mut slot: Slot) {
    let deadline = clock::now_ms() + millis(gateway.limits.handshake);
    let Some(access) = gateway.access() else { return };
    let (tunnel, peer) = match accept(tcp, Arc::clone(&access.tls), deadline) {
        Ok(accepted) => accepted,
        Err(refused) => {
            let violation =
                if refused == Refused::TimedOut { Violation::TooSlow } else { Violation::Refused };
            gateway.rate_limit.add(address, violation, clock::now_ms());
            gateway.log.say(&format!("{address}: refused: {refused}"));
            return;
        }
    };
    let name = peer.shown();
    if !slot.prove(peer.typed.first().map_or("", String::as_str)) {
        gateway
            .log
            .say(&format!("{address} ({name}): refused: its certificate has all connections that one may"));
        return;
    }
    let begun = clock::now_ms();
    gateway.rate_limit.credit(address, begun);
    // The C core ends a connection some time before or after its age, as it goes about.
    let is_old = |age: Duration| clock::now_ms() - begun >= millis(age.mul_f64(0.85));
    match carry(gateway, tunnel, peer, &access) {
        // As we wanted.
        Ok(Ended::Dismissed) if gateway.serving.is_ending() || gateway.limits.max_age.is_some_and(is_old) => {
        }
        Ok(ended) => {
            let violation = match ended {
                Ended::Killed(_) => Some(Violation::Flood),
                Ended::Dismissed => Some(Violation::Broken),
                _ => None,
            };
            if let Some(violation) = violation {
                gateway.rate_limit.add(address, violation, clock::now_ms());
            }
            if let Some(why) = complaint(&ended) {
                gateway.log.say(&format!("{address} ({name}): connection ended: {why}"));
            }
        }
        Err(e) => gateway.log.say(&format!("{address} ({name}): {e}")),
    }
}

/// `shown`: what the client was let in by.
fn carry(gateway: &Arc<Gateway>, tunnel: Tunnel, peer: Peer, shown: &Arc<Access>) -> Result<Ended, Error> {
    let (theirs, ours) = tunnel::plain_pair().map_err(|e| Error::failed("make a socket pair", &e))?;
    let slowdown = Slowdown::new(clock::now_ms());
    let caller = Caller::new(peer.clone(), Arc::clone(&gateway.verifier), slowdown.clone());
    let unread = Unread::counted(gateway.unread.enter(tunnel.closer()));
    let server = serve_calls(gateway, caller, unread.clone(), theirs)?;
    let _live = enter(gateway, End::Remote(peer.clone(), tunnel.closer()), &server);
    // A reload either finds it among the living, or is seen here.
    let is_let_in =
        gateway.access().is_some_and(|access| Arc::ptr_eq(&access, shown) || access.clients.accept(&peer));
    if !is_let_in {
        return Err(Error::new(Code::Refused, "would not be let in any more by what was loaded meanwhile"));
    }
    let quotas = Quotas { calls_max: gateway.limits.streams, ..Quotas::default() };
    let unfinished = Unfinished::new(gateway.unfinished.enter(tunnel.closer()));
    let meter = FrameMeter::new(quotas, clock::now_ms());
    let meter = meter.also(unfinished, Box::new(move || unread.due_ms()));
    Ok(tunnel.run(ours, &mut meter.slowed_by(slowdown)))
    // The server is dropped here: it waits until its calls have noticed.
}

/// Makes the connection one of those that end with the gateway.
pub(super) fn enter(gateway: &Gateway, end: End, server: &Arc<Mutex<Server>>) -> Entered {
    let entered = gateway.live.enter(end, server);
    // An end either finds it among the living, or is seen here.
    if gateway.serving.is_ending() {
        live::drain(server);
    }
    entered
}

/// A gRPC server for this caller, on this socket, for as long as it is kept.
pub(super) fn serve_calls(
    gateway: &Arc<Gateway>,
    caller: Caller,
    unread: Unread,
    socket: UnixStream,
) -> Result<Arc<Mutex<Server>>, Error> {
    let (mut streams, mut message_len) = (gateway.limits.streams, gateway.limits.message_size);
    if matches!(caller.holder(gateway.service_uid), Holder::Member(_)) {
        (streams, message_len) = (streams.min(MEMBER_CALLS), message_len.min(MEMBER_MESSAGE_LEN));
    }
    let (caller, watches) = (Arc::new(caller), Watches::default());
    let calls = Calls { gateway: Arc::clone(gateway), caller, watches, unread };
    let mut server = of_one_connection(&gateway.env, arguments(gateway, streams, message_len))
        .register_service(process_service_service(calls.clone()))
        .register_service(provider_service_service(calls.clone()))
        .register_service(registry_service_service(calls.clone()))
        .register_service(module_service_service(calls.clone()))
        .register_service(health_service(calls.clone()))
        .register_service(server_reflection_service(calls.clone()))
        .register_service(older_reflection_service(calls))
        .build()
        .map_err(|e| Error::failed("make a server", &e))?;
    server.start();
    grpc::serve(&mut server, socket).map_err(|e| Error::failed("hand over the socket", &e))?;
    Ok(Arc::new(Mutex::new(server)))
}

/// What the C core is told about every connection. Its own defences against floods are few: see
/// `meter/mod.rs`.
fn arguments(gateway: &Gateway, streams: u32, message_len: usize) -> ChannelBuilder {
    let int =
        |builder: ChannelBuilder, key: &std::ffi::CStr, value| builder.raw_cfg_int(key.to_owned(), value);
    let message_len = i32::try_from(message_len).unwrap_or(i32::MAX);
    let streams = i32::try_from(streams).unwrap_or(i32::MAX);
    let builder = ChannelBuilder::new(Arc::clone(&gateway.env))
        .max_concurrent_stream(streams)
        .max_receive_message_len(message_len)
        .max_send_message_len(-1)
        .http2_max_ping_strikes(2)
        .http2_min_recv_ping_interval_without_data(PING_INTERVAL_MIN)
        .keepalive_time(gateway.limits.keepalive)
        .keepalive_timeout(gateway.limits.keepalive / 3)
        .keepalive_permit_without_calls(true);
    // A compressed message of 4 MB may be 4 GB: none is taken. A call that says that it has some is answered
    // UNIMPLEMENTED; should one come all the same, it is not unpacked.
    let builder = int(builder, c"grpc.compression_enabled_algorithms_bitset", 1);
    let builder = int(builder, c"grpc.per_message_decompression", 0);
    let builder = int(builder, c"grpc.max_metadata_size", METADATA_MAX);
    let Some(age) = gateway.limits.max_age else { return builder };
    let ms = |duration| i32::try_from(millis(duration)).unwrap_or(i32::MAX);
    let builder = int(builder, c"grpc.max_connection_age_ms", ms(age));
    int(builder, c"grpc.max_connection_age_grace_ms", ms(gateway.limits.grace))
}
