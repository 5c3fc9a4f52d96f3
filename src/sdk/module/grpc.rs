//! The protocol over gRPC: `constellation.provider.v1`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, TryStreamExt};
use grpcio::{
    CallOption, ChannelBuilder, ClientDuplexReceiver, ClientDuplexSender, ClientUnaryReceiver,
    MetadataBuilder, RpcContext, RpcStatus, RpcStatusCode, Server, ServerBuilder, ServerCredentials,
    UnarySink, WriteFlags,
};

use crate::rpc::client_threads::environment;
use crate::rpc::codec::Encoded;
use crate::rpc::local_channel::LocalChannel;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::control_message::Payload;
use crate::rpc::services::constellation::execute_response::Result as Outcome;
use crate::rpc::services::constellation::{ModuleExecutor, ModuleProviderClient, module_executor_service};
use crate::rpc::{block, pending};
use crate::sdk::module::definition::{Call, Failure};
use crate::sdk::module::protocol::{MESSAGE_LEN_MAX, PROTOCOL_VERSION, REPLACES};
use crate::sdk::module::transport::{
    Control, Execute, Executor, FromService, Later, Registered, Registration, Service, ToService, Transport,
};
use crate::sys::{clock, grpc, thread};
use crate::wire::error::Error;
use crate::wire::time::millis;

/// How long connecting, and a call that registers or deregisters, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls at once, and threads for them; more are answered RESOURCE_EXHAUSTED.
const CALLS_MAX: usize = 256;
/// How long calls may take to end with the server.
const GOODBYE: Duration = Duration::from_secs(2);

/// Plain gRPC, as services speak it on one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

impl Transport for Grpc {
    fn connect(&self, service: SocketAddr) -> Result<Box<dyn Service>, String> {
        let channel = LocalChannel::connect(service, CONNECT_TIMEOUT, environment(), MESSAGE_LEN_MAX)
            .map_err(|e| format!("cannot connect to {service}: {e}"))?;
        Ok(Box::new(Connected(ModuleProviderClient(channel.client))))
    }

    fn serve(&self, listen: SocketAddr, execute: Arc<dyn Execute>) -> Result<Box<dyn Executor>, Error> {
        let env = Arc::new(grpc::environment(1).build());
        let arguments = ChannelBuilder::new(Arc::clone(&env))
            .max_receive_message_len(MESSAGE_LEN_MAX)
            .max_send_message_len(MESSAGE_LEN_MAX)
            .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
            .raw_cfg_int(c"grpc.so_reuseport".to_owned(), 0)
            .build_args();
        let served = Served { execute, calls: Arc::default() };
        let mut server = ServerBuilder::new(env)
            .channel_args(arguments)
            .register_service(module_executor_service(served))
            .build()
            .map_err(|e| Error::failed("make a server", &e))?;
        let port = server
            .add_listening_port(listen.to_string(), ServerCredentials::insecure())
            .map_err(|e| Error::failed(&format!("listen on {listen}"), &e))?;
        server.start();
        Ok(Box::new(Serving { server, port }))
    }
}

/// A connection to a service.
struct Connected(ModuleProviderClient);

impl Service for Connected {
    fn register(&self, what: &Registration, replaces: &str) -> Result<Registered, String> {
        let mut headers = MetadataBuilder::new();
        if !replaces.is_empty() {
            headers.add_str(REPLACES, replaces).map_err(|e| e.to_string())?;
        }
        let option = CallOption::default().timeout(CALL_TIMEOUT).headers(headers.build());
        let answer = answered(self.0.register(&request(what), option))?;
        let result = |r: proto::ModuleRegistrationResult| {
            let result = if r.accepted { Ok(()) } else { Err(r.rejection_reason) };
            (r.module_name, result)
        };
        Ok(Registered {
            connection_id: answer.connection_id,
            success: answer.success,
            results: answer.results.into_iter().map(result).collect(),
        })
    }

    fn deregister(&self, what: &Registration, connection_id: &str) {
        let request = proto::DeregisterRequest {
            namespace: what.namespace.clone(),
            module_names: what.modules.iter().map(|module| module.name.clone()).collect(),
            connection_id: connection_id.to_owned(),
        };
        let _ = answered(self.0.deregister(&request, CallOption::default().timeout(CALL_TIMEOUT)));
    }

    fn control(&self, connection_id: &str, namespace: &str) -> Result<Box<dyn Control>, String> {
        let stream = self.0.control_plane(CallOption::default()).map_err(|e| e.to_string())?;
        let (sender, receiver) = stream;
        let (id, namespace) = (connection_id.to_owned(), namespace.to_owned());
        Ok(Box::new(Stream { id, namespace, sender, receiver }))
    }
}

