//! What happens to providers, told to the engine, which numbers it among the events of the service. A thread
//! of its own sends; whoever tells something only puts it into a queue with a limit. What does not fit is
//! dropped and counted, and the count is told with the next event.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::client::Client;
use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::event::{Event, EventKind};
use crate::wire::provider::ProviderName;
use crate::wire::request::ANNOUNCED_MAX;
use crate::wire::time::Timestamp;

/// Events that wait for the engine; a few minutes of a storm.
const WAITING_MAX: usize = 4096;

/// A handle; any thread may tell something.
#[derive(Clone, Debug)]
pub struct Events {
    queue: Sender<Event>,
    /// What is sent there is dropped once all events of before have gone to the engine.
    flush: Sender<Sender<()>>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Begins to send to the engine at this socket.
    pub fn begin(socket: PathBuf) -> Result<Self, Error> {
        let ((queue, waiting), (flush, flushes)) = (bounded(WAITING_MAX), bounded(1));
        thread::spawn("events", move || send_all(&socket, &waiting, &flushes))
            .map_err(|e| Error::failed("start a thread", &e))?;
        Ok(Self { queue, flush, dropped: Arc::default() })
    }

    /// Waits until the engine has all of them, so long at most.
    pub fn flush(&self, timeout: Duration) {
        let (to, done) = bounded(0);
        if self.flush.send_timeout(to, timeout).is_ok() {
            let _ = done.recv_timeout(timeout);
        }
    }

    /// Never waits.
    pub fn tell(&self, kind: EventKind, name: &ProviderName, cause: &str, detail: &str) {
        self.put(kind, name.process().as_str().to_owned(), cause, detail);
    }

    /// The same of modules, which have no processes.
    pub fn tell_of_modules(&self, kind: EventKind, cause: &str, detail: &str) {
        self.put(kind, String::new(), cause, detail);
    }

    fn put(&self, kind: EventKind, name: String, cause: &str, detail: &str) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let gap =
            if dropped > 0 { format!("({dropped} events before this were dropped) ") } else { String::new() };
        let event = Event {
            at: Timestamp::now(),
            mono_ms: clock::now_ms(),
            name,
            kind,
            cause: cause.to_owned(),
            detail: format!("{gap}{detail}"),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }
}

fn send_all(socket: &Path, waiting: &Receiver<Event>, flushes: &Receiver<Sender<()>>) {
    let mut client: Option<Client> = None;
    let mut flush: Option<Sender<()>> = None;
    loop {
        let first = match waiting.try_recv() {
            Ok(event) => event,
            Err(_) => {
                drop(flush.take());
                select! {
                    recv(waiting) -> event => match event {
                        Ok(event) => event,
                        Err(_) => return,
                    },
                    recv(flushes) -> to => {
                        flush = to.ok();
                        continue;
                    }
                }
            }
        };
        let mut events = vec![first];
        events.extend(waiting.try_iter().take(ANNOUNCED_MAX - 1));
        if client.is_none() {
            client = Client::connect(socket).ok();
        }
        // The client asks again by itself while the engine is started anew. Without a service there is no
        // history to put it into.
        if client.as_mut().is_none_or(|client| client.announce(events).is_err()) {
            client = None;
        }
    }
}
