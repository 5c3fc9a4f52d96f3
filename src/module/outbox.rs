//! What goes out on one control stream: any thread puts messages in, the stream's own future takes them out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use grpcio::RpcStatus;
use parking_lot::Mutex;

use crate::rpc::services::constellation::ControlMessage;

/// The most messages that wait for a provider that does not read.
const WAITING_MAX: usize = 64;

/// What the stream's future does next.
pub enum Next {
    Send(ControlMessage),
    /// The stream ends: well, or with this.
    End(Option<RpcStatus>),
}

#[derive(Default)]
pub struct Outbox(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    queue: VecDeque<ControlMessage>,
    end: Option<Option<RpcStatus>>,
    waker: Option<Waker>,
}

impl Outbox {
    /// False: too many wait already, and this one is dropped.
    pub fn put(&self, message: ControlMessage) -> bool {
        let mut inner = self.0.lock();
        let has_room = inner.queue.len() < WAITING_MAX;
        if has_room {
            inner.queue.push_back(message);
        }
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
        has_room
    }

    /// The stream ends after what waits; the first word holds.
    pub fn end(&self, status: Option<RpcStatus>) {
        let mut inner = self.0.lock();
        inner.end.get_or_insert(status);
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    pub async fn next(&self) -> Next {
        poll_fn(|context| {
            let mut inner = self.0.lock();
            if let Some(message) = inner.queue.pop_front() {
                return Poll::Ready(Next::Send(message));
            }
            if let Some(end) = inner.end.take() {
                return Poll::Ready(Next::End(end));
            }
            inner.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
