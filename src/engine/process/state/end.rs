//! What follows when nothing of a run is left: rest, another run, or the end of the service.

use crate::engine::process::restart::{self, Next};
use crate::engine::process::state::{Action, Step};
use crate::wire::event::EventKind;
use crate::wire::process::State;
use crate::wire::record::AfterStop;

impl Step<'_> {
    pub(super) fn end_of_run(&mut self) {
        self.record.stuck = false;
        if !self.record.left {
            self.record.tree = None;
        }
        match self.record.stop.then {
            AfterStop::Run => {
                self.add_event(EventKind::Stopped, "to be started again");
                self.record.attempts = 0;
                self.start();
            }
            AfterStop::Rest => self.rest(self.at_rest(), EventKind::Stopped, ""),
            AfterStop::Decide => self.decide(),
        }
    }

    fn rest(&mut self, state: State, kind: EventKind, detail: &str) {
        self.enter_quietly(state);
        self.add_event(kind, detail);
    }

    pub(super) fn at_rest(&self) -> State {
        if self.record.next_run_at.is_some() { State::Scheduled } else { State::Stopped }
    }

    fn decide(&mut self) {
        let next = restart::next(self.record, &self.rules.restart, self.now);
        if restart::failed(self.record, &self.rules.restart) && next != Next::Rest {
            self.add_event(EventKind::AttemptFailed, &restart::plan(next, self.record, &self.rules.restart));
        }
        match next {
            Next::Rest => {
                // What has done its work is not wanted any more; what failed is, by a later service.
                // With a schedule, neither is: that says when it is started.
                let is_scheduled = self.record.next_run_at.is_some();
                let is_wanted = restart::failed(self.record, &self.rules.restart) || self.rules.is_essential;
                self.record.wanted &= is_wanted && !is_scheduled;
                self.rest(self.at_rest(), EventKind::Stopped, "by itself");
                self.end_service();
            }
            Next::GiveUp => {
                let n = self.record.window_restarts;
                self.record.wanted &= self.record.next_run_at.is_none();
                self.record.cause = "restart limit".to_owned();
                self.rest(State::Failed, EventKind::GaveUp, &restart::gave_up(n));
                self.end_service();
            }
            Next::Run { after_ms } => {
                restart::count(self.record, &self.rules.restart, self.now);
                self.record.cause = "restart policy".to_owned();
                if after_ms == 0 {
                    self.start();
                    self.record.cause = "restart policy".to_owned();
                } else {
                    self.enter_quietly(State::Backoff);
                    self.set_deadline(after_ms);
                }
            }
        }
    }

    /// What is essential has ended for good, and no client has asked for it: the service goes with it.
    fn end_service(&mut self) {
        if !self.rules.is_essential {
            return;
        }
        let code = restart::end_code(self.record);
        self.record.ends_service = Some(code);
        self.add_event(EventKind::EndsService, &format!("it is essential: exit code {code}"));
        self.act(Action::EndService { code });
    }
}
