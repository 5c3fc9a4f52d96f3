//! What a run that ended by itself left behind, and what became of it, as an event.

use crate::engine::process::worker::Worker;
use crate::sys::signal;
use crate::wire::event::{EventKind, LEFT_BEHIND, NewEvent};
use crate::wire::record::AfterStop;

impl Worker {
    /// Nobody asked for the end of the run, and what it left behind was sent the signal of a stop: programs
    /// that put themselves into the background are found out by this.
    pub(super) fn note_left_behind(&mut self, number: u32, reached: u32) {
        let is_own_end = self.tree.leader_gone
            && self.record.stop.then == AfterStop::Decide
            && self.record.unfit.is_empty();
        if !is_own_end || reached == 0 {
            return;
        }
        let what = if reached == 1 { "process" } else { "processes" };
        let detail = format!("{} to {reached} {what} {LEFT_BEHIND}", signal::name(number));
        let cause = std::mem::take(&mut self.record.cause);
        self.commit(&[NewEvent { kind: EventKind::Signalled, detail }]);
        self.record.cause = cause;
    }
}
