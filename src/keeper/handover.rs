//! The keeper becomes another program by exec: the same process, the same children, the same descriptors.
//! What it knows goes through a memfd (`wire/handover.rs`). The new one looks at everything before it takes
//! anything, so that it can still execute the old one, which then goes on. The same look, in a child, is the
//! rehearsal before.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::env;
use std::ffi::CString;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::keeper::attempt::Attempt;
use crate::keeper::engine::Engine;
use crate::keeper::notice::Notice;
use crate::keeper::outbox::Outgoing;
use crate::keeper::resources::{GatewayPair, Resources, receive_signals};
use crate::keeper::socket_dir::{GrpcSocket, SocketDir};
use crate::keeper::socket_watch::SocketWatch;
use crate::keeper::spawn::Spawner;
use crate::keeper::state::Keeper;
use crate::keeper::table::Held;
use crate::keeper::upgrade::{by_descriptor, errno_of};
use crate::sys::cgroup::Root;
use crate::sys::child::{self, Fork};
use crate::sys::descriptor::{self, AtExec};
use crate::sys::errno::{EINVAL, ESRCH};
use crate::sys::signal::SignalFd;
use crate::wire::error::{Code, Error};
use crate::wire::handover::{self, Handover, Process, Writer};
use crate::wire::id::{ProcessId, UpgradeId};
use crate::wire::keeper::ToEngine;
use crate::wire::upgrade::{UpgradeOutcome, UpgradeResult, Version};

/// The longest handover that is read, in bytes: a hundred times what 5,000 processes take.
const LEN_MAX: u64 = 64 << 20;

/// What a keeper is started with that goes on for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Where the service listens; only so that a list of processes shows which service this is.
    pub socket: PathBuf,
    /// The descriptor of what was left.
    pub memory: RawFd,
    /// The descriptor of the program that left it.
    pub image: RawFd,
    /// Why it, which is us, has got it back.
    pub returned: Option<String>,
}

