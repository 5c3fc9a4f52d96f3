//! The rules that a provider is run by: how long each step may take, when a start is tried again, who is told
//! what it writes to its standard error, and whether it is spoken to in secret.

use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::v1;
use crate::wire::time::millis;

/// The most attempts after the first one.
pub const RETRIES_MAX: u32 = 10;
/// The longest pause before the second attempt.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// What the pauses grow to.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the port is reported.
    pub handshake: Duration,
    /// Of one Health call.
    pub health: Duration,
    /// While Health says STARTING.
    pub starting: Duration,
    pub init: Duration,
    pub fetch: Duration,
    pub info: Duration,
    /// Of the Shutdown call.
    pub shutdown: Duration,
    /// Between SIGTERM and SIGKILL.
    pub term: Duration,
    /// Without a call, until its process is ended; zero: it is not.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            handshake: s(10),
            health: s(5),
            starting: s(30),
            init: s(30),
            fetch: s(30),
            info: s(5),
            shutdown: s(5),
            term: s(2),
            idle: Duration::ZERO,
        }
    }
}

impl Timeouts {
    /// That of a step, by the name that its option and its key begin with.
    pub fn of(&mut self, step: &str) -> Option<&mut Duration> {
        Some(match step {
            "handshake" => &mut self.handshake,
            "health" => &mut self.health,
            "starting" => &mut self.starting,
            "init" => &mut self.init,
            "fetch" => &mut self.fetch,
            "info" => &mut self.info,
            "shutdown" => &mut self.shutdown,
            "term" => &mut self.term,
            "idle" => &mut self.idle,
            _ => return None,
        })
    }

    pub(in crate::wire) fn to_wire(self) -> v1::ProviderTimeouts {
        v1::ProviderTimeouts {
            handshake_ms: millis(self.handshake),
            health_ms: millis(self.health),
            starting_ms: millis(self.starting),
            init_ms: millis(self.init),
            fetch_ms: millis(self.fetch),
            info_ms: millis(self.info),
            shutdown_ms: millis(self.shutdown),
            term_ms: millis(self.term),
            idle_ms: millis(self.idle),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderTimeouts) -> Self {
        let or = |ms: u64, default: Duration| if ms == 0 { default } else { Duration::from_millis(ms) };
        let default = Self::default();
        Self {
            handshake: or(w.handshake_ms, default.handshake),
            health: or(w.health_ms, default.health),
            starting: or(w.starting_ms, default.starting),
            init: or(w.init_ms, default.init),
            fetch: or(w.fetch_ms, default.fetch),
            info: or(w.info_ms, default.info),
            shutdown: or(w.shutdown_ms, default.shutdown),
            term: or(w.term_ms, default.term),
            idle: or(w.idle_ms, default.idle),
        }
    }
}

/// When a start that failed is tried again by whoever has waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// After the first attempt.
    pub count: u32,
    /// Before the second attempt; each later one waits twice as long.
    pub delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { count: 0, delay: Duration::from_millis(200) }
    }
}

impl Retries {
    /// How long to wait after this many attempts have failed; none: it is given up.
    #[must_use]
    pub fn pause(&self, failed: u32) -> Option<Duration> {
        let doubled = failed.saturating_sub(1).min(RETRIES_MAX);
        (failed <= self.count).then(|| (self.delay * (1 << doubled)).min(PAUSE_MAX))
    }

    /// As it is carried.
    #[must_use]
    pub fn delay_ms(&self) -> u64 {
        millis(self.delay)
    }

    pub(in crate::wire) fn from_wire(count: u32, delay_ms: u64) -> Result<Self, Error> {
        let delay = if delay_ms == 0 { Self::default().delay } else { Duration::from_millis(delay_ms) };
        if count > RETRIES_MAX || delay > RETRY_DELAY_MAX {
            let what = format!("a provider has at most {RETRIES_MAX} retries, the first after at most 60 s");
            return Err(Error::usage(what));
        }
        Ok(Self { count, delay })
    }
}

/// Who is told what a provider writes to its standard error. It is kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ShownStderr {
    Off,
    /// Whoever gets an error: the last lines.
    #[default]
    OnError,
    /// Whoever has asked for something: what it has written meanwhile.
    All,
}

