//! What the service runs for itself: brought to what the configuration says as soon as an engine is up, and
//! spoken of in the service's log. It is kept like any process, but in no store: it begins again with the
//! service. Its thread (`internal`) is there if there is anything to look after; woken by those processes,
//! and by the end of an upgrade.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};

use crossbeam_channel::bounded;

use crate::engine::memory::Memory;
use crate::engine::process::fresh::fresh;
use crate::engine::process::handle::{AnswerTo, Answered, Ask, Msg, Process};
use crate::engine::process::input::StopOrder;
use crate::engine::process::worker;
use crate::engine::service::Engine;
use crate::engine::settings::GatewaySpecs;
use crate::sys::poll::{self, PollFd, Waker};
use crate::sys::{clock, signal, system, thread};
use crate::wire::error::{Code, Error};
use crate::wire::id::{APPLY, GATEWAY, ProcessId};
use crate::wire::probes::Readiness;
use crate::wire::process::{End, State};
use crate::wire::provider::HOST;
use crate::wire::record::Record;
use crate::wire::request::StreamKind;
use crate::wire::spec::Spec;

/// The keeper's program, whatever has become of its path: what a child executes by this name.
pub const INTERNAL_PROGRAM: &str = "/proc/self/exe";
/// The cause of events that are brought about here.
const CAUSE: &str = "service";
/// The thread that looks after them.
const THREAD: &str = "internal";
/// How far back a line of output is looked for, in bytes.
const LOOK_BACK: u64 = 4 << 10;
/// How long it waits before it tries again to run what could not be run, ms.
const RETRY_MS: u64 = 1000;
/// The longest line of output in the log, in characters.
const LINE_LEN_MAX: usize = 200;

/// Looks after what the service runs for itself. `wanted`: all of it; `None`: all stays as it is.
pub fn look_after(engine: &Arc<Engine>, wanted: Option<Vec<Spec>>) -> io::Result<()> {
    if wanted.as_ref().is_none_or(Vec::is_empty) && held(engine).is_empty() {
        return Ok(());
    }
    let (engine, began) = (Arc::clone(engine), clock::now_ms());
    thread::spawn(THREAD, move || {
        engine.upgrades.wait();
        if let Some(mut wanted) = wanted {
            // What a client has asked for under an earlier engine is wanted still.
            let held = held(&engine);
            let is_wanted = |spec: &Spec| held.iter().any(|p| *p.spec() == *spec) && !wanted.contains(spec);
            let asked: Vec<_> =
                engine.on_demand.lock().iter().filter(|spec| is_wanted(spec)).cloned().collect();
            wanted.extend(asked);
            settle(&engine, wanted);
        }
        report(&engine, began);
    })
    .map(drop)
}

/// Has the gateway be what the configuration says by now; comes back when its program executes, where there
/// is to be one all the time. The files of one that stays are its own affair.
pub fn reload(engine: &Engine) -> Result<(), Error> {
    let _one = engine.gateway_specs.lock();
    let GatewaySpecs { always, on_demand } = (engine.gateway.specs)()?;
    let present = held(engine).into_iter().find(|p| is_called(&p.spec(), GATEWAY));
    let stays = present.as_ref().is_some_and(|process| {
        [&always, &on_demand].into_iter().flatten().any(|spec| *spec == *process.spec())
    });
    // What cannot be read leaves everything as it was, also a gateway that would make way for another.
    if always.is_some() && !stays {
        drop((engine.gateway.setup)(false)?);
    }
    let is_new = {
        let mut specs = engine.on_demand.lock();
        let before = specs.iter().find(|spec| is_called(spec, GATEWAY)).cloned();
        specs.retain(|spec| !is_called(spec, GATEWAY));
        specs.extend(on_demand.clone());
        before != on_demand
    };
    if stays {
        return Ok(());
    }
    // Else it is waited for already.
    let is_to_be_awaited = is_new || present.is_some();
    if let Some(process) = present {
        take_away(engine, &process)?;
    }
    let engine = engine.itself.get().and_then(Weak::upgrade).expect("it is shared from its begin");
    let begun =
        always.map_or(Ok(()), |spec| ask(&make(&engine, spec)?, Ask::Start, CAUSE).error.map_or(Ok(()), Err));
    let awaited = if is_to_be_awaited { await_grpc(&engine, GATEWAY) } else { Ok(()) };
    let watched = awaited.and_then(|()| report_more(&engine));
    begun.and_then(|()| watched.map_err(|e| Error::failed("start a thread", &e)))
}

