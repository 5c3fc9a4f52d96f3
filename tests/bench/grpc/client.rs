//! The client of all measurements: grpcio, whatever is at the other end. Its calls run on its one completion
//! thread, so that nothing of ours is measured with them.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use futures_util::StreamExt;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client, Environment, GrpcSlice, MessageReader, MetadataBuilder,
    Method, MethodType,
};
use provost::sys::{clock, grpc, thread};
use provost::tls::pump::Unmetered;
use provost::tls::tunnel;
use rustls::ClientConfig;

use crate::grpc::LOOPBACK;
use crate::grpc::server::method;
use crate::sample::Outcome;

/// What the gateway answers by itself.
pub static CHECK: Method<Vec<u8>, Vec<u8>> = method(MethodType::Unary, "/grpc.health.v1.Health/Check");
/// What it asks the engine for.
pub static STATUS: Method<Vec<u8>, Vec<u8>> = method(MethodType::Unary, "/provost.v1.ProcessService/Status");
/// Output as it comes.
pub static STREAM: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::ServerStreaming, "/provost.v1.ProcessService/Stream");

/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The largest message taken.
const MESSAGE_LEN_MAX: i32 = 80 << 20;
/// What a `provost.v1.StreamResponse` with bytes of output begins with: field 1, with a length.
const CHUNK: u8 = 1 << 3 | 2;

/// Bytes as they are.
#[expect(clippy::ptr_arg, reason = "a marshaller is given its message")]
pub fn put(message: &Vec<u8>, slice: &mut GrpcSlice) -> grpcio::Result<()> {
    *slice = GrpcSlice::from(message.clone());
    Ok(())
}

pub fn get(mut reader: MessageReader) -> grpcio::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(reader.len());
    reader.read_to_end(&mut bytes).map_err(|e| grpcio::Error::Codec(Box::new(e)))?;
    Ok(bytes)
}

/// `provost.v1.StatusRequest` of one target.
pub fn targets(target: &str) -> Vec<u8> {
    [&[1 << 3 | 2, target.len() as u8], target.as_bytes()].concat()
}

/// `provost.v1.StreamRequest` of one target, from the oldest byte kept.
pub fn stream_of(target: &str) -> Vec<u8> {
    [targets(target), vec![3 << 3, 1]].concat()
}

/// A connection.
pub struct Caller {
    client: Client,
    option: CallOption,
}

impl Caller {
    /// Over TCP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { client: Client::new(builder().connect(&address.to_string())), option: CallOption::default() }
    }

    /// Over this unix socket.
    pub fn local(path: &Path) -> Outcome<Self> {
        Self::over(UnixStream::connect(path)?)
    }

    /// Over a stream that is connected already.
    pub fn over(stream: UnixStream) -> Outcome<Self> {
        let channel = grpc::channel(builder(), "localhost", stream)?;
        Ok(Self { client: Client::new(channel), option: CallOption::default() })
    }

    /// Over TLS, as `provost::Client` does it, with this value of `authorization`.
    pub fn secure(address: SocketAddr, tls: &Arc<ClientConfig>, login: &str) -> Outcome<Self> {
        let mut metadata = MetadataBuilder::new();
        metadata.add_str("authorization", login)?;
        let option = CallOption::default().headers(metadata.build());
        Ok(Self { client: Client::new(tunnelled(address, tls)?), option })
    }

    /// Asks the gateway whether it is there.
    pub fn check(&self) -> Outcome {
        self.call(&CHECK, &Vec::new()).map(drop)
    }

    /// One call, on this thread.
    pub fn call(&self, method: &Method<Vec<u8>, Vec<u8>>, request: &Vec<u8>) -> Outcome<Vec<u8>> {
        Ok(self.client.unary_call(method, request, self.option.clone())?)
    }

    /// Calls per second, of `total` with so many under way at any time.
    pub fn rate(
        &self,
        method: &'static Method<Vec<u8>, Vec<u8>>,
        request: &[u8],
        under_way: u32,
        total: u32,
    ) -> Outcome<f64> {
        let (done, results) = bounded(under_way as usize);
        let begin = Instant::now();
        for _ in 0..under_way {
            let (client, option, request) = (self.client.clone(), self.option.clone(), request.to_vec());
            let done = done.clone();
            self.client.spawn(async move {
                let mut result = Ok(());
                for _ in 0..total / under_way {
                    result = match client.unary_call_async(method, &request, option.clone()) {
                        Ok(answer) => answer.await.map(drop),
                        Err(e) => Err(e),
                    };
                    if result.is_err() {
                        break;
                    }
                }
                let _ = done.send(result);
            });
        }
        for _ in 0..under_way {
            results.recv_timeout(LIMIT)??;
        }
        Ok(f64::from(total) / begin.elapsed().as_secs_f64())
    }

    /// Receives a stream to its end; returns how many bytes of messages came that begin as output does, and
    /// how long that took. Everything that the bare server sends counts.
    pub fn receive(
        &self,
        method: &'static Method<Vec<u8>, Vec<u8>>,
        request: &Vec<u8>,
    ) -> Outcome<(u64, Duration)> {
        let (done, result) = bounded(1);
        let begin = Instant::now();
        let mut messages = self.client.server_streaming(method, request, self.option.clone())?;
        let is_output = |first: Option<&u8>| matches!(first, Some(&(0 | CHUNK)));
        self.client.spawn(async move {
            let mut bytes = 0;
            let result = loop {
                match messages.next().await {
                    Some(Ok(message)) if is_output(message.first()) => bytes += message.len() as u64,
                    Some(Ok(_)) => {}
                    Some(Err(e)) => break Err(e),
                    None => break Ok(bytes),
                }
            };
            let _ = done.send(result);
        });
        Ok((result.recv_timeout(LIMIT)??, begin.elapsed()))
    }
}

fn tunnelled(address: SocketAddr, tls: &Arc<ClientConfig>) -> Outcome<Channel> {
    let deadline = clock::now_ms() + LIMIT.as_millis() as u64;
    let tunnel = tunnel::connect(TcpStream::connect(address)?, Arc::clone(tls), LOOPBACK, deadline)?;
    let (ours, theirs) = tunnel::plain_pair()?;
    thread::spawn("tls", move || drop(tunnel.run(theirs, &mut Unmetered)))?;
    Ok(grpc::channel(builder(), "provost", ours)?)
}

fn builder() -> ChannelBuilder {
    ChannelBuilder::new(environment()).max_receive_message_len(MESSAGE_LEN_MAX)
}

/// One completion thread for all.
fn environment() -> Arc<Environment> {
    static ENVIRONMENT: OnceLock<Arc<Environment>> = OnceLock::new();
    Arc::clone(ENVIRONMENT.get_or_init(|| Arc::new(grpc::environment(1).build())))
}
