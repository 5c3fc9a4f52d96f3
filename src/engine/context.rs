//! What every process's thread shares: the way to the keeper, the feed, and where cgroups are.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::engine::board::Board;
use crate::engine::drain::Drain;
use crate::engine::feed::Feed;
use crate::engine::holds::Holds;
use crate::engine::log_queue::LogQueue;
use crate::engine::look::Looks;
use crate::engine::reserve::Reserve;
use crate::engine::retention::Retention;
use crate::engine::schedule_queue::ScheduleQueue;
use crate::engine::spawns::Spawns;
use crate::engine::write_queue::WriteQueue;
use crate::sys::cgroup::{Cgroup, Root};
use crate::sys::poll::Waker;
use crate::sys::socket::{Blocking, sendmsg};
use crate::sys::{rest, system, thread};
use crate::wire::error::{Code, Error};
use crate::wire::id::ProcessId;
use crate::wire::keeper::{CGROUP_PREFIX, ToKeeper};

/// After so many starts memory is given back at once.
const MANY_STARTS: usize = 32;

/// Shared by all threads of the engine; changes only through its parts.
#[derive(Debug)]
pub struct Context {
    pub link: Link,
    /// The gateway's end of its pair, for whoever is to be the gateway.
    pub gateway_end: Option<OwnedFd>,
    pub feed: Feed,
    pub reserve: Reserve,
    /// How each process stands, for those that need it.
    pub board: Arc<Board>,
    pub write_queue: WriteQueue,
    /// What of the history is kept.
    pub retention: Retention,
    /// Whose output waits for its reader.
    pub holds: Arc<Holds>,
    /// Whose output is to be written to a log.
    pub logs: LogQueue,
    /// When each process with a schedule is due.
    pub schedules: ScheduleQueue,
    /// For the service's log.
    pub notify: Notify,
    /// `None`: processes get no cgroups.
    pub cgroups: Option<Root>,
    /// What runs is to go on when the service dies, and to be adopted.
    pub adopts: bool,
    /// How trees are found where there are no cgroups.
    pub looks: Arc<Looks>,
    /// Whom the keeper spawned, on record.
    pub spawns: Spawns,
    /// Pipes that nobody else reads.
    pub drain: Arc<Drain>,
    /// The last one that was to be made could not be.
    pub no_cgroup: AtomicBool,
    /// What a child's environment starts from.
    pub service_env: Vec<(String, String)>,
    /// The service is about to end: nothing new is started.
    pub stopping: AtomicBool,
    /// For who looks after what has ended.
    pub ended: Ended,
    /// Who probes by gRPC.
    pub host: Arc<HostWay>,
    pub starts: Starts,
}

impl Context {
    /// Writes a line to the service's log.
    pub fn say(&self, text: &str) {
        (self.notify.0)(text);
    }

    /// Where a keeper that is gone had the tree of a process, if it has outlived it.
    pub fn cgroup_of_another_keeper(&self, id: ProcessId) -> Option<Cgroup> {
        let left = self.cgroups.as_ref()?.left(CGROUP_PREFIX);
        let id = id.to_string();
        left.into_iter().find(|(name, _)| *name == id).map(|(_, cgroup)| cgroup)
    }

    /// Says that a process runs without its cgroup, once until one can be made again.
    pub fn note_cgroup(&self, failed: Option<&io::Error>) {
        let was_failing = self.no_cgroup.swap(failed.is_some(), Ordering::AcqRel);
        match failed {
            Some(e) if !was_failing => {
                self.say(&format!(
                    "no cgroup can be made ({e}): what runs without one is found by other means"
                ));
            }
            None if was_failing => self.say("processes have their cgroups again"),
            Some(_) | None => {}
        }
    }

    /// Whether the service is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Starts that are under way. What the launches of many took is given back after the last of them: it would
/// stay with us, in pages that are nearly empty. What a few took is given back when there is nothing to do.
#[derive(Debug, Default)]
pub struct Starts {
    under_way: AtomicUsize,
    /// Those that have begun since memory was given back.
    taken: AtomicUsize,
}

impl Starts {
    pub fn begin(&self) {
        rest::used();
        self.under_way.fetch_add(1, Ordering::AcqRel);
        self.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// One is over, one way or the other.
    pub fn end(&self) {
        let is_last = self.under_way.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && self.taken.load(Ordering::Acquire) >= MANY_STARTS {
            self.taken.store(0, Ordering::Release);
            system::trim_malloc();
        }
    }
}

/// Wakes the thread that looks after what has ended, if it waits for that.
#[derive(Debug, Default)]
pub struct Ended {
    is_awaited: AtomicBool,
    thread: Mutex<Option<Waker>>,
}

impl Ended {
    /// For that thread: the next process that comes to rest wakes it.
    pub fn await_next(&self) {
        self.thread.lock().get_or_insert_with(Waker::for_this_thread);
        self.is_awaited.store(true, Ordering::Release);
    }

    /// A process came to rest.
    pub fn mark(&self) {
        if self.is_awaited.load(Ordering::Acquire) && self.is_awaited.swap(false, Ordering::AcqRel) {
            let thread = self.thread.lock().clone();
            thread.iter().for_each(Waker::wake);
        }
    }
}

/// The way to the host of providers, which is run when somebody wants it.
pub struct HostWay {
    /// Where it listens.
    pub socket: PathBuf,
    run: OnceLock<Box<dyn Fn() + Send + Sync>>,
    is_begun: AtomicBool,
}

impl fmt::Debug for HostWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostWay").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl HostWay {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, run: OnceLock::new(), is_begun: AtomicBool::new(false) }
    }

    /// Once, when the engine is there: how it is run, which may wait until its program executes.
    pub fn is_run_by(&self, run: Box<dyn Fn() + Send + Sync>) {
        // Only the first counts.
        let _ = self.run.set(run);
    }

    /// Has it run, by a thread that is there for that (`host-run`): who wants it goes on meanwhile.
    pub fn want(self: &Arc<Self>) {
        if self.run.get().is_none() || self.is_begun.swap(true, Ordering::AcqRel) {
            return;
        }
        let way = Arc::clone(self);
        let begun = thread::spawn("host-run", move || {
            if let Some(run) = way.run.get() {
                run();
            }
            way.is_begun.store(false, Ordering::Release);
        });
        if begun.is_err() {
            // Whoever wants it says so again.
            self.is_begun.store(false, Ordering::Release);
        }
    }
}

/// Takes lines for the service's log.
#[derive(Clone)]
pub struct Notify(pub Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notify")
    }
}

/// The engine's end of the pair. Any thread sends; one thread receives.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends one message. Waits at most for the keeper's one loop; when it is in the kernel's hands, it will
    /// be done even if this engine ends.
    pub fn send(&self, message: &ToKeeper, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        sendmsg(self.0.as_fd(), &message.encode(), fds, Blocking::Wait)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The refusal to start something while the service ends.
pub fn ending() -> Error {
    Error::new(Code::Refused, "the service is about to end")
}
