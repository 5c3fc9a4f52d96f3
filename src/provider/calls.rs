//! The connection to one run of a provider, and the calls over it: blocking, each with a deadline, and with
//! what each status means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};
use grpcio::{CallOption, ClientUnaryReceiver, Marshaller, Method, MethodType, RpcStatus, RpcStatusCode};
use prost::Message;

use crate::provider::cancel::Cancel;
use crate::provider::dial::{self, Open};
use crate::provider::failure::{Ending, Failure};
use crate::provider::port_owner::Port;
use crate::provider::proof::{Challenge, NotOpen, Proof};
use crate::rpc::block;
use crate::rpc::client_threads::Threads;
use crate::rpc::codec::{self, Encoded};
use crate::rpc::local_channel::LocalChannel;
use crate::rpc::services::provider as proto;
use crate::rpc::services::provider::ProviderServiceClient;
use crate::rpc::services::provider::health_response::Status as HealthStatus;
use crate::sdk::value;
use crate::sys::clock;
use crate::wire::provider::ProviderHealth;
use crate::wire::remote_end::RemoteEnd;
use crate::wire::time::millis;

/// The largest message taken from a provider. Providers are asked to stay below 10 MB.
const MESSAGE_LEN_MAX: i32 = 16 << 20;
/// How much longer than the provider we wait, ms: it has the deadline, too, and its answer may be on its way.
const MARGIN_MS: u64 = 500;

/// `FetchResponse`, with the value left as it is: it may be deeper than the decoder goes.
#[derive(Clone, PartialEq, Message)]
struct FetchedBytes {
    #[prost(bytes = "vec", optional, tag = "1")]
    value: Option<Vec<u8>>,
}

static FETCH: Method<Encoded<proto::FetchRequest>, FetchedBytes> = Method {
    ty: MethodType::Unary,
    name: proto::PROVIDER_SERVICE_FETCH.name,
    req_mar: Marshaller { ser: codec::send, de: codec::receive },
    resp_mar: Marshaller { ser: codec::encode, de: codec::decode },
};

/// What Info says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct About {
    pub alias: String,
    pub version: String,
    pub kind: String,
}

/// Why a call failed.
enum Fault {
    Status(RpcStatus),
    Deadline,
    /// The provider is being stopped.
    Cancelled,
    /// The message could not be read, or the call not be made.
    Transport(String),
}

/// One connection, and what ends the calls over it.
#[derive(Clone)]
pub struct Connection {
    client: ProviderServiceClient,
    channel: LocalChannel,
    cancel: Cancel,
    /// Of one that runs elsewhere: it is counted.
    _open: Option<Arc<Open>>,
    /// Dropped after the client.
    _threads: Arc<Threads>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// To a provider that listens on this port of 127.0.0.1, and to whoever proves that it is the provider. A
    /// stranger there gets nothing.
    pub fn open(port: Port, timeout: Duration, cancel: Cancel, proof: &Proof) -> Result<Self, NotOpen> {
        let threads = Threads::get();
        let channel = proof.connect(port, timeout, threads.environment(), MESSAGE_LEN_MAX)?;
        let client = ProviderServiceClient(channel.client.clone());
        let connection = Self { client, channel, cancel, _open: None, _threads: threads };
        if let Some(challenge) = proof.challenge() {
            connection.meet(&challenge, timeout)?;
        }
        Ok(connection)
    }

    /// To a provider that runs elsewhere.
    pub fn remote(end: &RemoteEnd, timeout: Duration, cancel: Cancel) -> Result<Self, NotOpen> {
        let threads = Threads::get();
        let channel = dial::channel(end, timeout, threads.environment(), MESSAGE_LEN_MAX)?;
        let client = ProviderServiceClient(channel.client.clone());
        Ok(Self { client, channel, cancel, _open: Some(Arc::new(Open::one())), _threads: threads })
    }

    /// Has it answer the challenge, with a call that tells it nothing.
    fn meet(&self, challenge: &Challenge, timeout: Duration) -> Result<(), NotOpen> {
        let unproven = |e: grpcio::Error| NotOpen::Unproven(e.to_string());
        let option = challenge.add_to(option(timeout));
        let mut call = self.client.health(&proto::HealthRequest {}, option).map_err(unproven)?;
        let headers = Box::pin(async move { call.headers().await.cloned() });
        let either = future::select(headers, self.cancel.cancelled());
        match block::wait(either, Some(clock::now_ms() + millis(timeout) + MARGIN_MS)) {
            Some(Either::Left((Ok(headers), _))) => challenge.is_met_by(&headers),
            Some(Either::Left((Err(e), _))) => match fault(e) {
                Fault::Status(status) if status.code() == RpcStatusCode::DEADLINE_EXCEEDED => {
                    Err(NotOpen::Late(timeout))
                }
                Fault::Status(status) => Err(NotOpen::Unproven(text(&status))),
                Fault::Transport(why) => Err(NotOpen::Unproven(why)),
                Fault::Deadline | Fault::Cancelled => Err(NotOpen::Late(timeout)),
            },
            Some(Either::Right(_)) | None => Err(NotOpen::Late(timeout)),
        }
    }

    /// Whether it is known to be broken: a call over it would fail before it reaches the provider.
    pub fn is_lost(&self) -> bool {
        self.channel.is_lost()
    }

