//! A process as the rest of the engine holds it: its present spec and its memory, a way to send it messages,
//! and what it looked like after its last transition.
//!
//! The record is owned by the process's thread while there is one (active), and lies here while there is none
//! (idle): a process at rest costs no thread. A message to an idle process starts its thread.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::engine::context::Context;
use crate::engine::memory::Memory;
use crate::engine::process::input::StopOrder;
use crate::engine::process::log_state::LogState;
use crate::engine::process::probe::describe;
use crate::engine::process::restart::is_done;
use crate::engine::process::standing::{Going, standing};
use crate::engine::write_queue::{COMPARED, WriteSeq};
use crate::sys::cgroup::Cgroup;
use crate::sys::poll::Waker;
use crate::sys::thread;
use crate::wire::error::{Code, Error};
use crate::wire::event::is_of_another;
use crate::wire::id::{Name, OrderKey, ProcessId};
use crate::wire::keeper::{Ended, Step};
use crate::wire::leader::Leader;
use crate::wire::process::{Process as Shown, State};
use crate::wire::record::{Record, StopPhase};
use crate::wire::request::OutdatedRun;
use crate::wire::spec::{Scope, Spec};
use crate::wire::time::Timestamp;

/// How much of a command line is shown, in bytes.
const COMMAND_SHOWN_MAX: usize = 4096;

/// When it is tried again to start what is due, where there is no thread for it, ms.
const DUE_AGAIN_MS: u64 = 1000;

/// What a process's thread is told.
#[derive(Debug)]
pub enum Msg {
    Ask {
        what: Ask,
        cause: String,
        answer: AnswerTo,
    },
    /// From the keeper: a child was spawned.
    Spawned {
        run: u64,
        pid: u32,
        leader: Leader,
        pipes: Option<(OwnedFd, OwnedFd)>,
    },
    /// From the keeper: no child was spawned.
    NotSpawned {
        run: u64,
        step: Step,
        errno: i32,
    },
    /// From the keeper: a run ended.
    Exited {
        run: u64,
        ended: Ended,
    },
    /// From the keeper: the main process is gone, and nobody saw how it ended.
    Lost {
        run: u64,
    },
    /// From the last engine, through the keeper.
    Resume(Inherited),
    /// A time of its schedule may have come, or the clock was set.
    Due,
}

/// What a person may want of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Start,
    /// Be started by its schedule from now on.
    Schedule,
    Stop(StopOrder),
    /// `key`: one that has come before is not done again.
    Restart {
        key: Option<OrderKey>,
    },
    Signal {
        signal: u32,
        scope: Scope,
        key: Option<OrderKey>,
    },
    /// Be run in another way from now on.
    Update {
        spec: Arc<Spec>,
        outdated: OutdatedRun,
    },
    Remove,
}

/// What the keeper still had of a process when this engine came up.
#[derive(Debug)]
pub struct Inherited {
    /// The last run that the keeper began.
    pub run: u64,
    /// 0: it does not run.
    pub pid: u32,
    pub leader: Leader,
    pub pipes: Option<(OwnedFd, OwnedFd)>,
    pub ended: Option<Ended>,
    /// Where an earlier service had it, if it has outlived that.
    pub cgroup: Option<Cgroup>,
    /// Where it says that it is ready.
    pub notify: Option<OwnedFd>,
}

/// Where the answer to an [`Ask`] goes; the waiting thread is woken.
#[derive(Clone, Debug)]
pub struct AnswerTo {
    /// Boxed, since the channel makes room for 31 at a time.
    to: Sender<Box<Answered>>,
    tag: usize,
    waker: Waker,
}

/// The process as it was when the ask was done with, and what went wrong.
#[derive(Debug)]
pub struct Answered {
    /// Which of several asks this answers.
    pub tag: usize,
    pub shown: Shown,
    pub error: Option<Error>,
    /// Why it is not recorded, if it is not.
    pub unrecorded: Option<String>,
}

impl AnswerTo {
    pub fn new(to: Sender<Box<Answered>>, tag: usize, waker: Waker) -> Self {
        Self { to, tag, waker }
    }

    pub fn give(self, shown: Shown, error: Option<Error>) {
        // A client that went away does not want it any more.
        let _ = self.to.send(Box::new(Answered { tag: self.tag, shown, error, unrecorded: None }));
        self.waker.wake();
    }
}

