//! A provider in Rust: implement [`Provider`], call [`serve`].

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use grpcio::{
    ChannelBuilder, Metadata, MetadataBuilder, RpcContext, RpcStatus, RpcStatusCode, Server, ServerBuilder,
    ServerCredentials, UnarySink,
};
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::rpc::codec::Encoded;
use crate::rpc::services::provider as proto;
use crate::rpc::services::provider::health_response::Status;
use crate::rpc::services::provider::{ProviderService, provider_service_service};
use crate::rpc::{block, pending};
use crate::sdk::handshake::Features;
use crate::sdk::launch::{self, Asked};
use crate::sdk::tls_listener::{self, Open};
use crate::sdk::value;
use crate::sys::poll::{self, PollFd, Waker};
use crate::sys::signal::{self, SignalFd};
use crate::sys::{clock, grpc, thread};
use crate::wire::error::Error;

/// The largest message taken: a configuration.
const MESSAGE_LEN_MAX: i32 = 16 << 20;
/// Calls at once; more are answered RESOURCE_EXHAUSTED.
const CALLS_MAX: usize = 64;
/// How long calls may take to end with the provider, ms.
const GOODBYE_MS: u64 = 2000;

/// What a provider gets before anything is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// The name that this configuration is known by.
    pub alias: String,
    pub config: Map<String, Value>,
    /// The file that the configuration was written in, or empty. Relative paths in it may mean its folder.
    pub source_file_path: String,
}

/// What a provider says that it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Info {
    /// That of [`Init`], or empty before it.
    pub alias: String,
    pub version: String,
    /// A short word: "files".
    pub kind: String,
}

/// Whether it can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Ok(String),
    /// It can, all the same.
    Degraded(String),
    /// Not yet: the host asks again.
    Starting(String),
}

/// Why something was not done, as the protocol tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is nothing at this path.
    NotFound(String),
    /// The path or the configuration is wrong in itself.
    Invalid(String),
    /// Before Init.
    NotInitialised(String),
    PermissionDenied(String),
    /// Not now; it may be asked again.
    Unavailable(String),
    /// A defect.
    Internal(String),
}

impl From<Failure> for RpcStatus {
    fn from(failure: Failure) -> Self {
        let (code, message) = match failure {
            Failure::NotFound(message) => (RpcStatusCode::NOT_FOUND, message),
            Failure::Invalid(message) => (RpcStatusCode::INVALID_ARGUMENT, message),
            Failure::NotInitialised(message) => (RpcStatusCode::FAILED_PRECONDITION, message),
            Failure::PermissionDenied(message) => (RpcStatusCode::PERMISSION_DENIED, message),
            Failure::Unavailable(message) => (RpcStatusCode::UNAVAILABLE, message),
            Failure::Internal(message) => (RpcStatusCode::INTERNAL, message),
        };
        // The C core ends the process over a message with a NUL.
        Self::with_message(code, message.replace('\0', " "))
    }
}

/// What an author writes. Calls come from several threads at once.
pub trait Provider: Send + Sync + 'static {
    /// Takes the configuration. Called before any fetch; again if it has failed, or for another host.
    fn init(&self, init: Init) -> Result<(), Failure>;

    /// The value at this path. A value that is not a map is usually wrapped as `{"value": x}`.
    fn fetch(&self, path: &[String]) -> Result<Map<String, Value>, Failure>;

    /// Also before Init.
    fn info(&self) -> Info;

    /// Also before Init.
    fn health(&self) -> Health {
        Health::Ok("healthy".to_owned())
    }

    /// It is about to end.
    fn shutdown(&self) {}
}