fn request(what: &Registration) -> proto::RegisterRequest {
    let modules = what.modules.iter().map(|module| proto::ModuleDeclaration {
        name: module.name.clone(),
        input_schema: Some(module.input.to_wire()),
        output_schema: Some(module.output.to_wire()),
        version: module.version.clone(),
        description: module.description.clone(),
    });
    proto::RegisterRequest {
        namespace: what.namespace.clone(),
        modules: modules.collect(),
        protocol_version: PROTOCOL_VERSION,
        executor_url: what.executor_url.clone(),
        group_id: what.group.clone(),
    }
}

fn answered<A: Unpin>(call: grpcio::Result<ClientUnaryReceiver<A>>) -> Result<A, String> {
    let call = call.map_err(|e| e.to_string())?;
    let answer = block::wait(call, Some(clock::now_ms() + 2 * millis(CALL_TIMEOUT)));
    answer.ok_or("no answer in time")?.map_err(|e| e.to_string())
}

/// An open control stream.
struct Stream {
    id: String,
    namespace: String,
    sender: ClientDuplexSender<proto::ControlMessage>,
    receiver: ClientDuplexReceiver<proto::ControlMessage>,
}

impl Control for Stream {
    fn send(&mut self, message: ToService) -> Later<'_, bool> {
        let payload = match message {
            ToService::Heartbeat(timestamp) => {
                Payload::Heartbeat(proto::Heartbeat { namespace: self.namespace.clone(), timestamp })
            }
            ToService::DrainAck { accepted, in_flight } => {
                let in_flight_count = i32::try_from(in_flight).unwrap_or(i32::MAX);
                Payload::DrainAck(proto::DrainAck { accepted, in_flight_count })
            }
        };
        let (protocol_version, connection_id) = (PROTOCOL_VERSION, self.id.clone());
        let message = proto::ControlMessage { protocol_version, connection_id, payload: Some(payload) };
        Box::pin(async { self.sender.send((message, WriteFlags::default())).await.is_ok() })
    }

    fn next(&mut self) -> Later<'_, Result<Option<FromService>, String>> {
        Box::pin(async {
            let message = self.receiver.try_next().await.map_err(|e| e.to_string())?;
            Ok(message.map(|message| match message.payload {
                Some(Payload::HeartbeatAck(_)) => FromService::HeartbeatAck,
                Some(Payload::ActiveModulesReport(report)) => {
                    FromService::ActiveModules(report.active_modules)
                }
                Some(Payload::DrainRequest(drain)) => FromService::Drain(drain.reason),
                Some(Payload::Heartbeat(_) | Payload::DrainAck(_)) | None => FromService::Unknown,
            }))
        })
    }

    fn close(&mut self) -> Later<'_, ()> {
        Box::pin(async { _ = self.sender.close().await })
    }
}

/// A server that has modules executed, for as long as it is kept.
struct Serving {
    server: Server,
    port: u16,
}

impl Executor for Serving {
    fn port(&self) -> u16 {
        self.port
    }

    fn stop(mut self: Box<Self>) {
        let _ = block::wait(self.server.shutdown(), Some(clock::now_ms() + millis(GOODBYE)));
    }
}

#[derive(Clone)]
struct Served {
    execute: Arc<dyn Execute>,
    calls: Arc<AtomicUsize>,
}

/// A call that is under way, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ModuleExecutor for Served {
    /// On a thread of its own: an author's code may wait.
    fn execute(
        &mut self,
        _: RpcContext<'_>,
        request: Encoded<proto::ExecuteRequest>,
        sink: UnarySink<proto::ExecuteResponse>,
    ) {
        let (execute, calls) = (Arc::clone(&self.execute), Arc::clone(&self.calls));
        let is_full = calls.fetch_add(1, Ordering::AcqRel) >= CALLS_MAX;
        let counted = Counted(calls);
        if is_full {
            let message = format!("{CALLS_MAX} calls are under way already");
            let status = RpcStatus::with_message(RpcStatusCode::RESOURCE_EXHAUSTED, message);
            return pending::answer(sink, Err(status));
        }
        let started = thread::spawn_for_others("execute", move || {
            let _counted = counted;
            let answer = request.decode().map(|request| executed(&*execute, request)).map_err(|e| {
                RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, format!("not understood: {e}"))
            });
            pending::answer(sink, answer);
        });
        // Without a thread the sink is gone, and the call is cancelled.
        drop(started);
    }
}

fn executed(execute: &dyn Execute, request: proto::ExecuteRequest) -> proto::ExecuteResponse {
    let begun = Instant::now();
    let call = Call { execution_id: request.execution_id, metadata: request.metadata.into_iter().collect() };
    let result = match execute.execute(&request.module_name, &request.input_data, &call) {
        Ok(output) => Outcome::OutputData(output.into()),
        Err(Failure { code, message }) => {
            let (code, stack_trace) = (code.to_owned(), String::new());
            Outcome::Error(proto::ExecutionError { code, message, stack_trace })
        }
    };
    let duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let metrics = proto::ExecutionMetrics { duration_ms, memory_bytes: 0 };
    proto::ExecuteResponse { result: Some(result), metrics: Some(metrics) }
}
