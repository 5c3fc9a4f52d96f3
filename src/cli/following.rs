//! Output of all that targets mean, also of what comes later, over stops and starts. One thread waits for
//! events, and one more for each set of processes whose output is read; all tell this one, over one channel
//! with a limit, so that a slow screen holds them up and no memory is taken.

use std::collections::{HashMap, HashSet, VecDeque};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cli::session::Session;
use crate::cli::since::last_event;
use crate::cli::text;
use crate::client::{Client, FeedItem, StreamItem};
use crate::sys::thread;
use crate::wire::error::{Code, Error};
use crate::wire::event::{Event, EventKind};
use crate::wire::id::{ProcessId, Target};
use crate::wire::process::Process;
use crate::wire::reply::{Chunk, Gap};
use crate::wire::request::{Events, Since, Stream, StreamKind};

/// How many sets are read at a time: each is a connection. What starts while there are so many waits for one.
const SETS_MAX: usize = 16;
/// How many items may wait for this thread.
const QUEUE_MAX: usize = 64;

/// What comes next.
pub enum Followed {
    Chunk(Chunk),
    Gap(Gap),
    /// A run begins here, as the process is now.
    Run(Box<Process>),
    /// Nothing can come any more.
    Ended,
}

enum News {
    Item(StreamItem),
    SetEnded(Result<(), Error>),
    Event(Event),
    EventsEnded(Error),
}

struct Known {
    /// The offset of the byte that comes next.
    next: u64,
    is_at_rest: bool,
    /// The run that begins at an offset, which has not come yet.
    mark: Option<Box<Process>>,
}

pub struct Following {
    session_client: Box<dyn Fn() -> Result<Client, Error>>,
    /// For questions on the way.
    client: Client,
    targets: Vec<String>,
    kind: StreamKind,
    known: HashMap<ProcessId, Known>,
    /// Those that are there and that no target means: they are not asked about again.
    others: HashSet<ProcessId>,
    /// Those that wait for a set to end.
    waiting: Vec<ProcessId>,
    sets: usize,
    tell: Sender<News>,
    incoming: Receiver<News>,
    ready: VecDeque<Followed>,
}

impl Following {
    /// Finds what there is, and tells of each where it is to begin. A name that nobody has is an error; what
    /// a pattern means may come.
    pub fn begin(
        session: &Session,
        targets: Vec<String>,
        kind: StreamKind,
    ) -> Result<(Self, Vec<Process>), Error> {
        let mut client = session.client()?;
        // From here on nothing is missed.
        let since = last_event(&mut client)?;
        let mut processes: Vec<Process> = Vec::new();
        for item in client.status(targets.clone())? {
            match (item.process, item.error) {
                (Some(process), None) if processes.iter().all(|p| p.id != process.id) => {
                    processes.push(process)
                }
                (_, Some(e)) if e.code != Code::NotFound || !is_pattern(&item.target) => return Err(e),
                _ => {}
            }
        }
        let (tell, incoming) = bounded(QUEUE_MAX);
        follow_events(session.client()?, since, tell.clone())?;
        let (socket, remote) = (session.socket.clone(), session.remote.clone());
        let connect = move || {
            let mut session = Session::new(Vec::new());
            (session.socket, session.remote) = (socket.clone(), remote.clone());
            session.client()
        };
        let known = processes
            .iter()
            .map(|p| (p.id, Known { next: p.output_end, is_at_rest: p.state.is_at_rest(), mark: None }));
        let following = Self {
            known: known.collect(),
            session_client: Box::new(connect),
            client,
            targets,
            kind,
            others: HashSet::new(),
            waiting: Vec::new(),
            sets: 0,
            tell,
            incoming,
            ready: VecDeque::new(),
        };
        Ok((following, processes))
    }

    /// Has a process begin at this offset, instead of at what comes next.
    pub fn begin_at(&mut self, id: ProcessId, offset: u64) {
        if let Some(known) = self.known.get_mut(&id) {
            known.next = offset;
        }
    }

    /// Whether nothing of it runs.
    pub fn is_at_rest(&self) -> bool {
        self.known.values().all(|known| known.is_at_rest)
    }

    /// Begins to read.
    pub fn start(&mut self) -> Result<(), Error> {
        let all: Vec<ProcessId> = self.known.keys().copied().collect();
        if all.is_empty() { Ok(()) } else { self.read(all) }
    }

    /// Waits for what comes next.
    pub fn next(&mut self) -> Result<Followed, Error> {
        loop {
            if let Some(followed) = self.ready.pop_front() {
                return Ok(followed);
            }
            let news = self.incoming.recv().map_err(|e| Error::failed("wait for output", &e))?;
            match news {
                News::Item(StreamItem::Chunk(chunk)) => self.take(chunk),
                News::Item(StreamItem::Gap(gap)) => self.take_gap(gap),
                // That it is gone is told by an event.
                News::Item(StreamItem::Ended(_)) => {}
                News::SetEnded(result) => {
                    self.sets -= 1;
                    result.or_else(|e| if e.code == Code::NotFound { Ok(()) } else { Err(e) })?;
                    let waiting = std::mem::take(&mut self.waiting);
                    if !waiting.is_empty() {
                        self.read(waiting)?;
                    }
                }
                News::Event(event) => self.happened(&event)?,
                News::EventsEnded(e) => return Err(e),
            }
        }
    }

