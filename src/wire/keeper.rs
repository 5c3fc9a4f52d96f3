//! What keeper and engine say to each other over their `SOCK_SEQPACKET` pair: small messages of one fixed
//! size, file descriptors beside them. Anything large is in the process's memory, which both hold.
//!
//! The layout is frozen: after an upgrade an old keeper meets a new engine. A message that one side does not
//! know is answered by nothing and logged; [`VERSION`] grows when that is not enough.

use uuid::Uuid;

use crate::wire::id::{ProcessId, UpgradeId};
use crate::wire::upgrade::{UpgradeOutcome, UpgradeResult, Version};

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// Every message has this size, in bytes.
pub const MESSAGE_LEN: usize = 128;
/// The most file descriptors beside one message.
pub const FDS_MAX: usize = 5;
/// The engine finds its end of the pair at this descriptor.
pub const ENGINE_FD: i32 = 3;
/// The directory of a service's cgroups is this and the keeper's number, with a dash between them.
pub const CGROUP_PREFIX: &str = "provost";
/// Where in a process's memory a child writes why it did not come to its exec: run (u64), step (u32), errno
/// (u32), all little endian. There it outlives both the child and the engine.
pub const FAILURE_AT: usize = 64;
/// Its length, in bytes.
pub const FAILURE_LEN: usize = 16;

/// From the engine to the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToKeeper {
    /// The engine's first message: the version it speaks. Answered by [`ToEngine::Hello`], then one
    /// [`ToEngine::Entry`] for each process, then [`ToEngine::Listed`].
    Hello { version: u32 },
    /// Hold this process's memory from now on. fds: memory.
    Hold { id: ProcessId },
    /// Run the launch at this place of the process's memory. fds: the end of a pipe for the child to keep
    /// open until its exec; a cgroup directory, or none; the file to execute, if the launch says so; and its
    /// standard input, if it is not /dev/null. `service`: whose database knows it, for the record of spawns.
    Spawn { id: ProcessId, run: u64, launch: ByteRange, program: Program, has_stdin: bool, service: Uuid },
    /// The end of this run is recorded; it need not be told again.
    Ack { id: ProcessId, run: u64 },
    /// Drop everything of this process. Refused (by nothing happening) while it runs.
    Forget { id: ProcessId },
    /// The engine is up: answering, with everything taken over.
    Ready,
    /// How long what [`ToEngine::StopAll`] asked may take in order.
    StopTakes { ms: u64 },
    /// Everything is stopped, as [`ToEngine::StopAll`] asked.
    AllStopped,
    /// Move to another binary. fds: that binary. Answered by [`ToEngine::Upgrade`] if nothing can be done;
    /// else this engine is killed, and the next one is told.
    Upgrade { id: UpgradeId },
    /// What was to become an engine could not execute its program.
    NotExecuted { errno: i32 },
    /// Hold this socket of the process too: what it says there must outlive this engine. fds: the socket.
    HoldNotify { id: ProcessId },
    /// The main process of the run is this one from here on: it has forked, and goes on in the background.
    /// Sent again, it asks how that one has ended. Answered by [`ToEngine::Exited`] once it has, or by
    /// [`ToEngine::Lost`] if another is its parent, or was.
    Main { id: ProcessId, run: u64, pid: u32 },
    /// What is essential has ended for good: end the service in order, and with this exit code.
    EndService { code: u8 },
}

/// From the keeper to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToEngine {
    /// fds: the global memory, the listening socket; both ends of the gateway's pair, the engine's first, if
    /// there is one; the socket for gRPC, if there is one.
    Hello {
        version: u32,
        started_at: u64,
        engine_starts: u64,
        keeper: Version,
        has_pair: bool,
    },
    /// A process that is held. fds: memory; then pidfd, stdout, stderr if it runs (pid is not 0).
    Entry {
        id: ProcessId,
        run: u64,
        pid: u32,
        ended: Option<Ended>,
        open: Open,
    },
    /// That was the last entry.
    Listed,
    /// A spawn succeeded. fds: pidfd, stdout, stderr.
    Spawned {
        id: ProcessId,
        run: u64,
        pid: u32,
    },
    /// A spawn failed before there was a child.
    NotSpawned {
        id: ProcessId,
        run: u64,
        step: Step,
        errno: i32,
    },
    Exited {
        id: ProcessId,
        run: u64,
        ended: Ended,
    },
    /// Bring everything to its end: the service was asked to stop. `hurry` after a second signal.
    StopAll {
        hurry: bool,
    },
    /// How the last upgrade stands.
    Upgrade(UpgradeOutcome),
    /// What [`ToKeeper::Main`] named is not there, and how it ended is not known.
    Lost {
        id: ProcessId,
        run: u64,
    },
    /// What [`ToKeeper::HoldNotify`] gave, after the entries. fds: the socket.
    Notify {
        id: ProcessId,
    },
}

