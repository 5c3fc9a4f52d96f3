//! What executes modules of a provider, wherever their calls come from.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sdk::module::definition::{Call, Failure, Module};
use crate::sdk::module::record::Record;
use crate::sdk::module::serializer::Serializer;
use crate::sdk::module::transport::{Execute, Executor as Served, Transport};
use crate::wire::error::Error;

/// Executes modules, for as long as it is kept.
pub(in crate::sdk::module) struct Executor {
    served: Box<dyn Served>,
    pub port: u16,
    record: Arc<Record>,
}

/// What all executors of a provider have in common.
#[derive(Clone)]
pub(in crate::sdk::module) struct Parts {
    pub transport: Arc<dyn Transport>,
    pub serializer: Arc<dyn Serializer>,
    /// Calls that are under way.
    pub calls: Arc<AtomicUsize>,
}

impl Executor {
    /// Port 0 is any that is free.
    pub fn start(address: SocketAddr, modules: Vec<Module>, parts: &Parts) -> Result<Self, Error> {
        let record = Arc::<Record>::default();
        let (serializer, calls) = (Arc::clone(&parts.serializer), Arc::clone(&parts.calls));
        let executing = Executing { modules, serializer, calls, record: Arc::clone(&record) };
        let served = parts.transport.serve(address, Arc::new(executing))?;
        Ok(Self { port: served.port(), served, record })
    }

    /// How calls of it go.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }

    /// Takes no more calls, and leaves those that are under way some time.
    pub fn stop(self) {
        self.served.stop();
    }
}

struct Executing {
    modules: Vec<Module>,
    serializer: Arc<dyn Serializer>,
    calls: Arc<AtomicUsize>,
    record: Arc<Record>,
}

impl Execute for Executing {
    fn execute(&self, module: &str, input: &[u8], call: &Call) -> Result<Vec<u8>, Failure> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let begun_ms = self.record.begin();
        let result = match self.modules.iter().find(|known| known.name == module) {
            None => {
                Err(Failure { code: "MODULE_NOT_FOUND", message: format!("Module not found: {module:.200}") })
            }
            Some(module) => catch_unwind(AssertUnwindSafe(|| module.run(&*self.serializer, input, call)))
                .unwrap_or_else(|panic| {
                    let why = panic.downcast_ref::<&str>().map(|why| (*why).to_owned());
                    let why = why.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                    Err(Failure::new(format!("the module panicked: {why}")))
                }),
        };
        self.record.end(begun_ms, result.is_err());
        self.calls.fetch_sub(1, Ordering::AcqRel);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Duration;

    use grpcio::CallOption;
    use serde_json::{Value, json};

    use super::*;
    use crate::rpc::block;
    use crate::rpc::client_threads::environment;
    use crate::rpc::local_channel::LocalChannel;
    use crate::rpc::services::constellation as proto;
    use crate::rpc::services::constellation::ModuleExecutorClient;
    use crate::rpc::services::constellation::execute_response::Result as Outcome;
    use crate::sdk::module::grpc::Grpc;
    use crate::sdk::module::protocol::MESSAGE_LEN_MAX;
    use crate::sdk::module::serializer::TaggedJson;

    #[test]
    fn a_module_has_the_usual_stack() {
        let deep = Module::new("deep", |()| {
            // More than threads of ours have; without optimisation there are three of it.
            let room = black_box([7u8; 1 << 19]);
            Ok(i64::from(room[room.len() / 2]))
        });
        let (transport, serializer) = (Arc::new(Grpc), Arc::new(TaggedJson));
        let parts = Parts { transport, serializer, calls: Arc::default() };
        let executor = Executor::start(([127, 0, 0, 1], 0).into(), vec![deep], &parts).unwrap();
        let address = ([127, 0, 0, 1], executor.port).into();
        let (timeout, len_max) = (Duration::from_secs(20), MESSAGE_LEN_MAX);
        let channel = LocalChannel::connect(address, timeout, environment(), len_max).unwrap();
        let request = proto::ExecuteRequest {
            module_name: "deep".to_owned(),
            input_data: json!({ "tag": "CProduct", "value": {}, "structure": {} }).to_string().into(),
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
