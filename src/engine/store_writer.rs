//! The store's thread: the only one that touches the database. Woken by marks, questions and one deadline. A
//! database that fails is opened again every half second until everything it lacks is written; supervision
//! goes on meanwhile.

use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::history::journal::{self, SinkStates};
use crate::engine::reconcile;
use crate::engine::settings::SinkSettings;
use crate::engine::store::{Change, ErrorKind, Opened, Put, Sqlite, StoreError};
use crate::engine::table::Table;
use crate::engine::write_queue::{Marks, Question, WriteQueue, WriteSeq, WriteTask};
use crate::sys::{procfs, system};
use crate::wire::event::Event;

/// The most events in one write.
const EVENTS_MAX: usize = 2000;
/// A write of so many processes is followed by giving memory back.
const TRIMMED_FROM: usize = 32;

/// Writes until the engine ends. `opened`: what the takeover has opened already.
pub fn run(
    context: &Arc<Context>,
    table: &Arc<Table>,
    states: &SinkStates,
    sinks: Vec<SinkSettings>,
    opened: Option<Opened>,
) {
    let Some(dir) = context.write_queue.dir().cloned() else { return };
    let boot_id = procfs::boot_id();
    let mut writer = StoreWriter {
        context: Arc::clone(context),
        table: Arc::clone(table),
        states: Arc::clone(states),
        sinks,
        boot_id,
        is_boot_stored: false,
        store: None,
        stored: 0,
    };
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
    sinks: Vec<SinkSettings>,
    boot_id: String,
    /// The store has it as the last one.
    is_boot_stored: bool,
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
        self.is_boot_stored = opened.loaded.last_boot_id == self.boot_id;
        if let Ok(page) = opened.store.events(self.stored.saturating_sub(1), 1, None)
            && let Some(newest) = page.events.last()
        {
            self.context.retention.has_seen(newest.at);
        }
        feed.has_audit(opened.loaded.last_audit);
        self.start_sinks(Some(&opened.loaded.cursors));
        let held = self.table.others();
        let specs: Vec<_> = held.iter().map(|p| (p.spec(), p.record())).collect();
        let held: Vec<_> = specs.iter().map(|(spec, record)| (&**spec, record.clone())).collect();
        let lacking = reconcile::lacking(&held, &opened.loaded.kept);
        self.store = Some(opened.store);
        self.write_queue().opened(lacking, opened.loaded.env != self.context.feed.env());
    }

    fn start_sinks(&mut self, cursors: Option<&[(String, u64)]>) {
        let sinks = std::mem::take(&mut self.sinks);
        if let Err(e) = journal::start_sinks(&self.context, &self.states, &sinks, cursors) {
            self.context.say(&format!("a sink cannot be started: {e}"));
        }
    }

    /// One write and perhaps an answer; or nothing, when the store is to be opened again.
    fn turn(&mut self) {
        let Some(WriteTask { marks, up_to, question }) = self.write_queue().next(self.store.is_some()) else {
            return;
        };
        self.write(marks, up_to);
        if let (Some(question), Some(store)) = (question, &mut self.store) {
            answer(store, question);
        }
    }

    fn write(&mut self, mut marks: Marks, up_to: WriteSeq) {
        let (is_large, removed) = (marks.dirty.len() >= TRIMMED_FROM, marks.removed);
        loop {
            match self.write_once(&marks) {
                Ok(0) => break,
                // The rest of the events, when there are very many.
                Ok(_) => marks = Marks::default(),
                Err(e) => {
                    self.write_queue().put_back(marks, up_to);
                    return self.failed(&e);
                }
            }
        }
        if is_large {
            // What was taken for many at once would stay with us, in pages that are nearly empty.
            system::trim_malloc();
        }
        if self.write_queue().written(up_to, self.stored) {
            self.context.say("the database works again: everything is recorded");
        }
        // Nobody who waits for what was written waits for that.
        if removed && let Some(store) = &mut self.store {
            store.overwrite_removed();
        }
    }

    /// Writes what is marked and some events; returns how many events are left.
    fn write_once(&mut self, marks: &Marks) -> Result<u64, StoreError> {
        let prune = self.context.retention.prune();
        let context = &self.context;
        let (events, missed) = self.events();
        let seen = events.last().map_or(self.stored, |e| e.seq);
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for &id in &marks.dirty {
            match self.table.get(id) {
                Some(process) => found.push((process.record(), process.spec())),
                None => gone.push(id),
            }
        }
        let put = found.iter().map(|(record, spec)| Put {
            spec,
            record,
            wanted: record.wanted,
            leader: record.leader(),
            boot_id: &self.boot_id,
        });
        let env = marks.env.then(|| context.feed.env());
        let audit: Vec<_> = marks.audit.values().cloned().collect();
        let documents: Vec<_> = marks.documents.values().cloned().collect();
        let cursors: Vec<_> = marks.cursors.iter().map(|(name, &seq)| (name.clone(), seq)).collect();
        let change = Change {
            put: put.collect(),
            remove: gone,
            env: env.as_deref(),
            boot_id: (!self.is_boot_stored).then_some(&*self.boot_id),
            events: &events,
            audit: &audit,
            cursors: &cursors,
            documents: &documents,
            prune,
        };
        let store = self.store.as_mut().expect("written to only while it is open");
        let written = store.write(&change)?;
        self.is_boot_stored = true;
        let is_removed = !change.remove.is_empty() || documents.iter().any(|d| d.content.is_none());
        if is_removed || change.env.is_some() {
            self.context.write_queue.has_removed();
        }
        self.context.write_queue.audit_written(&audit);
        self.stored = seen;
        self.write_queue().left_out(written.left_out as u64 + missed);
        // Where none could be read, none will be by trying at once.
        Ok(if events.is_empty() { 0 } else { context.feed.newest().saturating_sub(seen) })
    }

    /// Events that are not stored yet, at most as many as go into one write, and how many before them are no
    /// longer kept anywhere.
    fn events(&self) -> (Vec<Event>, u64) {
        let (mut events, mut lost) = (Vec::new(), 0);
        let mut since = self.stored;
        while events.len() < EVENTS_MAX {
            let (more, missed, next) = self.context.feed.read(since);
            if more.is_empty() {
                break;
            }
            events.extend(more);
            lost += missed;
            since = next;
        }
        (events, lost)
    }

    fn failed(&mut self, e: &StoreError) {
        if e.kind != ErrorKind::Locked {
            self.store = None;
        }
        self.start_sinks(None);
        if self.write_queue().failed(&e.message) {
            self.context
                .say(&format!("{}; processes are kept all the same, and it is tried again", e.message));
        }
    }
}