    fn take(&mut self, mut chunk: Chunk) {
        let Some(known) = self.known.get_mut(&chunk.id) else { return };
        // Two sets may read the same process around its start.
        let seen = usize::try_from(known.next.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        if seen >= chunk.data.len() {
            return;
        }
        let _ = chunk.data.split_to(seen);
        chunk.offset += seen as u64;
        known.next = chunk.offset + chunk.data.len() as u64;
        if let Some(run) = known.mark.take_if(|run| run.run_output_start < known.next) {
            let before = usize::try_from(run.run_output_start.saturating_sub(chunk.offset)).unwrap_or(0);
            let data = chunk.data.split_to(before.min(chunk.data.len()));
            if !data.is_empty() {
                self.ready.push_back(Followed::Chunk(Chunk { data, ..chunk.clone() }));
            }
            chunk.offset += before as u64;
            self.ready.push_back(Followed::Run(run));
        }
        self.ready.push_back(Followed::Chunk(chunk));
    }

    fn take_gap(&mut self, gap: Gap) {
        let Some(known) = self.known.get_mut(&gap.id).filter(|known| known.next < gap.offset + gap.missed)
        else {
            return;
        };
        known.next = gap.offset + gap.missed;
        self.ready.push_back(Followed::Gap(gap));
    }

    fn happened(&mut self, event: &Event) -> Result<(), Error> {
        let Some(id) = event.id else { return Ok(()) };
        match event.kind {
            EventKind::Started => self.started(id),
            EventKind::Stopped | EventKind::GaveUp => {
                if let Some(known) = self.known.get_mut(&id) {
                    known.is_at_rest = true;
                }
                Ok(())
            }
            EventKind::Removed => {
                self.known.remove(&id);
                self.others.remove(&id);
                let may_come = |target: &String| !matches!(target.parse(), Ok(Target::Id(_)));
                if self.known.is_empty() && !self.targets.iter().any(may_come) {
                    self.ready.push_back(Followed::Ended);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn started(&mut self, id: ProcessId) -> Result<(), Error> {
        if self.others.contains(&id) {
            return Ok(());
        }
        let is_new = !self.known.contains_key(&id);
        let asked = if is_new { self.targets.clone() } else { vec![id.to_string()] };
        let mut processes = self.client.status(asked)?.into_iter().filter_map(|item| item.process);
        let Some(process) = processes.find(|p| p.id == id) else {
            self.others.insert(id);
            return Ok(());
        };
        let fresh = Known { next: process.output_start, is_at_rest: true, mark: None };
        let known = self.known.entry(id).or_insert(fresh);
        let was_at_rest = std::mem::replace(&mut known.is_at_rest, false);
        if process.run_output_start <= known.next {
            self.ready.push_back(Followed::Run(Box::new(process)));
        } else {
            known.mark = Some(Box::new(process));
        }
        if !was_at_rest {
            return Ok(());
        }
        if self.sets >= SETS_MAX {
            self.waiting.push(id);
            return Ok(());
        }
        self.read(vec![id])
    }

    /// Starts the thread that reads these, each from where it is.
    fn read(&mut self, ids: Vec<ProcessId>) -> Result<(), Error> {
        let offsets = ids.iter().map(|id| self.known.get(id).map_or(0, |known| known.next)).collect();
        let targets = ids.iter().map(ToString::to_string).collect();
        let stream = Stream { targets, kind: self.kind, since: Since::Offsets(offsets) };
        let (mut client, tell) = ((self.session_client)()?, self.tell.clone());
        let read = move || {
            let ended = client.stream(stream).and_then(|items| {
                for item in items {
                    if tell.send(News::Item(item?)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            // Nobody waits for it any more: so be it.
            let _ = tell.send(News::SetEnded(ended));
        };
        thread::spawn("output", read).map_err(|e| Error::failed("read output", &text::cause(&e)))?;
        self.sets += 1;
        Ok(())
    }
}

/// Whether processes that it means may come later.
fn is_pattern(target: &str) -> bool {
    matches!(target.parse(), Ok(Target::Pattern(_)))
}

fn follow_events(mut client: Client, since: u64, tell: Sender<News>) -> Result<(), Error> {
    let wait = move || {
        let ended = client.events(Events { since, follow: true, target: None }).and_then(|feed| {
            for item in feed {
                if let FeedItem::Event(event) = item?
                    && tell.send(News::Event(event)).is_err()
                {
                    break;
                }
            }
            Ok(())
        });
        let e =
            ended.err().unwrap_or_else(|| Error::new(Code::Unreachable, "the service tells no more events"));
        let _ = tell.send(News::EventsEnded(e));
    };
    thread::spawn("events", wait).map(drop).map_err(|e| Error::failed("wait for events", &text::cause(&e)))
}
