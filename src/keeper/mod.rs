//! The parent of everything: one thread, one `poll`, no policy.
//!
//! It forks and reaps, holds every process's memory and pipe ends and the listening socket, and starts the
//! engine again whenever that dies. It never looks into the memory it holds, and never waits for anybody but
//! in its one `poll`. Woken by: SIGCHLD and the signals that end the service, the engine's messages, children
//! that have got their descriptors, and the time to start an engine.

#![forbid(unsafe_code)]

mod attempt;
mod child;
mod engine;
mod handover;
mod notice;
mod notify;
mod outbox;
mod renewal;
mod resources;
mod socket_dir;
mod socket_watch;
mod spawn;
mod spawn_log;
mod spawn_slots;
mod state;
mod table;
mod upgrade;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;

use crate::keeper::attempt::Attempt;
use crate::keeper::engine::{Engine, delay_ms};
pub use crate::keeper::handover::{Handed, rehearse, resume};
pub use crate::keeper::notice::Notice;
use crate::keeper::outbox::{Outgoing, not_spawned};
use crate::keeper::resources::{GatewayPair, Resources, receive_signals};
use crate::keeper::socket_dir::{GrpcSocket, SocketDir};
use crate::keeper::socket_watch::SocketWatch;
use crate::keeper::spawn::{Given, Spawner};
use crate::keeper::spawn_log::NewRun;
use crate::keeper::state::{Keeper, Stop};
use crate::keeper::upgrade::started_from;
use crate::sys::cgroup::{Root, name_of_ours};
use crate::sys::controllers;
use crate::sys::errno::EMFILE;
use crate::sys::pidfd::PidFd;
use crate::sys::poll::{PollFd, wait};
use crate::sys::signal;
use crate::sys::socket::{Blocking, recvmsg};
use crate::sys::{child as children, clock, memory, procfs, system};
use crate::wire::error::{Code, Error};
use crate::wire::id::ProcessId;
use crate::wire::keeper::{CGROUP_PREFIX, Ended, MESSAGE_LEN, Program, Step, ToEngine, ToKeeper, VERSION};
use crate::wire::time::Timestamp;
use crate::wire::upgrade::Version;

/// How long an orderly stop may take before the keeper hurries, ms, unless the engine says that it takes
/// longer.
const ORDERLY_MS: u64 = 120_000;
/// How long a hurried stop may take before the keeper kills its children itself, ms.
const HURRIED_MS: u64 = 5_000;
/// How long the end of a killed engine may take, ms: it is awaited for tidiness alone.
const ENGINE_END_MS: u64 = 1_000;

#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen, absolute.
    pub socket: PathBuf,
    /// Where gRPC on this machine is listened for, if it is.
    pub grpc_socket: Option<PathBuf>,
    /// Whether others than our own user and group get as far as the sockets, where groups have roles.
    pub is_open: bool,
    /// Whether processes get cgroups.
    pub cgroups: Cgroups,
    /// Where the store is; locked as long as the keeper lives, so that no second service uses it.
    pub state: Option<PathBuf>,
    /// Given to every engine, beside what the keeper itself tells it.
    pub engine_arguments: Vec<String>,
}

/// Whether each process gets a cgroup of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Where one can be made.
    Auto,
    Off,
}