/// Stops and forgets it.
fn take_away(engine: &Engine, process: &Arc<Process>) -> Result<(), Error> {
    let answered = [Ask::Stop(StopOrder::default()), Ask::Remove].map(|what| ask(process, what, CAUSE));
    answered.into_iter().find_map(|answered| answered.error).map_or(Ok(()), Err)?;
    engine.forget(process);
    Ok(())
}

/// Has what there is more by now reported, too.
fn report_more(engine: &Arc<Engine>) -> io::Result<()> {
    let reporter = engine.reporter.lock();
    if let Some(reporter) = &*reporter {
        reporter.wake();
        return Ok(());
    }
    drop(reporter);
    let engine = Arc::clone(engine);
    // Of what is reported from now on nothing was said before.
    thread::spawn(THREAD, move || report(&engine, 0)).map(drop)
}

/// Has what is called `name` run, if it does not yet; comes back when its program executes.
pub fn run_on_demand(engine: &Engine, name: &str) -> Result<(), Error> {
    let specs = engine.on_demand.lock();
    let Some(spec) = specs.iter().find(|spec| is_called(spec, name)) else {
        let e = format!("this service has no {name}");
        return Err(Error::new(Code::Refused, e).hint("it was built without gateway, and so without gRPC"));
    };
    let there = || held(engine).into_iter().find(|p| is_called(&p.spec(), name));
    let process = match there() {
        Some(process) => process,
        // Whoever follows the configuration may have made it meanwhile.
        None => make(engine, spec.clone()).or_else(|e| there().ok_or(e))?,
    };
    ask(&process, Ask::Start, CAUSE).error.map_or(Ok(()), Err)
}

/// Has the host of providers run, for a probe; who wants it asks again.
pub fn run_host(engine: &Weak<Engine>) {
    let Some(engine) = engine.upgrade().filter(|engine| !engine.context.is_stopping()) else { return };
    if let Err(e) = run_on_demand(&engine, HOST) {
        engine.context.say(&format!("no probe by gRPC can be made: {}", e.message));
        // Not at the pace of the probes.
        let _ = poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS));
    }
}

/// Runs the gateway once somebody connects to the socket for gRPC on this machine; from then on it is kept
/// like the others. A thread (`grpc-wait`), there only while that is still to come. The caller waits for
/// nobody: it may be about to hear the keeper's word that who has something run on demand waits for.
pub fn await_grpc(engine: &Arc<Engine>, name: &'static str) -> io::Result<()> {
    if engine.grpc.is_none() {
        return Ok(());
    }
    let engine = Arc::clone(engine);
    thread::spawn("grpc-wait", move || {
        let spec = engine.on_demand.lock().iter().find(|spec| is_called(spec, name)).cloned();
        let Some(spec) = spec else { return };
        engine.upgrades.wait();
        let mut said = String::new();
        // It may be there already, made under an earlier engine. One of that name which is run in another way
        // is about to go, as the configuration says.
        while held(&engine).iter().all(|process| *process.spec() != spec) {
            let Some(listener) = engine.grpc.as_ref() else { return };
            let mut fds = [PollFd::readable(listener.as_fd())];
            if poll::wait(&mut fds, None).is_err() || fds[0].is_hung_up() || engine.context.is_stopping() {
                return;
            }
            // The configuration has changed.
            if !engine.on_demand.lock().contains(&spec) {
                return;
            }
            if !fds[0].is_readable() {
                continue;
            }
            match run_on_demand(&engine, name) {
                Ok(()) => said.clear(),
                Err(e) if e.message != said => {
                    engine.context.say(&e.message);
                    said = e.message;
                }
                Err(_) => {}
            }
            // Whoever waits in the socket makes it ready all the time.
            let _ = poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS));
        }
    })
    .map(drop)
}

