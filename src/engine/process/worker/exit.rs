//! What is put on record of the end of a run, of what the keeper saw.

use std::time::Duration;

use crate::engine::process::worker::Worker;
use crate::sys::child::{self, Status};
use crate::wire::keeper::Ended;
use crate::wire::process::{End, Exit};

impl Worker {
    pub(super) fn exit_of(&mut self, ended: &Ended) -> Exit {
        let (end, core) = match child::status(ended.status) {
            Status::Exited(code) => (End::Code(code), false),
            Status::Signalled { signal, core } => (End::Signal(signal), core),
        };
        Exit {
            end,
            core,
            oom: self.ended_for_memory(end),
            ran: Duration::from_millis(ended.at_mono.saturating_sub(self.record.started_mono)),
            user: Duration::from_micros(ended.user_us),
            system: Duration::from_micros(ended.system_us),
            max_rss_kib: ended.max_rss_kib,
        }
    }
}
