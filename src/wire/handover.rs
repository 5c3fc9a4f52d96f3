//! What one keeper leaves to the next when it becomes another program by exec: plain facts and the numbers of
//! the descriptors that stay open. The encoding only; taking and giving is `keeper/handover.rs`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use prost::Message;

use crate::wire::error::{Code, Error};
use crate::wire::id::{ProcessId, UpgradeId};
use crate::wire::keeper::Ended;
use crate::wire::proto::v1 as internal;
use crate::wire::time::Timestamp;
use crate::wire::upgrade::Version;

/// What this program writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// See the module. Descriptors are numbers here: who owns them changes with the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    pub version: Version,
    pub socket: PathBuf,
    /// The descriptor of the lock beside it.
    pub lock: i32,
    pub listener: i32,
    /// The socket for gRPC on this machine, if there is one: where it is, and its descriptor.
    pub grpc: Option<(PathBuf, i32)>,
    pub global: i32,
    /// Both ends of the gateway's pair, the engine's first.
    pub pair: Option<(i32, i32)>,
    /// The directory of the cgroups, if there are any.
    pub cgroups: Option<PathBuf>,
    /// Since when the service is there.
    pub started_at: Timestamp,
    /// How many engines there were.
    pub engine_starts: u64,
    /// The limit of descriptors that the service was started with, soft and hard.
    pub nofile: (u64, u64),
    /// What every engine is given.
    pub engine_arguments: Vec<String>,
    /// The engine that runs.
    pub engine: Engine,
    /// The descriptor of the new binary.
    pub binary: i32,
    /// Which upgrade this is.
    pub upgrade: UpgradeId,
    pub processes: Vec<Process>,
}

/// The engine that runs over the change of keepers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    pub pid: u32,
    pub channel: i32,
    /// When it started, by the monotonic clock in ms.
    pub since: u64,
}

/// A process as the keeper holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: ProcessId,
    pub run: u64,
    /// 0 means that nothing runs.
    pub pid: u32,
    pub memory: i32,
    /// Read ends of stdout and stderr.
    pub pipes: Option<(i32, i32)>,
    pub ended: Option<Ended>,
    /// The socket where it says that it is ready.
    pub notify: Option<i32>,
}

/// Which program wrote a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    Other,
    /// Our own, given back to us: what we wrote we can read.
    Ourselves,
}

impl Handover {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let fd = |number: i32| number.cast_unsigned();
        let path = |p: &PathBuf| p.as_os_str().as_bytes().to_vec();
        internal::Handover {
            format: FORMAT,
            version: self.version.text(),
            socket: path(&self.socket),
            lock: fd(self.lock),
            listener: fd(self.listener),
            grpc_socket: self.grpc.as_ref().map(|(socket, _)| path(socket)).unwrap_or_default(),
            grpc_listener: self.grpc.as_ref().map_or(0, |&(_, listener)| fd(listener)),
            global: fd(self.global),
            pair_engine: self.pair.map_or(0, |(engine, _)| fd(engine)),
            pair_gateway: self.pair.map_or(0, |(_, gateway)| fd(gateway)),
            cgroups: self.cgroups.as_ref().map(path).unwrap_or_default(),
            started_at: self.started_at.0,
            engine_starts: self.engine_starts,
            nofile_soft: self.nofile.0,
            nofile_hard: self.nofile.1,
            engine_arguments: self.engine_arguments.clone(),
            engine_pid: self.engine.pid,
            engine_channel: fd(self.engine.channel),
            engine_since: self.engine.since,
            binary: fd(self.binary),
            upgrade: self.upgrade.as_bytes().to_vec(),
            processes: self.processes.iter().copied().map(Process::to_wire).collect(),
        }
        .encode_to_vec()
    }

    /// An error says what this program cannot do with the bytes.
    pub fn decode(bytes: &[u8], writer: Writer) -> Result<Self, Error> {
        let unusable = |why: String| Error::new(Code::Failed, format!("the handover cannot be used: {why}"));
        let w = internal::Handover::decode(bytes).map_err(|e| unusable(e.to_string()))?;
        if writer == Writer::Other && w.format > FORMAT {
            let (version, format) = (w.version, w.format);
            return Err(unusable(format!(
                "version {version} wrote it in format {format}, and {FORMAT} is the newest that is known here"
            )));
        }
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let fd = |number: u32| i32::try_from(number).unwrap_or(0);
        Ok(Self {
            version: Version::new(&w.version),
            socket: path(w.socket),
            lock: fd(w.lock),
            listener: fd(w.listener),
            grpc: (w.grpc_listener != 0).then(|| (path(w.grpc_socket), fd(w.grpc_listener))),
            global: fd(w.global),
            pair: (w.pair_gateway != 0).then(|| (fd(w.pair_engine), fd(w.pair_gateway))),
            cgroups: (!w.cgroups.is_empty()).then(|| path(w.cgroups)),
            started_at: Timestamp(w.started_at),
            engine_starts: w.engine_starts,
            nofile: (w.nofile_soft, w.nofile_hard),
            engine_arguments: w.engine_arguments,
            engine: Engine { pid: w.engine_pid, channel: fd(w.engine_channel), since: w.engine_since },
            binary: fd(w.binary),
            upgrade: UpgradeId::from_wire(&w.upgrade).map_err(|e| unusable(e.message))?,
            processes: (w.processes.into_iter().map(Process::from_wire))
                .collect::<Result<_, _>>()
                .map_err(|e| unusable(e.message))?,
        })
    }
}