fn is_called(spec: &Spec, name: &str) -> bool {
    spec.name.as_ref().is_some_and(|n| n.as_str() == name)
}

fn held(engine: &Engine) -> Vec<Arc<Process>> {
    engine.table.all().into_iter().filter(|p| p.is_internal).collect()
}

/// Does what it takes for there to be what is wanted, and nothing else. An engine that ends in the middle
/// leaves the rest to the next one.
fn settle(engine: &Engine, mut wanted: Vec<Spec>) {
    for process in held(engine) {
        let Some(n) = wanted.iter().position(|spec| *spec == *process.spec()) else {
            if let Err(e) = take_away(engine, &process) {
                engine.context.say(&format!("{} cannot be removed: {e}", process.label()));
            }
            continue;
        };
        wanted.remove(n);
        let record = process.record();
        if record.run == 0 {
            start(engine, &process);
        } else if process.spec().command[0] == INTERNAL_PROGRAM
            && record.pid.is_some_and(is_of_another_program)
        {
            // After an upgrade.
            ask(&process, Ask::Restart { key: None }, CAUSE);
        }
    }
    for spec in wanted {
        match make(engine, spec) {
            Ok(process) => start(engine, &process),
            Err(e) => engine.context.say(&e.message),
        }
    }
}

fn make(engine: &Engine, spec: Spec) -> Result<Arc<Process>, Error> {
    let memory = Memory::create(&spec)?;
    let record = Record { internal: true, wanted: true, ..fresh(ProcessId::new(), spec.name.clone(), None) };
    memory.publish(&record);
    let process = Arc::new(Process::new(spec, memory, record, Arc::clone(&engine.context), worker::run));
    engine.hold(std::slice::from_ref(&process))?;
    Ok(process)
}

fn start(engine: &Engine, process: &Arc<Process>) {
    if let Some(e) = ask(process, Ask::Start, CAUSE).error {
        engine.context.say(&e.message);
    }
}

/// Asks a process, in the name of `cause`, and waits for its answer.
pub fn ask(process: &Arc<Process>, what: Ask, cause: &str) -> Answered {
    let (to, answer) = bounded(1);
    let answer_to = AnswerTo::new(to, 0, Waker::for_this_thread());
    process.send(Msg::Ask { what, cause: cause.to_owned(), answer: answer_to });
    *answer.recv().expect("every ask is answered")
}

/// Whether it runs another program than the keeper does by now. What cannot be seen is no reason to end
/// anything.
fn is_of_another_program(pid: u32) -> bool {
    let program = |pid: u32| fs::metadata(format!("/proc/{pid}/exe")).map(|m| (m.dev(), m.ino()));
    matches!((program(pid), program(system::parent_pid())), (Ok(its), Ok(ours)) if its != ours)
}

/// What was said of a process.
struct Said {
    process: Arc<Process>,
    /// The last run that was said to be ready.
    ready: u64,
    /// The last run that was said to have ended.
    ended: u64,
    how: String,
}

/// Says when one of them is ready, and how one ended: not twice in a row in the same words, and not what an
/// engine before this one, which `began` then, has said already.
fn report(engine: &Engine, began: u64) {
    let mut all: Vec<Said> = Vec::new();
    loop {
        let mut reporter = engine.reporter.lock();
        let held = held(engine);
        *reporter = (!held.is_empty()).then(Waker::for_this_thread);
        if held.is_empty() {
            return;
        }
        drop(reporter);
        let is_new = |process: &Arc<Process>| all.iter().all(|said| !Arc::ptr_eq(&said.process, process));
        let more: Vec<_> = held.iter().filter(|process| is_new(process)).cloned().collect();
        all.retain(|said| held.iter().any(|process| Arc::ptr_eq(&said.process, process)));
        all.extend(more.into_iter().map(|process| Said::new(process, began)));
        // What is watched is looked at after that.
        let _watches: Vec<_> = held.iter().map(|process| process.watch(Waker::for_this_thread())).collect();
        for said in &mut all {
            said.look(engine);
        }
        if poll::wait(&mut [], None).is_err() {
            *engine.reporter.lock() = None;
            return;
        }
    }
}

