//! `constellation.provider.v1.ModuleProvider`: registration, and the control streams that show who lives. It
//! runs on the C core's completion thread and never waits: everything it asks is in memory.

use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::{SinkExt, TryStreamExt};
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, UnarySink, WriteFlags};

use crate::module::outbox::{Next, Outbox};
use crate::module::plane::{Declared, Registration, Unbound};
use crate::module::schema::{DEPTH_MAX, Type};
use crate::module::shared::Shared;
use crate::rpc::codec::Encoded;
use crate::rpc::pending;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::ModuleProvider;
use crate::rpc::services::constellation::control_message::Payload;

/// Metadata in which a provider names the connection that its registration replaces.
const REPLACES: &str = "provost-connection-id";

/// Answers providers.
#[derive(Clone)]
pub struct Server(pub Arc<Shared>);

impl ModuleProvider for Server {
    fn register(
        &mut self,
        ctx: RpcContext<'_>,
        request: Encoded<proto::RegisterRequest>,
        sink: UnarySink<proto::RegisterResponse>,
    ) {
        let replaces = ctx.request_headers().iter().find(|(key, _)| *key == REPLACES);
        let replaces = replaces.and_then(|(_, value)| Some(std::str::from_utf8(value).ok()?.to_owned()));
        let answer = decoded(request).map(|request| self.0.register(registration(request, replaces)));
        pending::answer(sink, answer);
    }

    fn deregister(
        &mut self,
        _: RpcContext<'_>,
        request: Encoded<proto::DeregisterRequest>,
        sink: UnarySink<proto::DeregisterResponse>,
    ) {
        let answer = decoded(request).map(|request| self.0.deregister(&request));
        pending::answer(sink, answer);
    }

    fn control_plane(
        &mut self,
        ctx: RpcContext<'_>,
        requests: RequestStream<proto::ControlMessage>,
        sink: DuplexSink<proto::ControlMessage>,
    ) {
        let shared = Arc::clone(&self.0);
        let outbox = Arc::new(Outbox::default());
        ctx.spawn(async move {
            let mut bound = Bound { shared, outbox: Arc::clone(&outbox), id: None };
            let reading = Box::pin(async { bound.read(requests).await });
            let writing = Box::pin(write(&outbox, sink));
            // When the provider has said its last word, what is said to it still goes out.
            if let Either::Left((status, writing)) = select(reading, writing).await {
                outbox.end(status);
                writing.await;
            }
        });
    }
}

/// Sends what is put into the outbox, until it ends or the provider is gone.
async fn write(outbox: &Outbox, mut sink: DuplexSink<proto::ControlMessage>) {
    loop {
        match outbox.next().await {
            Next::Send(message) => {
                if sink.send((message, WriteFlags::default())).await.is_err() {
                    return;
                }
            }
            Next::End(None) => {
                let _ = sink.close().await;
                return;
            }
            Next::End(Some(status)) => {
                let _ = sink.fail(status).await;
                return;
            }
        }
    }
}

/// A control stream, and the connection that its first message has named. Its end is the connection's.
struct Bound {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    id: Option<String>,
}

impl Bound {
    /// Takes messages until there are no more; why the stream ends, if not well.
    async fn read(&mut self, mut requests: RequestStream<proto::ControlMessage>) -> Option<RpcStatus> {
        loop {
            match requests.try_next().await {
                Ok(Some(message)) => {
                    if let Err(status) = self.take(message) {
                        return Some(status);
                    }
                }
                Ok(None) => return None,
                Err(e) => {
                    return Some(RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, e.to_string()));
                }
            }
        }
    }

    fn take(&mut self, message: proto::ControlMessage) -> Result<(), RpcStatus> {
        let refused = |code, why: &str| RpcStatus::with_message(code, why.to_owned());
        let id = match &self.id {
            None => {
                let id = message.connection_id;
                self.shared.bind(&id, &self.outbox).map_err(|why| match why {
                    Unbound::Unknown => refused(RpcStatusCode::NOT_FOUND, "there is no such connection"),
                    Unbound::Twice => {
                        refused(RpcStatusCode::ALREADY_EXISTS, "the connection has a control stream already")
                    }
                })?;
                self.id.insert(id).clone()
            }
            Some(id) if message.connection_id.is_empty() || message.connection_id == *id => id.clone(),
            Some(_) => {
                let why = "the message names another connection than the first one of this stream";
                return Err(refused(RpcStatusCode::PERMISSION_DENIED, why));
            }
        };
        match message.payload {
            Some(Payload::Heartbeat(beat)) => {
                self.shared.heartbeat(&id);
                let ack = Payload::HeartbeatAck(proto::HeartbeatAck { timestamp: beat.timestamp });
                let (protocol_version, connection_id) = (message.protocol_version, id);
                let ack = proto::ControlMessage { protocol_version, connection_id, payload: Some(ack) };
                if !self.outbox.put(ack) {
                    let why = "the acknowledgements of heartbeats are not read";
                    return Err(refused(RpcStatusCode::RESOURCE_EXHAUSTED, why));
                }
            }
            Some(Payload::DrainAck(ack)) if !ack.accepted => self.shared.refuse_drain(&id),
            // What only the server says, and what later versions may say.
            Some(Payload::DrainAck(_) | Payload::HeartbeatAck(_) | Payload::ActiveModulesReport(_))
            | Some(Payload::DrainRequest(_))
            | None => {}
        }
        Ok(())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.shared.lost(id, "its control stream ended");
        }
    }
}

fn decoded<M: prost::Message + Default>(request: Encoded<M>) -> Result<M, RpcStatus> {
    request.decode().map_err(|e| {
        let why = format!("the message cannot be read (schemas have at most {DEPTH_MAX} levels): {e}");
        RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, why)
    })
}

fn registration(request: proto::RegisterRequest, replaces: Option<String>) -> Registration {
    let schema = |schema: Option<proto::TypeSchema>, what: &str| {
        schema.map_or_else(|| Err(format!("Missing {what}")), |schema| Type::from_wire(&schema))
    };
    let modules = request.modules.into_iter().map(|module| Declared {
        name: module.name,
        input: schema(module.input_schema, "input_schema"),
        output: schema(module.output_schema, "output_schema"),
        version: module.version,
        description: module.description,
    });
    Registration {
        namespace: request.namespace,
        group: Some(request.group_id).filter(|group| !group.is_empty()),
        executor_url: request.executor_url,
        modules: modules.collect(),
        protocol_version: request.protocol_version,
        replaces,
    }
}