/// Which pipes of an entry the keeper still holds, in the order of their descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Memory,
    /// Memory, stdout, stderr; the process has ended.
    Pipes,
    /// Memory, stdout, stderr, pidfd.
    Running,
}

/// Where a child finds its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// At one of the paths of its launch.
    ByPath,
    /// It is the last descriptor of the message.
    Descriptor,
}

/// A place in a process's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub offset: u64,
    pub len: u64,
}

/// How a child ended, as wait4(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ended {
    /// Whose end it is; 0: an older program tells, which knows of one process for each run.
    pub pid: u32,
    /// The raw wait status.
    pub status: i32,
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    /// Wall clock, ms since the epoch.
    pub at: u64,
    /// The same by the monotonic clock, in ms.
    pub at_mono: u64,
}

/// A step of a start, in the order in which they are done, but that the child reads its launch (`Memory`)
/// when it has its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Pipe,
    Fork,
    Memory,
    Session,
    Descriptors,
    Nice,
    OomScore,
    Groups,
    Limits,
    SetGid,
    SetUid,
    NoNewPrivs,
    Chdir,
    Landlock,
    Exec,
}

/// Steps with their numbers and names: the one list of them.
const STEPS: [(Step, u32, &str); 15] = [
    (Step::Pipe, 1, "pipe"),
    (Step::Fork, 2, "fork"),
    (Step::Memory, 3, "memory"),
    (Step::Session, 4, "setsid"),
    (Step::Descriptors, 5, "descriptors"),
    (Step::Limits, 6, "setrlimit"),
    (Step::Nice, 7, "nice"),
    (Step::OomScore, 8, "oom_score_adj"),
    (Step::Groups, 9, "setgroups"),
    (Step::SetGid, 10, "setgid"),
    (Step::SetUid, 11, "setuid"),
    (Step::NoNewPrivs, 12, "no_new_privs"),
    (Step::Chdir, 13, "chdir"),
    (Step::Exec, 14, "exec"),
    (Step::Landlock, 15, "landlock"),
];

impl Step {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        STEPS.iter().find(|s| s.0 == self).map_or("start", |s| s.2)
    }

    /// As it is written into the process's memory.
    #[must_use]
    pub fn number(self) -> u32 {
        STEPS.iter().find(|s| s.0 == self).map_or(0, |s| s.1)
    }

    /// The step of that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        STEPS.iter().find(|s| s.1 == number).map(|s| s.0)
    }

    /// The step of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        STEPS.iter().find(|s| s.2 == name).map(|s| s.0)
    }
}

/// Why a child did not come to its exec, as it writes it at [`FAILURE_AT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub run: u64,
    pub step: Step,
    pub errno: i32,
}

impl Failure {
    #[must_use]
    pub fn encode(&self) -> [u8; FAILURE_LEN] {
        let mut bytes = [0; FAILURE_LEN];
        bytes[..8].copy_from_slice(&self.run.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.step.number().to_le_bytes());
        bytes[12..].copy_from_slice(&self.errno.to_le_bytes());
        bytes
    }

    /// `None`: nothing was written there.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(Self { run: r.u64()?, step: Step::from_number(r.u32()?)?, errno: r.u32()?.cast_signed() })
    }
}

/// Writes fields one after another into a message.
struct Writer {
    buf: [u8; MESSAGE_LEN],
    at: usize,
}

