//! What becomes of an upgrade: the keeper decides it, every engine tells it, and the command line shows it.

use std::io;

use crate::sys::signal;
use crate::wire::id::UpgradeId;

/// Bytes of a version between keeper and engine.
const VERSION_LEN: usize = 24;

/// A version as it travels in a message of fixed size: text, cut to fit, then NULs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Version(pub [u8; VERSION_LEN]);

impl Version {
    #[must_use]
    pub fn ours() -> Self {
        Self::new(env!("CARGO_PKG_VERSION"))
    }

    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; VERSION_LEN];
        let len = text.len().min(VERSION_LEN);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self(bytes)
    }

    /// As text; empty: the other side does not tell.
    #[must_use]
    pub fn text(&self) -> String {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(VERSION_LEN);
        String::from_utf8_lossy(&self.0[..len]).into_owned()
    }
}

/// How one upgrade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeOutcome {
    pub id: UpgradeId,
    pub result: UpgradeResult,
    /// The version that was there when it was asked for.
    pub before: Version,
}

/// See [`UpgradeOutcome`]. After each failure but [`KeeperStays`](Self::KeeperStays)
/// and [`HandedBack`](Self::HandedBack) everything is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeResult {
    /// It is being tried.
    Undecided,
    /// Keeper and engine are the new ones.
    Done,
    /// What it takes was not there; nothing was touched.
    Unprepared { errno: i32 },
    /// There was no process for the new engine, or for the rehearsal of the new keeper.
    NotStarted { errno: i32 },
    /// The kernel would not execute the new engine.
    NotExecuted { errno: i32 },
    /// The new engine ended before it was ready.
    Exited { code: i32 },
    /// The same, by a signal.
    Signalled { signal: i32 },
    /// The new engine was not ready in time.
    NotReady { after_ms: i32 },
    /// The new keeper, tried in a process of its own, found that it could not go on.
    KeeperRefuses { code: i32 },
    /// The engine is new; the keeper could not hand over and goes on.
    KeeperStays { errno: i32 },
    /// The same: the new keeper could not use what it was handed.
    HandedBack,
    /// A newer program's result that this one does not know.
    Other { kind: u32 },
}

impl UpgradeResult {
    #[must_use]
    pub fn numbers(self) -> (u32, i32) {
        match self {
            Self::Undecided => (0, 0),
            Self::Done => (1, 0),
            Self::Unprepared { errno } => (2, errno),
            Self::NotStarted { errno } => (3, errno),
            Self::NotExecuted { errno } => (4, errno),
            Self::Exited { code } => (5, code),
            Self::Signalled { signal } => (6, signal),
            Self::NotReady { after_ms } => (7, after_ms),
            Self::KeeperStays { errno } => (8, errno),
            Self::HandedBack => (9, 0),
            Self::KeeperRefuses { code } => (10, code),
            Self::Other { kind } => (kind, 0),
        }
    }

    #[must_use]
    pub fn from_numbers(kind: u32, number: i32) -> Self {
        match kind {
            0 => Self::Undecided,
            1 => Self::Done,
            2 => Self::Unprepared { errno: number },
            3 => Self::NotStarted { errno: number },
            4 => Self::NotExecuted { errno: number },
            5 => Self::Exited { code: number },
            6 => Self::Signalled { signal: number },
            7 => Self::NotReady { after_ms: number },
            8 => Self::KeeperStays { errno: number },
            9 => Self::HandedBack,
            10 => Self::KeeperRefuses { code: number },
            kind => Self::Other { kind },
        }
    }
}

impl UpgradeResult {
    /// In words: what happened, and where that leaves the service.
    #[must_use]
    pub fn describe(self) -> String {
        let cause = |errno: i32| io::Error::from_raw_os_error(errno);
        let stays = "the old one goes on";
        match self {
            Self::Undecided => "the upgrade is being tried".to_owned(),
            Self::Done => "keeper and engine are the new ones".to_owned(),
            Self::Unprepared { errno } => {
                format!("the upgrade cannot be prepared: {}; nothing was changed", cause(errno))
            }
            Self::NotStarted { errno } => {
                format!("the new program cannot be tried: {}; {stays}", cause(errno))
            }
            Self::NotExecuted { errno } => {
                format!("the new engine cannot be executed: {}; {stays}", cause(errno))
            }
            Self::Exited { code } => format!("the new engine ended with exit code {code}; {stays}"),
            Self::Signalled { signal: number } => {
                format!("the new engine was ended by {}; {stays}", signal::name(number.unsigned_abs()))
            }
            Self::NotReady { after_ms } => {
                format!("the new engine was not ready within {} s; {stays}", after_ms / 1000)
            }
            Self::KeeperRefuses { code } => {
                format!("the new keeper could not go on from here (exit code {code}); {stays}")
            }
            Self::KeeperStays { errno } => {
                format!("the engine is the new one, but the keeper could not hand over: {}", cause(errno))
            }
            Self::HandedBack => {
                "the engine is the new one, but the new keeper could not use what the old one handed over"
                    .to_owned()
            }
            Self::Other { kind } => {
                format!("the keeper tells something that is not known here (verdict {kind})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_numbers() {
        for kind in 0..13 {
            let result = UpgradeResult::from_numbers(kind, 0);
            assert_eq!(result.numbers(), (kind, 0));
            assert_eq!(matches!(result, UpgradeResult::Other { .. }), kind > 10, "{result:?}");
        }
    }

    #[test]
    fn a_version_is_cut_to_fit() {
        assert_eq!(Version::new("1.2.3-rc.4").text(), "1.2.3-rc.4");
        assert_eq!(Version::new(&"9".repeat(99)).text(), "9".repeat(24));
        assert_eq!(Version::default().text(), "");
    }
}