/// What the thread of a process runs, until the process is idle again: `worker::run`. Handed in, since the
/// worker knows this file and not the other way round. The record is boxed, since whatever hands it on would
/// have a copy of it in the frames of the thread's stack.
pub type Work = fn(Arc<Process>, Box<Record>);

/// A process. Shared; its thread is the only one that changes what it is.
#[derive(Debug)]
pub struct Process {
    pub id: ProcessId,
    pub name: Option<Name>,
    /// The service runs it for itself: only its own name or id means it.
    pub is_internal: bool,
    /// Replaced by its thread alone.
    spec: Mutex<Arc<Spec>>,
    pub memory: Memory,
    pub context: Arc<Context>,
    /// How far its log is.
    pub log: LogState,
    /// What its thread does with its record.
    work: Work,
    inner: Mutex<Inner>,
    /// What the last look whether it is ready met; empty: nothing, or there was none yet.
    last_look: Mutex<String>,
    watched: AtomicUsize,
    /// The mark of the last change that somebody was promised.
    write_seq: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Msg>,
    activity: Activity,
    shown: Record,
    watchers: Vec<Waker>,
    /// The thread has nothing else left to wake it.
    is_awaited: bool,
}

/// Who owns the record.
#[derive(Debug)]
enum Activity {
    Idle(Box<Record>),
    /// With the thread that this wakes; none until it has said so.
    Active(Option<Waker>),
    Removed,
}

