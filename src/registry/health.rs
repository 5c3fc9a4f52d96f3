//! How a provider is, from what checks and calls have come to. One failure is none yet: it takes some in a
//! row to call it failed, and some successes to take that back. Pure.

use std::time::Duration;

/// From one check to the next, where nobody has said another interval.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// What a provider is called that answers no more.
pub const FAILED: &str = "failed";
/// What it says as long as all is well.
pub const OK: &str = "ok";

/// When and how providers are asked how they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// From one check to the next of all; zero or none: only those are checked whose monitoring was started.
    /// Where none was given, registering one with the registry starts it.
    pub check_interval: Option<Duration>,
    /// Of one try.
    pub timeout: Duration,
    /// How often a check that failed is made again before it counts.
    pub retries: u32,
    /// Failures in a row that make a provider a failed one; at least 1.
    pub failure_threshold: u32,
    /// Successes in a row that make it a good one again; at least 1.
    pub success_threshold: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            check_interval: None,
            timeout: Duration::from_secs(5),
            retries: 1,
            failure_threshold: 3,
            success_threshold: 2,
        }
    }
}

/// What a check or a call says of its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign<'a> {
    /// It was asked, and says so.
    Says(&'a str),
    /// A call has come to its end.
    Works,
    Fails,
    /// It runs and is initialised, after it did not.
    Fresh,
}

/// How it is, after all signs so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthState {
    status: String,
    failures: u32,
    successes: u32,
}

impl Default for HealthState {
    fn default() -> Self {
        Self { status: OK.to_owned(), failures: 0, successes: 0 }
    }
}

impl HealthState {
    /// "ok", "degraded", "starting", "unspecified" or "failed".
    #[must_use]
    pub fn status(&self) -> &str {
        &self.status
    }

    /// How often it has failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the status is another one after this.
    pub fn take(&mut self, sign: Sign<'_>, settings: &HealthSettings) -> bool {
        let status = match sign {
            Sign::Fails => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures < settings.failure_threshold {
                    return false;
                }
                FAILED
            }
            Sign::Fresh => {
                self.failures = 0;
                OK
            }
            Sign::Says(_) | Sign::Works if self.status == FAILED => {
                self.failures = 0;
                self.successes += 1;
                if self.successes < settings.success_threshold {
                    return false;
                }
                if let Sign::Says(status) = sign { status } else { OK }
            }
            Sign::Says(status) => {
                self.failures = 0;
                status
            }
            // That it works is no news of one that calls itself degraded.
            Sign::Works => {
                self.failures = 0;
                return false;
            }
        };
        if status != FAILED {
            self.successes = 0;
        }
        let is_change = self.status != status;
        if is_change {
            self.status = status.to_owned();
        }
        is_change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes that these signs make.
    fn changes(signs: &[Sign<'_>]) -> Vec<String> {
        let (mut state, settings) = (HealthState::default(), HealthSettings::default());
        let mut changes = Vec::new();
        for sign in signs {
            if state.take(*sign, &settings) {
                changes.push(state.status().to_owned());
            }
        }
        changes
    }

    #[test]
    fn it_takes_some_in_a_row_both_ways() {
        let (fails, ok) = (Sign::Fails, Sign::Says(OK));
        assert!(changes(&[ok, fails, fails, ok, fails, fails, Sign::Works, fails]).is_empty());
        assert_eq!(changes(&[fails, fails, fails, fails, ok]), [FAILED]);
        assert_eq!(changes(&[fails, fails, fails, ok, fails, ok, Sign::Works, ok]), [FAILED, OK]);
    }

    #[test]
    fn what_it_says_of_itself_holds_at_once_and_until_it_says_something_else() {
        let (degraded, fails) = (Sign::Says("degraded"), Sign::Fails);
        assert_eq!(changes(&[degraded, degraded, Sign::Works, Sign::Says(OK)]), ["degraded", OK]);
        assert_eq!(changes(&[fails, fails, fails, degraded, degraded]), [FAILED, "degraded"]);
        assert_eq!(changes(&[fails, fails, fails, Sign::Fresh, fails, fails]), [FAILED, OK]);
    }
}
