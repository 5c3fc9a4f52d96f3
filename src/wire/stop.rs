//! How a process is stopped: the signals that ask, one after the other, and what each may take.

use std::time::Duration;

use crate::sys::signal;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::{same_variants, v1};
use crate::wire::time::{DURATION_MAX, millis};
use crate::wire::values::{duration, duration_text};

/// The most signals that follow the first.
pub const STEPS_MAX: usize = 7;

/// How the signals of a stop are written.
pub const SIGNALS_HINT: &str = "a signal's name, as TERM, or several with a time behind each, as \
                                TERM,10s,INT,5s,KILL";

/// Which part of a tree a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everything the process started.
    #[default]
    Tree,
    Group,
    Leader,
    /// The process alone is asked to stop; when it has ended, or its time is over, all that it started is
    /// killed.
    Mixed,
}

impl Scope {
    /// Who gets the signal that asks.
    #[must_use]
    pub fn signalled(self) -> Self {
        if self == Self::Mixed { Self::Leader } else { self }
    }

    /// Who is gone when a stop is over.
    #[must_use]
    pub fn killed(self) -> Self {
        if self == Self::Mixed { Self::Tree } else { self }
    }

    pub(crate) fn to_number(self) -> u32 {
        self.to_wire() as u32
    }

    pub(crate) fn from_number(n: u32) -> Self {
        Self::from_wire(i32::try_from(n).unwrap_or(0))
    }
}

same_variants!(Scope: Tree, Group, Leader, Mixed);

/// How a process is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRules {
    /// The signal that asks; SIGTERM is 15.
    pub signal: u32,
    /// What is sent to those that are still there, in this order; at most [`STEPS_MAX`].
    pub steps: Vec<StopStep>,
    /// How long it may take before SIGKILL, from the last of these signals on.
    pub timeout: Duration,
    pub scope: Scope,
}

/// Another signal, for those that an earlier one did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStep {
    /// From the signal before on.
    pub after: Duration,
    pub signal: u32,
}

/// How long something may take that has no limit: a year, the longest time there is.
pub const FOREVER: &str = "infinity";

impl Default for StopRules {
    fn default() -> Self {
        Self { signal: 15, steps: Vec::new(), timeout: Duration::from_secs(10), scope: Scope::Tree }
    }
}

impl StopRules {
    /// How long it may take before the signal after the one at this place, or before SIGKILL. The first
    /// signal is at 0.
    #[must_use]
    pub fn time_of(&self, place: usize) -> Duration {
        self.steps.get(place).map_or(self.timeout, |step| step.after)
    }

    /// How long a stop may take until SIGKILL.
    #[must_use]
    pub fn whole_time(&self) -> Duration {
        self.steps.iter().map(|step| step.after).fold(self.timeout, Duration::saturating_add)
    }

    /// The signals as they are written, without the time of the last.
    #[must_use]
    pub fn signals(&self) -> String {
        let mut text = signal::name(self.signal);
        for step in &self.steps {
            text = format!("{text},{},{}", duration_text(step.after), signal::name(step.signal));
        }
        text
    }

