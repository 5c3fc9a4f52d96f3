//! How a process is to be run, as a checked value: what comes from a flag or a frame becomes a `Spec` here or
//! is refused with the reason. Limits that only the kernel or the user database knows are checked at the
//! start itself.

use std::sync::Arc;
use std::time::Duration;

use crate::wire::background::Background;
use crate::wire::cgroup_limits::CgroupLimits;
use crate::wire::error::Error;
use crate::wire::hooks::{Hooks, When};
use crate::wire::id::{Name, quoted};
use crate::wire::landlock::Landlock;
use crate::wire::log::Log;
use crate::wire::needs::Needs;
use crate::wire::probes::{LiveRules, Liveness, Readiness, ReadyRules};
use crate::wire::proto::{same_variants, v1};
use crate::wire::redact;
use crate::wire::schedule::Schedule;
pub use crate::wire::stop::{Scope, StopRules};
use crate::wire::time::{DURATION_MAX, millis};
use crate::wire::values::sha256;

/// The longest single argument or KEY=VALUE, in bytes with its NUL: Linux's MAX_ARG_STRLEN.
pub const STRING_LEN_MAX: usize = 128 << 10;
/// The most bytes of arguments and environment together: what Linux takes with the usual 8 MiB stack limit.
pub const STRINGS_LEN_MAX: usize = 2 << 20;
/// Output kept when the spec does not say, in bytes.
pub const OUTPUT_BYTES_DEFAULT: u64 = 1 << 20;
/// The least output that can be kept, in bytes.
pub const OUTPUT_BYTES_MIN: u64 = 4 << 10;
/// The most output that can be kept, in bytes.
pub const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// The most instances one request makes.
pub const INSTANCES_MAX: u32 = 1000;
/// The most labels, and limits, and groups.
pub const LIST_LEN_MAX: usize = 64;

/// How a process is to be run. Make one with [`Spec::new`], change fields, and give it to
/// [`Client::start`](crate::Client::start), which checks it.
///
/// ```
/// let mut spec = provost::Spec::new(["sleep", "1000"]);
/// spec.name = Some("nap".parse()?);
/// spec.env.push(("TZ".into(), "UTC".into()));
/// assert!(spec.check().is_ok());
/// # Ok::<(), provost::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Program and arguments. A program without a slash is looked up in the child's PATH.
    pub command: Vec<String>,
    /// Unique among all processes, or none.
    pub name: Option<Name>,
    /// Added to the base and the global environment, later entries win.
    pub env: Vec<(String, String)>,
    /// Where the environment starts from.
    pub env_base: EnvBase,
    /// Whether `${VAR}` in `env` is replaced.
    pub env_expand: EnvExpand,
    /// Working directory; `/` when none is given.
    pub cwd: Option<String>,
    /// User by name or number; the service's own when none is given.
    pub user: Option<String>,
    /// Group by name or number.
    pub group: Option<String>,
    /// Exactly these supplementary groups, instead of the user's own.
    pub groups: Vec<String>,
    /// File mode creation mask, 0 to 0o777.
    pub umask: Option<u32>,
    /// The scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// How willingly the kernel kills it when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Whether setuid programs gain nothing.
    pub no_new_privs: bool,
    /// What the program has to be, as 64 hexadecimal digits: it is executed only if its SHA-256 is this, and
    /// if nobody but root and the service can change it.
    pub executable_sha256: Option<String>,
    /// Which files it may reach.
    pub landlock: Landlock,
    /// Resource limits by their names of getrlimit(2) in lower case; `u64::MAX` is "unlimited".
    pub rlimits: Vec<Rlimit>,
    /// When a run that ended is followed by another.
    pub restart: RestartRules,
    /// How it is stopped.
    pub stop: StopRules,
    /// Bytes of output kept.
    pub output_bytes: u64,
    /// Whether both streams of its output are one pipe, which keeps their order.
    pub merge_streams: bool,
    /// What makes it ready; when none is given, running is ready.
    pub ready: Option<Readiness>,
    /// How that is looked for.
    pub ready_rules: ReadyRules,
    /// What shows that it is still well; when none is given, nobody looks.
    pub live: Option<Liveness>,
    /// How that is looked for.
    pub live_rules: LiveRules,
    /// Which others it needs.
    pub needs: Arc<Needs>,
    /// Anything the user wants to remember.
    pub labels: Vec<(String, String)>,
    /// Whether a service that begins again, after a reboot say, starts it again; if it has a name, when
    /// nothing is said.
    pub autostart: Option<bool>,
    /// A configuration says that it is to be: it goes when that says so no more.
    pub declared: bool,
    /// Into which files output is written.
    pub log: Arc<Log>,
    /// When it runs by itself.
    pub schedule: Arc<Schedule>,
    /// Whether it puts itself into the background.
    pub background: Background,
    /// Whether the service ends, with its exit code, when it has ended for good and nobody has stopped it.
    pub essential: bool,
    /// What runs beside its life.
    pub hooks: Arc<Hooks>,
    /// What it may take of the machine, with all that it starts.
    pub cgroup: CgroupLimits,
    /// What these match in a line of output is replaced before anybody sees it.
    pub redact: Vec<String>,
}

