//! A probe by gRPC, which the engine asks for: the standard `grpc.health.v1.Health/Check`, over a connection
//! of its own, on the thread of whoever asks.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{CallOption, RpcStatus, RpcStatusCode};
use parking_lot::Mutex;

use crate::rpc::block;
use crate::rpc::client_threads::Threads;
use crate::rpc::local_channel::LocalChannel;
use crate::rpc::services::health::health_check_response::ServingStatus;
use crate::rpc::services::health::{HealthCheckRequest, HealthClient};
use crate::sys::datagram::connect_to_socket_at_once;
use crate::sys::{clock, poll, thread};
use crate::wire::error::{Code, Error};
use crate::wire::grpc_probe::{GrpcAddress, GrpcEnd, GrpcProbe};
use crate::wire::time::millis;

/// The longest answer that is taken, in bytes: it is one number.
const ANSWER_LEN_MAX: i32 = 4 << 10;
/// The most of what a server says that is handed on, in characters.
const SAID_MAX: usize = 200;

/// How long the threads for a probe stay after it, ms.
const LINGER_MS: u64 = 2_000;

/// Asks the server. An error with the code `Failed` is about it, any other about ourselves.
pub fn check(probe: &GrpcProbe) -> Result<(), Error> {
    let end = GrpcEnd::parse(&probe.end)?;
    let deadline = clock::now_ms() + millis(probe.timeout);
    let failed = |why: String| Error::new(Code::Failed, why);
    let socket = connect(&end.address, probe.timeout).map_err(|e| failed(format!("cannot connect: {e}")))?;
    // Dropped after the channel.
    let threads = Threads::get();
    linger(&threads);
    let ours = |e: &dyn std::fmt::Display| Error::new(Code::Unreachable, format!("no channel: {e}"));
    let channel = LocalChannel::over(socket, "localhost", threads.environment(), ANSWER_LEN_MAX)
        .map_err(|e| ours(&e))?;
    let client = HealthClient(channel.client.clone());
    let left = Duration::from_millis(deadline.saturating_sub(clock::now_ms()));
    let late = || failed(format!("no answer within {} ms", millis(probe.timeout)));
    let request = HealthCheckRequest { service: end.service.clone() };
    let call = client.check(&request, CallOption::default().timeout(left)).map_err(|e| ours(&e))?;
    match block::wait(call, Some(deadline)) {
        Some(Ok(answer)) => is_serving(answer.status()).map_err(failed),
        Some(Err(grpcio::Error::RpcFailure(status))) => match status.code() {
            RpcStatusCode::DEADLINE_EXCEEDED => Err(late()),
            _ => Err(failed(refusal(&status, &end.service))),
        },
        Some(Err(e)) => Err(failed(e.to_string())),
        None => Err(late()),
    }
}

/// Keeps the C core's threads until no probe has come for a while: to make and end them costs more than the
/// probe itself. At a slower pace they go in between, since they wake once a second.
fn linger(threads: &Arc<Threads>) {
    static KEPT: Mutex<Option<(Arc<Threads>, u64)>> = Mutex::new(None);
    let end_at = clock::now_ms() + LINGER_MS;
    let mut kept = KEPT.lock();
    if let Some((_, until)) = &mut *kept {
        *until = end_at;
        return;
    }
    *kept = Some((Arc::clone(threads), end_at));
    drop(kept);
    let end = || loop {
        let mut kept = KEPT.lock();
        let Some(until) = kept.as_ref().map(|(_, until)| *until) else { return };
        if until <= clock::now_ms() {
            let last = kept.take();
            drop(kept);
            drop(last);
            return;
        }
        drop(kept);
        let _ = poll::wait(&mut [], Some(until));
    };
    if thread::spawn("grpc-linger", end).is_err() {
        *KEPT.lock() = None;
    }
}

fn connect(address: &GrpcAddress, timeout: Duration) -> io::Result<OwnedFd> {
    match address {
        GrpcAddress::Tcp(address) => {
            let socket = TcpStream::connect_timeout(address, timeout.max(Duration::from_millis(1)))?;
            socket.set_nodelay(true)?;
            Ok(socket.into())
        }
        // A socket whose queue is full is one that nobody takes connections from.
        GrpcAddress::Unix(path) => connect_to_socket_at_once(path).map(Into::into),
    }
}

fn is_serving(status: ServingStatus) -> Result<(), String> {
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::NotServing => Err("it says that it is not serving".to_owned()),
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            Err("it does not know whether it is serving".to_owned())
        }
    }
}

fn refusal(status: &RpcStatus, service: &str) -> String {
    match status.code() {
        RpcStatusCode::NOT_FOUND => format!("it has no service {service:?}"),
        RpcStatusCode::UNIMPLEMENTED => "it does not offer grpc.health.v1.Health".to_owned(),
        code => {
            let said: String = status.message().chars().filter(|c| !c.is_control()).take(SAID_MAX).collect();
            format!("it answers with {code}: {said}")
        }
    }
}
