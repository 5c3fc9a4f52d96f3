//! `constellation.provider.v1.ModuleProvider`: registration, and the control streams that show who lives. It
//! runs on the C core's completion thread and never waits: what has to be noted is done elsewhere.

use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::{SinkExt, TryStreamExt};
use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode, UnarySink, WriteFlags};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use crate::module::convert::registration;
use crate::module::outbox::{Next, Outbox};
use crate::module::owner::Owner;
use crate::module::plane::Unbound;
use crate::module::plane::register::{MODULES_MAX, Registration};
use crate::module::shared::Shared;
use crate::rpc::codec::Encoded;
use crate::rpc::pending;
use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::ModuleProvider;
use crate::rpc::services::constellation::control_message::Payload;
use crate::sdk::module::protocol::REPLACES;
use crate::sdk::module::schema::DEPTH_MAX;

/// What a registration calls its modules, and a deregistration their names.
const MODULES_FIELD: u32 = 2;

/// Answers providers.
#[derive(Clone)]
pub struct Server {
    pub shared: Arc<Shared>,
    /// Whose connection this is.
    pub owner: Owner,
}

impl ModuleProvider for Server {
    fn register(
        &mut self,
        ctx: RpcContext<'_>,
        request: Encoded<proto::RegisterRequest>,
        sink: UnarySink<proto::RegisterResponse>,
    ) {
        let replaces = ctx.request_headers().iter().find(|(key, _)| *key == REPLACES);
        let replaces = replaces.and_then(|(_, value)| Some(std::str::from_utf8(value).ok()?.to_owned()));
        let len = request.len();
        match decoded(request) {
            Ok(request) => {
                let (owner, channel) = (self.owner.clone(), ctx.peer());
                let r = Registration { replaces, owner, channel, ..registration(request) };
                self.submit(sink, len, move |shared| shared.register(r));
            }
            Err(status) => pending::answer(sink, Err(status)),
        }
    }

    fn deregister(
        &mut self,
        ctx: RpcContext<'_>,
        request: Encoded<proto::DeregisterRequest>,
        sink: UnarySink<proto::DeregisterResponse>,
    ) {
        let len = request.len();
        match decoded(request) {
            Ok(request) => {
                let (owner, channel) = (self.owner.clone(), ctx.peer());
                self.submit(sink, len, move |shared| shared.deregister(&request, &owner, &channel));
            }
            Err(status) => pending::answer(sink, Err(status)),
        }
    }

    fn control_plane(
        &mut self,
        ctx: RpcContext<'_>,
        requests: RequestStream<proto::ControlMessage>,
        sink: DuplexSink<proto::ControlMessage>,
    ) {
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        let outbox = Arc::new(Outbox::default());
        ctx.spawn(async move {
            let mut bound = Bound { shared, owner, outbox: Arc::clone(&outbox), id: None };
            let reading = Box::pin(async {
                let mut requests = requests;
                (bound.read(&mut requests).await, requests)
            });
            let writing = Box::pin(write(&outbox, sink));
            // When the provider has said its last word, what is said to it still goes out.
            if let Either::Left(((status, requests), writing)) = select(reading, writing).await {
                // Requests dropped now cancel the call, and no status arrives: only for who reads nothing.
                let is_read = status.as_ref().is_none_or(|s| s.code() != RpcStatusCode::RESOURCE_EXHAUSTED);
                let _kept = is_read.then_some(requests);
                outbox.end(status);
                writing.await;
            }
        });
    }
}

impl Server {
    /// Answers when it is done and noted. Where too much waits already, the call is cancelled.
    fn submit<A: Send + 'static>(
        &self,
        sink: UnarySink<A>,
        len: usize,
        work: impl FnOnce(&Shared) -> A + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.shared.recorder.submit(len, Box::new(move || pending::answer(sink, Ok(work(&shared)))));
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
    owner: Owner,
    outbox: Arc<Outbox>,
    id: Option<String>,
}

impl Bound {
    /// Takes messages until there are no more; why the stream ends, if not well.
    async fn read(&mut self, requests: &mut RequestStream<proto::ControlMessage>) -> Option<RpcStatus> {
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
                self.shared.bind(&id, &self.owner, &self.outbox).map_err(|why| match why {
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
                // It may have been replaced in the moment in which its stream began.
                if !self.shared.heartbeat(&id) {
                    return Err(refused(RpcStatusCode::NOT_FOUND, "the connection is gone"));
                }
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

/// The message, if it has no more modules than it may: they are counted before anything is unfolded, since
/// two bytes of a message may be hundreds in memory.
fn decoded<M: Message + Default>(request: Encoded<M>) -> Result<M, RpcStatus> {
    let refused = |why: String| RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, why);
    let unread = |e: &dyn std::fmt::Display| {
        refused(format!("the message cannot be read (schemas have at most {DEPTH_MAX} levels): {e}"))
    };
    let bytes = request.into_bytes().map_err(|e| unread(&e))?;
    if count_of(MODULES_FIELD, &bytes) > MODULES_MAX {
        return Err(refused(format!("a registration has at most {MODULES_MAX} modules")));
    }
    M::decode(&*bytes).map_err(|e| unread(&e))
}

/// How often a message has a field, as far as it can be read.
fn count_of(field: u32, mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let Ok((tag, kind)) = decode_key(&mut bytes) else { break };
        count += usize::from(tag == field);
        if skip_field(kind, tag, &mut bytes, DecodeContext::default()).is_err() {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::fs;

    use uuid::Uuid;

    use super::*;
    use crate::module::notes::Notes;
    use crate::module::settings::ModuleLimits;

    #[test]
    fn modules_are_counted_before_they_are_unfolded() {
        let named = |name: &str| proto::ModuleDeclaration { name: name.to_owned(), ..Default::default() };
        let request = |count: usize| proto::RegisterRequest {
            namespace: "n".to_owned(),
            modules: (0..count).map(|_| named("m")).collect(),
            protocol_version: 1,
            ..proto::RegisterRequest::default()
        };
        let read = |count: usize| decoded(Encoded::new(&request(count)));
        assert_eq!(read(MODULES_MAX).map(|r| r.modules.len()).map_err(|e| e.code()), Ok(MODULES_MAX));
        assert!(read(MODULES_MAX + 1).is_err_and(|e| e.message().contains("at most 1000 modules")));
        // What cannot be read is not counted to its end.
        assert_eq!(count_of(MODULES_FIELD, &[2 << 3 | 2, 0, 2 << 3 | 2, 9, 1]), 2);
    }

    #[test]
    fn a_heartbeat_of_a_connection_that_is_gone_is_not_acknowledged() {
        let path = std::env::temp_dir().join(format!("provost-module-server-{}", Uuid::new_v4()));
        let notes = Notes::open(&path).unwrap();
        let shared = Arc::new(Shared::new(
            ModuleLimits::default(),
            notes,
            Arc::new(|_: &str| ()),
            Arc::new(|_, _: &str, _: &str| ()),
        ));
        let (owner, outbox) = (Owner::default(), Arc::default());
        let mut bound = Bound { shared, owner, outbox, id: Some("gone".to_owned()) };
        let payload = Some(Payload::Heartbeat(proto::Heartbeat::default()));
        let refused = bound.take(proto::ControlMessage { payload, ..proto::ControlMessage::default() });
        assert_eq!(refused.map_err(|status| status.code()), Err(RpcStatusCode::NOT_FOUND));
        fs::remove_dir_all(&path).unwrap();
    }
}
