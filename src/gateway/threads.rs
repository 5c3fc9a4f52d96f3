//! Threads for calls that take long, one for each, and a limit on them. One whose call has ended is there for
//! the next one for a while: to make one takes longer than many a call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use grpcio::{RpcStatus, UnarySink};
use parking_lot::Mutex;

use crate::rpc::pending;
use crate::rpc::status::{self, Reason};
use crate::sys::thread;
use crate::wire::error::{Code, Error};

/// How many threads rest at most, and for how long: calls that come one after the other find one.
const RESTING_MAX: usize = 8;
const REST: Duration = Duration::from_secs(1);

/// What a thread does next.
type Work = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub(super) struct Threads {
    max: usize,
    busy: Arc<AtomicUsize>,
    /// Ways to those that rest. Who began to last is next.
    resting: Arc<Mutex<Vec<Sender<Work>>>>,
}

impl Threads {
    pub fn new(max: usize) -> Self {
        Self { max, busy: Arc::default(), resting: Arc::default() }
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
        let work: Work = Box::new(move || {
            let _busy = busy;
            let what = theirs.lock().take();
            if let Some(what) = what {
                work(what);
            }
        });
        let Err(work) = self.give_to_resting(work) else { return Ok(()) };
        let all = self.clone();
        if thread::spawn("call", move || all.work(work)).is_ok() {
            return Ok(());
        }
        let back = ours.lock().take();
        back.map_or(Ok(()), Err)
    }

    /// The work comes back if no thread rests.
    fn give_to_resting(&self, work: Work) -> Result<(), Work> {
        let Some(way) = self.resting.lock().pop() else { return Err(work) };
        // Whoever is taken from the list waits for work, and there is room for one.
        way.send(work).map_err(|failed| failed.into_inner())
    }

    /// The life of a thread.
    fn work(&self, first: Work) {
        let (to, given) = bounded(1);
        let mut next = Some(first);
        while let Some(work) = next {
            work();
            if !self.rest(&to) {
                return;
            }
            next = match given.recv_timeout(REST) {
                Ok(work) => Some(work),
                Err(_) if self.leave(&to) => None,
                // It was taken from the list: work is on its way.
                Err(_) => given.recv().ok(),
            };
        }
    }

    /// Puts one among those that rest, if there are few.
    fn rest(&self, way: &Sender<Work>) -> bool {
        let mut resting = self.resting.lock();
        let is_room = resting.len() < RESTING_MAX;
        if is_room {
            resting.push(way.clone());
        }
        is_room
    }

    /// Takes it away again. False: somebody has taken it.
    fn leave(&self, way: &Sender<Work>) -> bool {
        let mut resting = self.resting.lock();
        let at = resting.iter().position(|resting| resting.same_channel(way));
        at.map(|at| resting.remove(at)).is_some()
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

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    /// Which thread does it.
    fn work_on(threads: &Threads) -> ThreadId {
        let (to, from) = bounded(1);
        assert!(threads.run(to, |to| _ = to.send(std::thread::current().id())).is_ok());
        from.recv().unwrap()
    }

    #[test]
    fn a_thread_whose_call_has_ended_is_there_for_the_next_one() {
        let threads = Threads::new(100);
        // It comes to rest a moment after it has answered.
        let is_same = (0..10_000).any(|_| work_on(&threads) == work_on(&threads));
        assert!(is_same, "each call has a thread of its own");
        // Unused for a while, it is gone.
        while !threads.resting.lock().is_empty() {
            std::thread::yield_now();
        }
        work_on(&threads);
    }

    #[test]
    fn no_call_is_lost_between_threads_that_come_and_go() {
        const CALLS: usize = 2000;
        let (threads, (to, from)) = (Threads::new(3), bounded(4 * CALLS));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let give = |to: Sender<()>| threads.run(to, |to| _ = to.send(()));
                    for _ in 0..CALLS {
                        // There are more callers than threads.
                        while give(to.clone()).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        (0..4 * CALLS).for_each(|_| from.recv().unwrap());
        assert!(threads.resting.lock().len() <= RESTING_MAX);
    }
}
