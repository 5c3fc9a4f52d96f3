//! What the keeper has to say to people. How it is said is for who starts it to decide.

use std::path::PathBuf;

/// What the keeper has to tell its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first engine is up.
    Ready {
        socket: PathBuf,
        /// The one to signal.
        keeper_pid: u32,
        /// Why there are no cgroups, if there are none although they were wanted.
        no_cgroups: Option<String>,
    },
    /// An engine ended and another one is started.
    EngineDied {
        /// In words: the exit code or the signal.
        how: String,
        /// Milliseconds until the next one.
        restart_in_ms: u64,
    },
    /// The service was asked to stop.
    Stopping { signal: u32 },
    /// What is essential has ended: the service ends with this exit code.
    Ending { code: u8 },
    /// Another binary is tried.
    Upgrading,
    /// The service runs it now.
    Upgraded { before: String, after: String },
    /// It does not, or not wholly.
    NotUpgraded {
        /// What went wrong, and where that leaves the service.
        why: String,
    },
    /// Something could not be done.
    Failure(String),
}
