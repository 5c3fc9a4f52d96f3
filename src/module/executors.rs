//! Connections to the executors of modules, one for each provider, made when it is first needed and again
//! when it was lost.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grpcio::{CallOption, RpcStatusCode};
use parking_lot::Mutex;

use crate::module::dial::Dialer;
use crate::module::executor::ExecutorAddress;
use crate::rpc::block;
use crate::rpc::client_threads::environment;
use crate::rpc::codec::Encoded;
use crate::rpc::local_channel::LocalChannel;
use crate::rpc::services::constellation::execute_response::Result as Outcome;
use crate::rpc::services::constellation::{ExecuteRequest, MODULE_EXECUTOR_EXECUTE};
use crate::sdk::module::protocol::MESSAGE_LEN_MAX;
use crate::sys::clock;
use crate::wire::time::millis;

/// Added to a call's time, so that the C core's own word about the deadline comes first, ms.
const MARGIN_MS: u64 = 500;

/// Why a module was not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecuteFailure {
    /// The executor was not reached: another one may be.
    Unreached(String),
    /// The executor ends, and has not begun the call.
    GivenUp,
    /// In time there was no answer.
    Deadline,
    /// What gRPC says.
    Refused(String),
    /// The same of a message that is too large, or of an executor that has too much to do.
    TooLarge(String),
    /// What the executor says.
    Failed { code: String, message: String, stack_trace: String },
}

/// The connections, by the id of the provider's connection.
pub struct Executors {
    dialer: Arc<Dialer>,
    channels: Mutex<HashMap<String, LocalChannel>>,
}

impl Executors {
    pub fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, channels: Mutex::default() }
    }

    /// Has a module executed and waits for what comes of it.
    pub fn execute(
        &self,
        id: &str,
        address: &ExecutorAddress,
        request: &Encoded<ExecuteRequest>,
        timeout: Duration,
    ) -> Result<Bytes, ExecuteFailure> {
        let deadline_ms = clock::now_ms() + millis(timeout);
        let channel = self
            .channel(id, address, timeout)
            .map_err(|e| ExecuteFailure::Unreached(format!("cannot connect: {e}")))?;
        let left = Duration::from_millis(deadline_ms.saturating_sub(clock::now_ms()));
        // The channel is held until the end: the connection ends with its last holder, whatever is under way
        // over it.
        let call = channel
            .client
            .unary_call_async(&MODULE_EXECUTOR_EXECUTE, request, CallOption::default().timeout(left))
            .map_err(|e| ExecuteFailure::Unreached(format!("cannot call: {e}")))?;
        let response = match block::wait(call, Some(deadline_ms + MARGIN_MS)) {
            None => return Err(ExecuteFailure::Deadline),
            Some(Ok(response)) => response,
            Some(Err(grpcio::Error::RpcFailure(status))) => {
                return Err(match status.code() {
                    RpcStatusCode::UNAVAILABLE => ExecuteFailure::Unreached(status.message().to_owned()),
                    // We have not: an executor that ends says so of calls that it has not begun.
                    RpcStatusCode::CANCELLED => ExecuteFailure::GivenUp,
                    RpcStatusCode::DEADLINE_EXCEEDED => ExecuteFailure::Deadline,
                    RpcStatusCode::RESOURCE_EXHAUSTED => {
                        ExecuteFailure::TooLarge(format!("RESOURCE_EXHAUSTED: {}", status.message()))
                    }
                    code => ExecuteFailure::Refused(format!("{code}: {}", status.message())),
                });
            }
            Some(Err(e)) => return Err(ExecuteFailure::Refused(e.to_string())),
        };
        match response.result {
            Some(Outcome::OutputData(bytes)) => Ok(bytes),
            Some(Outcome::Error(e)) => {
                let (code, message, stack_trace) = (e.code, e.message, e.stack_trace);
                Err(ExecuteFailure::Failed { code, message, stack_trace })
            }
            None => Err(ExecuteFailure::Refused("the executor returned an empty response".to_owned())),
        }
    }

    /// Lets go of the connection to a provider that is gone. Calls that are under way go on.
    pub fn forget(&self, id: &str) {
        self.channels.lock().remove(id);
    }

    /// One that is connected already, or a new one that may take so long.
    fn channel(&self, id: &str, address: &ExecutorAddress, within: Duration) -> io::Result<LocalChannel> {
        let known = self.channels.lock().get(id).cloned();
        if let Some(channel) = known.filter(|channel| !channel.is_lost()) {
            return Ok(channel);
        }
        // Without the lock: one that does not answer holds up nobody else.
        let socket = self.dialer.connect(address, within)?;
        let channel = LocalChannel::over(socket, &address.to_string(), environment(), MESSAGE_LEN_MAX)?;
        self.channels.lock().insert(id.to_owned(), channel.clone());
        Ok(channel)
    }
}
