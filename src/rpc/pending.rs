//! What is left of a call when it is answered: the response has to be kept until it is out. The completion
//! thread, which learns of it, lets it go; no thread waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use grpcio::{RpcStatus, UnarySink, UnarySinkResult};
use parking_lot::Mutex;

/// Answers a call.
pub(crate) fn answer<A>(sink: UnarySink<A>, result: Result<A, RpcStatus>) {
    keep(match result {
        Ok(answer) => sink.success(answer),
        Err(status) => sink.fail(status),
    });
}

/// Keeps the response of a call until it is out.
pub(crate) fn keep(response: UnarySinkResult) {
    Arc::new(PendingResponse(Mutex::new(Some(response)))).look();
}

struct PendingResponse(Mutex<Option<UnarySinkResult>>);

impl PendingResponse {
    fn look(self: Arc<Self>) {
        let mut response = self.0.lock();
        let waker = Waker::from(Arc::clone(&self));
        if let Some(sent) = response.as_mut()
            && Pin::new(sent).poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *response = None;
        }
    }
}

impl Wake for PendingResponse {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