impl ShownStderr {
    const ALL: [Self; 3] = [Self::Off, Self::OnError, Self::All];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnError => "on-error",
            Self::All => "all",
        }
    }

    pub fn from_name(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|shown| shown.name() == name).ok_or_else(|| {
            Error::usage(format!("there is no {} for standard error", quoted(name)))
                .hint("it is off, on-error or all")
        })
    }

    /// As many steps more.
    #[must_use]
    pub fn raised(self, steps: u32) -> Self {
        Self::ALL[(self as usize + steps as usize).min(Self::ALL.len() - 1)]
    }

    pub(in crate::wire) fn to_wire(self) -> v1::ProviderStderr {
        match self {
            Self::Off => v1::ProviderStderr::Off,
            Self::OnError => v1::ProviderStderr::OnError,
            Self::All => v1::ProviderStderr::All,
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderStderr) -> Self {
        match w {
            v1::ProviderStderr::OnError => Self::OnError,
            v1::ProviderStderr::Off => Self::Off,
            v1::ProviderStderr::All => Self::All,
        }
    }
}

/// Whether a provider is spoken to in secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tls {
    /// Plaintext over loopback, as existing ones do.
    #[default]
    Off,
    /// Mutual TLS 1.3, with certificates of its launch; without it there is no provider.
    Required,
}

impl Tls {
    const ALL: [Self; 2] = [Self::Off, Self::Required];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
        }
    }

    pub fn from_name(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|tls| tls.name() == name).ok_or_else(|| {
            Error::usage(format!("there is no {} for TLS", quoted(name))).hint("it is off or required")
        })
    }

    pub(in crate::wire) fn to_wire(self) -> v1::ProviderTls {
        match self {
            Self::Off => v1::ProviderTls::Off,
            Self::Required => v1::ProviderTls::Required,
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderTls) -> Self {
        match w {
            v1::ProviderTls::Off => Self::Off,
            v1::ProviderTls::Required => Self::Required,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let retries = Retries { count: 10, delay: Duration::from_secs(1) };
        let pauses: Vec<_> = (1..=11).map(|n| retries.pause(n).map(|pause| pause.as_secs())).collect();
        let seconds = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60].map(Some);
        assert_eq!(pauses[..10], seconds);
        assert_eq!((pauses[10], Retries::default().pause(1)), (None, None));
        assert!(Retries::from_wire(RETRIES_MAX + 1, 1).is_err() && Retries::from_wire(1, 60_001).is_err());
        assert_eq!(Retries::from_wire(0, 0), Ok(Retries::default()));
    }

    #[test]
    fn what_is_shown_is_raised_step_by_step() {
        let shown = |steps| [ShownStderr::Off, ShownStderr::OnError].map(|shown| shown.raised(steps));
        assert_eq!(shown(0), [ShownStderr::Off, ShownStderr::OnError]);
        assert_eq!(shown(1), [ShownStderr::OnError, ShownStderr::All]);
        assert_eq!(shown(u32::MAX), [ShownStderr::All; 2]);
        for shown in ShownStderr::ALL {
            assert_eq!(ShownStderr::from_name(shown.name()), Ok(shown));
            assert_eq!(ShownStderr::from_wire(shown.to_wire()), shown);
        }
        assert!(ShownStderr::from_name("loud").is_err());
    }

    #[test]
    fn a_timeout_that_is_not_given_is_the_default_and_one_that_is_stays() {
        let default = Timeouts::default();
        assert_eq!((default.shutdown, default.handshake), (Duration::from_secs(5), Duration::from_secs(10)));
        assert_eq!(Timeouts::from_wire(v1::ProviderTimeouts::default()), default);
        let mut some = default;
        *some.of("shutdown").unwrap() = Duration::from_millis(50);
        assert_eq!(Timeouts::from_wire(some.to_wire()), some);
        assert!(some.of("x").is_none());
    }

    #[test]
    fn tls_is_off_or_required() {
        for tls in Tls::ALL {
            assert_eq!(Tls::from_name(tls.name()), Ok(tls));
            assert_eq!(Tls::from_wire(tls.to_wire()), tls);
        }
        assert!(Tls::from_name("maybe").is_err());
    }
}
