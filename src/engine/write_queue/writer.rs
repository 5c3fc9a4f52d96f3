//! The store's thread: the only one that touches the database. Woken by marks, questions and one deadline. A
//! database that fails is opened again every half second until everything it lacks is written; supervision
//! goes on meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::context::Context;
use crate::engine::history::journal::{self, SinkStates};
use crate::engine::process::handle::Process;
use crate::engine::reconcile::{self, Held};
use crate::engine::settings::{HistorySettings, SinkSettings};
use crate::engine::store::{
    Change, ErrorKind, Loaded, Prune, Put, Sqlite, Store, StoreError, salvage, salvage_numbers, set_aside,
};
use crate::engine::table::Table;
use crate::engine::write_queue::{Health, Inner, Marks, Question, WriteQueue, WriteSeq};
use crate::sys::poll::{self, Waker};
use crate::sys::{clock, procfs, system};
use crate::wire::event::Event;
use crate::wire::id::ProcessId;
use crate::wire::leader::Leader;
use crate::wire::time::{Timestamp, millis};

/// How soon a database that failed is tried again, ms.
const RETRY_MS: u64 = 500;
/// The most events in one write.
const EVENTS_MAX: usize = 2000;
/// A write of so many processes is followed by giving memory back.
const TRIMMED_FROM: usize = 32;

/// A store that has been opened, with what it knew.
pub struct Opened {
    pub store: Sqlite,
    pub loaded: Loaded,
    /// What was found wrong on the way, for the log.
    pub notices: Vec<String>,
    /// It was made in place of one that was damaged: nothing is in it yet.
    pub is_new: bool,
}

impl Opened {
    /// Opens the database. One that is damaged is set aside; what can still be read of it is taken over.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        match Self::try_open(dir) {
            Err(e) if e.kind == ErrorKind::Corrupt => {
                let aside = set_aside(dir)
                    .map_err(|why| StoreError { message: format!("{}; {why}", e.message), ..e.clone() })?;
                let (saved, (service, last_seq)) = (salvage(&aside), salvage_numbers(&aside));
                let mut opened = Self::try_open(dir)?;
                opened.notices.push(format!(
                    "{}: it is set aside as {}, and made anew with {} processes that could be read",
                    e.message,
                    aside.display(),
                    saved.len()
                ));
                opened.loaded.kept = saved;
                opened.loaded.service = service.unwrap_or(opened.loaded.service);
                opened.loaded.last_seq = last_seq;
                opened.is_new = true;
                Ok(opened)
            }
            other => other,
        }
    }

    fn try_open(dir: &Path) -> Result<Self, StoreError> {
        let mut store = Sqlite::open(dir)?;
        let loaded = store.load()?;
        let notices = loaded.damaged.iter().map(|what| format!("in the database: {what}")).collect();
        Ok(Self { store, loaded, notices, is_new: false })
    }
}

/// Writes until the engine ends. `opened`: what the takeover has opened already.
pub fn run(
    context: &Arc<Context>,
    table: &Arc<Table>,
    states: &SinkStates,
    settings: HistorySettings,
    sinks: Vec<SinkSettings>,
    opened: Option<Opened>,
) {
    let Some(dir) = context.write_queue.dir().cloned() else { return };
    let boot_id = procfs::boot_id();
    let mut writer = StoreWriter {
        context: Arc::clone(context),
        table: Arc::clone(table),
        states: Arc::clone(states),
        settings,
        sinks,
        boot_id,
        store: None,
        stored: 0,
    };
    context.write_queue.inner.lock().thread = Some(Waker::for_this_thread());
    if let Some(opened) = opened {
        writer.accept(opened);
    }
    loop {
        if writer.store.is_none() {
            match Opened::open(&dir) {
                Ok(opened) => writer.accept(opened),
                Err(e) => writer.failed(&e),
            }
        }
        writer.turn();
    }
}

struct StoreWriter {
    context: Arc<Context>,
    table: Arc<Table>,
    states: SinkStates,
    settings: HistorySettings,
    sinks: Vec<SinkSettings>,
    boot_id: String,
    /// `None`: it failed, and is opened again.
    store: Option<Sqlite>,
    /// The newest event that is stored.
    stored: u64,
}

