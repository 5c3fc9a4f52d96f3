//! `provost.v1.ProcessManager`: each method's message is a request of the command channel, and its answer
//! made of the channel's replies.

use grpcio::{RpcContext, ServerStreamingSink, UnarySink};

use crate::gateway::calls::Calls;
use crate::rpc::services::manager::ProcessManager;
use crate::wire::proto::v1;
use crate::wire::proto::v1::request::Body;

/// The methods' bodies: which way they go, and which request they are.
macro_rules! methods {
    ($($method:ident: $way:ident $body:ident($request:ty) -> $sink:ident<$answer:ty>;)*) => {
        impl ProcessManager for Calls {
            $(fn $method(&mut self, ctx: RpcContext<'_>, request: $request, sink: $sink<$answer>) {
                self.$way(&ctx, Body::$body(request), sink);
            })*

            fn history(
                &mut self,
                ctx: RpcContext<'_>,
                request: v1::Events,
                sink: ServerStreamingSink<v1::EventBatch>,
            ) {
                self.as_it_comes(&ctx, Body::Events(v1::Events { follow: false, ..request }), sink);
            }
        }
    };
}

methods! {
    start: later Start(v1::Start) -> ServerStreamingSink<v1::Items>;
    start_again: later StartAgain(v1::StartAgain) -> ServerStreamingSink<v1::Items>;
    stop: later Stop(v1::StopTargets) -> ServerStreamingSink<v1::Items>;
    restart: later Restart(v1::Targets) -> ServerStreamingSink<v1::Items>;
    remove: later Remove(v1::Remove) -> ServerStreamingSink<v1::Items>;
    signal: at_once Signal(v1::Signal) -> UnarySink<v1::Items>;
    wait: later Wait(v1::Wait) -> ServerStreamingSink<v1::Items>;
    status: at_once Status(v1::Targets) -> UnarySink<v1::Items>;
    list: at_once List(v1::List) -> UnarySink<v1::Processes>;
    output: at_once Output(v1::Output) -> UnarySink<v1::Chunks>;
    stream: as_it_comes Stream(v1::Stream) -> ServerStreamingSink<v1::StreamItem>;
    env: at_once Env(v1::EnvChange) -> UnarySink<v1::Environment>;
    events: as_it_comes Events(v1::Events) -> ServerStreamingSink<v1::EventBatch>;
    audit: at_once AuditLog(v1::AuditLog) -> UnarySink<v1::AuditLines>;
    service: at_once Service(v1::Service) -> UnarySink<v1::ServiceInfo>;
    health: at_once Health(v1::HealthRequest) -> UnarySink<v1::Health>;
    upgrade: later Upgrade(v1::Upgrade) -> ServerStreamingSink<v1::Upgraded>;
}
