//! The threads for calls that the service behind answers at once. Completion threads must not wait for it,
//! and a thread for each such call would cost more than the call.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::client::{Address, Client};
use crate::sys::thread;
use crate::wire::envelope::Behalf;
use crate::wire::error::Error;
use crate::wire::request::Request;

/// How many. They wait for the engine, not for a processor.
pub(super) const THREADS: usize = 8;
/// Calls that wait for one of them. More are refused: a client that asks faster than the service answers is
/// to know.
const WAITING_MAX: usize = 512;

/// What a thread does for one call; without a service when there is no room for it.
pub(super) type Job = Box<dyn FnOnce(Option<&mut Engine>) + Send>;

pub(super) struct Pool(Arc<Shared>);

struct Shared {
    work: Mutex<Work>,
    /// Wakes the thread of this number.
    wake: [Condvar; THREADS],
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Job>,
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
        let shared = Arc::new(Shared { work: Mutex::default(), wake: Default::default() });
        for n in 0..THREADS {
            let (shared, engine) = (Arc::clone(&shared), Engine::new(address.clone()));
            thread::spawn(&format!("work-{n}"), move || shared.work(n, engine))?;
        }
        Ok(Self(shared))
    }

    /// Has a thread do it, or does it at once without a service.
    pub fn submit(&self, job: Job) {
        let mut work = self.0.work.lock();
        if work.waiting.len() >= WAITING_MAX {
            drop(work);
            return job(None);
        }
        work.waiting.push_back(job);
        let next = work.idle.pop();
        drop(work);
        if let Some(n) = next {
            self.0.wake[n].notify_one();
        }
    }
}

impl Shared {
    fn work(&self, n: usize, mut engine: Engine) {
        loop {
            let job = self.next(n);
            job(Some(&mut engine));
        }
    }

    fn next(&self, n: usize) -> Job {
        let mut work = self.work.lock();
        loop {
            if let Some(job) = work.waiting.pop_front() {
                // Woken for nothing, or not yet, it may be among the idle still.
                work.idle.retain(|&idle| idle != n);
                return job;
            }
            if !work.idle.contains(&n) {
                work.idle.push(n);
            }
            self.wake[n].wait(&mut work);
        }
    }
}