impl StoreWriter {
    fn write_queue(&self) -> &WriteQueue {
        &self.context.write_queue
    }

    /// Takes a store that was opened, and marks all that it lacks.
    fn accept(&mut self, mut opened: Opened) {
        for notice in &opened.notices {
            self.context.say(notice);
        }
        let feed = &self.context.feed;
        let is_other = opened.is_new || opened.loaded.service != feed.service();
        if is_other && let Err(e) = opened.store.go_on_as(feed.service(), opened.loaded.last_seq) {
            return self.failed(&e);
        }
        if opened.is_new {
            opened.loaded.kept.clear();
            opened.loaded.env.clear();
        }
        self.stored = opened.loaded.last_seq;
        feed.has_audit(opened.loaded.last_audit);
        self.start_sinks(Some(&opened.loaded.cursors));
        let held: BTreeMap<ProcessId, Arc<Process>> =
            self.table.others().into_iter().map(|p| (p.id, p)).collect();
        let bare = held.values().map(|p| Held { spec: &p.spec, record: p.record() }).collect::<Vec<_>>();
        let lacking = reconcile::lacking(&bare, &opened.loaded.kept);
        self.store = Some(opened.store);
        let write_queue = self.write_queue();
        let mut inner = write_queue.inner.lock();
        inner.marks.dirty.extend(lacking);
        inner.marks.env |= opened.loaded.env != self.context.feed.env();
        inner.marks.events = true;
        inner.urgent = true;
    }

    fn start_sinks(&mut self, cursors: Option<&[(String, u64)]>) {
        let sinks = std::mem::take(&mut self.sinks);
        if let Err(e) = journal::start_sinks(&self.context, &self.states, &sinks, cursors) {
            self.context.say(&format!("a sink cannot be started: {e}"));
        }
    }

    /// The one place where this thread waits, and then one write or some answers.
    fn turn(&mut self) {
        let (marks, up_to, question) = loop {
            let mut inner = self.write_queue().inner.lock();
            let now = clock::now_ms();
            let is_due_by_time = inner.due.is_some_and(|due| due <= now);
            if self.store.is_none() {
                // Whatever is marked or asked meanwhile, the next attempt comes in its time.
                if is_due_by_time {
                    return;
                }
                refuse(&mut inner);
            } else {
                let question = inner.questions.pop_front();
                if inner.urgent || is_due_by_time || question.is_some() {
                    break (take(&mut inner), inner.marked, question);
                }
            }
            let deadline = inner.due;
            drop(inner);
            let _ = poll::wait(&mut [], deadline);
        };
        self.write(marks, up_to);
        if let (Some(question), Some(store)) = (question, &mut self.store) {
            answer(store, question);
        }
    }

    fn write(&mut self, mut marks: Marks, up_to: WriteSeq) {
        let is_large = marks.dirty.len() >= TRIMMED_FROM;
        loop {
            match self.write_once(&marks) {
                Ok(0) => break,
                // The rest of the events, when there are very many.
                Ok(_) => marks = Marks::default(),
                Err(e) => {
                    let mut inner = self.write_queue().inner.lock();
                    put_back(&mut inner.marks, marks);
                    inner.left_out += inner.marks.limit_audit();
                    inner.unrecorded = up_to - inner.written;
                    drop(inner);
                    return self.failed(&e);
                }
            }
        }
        let mut inner = self.write_queue().inner.lock();
        inner.written = up_to;
        inner.stored = self.stored;
        inner.unrecorded = 0;
        if is_large {
            // What was taken for many at once would stay with us, in pages that are nearly empty.
            system::trim_malloc();
        }
        let was_degraded = matches!(inner.health, Health::Degraded { .. });
        inner.health = Health::Sound;
        wake(&mut inner);
        drop(inner);
        if was_degraded {
            self.context.say("the database works again: everything is recorded");
        }
    }

