//! A circuit breaker: what fails again and again is left alone for a while, then tried with few calls. Pure:
//! the caller says what time it is, and is told what has changed. `gate.rs` shares one between threads.
//!
//! Failures are counted over a rolling window, which a success does not empty: what is killed and comes back
//! five times in a minute is broken, though it answers in between. Where it is wanted, the share of calls of
//! the window that fail counts, too (`share.rs`), or of those that are slow. A result counts only for the
//! period of the breaker in which its call began.

use std::collections::VecDeque;
use std::time::Duration;

use crate::guard::group::Member;
use crate::guard::share::{Limit, Share};

/// How many times the recovery timeout the pause grows to, where a provider keeps failing.
const PAUSE_GROWTH_MAX: u64 = 8;
/// Why it opens, where that is no error.
const SLOW: &str = "its calls are slow";
/// The pause is longer by up to this part of it, so that many breakers do not probe in one moment.
const JITTER_PART: u64 = 10;
/// The longest error that is kept of a failure, in characters.
const WHY_LEN_MAX: usize = 300;

/// When a breaker opens, and how it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures within the monitoring period that open it; at least 1.
    pub failure_threshold: u32,
    pub monitoring_period: Duration,
    /// The share of calls in the period that fail, in percent, that opens it; none: the share does not count.
    pub failure_percent: Option<u32>,
    /// A call that takes longer is slow; none: calls may take as long as they do.
    pub slow_after: Option<Duration>,
    /// The share of calls in the period that are slow, in percent, that opens it.
    pub slow_percent: u32,
    /// So many calls in the period it takes for a share to count; at least 1.
    pub calls_needed: u32,
    /// How long it is open before a call is let through again.
    pub recovery_timeout: Duration,
    /// In how much time a probe has to be answered.
    pub probe_timeout: Duration,
    /// So many calls at once probe a half-open breaker; at least 1.
    pub probes: u32,
    /// So many of them have to succeed for it to close; at least 1.
    pub probes_needed: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            monitoring_period: Duration::from_secs(60),
            failure_percent: None,
            slow_after: None,
            slow_percent: 100,
            calls_needed: 20,
            recovery_timeout: Duration::from_secs(300),
            probe_timeout: Duration::from_secs(30),
            probes: 1,
            probes_needed: 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All calls pass.
    Closed,
    /// None passes before its time.
    Open,
    /// As many pass as probe it.
    HalfOpen,
    /// A person holds it open.
    Isolated,
}

impl BreakerState {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::Isolated => "isolated",
        }
    }
}

/// How a call has ended, for the breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// With the error.
    Failure(String),
    /// It says nothing about the one that was called: cancelled, refused for its arguments, never made.
    Ignored,
}

/// The right to one call. Whoever has it reports how the call ended.
#[derive(Debug)]
pub struct Pass {
    period: u64,
    is_probe: bool,
    begun_ms: u64,
}

impl Pass {
    /// It is to find out whether things are better.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

/// Why a call does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub state: BreakerState,
    /// When a call is let through again (monotonic ms); none: when a person releases it.
    pub retry_ms: Option<u64>,
    /// The last error, or the person's reason.
    pub why: String,
}

/// What a breaker has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Opened {
        /// In the window; 1 after a probe.
        failures: u32,
        /// The last one of them.
        why: String,
        /// When the next probe is let through (monotonic ms).
        retry_ms: u64,
    },
    HalfOpened,
    Closed,
    Isolated {
        why: String,
    },
}

#[derive(Clone, Debug)]
enum Phase {
    /// When the failures of the window were, and how its calls went.
    Closed {
        failures: VecDeque<u64>,
        share: Share,
    },
    Open {
        until_ms: u64,
        why: String,
    },
    /// At `until_ms` the last probe should have been answered.
    HalfOpen {
        in_flight: u32,
        succeeded: u32,
        until_ms: u64,
        why: String,
    },
    Isolated {
        why: String,
    },
}

impl Phase {
    fn closed(failures: VecDeque<u64>) -> Self {
        Self::Closed { failures, share: Share::default() }
    }
}

#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
    /// Grows with each change of the phase.
    period: u64,
    /// How often it has opened since it was closed.
    openings: u32,
    /// For the jitter.
    seed: u64,
    changes: Vec<Change>,
    /// Of those that stand in for it.
    member: Option<Member>,
    /// No calls come to it, whatever its phase.
    is_away: bool,
}

impl Breaker {
    /// A closed one. Different seeds make for different pauses.
    #[must_use]
    pub fn new(settings: BreakerSettings, seed: u64) -> Self {
        let phase = Phase::closed(VecDeque::new());
        Self {
            settings,
            phase,
            period: 0,
            openings: 0,
            seed,
            changes: Vec::new(),
            member: None,
            is_away: false,
        }
    }

    /// Others stand in for it from now on: it does not open for its failures where it is the last that is
    /// closed.
    pub fn join(&mut self, member: Option<Member>) {
        self.member = member;
        self.count_in();
    }

