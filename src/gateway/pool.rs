//! The threads for calls that the service behind answers at once. Completion threads must not wait for it,
//! and a thread for each such call would cost more than the call.

use std::io;
use std::sync::Arc;

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
/// Of these, so many are kept for callers of whom no call is at work: one who asks for much at once leaves
/// them to others. Two, since the first to need one may ask for much as well.
const FOR_OTHERS: usize = 2;
/// So many of the engine's connections are never the gateway's.
const KEPT_FREE: usize = 128;
const _: () = assert!(LASTING.network + LASTING.local + THREADS + KEPT_FREE <= CONNECTIONS_MAX);

/// What a thread does for one call.
pub(super) type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// Whose a call is: a certificate with a user, either of which many may share, or a user of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asker(pub Holder, pub Arc<str>);

/// The shares of calls (`shares.rs`) limit how many wait.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    work: Mutex<Work>,
    /// Wakes the thread of this number.
    wake: [Condvar; THREADS],
}

struct Work {
    turns: Turns<Asker, Job>,
    /// Threads with nothing to do. Who has rested least is next: what it needs is still at hand.
    idle: Vec<usize>,
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

    /// Sends the host a request that the next call of it makes, if a connection is at hand.
    pub fn ask_host_ahead(&mut self, request: &Request, behalf: Behalf) -> bool {
        self.host.as_mut().is_some_and(|host| {
            host.on_behalf_of(Some(behalf));
            host.ask_ahead(request)
        })
    }

    /// The one that answers this request.
    pub fn client_for(&mut self, request: &Request) -> Result<&mut Client, Error> {
        if !matches!(request, Request::Provider(_) | Request::Registry(_) | Request::Module(_)) {
            return self.client();
        }
        match &mut self.host {
            Some(host) => Ok(host),
            none => Ok(none.insert(Client::connect_to(&self.address.of_host())?)),
        }
    }
}

impl Pool {
    pub fn new(address: &Address) -> io::Result<Self> {
        let work = Work { turns: Turns::new(THREADS, FOR_OTHERS), idle: Vec::new() };
        let shared = Arc::new(Shared { work: Mutex::new(work), wake: Default::default() });
        for n in 0..THREADS {
            let (shared, engine) = (Arc::clone(&shared), Engine::new(address.clone()));
            thread::spawn(&format!("work-{n}"), move || shared.work(n, engine))?;
        }
        Ok(Self(shared))
    }

    /// Has a thread do it when it is this caller's turn.
    pub fn submit(&self, asker: Asker, job: Job) {
        let mut work = self.0.work.lock();
        work.turns.add(asker, job);
        let next = if work.turns.is_any_due() { work.idle.pop() } else { None };
        drop(work);
        if let Some(n) = next {
            self.0.wake[n].notify_one();
        }
    }
}

impl Shared {
    fn work(&self, n: usize, mut engine: Engine) {
        let mut last = None;
        loop {
            let (asker, job) = self.next(n, last.take());
            job(&mut engine);
            last = Some(asker);
        }
    }

    /// `last`: whose call has just been done.
    fn next(&self, n: usize, last: Option<Asker>) -> (Asker, Job) {
        let mut work = self.work.lock();
        if let Some(asker) = last {
            work.turns.done(&asker);
        }
        loop {
            if let Some(next) = work.turns.take() {
                // Woken for nothing, or not yet, it may be among the idle still.
                work.idle.retain(|&idle| idle != n);
                return next;
            }
            if !work.idle.contains(&n) {
                work.idle.push(n);
            }
            self.wake[n].wait(&mut work);
        }
    }
}