    /// Writes what is marked and some events; returns how many events are left.
    fn write_once(&mut self, marks: &Marks) -> Result<u64, StoreError> {
        let context = &self.context;
        let events = self.events();
        let seen = events.last().map_or(self.stored, |e| e.seq);
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for &id in &marks.dirty {
            match self.table.get(id) {
                Some(process) => found.push((process.record(), process)),
                None => gone.push(id),
            }
        }
        let put = found.iter().map(|(record, process)| Put {
            spec: &process.spec,
            record,
            wanted: record.wanted,
            leader: record.pid.zip(record.start_ticks).map(|(pid, start_ticks)| Leader { pid, start_ticks }),
            boot_id: &self.boot_id,
        });
        let env = marks.env.then(|| context.feed.env());
        let audit: Vec<_> = marks.audit.values().cloned().collect();
        let cursors: Vec<_> = marks.cursors.iter().map(|(name, &seq)| (name.clone(), seq)).collect();
        let change = Change {
            put: put.collect(),
            remove: gone,
            env: env.as_deref(),
            boot_id: Some(&self.boot_id),
            events: &events,
            audit: &audit,
            cursors: &cursors,
            prune: self.prune(),
        };
        let store = self.store.as_mut().expect("written to only while it is open");
        let written = store.write(&change)?;
        self.stored = seen;
        self.write_queue().inner.lock().left_out += written.left_out as u64;
        // Where none could be read, none will be by trying at once.
        Ok(if events.is_empty() { 0 } else { context.feed.newest().saturating_sub(seen) })
    }

    /// Events that are not stored yet, at most as many as go into one write.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut since = self.stored;
        while events.len() < EVENTS_MAX {
            let (more, _, next) = self.context.feed.read(since);
            if more.is_empty() {
                break;
            }
            events.extend(more);
            since = next;
        }
        events
    }

    fn prune(&self) -> Prune {
        let keep_ms = millis(self.settings.keep.max(Duration::from_secs(1)));
        Prune {
            before: Timestamp(Timestamp::now().0.saturating_sub(keep_ms)),
            keep: self.settings.keep_events,
        }
    }

    fn failed(&mut self, e: &StoreError) {
        if e.kind != ErrorKind::Locked {
            self.store = None;
        }
        self.start_sinks(None);
        let mut inner = self.write_queue().inner.lock();
        let since = match &inner.health {
            Health::Degraded { since, .. } => *since,
            Health::Off | Health::Opening | Health::Sound => Timestamp::now(),
        };
        let is_news = !matches!(&inner.health, Health::Degraded { why, .. } if *why == e.message);
        inner.health = Health::Degraded { since, why: e.message.clone() };
        inner.urgent = false;
        inner.due = Some(clock::now_ms() + RETRY_MS);
        refuse(&mut inner);
        wake(&mut inner);
        drop(inner);
        if is_news {
            self.context
                .say(&format!("{}; processes are kept all the same, and it is tried again", e.message));
        }
    }
}

fn take(inner: &mut Inner) -> Marks {
    inner.urgent = false;
    inner.due = None;
    inner.taken = inner.marked;
    std::mem::take(&mut inner.marks)
}

/// What could not be written, under what was marked meanwhile.
fn put_back(marks: &mut Marks, older: Marks) {
    marks.dirty.extend(older.dirty);
    marks.env |= older.env;
    marks.events = true;
    for (sink, seq) in older.cursors {
        marks.cursors.entry(sink).or_insert(seq);
    }
    for (seq, line) in older.audit {
        marks.audit.entry(seq).or_insert(line);
    }
}

fn wake(inner: &mut Inner) {
    inner.waiting.iter().for_each(Waker::wake);
}

/// Nobody waits for a database that does not work.
fn refuse(inner: &mut Inner) {
    let Health::Degraded { why, .. } = &inner.health else { return };
    let why = why.clone();
    for question in inner.questions.drain(..) {
        match question {
            Question::Events { to, .. } => drop(to.send(Err(why.clone()))),
            Question::Audit { to, .. } => drop(to.send(Err(why.clone()))),
            Question::About { to } => drop(to.send(None)),
        }
    }
}

