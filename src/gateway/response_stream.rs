//! The answer of a call that has a thread of its own: messages as they come, then the end. The thread waits
//! until the client has room, and learns that it has gone.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_util::Sink;
use grpcio::{RpcStatus, ServerStreamingSink, WriteFlags};
use parking_lot::Mutex;

use crate::client::Canceller;
use crate::gateway::unread::Room;
use crate::rpc::block;
use crate::sys::clock;
use crate::wire::time::millis;

/// How long the end of a call may take to go out, ms.
const END_MS: u64 = 10_000;

/// The client has gone, its deadline has come, or it takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// See the module. Dropped without an end, the call is cancelled.
pub(super) struct ResponseStream<A> {
    sink: ServerStreamingSink<A>,
    /// How long the client may take nothing, ms.
    stall_ms: u64,
}

/// The sink for a while, and what it says.
type Stream<'a, A> = Pin<&'a mut ServerStreamingSink<A>>;
type Polled = Poll<grpcio::Result<()>>;

/// Ends what the call waits for.
struct Hangup(Canceller);

impl Wake for Hangup {
    fn wake(self: Arc<Self>) {
        self.0.cancel();
    }
}

/// The end of a call on its way. Completion threads bring it on, and wake the call's thread when it is out:
/// to wake that for each step would cost the client as much as all of the call's own work.
struct Closing<F> {
    end: Mutex<Option<Pin<Box<F>>>>,
    thread: Thread,
}

impl<F: Future<Output = grpcio::Result<()>> + Send + 'static> Closing<F> {
    /// Comes back when it is out, or cancels the call.
    fn run(end: F) {
        let deadline = Instant::now() + Duration::from_millis(END_MS);
        let closing = Arc::new(Self { end: Mutex::new(Some(Box::pin(end))), thread: thread::current() });
        Arc::clone(&closing).go_on();
        while closing.end.lock().is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(closing.end.lock().take());
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn go_on(self: Arc<Self>) {
        let mut end = self.end.lock();
        let waker = Waker::from(Arc::clone(&self));
        if let Some(open) = end.as_mut()
            && open.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *end = None;
            self.thread.unpark();
        }
    }
}

impl<F: Future<Output = grpcio::Result<()>> + Send + 'static> Wake for Closing<F> {
    fn wake(self: Arc<Self>) {
        self.go_on();
    }
}

impl<A: Send + 'static> ResponseStream<A> {
    pub fn new(sink: ServerStreamingSink<A>, stall: Duration) -> Self {
        Self { sink, stall_ms: millis(stall) }
    }

    /// To be called before the thread waits for the next message: flushes what was sent. From then on, until
    /// the next message, that wait ends when the client goes.
    pub fn watch(&mut self, canceller: &Canceller) -> Result<(), Gone> {
        self.flush()?;
        let waker = Waker::from(Arc::new(Hangup(canceller.clone())));
        // All that was sent is out, so there is nothing else that could wake.
        match Pin::new(&mut self.sink).poll_flush(&mut Context::from_waker(&waker)) {
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Begins to send a message as soon as the last one is on its way: the next one can be made meanwhile.
    pub fn send(&mut self, message: A) -> Result<(), Gone> {
        self.wait(|sink, context| sink.poll_ready(context))?;
        Pin::new(&mut self.sink).start_send((message, WriteFlags::default())).map_err(|_| Gone)
    }

    fn flush(&mut self) -> Result<(), Gone> {
        self.wait(|sink, context| sink.poll_flush(context))
    }

    fn wait(&mut self, mut poll: impl FnMut(Stream<'_, A>, &mut Context<'_>) -> Polled) -> Result<(), Gone> {
        let done = poll_fn(|context| poll(Pin::new(&mut self.sink), context));
        match block::wait(done, Some(clock::now_ms() + self.stall_ms)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Gone),
        }
    }

    /// Ends the call with its last message, without a wait: to see both out would take as long as to send
    /// them. `room`: for that message.
    pub fn finish_with(mut self, last: A, room: Room) {
        if self.send(last).is_ok() {
            room.keep(self.sink.fail(RpcStatus::ok()), Duration::from_millis(self.stall_ms));
        }
    }

    /// Ends the call. Whether the client receives the end is not checked.
    pub fn finish(mut self, result: Result<(), RpcStatus>) {
        match result {
            Ok(()) => Closing::run(poll_fn(move |context| Pin::new(&mut self.sink).poll_close(context))),
            // A message that is not out by now never will be.
            Err(status) => {
                if self.flush().is_ok() {
                    Closing::run(self.sink.fail(status));
                }
            }
        }
    }
}
