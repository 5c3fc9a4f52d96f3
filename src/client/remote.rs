//! The service of another machine, through its gateway: the same requests and replies as over the unix
//! socket, as calls of gRPC over mutual TLS 1.3.

use std::collections::VecDeque;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use grpcio::{CallOption, ChannelBuilder, MetadataBuilder, RpcStatus, RpcStatusCode};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::client::link::{Fault, TIMEOUT};
use crate::client::settings::RemoteSettings;
use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::{NextPage, Paged};
use crate::rpc::api::registry::Question;
use crate::rpc::block;
use crate::rpc::client_threads::environment;
use crate::rpc::services::public as api;
use crate::rpc::services::public::{
    ModuleServiceClient, ProcessServiceClient, ProviderServiceClient, RegistryServiceClient,
};
use crate::rpc::status;
use crate::sys::{clock, grpc, lookup};
use crate::tls::carried::{HowEnded, carry};
use crate::tls::material;
use crate::tls::pump::Ended;
use crate::tls::tunnel;
use crate::wire::canary::CanaryCall;
use crate::wire::error::{Code, Error};
use crate::wire::host::Host;
use crate::wire::id::OrderKey;
use crate::wire::json::base64;
use crate::wire::module::ModuleCall;
use crate::wire::provider::{ProviderCall, ProviderName};
use crate::wire::reply::{More, Reply};
use crate::wire::request::Request;
use crate::wire::time::millis;

/// The largest message taken: the output of a process, 64 MiB at most, and what is around it.
const MESSAGE_LEN_MAX: i32 = 80 << 20;
/// Until there is a TCP connection, to each address of the name.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Another machine's service, and who we are to it.
pub struct Remote {
    host: Host,
    tls: Arc<ClientConfig>,
    /// The value of the header; a secret.
    authorization: Option<Zeroizing<String>>,
}

impl Remote {
    /// Reads the certificates. The password goes with `settings.user`.
    pub fn new(settings: &RemoteSettings, password: Option<&str>) -> Result<Self, Error> {
        let authorization = match (&settings.user, password) {
            (Some(user), Some(password)) => {
                let pair = Zeroizing::new(format!("{user}:{password}"));
                let encoded = Zeroizing::new(base64(pair.as_bytes()));
                Some(Zeroizing::new(format!("Basic {}", *encoded)))
            }
            _ => None,
        };
        let tls = material::client(&settings.files).map_err(of_another)?;
        Ok(Self { host: settings.host.clone(), tls, authorization })
    }

    pub(super) fn open(&self) -> Result<RemoteLink, Error> {
        let tunnel = tunnel::connect(
            self.dial()?,
            Arc::clone(&self.tls),
            &self.host.name,
            clock::now_ms() + millis(TIMEOUT),
        )
        .map_err(|e| {
            match e.message.strip_prefix("the certificate of the server ").unwrap_or_default() {
                why if why.starts_with("is not for") => e.hint(
                    "use one of these names; or it is made for this one there: provost cert init --host NAME",
                ),
                why if why.contains("wrong signature") || why.contains("authority that we do not know") => {
                    e.hint("is 'ca' the ca.pem of that service? An administrator there has it")
                }
                _ => e,
            }
        })?;
        let unreachable = |e: &dyn fmt::Display| {
            Error::new(Code::Unreachable, format!("cannot speak to the service at {self}: {e}"))
        };
        let (ours, ended) = carry(tunnel).map_err(|e| unreachable(&e))?;
        let builder = ChannelBuilder::new(environment())
            .max_receive_message_len(MESSAGE_LEN_MAX)
            .max_send_message_len(-1)
            .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0);
        let channel = grpc::channel(builder, "provost", ours).map_err(|e| unreachable(&e))?;
        Ok(RemoteLink {
            client: ProcessServiceClient(grpcio::Client::new(channel)),
            authorization: self.authorization.clone(),
            answers: None,
            ready: VecDeque::new(),
            ended,
        })
    }

    /// Connects to the first address of the host that answers.
    fn dial(&self) -> Result<TcpStream, Error> {
        let unreachable = |why: &dyn fmt::Display| {
            Error::new(Code::Unreachable, format!("cannot reach the service at {self}: {why}")).hint(
                "is its [grpc] section there, and is 'listen' an address that can be reached from here?",
            )
        };
        let found = lookup::addresses(&self.host.name, clock::now_ms() + millis(TIMEOUT));
        let mut last = None;
        for ip in found.map_err(|why| unreachable(&why).hint("is the name right? An address will do, too"))? {
            match TcpStream::connect_timeout(&SocketAddr::new(ip, self.host.port), CONNECT_MAX) {
                Ok(tcp) => return Ok(tcp),
                Err(e) => last = Some(e),
            }
        }
        Err(last.map_or_else(|| unreachable(&"there is no address"), |e| unreachable(&e)))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.name, self.host.port)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What is wrong with our files: whoever has the service makes those that it takes.
