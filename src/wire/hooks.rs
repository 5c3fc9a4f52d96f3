//! Programs that run beside the life of a process: before it is started, when it is ready, before it is
//! stopped, and after it has ended.

use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::time::{DURATION_MAX, millis};

/// How long a hook may take when nothing is said.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often one that is to be tried again is tried in all.
pub const ATTEMPTS_MAX: u32 = 3;
/// How long before it is tried again.
pub const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// When a hook runs. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    PreStart = 0,
    PostStart = 1,
    PreStop = 2,
    PostStop = 3,
}

impl When {
    pub const ALL: [Self; 4] = [Self::PreStart, Self::PostStart, Self::PreStop, Self::PostStop];

    /// As its key is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["pre_start", "post_start", "pre_stop", "post_stop"][self as usize]
    }

    /// Whether it belongs to a stop, which goes on whatever becomes of it.
    #[must_use]
    pub const fn is_of_stop(self) -> bool {
        matches!(self, Self::PreStop | Self::PostStop)
    }
}

/// What follows when a hook has failed. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The run has failed with it.
    Fail = 1,
    /// It is told, and nothing else.
    Ignore = 2,
    /// It is tried again, some times.
    Retry = 3,
}

impl OnFailure {
    pub const ALL: [Self; 3] = [Self::Fail, Self::Ignore, Self::Retry];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Ignore => "ignore",
            Self::Retry => "retry",
        }
    }
}

/// One of them; without a command it is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// How long it may take; none: a minute.
    pub timeout: Option<Duration>,
    /// None: `fail`, and `ignore` for those of a stop.
    pub on_failure: Option<OnFailure>,
}

impl Hook {
    /// How long one attempt may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// The longest that all its attempts take.
    fn whole_time(&self) -> Duration {
        let attempts = if self.on_failure == Some(OnFailure::Retry) { ATTEMPTS_MAX } else { 1 };
        match self.command.is_empty() {
            true => Duration::ZERO,
            false => self.limit().saturating_add(AGAIN_AFTER).saturating_mul(attempts),
        }
    }
}

/// All of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks([Hook; 4]);

impl Hooks {
    /// The one of then, if there is one.
    #[must_use]
    pub fn get(&self, when: When) -> Option<&Hook> {
        Some(&self.0[when as usize]).filter(|hook| !hook.command.is_empty())
    }

    /// What is said of it, also without a command.
    #[must_use]
    pub fn of(&self, when: When) -> &Hook {
        &self.0[when as usize]
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, when: When) -> &mut Hook {
        &mut self.0[when as usize]
    }

    /// How much longer a stop may take for them.
    #[must_use]
    pub fn stop_time(&self) -> Duration {
        self.of(When::PreStop).whole_time().saturating_add(self.of(When::PostStop).whole_time())
    }

    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        for when in When::ALL {
            let (name, hook) = (when.name(), self.of(when));
            let is_said = hook.timeout.is_some() || hook.on_failure.is_some();
            if hook.command.is_empty() && is_said {
                let e = format!("{name}_timeout and {name}_failure are for a {name}, and there is none");
                return Err(Error::usage(e));
            }
            if hook.command.first().is_some_and(String::is_empty)
                || hook.command.iter().any(|arg| arg.contains('\0'))
            {
                return Err(Error::usage(format!("{name} names no program that can be executed")));
            }
            if hook.timeout.is_some_and(|time| time.is_zero() || time > DURATION_MAX) {
                return Err(Error::usage(format!("{name}_timeout is from 1 ms to a year")));
            }
            if when.is_of_stop() && hook.on_failure == Some(OnFailure::Fail) {
                let e = format!("a stop goes on whatever its hook does: {name}_failure cannot be \"fail\"");
                return Err(Error::usage(e).hint("write \"ignore\", which is the default, or \"retry\""));
            }
        }
        Ok(())
    }

    pub(in crate::wire) fn to_wire(&self) -> Vec<v1::Hook> {
        let all = When::ALL.into_iter().filter(|&when| *self.of(when) != Hook::default());
        all.map(|when| {
            let hook = self.of(when);
            v1::Hook {
                when: when as u32,
                command: hook.command.clone(),
                timeout_ms: hook.timeout.map_or(0, millis),
                on_failure: hook.on_failure.map_or(0, |what| what as u32),
            }
        })
        .collect()
    }

    pub(crate) fn from_wire(all: Vec<v1::Hook>) -> Self {
        let mut hooks = Self::default();
        for hook in all {
            // One that only a newer program knows is passed over.
            if let Some(when) = When::ALL.into_iter().find(|when| *when as u32 == hook.when) {
                hooks.0[when as usize] = Hook {
                    command: hook.command,
                    timeout: (hook.timeout_ms != 0).then(|| Duration::from_millis(hook.timeout_ms)),
                    on_failure: OnFailure::ALL.into_iter().find(|what| *what as u32 == hook.on_failure),
                };
            }
        }
        hooks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_cannot_be_are_refused_by_name() {
        // On the wire that is none: it is refused before.
        let hook_without_time = |hooks: &Hooks| hooks.0.iter().any(|h| h.timeout == Some(Duration::ZERO));
        let with = |when, hook: Hook| {
            let mut hooks = Hooks::default();
            *hooks.of_mut(when) = hook;
            let again = Hooks::from_wire(hooks.to_wire());
            assert!(again == hooks || hook_without_time(&hooks), "{again:?}");
            hooks.check().map_err(|e| e.message)
        };
        let hook = || Hook { command: vec!["a".into()], ..Hook::default() };
        assert_eq!(with(When::PreStart, hook()), Ok(()));
        let timed = Hook { timeout: Some(Duration::from_secs(1)), ..Hook::default() };
        assert!(with(When::PostStart, timed).unwrap_err().contains("for a post_start, and there is none"));
        let fails = Hook { on_failure: Some(OnFailure::Fail), ..hook() };
        assert_eq!(with(When::PreStart, fails.clone()), Ok(()));
        assert!(with(When::PreStop, fails).unwrap_err().contains("pre_stop_failure cannot be \"fail\""));
        let endless = Hook { timeout: Some(Duration::ZERO), ..hook() };
        assert!(with(When::PostStop, endless).unwrap_err().contains("post_stop_timeout"));
        let empty = Hook { command: vec![String::new()], ..Hook::default() };
        assert!(with(When::PreStop, empty).unwrap_err().contains("pre_stop names no program"));
    }

    #[test]
    fn a_stop_may_take_as_long_as_its_hooks_do() {
        let mut hooks = Hooks::default();
        assert_eq!(hooks.stop_time(), Duration::ZERO);
        hooks.of_mut(When::PreStop).command = vec!["a".into()];
        assert_eq!(hooks.stop_time(), Duration::from_secs(61));
        let post = hooks.of_mut(When::PostStop);
        (post.command, post.timeout) = (vec!["a".into()], Some(Duration::from_secs(4)));
        post.on_failure = Some(OnFailure::Retry);
        assert_eq!(hooks.stop_time(), Duration::from_secs(61 + 15));
    }
}
