//! The service itself: knows what should run, and keeps it so.
//!
//! This thread listens to the keeper and hands its messages to the processes; `src/lib.rs` lists the other
//! threads. It may be killed at any instruction: what must not be lost is in memory that the keeper holds,
//! and the next engine goes on from there. A panic in any of its threads is its end, too.

#![forbid(unsafe_code)]

pub mod audit_memory;
mod board;
pub mod context;
mod drain;
mod ended;
pub mod feed;
pub mod history;
mod holds;
pub mod internal;
mod limit_mark;
pub mod log_queue;
pub mod logs;
mod look;
pub mod memory;
pub mod process;
pub mod reconcile;
pub mod reserve;
mod restore;
pub mod retention;
pub mod schedule_queue;
mod schedules;
pub mod service;
pub mod settings;
mod spawns;
pub mod store;
mod store_writer;
mod survivors;
pub mod table;
mod takeover;
pub mod write_queue;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::engine::history::journal;
use crate::engine::process::handle::{AnswerTo, Answered, Ask, Msg, Process};
use crate::engine::process::input::StopOrder;
use crate::engine::service::Engine;
use crate::engine::settings::SinkSettings;
use crate::engine::store::{ErrorKind, Opened, Sqlite};
use crate::engine::takeover::TakenOver;
use crate::listener::{self, Limits, Service, Ways};
use crate::sys::memory::forget_code;
use crate::sys::pidfd::PidFd;
use crate::sys::poll::Waker;
use crate::sys::socket::{Blocking, recvmsg};
use crate::sys::{rest, signal, thread};
use crate::wire::error::{Code, Error};
use crate::wire::id::GATEWAY;
use crate::wire::keeper::{MESSAGE_LEN, ToEngine, ToKeeper};
use crate::wire::time::{Timestamp, millis};

pub use crate::engine::takeover::Options;

/// Runs the engine until its keeper is gone.
pub fn run(options: Options) -> Result<std::convert::Infallible, Error> {
    let (sinks, internal) = (options.sinks.clone(), options.internal.clone());
    let groups = options.groups.clone();
    let TakenOver { engine, listener, gateway, opened } =
        takeover::take_over(options, internal::run_on_demand, internal::reload)?;
    let engine = Arc::new(engine);
    // Nobody else has it yet.
    let _ = engine.itself.set(Arc::downgrade(&engine));
    let ours = Arc::downgrade(&engine);
    engine.context.host.is_run_by(Box::new(move || internal::run_host(&ours)));
    keep_history(&engine, &sinks, opened)?;
    logs::start(&engine.context, &engine.table).map_err(no_thread)?;
    schedules::start(&engine.context, &engine.table).map_err(no_thread)?;
    rest::begin().map_err(no_thread)?;
    ended::look_after(&engine).map_err(no_thread)?;
    internal::look_after(&engine, internal)
        .and_then(|()| internal::await_grpc(&engine, GATEWAY))
        .map_err(no_thread)?;
    let behind: Arc<dyn Service> = Arc::clone(&engine) as Arc<dyn Service>;
    let ours = Arc::clone(&engine);
    // The last one: it says that the engine is ready, and then all of it is there.
    thread::spawn("listener", move || {
        // An error shows where the keeper is listened to.
        let ready = || {
            drop(ours.context.link.send(&ToKeeper::Ready, &[]));
            forget_code();
        };
        let ways = Ways { listener: &listener, gateway: gateway.as_ref() };
        let error = listener::run(ways, &behind, Limits::default(), &groups, ready);
        // Without a listener no client can connect: the next engine opens it again.
        panic!("the listener cannot be kept: {error}");
    })
    .map_err(|e| Error::failed("start the listener thread", &e))?;
    listen(&engine)
}

