//! Answers to those who wait for the process.

use crate::engine::process::waiting::{WaitDecision, why_not_gone, why_not_running};
use crate::engine::process::worker::Worker;

impl Worker {
    /// Answers everybody whose wish is fulfilled, or cannot be any more.
    pub(super) fn answer(&mut self) {
        let mut n = 0;
        while n < self.waiting.len() {
            let error = match self.waiting[n].until.decision(&self.record) {
                WaitDecision::NotYet => {
                    n += 1;
                    continue;
                }
                WaitDecision::Done => None,
                WaitDecision::NotRunning => {
                    Some(why_not_running(&self.process, &self.record, self.refusal.as_ref()))
                }
                WaitDecision::NotGone => Some(why_not_gone(&self.process, &self.record, &self.tree)),
            };
            self.waiting.swap_remove(n).answer.give(self.process.show(), error);
        }
    }
}