impl Process {
    fn to_wire(self) -> internal::HeldProcess {
        let (stdout, stderr) = self.pipes.unwrap_or_default();
        internal::HeldProcess {
            id: self.id.as_bytes().to_vec(),
            run: self.run,
            pid: self.pid,
            memory: self.memory.cast_unsigned(),
            stdout: stdout.cast_unsigned(),
            stderr: stderr.cast_unsigned(),
            notify: self.notify.unwrap_or(0).cast_unsigned(),
            ended: self.ended.map(|e| internal::ProcessEnd {
                pid: e.pid,
                status: e.status,
                user_us: e.user_us,
                system_us: e.system_us,
                max_rss_kib: e.max_rss_kib,
                at: e.at,
                at_mono: e.at_mono,
            }),
        }
    }

    fn from_wire(w: internal::HeldProcess) -> Result<Self, Error> {
        let fd = |number: u32| i32::try_from(number).unwrap_or(0);
        let (stdout, stderr) = (fd(w.stdout), fd(w.stderr));
        Ok(Self {
            id: ProcessId::from_wire(&w.id)?,
            run: w.run,
            pid: w.pid,
            memory: fd(w.memory),
            pipes: (stdout != 0 && stderr != 0).then_some((stdout, stderr)),
            notify: (w.notify != 0).then(|| fd(w.notify)),
            ended: w.ended.map(|e| Ended {
                pid: e.pid,
                status: e.status,
                user_us: e.user_us,
                system_us: e.system_us,
                max_rss_kib: e.max_rss_kib,
                at: e.at,
                at_mono: e.at_mono,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Handover {
        let ended = Ended { pid: 7, status: 9, user_us: 1, system_us: 2, max_rss_kib: 3, at: 4, at_mono: 5 };
        let process = |pid, pipes, ended| Process {
            id: ProcessId::new(),
            run: 7,
            pid,
            memory: 20,
            pipes,
            ended,
            notify: Some(23),
        };
        Handover {
            version: Version::ours(),
            socket: "/run/provost/engine.sock".into(),
            lock: 5,
            listener: 6,
            grpc: Some(("/run/provost/grpc.sock".into(), 8)),
            global: 7,
            pair: Some((13, 14)),
            cgroups: Some("/sys/fs/cgroup/provost-1".into()),
            started_at: Timestamp(1),
            engine_starts: 2,
            nofile: (1024, 1 << 20),
            engine_arguments: vec!["--exe".into(), "/usr/bin/provost".into()],
            engine: Engine { pid: 12, channel: 9, since: 3 },
            binary: 10,
            upgrade: UpgradeId::new(),
            processes: vec![process(42, Some((21, 22)), None), process(0, None, Some(ended))],
        }
    }

    #[test]
    fn it_survives() {
        let handover = example();
        assert_eq!(Handover::decode(&handover.encode(), Writer::Other), Ok(handover));
    }

    #[test]
    fn k7_what_is_unknown_is_passed_over_and_what_is_missing_has_its_default() {
        let handover = example();
        // Field 9999, a text of three bytes, of some later program.
        let unknown = [0xfa, 0xf0, 0x04, 3, b'n', b'e', b'w'];
        assert_eq!(
            Handover::decode(&[handover.encode(), unknown.into()].concat(), Writer::Other),
            Ok(handover)
        );
        let id = UpgradeId::new();
        let older = internal::Handover { upgrade: id.as_bytes().to_vec(), ..Default::default() };
        let read = Handover::decode(&older.encode_to_vec(), Writer::Other).unwrap();
        assert_eq!((read.upgrade, read.cgroups, read.grpc, read.processes.len()), (id, None, None, 0));
    }

    #[test]
    fn k7_a_newer_format_is_refused_by_name_and_our_own_words_are_not() {
        // Field 1 once more: the last one counts.
        let newer = [example().encode(), vec![0x08, 99]].concat();
        let e = Handover::decode(&newer, Writer::Other).unwrap_err();
        assert!(e.message.contains("format 99") && e.message.contains(env!("CARGO_PKG_VERSION")), "{e}");
        assert!(Handover::decode(&newer, Writer::Ourselves).is_ok());
    }

    #[test]
    fn k7_rubbish_is_refused() {
        let whole = example().encode();
        for len in 0..whole.len() - 1 {
            // A cut between two fields can leave something to read, but never what there was.
            if let Ok(read) = Handover::decode(&whole[..len], Writer::Other) {
                assert_ne!(read, example(), "{len} of {} bytes", whole.len());
            }
        }
        assert!(Handover::decode(b"not a handover", Writer::Ourselves).is_err());
    }
}