impl Writer {
    fn new(kind: u32) -> Self {
        Self { buf: [0; MESSAGE_LEN], at: 0 }.u32(kind)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.buf[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn ended(self, e: &Ended) -> Self {
        (self.u32(e.status.cast_unsigned()).u64(e.user_us).u64(e.system_us).u64(e.max_rss_kib))
            .u64(e.at)
            .u64(e.at_mono)
            .u32(e.pid)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*now)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<ProcessId> {
        self.bytes().map(ProcessId::from_bytes)
    }

    fn ended(&mut self) -> Option<Ended> {
        Some(Ended {
            status: self.u32()?.cast_signed(),
            user_us: self.u64()?,
            system_us: self.u64()?,
            max_rss_kib: self.u64()?,
            at: self.u64()?,
            at_mono: self.u64()?,
            pid: self.u32()?,
        })
    }
}

impl ToKeeper {
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE_LEN] {
        match self {
            Self::Hello { version } => Writer::new(1).u32(*version),
            Self::Hold { id } => Writer::new(2).bytes(id.as_bytes()),
            Self::Spawn { id, run, launch, program, has_stdin, service } => {
                (Writer::new(3).bytes(id.as_bytes()).u64(*run))
                    .u64(launch.offset)
                    .u64(launch.len)
                    .u32(u32::from(*program == Program::Descriptor))
                    .u32(u32::from(*has_stdin))
                    .bytes(service.as_bytes())
            }
            Self::Ack { id, run } => Writer::new(4).bytes(id.as_bytes()).u64(*run),
            Self::Forget { id } => Writer::new(5).bytes(id.as_bytes()),
            Self::Ready => Writer::new(6),
            Self::AllStopped => Writer::new(7),
            Self::Upgrade { id } => Writer::new(8).bytes(id.as_bytes()),
            Self::NotExecuted { errno } => Writer::new(9).u32(errno.cast_unsigned()),
            Self::StopTakes { ms } => Writer::new(10).u64(*ms),
            Self::HoldNotify { id } => Writer::new(11).bytes(id.as_bytes()),
            Self::Main { id, run, pid } => Writer::new(12).bytes(id.as_bytes()).u64(*run).u32(*pid),
            Self::EndService { code } => Writer::new(13).u32(u32::from(*code)),
        }
        .buf
    }

    /// `None`: not a message that this version knows.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(match r.u32()? {
            1 => Self::Hello { version: r.u32()? },
            2 => Self::Hold { id: r.id()? },
            3 => Self::Spawn {
                id: r.id()?,
                run: r.u64()?,
                launch: ByteRange { offset: r.u64()?, len: r.u64()? },
                program: if r.u32()? == 0 { Program::ByPath } else { Program::Descriptor },
                has_stdin: r.u32()? != 0,
                service: r.bytes().map(Uuid::from_bytes)?,
            },
            4 => Self::Ack { id: r.id()?, run: r.u64()? },
            5 => Self::Forget { id: r.id()? },
            6 => Self::Ready,
            7 => Self::AllStopped,
            8 => Self::Upgrade { id: UpgradeId::from_bytes(r.bytes()?) },
            9 => Self::NotExecuted { errno: r.u32()?.cast_signed() },
            10 => Self::StopTakes { ms: r.u64()? },
            11 => Self::HoldNotify { id: r.id()? },
            12 => Self::Main { id: r.id()?, run: r.u64()?, pid: r.u32()? },
            13 => Self::EndService { code: u8::try_from(r.u32()?).ok()? },
            _ => return None,
        })
    }
}

