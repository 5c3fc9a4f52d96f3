//! The frames of a real gRPC client and server at full speed, under the meter: none of it may end the
//! connection.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use grpcio::{
    CallOption, ChannelBuilder, Client, Environment, Marshaller, Method, MethodType, RpcStatus,
    RpcStatusCode, Server, ServerBuilder, ServiceBuilder, WriteFlags,
};
use parking_lot::Mutex;

use crate::meter::{FrameMeter, Quotas};
use crate::rpc::{block, codec};
use crate::sys::{clock, grpc, poll};
use crate::tls::pump::{Meter, MeterDecision};

type Bytes = Vec<u8>;

const fn method(name: &'static str, ty: MethodType) -> Method<Bytes, Bytes> {
    Method {
        ty,
        name,
        req_mar: Marshaller { ser: codec::encode::<Bytes>, de: codec::decode::<Bytes> },
        resp_mar: Marshaller { ser: codec::encode::<Bytes>, de: codec::decode::<Bytes> },
    }
}

const ECHO: Method<Bytes, Bytes> = method("/test.Load/Echo", MethodType::Unary);
const FAIL: Method<Bytes, Bytes> = method("/test.Load/Fail", MethodType::Unary);
const HANG: Method<Bytes, Bytes> = method("/test.Load/Hang", MethodType::Unary);
const NONE: Method<Bytes, Bytes> = method("/test.Load/None", MethodType::Unary);
const GIVE: Method<Bytes, Bytes> = method("/test.Load/Give", MethodType::ServerStreaming);
const TAKE: Method<Bytes, Bytes> = method("/test.Load/Take", MethodType::ClientStreaming);

/// How many chunks GIVE gives, of how many bytes.
const CHUNKS: usize = 4000;
const CHUNK_LEN: usize = 64 << 10;

/// A server and a client with a meter between them.
struct MeteredPair {
    client: Client,
    meter: Arc<Mutex<FrameMeter>>,
    /// Why the meter would have ended it.
    killed: Arc<Mutex<Option<&'static str>>>,
    socket: UnixStream,
    _server: Server,
}

impl MeteredPair {
    fn new() -> Self {
        let env = Arc::new(grpc::environment(1).build());
        let (server_end, near) = UnixStream::pair().unwrap();
        let (client_end, far) = UnixStream::pair().unwrap();
        let mut server = serve(&env);
        server.start();
        grpc::serve(&mut server, server_end).unwrap();
        let channel = grpc::channel(ChannelBuilder::new(env), "test", client_end).unwrap();

        let meter = Arc::new(Mutex::new(FrameMeter::new(Quotas::default(), clock::now_ms())));
        let killed = Arc::new(Mutex::new(None));
        for (from, to, inbound) in [(&far, &near, true), (&near, &far, false)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (meter, killed) = (Arc::clone(&meter), Arc::clone(&killed));
            std::thread::spawn(move || {
                if let Some(why) = relay(from, to, inbound, &meter) {
                    *killed.lock() = Some(why);
                }
            });
        }
        Self { client: Client::new(channel), meter, killed, socket: far, _server: server }
    }

    /// Many calls, 64 at a time, and what becomes of the last one.
    fn calls(&self, method: &Method<Bytes, Bytes>, count: usize) -> Option<grpcio::Error> {
        let mut flying = VecDeque::new();
        let mut last = None;
        for n in 0..count + 64 {
            if n < count {
                let call = self.client.unary_call_async(method, &vec![7; 20], CallOption::default());
                flying.push_back(call.unwrap());
            }
            if flying.len() == 64 || n >= count {
                let Some(call) = flying.pop_front() else { break };
                last = block::wait(call, None).unwrap().err();
            }
        }
        last
    }

    #[track_caller]
    fn expect_alive(&self) {
        assert_eq!(*self.killed.lock(), None);
        let meter = self.meter.lock();
        assert!(!meter.control.is_in_debt() && !meter.our_resets.is_in_debt());
    }
}

