//! Learns of the ends of providers when they happen: a thread reads the events of the service from the moment
//! on when the first provider runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use crossbeam_channel::{Sender, bounded};

use crate::client::{Client, FeedItem};
use crate::sys::{clock, poll, thread};
use crate::wire::error::Error;
use crate::wire::event::EventKind;
use crate::wire::provider::ProviderName;
use crate::wire::request::Events;

/// How long a service that does not answer is left alone, ms.
const RETRY_MS: u64 = 1000;

/// What is done about a provider whose process has ended.
pub type OnEnd = Arc<dyn Fn(&ProviderName) + Send + Sync>;

/// A handle, which has it begin.
#[derive(Debug)]
pub struct Exits {
    socket: PathBuf,
    once: Once,
    begin: Sender<u64>,
}

impl Exits {
    /// `socket` is the service's.
    pub fn new(socket: PathBuf, on_end: OnEnd) -> Result<Self, Error> {
        let (begin, from) = bounded(1);
        let ours = socket.clone();
        thread::spawn("exits", move || {
            if let Ok(since) = from.recv() {
                run(&ours, since, &on_end);
            }
        })
        .map_err(|e| Error::failed("start a thread", &e))?;
        Ok(Self { socket, once: Once::new(), begin })
    }

    /// From now on no end is missed.
    pub fn begin(&self) {
        self.once.call_once(|| {
            let last = Client::connect(&self.socket).and_then(|mut client| client.service());
            let _ = self.begin.send(last.map_or(0, |service| service.last_event));
        });
    }
}

fn run(socket: &Path, mut since: u64, on_end: &OnEnd) -> ! {
    loop {
        // Without the service there are no events. The next call finds what has ended meanwhile.
        let _ = follow(socket, &mut since, on_end);
        let _ = poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS));
    }
}

fn follow(socket: &Path, since: &mut u64, on_end: &OnEnd) -> Result<(), Error> {
    let mut client = Client::connect(socket)?;
    for item in client.events(Events { since: *since, follow: true, target: None })? {
        let FeedItem::Event(event) = item? else { continue };
        *since = event.seq;
        if matches!(event.kind, EventKind::Exited | EventKind::Lost | EventKind::Removed)
            && let Some(name) = ProviderName::of_process(&event.name)
        {
            on_end(&name);
        }
    }
    Ok(())
}