/// Serves until the host says Shutdown, or SIGTERM or SIGINT comes: binds a free port of 127.0.0.1 and
/// reports it on standard output. Speaks TLS, and proves who it is, where the host asks for it. Call it from
/// `main`, before other threads are started, so that signals come here.
pub fn serve(provider: impl Provider) -> Result<(), Error> {
    let signals =
        SignalFd::new(&[signal::TERM, signal::INT]).map_err(|e| Error::failed("receive signals", &e))?;
    let asked = Asked::of_environment()?;
    let service = Served {
        provider: Arc::new(provider),
        calls: Arc::default(),
        is_initialised: Arc::default(),
        cookie: asked.cookie.clone(),
        end: Arc::new(End { is_asked: AtomicBool::new(false), waker: Waker::for_this_thread() }),
    };
    let end = Arc::clone(&service.end);
    let provider = Arc::clone(&service.provider);
    let env = Arc::new(grpc::environment(1).build());
    let arguments = ChannelBuilder::new(Arc::clone(&env))
        .max_receive_message_len(MESSAGE_LEN_MAX)
        .max_send_message_len(-1)
        .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
        .raw_cfg_int(c"grpc.so_reuseport".to_owned(), 0)
        .build_args();
    let server = ServerBuilder::new(Arc::clone(&env))
        .channel_args(arguments)
        .register_service(provider_service_service(service))
        .build()
        .map_err(|e| Error::failed("make a server", &e))?;
    let features = asked.features();
    let (port, server) = listen(server, asked.tls)?;
    report(port, features).map_err(|e| Error::failed("report the port", &e))?;
    while !end.is_asked.load(Ordering::Acquire) {
        poll::wait(&mut [PollFd::readable(signals.as_fd())], None).map_err(|e| Error::failed("wait", &e))?;
        if signals.read().map_err(|e| Error::failed("receive signals", &e))?.is_some() {
            break;
        }
    }
    provider.shutdown();
    if let Some(mut server) = server.lock().take() {
        let _ = block::wait(server.shutdown(), Some(clock::now_ms() + GOODBYE_MS));
    }
    // What is still under way is cut: whoever waits for it sees the end of the process.
    std::process::exit(0)
}

/// Begins to answer, in the way that the host asks for.
fn listen(mut server: Server, tls: Option<Arc<ServerConfig>>) -> Result<(u16, Open), Error> {
    let Some(tls) = tls else {
        let address = format!("{}:0", Ipv4Addr::LOCALHOST);
        let port = server
            .add_listening_port(address, ServerCredentials::insecure())
            .map_err(|e| Error::failed("listen on a port of 127.0.0.1", &e))?;
        server.start();
        return Ok((port, Arc::new(Mutex::new(Some(server)))));
    };
    let (listener, port) = tls_listener::bind()?;
    server.start();
    let server = Arc::new(Mutex::new(Some(server)));
    tls_listener::serve(listener, tls, Arc::clone(&server))?;
    Ok((port, server))
}

/// The handshake.
fn report(port: u16, features: Features) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if features != Features::default() {
        writeln!(stdout, "PROVIDER_FEATURES={}", features.names().join(","))?;
    }
    writeln!(stdout, "PROVIDER_PORT={port}")?;
    stdout.flush()
}

/// Wakes the main thread for the end.
struct End {
    is_asked: AtomicBool,
    waker: Waker,
}

struct Served<P> {
    provider: Arc<P>,
    calls: Arc<AtomicUsize>,
    /// There was an Init that was taken.
    is_initialised: Arc<AtomicBool>,
    /// Known to this launch and its host.
    cookie: Option<Arc<Zeroizing<String>>>,
    end: Arc<End>,
}

impl<P> Clone for Served<P> {
    fn clone(&self) -> Self {
        Self {
            provider: Arc::clone(&self.provider),
            calls: Arc::clone(&self.calls),
            is_initialised: Arc::clone(&self.is_initialised),
            cookie: self.cookie.clone(),
            end: Arc::clone(&self.end),
        }
    }
}