impl Said {
    /// `began`: when this engine did.
    fn new(process: Arc<Process>, began: u64) -> Self {
        let record = process.record();
        let ready = if record.ready && record.started_mono < began { record.run } else { 0 };
        Self { ready, ended: last_ended(&record), how: String::new(), process }
    }

    fn look(&mut self, engine: &Engine) {
        let record = self.process.record();
        let label = self.process.label();
        let ended = last_ended(&record);
        if ended > self.ended && !engine.context.is_stopping() {
            self.ended = ended;
            let mut how = how_ended(&self.process, &record);
            if label == APPLY && how != ENDED {
                how.push_str(&format!("; all of it: provost output {APPLY}"));
            }
            if how != self.how {
                let is_applied = label == APPLY && how == ENDED;
                let line = if is_applied { APPLIED.to_owned() } else { format!("{label} {how}") };
                engine.context.say(&line);
                self.how = how;
            }
        }
        if record.state == State::Running && record.ready && record.run > self.ready {
            self.ready = record.run;
            self.how.clear();
            // What comes of it is told when it has ended.
            if label == APPLY {
                return;
            }
            let line = last_line(&self.process, StreamKind::Both, |line| is_ready(&self.process, line));
            let line = line.unwrap_or_else(|| "ready".to_owned());
            engine.context.say(&format!("{label}: {line} (pid {})", record.pid.unwrap_or_default()));
        }
    }
}

/// The last run that has ended; 0: none.
fn last_ended(record: &Record) -> u64 {
    if record.stopped_at.is_some() { record.run } else { record.run.saturating_sub(1) }
}

/// How something ended of which there is no more to say.
const ENDED: &str = "ended";
/// The same of what makes the processes that are declared.
const APPLIED: &str = "the configuration is applied";

fn how_ended(process: &Process, record: &Record) -> String {
    let how = match record.exit.map(|exit| exit.end) {
        Some(End::Code(0)) => return ENDED.to_owned(),
        Some(End::Code(code)) => format!("ended (exit code {code})"),
        Some(End::Signal(number)) => format!("ended ({})", signal::name(u32::from(number))),
        None => ENDED.to_owned(),
    };
    match last_line(process, StreamKind::Stderr, |line| !is_aside(line)) {
        Some(line) if !is_ready(process, &line) => format!("{how}, its last words: {line}"),
        Some(_) | None => how,
    }
}

/// Whether this follows what it is about: a hint, or the line of a file with the mark below it.
fn is_aside(line: &str) -> bool {
    let is_number = |c: char| c.is_ascii_digit() || c == ' ';
    line.starts_with("hint: ") || line.trim_start_matches(is_number).starts_with('|')
}

/// Whether this is the line that tells that it is ready.
fn is_ready(process: &Process, line: &str) -> bool {
    matches!(&process.spec().ready, Some(Readiness::Line(text)) if line.contains(text))
}

/// The last line of output that is not empty and fits, fit for a log, without the name of the program.
fn last_line(process: &Process, kind: StreamKind, fits: impl Fn(&str) -> bool) -> Option<String> {
    let ring = process.memory.ring();
    let read = ring.read(ring.head().saturating_sub(LOOK_BACK), LOOK_BACK, kind).ok()?;
    let text = String::from_utf8_lossy(&read.join()).into_owned();
    let lines = text.lines().rev().map(|line| line.strip_prefix("provost: ").unwrap_or(line));
    let line = lines.filter(|line| !line.trim().is_empty()).find(|line| fits(line))?;
    Some(line.chars().filter(|c| !c.is_control()).take(LINE_LEN_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_of_what_is_wrong() {
        let asides = ["12 | web = { command = 3 }", "   |       ^", "hint: write a list"];
        assert!(asides.iter().all(|line| is_aside(line)));
        assert!(!is_aside("3 files are wrong") && !is_aside("provost.toml:12: a list is needed"));
    }
}
