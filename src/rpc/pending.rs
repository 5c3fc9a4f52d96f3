//! What is left of a call when it is answered: the response has to be kept until it is out. The completion
//! thread, which learns of it, lets it go; no thread waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use grpcio::{RpcStatus, UnarySink};
use parking_lot::Mutex;

/// Answers a call.
pub(crate) fn answer<A>(sink: UnarySink<A>, result: Result<A, RpcStatus>) {
    let response = match result {
        Ok(answer) => sink.success(answer),
        Err(status) => sink.fail(status),
    };
    keep(response, ());
}

/// Keeps the response of a call until it is out, and what is held for so long.
pub(crate) fn keep<R, H>(response: R, held: H)
where
    R: Future<Output = grpcio::Result<()>> + Send + Unpin + 'static,
    H: Send + 'static,
{
    Arc::new(PendingResponse(Mutex::new(Some((response, held))))).look();
}

struct PendingResponse<R, H>(Mutex<Option<(R, H)>>);

impl<R, H> PendingResponse<R, H>
where
    R: Future<Output = grpcio::Result<()>> + Send + Unpin + 'static,
    H: Send + 'static,
{
    fn look(self: Arc<Self>) {
        let mut pending = self.0.lock();
        let waker = Waker::from(Arc::clone(&self));
        if let Some((response, _)) = pending.as_mut()
            && Pin::new(response).poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *pending = None;
        }
    }
}

impl<R, H> Wake for PendingResponse<R, H>
where
    R: Future<Output = grpcio::Result<()>> + Send + Unpin + 'static,
    H: Send + 'static,
{
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