fn of_another(e: Error) -> Error {
    if !e.hint.contains("cert init") {
        return e;
    }
    let hint = match e.message.contains("~/") {
        true => "'~' does not stand for the home directory here: write the whole path",
        false => "an administrator of that service makes it there, by 'provost cert init --client NAME'",
    };
    e.hint(hint)
}

/// What comes back for one request.
type Answers = BoxStream<'static, Result<Vec<Reply>, Fault>>;

/// One connection. Its pump ends when it is dropped.
pub(super) struct RemoteLink {
    client: ProcessServiceClient,
    authorization: Option<Zeroizing<String>>,
    answers: Option<Answers>,
    ready: VecDeque<Reply>,
    /// How the TLS connection ended.
    ended: HowEnded,
}

impl RemoteLink {
    pub(super) fn send(&mut self, request: &Request, key: Option<OrderKey>) -> Result<(), Fault> {
        let (client, option) = (&self.client, self.option()?);
        let targets = Vec::clone;
        let idempotency_key = key.map(|key| key.to_string()).unwrap_or_default();
        let begun = match request {
            Request::Start(r) => client.start(&(&**r).into(), option).map(unary),
            Request::StartAgain(t) => {
                client.start_again(&api::StartAgainRequest { targets: targets(t) }, option).map(unary)
            }
            Request::Update(r) => client.update(&(&**r).into(), option).map(unary),
            Request::Definitions(t) => {
                client.definitions(&api::DefinitionsRequest { targets: targets(t) }, option).map(streamed)
            }
            Request::Stop(r) => client.stop(&r.into(), option).map(unary),
            Request::Restart(t) => {
                let request = api::RestartRequest { targets: targets(t), idempotency_key };
                client.restart(&request, option).map(unary)
            }
            Request::Remove(r) => client.remove(&r.into(), option).map(unary),
            Request::Signal(r) => {
                let request = api::SignalRequest { idempotency_key, ..r.into() };
                client.signal(&request, option).map(unary)
            }
            Request::Wait(r) => client.wait(&r.into(), option).map(unary),
            Request::Status(r) => {
                let request = api::StatusRequest { targets: targets(&r.targets), ..Default::default() };
                Ok(paged(client.clone(), request, option, ProcessServiceClient::status))
            }
            Request::List(r) => Ok(paged(client.clone(), r.into(), option, ProcessServiceClient::list)),
            Request::Output(r) => client.output(&r.into(), option).map(streamed),
            Request::Stream(r) => client.stream(&r.into(), option).map(streamed),
            Request::Env(r) => client.environment(&r.into(), option).map(unary),
            Request::Events(r) => client.events(&r.into(), option).map(streamed),
            Request::AuditLog(r) => {
                let request = api::AuditRequest { after_sequence: r.since, limit: r.max };
                client.audit(&request, option).map(unary)
            }
            Request::Provider(call) => provider(&ProviderServiceClient(client.0.clone()), call, option),
            Request::Module(call) => module(&ModuleServiceClient(client.0.clone()), call, option),
            Request::Registry(call) => {
                let client = RegistryServiceClient(client.0.clone());
                match Question::from(call) {
                    Question::Register(r) => client.register_provider(&r, option).map(unary),
                    Question::List(r) => Ok(paged(client, r, option, RegistryServiceClient::list_entries)),
                    Question::Change(r) => client.change_entries(&r, option).map(unary),
                    Question::Discover(r) => client.discover_providers(&r, option).map(unary),
                    Question::Validate(r) => client.validate_providers(&r, option).map(unary),
                    Question::Permit(r) => client.permit_call(&r, option).map(unary),
                    Question::Report(r) => client.report_call(&r, option).map(unary),
                    Question::Chain(r) => client.call_chain(&r, option).map(unary),
                }
            }
            Request::Hold(_) => {
                let e = "output waits only for a reader on the service's own machine";
                return Err(Fault::Final(Error::new(Code::Refused, e).hint("leave out --hold")));
            }
            Request::Note(_)
            | Request::Follow(_)
            | Request::Host
            | Request::GrpcListener
            | Request::GatewaySetup { .. }
            | Request::Reload
            | Request::Announce(_)
            | Request::Keep(_)
            | Request::Documents(_)
            | Request::GrpcProbe(_) => {
                let e = Error::new(Code::Refused, "only the gateway itself asks for this");
                return Err(Fault::Final(e));
            }
            Request::Service => client.service_info(&api::ServiceInfoRequest {}, option).map(unary),
            Request::Health => client.health(&api::HealthRequest {}, option).map(unary),
            Request::Upgrade(r) => client.upgrade(&r.into(), option).map(unary),
        };
        self.ready.clear();
        self.answers = Some(begun.map_err(|e| Fault::Unsent(std::io::Error::other(e.to_string())))?);
        Ok(())
    }

