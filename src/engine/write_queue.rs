//! The way to the store. A thread that changes something marks it here, without waiting; one thread
//! (`store_writer.rs`) writes what is marked, and an answer that promises it waits for that.
//!
//! A mark says only *that* a process changed: the thread writes what it looks like by then, so a slow disk
//! makes for fewer writes and not for a longer queue. Events are not marked one by one; they are read from
//! the feed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use crate::engine::audit_memory::{AuditMemory, LINES_MAX};
use crate::engine::store::{About, EventsPage, numbers};
use crate::sys::clock;
use crate::sys::poll::{self, Wait, Waker};
use crate::wire::audit::AuditLine;
use crate::wire::id::ProcessId;
use crate::wire::keep::Document;
use crate::wire::time::Timestamp;

/// How long what no answer waits for may stay unwritten, ms: one write for a start and what follows from it.
const LATER_MS: u64 = 250;
/// How long an answer waits to be recorded, ms.
pub const TIMEOUT_MS: u64 = 3000;
/// How soon a store that failed is tried again, ms.
const RETRY_MS: u64 = 500;
/// How long the store may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The most questions that wait for an answer; more are told to come later.
const QUESTIONS_MAX: usize = 64;

/// Number of a mark: what was marked up to here.
pub type WriteSeq = u64;
/// What was there before this engine; written when the store has been compared with it.
pub const COMPARED: WriteSeq = 1;

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// The service keeps nothing.
    #[default]
    Off,
    /// It is being opened.
    Opening,
    Sound,
    /// Something is not recorded; it is tried again.
    Degraded {
        since: Timestamp,
        /// What is wrong, in words.
        why: String,
    },
}

/// Something that is asked of the store's thread.
#[derive(Debug)]
pub enum Question {
    /// Events after a number, of one process or all; what is not written yet is written before.
    Events {
        since: u64,
        max: usize,
        of: Option<ProcessId>,
        to: Sender<Result<EventsPage, String>>,
    },
    /// Lines of the audit after a number; what is not written yet is written before.
    Audit {
        since: u64,
        max: usize,
        to: Sender<Result<Vec<AuditLine>, String>>,
    },
    /// Documents of a kind; what is not written yet is written before.
    Documents {
        kind: String,
        to: Sender<Result<Vec<Document>, String>>,
    },
    About {
        to: Sender<Result<About, String>>,
    },
}

/// What is marked and who waits. Shared by all threads.
#[derive(Debug)]
pub struct WriteQueue {
    /// Where the database is; `None`: nothing is kept.
    dir: Option<PathBuf>,
    /// Lines of the audit until they are stored.
    audit: Option<AuditMemory>,
    inner: Mutex<Inner>,
    noting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    marks: Marks,
    marked: WriteSeq,
    /// Up to here what was marked is written, or being written.
    taken: WriteSeq,
    written: WriteSeq,
    /// An answer waits for what is marked.
    urgent: bool,
    /// When what is marked is written at the latest (monotonic ms).
    due: Option<u64>,
    health: Health,
    unrecorded: u64,
    left_out: u64,
    /// The newest event on the disk.
    stored: u64,
    /// It cannot be noted either what sinks are given.
    cannot_note: bool,
    thread: Option<Waker>,
    waiting: Vec<Waker>,
    questions: VecDeque<Question>,
}

/// How soon something is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// When something else is, or when an answer waits for it.
    WithOthers,
    Later,
    /// An answer waits for it.
    Now,
}

/// How far a write is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Pending,
    Written,
    /// The store does not work, for this reason.
    Failing(String),
}

/// What the store's thread is to do.
#[derive(Debug)]
pub struct WriteTask {
    pub marks: Marks,
    /// The marks are those up to this number.
    pub up_to: WriteSeq,
    /// To be answered after the write.
    pub question: Option<Question>,
}

/// What has changed since the last write.
#[derive(Debug, Default)]
pub struct Marks {
    /// Processes whose rows are not what the table of processes says: what it holds by the time of the write
    /// is written, what it does not hold is deleted.
    pub dirty: BTreeSet<ProcessId>,
    pub env: bool,
    /// Something was removed in an earlier write, and is still in the log.
    pub removed: bool,
    events: bool,
    pub cursors: BTreeMap<String, u64>,
    pub audit: BTreeMap<u64, AuditLine>,
    /// By kind and key.
    pub documents: BTreeMap<(String, String), Document>,
}