fn answer(store: &mut Sqlite, question: Question) {
    // The client may have gone.
    match question {
        Question::Events { since, max, of, to } => {
            drop(to.send(store.events(since, max, of).map_err(|e| e.message)));
        }
        Question::Audit { since, max, to } => {
            drop(to.send(store.audit(since, max).map_err(|e| e.message)));
        }
        Question::Documents { kind, to } => {
            drop(to.send(store.documents(&kind).map_err(|e| e.message)));
        }
        Question::About { to } => drop(to.send(Ok(store.about()))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::context::{Ended, HostWay, Link, Notify, Starts};
    use crate::engine::feed::Feed;
    use crate::engine::log_queue::LogQueue;
    use crate::engine::memory::Memory;
    use crate::engine::process::fresh::fresh;
    use crate::engine::process::handle::Process;
    use crate::engine::reserve::Reserve;
    use crate::engine::retention::Retention;
    use crate::engine::schedule_queue::ScheduleQueue;
    use crate::engine::settings::HistorySettings;
    use crate::engine::spawns::Spawns;
    use crate::sys::memory::memfd_create;
    use crate::sys::socket::seqpacket_pair;
    use crate::wire::id::ProcessId;
    use crate::wire::spec::Spec;

    /// A writer over a new database in this directory.
    fn writer(dir: &Path) -> StoreWriter {
        let context = Context {
            link: Link::new(seqpacket_pair().unwrap().0),
            gateway_end: None,
            feed: Feed::open(&memfd_create(c"test", 0).unwrap()).unwrap(),
            reserve: Reserve::take(),
            board: Arc::default(),
            write_queue: WriteQueue::new(Some(dir.to_owned())),
            logs: LogQueue::new(None),
            schedules: ScheduleQueue::default(),
            notify: Notify(Arc::new(|_| ())),
            cgroups: None,
            holds: Arc::default(),
            looks: Arc::default(),
            spawns: Spawns::beside(&dir.join("engine.sock")),
            drain: Arc::default(),
            no_cgroup: AtomicBool::new(false),
            adopts: false,
            service_env: Vec::new(),
            retention: Retention::new(HistorySettings::default()),
            stopping: AtomicBool::new(false),
            ended: Ended::default(),
            starts: Starts::default(),
            host: Arc::new(HostWay::new(dir.join("host.sock"))),
        };
        let opened = Opened::open(dir).unwrap();
        context.feed.begin(opened.loaded.service, 0, &[]);
        let mut writer = StoreWriter {
            context: Arc::new(context),
            table: Arc::default(),
            states: SinkStates::default(),
            sinks: Vec::new(),
            boot_id: "boot-1".to_owned(),
            is_boot_stored: false,
            store: None,
            stored: 0,
        };
        writer.accept(opened);
        writer
    }

    /// Makes a process known, or takes it out, and marks it, as a start and a removal do.
    fn change(writer: &StoreWriter, id: ProcessId, is_made: bool) {
        if is_made {
            let spec = Spec::new(["a"]);
            let memory = Memory::create(&spec).unwrap();
            let record = fresh(id, None, None);
            let process = Process::new(spec, memory, record, Arc::clone(&writer.context), |_, _| ());
            writer.table.insert(&[Arc::new(process)]).unwrap();
        } else {
            writer.table.remove(id);
        }
        writer.write_queue().mark_now(id);
    }

    #[test]
    fn what_is_written_is_what_the_table_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir.path().join("state"));
        let id = ProcessId::new();
        for is_failing in [false, true] {
            for changes in [&[true][..], &[false, true], &[false], &[true, false]] {
                for &is_made in changes {
                    change(&writer, id, is_made);
                    if is_failing {
                        let failed = writer.write_queue().next(true).unwrap();
                        writer.write_queue().put_back(failed.marks, failed.up_to);
                        writer.write_queue().opened(BTreeSet::new(), false);
                    }
                }
                writer.turn();
                let loaded = writer.store.as_mut().unwrap().load().unwrap();
                let stored: Vec<_> = loaded.kept.iter().map(|kept| kept.record.id).collect();
                let expected = changes.last().filter(|is_made| **is_made).map(|_| id);
                assert_eq!(stored, Vec::from_iter(expected), "{changes:?}, failing: {is_failing}");
            }
        }
    }
}
