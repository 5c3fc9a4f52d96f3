//! A process that is started by its schedule. The thread is told when a time may have come, and is there
//! for as long as a run is. What a time leads to is decided in `engine/process/due.rs`.

use crate::engine::process::due::{Turn, comes_sooner, next, turn};
use crate::engine::process::handle::Ask;
use crate::engine::process::input::Input;
use crate::engine::process::worker::Worker;
use crate::sys::clock;
use crate::wire::error::Error;
use crate::wire::event::{EventKind, NewEvent};
use crate::wire::record::cut;
use crate::wire::schedule::{Schedule, Times};
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// Who starts it.
const CAUSE: &str = "schedule";

impl Worker {
    /// A time may have come, or the clock was set.
    pub(super) fn look_at_schedule(&mut self) {
        let Some(planned) = self.record.next_run_at.filter(|_| !self.process.context.is_stopping()) else {
            return;
        };
        let (spec, now) = (self.process.spec(), Timestamp::now());
        let schedule = &*spec.schedule;
        let Some(times) = self.times_or_say(schedule) else {
            self.plan(None);
            return self.apply_quietly(Input::Schedule);
        };
        if now < planned {
            if comes_sooner(&self.record, schedule, &times, now) {
                self.plan(self.next_run(schedule, &times));
                self.commit(&[]);
            } else {
                self.plan(Some(planned));
            }
            return;
        }
        let turn = turn(&self.record, schedule, &times, planned, now);
        self.record.last_due_at = Some(planned);
        self.plan(self.next_run(schedule, &times));
        match turn {
            Turn::Run => self.run_by_schedule(),
            // First the run: should we end in between, it is begun all the same.
            Turn::MakeUp(detail) => {
                self.run_by_schedule();
                self.tell_missed(&detail);
            }
            Turn::LeaveOut(detail) => self.leave_out(&detail),
        }
    }

    fn run_by_schedule(&mut self) {
        // What is planned next is on record with the start.
        let is_at_rest = self.record.state.is_at_rest();
        self.go(if is_at_rest { Ask::Start } else { Ask::Restart { key: None } }, CAUSE, None);
    }

    /// Told once of each run that others would have come beside.
    fn leave_out(&mut self, detail: &str) {
        let is_told = !self.record.state.is_at_rest() && self.left_out_for == self.record.run;
        if is_told {
            return self.commit(&[]);
        }
        self.left_out_for = self.record.run;
        self.tell_missed(detail);
    }

    fn tell_missed(&mut self, detail: &str) {
        let before = std::mem::replace(&mut self.record.cause, CAUSE.to_owned());
        self.commit(&[NewEvent { kind: EventKind::Missed, detail: cut(detail) }]);
        self.record.cause = before;
    }

    /// From now on its schedule starts it, if it has one. Put on record with what follows.
    pub(super) fn keep_schedule(&mut self) {
        let spec = self.process.spec();
        if self.record.next_run_at.is_none()
            && let Some(times) = self.times_or_say(&spec.schedule)
        {
            self.plan(self.next_run(&spec.schedule, &times));
        }
    }

    /// It has another schedule. One that was suspended stays so; put on record with what follows.
    pub(super) fn reschedule(&mut self, before: &Spec, after: &Spec) -> Result<(), Error> {
        let times = after.schedule.times(self.record.created_at)?;
        let is_suspended = before.schedule.is_on() && self.record.next_run_at.is_none();
        if !is_suspended {
            self.plan(times.and_then(|times| self.next_run(&after.schedule, &times)));
        }
        Ok(())
    }

    fn next_run(&self, schedule: &Schedule, times: &Times) -> Option<Timestamp> {
        next(schedule, times, self.record.last_due_at, Timestamp::now(), clock::now_ns())
    }

    pub(super) fn plan(&mut self, next: Option<Timestamp>) {
        if next.is_some() || self.record.next_run_at.is_some() {
            self.record.next_run_at = next;
            self.process.put_schedule(next);
        }
    }

    /// None: it has no schedule, or one that cannot be kept on this host any more.
    fn times_or_say(&self, schedule: &Schedule) -> Option<Times> {
        schedule.times(self.record.created_at).unwrap_or_else(|e| {
            let label = self.process.label();
            self.process.context.say(&format!("the schedule of {label} is not kept: {}", e.message));
            None
        })
    }
}