/// A call that is under way, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P: Provider> Served<P> {
    /// What proves to the host who we are, where it wants to know.
    fn proof(&self, ctx: &RpcContext<'_>) -> Option<Metadata> {
        let cookie = self.cookie.as_ref()?;
        let (_, challenge) = ctx.request_headers().iter().find(|(key, _)| *key == launch::CHALLENGE)?;
        let mut headers = MetadataBuilder::new();
        headers.add_str(launch::PROOF, &launch::proof(cookie, challenge)).ok()?;
        Some(headers.build())
    }

    /// Answers on a thread of its own: an author's code may wait.
    fn answer<Q, A>(
        &self,
        request: Encoded<Q>,
        sink: UnarySink<A>,
        work: impl FnOnce(&P, Q) -> Result<A, Failure> + Send + 'static,
    ) where
        Q: prost::Message + Default + 'static,
        A: Send + 'static,
    {
        let (provider, calls) = (Arc::clone(&self.provider), Arc::clone(&self.calls));
        if calls.fetch_add(1, Ordering::AcqRel) >= CALLS_MAX {
            drop(Counted(calls));
            let message = format!("{CALLS_MAX} calls are under way already");
            let status = RpcStatus::with_message(RpcStatusCode::RESOURCE_EXHAUSTED, message);
            return pending::answer(sink, Err(status));
        }
        let counted = Counted(calls);
        let started = thread::spawn("call", move || {
            let _counted = counted;
            let request = request.decode().map_err(|e| Failure::Invalid(format!("not understood: {e}")));
            let result = catch_unwind(AssertUnwindSafe(|| work(&provider, request?)));
            let result =
                result.unwrap_or_else(|_| Err(Failure::Internal("the provider panicked".to_owned())));
            pending::answer(sink, result.map_err(Into::into));
        });
        // Without a thread the sink is gone, and the call is cancelled.
        drop(started);
    }
}

impl<P: Provider> ProviderService for Served<P> {
    fn init(
        &mut self,
        _: RpcContext<'_>,
        request: Encoded<proto::InitRequest>,
        sink: UnarySink<proto::InitResponse>,
    ) {
        let is_initialised = Arc::clone(&self.is_initialised);
        self.answer(request, sink, move |provider, request| {
            if request.alias.is_empty() {
                return Err(Failure::Invalid("the alias is empty".to_owned()));
            }
            let config = value::to_json(request.config.unwrap_or_default());
            let source_file_path = request.source_file_path;
            provider.init(Init { alias: request.alias, config, source_file_path })?;
            is_initialised.store(true, Ordering::Release);
            Ok(proto::InitResponse {})
        });
    }

    fn fetch(
        &mut self,
        _: RpcContext<'_>,
        request: Encoded<proto::FetchRequest>,
        sink: UnarySink<proto::FetchResponse>,
    ) {
        let is_initialised = Arc::clone(&self.is_initialised);
        self.answer(request, sink, move |provider, request| {
            if !is_initialised.load(Ordering::Acquire) {
                return Err(Failure::NotInitialised("there was no Init yet".to_owned()));
            }
            let value = provider.fetch(&request.path)?;
            let value = value::to_struct(value).map_err(|e| Failure::Internal(e.message))?;
            Ok(proto::FetchResponse { value: Some(value) })
        });
    }

    fn info(
        &mut self,
        _: RpcContext<'_>,
        request: Encoded<proto::InfoRequest>,
        sink: UnarySink<proto::InfoResponse>,
    ) {
        self.answer(request, sink, |provider, _| {
            let Info { alias, version, kind } = provider.info();
            Ok(proto::InfoResponse { alias, version, r#type: kind })
        });
    }

    fn health(
        &mut self,
        ctx: RpcContext<'_>,
        request: Encoded<proto::HealthRequest>,
        mut sink: UnarySink<proto::HealthResponse>,
    ) {
        if let Some(headers) = self.proof(&ctx) {
            sink.set_headers(headers);
        }
        self.answer(request, sink, |provider, _| {
            let (status, message) = match provider.health() {
                Health::Ok(message) => (Status::Ok, message),
                Health::Degraded(message) => (Status::Degraded, message),
                Health::Starting(message) => (Status::Starting, message),
            };
            Ok(proto::HealthResponse { status: status.into(), message })
        });
    }

    fn shutdown(
        &mut self,
        ctx: RpcContext<'_>,
        _: Encoded<proto::ShutdownRequest>,
        sink: UnarySink<proto::ShutdownResponse>,
    ) {
        let end = Arc::clone(&self.end);
        ctx.spawn(async move {
            // The answer goes out first.
            let _ = sink.success(proto::ShutdownResponse {}).await;
            end.is_asked.store(true, Ordering::Release);
            end.waker.wake();
        });
    }
}