    /// Whether it can be used, and how it says that it is.
    pub fn health(&self, timeout: Duration) -> Result<(ProviderHealth, bool), Failure> {
        let call = self.client.health(&proto::HealthRequest {}, option(timeout));
        let answer = self.wait(call, timeout).map_err(|fault| failure("Health", timeout, fault))?;
        let (status, is_usable) = match answer.status() {
            HealthStatus::Ok => ("ok", true),
            // Existing providers say so until Init.
            HealthStatus::Degraded => ("degraded", true),
            HealthStatus::Starting => ("starting", false),
            HealthStatus::Unspecified => ("unspecified", true),
        };
        Ok((ProviderHealth { status: status.to_owned(), message: answer.message }, is_usable))
    }

    /// Gives it its configuration.
    pub fn init(&self, alias: &str, config: &[u8], source: &str, timeout: Duration) -> Result<(), Failure> {
        let config = value::decode(config)?;
        let request = proto::InitRequest {
            alias: alias.to_owned(),
            config: Some(config),
            source_file_path: source.to_owned(),
        };
        match self.wait(self.client.init(&request, option(timeout)), timeout) {
            Ok(_) => Ok(()),
            // Also NOT_FOUND is about the configuration here, never about a path.
            Err(Fault::Status(status)) if !is_broken(&status) => {
                Err(Failure::InitFailed { status: text(&status), ending: Ending::default() })
            }
            Err(fault) => Err(failure("Init", timeout, fault)),
        }
    }

    /// One value, as an encoded `Struct`.
    pub fn fetch(&self, path: &[String], timeout: Duration) -> Result<Vec<u8>, Failure> {
        let request = Encoded::new(&proto::FetchRequest { path: path.to_vec() });
        let call = self.client.0.unary_call_async(&FETCH, &request, option(timeout));
        let answer = self.wait(call, timeout).map_err(|fault| failure("Fetch", timeout, fault))?;
        let bytes = answer.value.unwrap_or_default();
        match value::depth(&bytes) {
            Some(depth) if depth > value::DEPTH_MAX => Err(Failure::TooDeep {
                message: format!("the value has {depth} levels, {} are taken", value::DEPTH_MAX),
            }),
            Some(_) => Ok(bytes),
            None => Err(Failure::Refused { call: "Fetch", status: "the value cannot be decoded".into() }),
        }
    }

    pub fn info(&self, timeout: Duration) -> Result<About, Failure> {
        let call = self.client.info(&proto::InfoRequest {}, option(timeout));
        let answer = self.wait(call, timeout).map_err(|fault| failure("Info", timeout, fault))?;
        Ok(About { alias: answer.alias, version: answer.version, kind: answer.r#type })
    }

    pub fn shutdown(&self, timeout: Duration) -> Result<(), Failure> {
        // The one call that is made after the others were cancelled.
        let alone = Self { cancel: Cancel::default(), ..self.clone() };
        let call = alone.client.shutdown(&proto::ShutdownRequest {}, option(timeout));
        alone.wait(call, timeout).map(drop).map_err(|fault| failure("Shutdown", timeout, fault))
    }

    /// Waits for the answer, or until everything is cancelled.
    fn wait<A: Message + Unpin>(
        &self,
        call: grpcio::Result<ClientUnaryReceiver<A>>,
        timeout: Duration,
    ) -> Result<A, Fault> {
        let call = call.map_err(|e| Fault::Transport(e.to_string()))?;
        let either = future::select(call, self.cancel.cancelled());
        match block::wait(either, Some(clock::now_ms() + millis(timeout) + MARGIN_MS)) {
            None => Err(Fault::Deadline),
            Some(Either::Left((answer, _))) => answer.map_err(fault),
            Some(Either::Right(_)) => Err(Fault::Cancelled),
        }
    }
}

fn option(timeout: Duration) -> CallOption {
    CallOption::default().timeout(timeout)
}

fn fault(e: grpcio::Error) -> Fault {
    match e {
        grpcio::Error::RpcFailure(status) => Fault::Status(status),
        e => Fault::Transport(e.to_string()),
    }
}

/// Whether the C core has lost the connection. A provider's own UNAVAILABLE reads the same, so whether its
/// process is there decides.
fn is_broken(status: &RpcStatus) -> bool {
    status.code() == RpcStatusCode::UNAVAILABLE
}

fn text(status: &RpcStatus) -> String {
    if status.message().is_empty() {
        status.code().to_string()
    } else {
        format!("{}: {}", status.code(), status.message())
    }
}

fn failure(call: &'static str, after: Duration, fault: Fault) -> Failure {
    let status = match fault {
        Fault::Deadline => return Failure::Deadline { call, after },
        Fault::Cancelled => return Failure::ShutDown,
        Fault::Transport(why) => return Failure::Unavailable { message: why },
        Fault::Status(status) => status,
    };
    let message = status.message().to_owned();
    match status.code() {
        RpcStatusCode::NOT_FOUND => Failure::PathNotFound { message },
        RpcStatusCode::INVALID_ARGUMENT => Failure::InvalidPath { message },
        RpcStatusCode::FAILED_PRECONDITION => Failure::NotInitialised { message },
        RpcStatusCode::PERMISSION_DENIED => Failure::PermissionDenied { message },
        RpcStatusCode::DEADLINE_EXCEEDED => Failure::Deadline { call, after },
        RpcStatusCode::UNAVAILABLE => Failure::Unavailable { message },
        RpcStatusCode::RESOURCE_EXHAUSTED if message.contains("message") => Failure::TooLarge {
            message: format!("the answer is larger than {} MiB: {message}", MESSAGE_LEN_MAX >> 20),
        },
        _ => Failure::Refused { call, status: text(&status) },
    }
}