    fn option(&self) -> Result<CallOption, Fault> {
        let Some(authorization) = &self.authorization else { return Ok(CallOption::default()) };
        let mut metadata = MetadataBuilder::new();
        let added = metadata.add_str("authorization", authorization.as_str()).map(drop);
        // The value is in no message: it is the password.
        added.map_err(|_| Fault::Final(Error::usage("the user's name or password cannot be sent")))?;
        Ok(CallOption::default().headers(metadata.build()))
    }

    pub(super) fn receive(&mut self, timeout: Option<Duration>) -> Result<(Reply, More), Fault> {
        loop {
            if let Some(reply) = self.ready.pop_front() {
                return Ok((reply, More::Follows));
            }
            let Some(answers) = &mut self.answers else { return Ok((Reply::Done, More::Last)) };
            let deadline = timeout.map(|timeout| clock::now_ms() + millis(timeout));
            match block::wait(answers.next(), deadline) {
                None => return Err(Fault::Silent(timeout.unwrap_or_default())),
                Some(None) => self.answers = None,
                Some(Some(Ok(replies))) => self.ready.extend(replies),
                Some(Some(Err(fault))) => {
                    self.answers = None;
                    return Err(self.explained(fault));
                }
            }
        }
    }

    /// A broken connection with what the other side's TLS said last.
    fn explained(&self, fault: Fault) -> Fault {
        match (fault, self.ended.try_lock_for(Duration::from_millis(200)).as_deref()) {
            (Fault::Broken(_), Some(Some(Ended::Refused(why)))) => {
                let hint = match why.contains("revoked") {
                    true => "an administrator of that service makes another one",
                    false => {
                        "is it of that service's authority? 'provost cert show FILE' tells what is in it, 'provost output \
                              provost.gateway' there, why"
                    }
                };
                let e = format!("the service does not accept our certificate: {why}");
                Fault::Final(Error::new(Code::Refused, e).hint(hint))
            }
            (fault, _) => fault,
        }
    }
}

impl fmt::Debug for RemoteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLink").finish_non_exhaustive()
    }
}

/// A question about providers.
fn provider(
    client: &ProviderServiceClient,
    call: &ProviderCall,
    option: CallOption,
) -> grpcio::Result<Answers> {
    let target = |name: &ProviderName| Some(name.into());
    let set = |set: &Option<String>| set.clone().unwrap_or_default();
    match call {
        // A gateway tells nothing of standard error.
        ProviderCall::Louder(_, call) => provider(client, call, option),
        ProviderCall::Start(name, definition) => {
            let spec = Some((&**definition).into());
            let request = api::StartProviderRequest { target: target(name), spec };
            client.start_provider(&request, option).map(unary)
        }
        ProviderCall::Fetch(name, path) => {
            let request = api::FetchValueRequest { target: target(name), path: path.clone() };
            client.fetch_value(&request, option).map(unary)
        }
        ProviderCall::Info(name) => {
            client.provider_info(&api::ProviderInfoRequest { target: target(name) }, option).map(unary)
        }
        ProviderCall::Health(name) => {
            client.provider_health(&api::ProviderHealthRequest { target: target(name) }, option).map(unary)
        }
        ProviderCall::Stop(name) => {
            client.stop_provider(&api::StopProviderRequest { target: target(name) }, option).map(unary)
        }
        ProviderCall::Reset(name) => {
            client.reset_provider(&api::ResetProviderRequest { target: target(name) }, option).map(unary)
        }
        ProviderCall::Replace(name) => {
            client.replace_provider(&api::ReplaceProviderRequest { target: target(name) }, option).map(unary)
        }
        ProviderCall::List(some) => {
            client.list_providers(&api::ListProvidersRequest { set: set(some) }, option).map(unary)
        }
        ProviderCall::ShutDown(some) => {
            client.shut_down_providers(&api::ShutDownProvidersRequest { set: set(some) }, option).map(unary)
        }
    }
}