/// Where a child's environment starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvBase {
    Service,
    Empty,
}

/// Whether `${VAR}` in a spec's environment is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvExpand {
    /// Once, left to right, by what the environment holds so far.
    Once,
    /// Values stay as they are.
    Literal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub resource: String,
    pub soft: u64,
    /// Up to where the child may raise it.
    pub hard: u64,
}

/// Whether a run that ended by itself is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    #[default]
    Never,
    /// Unless it ended with a success code.
    OnFailure,
    Always,
}

impl RestartPolicy {
    /// As it is written on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

/// Restart policy and its pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRules {
    pub policy: RestartPolicy,
    /// Before the second restart in a row; the first is immediate. Doubles from there.
    pub delay: Duration,
    /// Where the doubling ends.
    pub delay_max: Duration,
    /// More than this many within the window: failed. `None`: no limit.
    pub max_restarts: Option<u32>,
    pub window: Duration,
    /// A run this long was healthy and resets the delay.
    pub reset_after: Duration,
    /// Exit codes that are a success; 0 when empty.
    pub success_codes: Vec<u8>,
    /// Whether a run that was killed for memory is followed by another; none: as the policy says.
    pub on_oom: Option<bool>,
}

impl Default for RestartRules {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Never,
            delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
            max_restarts: Some(10),
            window: Duration::from_secs(60),
            reset_after: Duration::from_secs(10),
            success_codes: Vec::new(),
            on_oom: None,
        }
    }
}