impl ToEngine {
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE_LEN] {
        match self {
            Self::Hello { version, started_at, engine_starts, keeper, has_pair } => {
                (Writer::new(1).u32(*version).u64(*started_at).u64(*engine_starts).bytes(&keeper.0))
                    .u32(u32::from(*has_pair))
            }
            Self::Entry { id, run, pid, ended, open } => {
                let open = match open {
                    Open::Memory => 0,
                    Open::Pipes => 1,
                    Open::Running => 2,
                };
                let w = Writer::new(2).bytes(id.as_bytes()).u64(*run).u32(*pid).u32(open);
                match ended {
                    None => w.u32(0),
                    Some(e) => w.u32(1).ended(e),
                }
            }
            Self::Listed => Writer::new(3),
            Self::Spawned { id, run, pid } => Writer::new(4).bytes(id.as_bytes()).u64(*run).u32(*pid),
            Self::NotSpawned { id, run, step, errno } => {
                Writer::new(5).bytes(id.as_bytes()).u64(*run).u32(step.number()).u32(errno.cast_unsigned())
            }
            Self::Exited { id, run, ended } => Writer::new(6).bytes(id.as_bytes()).u64(*run).ended(ended),
            Self::StopAll { hurry } => Writer::new(7).u32(u32::from(*hurry)),
            Self::Upgrade(UpgradeOutcome { id, result, before }) => {
                let (kind, number) = result.numbers();
                Writer::new(8).bytes(id.as_bytes()).u32(kind).u32(number.cast_unsigned()).bytes(&before.0)
            }
            Self::Notify { id } => Writer::new(9).bytes(id.as_bytes()),
            Self::Lost { id, run } => Writer::new(10).bytes(id.as_bytes()).u64(*run),
        }
        .buf
    }

    /// `None`: not a message that this version knows.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(match r.u32()? {
            1 => Self::Hello {
                version: r.u32()?,
                started_at: r.u64()?,
                engine_starts: r.u64()?,
                keeper: Version(r.bytes()?),
                has_pair: r.u32()? != 0,
            },
            2 => {
                let (id, run, pid) = (r.id()?, r.u64()?, r.u32()?);
                let open = match r.u32()? {
                    0 => Open::Memory,
                    1 => Open::Pipes,
                    2 => Open::Running,
                    _ => return None,
                };
                let ended = if r.u32()? == 0 { None } else { Some(r.ended()?) };
                Self::Entry { id, run, pid, ended, open }
            }
            3 => Self::Listed,
            4 => Self::Spawned { id: r.id()?, run: r.u64()?, pid: r.u32()? },
            5 => Self::NotSpawned {
                id: r.id()?,
                run: r.u64()?,
                step: Step::from_number(r.u32()?)?,
                errno: r.u32()?.cast_signed(),
            },
            6 => Self::Exited { id: r.id()?, run: r.u64()?, ended: r.ended()? },
            7 => Self::StopAll { hurry: r.u32()? != 0 },
            8 => Self::Upgrade(UpgradeOutcome {
                id: UpgradeId::from_bytes(r.bytes()?),
                result: UpgradeResult::from_numbers(r.u32()?, r.u32()?.cast_signed()),
                before: Version(r.bytes()?),
            }),
            9 => Self::Notify { id: r.id()? },
            10 => Self::Lost { id: r.id()?, run: r.u64()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives() {
        let id = ProcessId::new();
        let ended =
            Ended { pid: 6, status: 256, user_us: 1, system_us: 2, max_rss_kib: 3, at: 4, at_mono: u64::MAX };
        for m in [
            ToKeeper::Hello { version: 1 },
            ToKeeper::Hold { id },
            ToKeeper::Spawn {
                id,
                run: 7,
                launch: ByteRange { offset: 1 << 40, len: 9 },
                program: Program::Descriptor,
                has_stdin: true,
                service: Uuid::from_bytes([5; 16]),
            },
            ToKeeper::Ack { id, run: 8 },
            ToKeeper::Forget { id },
            ToKeeper::Ready,
            ToKeeper::AllStopped,
            ToKeeper::Upgrade { id: UpgradeId::new() },
            ToKeeper::NotExecuted { errno: 8 },
            ToKeeper::StopTakes { ms: 300_000 },
            ToKeeper::HoldNotify { id },
            ToKeeper::Main { id, run: 3, pid: 4 },
        ] {
            assert_eq!(ToKeeper::decode(&m.encode()), Some(m));
        }
        for m in [
            ToEngine::Hello {
                version: 1,
                started_at: 5,
                engine_starts: 2,
                keeper: Version::ours(),
                has_pair: true,
            },
            ToEngine::Entry { id, run: 1, pid: 2, ended: Some(ended), open: Open::Pipes },
            ToEngine::Entry { id, run: 1, pid: 2, ended: None, open: Open::Running },
            ToEngine::Listed,
            ToEngine::Spawned { id, run: 3, pid: 4 },
            ToEngine::NotSpawned { id, run: 3, step: Step::Fork, errno: 11 },
            ToEngine::Exited { id, run: 3, ended },
            ToEngine::StopAll { hurry: true },
            ToEngine::Notify { id },
            ToEngine::Lost { id, run: 3 },
            ToEngine::Upgrade(UpgradeOutcome {
                id: UpgradeId::new(),
                result: UpgradeResult::NotExecuted { errno: 8 },
                before: Version::ours(),
            }),
        ] {
            assert_eq!(ToEngine::decode(&m.encode()), Some(m));
        }
        assert_eq!(ToEngine::decode(&[99; MESSAGE_LEN]), None);
        assert_eq!(ToEngine::decode(&[]), None);
    }
}