impl Keeper<'_> {
    /// Becomes the new binary. Comes back only if that could not be done, with everything as before.
    pub(super) fn replace(&mut self, attempt: Attempt) {
        let id = attempt.id;
        let error = match self.hand_over(&attempt) {
            Ok(never) => match never {},
            Err(e) => e,
        };
        for fd in self.carried(&attempt) {
            let _ = descriptor::at_exec(fd, AtExec::Close);
        }
        // The engine is the new one, also when it has to be started again.
        self.binary = Some(attempt.binary);
        self.decide(id, UpgradeResult::KeeperStays { errno: errno_of(&error) });
    }

    /// Lets the new binary look, in a child, whether it could go on. Returns the child's number; its exit
    /// code tells.
    pub(super) fn start_rehearsal(&self, attempt: &Attempt) -> io::Result<u32> {
        self.write_down(attempt)?;
        match child::fork(self.resources.spawner.alone(), None)? {
            // The flags of the child's descriptors are its own.
            Fork::Child => {
                let Err(e) = self.execute(attempt, &["--rehearse"]);
                child::exit_now(errno_of(&e))
            }
            Fork::Parent { pid, .. } => Ok(pid),
        }
    }

    fn hand_over(&self, attempt: &Attempt) -> io::Result<Infallible> {
        // Once more: things have happened since the rehearsal.
        self.write_down(attempt)?;
        self.execute(attempt, &[])
    }

    fn write_down(&self, attempt: &Attempt) -> io::Result<()> {
        let bytes = self.describe(attempt)?.encode();
        attempt.memory.set_len(0)?;
        attempt.memory.write_all_at(&bytes, 0)
    }

    fn execute(&self, attempt: &Attempt, more: &[&str]) -> io::Result<Infallible> {
        for fd in self.carried(attempt) {
            descriptor::at_exec(fd, AtExec::Keep)?;
        }
        let handed = Handed {
            socket: self.resources.socket_dir.socket().to_owned(),
            memory: attempt.memory.as_raw_fd(),
            image: attempt.image.as_raw_fd(),
            returned: None,
        };
        Err(become_keeper(&by_descriptor(&attempt.binary), &handed, more))
    }

    /// Every descriptor that the next keeper is to have.
    fn carried<'a>(&'a self, attempt: &'a Attempt) -> Vec<BorrowedFd<'a>> {
        let pipes = |held: &'a Held| held.pipes.iter().flat_map(|(out, err)| [out.as_fd(), err.as_fd()]);
        [
            self.resources.socket_dir.lock().as_fd(),
            self.resources.listener.as_fd(),
            self.resources.global.as_fd(),
        ]
        .into_iter()
        .chain(self.resources.grpc.as_ref().map(|grpc| grpc.listener().as_fd()))
        .chain(self.resources.pair.iter().flat_map(|pair| [pair.engine.as_fd(), pair.gateway.as_fd()]))
        .chain([attempt.binary.as_fd(), attempt.memory.as_fd(), attempt.image.as_fd()])
        .chain(self.engine.channel().map(AsFd::as_fd))
        .chain(self.table.iter().flat_map(|(_, held)| {
            let notify = held.notify.iter().map(AsFd::as_fd);
            [held.memory.as_fd()].into_iter().chain(pipes(held)).chain(notify)
        }))
        .collect()
    }

    fn describe(&self, attempt: &Attempt) -> io::Result<Handover> {
        let Engine::Up { pid, channel, since } = &self.engine else {
            return Err(io::Error::from_raw_os_error(ESRCH));
        };
        Ok(Handover {
            version: Version::ours(),
            socket: self.resources.socket_dir.socket().to_owned(),
            lock: self.resources.socket_dir.lock().as_raw_fd(),
            listener: self.resources.listener.as_raw_fd(),
            grpc: (self.resources.grpc.as_ref())
                .map(|grpc| (grpc.path().to_owned(), grpc.listener().as_raw_fd())),
            pair: (self.resources.pair.as_ref())
                .map(|pair| (pair.engine.as_raw_fd(), pair.gateway.as_raw_fd())),
            global: self.resources.global.as_raw_fd(),
            cgroups: self.resources.cgroups.as_ref().map(|root| root.path().to_owned()),
            started_at: self.started_at,
            engine_starts: self.engine_starts,
            nofile: self.resources.nofile,
            engine_arguments: self.resources.engine_arguments.clone(),
            engine: handover::Engine { pid: *pid, channel: channel.as_raw_fd(), since: *since },
            binary: attempt.binary.as_raw_fd(),
            upgrade: attempt.id,
            processes: self.table.iter().map(|(id, held)| process(id, held)).collect(),
        })
    }
}

fn process(id: ProcessId, held: &Held) -> Process {
    Process {
        id,
        run: held.run,
        pid: held.pid,
        memory: held.memory.as_raw_fd(),
        pipes: held.pipes.as_ref().map(|(out, err)| (out.as_raw_fd(), err.as_raw_fd())),
        ended: held.ended,
        notify: held.notify.as_ref().map(AsRawFd::as_raw_fd),
    }
}

/// Returns only when it failed.
fn become_keeper(program: &Path, handed: &Handed, more: &[&str]) -> io::Error {
    let c = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(EINVAL));
    let words = || -> io::Result<(CString, Vec<CString>, Vec<CString>)> {
        let mut argv = vec![c(b"provost")?, c(b"keeper")?, c(b"--socket")?];
        argv.push(c(handed.socket.as_os_str().as_bytes())?);
        for (option, number) in [("--handover", handed.memory), ("--image", handed.image)] {
            argv.extend([c(option.as_bytes())?, c(number.to_string().as_bytes())?]);
        }
        if let Some(why) = &handed.returned {
            argv.extend([c(b"--returned")?, c(why.as_bytes())?]);
        }
        for word in more {
            argv.push(c(word.as_bytes())?);
        }
        let env = env::vars_os().map(|(k, v)| c(&[k.as_bytes(), b"=", v.as_bytes()].concat()));
        Ok((c(program.as_os_str().as_bytes())?, argv, env.collect::<io::Result<_>>()?))
    };
    match words() {
        Ok((program, argv, env)) => {
            let [argv, env] = [&argv, &env].map(|all| all.iter().map(CString::as_c_str).collect::<Vec<_>>());
            child::exec(&program, &argv, &env)
        }
        Err(e) => e,
    }
}