impl Spec {
    /// The given program with its arguments, everything else as by default.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            name: None,
            env: Vec::new(),
            env_base: EnvBase::Service,
            env_expand: EnvExpand::Once,
            cwd: None,
            user: None,
            group: None,
            groups: Vec::new(),
            umask: None,
            nice: None,
            oom_score_adj: None,
            no_new_privs: false,
            executable_sha256: None,
            landlock: Landlock::default(),
            rlimits: Vec::new(),
            restart: RestartRules::default(),
            stop: StopRules::default(),
            output_bytes: OUTPUT_BYTES_DEFAULT,
            merge_streams: false,
            ready: None,
            ready_rules: ReadyRules::default(),
            live: None,
            live_rules: LiveRules::default(),
            needs: Arc::default(),
            labels: Vec::new(),
            autostart: None,
            declared: false,
            log: Arc::default(),
            schedule: Arc::default(),
            background: Background::default(),
            essential: false,
            hooks: Arc::default(),
            cgroup: CgroupLimits::default(),
            redact: Vec::new(),
        }
    }

    /// Whether a service that begins again starts it again.
    #[must_use]
    pub fn starts_with_the_service(&self) -> bool {
        self.autostart.unwrap_or(self.name.is_some()) && !self.schedule.is_on()
    }

    /// How long a stop may take until SIGKILL, with its hooks.
    #[must_use]
    pub fn stop_time(&self) -> Duration {
        self.stop.whole_time().saturating_add(self.hooks.stop_time())
    }

    /// Whether it can be run at all, as far as that is known without running it.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |what: String| Err(Error::usage(what));
        if self.command.first().is_none_or(String::is_empty) {
            return bad("no program is given".into());
        }
        for (n, arg) in self.command.iter().enumerate() {
            check_string(&format!("argument {n}"), arg.len(), arg)?;
        }
        let mut total: usize = self.command.iter().map(|a| a.len() + 9).sum();
        for (key, value) in &self.env {
            check_env(key, value)?;
            total += key.len() + value.len() + 10;
        }
        if total > STRINGS_LEN_MAX {
            return bad(format!(
                "arguments and environment take {total} bytes, the limit is {STRINGS_LEN_MAX}"
            ));
        }
        for (what, list_len) in [("labels", self.labels.len()), ("groups", self.groups.len())] {
            if list_len > LIST_LEN_MAX {
                return bad(format!("{list_len} {what} are over the limit of {LIST_LEN_MAX}"));
            }
        }
        for (key, value) in &self.labels {
            if key.is_empty() || key.len() + value.len() > 1024 {
                return bad(format!("label {} is empty or over 1024 bytes", quoted(key)));
            }
        }
        for (what, text) in [("cwd", &self.cwd), ("user", &self.user), ("group", &self.group)] {
            if let Some(text) = text
                && (text.is_empty() || text.len() > 4095 || text.contains('\0'))
            {
                return bad(format!("bad {what} {}", quoted(text)));
            }
        }
        if let Some(cwd) = &self.cwd
            && !cwd.starts_with('/')
        {
            return bad(format!("working directory {} is not absolute", quoted(cwd)));
        }
        if let Some(digits) = &self.executable_sha256 {
            sha256(digits)?;
            if !self.command[0].starts_with('/') {
                let what = format!("program {} has a SHA-256 and no path", quoted(&self.command[0]));
                return Err(Error::usage(what).hint("give the absolute path of the file that is meant"));
            }
        }
        self.landlock.check()?;
        self.log.check(self.output_bytes)?;
        redact::check(&self.redact)?;
        self.check_schedule()?;
        self.check_numbers()
    }

    fn check_schedule(&self) -> Result<(), Error> {
        self.schedule.check()?;
        if self.schedule.is_on() && self.restart.policy == RestartPolicy::Always {
            let e =
                "what has a schedule ends, and is started again by that: restart = \"always\" has no place";
            return Err(Error::usage(e).hint("restart = \"on-failure\" tries a run again that has failed"));
        }
        if self.schedule.is_on() && self.essential {
            return Err(Error::usage("what has a schedule ends and comes again: essential has no place"));
        }
        if self.schedule.is_on() && self.autostart == Some(true) {
            let e =
                "what has a schedule is started by that, and not with the service: autostart has no place";
            return Err(Error::usage(e).hint("schedule_missed = \"run\" makes up for what was missed"));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let bad = |what: String| Err(Error::usage(what));
        if self.umask.is_some_and(|m| m > 0o777) {
            return bad("umask is over 777".into());
        }
        if self.nice.is_some_and(|n| !(-20..=19).contains(&n)) {
            return bad("nice is outside -20 to 19".into());
        }
        if self.oom_score_adj.is_some_and(|n| !(-1000..=1000).contains(&n)) {
            return bad("oom score adjustment is outside -1000 to 1000".into());
        }
        check_limits(&self.rlimits)?;
        if !(OUTPUT_BYTES_MIN..=OUTPUT_BYTES_MAX).contains(&self.output_bytes) {
            return bad(format!(
                "output of {} bytes is outside {OUTPUT_BYTES_MIN} to {OUTPUT_BYTES_MAX}",
                self.output_bytes
            ));
        }
        self.stop.check()?;
        let r = &self.restart;
        for d in [r.delay, r.delay_max, r.window, r.reset_after] {
            if d > DURATION_MAX {
                return bad(format!("a duration of {} s is over a year", d.as_secs()));
            }
        }
        self.needs.check()?;
        self.hooks.check()?;
        self.cgroup.check()?;
        self.check_probes()
    }

    fn check_probes(&self) -> Result<(), Error> {
        self.ready.as_ref().map_or(Ok(()), Readiness::check)?;
        self.ready_rules.check()?;
        self.live.as_ref().map_or(Ok(()), Liveness::check)?;
        self.live_rules.check()?;
        let speaks = self.ready == Some(Readiness::Notify) || self.live == Some(Liveness::Notify);
        self.background.check(speaks)?;
        if self.background.forking && self.ready == Some(Readiness::Exit) {
            return Err(Error::usage("what is ready when it has ended does not go on in the background"));
        }
        if self.hooks.get(When::PostStart).is_some() && self.ready == Some(Readiness::Exit) {
            return Err(Error::usage("what is ready when it has ended has no post_start"));
        }
        if self.ready.is_none()
            && !self.background.forking
            && (self.ready_rules.timeout.is_some() || self.ready_rules.fail_line.is_some())
        {
            return Err(Error::usage(
                "a limit or a line of failure is for what shows readiness, and nothing does",
            )
            .hint("say when it is ready, as with ready_line, ready_tcp or ready_notify"));
        }
        if self.live.is_some() && self.restart.policy == RestartPolicy::Never {
            return Err(Error::usage(
                "a process that is never restarted gains nothing from probes of its life",
            )
            .hint("give restart = \"on-failure\" or \"always\" beside them"));
        }
        Ok(())
    }

    /// Encoded, as a frame and the record in memory carry it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.to_wire())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let spec = <v1::Spec as prost::Message>::decode(bytes)
            .map_err(|e| Error::usage(format!("cannot decode the spec: {e}")))?;
        Self::from_wire(spec)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Spec {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        v1::Spec {
            command: self.command.clone(),
            name: self.name.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
            env: pairs_to_wire(&self.env),
            env_clear: self.env_base == EnvBase::Empty,
            env_literal: self.env_expand == EnvExpand::Literal,
            cwd: text(&self.cwd),
            user: text(&self.user),
            group: text(&self.group),
            groups: self.groups.clone(),
            umask: self.umask,
            nice: self.nice,
            oom_score_adj: self.oom_score_adj,
            no_new_privs: self.no_new_privs,
            merge_streams: self.merge_streams,
            executable_sha256: text(&self.executable_sha256),
            landlock: self.landlock.to_wire(),
            rlimits: limits_to_wire(&self.rlimits),
            restart: Some(self.restart.to_wire()),
            stop: Some(self.stop.to_wire()),
            output_bytes: self.output_bytes,
            ready: self.ready.as_ref().map(Readiness::to_wire),
            ready_rules: (self.ready_rules != ReadyRules::default()).then(|| self.ready_rules.to_wire()),
            live: self.live.as_ref().map(Liveness::to_wire),
            requires: self.needs.requires.clone(),
            wants: self.needs.wants.clone(),
            after: self.needs.after.clone(),
            on_dependency: self.needs.on_dependency.to_number(),
            in_group: self.needs.in_group.clone().unwrap_or_default(),
            live_rules: (self.live_rules != LiveRules::default()).then(|| self.live_rules.to_wire()),
            labels: pairs_to_wire(&self.labels),
            autostart: self.autostart,
            declared: self.declared,
            log: self.log.to_wire(),
            schedule: self.schedule.to_wire(),
            forking: self.background.forking,
            pid_file: text(&self.background.pid_file),
            essential: self.essential,
            hooks: self.hooks.to_wire(),
            cgroup_limits: self.cgroup.to_wire(),
            redact: self.redact.clone(),
        }
    }

    /// Of a request: see `asked` of the enums in it.
    pub(in crate::wire) fn asked(w: v1::Spec) -> Result<Self, Error> {
        w.stop.as_ref().map(|stop| known("scope", Scope::asked(stop.scope))).transpose()?;
        w.restart.as_ref().map(|r| known("restart", RestartPolicy::asked(r.policy))).transpose()?;
        Self::from_wire(w)
    }

    pub(crate) fn from_wire(mut w: v1::Spec) -> Result<Self, Error> {
        let text = |t: String| (!t.is_empty()).then_some(t);
        let stop = w.stop.as_ref().map(StopRules::from_wire).unwrap_or_default();
        let needs = Arc::new(Needs::from_wire(&mut w));
        let spec = Self {
            command: w.command,
            name: if w.name.is_empty() { None } else { Some(w.name.parse()?) },
            env: pairs_from_wire(w.env),
            env_base: if w.env_clear { EnvBase::Empty } else { EnvBase::Service },
            env_expand: if w.env_literal { EnvExpand::Literal } else { EnvExpand::Once },
            cwd: text(w.cwd),
            user: text(w.user),
            group: text(w.group),
            groups: w.groups,
            umask: w.umask,
            nice: w.nice,
            oom_score_adj: w.oom_score_adj,
            no_new_privs: w.no_new_privs,
            merge_streams: w.merge_streams,
            executable_sha256: (!w.executable_sha256.is_empty())
                .then(|| sha256(&w.executable_sha256))
                .transpose()?,
            landlock: Landlock::from_wire(w.landlock),
            rlimits: limits_from_wire(w.rlimits)?,
            restart: RestartRules::from_wire(w.restart.unwrap_or_default())?,
            stop,
            output_bytes: if w.output_bytes == 0 { OUTPUT_BYTES_DEFAULT } else { w.output_bytes },
            ready: w.ready.map(Readiness::from_wire).transpose()?.flatten(),
            ready_rules: w.ready_rules.map(ReadyRules::from_wire).unwrap_or_default(),
            live: w.live.map(Liveness::from_wire).transpose()?.flatten(),
            needs,
            live_rules: w.live_rules.map(LiveRules::from_wire).unwrap_or_default(),
            labels: pairs_from_wire(w.labels),
            autostart: w.autostart,
            declared: w.declared,
            log: Arc::new(Log::from_wire(w.log)),
            schedule: Arc::new(Schedule::from_wire(w.schedule)),
            background: Background { forking: w.forking, pid_file: text(w.pid_file) },
            essential: w.essential,
            hooks: Arc::new(Hooks::from_wire(w.hooks)),
            cgroup: CgroupLimits::from_wire(w.cgroup_limits),
            redact: w.redact,
        };
        spec.check()?;
        Ok(spec)
    }
}

