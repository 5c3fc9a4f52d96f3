//! A process as it is shown: its state, its last end, and what comes next.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::cgroup_limits::CgroupLimits;
use crate::wire::error::Error;
use crate::wire::id::{Name, ProcessId};
use crate::wire::proto::{same_variants, v1};
use crate::wire::schedule::Schedule;
use crate::wire::spec::{RestartPolicy, pairs_from_wire, pairs_to_wire};
use crate::wire::time::{Timestamp, millis};

/// The life of a process. What each state means to a user; the rules between them are in
/// `engine/process/state.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Nothing runs and nothing will by itself.
    #[default]
    Stopped,
    /// Asked of the keeper; the program is not executing yet.
    Starting,
    Running,
    /// A run is being brought to its end, until nothing of it is left.
    Stopping,
    /// The last run failed; another attempt is due.
    Backoff,
    /// It failed too often; only a person starts it again, or its schedule.
    Failed,
    /// Nothing runs until its schedule says.
    Scheduled,
}

impl State {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Scheduled => "scheduled",
        }
    }

    /// Whether nothing happens from here without a person, or a schedule.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Scheduled)
    }
}

same_variants!(State: Stopped, Starting, Running, Stopping, Backoff, Failed, Scheduled);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

/// The end of a run, with what the kernel said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub end: End,
    /// A core was dumped.
    pub core: bool,
    /// The kernel killed something of it for want of memory.
    pub oom: bool,
    /// From the start of the run.
    pub ran: Duration,
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// Largest resident set, in KiB.
    pub max_rss_kib: u64,
}

#[cfg(test)]
impl Exit {
    /// At once, without a trace but this.
    pub fn with(end: End) -> Self {
        let (ran, user, system) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { end, core: false, oom: false, ran, user, system, max_rss_kib: 0 }
    }
}

impl Exit {
    /// What a shell would report: the code, or 128 + the signal.
    #[must_use]
    pub fn shell_code(&self) -> u8 {
        match self.end {
            End::Code(code) => code,
            End::Signal(signal) => 128u8.saturating_add(signal),
        }
    }

    /// Encoded, as the store keeps it.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.to_wire())
    }

    /// Decodes what [`Exit::encode`] made; `None`: it did not make this.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::from_wire(&<v1::Exit as prost::Message>::decode(bytes).ok()?)
    }

    pub(in crate::wire) fn to_wire(self) -> v1::Exit {
        v1::Exit {
            how: Some(match self.end {
                End::Code(code) => v1::exit::How::Code(u32::from(code)),
                End::Signal(signal) => v1::exit::How::Signal(u32::from(signal)),
            }),
            core: self.core,
            oom: self.oom,
            ran_ms: millis(self.ran),
            user_us: u64::try_from(self.user.as_micros()).unwrap_or(u64::MAX),
            system_us: u64::try_from(self.system.as_micros()).unwrap_or(u64::MAX),
            max_rss_kib: self.max_rss_kib,
        }
    }

    pub(in crate::wire) fn from_wire(w: &v1::Exit) -> Option<Self> {
        let end = match w.how.as_ref()? {
            v1::exit::How::Code(code) => End::Code(u8::try_from(*code).ok()?),
            v1::exit::How::Signal(signal) => End::Signal(u8::try_from(*signal).ok()?),
        };
        Some(Self {
            end,
            core: w.core,
            oom: w.oom,
            ran: Duration::from_millis(w.ran_ms),
            user: Duration::from_micros(w.user_us),
            system: Duration::from_micros(w.system_us),
            max_rss_kib: w.max_rss_kib,
        })
    }
}

/// Between a program that was looked up and not found, and the directories, in the object of a failure.
pub const LOOKED_UP: &str = " in PATH=";

/// A start that did not come to an exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// The step of the child's set-up: "exec", "chdir", "setuid", ...
    pub step: String,
    pub errno: i32,
    /// What the step was about: a path, a user, a limit; a program and the directories where it is not.
    pub object: String,
}

