//! A service that registers providers and never acknowledges a heartbeat is lost, and tried again.

use std::sync::atomic::AtomicUsize;

use futures_util::TryStreamExt;
use grpcio::{DuplexSink, RequestStream, RpcContext, Server, ServerBuilder, ServerCredentials, UnarySink};

use super::*;
use crate::rpc::codec::Encoded;
use crate::rpc::pending;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::{ModuleProvider, module_provider_service};
use crate::sdk::module::grpc::Grpc;
use crate::sdk::module::protocol::REPLACES;
use crate::sys::{grpc, thread};

#[test]
fn pauses_are_spread_around_their_length() {
    let all: Vec<_> = (0..200).map(|_| jittered(1000)).collect();
    assert!(all.iter().all(|ms| (800..=1200).contains(ms)), "{all:?}");
    assert!(all.iter().min() != all.iter().max());
    assert_eq!(jittered(0), 0);
}

/// What it was asked.
#[derive(Clone, Default)]
struct Mute {
    registered: Arc<AtomicUsize>,
    /// Those of them that named the connection before.
    followed: Arc<AtomicUsize>,
    /// Whether it rejects all.
    is_rejecting: bool,
}

impl ModuleProvider for Mute {
    fn register(
        &mut self,
        ctx: RpcContext<'_>,
        _: Encoded<proto::RegisterRequest>,
        sink: UnarySink<proto::RegisterResponse>,
    ) {
        self.registered.fetch_add(1, Ordering::AcqRel);
        let names_it = ctx.request_headers().iter().any(|(key, value)| key == REPLACES && value == b"given");
        self.followed.fetch_add(usize::from(names_it), Ordering::AcqRel);
        let result = proto::ModuleRegistrationResult {
            module_name: "m".to_owned(),
            accepted: false,
            rejection_reason: "owned by another provider".to_owned(),
        };
        let answer = proto::RegisterResponse {
            success: !self.is_rejecting,
            results: if self.is_rejecting { vec![result] } else { Vec::new() },
            protocol_version: 1,
            connection_id: "given".to_owned(),
        };
        pending::answer(sink, Ok(answer));
    }

    fn deregister(
        &mut self,
        _: RpcContext<'_>,
        _: Encoded<proto::DeregisterRequest>,
        sink: UnarySink<proto::DeregisterResponse>,
    ) {
        pending::answer(sink, Ok(proto::DeregisterResponse { success: true, results: Vec::new() }));
    }

    fn control_plane(
        &mut self,
        ctx: RpcContext<'_>,
        mut requests: RequestStream<proto::ControlMessage>,
        sink: DuplexSink<proto::ControlMessage>,
    ) {
        ctx.spawn(async move {
            // Reads, and says nothing.
            let _sink = sink;
            while let Ok(Some(_)) = requests.try_next().await {}
        });
    }
}

fn serve(mute: Mute) -> (Server, SocketAddr) {
    let env = Arc::new(grpc::environment(1).build());
    let mut server = ServerBuilder::new(env).register_service(module_provider_service(mute)).build().unwrap();
    let port = server.add_listening_port("127.0.0.1:0", ServerCredentials::insecure()).unwrap();
    server.start();
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A connection to it that is in this state when `enough`, and then stops.
fn run_until(address: SocketAddr, enough: impl Fn() -> bool) -> Status {
    let common = Arc::new(Common {
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(200),
        pause: Duration::from_millis(1),
        pause_max: Duration::from_millis(1),
        attempts: None,
        transport: Arc::new(Grpc),
        calls: Arc::default(),
        stop: Stop::default(),
    });
    let offer = Registration { namespace: "n".to_owned(), ..Registration::default() };
    let connection = Arc::new(Connection::new(address, Arc::new(offer)));
    let (ours, theirs) = (Arc::clone(&connection), Arc::clone(&common));
    let thread = thread::spawn("conn", move || ours.run(&theirs)).unwrap();
    let deadline_ms = clock::now_ms() + 30_000;
    while !enough() && connection.wait_for(State::Reconnecting, deadline_ms) {
        connection.wait_for(State::Registering, deadline_ms);
    }
    let status = connection.status();
    common.stop.set();
    thread.join().unwrap();
    assert_eq!(connection.status().state, State::Disconnected);
    status
}

#[test]
fn a_service_that_acknowledges_nothing_is_lost_and_tried_again() {
    let mute = Mute::default();
    let (_server, address) = serve(mute.clone());
    let status = run_until(address, || mute.followed.load(Ordering::Acquire) >= 2);
    assert!(mute.followed.load(Ordering::Acquire) >= 2, "it names the connection that it had");
    assert_eq!(status.last_error, "heartbeats are not acknowledged");
}

#[test]
fn what_is_rejected_is_tried_again() {
    let mute = Mute { is_rejecting: true, ..Mute::default() };
    let (_server, address) = serve(mute.clone());
    let status = run_until(address, || mute.registered.load(Ordering::Acquire) >= 3);
    assert!(mute.registered.load(Ordering::Acquire) >= 3);
    assert_eq!(status.last_error, "Registration failed: m: owned by another provider");
}