impl RestartRules {
    fn to_wire(&self) -> v1::Restart {
        v1::Restart {
            policy: self.policy.to_wire() as i32,
            delay_ms: Some(millis(self.delay)),
            delay_max_ms: Some(millis(self.delay_max)),
            max_restarts: Some(self.max_restarts.unwrap_or(0)),
            window_ms: Some(millis(self.window)),
            reset_after_ms: Some(millis(self.reset_after)),
            success_codes: self.success_codes.iter().map(|&c| u32::from(c)).collect(),
            on_oom: self.on_oom,
        }
    }

    fn from_wire(w: v1::Restart) -> Result<Self, Error> {
        let default = Self::default();
        let success_codes = (w.success_codes.iter())
            .map(|&c| u8::try_from(c).map_err(|_| Error::usage(format!("there is no exit code {c}"))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            policy: RestartPolicy::from_wire(w.policy),
            delay: w.delay_ms.map_or(default.delay, Duration::from_millis),
            delay_max: w.delay_max_ms.map_or(default.delay_max, Duration::from_millis),
            max_restarts: w.max_restarts.map_or(default.max_restarts, |n| (n != 0).then_some(n)),
            window: w.window_ms.map_or(default.window, Duration::from_millis),
            reset_after: w.reset_after_ms.map_or(default.reset_after, Duration::from_millis),
            success_codes,
            on_oom: w.on_oom,
        })
    }
}

