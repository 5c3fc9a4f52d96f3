//! Threads for calls that take long, one for each, and a limit on them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grpcio::{RpcStatus, UnarySink};
use parking_lot::Mutex;

use crate::rpc::pending;
use crate::rpc::status::{self, Reason};
use crate::sys::thread;
use crate::wire::error::{Code, Error};

#[derive(Clone)]
pub(super) struct Threads {
    max: usize,
    busy: Arc<AtomicUsize>,
}

impl Threads {
    pub fn new(max: usize) -> Self {
        Self { max, busy: Arc::default() }
    }

    /// How many there are now.
    #[cfg(test)]
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Does `work` with `what` on a thread of its own; gives `what` back if there is none for it.
    pub fn run<T: Send + 'static>(&self, what: T, work: impl FnOnce(T) + Send + 'static) -> Result<(), T> {
        let busy = BusyThread::new(&self.busy);
        if busy.number > self.max {
            return Err(what);
        }
        let ours = Arc::new(Mutex::new(Some(what)));
        let theirs = Arc::clone(&ours);
        let started = thread::spawn("call", move || {
            let _busy = busy;
            let what = theirs.lock().take();
            if let Some(what) = what {
                work(what);
            }
        });
        if started.is_ok() {
            return Ok(());
        }
        let back = ours.lock().take();
        back.map_or(Ok(()), Err)
    }

    /// Answers with what `work` comes to on a thread of its own.
    pub fn answer<A: Send + 'static>(
        &self,
        sink: UnarySink<A>,
        work: impl FnOnce() -> Result<A, RpcStatus> + Send + 'static,
    ) {
        if let Err(sink) = self.run(sink, move |sink| pending::answer(sink, caught(work))) {
            pending::answer(sink, Err(busy()));
        }
    }
}

/// A panic is the failure of its own call and of no other.
pub(super) fn caught<T, E: From<RpcStatus>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let e = Error::new(Code::Failed, "the gateway failed in the middle of the call")
            .hint("this is a defect of provost: please report what its log says");
        Err(status::refusal(Reason::Internal, &e).into())
    })
}

pub(super) fn busy() -> RpcStatus {
    let e = Error::new(Code::Refused, "too many calls at once").hint("come again in a moment");
    status::refusal(Reason::Busy, &e)
}

/// One of the threads, however it ends.
struct BusyThread {
    busy: Arc<AtomicUsize>,
    /// Counted from 1.
    number: usize,
}

impl BusyThread {
    fn new(busy: &Arc<AtomicUsize>) -> Self {
        Self { busy: Arc::clone(busy), number: busy.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for BusyThread {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