/// Looks whether this program could go on, as [`resume`] would, and takes nothing.
pub fn rehearse(handed: &Handed) -> Result<u8, Error> {
    prepare(handed).map(|_| 0)
}

/// Goes on where another keeper, in this same process, left off. If this program cannot, the other one gets
/// it back.
pub fn resume(handed: &Handed, notify: &mut dyn FnMut(Notice)) -> Result<u8, Error> {
    match prepare(handed) {
        Ok((left, signals, spawner)) => {
            if let Some(why) = &handed.returned {
                notify(Notice::Failure(format!("the new keeper could not go on: {why}")));
            }
            take(handed, left, signals, spawner, notify).run()
        }
        Err(e) if handed.returned.is_none() => {
            let old = format!("/proc/self/fd/{}", handed.image);
            let back = Handed { returned: Some(e.message.clone()), ..handed.clone() };
            let failed = become_keeper(Path::new(&old), &back, &[]);
            Err(Error::new(
                Code::Failed,
                format!("{e}; and the keeper before cannot be executed again: {failed}"),
            ))
        }
        Err(e) => Err(e),
    }
}

/// Everything that can fail, while nothing has been taken and nothing done that an exec would not undo.
fn prepare(handed: &Handed) -> Result<(Handover, SignalFd, Spawner), Error> {
    let cannot = |what: &str, e: &io::Error| Error::new(Code::Failed, format!("cannot {what}: {e}"));
    let signals = receive_signals()?;
    let mut bytes = Vec::new();
    File::open(format!("/proc/self/fd/{}", handed.memory))
        .and_then(|file| file.take(LEN_MAX).read_to_end(&mut bytes))
        .map_err(|e| cannot("read the handover", &e))?;
    let writer = if handed.returned.is_none() { Writer::Other } else { Writer::Ourselves };
    let left = Handover::decode(&bytes, writer)?;
    check(handed, &left)
        .map_err(|e| Error::new(Code::Failed, format!("the handover cannot be used: {e}")))?;
    let spawner = Spawner::new(left.nofile).map_err(|e| cannot("prepare to fork", &e))?;
    Ok((left, signals, spawner))
}

/// Whether every descriptor is there, once, and what it should be.
fn check(handed: &Handed, left: &Handover) -> Result<(), String> {
    let file: fn(&FileType) -> bool = FileType::is_file;
    let socket: fn(&FileType) -> bool = FileType::is_socket;
    let pipe: fn(&FileType) -> bool = FileType::is_fifo;
    let mut wanted = vec![
        ("the handover", handed.memory, file),
        ("the program before", handed.image, file),
        ("the new program", left.binary, file),
        ("the lock", left.lock, file),
        ("the listening socket", left.listener, socket),
        ("the global memory", left.global, file),
        ("the engine's channel", left.engine.channel, socket),
    ];
    wanted.extend(left.grpc.iter().map(|&(_, listener)| ("the socket for gRPC", listener, socket)));
    let ends = left.pair.iter().flat_map(|&(engine, gateway)| [engine, gateway]);
    wanted.extend(ends.map(|end| ("an end of the gateway's pair", end, socket)));
    for process in &left.processes {
        wanted.push(("the memory of a process", process.memory, file));
        for pipe_end in process.pipes.iter().flat_map(|&(out, err)| [out, err]) {
            wanted.push(("a pipe of a process", pipe_end, pipe));
        }
        wanted.extend(process.notify.map(|number| ("the socket of a process", number, socket)));
    }
    let mut seen = BTreeSet::new();
    for (what, number, is_right) in wanted {
        let is_there = descriptor::is_inherited(number) && seen.insert(number);
        let kind = fs::metadata(format!("/proc/self/fd/{number}")).map(|m| m.file_type());
        if !is_there || !kind.is_ok_and(|kind| is_right(&kind)) {
            return Err(format!("descriptor {number} is not {what}"));
        }
    }
    if left.engine.pid <= 1 || !left.socket.is_absolute() {
        return Err("it names no engine or no socket".to_owned());
    }
    Ok(())
}