impl Process {
    pub fn new(spec: Spec, memory: Memory, record: Record, context: Arc<Context>, work: Work) -> Self {
        Self {
            id: record.id,
            name: record.name.clone(),
            is_internal: record.internal,
            log: {
                let position = memory.log_position();
                LogState::new(spec.log.is_on(), position.offset, position.lost)
            },
            spec: Mutex::new(Arc::new(spec)),
            memory,
            context,
            work,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                shown: record.clone(),
                activity: Activity::Idle(Box::new(record)),
                watchers: Vec::new(),
                is_awaited: false,
            }),
            last_look: Mutex::default(),
            watched: AtomicUsize::new(0),
            write_seq: AtomicU64::new(COMPARED),
        }
    }

    /// Sends a message, and starts the thread if there is none.
    pub fn send(self: &Arc<Self>, msg: Msg) {
        let mut inner = self.inner.lock();
        match &mut inner.activity {
            Activity::Removed => {
                drop(inner);
                self.refuse(msg);
            }
            Activity::Active(waker) => {
                let waker = waker.clone();
                inner.queue.push_back(msg);
                drop(inner);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Activity::Idle(_) => {
                let Activity::Idle(record) = std::mem::replace(&mut inner.activity, Activity::Active(None))
                else {
                    unreachable!("matched above")
                };
                inner.queue.push_back(msg);
                drop(inner);
                self.start_thread(record);
            }
        }
    }

    /// Sends a message that can wait until the thread wakes for something else.
    pub fn send_unhurried(self: &Arc<Self>, msg: Msg) {
        let mut inner = self.inner.lock();
        if matches!(inner.activity, Activity::Active(_)) && !inner.is_awaited {
            inner.queue.push_back(msg);
        } else {
            inner.is_awaited = false;
            drop(inner);
            self.send(msg);
        }
    }

    fn start_thread(self: &Arc<Self>, record: Box<Record>) {
        let process = Arc::clone(self);
        let idle_record = record.clone();
        let spawned = thread::spawn(&format!("proc-{}", self.id.short()), move || {
            (process.work)(Arc::clone(&process), record)
        });
        if let Err(e) = spawned {
            // Without a thread nothing can be begun; what is asked is refused, and the process is idle again.
            let mut inner = self.inner.lock();
            inner.activity = Activity::Idle(idle_record);
            let queue = std::mem::take(&mut inner.queue);
            drop(inner);
            let error = Error::new(Code::Refused, format!("cannot start a thread for the process: {e}"))
                .hint("see the limits of threads: 'ulimit -u', and pids.max of the service's cgroup");
            for msg in queue {
                match msg {
                    Msg::Ask { answer, .. } => answer.give(self.show(), Some(error.clone())),
                    Msg::Due => self.put_schedule(Some(Timestamp(Timestamp::now().0 + DUE_AGAIN_MS))),
                    // Something runs that nobody would look after: the next engine takes it over, more slowly
                    // each time.
                    Msg::Resume(_)
                    | Msg::Spawned { .. }
                    | Msg::NotSpawned { .. }
                    | Msg::Exited { .. }
                    | Msg::Lost { .. } => {
                        panic!("{}", error.message)
                    }
                }
            }
        }
    }

    fn refuse(&self, msg: Msg) {
        if let Msg::Ask { answer, .. } = msg {
            let error = Error::new(Code::NotFound, format!("{} was removed", self.label()));
            answer.give(self.show(), Some(error));
        }
    }

    /// The name, or else the id.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.id.to_string(), |n| n.as_str().to_owned())
    }

    /// For the process's thread: the next message that could wait is waited for.
    pub fn await_message(&self) {
        self.inner.lock().is_awaited = true;
    }

    /// For the process's thread: from now on it is woken by messages.
    pub fn here(&self, waker: Waker) {
        if let Activity::Active(to) = &mut self.inner.lock().activity {
            *to = Some(waker);
        }
    }

    /// For the process's thread: the next message.
    pub fn next_msg(&self) -> Option<Msg> {
        self.inner.lock().queue.pop_front()
    }

    /// For the process's thread: gives the record back, and the thread ends. `Some`: a message has come, it
    /// goes on.
    pub fn become_idle(&self, record: Box<Record>) -> Option<Box<Record>> {
        let mut inner = self.inner.lock();
        if !inner.queue.is_empty() {
            return Some(record);
        }
        inner.activity = Activity::Idle(record);
        drop(inner);
        self.context.ended.mark();
        None
    }

    /// For the process's thread: it is removed. The thread ends.
    pub fn end(&self) {
        let mut inner = self.inner.lock();
        inner.activity = Activity::Removed;
        self.context.board.remove(self.id);
        self.put_schedule(None);
        let queue = std::mem::take(&mut inner.queue);
        drop(inner);
        for msg in queue {
            self.refuse(msg);
        }
        self.wake_watchers();
    }

    /// For the process's thread: what it looks like now.
    pub fn publish(&self, record: &Record) {
        self.inner.lock().shown.clone_from(record);
        self.wake_watchers();
    }

    /// For the process's thread: there is more output, or another state.
    pub fn wake_watchers(&self) {
        if self.watched.load(Ordering::Acquire) > 0 {
            for watcher in &self.inner.lock().watchers {
                watcher.wake();
            }
        }
    }

    /// There is more output: if it has a log, the thread that writes the logs is to know.
    pub fn mark_log(&self) {
        if self.log.mark() {
            self.context.logs.mark(self.id);
        }
    }

    /// Wakes its thread, if it has one.
    pub fn wake(&self) {
        if let Activity::Active(Some(waker)) = &self.inner.lock().activity {
            waker.wake();
        }
    }

    /// Wakes the caller with every change and all output, until the watch is dropped.
    pub fn watch(self: &Arc<Self>, waker: Waker) -> Watch {
        self.inner.lock().watchers.push(waker.clone());
        self.watched.fetch_add(1, Ordering::AcqRel);
        Watch { process: Arc::clone(self), waker }
    }

    /// It has changed: the store is to know. `is_promised`: somebody will be told so.
    pub fn mark(&self, is_promised: bool) {
        // Those are the configuration's.
        if self.is_internal {
            return;
        }
        let write_queue = &self.context.write_queue;
        if is_promised {
            self.write_seq.store(write_queue.mark_now(self.id), Ordering::Release);
        } else {
            write_queue.mark(self.id);
        }
    }

    /// What has to be written before anybody is told that its last change is done.
    pub fn write_seq(&self) -> WriteSeq {
        self.write_seq.load(Ordering::Acquire)
    }

    /// The record as of the last transition.
    pub fn record(&self) -> Record {
        self.inner.lock().shown.clone()
    }

    /// Whether its last change follows from what was done to another process.
    pub fn is_follower(&self) -> bool {
        is_of_another(&self.inner.lock().shown.cause)
    }

    /// How it is to be run, as of now.
    pub fn spec(&self) -> Arc<Spec> {
        Arc::clone(&self.spec.lock())
    }

    /// For the process's thread: it is to be run in another way.
    pub fn set_spec(&self, spec: Arc<Spec>) {
        *self.spec.lock() = spec;
    }

    /// For its thread: what the last look whether it is ready met.
    pub fn set_last_look(&self, met: &str) {
        let mut last = self.last_look.lock();
        if *last != met {
            met.clone_into(&mut last);
        }
    }

    /// For whom its start waits; once it runs, what is to show that it is ready. Empty: nothing.
    pub fn waits_for(&self, record: &Record, spec: &Spec) -> String {
        if record.state != State::Running {
            return record.waits_for.clone();
        }
        match &spec.ready {
            Some(measure) if !record.ready => describe(measure, &self.last_look.lock()),
            Some(_) | None => String::new(),
        }
    }

    /// Whether it was removed.
    pub fn is_removed(&self) -> bool {
        matches!(self.inner.lock().activity, Activity::Removed)
    }

    /// Whether somebody else may need it, or it them: how it rests, or will be taken over, as of now.
    pub fn put_standing(&self) {
        self.context.board.put(self.id, standing(&self.record(), &self.spec(), Going::Stays));
    }

    /// It is due then, by its schedule.
    pub fn put_schedule(&self, due: Option<Timestamp>) {
        self.context.schedules.put(self.id, due);
    }

    /// As clients see it.
    pub fn show(&self) -> Shown {
        let (record, spec) = (self.record(), self.spec());
        let kept = self.memory.ring().kept();
        let ready = record.ready || is_done(&record, &spec);
        let unwritten = if self.log.is_on() { kept.start.saturating_sub(self.log.written()) } else { 0 };
        let deadline_in = |state: State| record.deadline_at.filter(|_| record.state == state);
        let is_asked = record.state == State::Stopping && record.stop.phase == StopPhase::Asked;
        let is_last = spec.stop.steps.len() <= record.stop.step as usize;
        let asked_at = |deadline: Timestamp| Timestamp(deadline.0.saturating_sub(record.stop.timeout_ms));
        Shown {
            waits_for: self.waits_for(&record, &spec),
            id: record.id,
            next_attempt_at: deadline_in(State::Backoff),
            kill_at: deadline_in(State::Stopping).filter(|_| !record.stop.no_kill && is_asked && is_last),
            stop_signal: if record.state == State::Stopping { record.stop.signal } else { 0 },
            stop_asked_at: record.deadline_at.filter(|_| is_asked).map(asked_at),
            run_output_start: record.output_from,
            name: record.name,
            instance: record.instance,
            run: record.run,
            state: record.state,
            ready,
            pid: record.pid,
            restarts: record.restarts,
            created_at: record.created_at,
            started_at: record.started_at,
            stopped_at: record.stopped_at,
            exit: record.exit,
            start_failure: record.start_failure,
            command: shown_command(&spec.command),
            attempts: record.attempts,
            window_restarts: record.window_restarts,
            max_restarts: spec.restart.max_restarts,
            cause: record.cause,
            restart: spec.restart.policy,
            output_start: kept.start,
            output_end: kept.end,
            stuck: record.stuck,
            labels: spec.labels.clone(),
            cwd: spec.cwd.clone().unwrap_or_else(|| "/".to_owned()),
            user: spec.user.clone(),
            internal: record.internal,
            hook: record.hook.map(|when| when.name().to_owned()).unwrap_or_default(),
            limits: Box::new(spec.cgroup),
            limits_trouble: record.limits_trouble,
            is_blocked: record.is_blocked,
            log_trouble: self.log.trouble(),
            log_lost: self.log.lost() + unwritten,
            log_files: self.context.logs.files(&spec.log, &self.label()),
            next_run_at: record.next_run_at,
            schedule: if spec.schedule.is_on() {
                Arc::new(spec.schedule.with_zone())
            } else {
                Arc::clone(&spec.schedule)
            },
            unfit: record.unfit,
            status: record.status,
            halted: false,
            usage: None,
            outdated: record.outdated && !record.state.is_at_rest() && record.state != State::Backoff,
        }
    }
}

fn shown_command(command: &[String]) -> Vec<String> {
    let mut left = COMMAND_SHOWN_MAX;
    let mut shown = Vec::new();
    for arg in command {
        if arg.len() > left {
            let end = (0..=left).rev().find(|&n| arg.is_char_boundary(n)).unwrap_or(0);
            shown.push(format!("{}...", &arg[..end]));
            break;
        }
        left -= arg.len();
        shown.push(arg.clone());
    }
    shown
}

/// Keeps a thread being woken by a process.
#[derive(Debug)]
pub struct Watch {
    process: Arc<Process>,
    waker: Waker,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.process.inner.lock();
        if let Some(at) = inner.watchers.iter().position(|w| w.is(&self.waker)) {
            inner.watchers.swap_remove(at);
            self.process.watched.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