impl Drop for MeteredPair {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn serve(env: &Arc<Environment>) -> Server {
    let service = ServiceBuilder::new()
        .add_unary_handler(&ECHO, |ctx, request, sink| {
            ctx.spawn(async { drop(sink.success(request).await) });
        })
        .add_unary_handler(&FAIL, |ctx, _, sink| {
            let status = RpcStatus::with_message(RpcStatusCode::PERMISSION_DENIED, "no".to_owned());
            ctx.spawn(async { drop(sink.fail(status).await) });
        })
        .add_unary_handler(&HANG, |ctx, _, sink| {
            ctx.spawn(async move {
                std::future::pending::<()>().await;
                drop(sink);
            });
        })
        .add_server_streaming_handler(&GIVE, |ctx, chunk, mut sink| {
            ctx.spawn(async move {
                let chunks = stream::iter((0..CHUNKS).map(|_| Ok((chunk.clone(), WriteFlags::default()))));
                let _ = sink.send_all(&mut { chunks }).await;
                let _ = sink.close().await;
            });
        })
        .add_client_streaming_handler(&TAKE, |ctx, requests, sink| {
            ctx.spawn(async {
                let count = requests.try_fold(0u32, |n, _| async move { Ok(n + 1) }).await.unwrap();
                let _ = sink.success(count.to_be_bytes().to_vec()).await;
            });
        })
        .build();
    ServerBuilder::new(Arc::clone(env)).register_service(service).build().unwrap()
}

/// As the pump does it, without TLS.
fn relay(
    mut from: UnixStream,
    mut to: UnixStream,
    inbound: bool,
    meter: &Mutex<FrameMeter>,
) -> Option<&'static str> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let n = from.read(&mut chunk).unwrap_or(0);
        if n == 0 {
            let _ = to.shutdown(Shutdown::Both);
            return None;
        }
        let now = clock::now_ms();
        let decision = {
            let mut meter = meter.lock();
            if inbound { meter.inbound(&chunk[..n], now) } else { meter.outbound(&chunk[..n], now) }
        };
        match decision {
            MeterDecision::Pass => {}
            MeterDecision::PauseUntil(at) => drop(poll::wait(&mut [], Some(at))),
            MeterDecision::Kill(why) => {
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return Some(why);
            }
        }
        if to.write_all(&chunk[..n]).is_err() {
            return None;
        }
    }
}

#[test]
fn calls_that_succeed_and_fail() {
    let pair = MeteredPair::new();
    assert!(pair.calls(&ECHO, 10_000).is_none());
    pair.expect_alive();
    for method in [&FAIL, &NONE] {
        assert!(matches!(pair.calls(method, 3000), Some(grpcio::Error::RpcFailure(_))));
        pair.expect_alive();
    }
}

#[test]
fn calls_that_are_given_up() {
    let pair = MeteredPair::new();
    for _ in 0..150 {
        drop(pair.client.unary_call_async(&HANG, &vec![7; 20], CallOption::default()).unwrap());
    }
    assert!(pair.calls(&ECHO, 10).is_none());
    pair.expect_alive();
}

#[test]
fn streams_in_both_directions() {
    let pair = MeteredPair::new();
    let mut given = pair.client.server_streaming(&GIVE, &vec![7; CHUNK_LEN], CallOption::default()).unwrap();
    let mut count = 0;
    while let Some(chunk) = block::wait(given.next(), None).unwrap() {
        assert_eq!(chunk.unwrap().len(), CHUNK_LEN);
        count += 1;
    }
    assert_eq!(count, CHUNKS);
    pair.expect_alive();

    for (len, count) in [(3, 20_000u32), (CHUNK_LEN, 800)] {
        let (mut sink, answer) = pair.client.client_streaming(&TAKE, CallOption::default()).unwrap();
        for _ in 0..count {
            block::wait(sink.send((vec![7; len], WriteFlags::default())), None).unwrap().unwrap();
        }
        block::wait(sink.close(), None).unwrap().unwrap();
        assert_eq!(block::wait(answer, None).unwrap().unwrap(), count.to_be_bytes());
        pair.expect_alive();
    }
}