same_variants!(RestartPolicy: Never, OnFailure, Always);

fn check_string(what: &str, len: usize, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::usage(format!("{what} holds a NUL byte")));
    }
    if len >= STRING_LEN_MAX {
        return Err(Error::usage(format!("{what} has {len} bytes, the limit is {}", STRING_LEN_MAX - 1)));
    }
    Ok(())
}

/// Whether a variable can stand in an environment.
pub fn check_env(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() || key.contains(['=', '\0']) {
        return Err(Error::usage(format!("bad variable name {}", quoted(key)))
            .hint("a variable's name is not empty and holds neither '=' nor a NUL byte"));
    }
    check_string(&format!("variable {}", quoted(key)), key.len() + value.len() + 1, value)
}

fn check_limits(limits: &[Rlimit]) -> Result<(), Error> {
    if limits.len() > LIST_LEN_MAX {
        let len = limits.len();
        return Err(Error::usage(format!("{len} limits are over the limit of {LIST_LEN_MAX}")));
    }
    let Some(Rlimit { resource, soft, hard }) = limits.iter().find(|limit| limit.soft > limit.hard) else {
        return Ok(());
    };
    Err(Error::usage(format!("limit {resource}: soft {soft} is over hard {hard}")))
}

pub(in crate::wire) fn limits_to_wire(limits: &[Rlimit]) -> Vec<v1::Rlimit> {
    let limit = |l: &Rlimit| v1::Rlimit { resource: l.resource.clone(), soft: l.soft, hard: l.hard };
    limits.iter().map(limit).collect()
}

pub(in crate::wire) fn limits_from_wire(limits: Vec<v1::Rlimit>) -> Result<Vec<Rlimit>, Error> {
    let limit = |l: v1::Rlimit| Rlimit { resource: l.resource, soft: l.soft, hard: l.hard };
    let limits: Vec<_> = limits.into_iter().map(limit).collect();
    check_limits(&limits).map(|()| limits)
}

pub(in crate::wire) fn pairs_to_wire(pairs: &[(String, String)]) -> Vec<v1::EnvVar> {
    pairs.iter().map(|(k, v)| v1::EnvVar { key: k.clone(), value: v.clone() }).collect()
}

/// A value of an enum in a request, which may be one that only another version knows.
pub(in crate::wire) fn known<T>(what: &str, asked: Option<T>) -> Result<T, Error> {
    asked.ok_or_else(|| Error::usage(format!("there is no value of '{what}' of this number")))
}

pub(in crate::wire) fn pairs_from_wire(pairs: Vec<v1::EnvVar>) -> Vec<(String, String)> {
    pairs.into_iter().map(|v| (v.key, v.value)).collect()
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