fn answer(store: &mut Sqlite, question: Question) {
    // Whoever asked may have gone.
    match question {
        Question::Events { since, max, of, to } => {
            drop(to.send(store.events(since, max, of).map_err(|e| e.message)));
        }
        Question::Audit { since, max, to } => {
            drop(to.send(store.audit(since, max).map_err(|e| e.message)));
        }
        Question::About { to } => drop(to.send(Some(store.about()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;
    use crate::engine::context::{Link, Notify};
    use crate::engine::feed::Feed;
    use crate::engine::memory::Memory;
    use crate::engine::process::state::fresh;
    use crate::engine::reserve::Reserve;
    use crate::sys::memory::memfd_create;
    use crate::sys::socket::seqpacket_pair;
    use crate::wire::spec::Spec;

    /// A writer over a new database in this directory.
    fn writer(dir: &Path) -> StoreWriter {
        let context = Context {
            link: Link::new(seqpacket_pair().unwrap().0),
            feed: Feed::open(&memfd_create(c"test", 0).unwrap()).unwrap(),
            reserve: Reserve::take(),
            write_queue: WriteQueue::new(Some(dir.to_owned())),
            notify: Notify(Arc::new(|_| ())),
            cgroups: None,
            service_env: Vec::new(),
            stopping: AtomicBool::new(false),
            starting: AtomicUsize::new(0),
        };
        let opened = Opened::open(dir).unwrap();
        context.feed.begin(opened.loaded.service, 0, &[]);
        let mut writer = StoreWriter {
            context: Arc::new(context),
            table: Arc::default(),
            states: SinkStates::default(),
            settings: HistorySettings::default(),
            sinks: Vec::new(),
            boot_id: "boot-1".to_owned(),
            store: None,
            stored: 0,
        };
        writer.accept(opened);
        writer
    }

    /// Makes a process known and marks it, as a start does.
    fn make(writer: &StoreWriter, id: ProcessId) {
        let spec = Spec::new(["a"]);
        let memory = Memory::create(&spec).unwrap();
        let record = fresh(id, None, None);
        let process = Process::new(spec, memory, record, Arc::clone(&writer.context), |_, _| ());
        writer.table.insert(&[Arc::new(process)]).unwrap();
        writer.write_queue().mark_now(id);
    }

    /// Takes it out and marks it, as a removal does.
    fn remove(writer: &StoreWriter, id: ProcessId) {
        writer.table.remove(id);
        writer.write_queue().mark_now(id);
    }

    fn stored(writer: &mut StoreWriter) -> Vec<ProcessId> {
        writer.turn();
        let loaded = writer.store.as_mut().unwrap().load().unwrap();
        loaded.kept.iter().map(|kept| kept.record.id).collect()
    }

    #[test]
    fn what_is_written_is_what_the_table_holds() {
        let dir = std::env::temp_dir().join(format!("provost-writer-{}", std::process::id()));
        let mut writer = writer(&dir);
        let id = ProcessId::new();
        make(&writer, id);
        assert_eq!(stored(&mut writer), [id]);
        remove(&writer, id);
        make(&writer, id);
        assert_eq!(stored(&mut writer), [id], "it was removed and made again before a write");
        remove(&writer, id);
        assert!(stored(&mut writer).is_empty());
        make(&writer, id);
        remove(&writer, id);
        assert!(stored(&mut writer).is_empty(), "it was made and removed before a write");
        // A write that fails is done again with what is marked meanwhile.
        make(&writer, id);
        let marks = take(&mut writer.write_queue().inner.lock());
        remove(&writer, id);
        put_back(&mut writer.write_queue().inner.lock().marks, marks);
        assert!(stored(&mut writer).is_empty());
        make(&writer, id);
        assert_eq!(stored(&mut writer), [id]);
        remove(&writer, id);
        let marks = take(&mut writer.write_queue().inner.lock());
        make(&writer, id);
        put_back(&mut writer.write_queue().inner.lock().marks, marks);
        assert_eq!(stored(&mut writer), [id]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