impl WriteQueue {
    /// Over the database in this directory, or over nothing.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        let health = if dir.is_some() { Health::Opening } else { Health::Off };
        let inner = Mutex::new(Inner { marked: COMPARED, health, ..Inner::default() });
        Self { dir, audit: None, inner, noting: Mutex::default() }
    }

    /// With memory that keeps lines of the audit until they are stored, and those that an engine before left
    /// there.
    #[must_use]
    pub fn with_audit(mut self, (audit, lines): (AuditMemory, Vec<AuditLine>)) -> Self {
        if self.dir.is_some() {
            self.inner.get_mut().marks.audit.extend(lines.into_iter().map(|line| (line.seq, line)));
            self.audit = Some(audit);
        }
        self
    }

    /// A process changed in a way that no answer promises.
    pub fn mark(&self, id: ProcessId) {
        self.change(Haste::Later, |marks| {
            marks.dirty.insert(id);
        });
    }

    /// A process changed in a way that an answer promises; or it is gone, and not in the table any more.
    pub fn mark_now(&self, id: ProcessId) -> WriteSeq {
        self.change(Haste::Now, |marks| {
            marks.dirty.insert(id);
        })
    }

    /// The global environment changed.
    pub fn mark_env(&self) -> WriteSeq {
        self.change(Haste::Now, |marks| marks.env = true)
    }

    /// There are events that no process has on record.
    pub fn mark_events(&self) {
        self.change(Haste::Later, |marks| marks.events = true);
    }

    /// A sink has come this far.
    pub fn mark_cursor(&self, sink: &str, seq: u64) {
        self.change(Haste::Later, |marks| {
            marks.cursors.insert(sink.to_owned(), seq);
        });
    }

    /// A request for a change has come, or has got its result.
    pub fn mark_audit(&self, line: AuditLine) -> WriteSeq {
        self.mark_kept(Some(line), None)
    }

    /// The same with a document, in one write. Without a line it is written with whatever comes next.
    pub fn mark_kept(&self, line: Option<AuditLine>, document: Option<Document>) -> WriteSeq {
        // Most of what is asked has something else written, and waits for that.
        let is_asked = line.as_ref().is_some_and(|line| line.result.is_none());
        let haste = if is_asked { Haste::WithOthers } else { Haste::Later };
        if let (Some(audit), Some(line)) = (&self.audit, &line) {
            audit.keep(line);
        }
        let write_seq = self.change(haste, |marks| {
            marks.audit.extend(line.map(|line| (line.seq, line)));
            marks.documents.extend(document.map(|d| ((d.kind.clone(), d.key.clone()), d)));
        });
        self.inner.lock().limit_audit();
        write_seq
    }

    fn change(&self, haste: Haste, change: impl FnOnce(&mut Marks)) -> WriteSeq {
        let mut inner = self.inner.lock();
        if inner.health == Health::Off {
            return 0;
        }
        change(&mut inner.marks);
        inner.marked += 1;
        if haste == Haste::WithOthers {
            return inner.marked;
        }
        let is_urgent = haste == Haste::Now;
        let is_news = inner.due.is_none() || is_urgent && !inner.urgent;
        inner.due.get_or_insert_with(|| clock::now_ms() + LATER_MS);
        inner.urgent |= is_urgent;
        if is_news {
            inner.thread.iter().for_each(Waker::wake);
        }
        inner.marked
    }

    /// What a write has removed is soon to be overwritten where it still lies.
    pub fn has_removed(&self) {
        self.change(Haste::Later, |marks| marks.removed = true);
    }

    /// How far the write with this number is. The thread hurries where the caller has to wait for it.
    #[must_use]
    pub fn progress(&self, write_seq: WriteSeq) -> Progress {
        let mut inner = self.inner.lock();
        if inner.written >= write_seq || inner.health == Health::Off {
            return Progress::Written;
        }
        if let Health::Degraded { why, .. } = &inner.health {
            return Progress::Failing(why.clone());
        }
        if inner.taken < write_seq && !inner.urgent {
            inner.urgent = true;
            inner.thread.iter().for_each(Waker::wake);
        }
        Progress::Pending
    }

    /// Waits a little until everything is on the disk: the service is about to end.
    pub fn flush(&self) {
        let deadline = clock::now_ms() + TIMEOUT_MS;
        let _woken = self.woken_by_writes(Waker::for_this_thread());
        // Twice: what was removed is overwritten behind a write, and before the next one.
        for _ in 0..2 {
            let up_to = self.change(Haste::Now, |marks| marks.events = true);
            while self.progress(up_to) == Progress::Pending
                && matches!(poll::wait(&mut [], Some(deadline)), Ok(Wait::Woken))
            {}
        }
    }

    /// Up to which event a sink may be given some. After the death of everything, numbers go on behind what
    /// is stored or noted as given, so that no sink ever has two events of one number.
    #[must_use]
    pub fn may_give(&self) -> u64 {
        let inner = self.inner.lock();
        match inner.health {
            Health::Off => u64::MAX,
            Health::Sound => inner.stored,
            Health::Opening | Health::Degraded { .. } if inner.cannot_note => inner.stored,
            Health::Opening | Health::Degraded { .. } => u64::MAX,
        }
    }

    /// A sink is about to be given events up to this one: returns up to which it may. Where the store does
    /// not work, that is noted beside it.
    pub fn give(&self, up_to: u64) -> u64 {
        let max = self.may_give();
        let dir = self.dir.as_ref().filter(|_| max == u64::MAX);
        let Some(dir) = dir.filter(|_| up_to > self.inner.lock().stored) else { return max };
        // Held over a write to the disk: two sinks must not note at once, and nobody else waits for it.
        let _alone = self.noting.lock();
        if numbers::give(dir, up_to).is_err() {
            let mut inner = self.inner.lock();
            inner.cannot_note = true;
            return inner.stored;
        }
        max
    }

    /// Wakes a thread with every write until what is returned is dropped.
    pub fn woken_by_writes(&self, waker: Waker) -> impl Drop {
        Waits::new(self, waker)
    }

    /// Asks the store's thread, and waits for the answer. `question` is given where to send it.
    pub fn ask<T>(&self, question: impl FnOnce(Sender<Result<T, String>>) -> Question) -> Result<T, String> {
        let (to, answer) = bounded(1);
        {
            let mut inner = self.inner.lock();
            if inner.health == Health::Off || inner.questions.len() >= QUESTIONS_MAX {
                return Err("there is no database, or it has too much to do".to_owned());
            }
            inner.questions.push_back(question(to));
            inner.thread.iter().for_each(Waker::wake);
        }
        answer.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| Err("the database does not answer".to_owned()))
    }

    /// How the store is, how many changes are not recorded, and how many events were left out for ever.
    pub fn health(&self) -> (Health, u64, u64) {
        let inner = self.inner.lock();
        (inner.health.clone(), inner.unrecorded, inner.left_out)
    }

    /// Where the database is.
    #[must_use]
    pub fn dir(&self) -> Option<&PathBuf> {
        self.dir.as_ref()
    }
}