    /// Sets the signals and the times between them from what [`StopRules::signals`] writes. A time or SIGKILL
    /// at the end says what the last may take.
    pub fn set_signals(&mut self, text: &str) -> Result<(), Error> {
        let bad = || Error::usage(format!("{} is no signal of a stop", quoted(text))).hint(SIGNALS_HINT);
        let number = |name: Option<&str>| name.and_then(signal::number).ok_or_else(bad);
        let mut parts = text.split(',').map(str::trim);
        let mut rules = Self { signal: number(parts.next())?, steps: Vec::new(), ..self.clone() };
        while let Some(part) = parts.next() {
            let after = stop_timeout(part).ok_or_else(bad)?;
            match parts.next() {
                None => rules.timeout = after,
                Some(name) => rules.steps.push(StopStep { after, signal: number(Some(name))? }),
            }
        }
        // It ends the stop in any case, and nothing comes after it.
        if let Some(kill) = rules.steps.pop_if(|step| step.signal == signal::KILL) {
            rules.timeout = kill.after;
        }
        if rules.steps.len() > STEPS_MAX {
            return Err(Error::usage(format!("a stop has at most {} signals", STEPS_MAX + 1)));
        }
        *self = rules;
        Ok(())
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Stop {
        let step = |step: &StopStep| v1::StopStep { after_ms: millis(step.after), signal: step.signal };
        v1::Stop {
            signal: Some(self.signal),
            timeout_ms: Some(millis(self.timeout)),
            scope: self.scope.to_wire() as i32,
            steps: self.steps.iter().map(step).collect(),
        }
    }

    pub(in crate::wire) fn from_wire(w: &v1::Stop) -> Self {
        let usual = Self::default();
        let step = |w: &v1::StopStep| StopStep { after: Duration::from_millis(w.after_ms), signal: w.signal };
        Self {
            signal: w.signal.unwrap_or(usual.signal),
            steps: w.steps.iter().map(step).collect(),
            timeout: w.timeout_ms.map_or(usual.timeout, Duration::from_millis),
            scope: Scope::from_wire(w.scope),
        }
    }

    /// Whether there are such signals, and no more of them than may be.
    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        if self.steps.len() > STEPS_MAX {
            return Err(Error::usage(format!("a stop has at most {} signals", STEPS_MAX + 1)));
        }
        let times = std::iter::once(self.timeout).chain(self.steps.iter().map(|step| step.after));
        if let Some(long) = times.into_iter().find(|time| *time > DURATION_MAX) {
            return Err(Error::usage(format!("a duration of {} s is over a year", long.as_secs())));
        }
        let signals = std::iter::once(self.signal).chain(self.steps.iter().map(|step| step.signal));
        match signals.into_iter().find(|signal| !(1..=64).contains(signal)) {
            Some(signal) => Err(Error::usage(format!("there is no signal {signal}"))),
            None => Ok(()),
        }
    }
}

/// The time until SIGKILL: a duration, or `infinity`, for which a year is taken.
#[must_use]
pub fn stop_timeout(text: &str) -> Option<Duration> {
    if text == FOREVER { Some(DURATION_MAX) } else { duration(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StopRules, Error> {
        let mut rules = StopRules { timeout: Duration::from_secs(7), ..StopRules::default() };
        rules.set_signals(text).map(|()| rules)
    }

    #[test]
    fn signals_are_read_and_written() {
        for (text, signals, timeout) in [
            ("INT", "SIGINT", 7),
            ("SIGTERM,10s,int,5s,KILL", "SIGTERM,10s,SIGINT", 5),
            ("TERM, 2m, INT, 1, QUIT", "SIGTERM,2m,SIGINT,1s,SIGQUIT", 7),
            ("TERM,10s,KILL", "SIGTERM", 10),
            ("TERM,3s", "SIGTERM", 3),
            ("KILL", "SIGKILL", 7),
        ] {
            let rules = read(text).unwrap();
            assert_eq!((rules.signals().as_str(), rules.timeout.as_secs()), (signals, timeout), "{text}");
            let mut again = StopRules { timeout: rules.timeout, ..StopRules::default() };
            again.set_signals(&rules.signals()).unwrap();
            assert_eq!((again, StopRules::from_wire(&rules.to_wire())), (rules.clone(), rules), "{text}");
        }
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        let long = "INT,1s,".repeat(8) + "INT";
        for text in ["", "NO", "TERM,", "TERM,INT", "TERM,10s,NO", "10s,TERM", "TERM,,INT", &long] {
            let before = StopRules::default();
            let mut rules = before.clone();
            assert!(rules.set_signals(text).is_err(), "{text}");
            assert_eq!(rules, before, "{text}");
        }
        assert!(StopRules { signal: 65, ..StopRules::default() }.check().is_err());
        let steps = vec![StopStep { after: Duration::ZERO, signal: 0 }];
        assert!(StopRules { steps, ..StopRules::default() }.check().is_err());
    }

    #[test]
    fn the_whole_time_is_that_of_all_signals() {
        let rules = read("TERM,10s,INT,5s").unwrap();
        assert_eq!(rules.whole_time(), Duration::from_secs(15));
        assert_eq!([0, 1, 2].map(|place| rules.time_of(place).as_secs()), [10, 5, 5]);
    }
}