/// Looks whether the store can be used, and changes nothing but to make it where there is none. One that is
/// damaged is no obstacle: the engine sets it aside.
pub fn check(state: Option<&Path>) -> Result<(), Error> {
    let Some(state) = state else { return Ok(()) };
    match Sqlite::open(state).and_then(|mut store| store.load()) {
        Err(e) if e.kind != ErrorKind::Corrupt => Err(e.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Starts the store's thread and the sinks.
fn keep_history(engine: &Arc<Engine>, sinks: &[SinkSettings], opened: Option<Opened>) -> Result<(), Error> {
    if engine.context.write_queue.dir().is_none() {
        return journal::start_sinks(&engine.context, &engine.sinks, sinks, None).map_err(no_thread);
    }
    let (context, table, states) =
        (Arc::clone(&engine.context), Arc::clone(&engine.table), Arc::clone(&engine.sinks));
    let sinks = sinks.to_vec();
    // The sinks follow when the store has told where they were.
    thread::spawn("store", move || store_writer::run(&context, &table, &states, sinks, opened))
        .map_err(no_thread)
        .map(drop)
}

fn no_thread(e: io::Error) -> Error {
    Error::failed("start a thread", &e)
}

/// Takes the keeper's messages to the processes they are about. Never sends, so that neither side can wait
/// for the other.
fn listen(engine: &Arc<Engine>) -> Result<std::convert::Infallible, Error> {
    let mut buf = [0; MESSAGE_LEN];
    loop {
        let gone = |why: String| Error::new(Code::Unreachable, format!("the keeper is gone: {why}"));
        match recvmsg(engine.context.link.as_fd(), &mut buf, Blocking::Wait) {
            Err(e) => return Err(gone(e.to_string())),
            Ok((0, _)) => return Err(gone("its end of the channel is closed".into())),
            Ok((len, fds)) => {
                if let Some(message) = ToEngine::decode(&buf[..len]) {
                    deliver(engine, message, fds);
                }
            }
        }
    }
}

fn deliver(engine: &Arc<Engine>, message: ToEngine, fds: Vec<OwnedFd>) {
    let (id, msg) = match message {
        ToEngine::Spawned { id, run, pid } => {
            let mut fds = fds.into_iter();
            let pidfd = fds.next().map(PidFd::from_fd);
            let leader = engine.context.spawns.leader(id, run, pid, pidfd.as_ref());
            // Out of descriptors, the kernel drops those of a message; then there is one that cannot be
            // looked after.
            let pipes = fds.next().zip(fds.next());
            if let Some(process) = engine.table.get(id) {
                // It is woken by the exec, or by what stands in its way: one wake for both.
                process.send_unhurried(Msg::Spawned { run, pid, leader, pipes });
            }
            return;
        }
        ToEngine::NotSpawned { id, run, step, errno } => (id, Msg::NotSpawned { run, step, errno }),
        ToEngine::Exited { id, run, ended } => (id, Msg::Exited { run, ended }),
        ToEngine::Lost { id, run } => (id, Msg::Lost { run }),
        ToEngine::StopAll { hurry } => return stop_all(engine, hurry),
        ToEngine::Upgrade(outcome) => return engine.upgrades.decided(outcome),
        // Only at the beginning.
        ToEngine::Hello { .. } | ToEngine::Entry { .. } | ToEngine::Notify { .. } | ToEngine::Listed => {
            return;
        }
    };
    if let Some(process) = engine.table.get(id) {
        process.send(msg);
    }
}

/// What an orderly end of the service may take beside the graces of its processes, ms: SIGKILL, and the
/// store.
const STOP_BESIDE_GRACE_MS: u64 = 10_000;

/// From when on it is said for whom the end of the service waits, and of how many.
const STOP_TOLD_AFTER: Duration = Duration::from_secs(1);
const STOP_TOLD_MAX: usize = 5;

/// Ends everything and says so to the keeper, on a thread of its own: the keeper's messages are needed for
/// it.
fn stop_all(engine: &Arc<Engine>, hurry: bool) {
    engine.context.stopping.store(true, Ordering::Release);
    let all = engine.table.all();
    let ending = Arc::clone(engine);
    let spawned = thread::spawn("stop-all", move || {
        // First what the service runs for itself: it lets others in.
        let (internal, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| p.is_internal);
        if !hurry {
            let grace = |some: &[Arc<Process>]| some.iter().map(|p| p.spec().stop_time()).max();
            let graces = [grace(&internal), grace(&others)].into_iter().flatten().sum::<Duration>();
            // Who is needed goes after those who need it.
            let chain = ending.context.board.longest_wait_ms();
            let ms = millis(graces).saturating_add(chain).saturating_add(STOP_BESIDE_GRACE_MS);
            let _ = ending.context.link.send(&ToKeeper::StopTakes { ms }, &[]);
        }
        for some in [internal, others] {
            let (to, answers) = unbounded();
            for (tag, process) in some.iter().enumerate() {
                let answer = AnswerTo::new(to.clone(), tag, Waker::for_this_thread());
                let order = if hurry { StopOrder::at_once() } else { StopOrder::default() };
                let what = Ask::Stop(StopOrder { for_now: true, ..order });
                process.send(Msg::Ask { what, cause: "end of the service".to_owned(), answer });
            }
            drop(to);
            // Each answers once: gone, or stuck and beyond our means.
            await_all(&ending, &some, &answers);
        }
        logs::finish(&ending.context, &ending.table);
        ending.context.write_queue.flush();
        let _ = ending.context.link.send(&ToKeeper::AllStopped, &[]);
    });
    if spawned.is_err() {
        // The keeper's own deadline ends the service then.
        engine.context.stopping.store(true, Ordering::Release);
    }
}

/// Waits until each has answered, and says for whom, again after twice the time.
fn await_all(engine: &Engine, some: &[Arc<Process>], answers: &Receiver<Box<Answered>>) {
    let (begin, mut step, mut left) = (Instant::now(), STOP_TOLD_AFTER, some.len());
    while left > 0 {
        match answers.recv_timeout((begin + step).saturating_duration_since(Instant::now())) {
            Ok(_) => left -= 1,
            Err(RecvTimeoutError::Timeout) => {
                engine.context.say(&waits_for(some, Timestamp::now()));
                step *= 2;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// `waits for web-1 (SIGTERM 4 s ago, SIGKILL in 6 s)`.
fn waits_for(some: &[Arc<Process>], now: Timestamp) -> String {
    let left = some.iter().map(|p| p.show()).filter(|p| !p.state.is_at_rest());
    let mut parts: Vec<String> = left
        .map(|p| {
            let seconds = |from: Timestamp, to: Timestamp| to.0.saturating_sub(from.0) / 1000;
            let asked = p
                .stop_asked_at
                .map(|at| format!("{} {} s ago", signal::name(p.stop_signal), seconds(at, now)));
            let kill = p.kill_at.map(|at| format!("SIGKILL in {} s", seconds(now, at)));
            let how: Vec<String> = asked.into_iter().chain(kill).collect();
            if how.is_empty() { p.label() } else { format!("{} ({})", p.label(), how.join(", ")) }
        })
        .collect();
    let more = parts.len().saturating_sub(STOP_TOLD_MAX);
    parts.truncate(STOP_TOLD_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("waits for {}{more}", parts.join(", "))
}
