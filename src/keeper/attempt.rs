//! An upgrade that is being tried, and how far it has come; `upgrade.rs` moves it on.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::sys::memory;
use crate::wire::id::UpgradeId;

/// Our own program, whatever has become of its path.
pub const CURRENT_IMAGE: &str = "/proc/self/exe";

/// An upgrade that is being tried. The keeper's loop owns it.
#[derive(Debug)]
pub struct Attempt {
    pub id: UpgradeId,
    pub binary: File,
    pub trial: Trial,
    /// Made before anything is touched, so that the want of it is told while everything is as it was.
    pub memory: File,
    /// The program that we are, for a new keeper that has to give all this back.
    pub image: File,
}

/// How far the new engine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The old one is to go first.
    Due,
    /// Started; `errno`: it could not be executed.
    Started { until: u64, errno: Option<i32> },
    /// It was not ready in time and has to go.
    Late,
    /// It is ready; the keeper comes next.
    Ready { until: u64 },
    /// That process shows whether the new keeper can go on.
    Rehearsed { pid: u32, until: u64 },
    /// It can. The engine is told the last things before the old one goes.
    Passed { until: u64 },
}

impl Attempt {
    pub fn new(id: UpgradeId, binary: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            id,
            binary: File::from(binary),
            trial: Trial::Due,
            memory: memory::memfd_create(c"provost-handover", 0)?,
            image: File::open(CURRENT_IMAGE)?,
        })
    }

    /// When something has to be done about it without a message.
    pub fn deadline(&self) -> Option<u64> {
        match self.trial {
            Trial::Due | Trial::Late => None,
            Trial::Started { until, .. }
            | Trial::Ready { until }
            | Trial::Rehearsed { until, .. }
            | Trial::Passed { until } => Some(until),
        }
    }
}