impl StartFailure {
    /// `exec '/x': no such file or directory`; of what came before the first step, the reason as it is.
    pub fn in_words(&self) -> String {
        if self.errno == 0 {
            return self.object.trim_start_matches("cannot start: ").to_owned();
        }
        let object = match self.object.split_once(LOOKED_UP) {
            Some((program, dirs)) => format!(" '{program}' (looked in {dirs})"),
            None if self.object.is_empty() => String::new(),
            None => format!(" '{}'", self.object),
        };
        let why = io::Error::from_raw_os_error(self.errno).to_string();
        let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
        format!("{}{object}: {why}", self.step)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::StartFailure {
        v1::StartFailure {
            step: self.step.clone(),
            errno: u32::try_from(self.errno).unwrap_or(0),
            object: self.object.clone(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::StartFailure) -> Self {
        Self { step: w.step, errno: i32::try_from(w.errno).unwrap_or(0), object: w.object }
    }
}

/// A process as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: ProcessId,
    pub name: Option<Name>,
    /// The number among the instances of one start, from 1.
    pub instance: Option<u32>,
    /// Grows by one with each start.
    pub run: u64,
    pub state: State,
    /// Whether it said so, or need not.
    pub ready: bool,
    /// Of the present run.
    pub pid: Option<u32>,
    /// Automatic restarts since the first start.
    pub restarts: u64,
    /// When it was made known.
    pub created_at: Timestamp,
    /// Start of the latest run.
    pub started_at: Option<Timestamp>,
    /// End of the latest run.
    pub stopped_at: Option<Timestamp>,
    /// How the last run that ended did.
    pub exit: Option<Exit>,
    /// Why the latest start did not come to an exec.
    pub start_failure: Option<StartFailure>,
    /// Program and arguments, cut to 4 KiB in all.
    pub command: Vec<String>,
    /// Failures in a row.
    pub attempts: u32,
    /// Restarts within the window, so far.
    pub window_restarts: u32,
    /// Restarts within the window after which it is failed.
    pub max_restarts: Option<u32>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When the stop in progress turns to SIGKILL.
    pub kill_at: Option<Timestamp>,
    /// Who or which rule brought the present state.
    pub cause: String,
    pub restart: RestartPolicy,
    /// Oldest output byte kept.
    pub output_start: u64,
    /// Output bytes written since the first start.
    pub output_end: u64,
    /// SIGKILL was sent, and something would not die.
    pub stuck: bool,
    /// What the user attached.
    pub labels: Vec<(String, String)>,
    pub cwd: String,
    /// User it runs as, when the spec names one.
    pub user: Option<String>,
    /// The service runs it for itself.
    pub internal: bool,
    /// Its run is of an older definition than the present one, which holds from the next run on.
    pub outdated: bool,
    /// A signal has halted it. Known only where it was asked for: see `look` of
    /// [`Status`](crate::wire::request::Status).
    pub halted: bool,
    /// Which hook runs; empty: none.
    pub hook: String,
    /// What it may take of the machine.
    pub limits: Box<CgroupLimits>,
    /// Why the machine does not see to that; empty: it does.
    pub limits_trouble: String,
    /// What it takes of the machine, where that was asked for and anything of it is there.
    pub usage: Option<Usage>,
    /// Why its latest run was ended by a probe; empty: it was not.
    pub unfit: String,
    /// What it last said of itself; empty: nothing.
    pub status: String,
    /// For whom its start waits; while it runs and is not ready, what is to show that it is, and what the
    /// last look for it met. Empty: for nobody.
    pub waits_for: String,
    /// Those do not come by themselves.
    pub is_blocked: bool,
    /// Where the output of the latest run begins.
    pub run_output_start: u64,
    /// What the stop in progress has sent; 0: none is in progress.
    pub stop_signal: u32,
    /// When that was; none: there is none in progress, or SIGKILL has followed.
    pub stop_asked_at: Option<Timestamp>,
    /// Why its output cannot be written to its log; empty: it can.
    pub log_trouble: String,
    /// Bytes of output that were lost to its log.
    pub log_lost: u64,
    /// The files of its log: of standard output, then of standard error, or one for both.
    pub log_files: Vec<String>,
    /// When it runs by itself next; none: it does not.
    pub next_run_at: Option<Timestamp>,
    /// With the time zone that is meant.
    pub schedule: Arc<Schedule>,
}

/// What a process and all that it started take of the machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on processors of those that are there, ms.
    pub cpu_ms: u64,
    /// Resident memory in bytes; what several share is counted for each.
    pub memory: u64,
    pub processes: u32,
    pub threads: u32,
    /// Open descriptors, of those that the service may look at.
    pub descriptors: u32,
    /// Bytes read from storage.
    pub read: u64,
    /// Bytes written to storage.
    pub written: u64,
}

impl Usage {
    fn to_wire(self) -> v1::Usage {
        v1::Usage {
            cpu_ms: self.cpu_ms,
            memory_bytes: self.memory,
            processes: self.processes,
            threads: self.threads,
            descriptors: self.descriptors,
            read_bytes: self.read,
            written_bytes: self.written,
        }
    }