/// Serves until a signal ends it. The exit code is 0 when everything was stopped in order.
pub fn serve(options: &Options, notify: &mut dyn FnMut(Notice)) -> Result<u8, Error> {
    let cannot = |what: &str, e: &io::Error| Error::new(Code::Failed, format!("cannot {what}: {e}"));
    if !procfs::is_ours().map_err(|e| cannot("look into /proc", &e))? {
        let message = "/proc shows the processes of another pid namespace by other numbers";
        return Err(Error::new(Code::Failed, message)
            .hint("mount it anew in this namespace: unshare --pid --fork --mount-proc provost serve"));
    }
    let signals = receive_signals()?;
    let nofile =
        system::raise_descriptor_limit().map_err(|e| cannot("raise the limit of descriptors", &e))?;
    if std::process::id() != 1 {
        system::become_subreaper().map_err(|e| cannot("become the reaper of orphans", &e))?;
    }
    let mut spawner = Spawner::new(nofile).map_err(|e| cannot("prepare to fork", &e))?;
    let (socket_dir, listener) = SocketDir::claim(&options.socket, options.is_open)?;
    spawner.record_spawns(socket_dir.socket(), notify);
    let checked = check_engine(&options.engine_arguments);
    if let Some(state) = options.state.as_ref().filter(|state| checked.is_ok() || socket_dir::has_lock(state))
    {
        let locked = socket_dir::lock_state(state);
        // Where the check found the store in use, this tells by which keeper, which is the one to talk to.
        if checked.is_ok() || locked.as_ref().is_err_and(|e| e.code == Code::Refused) {
            locked?;
        }
    }
    checked?;
    // Not to keep anything mounted that is not ours.
    std::env::set_current_dir("/").map_err(|e| cannot("go to /", &e))?;
    let (cgroups, no_cgroups) = make_cgroups(options.cgroups);
    let global =
        memory::memfd_create(c"provost-global", 0).map_err(|e| cannot("make the global memory", &e))?;
    let mut engine_arguments = engine_arguments(cgroups.as_ref());
    engine_arguments.extend(options.engine_arguments.iter().cloned());
    let grpc = options.grpc_socket.as_deref().map(|path| GrpcSocket::open(path, options.is_open));
    let grpc = grpc.transpose()?;
    Keeper::new(
        Resources {
            sockets: SocketWatch::new(&socket_dir, grpc.as_ref()),
            grpc,
            socket_dir,
            listener,
            global,
            pair: Some(GatewayPair::new().map_err(|e| cannot("make a socket pair", &e))?),
            cgroups,
            no_cgroups,
            nofile,
            engine_arguments,
            spawner,
            signals,
        },
        notify,
    )
    .run()
}

/// What would keep every engine from starting is better said once, and by this program; an engine of its own
/// looks, so that the keeper stays as small as it is.
fn check_engine(arguments: &[String]) -> Result<(), Error> {
    let checked = Command::new("/proc/self/exe").args(["engine", "--check"]).args(arguments).output();
    let checked =
        checked.map_err(|e| Error::new(Code::Failed, format!("cannot check what the engine needs: {e}")))?;
    if checked.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&checked.stderr);
    let mut lines = said.lines().map(|line| line.strip_prefix("provost: ").unwrap_or(line));
    let message = lines.next().unwrap_or("the engine cannot be started");
    let code = checked.status.code().and_then(|code| u8::try_from(code).ok()).and_then(Code::from_exit_code);
    let (hints, marked): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("hint: "));
    let hint = hints.first().and_then(|line| line.strip_prefix("hint: ")).unwrap_or_default();
    Err(Error::new(code.unwrap_or(Code::Failed), message).hint(hint).excerpt(marked.join("\n")))
}

/// What every engine is given. A path that is no text is left out: then an upgrade has to be told where to.
fn engine_arguments(cgroups: Option<&Root>) -> Vec<String> {
    let cgroups = cgroups.map(|root| ("--cgroup-root", root.path().to_owned()));
    let exe = started_from().map(|path| ("--exe", path));
    let given = cgroups.into_iter().chain(exe);
    given
        .filter_map(|(option, path)| Some([option.to_owned(), path.to_str()?.to_owned()]))
        .flatten()
        .collect()
}

fn make_cgroups(wanted: Cgroups) -> (Option<Root>, Option<String>) {
    match wanted {
        Cgroups::Off => (None, None),
        Cgroups::Auto => {
            Root::sweep(CGROUP_PREFIX);
            match Root::create(&name_of_ours(CGROUP_PREFIX)) {
                Ok(root) => (Some(root), None),
                Err(e) => (None, Some(e.to_string())),
            }
        }
    }
}

