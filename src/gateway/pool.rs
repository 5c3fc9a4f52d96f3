//! The threads for calls that the service behind answers at once. Completion threads must not wait for it,
//! and a thread for each such call would cost more than the call.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::available_parallelism;

use parking_lot::{Condvar, Mutex};

use crate::client::{Address, Client};
use crate::gateway::shares::{Holder, LASTING};
use crate::gateway::turns::Turns;
use crate::sys::thread;
use crate::wire::envelope::Behalf;
use crate::wire::error::Error;
use crate::wire::request::{CONNECTIONS_MAX, Request};

/// How many. They wait for the engine, not for a processor.
const THREADS: usize = 8;
/// So many of them work for callers who have calls at work already: as many as there are processors and one,
/// within these limits. The others are for those of whom no call is at work. More for one who asks for much
/// at once would leave others no processor.
const FOR_THE_BUSY: RangeInclusive<usize> = 3..=6;
/// So many of the engine's connections are never the gateway's.
const KEPT_FREE: usize = 128;
const _: () = assert!(LASTING.network + LASTING.local + THREADS + KEPT_FREE <= CONNECTIONS_MAX);

/// The first part of a call, which does not wait: on the thread that has it from the C core, if a thread of
/// the pool has nothing to do. So the service has the request while that one wakes up.
pub(super) type Begin = Box<dyn FnOnce(&mut Engine) -> Finish + Send>;

/// The rest of it, with the same engine.
pub(super) type Finish = Box<dyn FnOnce(&mut Engine) + Send>;

/// Whose a call is: a certificate with a user, either of which many may share, or a user of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asker(pub Holder, pub Arc<str>);

/// The shares of calls (`shares.rs`) limit how many wait.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    work: Mutex<Work>,
    threads: [Thread; THREADS],
}

struct Work {
    turns: Turns<Asker, Begin>,
    /// Threads with nothing to do. Who has rested least is next: what it needs is still at hand.
    idle: Vec<usize>,
}

struct Thread {
    /// Its own, but while it has nothing to do.
    engine: Mutex<Engine>,
    /// What it is to go on with.
    given: Mutex<Option<(Asker, Finish)>>,
    wake: Condvar,
}

/// The service behind, and the host of providers beside it, connected to when they are first needed.
pub(super) struct Engine {
    address: Address,
    client: Option<Client>,
    host: Option<Client>,
}

impl Engine {
    pub fn new(address: Address) -> Self {
        Self { address, client: None, host: None }
    }

    pub fn client(&mut self) -> Result<&mut Client, Error> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(Client::connect_to(&self.address)?)),
        }
    }

    /// The call is over, and the next one is another's. False: its connections are of no use any more.
    pub fn rest(&mut self) -> bool {
        self.client.iter_mut().chain(&mut self.host).all(Client::rest)
    }

    /// Sends a request that the next call makes, if a connection is at hand.
    pub fn ask_ahead(&mut self, request: &Request, behalf: Behalf) {
        let client = if is_for_host(request) { &mut self.host } else { &mut self.client };
        if let Some(client) = client {
            client.on_behalf_of(Some(behalf));
            client.ask_ahead(request);
        }
    }

    /// The one that answers this request.
    pub fn client_for(&mut self, request: &Request) -> Result<&mut Client, Error> {
        if !is_for_host(request) {
            return self.client();
        }
        match &mut self.host {
            Some(host) => Ok(host),
            none => Ok(none.insert(Client::connect_to(&self.address.of_host())?)),
        }
    }
}

fn is_for_host(request: &Request) -> bool {
    matches!(request, Request::Provider(_) | Request::Registry(_) | Request::Module(_))
}

impl Pool {
    pub fn new(address: &Address) -> io::Result<Self> {
        let processors = available_parallelism().map_or(1, NonZero::get);
        let for_the_busy = (processors + 1).clamp(*FOR_THE_BUSY.start(), *FOR_THE_BUSY.end());
        let turns = Turns::new(THREADS, THREADS - for_the_busy);
        let work = Work { turns, idle: Vec::new() };
        let engine = || Mutex::new(Engine::new(address.clone()));
        let thread = |_| Thread { engine: engine(), given: Mutex::default(), wake: Condvar::new() };
        let shared = Arc::new(Shared { work: Mutex::new(work), threads: std::array::from_fn(thread) });
        for n in 0..THREADS {
            let shared = Arc::clone(&shared);
            thread::spawn(&format!("work-{n}"), move || shared.work(n))?;
        }
        Ok(Self(shared))
    }