    fn from_wire(w: v1::Usage) -> Self {
        Self {
            cpu_ms: w.cpu_ms,
            memory: w.memory_bytes,
            processes: w.processes,
            threads: w.threads,
            descriptors: w.descriptors,
            read: w.read_bytes,
            written: w.written_bytes,
        }
    }
}

impl Process {
    /// Its name, or else its id: what a message calls it.
    #[must_use]
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.id.to_string(), |n| n.as_str().to_owned())
    }

    /// Whether it has a schedule that does not run it: somebody has stopped it.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.state.is_at_rest() && self.schedule.is_on() && self.next_run_at.is_none()
    }

    /// The first one for which its start waits, if that is another process.
    #[must_use]
    pub fn awaited(&self) -> Option<&str> {
        let first = self.waits_for.split(" (").next().filter(|_| self.state == State::Starting)?;
        first.parse::<Name>().is_ok().then_some(first)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Process {
        v1::Process {
            id: self.id.as_bytes().to_vec(),
            name: self.name.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
            instance: self.instance.unwrap_or(0),
            run: self.run,
            state: self.state.to_wire() as i32,
            ready: self.ready,
            pid: self.pid.unwrap_or(0),
            restarts: self.restarts,
            created_at: self.created_at.0,
            started_at: Timestamp::to_wire(self.started_at),
            stopped_at: Timestamp::to_wire(self.stopped_at),
            exit: self.exit.map(Exit::to_wire),
            start_failure: self.start_failure.as_ref().map(StartFailure::to_wire),
            command: self.command.clone(),
            attempts: self.attempts,
            window_restarts: self.window_restarts,
            max_restarts: self.max_restarts.unwrap_or(0),
            next_attempt_at: Timestamp::to_wire(self.next_attempt_at),
            kill_at: Timestamp::to_wire(self.kill_at),
            cause: self.cause.clone(),
            restart: self.restart.to_wire() as i32,
            output_start: self.output_start,
            output_end: self.output_end,
            stuck: self.stuck,
            labels: pairs_to_wire(&self.labels),
            cwd: self.cwd.clone(),
            user: self.user.clone().unwrap_or_default(),
            own: self.internal,
            outdated: self.outdated,
            halted: self.halted,
            hook: self.hook.clone(),
            cgroup_limits: self.limits.to_wire(),
            limits_trouble: self.limits_trouble.clone(),
            usage: self.usage.map(Usage::to_wire),
            unfit: self.unfit.clone(),
            status: self.status.clone(),
            waits_for: self.waits_for.clone(),
            blocked: self.is_blocked,
            run_output_start: self.run_output_start,
            stop_signal: self.stop_signal,
            stop_asked_at: Timestamp::to_wire(self.stop_asked_at),
            log_trouble: self.log_trouble.clone(),
            log_lost: self.log_lost,
            log_files: self.log_files.clone(),
            next_run_at: Timestamp::to_wire(self.next_run_at),
            schedule: self.schedule.to_wire(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::Process) -> Result<Self, Error> {
        Ok(Self {
            id: ProcessId::from_wire(&w.id)?,
            name: if w.name.is_empty() { None } else { Some(w.name.parse()?) },
            instance: (w.instance != 0).then_some(w.instance),
            run: w.run,
            state: State::from_wire(w.state),
            ready: w.ready,
            pid: (w.pid != 0).then_some(w.pid),
            restarts: w.restarts,
            created_at: Timestamp(w.created_at),
            started_at: Timestamp::from_wire(w.started_at),
            stopped_at: Timestamp::from_wire(w.stopped_at),
            exit: w.exit.as_ref().and_then(Exit::from_wire),
            start_failure: w.start_failure.map(StartFailure::from_wire),
            command: w.command,
            attempts: w.attempts,
            window_restarts: w.window_restarts,
            max_restarts: (w.max_restarts != 0).then_some(w.max_restarts),
            next_attempt_at: Timestamp::from_wire(w.next_attempt_at),
            kill_at: Timestamp::from_wire(w.kill_at),
            cause: w.cause,
            restart: RestartPolicy::from_wire(w.restart),
            output_start: w.output_start,
            output_end: w.output_end,
            stuck: w.stuck,
            labels: pairs_from_wire(w.labels),
            cwd: w.cwd,
            user: (!w.user.is_empty()).then_some(w.user),
            internal: w.own,
            outdated: w.outdated,
            halted: w.halted,
            hook: w.hook,
            limits: Box::new(CgroupLimits::from_wire(w.cgroup_limits)),
            limits_trouble: w.limits_trouble,
            usage: w.usage.map(Usage::from_wire),
            unfit: w.unfit,
            status: w.status,
            waits_for: w.waits_for,
            is_blocked: w.blocked,
            run_output_start: w.run_output_start,
            stop_signal: w.stop_signal,
            stop_asked_at: Timestamp::from_wire(w.stop_asked_at),
            log_trouble: w.log_trouble,
            log_lost: w.log_lost,
            log_files: w.log_files,
            next_run_at: Timestamp::from_wire(w.next_run_at),
            schedule: Arc::new(Schedule::from_wire(w.schedule)),
        })
    }
}
