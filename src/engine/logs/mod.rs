//! The logs of processes: their output, written to files. One thread (`logs`) for all of them, woken by marks
//! (`engine/log_queue.rs`) and one deadline. It reads the rings as any reader does, and puts on record how
//! far it is (`engine/memory.rs`) after each write: an engine that is killed in the middle of one leaves
//! bytes behind the recorded length, which the next one cuts off and writes again. So each line is there
//! once.
//!
//! A process's thread takes no output that would overwrite what is still to be written, so a child waits for
//! its file, as long as the file takes what is written to it (`engine/process/worker/output.rs`).

mod cut;
mod file;
mod follower;
mod message;
mod old;
mod outbox;
mod render;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::logs::file::{LogFile, place};
use crate::engine::logs::follower::{Follower, Step};
use crate::engine::logs::old::Clearing;
use crate::engine::process::handle::Process;
use crate::engine::table::Table;
use crate::sys::clock;
use crate::sys::poll::{self, PollFd, Waker};
use crate::sys::thread;
use crate::wire::error::{Code, Error};
use crate::wire::id::{ProcessId, quoted};
use crate::wire::receiver::Receiver;
use crate::wire::spec::Spec;

const THREAD: &str = "logs";
/// How long the end of the service waits for slow files, ms.
const FINISH_MS: u64 = 3000;

/// Starts the thread, with all that an earlier engine has left to it.
pub fn start(context: &Arc<Context>, table: &Arc<Table>) -> io::Result<()> {
    let (context, table) = (Arc::clone(context), Arc::clone(table));
    table.all().iter().for_each(|process| process.mark_log());
    thread::spawn(THREAD, move || run(&context, &table)).map(drop)
}

fn run(context: &Context, table: &Table) {
    let clearing = Arc::new(Clearing::default());
    let mut followers: BTreeMap<ProcessId, (Follower, Step)> = BTreeMap::new();
    loop {
        for id in context.logs.take() {
            match followers.get_mut(&id) {
                // What is retried waits for its time; everything else is looked at anew.
                Some((_, step)) => *step = Step::More,
                None => {
                    if let Some(process) = table.get(id) {
                        followers.insert(id, (Follower::new(process), Step::More));
                    }
                }
            }
        }
        let now = clock::now_ms();
        let mut is_more = false;
        for (follower, step) in followers.values_mut() {
            if *step == Step::More || matches!(step, Step::At(at) | Step::Full(at) if *at <= now) {
                context.logs.begins();
                *step = follower.step(&clearing);
                is_more |= *step == Step::More;
            }
        }
        followers.retain(|_, (_, step)| *step != Step::Over);
        if !is_more {
            context.logs.rests();
            let due = followers.values().filter_map(|(_, step)| match step {
                Step::At(at) | Step::Full(at) => Some(*at),
                Step::More | Step::Rests | Step::Over => None,
            });
            let due = due.min();
            let full = followers.iter().filter(|(_, (_, step))| matches!(step, Step::Full(_)));
            let (ids, mut fds): (Vec<_>, Vec<_>) = full
                .filter_map(|(id, (follower, _))| Some((*id, PollFd::writable(follower.awaits()?))))
                .unzip();
            if poll::wait(&mut fds, due).is_err() {
                return;
            }
            let ready: Vec<_> = ids.into_iter().zip(&fds).filter(|(_, fd)| fd.is_ready()).collect();
            let ready: Vec<_> = ready.into_iter().map(|(id, _)| id).collect();
            for id in ready {
                followers.entry(id).and_modify(|(_, step)| *step = Step::More);
            }
        }
    }
}

/// At the end of the service: waits until what is there is written, if the files take it.
pub fn finish(context: &Context, table: &Table) {
    let until = clock::now_ms() + FINISH_MS;
    let is_open = |process: &Arc<Process>| !process.log.is_done(process.memory.ring().head());
    let mut open: Vec<_> = table.all().into_iter().filter(is_open).collect();
    let _watches: Vec<_> = open.iter().map(|process| process.watch(Waker::for_this_thread())).collect();
    loop {
        open.iter().for_each(|process| process.mark_log());
        open.retain(is_open);
        if open.is_empty() || context.logs.is_stuck() || clock::now_ms() >= until {
            return;
        }
        let _ = poll::wait(&mut [], Some(until));
    }
}

/// Whether the files of this process can be written: they are opened once, and belong to nobody else.
pub fn check(context: &Context, table: &Table, spec: &Spec, id: ProcessId) -> Result<(), Error> {
    if !spec.log.is_on() {
        return Ok(());
    }
    if let Some(to) = &spec.log.to {
        let receiver = Receiver::parse(to)?;
        return outbox::connect(&receiver).map(drop).map_err(|e| {
            Error::new(Code::Refused, format!("{} receives no lines: {e}", receiver.path)).hint(
                "it is the socket of a program that has to run, and may have another path: syslog:/PATH",
            )
        });
    }
    let dir = context.logs.dir();
    let paths = |spec: &Spec, id: ProcessId| {
        let label = spec.name.as_ref().map_or_else(|| id.to_string(), |name| name.as_str().to_owned());
        spec.log.paths_of(&label).into_iter().flatten()
    };
    let of = |spec: &Spec, id: ProcessId| -> Vec<PathBuf> {
        paths(spec, id).filter_map(|path| Some(place(&path, dir).ok()?.0.components().collect())).collect()
    };
    let ours = of(spec, id);
    for other in table.all().iter().filter(|other| other.id != id && other.log.is_on()) {
        if let Some(path) = of(&other.spec(), other.id).iter().find(|path| ours.contains(path)) {
            let e = format!("{} is the log of {}", path.display(), other.label());
            return Err(
                Error::new(Code::Refused, e).hint("give each a file of its own, as with {name} in the path")
            );
        }
    }
    for path in paths(spec, id) {
        LogFile::open(&path, dir).map_err(|e| {
            let parent = Path::new(&path).parent().unwrap_or(Path::new("/"));
            let directory = quoted(&parent.to_string_lossy());
            let (why, hint) = match e.kind() {
                io::ErrorKind::NotFound => {
                    (format!("there is no directory {directory}"), format!("make it: mkdir -p {directory}"))
                }
                _ => (e.to_string(), "no part of its path may be a symbolic link".to_owned()),
            };
            Error::new(Code::Refused, format!("the log {path} cannot be written: {why}")).hint(hint)
        })?;
    }
    Ok(())
}