/// A question about modules.
fn module(client: &ModuleServiceClient, call: &ModuleCall, option: CallOption) -> grpcio::Result<Answers> {
    match call {
        ModuleCall::List => client.list_modules(&api::ListModulesRequest {}, option).map(unary),
        ModuleCall::Connections => {
            client.list_module_connections(&api::ListModuleConnectionsRequest {}, option).map(unary)
        }
        ModuleCall::Call(order) => client.call_module(&order.into(), option).map(unary),
        ModuleCall::Batch(batch) => client.call_module_batch(&batch.into(), option).map(streamed),
        ModuleCall::Canary(CanaryCall::Start(order)) => {
            client.start_module_canary(&order.into(), option).map(unary)
        }
        ModuleCall::Canary(CanaryCall::Abort(namespace)) => {
            let request = api::AbortModuleCanaryRequest { namespace: namespace.clone() };
            client.abort_module_canary(&request, option).map(unary)
        }
        ModuleCall::Canary(CanaryCall::Status(namespace)) => {
            let request = api::ListModuleCanariesRequest { namespace: namespace.clone() };
            client.list_module_canaries(&request, option).map(unary)
        }
        ModuleCall::Expected => {
            client.list_expected_modules(&api::ListExpectedModulesRequest {}, option).map(unary)
        }
        ModuleCall::Allow(name) => {
            let request = api::AllowModuleChangeRequest { name: name.clone() };
            client.allow_module_change(&request, option).map(unary)
        }
        ModuleCall::Drain { connection, reason, deadline } => {
            let request = api::DrainModuleConnectionRequest {
                connection: connection.clone(),
                reason: reason.clone(),
                deadline: Some((*deadline).try_into().unwrap_or_default()),
            };
            client.drain_module_connection(&request, option).map(unary)
        }
    }
}

/// One page after the other, until the last.
fn paged<C, Q, A>(
    client: C,
    request: Q,
    option: CallOption,
    method: fn(&C, &Q, CallOption) -> grpcio::Result<grpcio::ClientUnaryReceiver<A>>,
) -> Answers
where
    C: Clone + Send + Sync + 'static,
    Q: NextPage + Send + 'static,
    A: Answer + Paged + Unpin,
{
    let pages = stream::try_unfold(Some(request), move |next| {
        let (client, option) = (client.clone(), option.clone());
        async move {
            let Some(mut request) = next else { return Ok(None) };
            let answer = method(&client, &request, option).map_err(fault)?.await.map_err(fault)?;
            let token = answer.next_page().to_owned();
            let replies = answer.take().map_err(Fault::Final)?;
            let next = (!token.is_empty()).then(|| {
                request.begin_at(token);
                request
            });
            Ok(Some((replies, next)))
        }
    });
    Box::pin(pages)
}

fn unary<A: Answer + Unpin>(receiver: grpcio::ClientUnaryReceiver<A>) -> Answers {
    Box::pin(stream::once(async move {
        let answer = receiver.await.map_err(fault)?;
        answer.take().map_err(Fault::Final)
    }))
}

fn streamed<A: Answer + Unpin>(receiver: grpcio::ClientSStreamReceiver<A>) -> Answers {
    Box::pin(receiver.map_err(fault).and_then(|answer| async move { answer.take().map_err(Fault::Final) }))
}

fn fault(e: grpcio::Error) -> Fault {
    match e {
        // With details it is the gateway that speaks; without, the C core lost the connection.
        grpcio::Error::RpcFailure(status) if is_broken(&status) => {
            Fault::Broken(std::io::Error::other(status.message().to_owned()))
        }
        grpcio::Error::RpcFailure(status) => Fault::Final(status::error(&status)),
        e => Fault::Broken(std::io::Error::other(e.to_string())),
    }
}

fn is_broken(status: &RpcStatus) -> bool {
    status.code() == RpcStatusCode::UNAVAILABLE && status.details().is_empty()
}