/// What the keeper was woken by.
struct Woken {
    /// Children say that they have their descriptors.
    have_left: bool,
    signalled: bool,
    /// The engine has sent something.
    messages: bool,
    /// A socket may have lost its name.
    sockets: bool,
}

impl Keeper<'_> {
    fn run(&mut self) -> Result<u8, Error> {
        loop {
            self.go_on_with_upgrade();
            self.start_engine_if_due();
            if self.stop == Stop::Done {
                return Ok(self.end());
            }
            let Woken { have_left, signalled, messages, sockets } = self.wait()?;
            if have_left {
                // First: who is at its end may have left before.
                self.resources.spawner.clear_left_slots();
            }
            if signalled {
                self.take_signals();
            }
            if messages {
                self.take_messages();
            }
            if sockets {
                self.renew_sockets();
            }
            self.flush();
            self.hurry_if_due();
            self.keep_spares();
        }
    }

    fn keep_spares(&mut self) {
        if self.engine_is_up {
            self.spares.fill();
        }
    }

    /// The one place where the keeper waits.
    fn wait(&self) -> Result<Woken, Error> {
        let start_at = match self.engine {
            Engine::Up { .. } => None,
            Engine::Down { start_at } => Some(start_at),
        };
        let stop_at = match self.stop {
            Stop::No | Stop::Done => None,
            Stop::Orderly { until } | Stop::Hurried { until } => Some(until),
        };
        let upgrade_at = self.attempt.as_ref().and_then(Attempt::deadline);
        let retry_at = self.outbox.retry_at();
        let renew_at = self.resources.sockets.due();
        let deadline = [start_at, stop_at, upgrade_at, retry_at, renew_at].into_iter().flatten().min();
        let channel = self.engine.channel().map(AsFd::as_fd);
        let room = channel.filter(|_| !self.outbox.is_empty() && retry_at.is_none());
        let mut fds = [
            PollFd::readable(self.resources.signals.as_fd()),
            PollFd::maybe(channel, PollFd::readable),
            PollFd::maybe(self.resources.spawner.have_left(), PollFd::readable),
            PollFd::maybe(room, PollFd::writable),
            PollFd::maybe(self.resources.sockets.as_fd(), PollFd::readable),
        ];
        wait(&mut fds, deadline)
            .map_err(|e| Error::new(Code::Failed, format!("the keeper cannot wait: {e}")))?;
        let [signalled, messages, have_left, _, watched] = fds.each_ref().map(PollFd::is_ready);
        let sockets = watched || renew_at.is_some_and(|at| at <= clock::now_ms());
        Ok(Woken { signalled, messages, have_left, sockets })
    }

    fn start_engine_if_due(&mut self) {
        let Engine::Down { start_at } = self.engine else { return };
        if start_at > clock::now_ms() {
            return;
        }
        self.spares.free();
        let program = self.engine_program();
        match Engine::start(self.resources.spawner.alone(), &program, &self.resources.engine_arguments) {
            Ok(engine) => {
                self.engine = engine;
                self.engine_starts += 1;
                self.upgrade_engine_started();
            }
            Err(e) if self.attempt.is_some() => self.upgrade_engine_not_started(&e),
            Err(e) => {
                self.short_runs = self.short_runs.saturating_add(1);
                let delay = delay_ms(self.short_runs).max(100);
                self.engine = Engine::Down { start_at: clock::now_ms() + delay };
                (self.notify)(Notice::Failure(format!("cannot start the engine: {e}")));
            }
        }
    }

    fn take_signals(&mut self) {
        // Reaped below whatever came: several SIGCHLD may have become one.
        while let Ok(Some(signal)) = self.resources.signals.read() {
            if [signal::TERM, signal::INT, signal::QUIT].contains(&signal) {
                self.ask_to_stop(signal);
            }
        }
        loop {
            match children::reap() {
                Ok(Some(reaped)) => self.reaped(&reaped),
                Ok(None) => break,
                Err(e) => {
                    (self.notify)(Notice::Failure(format!("cannot reap: {e}")));
                    break;
                }
            }
        }
    }

    fn reaped(&mut self, reaped: &children::Reaped) {
        self.resources.spawner.reaped(reaped.pid);
        if self.engine.pid() == Some(reaped.pid) {
            return self.engine_died(reaped.status);
        }
        if self.upgrade_rehearsed(reaped) {
            return;
        }
        let ended = Ended {
            pid: reaped.pid,
            status: reaped.status,
            user_us: reaped.user_us,
            system_us: reaped.system_us,
            max_rss_kib: reaped.max_rss_kib,
            at: Timestamp::now().0,
            at_mono: clock::now_ms(),
        };
        match self.table.ended(ended) {
            Some(id) => self.outbox.push(Outgoing::Exited(id)),
            // An orphan that came to us. Nobody asks for it, unless it turns out to be a main process.
            None => self.table.orphan_ended(ended),
        }
    }

    fn engine_died(&mut self, status: i32) {
        let was_healthy = self.engine.was_healthy();
        // Its number may be another's from now on, so nobody is to find it while its messages are taken.
        let engine = std::mem::replace(&mut self.engine, Engine::Down { start_at: u64::MAX });
        // What it has sent counts: its clients may have been told that it is done.
        while let Some((message, fds)) = engine.channel().and_then(next_message) {
            self.take_message(message, fds);
        }
        let died = children::status(status);
        let is_upgrade = self.upgrade_engine_died(died);
        // Somebody who kills a working engine is no sign that the next one will not work.
        let was_killed =
            matches!(died, children::Status::Signalled { signal, .. } if u32::from(signal) == signal::KILL);
        let is_sound = is_upgrade || was_healthy || (self.engine_is_up && was_killed);
        self.engine_is_up = false;
        self.short_runs = if is_sound { 0 } else { self.short_runs.saturating_add(1) };
        let restart_in_ms = delay_ms(self.short_runs);
        self.engine = Engine::Down { start_at: clock::now_ms() + restart_in_ms };
        self.outbox.clear();
        let how = match died {
            children::Status::Exited(code) => format!("exit code {code}"),
            children::Status::Signalled { signal, .. } => signal::name(u32::from(signal)),
        };
        if self.stop != Stop::Done && !is_upgrade {
            (self.notify)(Notice::EngineDied { how, restart_in_ms });
        }
    }

    fn take_messages(&mut self) {
        while let Some((message, fds)) = self.engine.channel().and_then(next_message) {
            self.take_message(message, fds);
        }
    }

    fn take_message(&mut self, message: ToKeeper, mut fds: Vec<OwnedFd>) {
        match message {
            ToKeeper::Hello { version: _ } => self.send_everything(),
            ToKeeper::Hold { id } => {
                if let Some(memory) = fds.pop() {
                    self.table.hold(id, File::from(memory));
                }
            }
            ToKeeper::HoldNotify { id } => {
                if let Some(socket) = fds.pop() {
                    self.table.hold_notify(id, socket);
                }
            }
            ToKeeper::Spawn { id, run, launch, program, has_stdin, service } => {
                // The last ones first.
                let stdin = if has_stdin { fds.pop().map(File::from) } else { None };
                let program = if program == Program::Descriptor { fds.pop() } else { None };
                let mut fds = fds.into_iter();
                let given = Given { until_exec: fds.next(), cgroup: fds.next(), program, stdin };
                let new_run = NewRun { service, id, run };
                let message = match self.table.get(id) {
                    Some(held) if held.pid != 0 => return,
                    // Its memory came when there was no descriptor left to take it.
                    None => not_spawned(id, run, Step::Memory, &io::Error::from_raw_os_error(EMFILE)),
                    Some(held) => match self.resources.spawner.spawn(&held.memory, new_run, launch, &given) {
                        Err((step, e)) => not_spawned(id, run, step, &e),
                        Ok(spawned) => {
                            let pid = spawned.pid;
                            let pidfd = self.table.spawned(id, run, spawned);
                            Outgoing::Spawned { id, run, pid, pidfd }
                        }
                    },
                };
                self.outbox.push(message);
                // Told at once: while it executes, the engine can prepare.
                self.flush();
            }
            ToKeeper::Main { id, run, pid } => self.take_main(id, run, pid),
            ToKeeper::Ack { id, run } => self.table.acknowledge(id, run),
            ToKeeper::Forget { id } => self.table.forget(id),
            ToKeeper::Ready => self.engine_ready(),
            ToKeeper::StopTakes { ms } => self.stop.lasts_until(clock::now_ms().saturating_add(ms)),
            ToKeeper::AllStopped if self.stop == Stop::No => {}
            ToKeeper::AllStopped => self.stop = Stop::Done,
            ToKeeper::Upgrade { id } => self.begin_upgrade(id, fds),
            ToKeeper::EndService { code } => self.end_with(code),
            ToKeeper::NotExecuted { errno } => self.upgrade_engine_not_executed(errno),
        }
    }

    /// A process has forked, and this one goes on for it. If we are its parent, we hear of its end.
    fn take_main(&mut self, id: ProcessId, run: u64, pid: u32) {
        if !self.table.is_run(id, run) {
            return;
        }
        let ended = self.table.take_orphan(pid);
        let is_there = children::is_child(pid) || procfs::stat(pid).is_some_and(|stat| !stat.is_zombie());
        if (ended.is_none() && !is_there) || !self.table.set_main(id, pid) {
            self.table.unset_main(id);
            return self.outbox.push(Outgoing::Plain(ToEngine::Lost { id, run }));
        }
        if let Some(id) = ended.and_then(|ended| self.table.ended(ended)) {
            self.outbox.push(Outgoing::Exited(id));
        }
    }

    /// Answers a new engine's hello with everything there is.
    fn send_everything(&mut self) {
        let (global, listener) =
            match (self.resources.global.try_clone(), self.resources.listener.try_clone()) {
                (Ok(global), Ok(listener)) => (OwnedFd::from(global), listener),
                (Err(e), _) | (_, Err(e)) => {
                    (self.notify)(Notice::Failure(format!("cannot hand over to the engine: {e}")));
                    return self.give_up_engine();
                }
            };
        self.outbox.clear();
        let pair = self.resources.share_pair();
        let hello = ToEngine::Hello {
            version: VERSION,
            started_at: self.started_at.0,
            engine_starts: self.engine_starts,
            keeper: Version::ours(),
            has_pair: pair.is_some(),
        };
        let fds = [global, listener].into_iter().chain(pair.into_iter().flat_map(|(ours, its)| [ours, its]));
        self.outbox.push(Outgoing::Hello(hello, fds.chain(self.resources.share_grpc()).collect()));
        if let Some(outcome) = self.present_outcome() {
            self.outbox.push(Outgoing::Plain(ToEngine::Upgrade(outcome)));
        }
        for id in self.table.ids() {
            self.outbox.push(Outgoing::Entry(id));
            self.outbox.push(Outgoing::Notify(id));
        }
        self.outbox.push(Outgoing::Plain(ToEngine::Listed));
        self.report_stop();
    }

    fn engine_ready(&mut self) {
        self.engine_is_up = true;
        self.upgrade_engine_ready();
        self.keep_spares();
        if !self.announced {
            self.announced = true;
            memory::forget_code();
            (self.notify)(Notice::Ready {
                socket: self.resources.socket_dir.socket().to_owned(),
                keeper_pid: std::process::id(),
                no_cgroups: self.resources.no_cgroups.clone(),
            });
            self.report_ready();
        }
    }

    fn report_ready(&self) {
        if self.stop == Stop::No {
            self.notifier.ready(&format!("serving {}", self.resources.socket_dir.socket().display()));
        }
    }

    fn flush(&mut self) {
        if let Some(channel) = self.engine.channel()
            && self.outbox.flush(channel.as_fd(), &self.table).is_err()
        {
            self.give_up_engine();
        }
    }

    /// It is gone, or it would miss a message and wait for it for ever. The next one learns everything from
    /// the listing, and is started more slowly if this goes on.
    fn give_up_engine(&mut self) {
        self.outbox.clear();
        if let Some(pid) = self.engine.pid() {
            let _ = children::signal_child(pid, signal::KILL);
        }
    }

    fn ask_to_stop(&mut self, signal: u32) {
        let now = clock::now_ms();
        self.stop = match self.stop {
            Stop::No => Stop::Orderly { until: now + ORDERLY_MS },
            Stop::Orderly { .. } => Stop::Hurried { until: now + HURRIED_MS },
            // A third signal: at once.
            Stop::Hurried { .. } | Stop::Done => Stop::Hurried { until: now },
        };
        (self.notify)(Notice::Stopping { signal });
        self.notifier.stopping();
        self.report_stop();
    }

    /// The engine says so. What a signal has begun goes on as it is.
    fn end_with(&mut self, code: u8) {
        if self.stop == Stop::No {
            self.stop = Stop::Orderly { until: clock::now_ms() + ORDERLY_MS };
            self.exit_code = code;
            (self.notify)(Notice::Ending { code });
            self.notifier.stopping();
            self.report_stop();
        }
    }

    fn report_stop(&mut self) {
        let hurry = match self.stop {
            Stop::No | Stop::Done => return,
            Stop::Orderly { .. } => false,
            Stop::Hurried { .. } => true,
        };
        self.outbox.push(Outgoing::Plain(ToEngine::StopAll { hurry }));
    }

    fn hurry_if_due(&mut self) {
        let now = clock::now_ms();
        match self.stop {
            Stop::Orderly { until } if until <= now => {
                self.stop = Stop::Hurried { until: now + HURRIED_MS };
                self.report_stop();
                self.flush();
            }
            Stop::Hurried { until } if until <= now => {
                // The engine could not. Our children are ours to kill, and their trees where there are
                // cgroups.
                if let Some(root) = &self.resources.cgroups {
                    for name in root.names() {
                        let _ = root.cgroup(&name).kill();
                    }
                }
                // A main process whose parent is another may have given its number away by now.
                for pid in self.table.pids().filter(|&pid| children::is_child(pid)) {
                    let _ = children::signal_child(pid, signal::KILL);
                }
                self.stop = Stop::Done;
            }
            Stop::No | Stop::Done | Stop::Orderly { .. } | Stop::Hurried { .. } => {}
        }
    }

    /// The end of the service: the engine goes last, then what we made. Returns the exit code.
    fn end(&mut self) -> u8 {
        self.end_engine();
        if let Some(root) = &self.resources.cgroups {
            for name in root.names() {
                root.cgroup(&name).remove();
            }
            root.remove();
            controllers::undo(root);
        }
        if self.exit_code == 0 { u8::from(self.table.is_running()) } else { self.exit_code }
    }
    /// Kills the engine and waits until it is gone, so that no zombie of ours comes to init.
    fn end_engine(&self) {
        let Some(pid) = self.engine.pid() else { return };
        // Before the signal: as long as it is not reaped, this is certainly the one.
        let pidfd = PidFd::open(pid);
        let _ = children::signal_child(pid, signal::KILL);
        if let Ok(pidfd) = pidfd {
            let _ = wait(&mut [PollFd::readable(pidfd.as_fd())], Some(clock::now_ms() + ENGINE_END_MS));
        }
        while let Ok(Some(_)) = children::reap() {}
    }
}

/// The next message that an engine has sent, if one is there. Its end and any error are none: SIGCHLD tells
/// the rest.
fn next_message(channel: &OwnedFd) -> Option<(ToKeeper, Vec<OwnedFd>)> {
    let mut buf = [0; MESSAGE_LEN];
    loop {
        match recvmsg(channel.as_fd(), &mut buf, Blocking::Never) {
            Ok((0, _)) | Err(_) => return None,
            Ok((len, fds)) => {
                if let Some(message) = ToKeeper::decode(&buf[..len]) {
                    return Some((message, fds));
                }
            }
        }
    }
}
