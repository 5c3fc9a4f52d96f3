//! `grpc.health.v1.Health`: whether the gateway serves. It answers by itself and needs no password: a
//! probe has a certificate, and learns nothing but this.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::{Sink, SinkExt};
use grpcio::{RpcContext, RpcStatus, RpcStatusCode, ServerStreamingSink, UnarySink, WriteFlags};

use crate::gateway::caller::Entry;
use crate::gateway::calls::{Calls, fail};
use crate::gateway::threads::busy;
use crate::rpc::codec::Encoded;
use crate::rpc::pending;
use crate::rpc::services::health::health_check_response::ServingStatus;
use crate::rpc::services::health::{Health, HealthCheckRequest, HealthCheckResponse};
use crate::wire::error::{Code, Error};

/// The most bytes of a question: the name of a service.
const REQUEST_LEN_MAX: usize = 1 << 10;

/// The service that is asked about. Mostly read on the completion thread, so it has to be short.
fn service(request: Encoded<HealthCheckRequest>) -> Result<String, RpcStatus> {
    let short = (request.len() <= REQUEST_LEN_MAX).then_some(request);
    short.and_then(|request| request.decode().ok()).map(|request| request.service).ok_or_else(|| {
        Error::usage(format!("a health check is a name of at most {REQUEST_LEN_MAX} bytes")).into()
    })
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn ending() -> RpcStatus {
    let e =
        Error::new(Code::Unreachable, "the gateway ends").hint("another one comes when the service goes on");
    e.into()
}

impl Health for Calls {
    fn check(
        &mut self,
        ctx: RpcContext<'_>,
        request: Encoded<HealthCheckRequest>,
        sink: UnarySink<HealthCheckResponse>,
    ) {
        let gateway = Arc::clone(&self.gateway);
        // Read when the credentials have been looked at.
        let status = move || match service(request).map(|service| gateway.serving.of(&service)) {
            Ok(ServingStatus::ServiceUnknown) => {
                Err(RpcStatus::with_message(RpcStatusCode::NOT_FOUND, "no such service".to_owned()))
            }
            status => status.map(message),
        };
        match self.caller.enter_freely(&self.gateway, ctx.request_headers()) {
            Ok(None | Some(Entry::Known(_))) => pending::answer(sink, status()),
            Err(refusal) => pending::answer(sink, Err(refusal)),
            // A password that is given is to be right.
            Ok(Some(Entry::Login(login))) => match self.place(&self.gateway.lasting, None) {
                Ok(place) => {
                    let ours = self.clone();
                    self.gateway.threads.answer(sink, move || {
                        let _place = place;
                        ours.caller.verify(&ours.gateway, &login)?;
                        status()
                    });
                }
                Err(busy) => pending::answer(sink, Err(busy)),
            },
        }
    }

    fn watch(
        &mut self,
        ctx: RpcContext<'_>,
        request: Encoded<HealthCheckRequest>,
        mut sink: ServerStreamingSink<HealthCheckResponse>,
    ) {
        let allowed = self.allowed(&ctx);
        let Some(place) = self.watches.take() else { return fail(&ctx, sink, busy()) };
        let gateway = Arc::clone(&self.gateway);
        // No thread waits: the completion thread is woken by a change, or by the client's going.
        ctx.spawn(async move {
            let (_place, watching) = (place, gateway.serving.watch());
            // Read when the credentials have been looked at.
            let service = match allowed.await.and_then(|()| service(request)) {
                Ok(service) => service,
                Err(refusal) => return drop(sink.fail(refusal).await),
            };
            let mut sent = None;
            while let Some((status, is_ending)) = poll_fn(|context| {
                watching.wakes(context.waker());
                let is_ending = gateway.serving.is_ending();
                let status = gateway.serving.of(&service);
                if is_ending || sent != Some(status) {
                    return Poll::Ready(Some((status, is_ending)));
                }
                match Pin::new(&mut sink).poll_flush(context) {
                    Poll::Ready(Err(_)) => Poll::Ready(None),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            })
            .await
            {
                if sent.replace(status) != Some(status)
                    && sink.send((message(status), WriteFlags::default())).await.is_err()
                {
                    return;
                }
                // Nothing more will change, and no connection is kept open to see that.
                if is_ending {
                    let _ = sink.fail(ending()).await;
                    return;
                }
            }
        });
    }
}
