//! What is put on record of the end of a run, of what the keeper saw.

use std::time::Duration;

use crate::engine::process::tree::Tree;
use crate::sys::child::{self, Status};
use crate::sys::signal;
use crate::wire::keeper::Ended;
use crate::wire::process::{End, Exit};

/// `started_mono`: when the run began (monotonic ms).
pub(super) fn exit_of(ended: &Ended, tree: &Tree, started_mono: u64) -> Exit {
    let (end, core) = match child::status(ended.status) {
        Status::Exited(code) => (End::Code(code), false),
        Status::Signalled { signal, core } => (End::Signal(signal), core),
    };
    let killed = end == End::Signal(u8::try_from(signal::KILL).expect("SIGKILL is 9"));
    Exit {
        end,
        core,
        oom: killed && tree.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills() > 0),
        ran: Duration::from_millis(ended.at_mono.saturating_sub(started_mono)),
        user: Duration::from_micros(ended.user_us),
        system: Duration::from_micros(ended.system_us),
        max_rss_kib: ended.max_rss_kib,
    }
}