    /// Whether calls come to it at all; where none do, the others have to do without it.
    pub fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
        self.count_in();
    }

    /// Has the others know whether it takes calls.
    fn count_in(&mut self) {
        let takes_calls = matches!(self.phase, Phase::Closed { .. }) && !self.is_away;
        if let Some(member) = &mut self.member {
            if takes_calls { member.enter() } else { member.leave() }
        }
    }

    /// Whether a call may be made. A rejection costs nothing.
    pub fn ask(&mut self, now_ms: u64) -> Result<Pass, Rejection> {
        self.look(now_ms);
        let (probes, probe_ms) = (self.settings.probes.max(1), millis(self.settings.probe_timeout));
        if let Phase::Open { until_ms, why } = &self.phase
            && now_ms >= *until_ms
        {
            let until_ms = now_ms.saturating_add(probe_ms);
            let phase = Phase::HalfOpen { in_flight: 0, succeeded: 0, until_ms, why: why.clone() };
            self.enter(phase, Change::HalfOpened);
        }
        let rejected = |state, retry_ms, why: &String| Rejection { state, retry_ms, why: why.clone() };
        match &mut self.phase {
            Phase::Closed { .. } => Ok(Pass { period: self.period, is_probe: false, begun_ms: now_ms }),
            Phase::Open { until_ms, why } => Err(rejected(BreakerState::Open, Some(*until_ms), why)),
            Phase::HalfOpen { in_flight, until_ms, why, .. } if *in_flight >= probes => {
                Err(rejected(BreakerState::HalfOpen, Some(*until_ms), why))
            }
            Phase::HalfOpen { in_flight, until_ms, .. } => {
                *in_flight += 1;
                *until_ms = now_ms.saturating_add(probe_ms);
                Ok(Pass { period: self.period, is_probe: true, begun_ms: now_ms })
            }
            Phase::Isolated { why } => Err(rejected(BreakerState::Isolated, None, why)),
        }
    }

    /// A call that was let through has ended.
    pub fn report(&mut self, pass: Pass, outcome: Outcome, now_ms: u64) {
        self.look(now_ms);
        if pass.period != self.period {
            return;
        }
        let needed = self.settings.probes_needed.max(1);
        let took = Duration::from_millis(now_ms.saturating_sub(pass.begun_ms));
        let is_slow = self.settings.slow_after.is_some_and(|limit| took > limit);
        match (&mut self.phase, outcome) {
            (Phase::Closed { .. }, Outcome::Failure(why)) => {
                self.count(&why, now_ms);
                self.count_share(Some(&why), is_slow, now_ms);
            }
            (Phase::Closed { .. }, Outcome::Success) => self.count_share(None, is_slow, now_ms),
            // It is as slow as it was.
            (Phase::HalfOpen { .. }, Outcome::Success) if is_slow => self.open(1, SLOW, now_ms),
            (Phase::HalfOpen { .. }, Outcome::Failure(why)) => self.open(1, &why, now_ms),
            (Phase::HalfOpen { in_flight, succeeded, .. }, Outcome::Success) => {
                *in_flight -= 1;
                *succeeded += 1;
                if *succeeded >= needed {
                    self.close();
                }
            }
            // The next one may probe instead.
            (Phase::HalfOpen { in_flight, .. }, Outcome::Ignored) => *in_flight -= 1,
            (Phase::Closed { .. }, Outcome::Ignored) | (Phase::Open { .. } | Phase::Isolated { .. }, _) => {}
        }
    }

    /// Something failed that was no call: a crash that was seen later. Counts where calls pass.
    pub fn fail(&mut self, why: &str, now_ms: u64) {
        self.look(now_ms);
        if matches!(self.phase, Phase::Closed { .. }) {
            self.count(why, now_ms);
        }
    }

    /// Opens again what has been half-open for too long. Asking and reporting do so by themselves.
    pub fn look(&mut self, now_ms: u64) {
        if let Phase::HalfOpen { until_ms, .. } = &self.phase
            && now_ms >= *until_ms
        {
            self.open(1, "the probe was not answered in time", now_ms);
        }
    }

    /// When [`Breaker::look`] has something to do (monotonic ms).
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        if let Phase::HalfOpen { until_ms, .. } = &self.phase { Some(*until_ms) } else { None }
    }

    /// Holds it open until [`Breaker::release`].
    pub fn hold(&mut self, why: &str) {
        let why = shortened(why);
        self.enter(Phase::Isolated { why: why.clone() }, Change::Isolated { why });
    }

    /// Ends what [`Breaker::hold`] began.
    pub fn release(&mut self) {
        if matches!(self.phase, Phase::Isolated { .. }) {
            self.close();
        }
    }

    /// Forgets failures. What a person holds open stays so.
    pub fn reset(&mut self) {
        match &mut self.phase {
            Phase::Closed { .. } => self.phase = Phase::closed(VecDeque::new()),
            Phase::Open { .. } | Phase::HalfOpen { .. } => self.close(),
            Phase::Isolated { .. } => {}
        }
    }

    /// Goes on where an earlier program has left it open.
    pub fn resume_open(&mut self, until_ms: u64, why: &str, openings: u32) {
        self.openings = openings;
        self.period += 1;
        self.phase = Phase::Open { until_ms, why: shortened(why) };
        self.count_in();
    }

    /// Counts what has failed before an earlier program has left it, the oldest first.
    pub fn resume_closed(&mut self, failures: impl IntoIterator<Item = u64>) {
        self.phase = Phase::closed(failures.into_iter().collect());
    }

    /// When the failures of the window were (monotonic ms).
    #[must_use]
    pub fn failed_at(&self) -> Vec<u64> {
        if let Phase::Closed { failures, .. } = &self.phase {
            failures.iter().copied().collect()
        } else {
            Vec::new()
        }
    }

    #[must_use]
    pub fn state(&self) -> BreakerState {
        match &self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Isolated { .. } => BreakerState::Isolated,
        }
    }

    /// Why calls do not pass, and when they will; none: they do.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        let (retry_ms, why) = match &self.phase {
            Phase::Closed { .. } => return None,
            Phase::Open { until_ms, why } | Phase::HalfOpen { until_ms, why, .. } => (Some(*until_ms), why),
            Phase::Isolated { why } => (None, why),
        };
        Some(Rejection { state: self.state(), retry_ms, why: why.clone() })
    }

    /// Failures in the window.
    #[must_use]
    pub fn failures(&self, now_ms: u64) -> u32 {
        let Phase::Closed { failures, .. } = &self.phase else { return 0 };
        let oldest = now_ms.saturating_sub(millis(self.settings.monitoring_period));
        u32::try_from(failures.iter().filter(|&&at| at > oldest || oldest == 0).count()).unwrap_or(u32::MAX)
    }

    /// How often it has opened since it was closed.
    #[must_use]
    pub fn openings(&self) -> u32 {
        self.openings
    }

    /// What has changed since the last question, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn count(&mut self, why: &str, now_ms: u64) {
        let (threshold, window) =
            (self.settings.failure_threshold.max(1), millis(self.settings.monitoring_period));
        let Phase::Closed { failures, .. } = &mut self.phase else { return };
        failures.push_back(now_ms);
        while failures.front().is_some_and(|&at| now_ms.saturating_sub(at) >= window) {
            failures.pop_front();
        }
        // No more are kept than open it, also where it is the last one that takes calls.
        while failures.len() > threshold as usize {
            failures.pop_front();
        }
        let count = u32::try_from(failures.len()).unwrap_or(u32::MAX);
        if count >= threshold {
            self.open(count, why, now_ms);
        }
    }

    /// A call has ended, with this error or without. Opens it where too many of the window have failed, or
    /// were slow.
    fn count_share(&mut self, error: Option<&str>, is_slow: bool, now_ms: u64) {
        let s = &self.settings;
        if s.failure_percent.is_none() && s.slow_after.is_none() {
            return;
        }
        let Phase::Closed { share, .. } = &mut self.phase else { return };
        share.add(millis(s.monitoring_period), (error.is_some(), is_slow), now_ms);
        let of = |percent| Limit { percent, calls: s.calls_needed };
        let opens = match error {
            Some(why) if s.failure_percent.is_some_and(|p| share.is_failing(of(p))) => Some(why.to_owned()),
            _ if s.slow_after.is_some() && share.is_slow(of(s.slow_percent)) => Some(SLOW.to_owned()),
            _ => None,
        };
        if let Some(why) = opens {
            let failures = self.failures(now_ms);
            self.open(failures, &why, now_ms);
        }
    }

    fn open(&mut self, failures: u32, why: &str, now_ms: u64) {
        if self.member.as_mut().is_some_and(|member| !member.leave_to_others()) {
            return;
        }
        let base = millis(self.settings.recovery_timeout);
        let growth = 1u64.checked_shl(self.openings).unwrap_or(u64::MAX).clamp(1, PAUSE_GROWTH_MAX);
        let pause = base.saturating_mul(growth);
        let jitter = self.random() % (pause / JITTER_PART + 1);
        let retry_ms = now_ms.saturating_add(pause).saturating_add(jitter);
        self.openings = self.openings.saturating_add(1);
        let why = shortened(why);
        let phase = Phase::Open { until_ms: retry_ms, why: why.clone() };
        self.enter(phase, Change::Opened { failures, why, retry_ms });
    }

    fn close(&mut self) {
        self.openings = 0;
        self.enter(Phase::closed(VecDeque::new()), Change::Closed);
    }

    fn enter(&mut self, phase: Phase, change: Change) {
        self.phase = phase;
        self.period += 1;
        self.changes.push(change);
        self.count_in();
    }

    /// SplitMix64: enough to spread probes.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn shortened(why: &str) -> String {
    why.chars().take(WHY_LEN_MAX).collect()
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