    /// Begins it if it is this caller's turn, and has a thread do the rest; or else, when it is.
    pub fn submit(&self, asker: Asker, call: Begin) {
        let mut work = self.0.work.lock();
        work.turns.add(asker, call);
        // Nothing is taken from the turns that no thread has.
        let Some(&n) = work.idle.last() else { return };
        let Some((asker, begin)) = work.turns.take() else { return };
        work.idle.pop();
        drop(work);
        let thread = &self.0.threads[n];
        let finish = begin(&mut thread.engine.lock());
        *thread.given.lock() = Some((asker, finish));
        thread.wake.notify_one();
    }
}

impl Shared {
    /// The life of the thread of this number.
    fn work(&self, n: usize) {
        let mut last = None;
        loop {
            let (asker, finish) = match self.next(n, last.take()) {
                Some((asker, begin)) => (asker, begin(&mut self.threads[n].engine.lock())),
                None => self.threads[n].wait(),
            };
            let mut engine = self.threads[n].engine.lock();
            finish(&mut engine);
            // What was sent for a call that came to nothing is not answered to the next one.
            engine.rest();
            last = Some(asker);
        }
    }

    /// What is next for this thread, or none: it is to wait for what it is given. `last`: whose call it has
    /// just done.
    fn next(&self, n: usize, last: Option<Asker>) -> Option<(Asker, Begin)> {
        let mut work = self.work.lock();
        if let Some(asker) = last {
            work.turns.done(&asker);
        }
        let next = work.turns.take();
        if next.is_none() {
            work.idle.push(n);
        }
        next
    }
}

impl Thread {
    fn wait(&self) -> (Asker, Finish) {
        let mut given = self.given.lock();
        loop {
            if let Some(given) = given.take() {
                return given;
            }
            self.wake.wait(&mut given);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};

    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::*;
    use crate::sys::soon::until;

    fn pool() -> Pool {
        // Nobody is asked.
        let pool = Pool::new(&Address::socket("/nonexistent".into())).unwrap();
        until("all are idle", || pool.0.work.lock().idle.len() == THREADS);
        pool
    }

    fn asker(n: usize) -> Asker {
        Asker(Holder::User(n.to_string().into()), n.to_string().into())
    }

    /// Tells on which threads it is begun and ended; it ends when it may.
    fn call(begun: Sender<ThreadId>, may_end: Receiver<()>, ended: Sender<ThreadId>) -> Begin {
        Box::new(move |_| {
            begun.send(current().id()).unwrap();
            Box::new(move |_| {
                let _ = may_end.recv();
                ended.send(current().id()).unwrap();
            })
        })
    }

    #[test]
    fn a_call_is_begun_by_who_submits_it_and_ended_by_a_thread_of_the_pool() {
        let pool = pool();
        let ((begun, begins), (end, may_end), (ended, ends)) = (bounded(1), bounded(1), bounded(1));
        pool.submit(asker(0), call(begun, may_end, ended));
        assert_eq!(begins.try_recv(), Ok(current().id()));
        end.send(()).unwrap();
        assert_ne!(ends.recv().unwrap(), current().id());
    }

    #[test]
    fn calls_of_new_callers_wait_when_all_threads_are_at_work() {
        const CALLERS: usize = 3 * THREADS;
        let pool = pool();
        let ((begun, begins), (end, may_end), (ended, ends)) =
            (bounded(CALLERS), bounded(0), bounded(CALLERS));
        for n in 0..CALLERS {
            pool.submit(asker(n), call(begun.clone(), may_end.clone(), ended.clone()));
        }
        assert_eq!(begins.len(), THREADS);
        drop(end);
        for _ in 0..CALLERS {
            assert_ne!(ends.recv().unwrap(), current().id());
        }
        assert_eq!(begins.len(), CALLERS);
        until("all are idle", || pool.0.work.lock().idle.len() == THREADS);
    }
}
