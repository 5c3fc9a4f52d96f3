//! What the TLS listener shows and whom it lets in, by files that are read again when they change: a renewed
//! certificate, another authority, a new revocation list. Connections of those that would not be let in any
//! more are ended; the others notice nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;

use crate::sys::watch::Watch;
use crate::tls::closer::Closer;
use crate::tls::identity::Peer;
use crate::tls::material::{self, Contents, Files};
use crate::tls::verify::Clients;
use crate::wire::error::Error;

/// Files that are changed one by one are read when nothing has changed for so long, ms.
const QUIET_MS: u64 = 200;

/// The listener's own.
pub struct Credentials {
    files: Files,
    watch: Watch,
    server: Arc<ServerConfig>,
    live: Live,
    /// When the files are read again, monotonic ms.
    due_ms: Option<u64>,
}

impl Credentials {
    pub fn read(files: Files) -> Result<Self, Error> {
        // Watched first: what changes while they are read is not missed.
        let watch = watch(&files).map_err(|e| Error::failed("watch the files of certificates", &e))?;
        let server = material::server(&files)?;
        Ok(Self { files, watch, server, live: Live::default(), due_ms: None })
    }

    /// For the next handshake.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Where connections are entered once they have shown who they are.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// When [`Self::look`] has something to do even if nothing is ready.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Takes on what the files say by now, if they have changed. What that came to, for the log. What is bad
    /// leaves everything as it was.
    pub fn look(&mut self, now_ms: u64) -> Option<String> {
        if self.watch.drain() {
            self.due_ms = Some(now_ms + QUIET_MS);
        }
        self.due_ms.take_if(|at| now_ms >= *at)?;
        let read = || {
            let contents = Contents::read(self.files.clone(), &self.files.open()?)?;
            Ok::<_, Error>((material::server_of(&contents)?, material::clients_of(&contents)?))
        };
        Some(match read() {
            Ok((server, clients)) => {
                self.server = server;
                // Those that shook hands by the files of before are among the living, or are judged when they
                // are to be.
                match self.live.judge_by(clients) {
                    0 => "modules: certificates are read again".to_owned(),
                    count => format!(
                        "modules: certificates are read again; {count} connections ended of providers that would \
                         not be let in now"
                    ),
                }
            }
            Err(e) => format!("modules: certificates are as before: {}", e.message),
        })
    }
}

impl AsFd for Credentials {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// Watches the directories of these files.
fn watch(files: &Files) -> io::Result<Watch> {
    let watch = Watch::new()?;
    let all = [&files.certificate, &files.key, &files.ca].into_iter().chain(&files.crl);
    let directories: BTreeSet<&Path> = all.filter_map(|path| path.parent()).collect();
    directories.into_iter().try_for_each(|directory| watch.add(directory))?;
    Ok(watch)
}

/// The connections there are.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    next: u64,
    by_number: BTreeMap<u64, (Peer, Closer)>,
    /// Who is let in, since the files were read again.
    clients: Option<Arc<Clients>>,
}

/// One of them, for as long as this is kept.
pub struct Entered(Live, u64);

impl Live {
    /// None: it would not be let in by now.
    pub fn enter(&self, peer: &Peer, closer: Closer) -> Option<Entered> {
        let mut inner = self.0.lock();
        if inner.clients.as_ref().is_some_and(|clients| !clients.accept(peer)) {
            return None;
        }
        let number = inner.next;
        inner.next += 1;
        inner.by_number.insert(number, (peer.clone(), closer));
        Some(Entered(self.clone(), number))
    }

    /// Ends the connections of those that are not let in any more; how many.
    fn judge_by(&self, clients: Clients) -> usize {
        let clients = Arc::new(clients);
        let mut inner = self.0.lock();
        inner.clients = Some(Arc::clone(&clients));
        let bad = inner.by_number.values().filter(|(peer, _)| !clients.accept(peer));
        bad.map(|(_, closer)| closer.close()).count()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.lock().by_number.remove(&self.1);
    }
}