/// For the store's thread.
impl WriteQueue {
    /// The store is open. These processes, and perhaps the environment, are not in it as they are.
    pub fn opened(&self, lacking: BTreeSet<ProcessId>, is_env_lacking: bool) {
        let mut inner = self.inner.lock();
        inner.marks.dirty.extend(lacking);
        inner.marks.env |= is_env_lacking;
        inner.marks.events = true;
        inner.urgent = true;
    }

    /// Waits until there is something to do. `None`: the store is not open, and the next attempt to open it
    /// is due; whatever is marked until then waits, and questions are refused.
    pub fn next(&self, is_open: bool) -> Option<WriteTask> {
        loop {
            let mut inner = self.inner.lock();
            inner.thread.get_or_insert_with(Waker::for_this_thread);
            let is_due = inner.due.is_some_and(|due| due <= clock::now_ms());
            if is_open {
                let question = inner.questions.pop_front();
                if inner.urgent || is_due || question.is_some() {
                    inner.urgent = false;
                    inner.due = None;
                    inner.taken = inner.marked;
                    return Some(WriteTask {
                        marks: std::mem::take(&mut inner.marks),
                        up_to: inner.marked,
                        question,
                    });
                }
            } else if is_due {
                return None;
            } else {
                inner.refuse_questions();
            }
            let deadline = inner.due;
            drop(inner);
            let _ = poll::wait(&mut [], deadline);
        }
    }

