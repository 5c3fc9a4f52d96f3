//! The threads for calls that the service behind answers at once. Completion threads must not wait for it, and a thread
//! for each such call would cost more than the call.

use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::client::Client;
use crate::sys::thread;
use crate::wire::error::Error;

/// How many. They wait for the engine, not for a processor.
const THREADS: usize = 8;
/// Calls that wait for one of them. More are refused: a client that asks faster than the service answers is to know.
const WAITING_MAX: usize = 512;

/// What a thread does for one call; without a service when there is no room for it.
pub(super) type Job = Box<dyn FnOnce(Option<&mut Engine>) + Send>;

/// See the module.
pub(super) struct Pool(Sender<Job>);

/// The service behind, connected to when it is first needed.
pub(super) struct Engine {
    socket: PathBuf,
    client: Option<Client>,
}

impl Engine {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, client: None }
    }

    pub fn client(&mut self) -> Result<&mut Client, Error> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(Client::connect(&self.socket)?)),
        }
    }
}

impl Pool {
    pub fn new(socket: &Path) -> io::Result<Self> {
        let (jobs, waiting) = bounded(WAITING_MAX);
        for n in 0..THREADS {
            let (waiting, engine) = (waiting.clone(), Engine::new(socket.to_owned()));
            thread::spawn(&format!("work-{n}"), move || work(&waiting, engine))?;
        }
        Ok(Self(jobs))
    }

    /// Has a thread do it, or does it at once without a service.
    pub fn submit(&self, job: Job) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.0.try_send(job) {
            job(None);
        }
    }
}

fn work(waiting: &Receiver<Job>, mut engine: Engine) {
    while let Ok(job) = waiting.recv() {
        job(Some(&mut engine));
    }
}