fn take<'n>(
    handed: &Handed,
    left: Handover,
    signals: SignalFd,
    mut spawner: Spawner,
    notify: &'n mut dyn FnMut(Notice),
) -> Keeper<'n> {
    let taken =
        |number: RawFd| descriptor::take(number).expect("it was looked at: inherited, and named once");
    let file = |number: RawFd| File::from(taken(number));
    spawner.record_spawns(&left.socket, notify);
    let grpc = left.grpc.map(|(path, listener)| GrpcSocket::inherited(path, taken(listener)));
    let socket_dir = SocketDir::inherited(left.socket, file(left.lock));
    let mut keeper = Keeper::new(
        Resources {
            sockets: SocketWatch::new(&socket_dir, grpc.as_ref()),
            grpc,
            socket_dir,
            listener: taken(left.listener),
            global: file(left.global),
            // An engine that has none yet gets it with the next one.
            pair: left.pair.map_or_else(
                || GatewayPair::new().ok(),
                |(engine, gateway)| Some(GatewayPair { engine: taken(engine), gateway: taken(gateway) }),
            ),
            cgroups: left.cgroups.map(Root::at),
            no_cgroups: None,
            nofile: left.nofile,
            engine_arguments: left.engine_arguments,
            spawner,
            signals,
        },
        notify,
    );
    for process in left.processes {
        let pipes: Option<(OwnedFd, OwnedFd)> = process.pipes.map(|(out, err)| (taken(out), taken(err)));
        let Process { run, pid, ended, .. } = process;
        let (memory, notify) = (file(process.memory), process.notify.map(taken));
        keeper.table.restore(process.id, Held { memory, run, pid, pipes, ended, notify });
    }
    let handover::Engine { pid, channel, since } = left.engine;
    keeper.engine = Engine::Up { pid, channel: taken(channel), since };
    keeper.engine_is_up = true;
    keeper.engine_starts = left.engine_starts;
    keeper.started_at = left.started_at;
    keeper.announced = true;
    let binary = file(left.binary);
    drop((taken(handed.memory), taken(handed.image)));
    match &handed.returned {
        None => keeper.upgraded(left.upgrade, left.version),
        Some(_) => {
            keeper.binary = Some(binary);
            keeper.decide(left.upgrade, UpgradeResult::HandedBack);
        }
    }
    // Whoever ended meanwhile is waiting to be reaped; the signal may have been taken already.
    keeper.take_signals();
    keeper
}

impl Keeper<'_> {
    /// The upgrade is done: this program is what it led to.
    fn upgraded(&mut self, id: UpgradeId, before: Version) {
        let outcome = UpgradeOutcome { id, result: UpgradeResult::Done, before };
        self.outcome = Some(outcome);
        self.outbox.push(Outgoing::Plain(ToEngine::Upgrade(outcome)));
        (self.notify)(Notice::Upgraded { before: before.text(), after: Version::ours().text() });
        self.report_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Timestamp;

    #[test]
    fn k7_a_descriptor_that_is_not_what_it_should_be_is_named() {
        // Nothing but the standard ones is inherited by a test, and those are none of ours.
        let handed = Handed { socket: "/s".into(), memory: 1, image: 2, returned: None };
        let left = Handover {
            version: Version::ours(),
            socket: "/s".into(),
            lock: 5,
            listener: 6,
            pair: None,
            grpc: None,
            global: 7,
            cgroups: None,
            started_at: Timestamp(0),
            engine_starts: 1,
            nofile: (1024, 1024),
            engine_arguments: Vec::new(),
            engine: handover::Engine { pid: 2, channel: 8, since: 0 },
            binary: 9,
            upgrade: UpgradeId::new(),
            processes: Vec::new(),
        };
        assert_eq!(check(&handed, &left), Err("descriptor 1 is not the handover".to_owned()));
    }
}