    /// Everything up to this number is on the disk, and events up to `stored`. Returns whether the store did
    /// not work before.
    pub fn written(&self, up_to: WriteSeq, stored: u64) -> bool {
        let mut inner = self.inner.lock();
        inner.written = up_to;
        inner.stored = stored;
        inner.cannot_note = false;
        inner.unrecorded = 0;
        inner.waiting.iter().for_each(Waker::wake);
        matches!(std::mem::replace(&mut inner.health, Health::Sound), Health::Degraded { .. })
    }

    /// These lines of the audit are on the disk.
    pub fn audit_written(&self, lines: &[AuditLine]) {
        self.audit.iter().for_each(|audit| audit.stored(lines));
    }

    /// These could not be written, and wait together with what was marked meanwhile.
    pub fn put_back(&self, older: Marks, up_to: WriteSeq) {
        let mut inner = self.inner.lock();
        inner.marks.dirty.extend(older.dirty);
        inner.marks.env |= older.env;
        inner.marks.removed |= older.removed;
        inner.marks.events = true;
        for (sink, seq) in older.cursors {
            inner.marks.cursors.entry(sink).or_insert(seq);
        }
        for (name, document) in older.documents {
            inner.marks.documents.entry(name).or_insert(document);
        }
        for (seq, line) in older.audit {
            inner.marks.audit.entry(seq).or_insert(line);
        }
        inner.limit_audit();
        inner.unrecorded = up_to - inner.written;
    }

    /// The store does not work: clients do not wait for it, and it is tried again. Returns whether this is
    /// news.
    pub fn failed(&self, message: &str) -> bool {
        let mut inner = self.inner.lock();
        let (since, is_news) = match &inner.health {
            Health::Degraded { since, why } => (*since, why != message),
            Health::Off | Health::Opening | Health::Sound => (Timestamp::now(), true),
        };
        inner.health = Health::Degraded { since, why: message.to_owned() };
        inner.urgent = false;
        inner.due = Some(clock::now_ms() + RETRY_MS);
        inner.refuse_questions();
        inner.waiting.iter().for_each(Waker::wake);
        is_news
    }

    /// So many events will never be in the store.
    pub fn left_out(&self, events: u64) {
        self.inner.lock().left_out += events;
    }
}

impl Inner {
    /// Keeps the audit to the memory that there is for it.
    fn limit_audit(&mut self) {
        while self.marks.audit.len() > LINES_MAX {
            self.marks.audit.pop_first();
            self.left_out += 1;
        }
    }

    /// A store that does not work answers nothing.
    fn refuse_questions(&mut self) {
        let Health::Degraded { why, .. } = &self.health else { return };
        for question in self.questions.drain(..) {
            // The client may have gone.
            match question {
                Question::Events { to, .. } => drop(to.send(Err(why.clone()))),
                Question::Audit { to, .. } => drop(to.send(Err(why.clone()))),
                Question::Documents { to, .. } => drop(to.send(Err(why.clone()))),
                Question::About { to } => drop(to.send(Err(why.clone()))),
            }
        }
    }
}

/// Keeps a thread being woken by writes.
struct Waits<'l>(&'l WriteQueue, Waker);

impl<'l> Waits<'l> {
    fn new(write_queue: &'l WriteQueue, waker: Waker) -> Self {
        write_queue.inner.lock().waiting.push(waker.clone());
        Self(write_queue, waker)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        if let Some(at) = inner.waiting.iter().position(|w| w.is(&self.1)) {
            inner.waiting.swap_remove(at);
        }
    }
}
