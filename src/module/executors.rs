//! Connections to the executors of modules, one for each provider, made when it is first needed and again
//! when it was lost.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{CallOption, ChannelBuilder, RpcStatusCode};
use parking_lot::Mutex;

use crate::module::executor::ExecutorAddress;
use crate::rpc::block;
use crate::rpc::client_threads::environment;
use crate::rpc::services::constellation::execute_response::Result as Outcome;
use crate::rpc::services::constellation::{ExecuteRequest, ModuleExecutorClient};
use crate::sys::poll::{self, PollFd};
use crate::sys::{clock, grpc};
use crate::wire::time::millis;

/// The largest message, each way.
const MESSAGE_LEN_MAX: i32 = 4 << 20;
/// How long a connection may take, on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Added to a call's time, so that the C core's own word about the deadline comes first, ms.
const MARGIN_MS: u64 = 500;

/// Why a module was not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecuteFailure {
    /// The executor was not reached: another one may be.
    Unreached(String),
    /// In time there was no answer.
    Deadline,
    /// What gRPC says.
    Refused(String),
    /// What the executor says.
    Failed { code: String, message: String, stack_trace: String },
}

/// One connection. The C core does not say whether it is still connected, so the socket is kept, too.
#[derive(Clone)]
struct Link {
    client: ModuleExecutorClient,
    socket: Arc<TcpStream>,
}

/// The connections, by the id of the provider's connection.
#[derive(Default)]
pub struct Executors {
    links: Mutex<HashMap<String, Link>>,
}

impl Executors {
    /// Has a module executed and waits for what comes of it.
    pub fn execute(
        &self,
        id: &str,
        address: &ExecutorAddress,
        request: &ExecuteRequest,
        timeout: Duration,
    ) -> Result<Vec<u8>, ExecuteFailure> {
        let link =
            self.link(id, address).map_err(|e| ExecuteFailure::Unreached(format!("cannot connect: {e}")))?;
        let option = CallOption::default().timeout(timeout);
        let call = link
            .client
            .execute(request, option)
            .map_err(|e| ExecuteFailure::Unreached(format!("cannot call: {e}")))?;
        let deadline = clock::now_ms() + millis(timeout) + MARGIN_MS;
        let response = match block::wait(call, Some(deadline)) {
            None => return Err(ExecuteFailure::Deadline),
            Some(Ok(response)) => response,
            Some(Err(grpcio::Error::RpcFailure(status))) => {
                return Err(match status.code() {
                    RpcStatusCode::UNAVAILABLE => ExecuteFailure::Unreached(status.message().to_owned()),
                    RpcStatusCode::DEADLINE_EXCEEDED => ExecuteFailure::Deadline,
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
        self.links.lock().remove(id);
    }

    fn link(&self, id: &str, address: &ExecutorAddress) -> io::Result<Link> {
        let known = self.links.lock().get(id).cloned();
        if let Some(link) = known.filter(|link| !link.is_lost()) {
            return Ok(link);
        }
        // Without the lock: one that does not answer holds up nobody else.
        let link = Link::connect(address)?;
        self.links.lock().insert(id.to_owned(), link.clone());
        Ok(link)
    }
}

impl Link {
    /// To the first of the addresses that answers.
    fn connect(address: &ExecutorAddress) -> io::Result<Self> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for each in address.loopback() {
            match TcpStream::connect_timeout(&each, CONNECT_TIMEOUT) {
                Ok(socket) => return Self::over(socket, &each.to_string()),
                Err(e) => failure = e,
            }
        }
        Err(failure)
    }

    fn over(socket: TcpStream, target: &str) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let builder = ChannelBuilder::new(environment())
            .max_receive_message_len(MESSAGE_LEN_MAX)
            .max_send_message_len(MESSAGE_LEN_MAX)
            .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0);
        let theirs = UnixStream::from(OwnedFd::from(socket.try_clone()?));
        let channel = grpc::channel(builder, target, theirs)?;
        let client = ModuleExecutorClient(grpcio::Client::new(channel));
        Ok(Self { client, socket: Arc::new(socket) })
    }

    fn is_lost(&self) -> bool {
        let mut fds = [PollFd::hangup(self.socket.as_fd())];
        poll::wait(&mut fds, Some(0)).is_ok() && fds[0].is_hung_up()
    }
}
