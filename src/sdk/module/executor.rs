//! The server that executes modules of a provider.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use grpcio::{
    ChannelBuilder, EnvBuilder, RpcContext, RpcStatus, RpcStatusCode, Server, ServerBuilder,
    ServerCredentials, UnarySink,
};

use crate::rpc::codec::Encoded;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::execute_response::Result as Outcome;
use crate::rpc::services::constellation::{ModuleExecutor, module_executor_service};
use crate::rpc::{block, pending};
use crate::sdk::module::definition::{Call, Failure, Module};
use crate::sdk::module::protocol::MESSAGE_LEN_MAX;
use crate::sdk::module::record::Record;
use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::time::millis;

/// Calls at once, and threads for them; more are answered RESOURCE_EXHAUSTED.
const CALLS_MAX: usize = 256;
/// How long calls may take to end with the server.
const GOODBYE: Duration = Duration::from_secs(2);

/// A server that executes modules, for as long as it is kept.
pub(in crate::sdk::module) struct Executor {
    server: Server,
    pub port: u16,
    record: Arc<Record>,
}

impl Executor {
    /// Port 0 is any that is free. `calls` counts what is under way, here and elsewhere.
    pub fn start(
        address: SocketAddr,
        modules: Arc<Vec<Module>>,
        calls: &Arc<AtomicUsize>,
    ) -> Result<Self, Error> {
        let record = Arc::<Record>::default();
        let service = Served { modules, calls: Arc::clone(calls), record: Arc::clone(&record) };
        let env = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("grpc").build());
        let arguments = ChannelBuilder::new(Arc::clone(&env))
            .max_receive_message_len(MESSAGE_LEN_MAX)
            .max_send_message_len(MESSAGE_LEN_MAX)
            .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
            .raw_cfg_int(c"grpc.so_reuseport".to_owned(), 0)
            .build_args();
        let mut server = ServerBuilder::new(env)
            .channel_args(arguments)
            .register_service(module_executor_service(service))
            .build()
            .map_err(|e| Error::failed("make a server", &e))?;
        let port = server
            .add_listening_port(address.to_string(), ServerCredentials::insecure())
            .map_err(|e| Error::failed(&format!("listen on {address}"), &e))?;
        server.start();
        Ok(Self { server, port, record })
    }

    /// How calls of it go.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }

    /// Takes no more calls, and leaves those that are under way some time.
    pub fn stop(mut self) {
        let _ = block::wait(self.server.shutdown(), Some(clock::now_ms() + millis(GOODBYE)));
    }
}

#[derive(Clone)]
struct Served {
    modules: Arc<Vec<Module>>,
    calls: Arc<AtomicUsize>,
    record: Arc<Record>,
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
        let (modules, calls) = (Arc::clone(&self.modules), Arc::clone(&self.calls));
        let record = Arc::clone(&self.record);
        let is_full = calls.fetch_add(1, Ordering::AcqRel) >= CALLS_MAX;
        let counted = Counted(calls);
        if is_full {
            let message = format!("{CALLS_MAX} calls are under way already");
            let status = RpcStatus::with_message(RpcStatusCode::RESOURCE_EXHAUSTED, message);
            return pending::answer(sink, Err(status));
        }
        let started = thread::spawn_for_others("execute", move || {
            let _counted = counted;
            let begun_ms = record.begin();
            let answer = request.decode().map(|request| execute(&modules, request)).map_err(|e| {
                RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, format!("not understood: {e}"))
            });
            let is_good =
                |answer: &proto::ExecuteResponse| matches!(answer.result, Some(Outcome::OutputData(_)));
            record.end(begun_ms, !answer.as_ref().is_ok_and(is_good));
            pending::answer(sink, answer);
        });
        // Without a thread the sink is gone, and the call is cancelled.
        drop(started);
    }
}

fn execute(modules: &[Module], request: proto::ExecuteRequest) -> proto::ExecuteResponse {
    let begun = Instant::now();
    let call = Call { execution_id: request.execution_id, metadata: request.metadata.into_iter().collect() };
    let result = match modules.iter().find(|module| module.name == request.module_name) {
        None => Err(Failure {
            code: "MODULE_NOT_FOUND",
            message: format!("Module not found: {:.200}", request.module_name),
        }),
        Some(module) => catch_unwind(AssertUnwindSafe(|| module.run(&request.input_data, &call)))
            .unwrap_or_else(|panic| {
                let why = panic.downcast_ref::<&str>().map(|why| (*why).to_owned());
                let why = why.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Err(Failure::new(format!("the module panicked: {why}")))
            }),
    };
    let duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let result = match result {
        Ok(output) => Outcome::OutputData(output),
        Err(Failure { code, message }) => {
            let (code, stack_trace) = (code.to_owned(), String::new());
            Outcome::Error(proto::ExecutionError { code, message, stack_trace })
        }
    };
    let metrics = proto::ExecutionMetrics { duration_ms, memory_bytes: 0 };
    proto::ExecuteResponse { result: Some(result), metrics: Some(metrics) }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use grpcio::CallOption;
    use serde_json::{Value, json};

    use super::*;
    use crate::rpc::client_threads::environment;
    use crate::rpc::local_channel::LocalChannel;
    use crate::rpc::services::constellation::ModuleExecutorClient;

    #[test]
    fn a_module_has_the_usual_stack() {
        let deep = Module::new("deep", |()| {
            // More than threads of ours have; without optimisation there are three of it.
            let room = black_box([7u8; 1 << 19]);
            Ok(i64::from(room[room.len() / 2]))
        });
        let executor =
            Executor::start(([127, 0, 0, 1], 0).into(), Arc::new(vec![deep]), &Arc::default()).unwrap();
        let address = ([127, 0, 0, 1], executor.port).into();
        let (timeout, len_max) = (Duration::from_secs(20), MESSAGE_LEN_MAX);
        let channel = LocalChannel::connect(address, timeout, environment(), len_max).unwrap();
        let request = proto::ExecuteRequest {
            module_name: "deep".to_owned(),
            input_data: json!({ "tag": "CProduct", "value": {}, "structure": {} }).to_string().into_bytes(),
            ..proto::ExecuteRequest::default()
        };
        let client = ModuleExecutorClient(channel.client);
        let call = client.execute(&request, CallOption::default().timeout(timeout)).unwrap();
        let answer = block::wait(call, None).unwrap().unwrap();
        let Some(Outcome::OutputData(output)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(serde_json::from_slice::<Value>(&output).unwrap()["value"], 7);
        executor.stop();
    }
}
