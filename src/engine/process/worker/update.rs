//! A process that is to be run in another way. What holds at once is taken at once; the rest waits for the
//! next run, and until then the record says that the present one is of an older definition.

use std::sync::Arc;

use crate::engine::context;
use crate::engine::memory::LogPosition;
use crate::engine::process::failure;
use crate::engine::process::handle::{AnswerTo, Ask};
use crate::engine::process::input::{Input, Rules};
use crate::engine::process::prepare::Prepared;
use crate::engine::process::waiting::{Until, Waiting};
use crate::engine::process::worker::Worker;
use crate::sys::clock;
use crate::wire::error::{Code, Error};
use crate::wire::event::{EventKind, NewEvent};
use crate::wire::field::Effect;
use crate::wire::fields;
use crate::wire::process::State;
use crate::wire::record::AfterStop;
use crate::wire::record::cut;
use crate::wire::request::OutdatedRun;
use crate::wire::spec::Spec;

impl Worker {
    /// Asked twice, it is done once: the second time nothing differs, and a restart is waited for.
    pub(super) fn update(&mut self, spec: &Arc<Spec>, outdated: OutdatedRun, cause: &str, answer: AnswerTo) {
        let refusal = if outdated == OutdatedRun::Restart { self.no_next_run(spec) } else { None };
        let is_for_next_run = match refusal.map_or_else(|| self.replace_spec(spec, cause), Err) {
            Ok(is_for_next_run) => is_for_next_run,
            Err(e) => return answer.give(self.process.show(), Some(e)),
        };
        let run = self.record.run;
        let until = match (outdated, self.record.state) {
            (OutdatedRun::Restart, State::Starting | State::Running) if self.record.outdated => {
                return self.go(Ask::Restart { key: None }, cause, Some(answer));
            }
            // What is tried again is tried as it is by now, and not as late as it was before.
            (OutdatedRun::Restart, State::Backoff) if is_for_next_run => {
                return self.go(Ask::Start, cause, Some(answer));
            }
            (OutdatedRun::Restart, State::Starting) => Until::Running { run },
            (OutdatedRun::Restart, State::Stopping) if self.record.stop.then == AfterStop::Run => {
                Until::Running { run: run + 1 }
            }
            _ => return answer.give(self.process.show(), None),
        };
        self.waiting.push(Waiting { until, answer });
        self.answer();
    }

    /// Returns whether the next run is another one by it.
    fn replace_spec(&mut self, spec: &Arc<Spec>, cause: &str) -> Result<bool, Error> {
        if self.process.context.is_stopping() {
            return Err(context::ending());
        }
        let label = self.process.label();
        let present = self.process.spec();
        if spec.name != self.process.name {
            let e = format!("{label} keeps its name: it cannot be changed");
            return Err(Error::new(Code::Refused, e).hint("remove it, and start it under the other name"));
        }
        let changed = fields::changed(&present, spec);
        if changed.is_empty() {
            return Ok(false);
        }
        if let Some(field) = changed.iter().find(|field| field.effect == Effect::Never) {
            let e = format!("{label} keeps its {}: it can only be said of a new process", field.key);
            return Err(Error::new(Code::Refused, e).hint("remove it, and start it anew"));
        }
        spec.check()?;
        self.prepare(spec, &Vec::new())?;
        self.change_limits(spec)?;
        let laid =
            self.process.memory.lay_spec(spec).map_err(|e| Error::failed("keep the definition", &e))?;
        let is_rescheduled = spec.schedule != present.schedule;
        if is_rescheduled {
            self.reschedule(&present, spec)?;
        }
        // On record first, then in force: whoever asked and got no answer asks again.
        let is_for_next_run = changed.iter().any(|field| field.effect == Effect::NextRun);
        self.record.outdated |= is_for_next_run && !self.is_without_run();
        let detail = changed.iter().map(|field| field.key).collect::<Vec<_>>().join(", ");
        let needs_others = present.needs != spec.needs;
        if needs_others {
            self.record.bound_mono = clock::now_ms();
        }
        let before = std::mem::replace(&mut self.record.cause, cause.to_owned());
        self.commit(&[NewEvent { kind: EventKind::Updated, detail: cut(&detail) }]);
        self.record.cause = before;
        if spec.log.is_on() && !self.process.log.is_on() {
            // From here on it is written.
            let memory = &self.process.memory;
            let position = LogPosition { offset: memory.ring().head(), ..memory.log_position() };
            memory.set_log_position(&position).map_err(|e| Error::failed("begin the log", &e))?;
            self.process.log.advance(position.offset, position.lost);
        }
        if self.process.log.is_on() && spec.log != present.log {
            // What is there is of the definition that it came under.
            self.finish_log();
        }
        self.process.memory.turn_to(laid);
        self.process.set_spec(Arc::clone(spec));
        if spec.redact != present.redact {
            self.take_patterns();
        }
        if spec.cgroup != present.cgroup && self.record.state == State::Running {
            self.watch_memory();
        }
        self.process.log.turn(spec.log.is_on());
        if spec.log != present.log {
            // Also what has no log any more: its files are closed.
            self.process.context.logs.mark(self.process.id);
        }
        let before = std::mem::replace(&mut self.rules, Rules::from(&**spec));
        self.put_standing();
        // It may need others now: they are looked at anew.
        self.bonds.watch = None;
        if needs_others && self.record.state == State::Running {
            self.note_others();
        }
        self.process.publish(&self.record);
        if is_rescheduled {
            self.apply_quietly(Input::Schedule);
        }
        // Again, since the store may have looked in between.
        self.process.mark(true);
        if self.record.state == State::Running {
            if before.ready_limit != self.rules.ready_limit {
                self.apply_quietly(Input::NewLimit);
            }
            self.look_again(spec);
        }
        Ok(is_for_next_run)
    }

    fn is_without_run(&self) -> bool {
        self.record.state.is_at_rest() || self.record.state == State::Backoff
    }

    /// What has not yet shown that it is ready has to show it as the new definition says, and the same with
    /// what has to show that it is well.
    fn look_again(&mut self, spec: &Spec) {
        self.probes.end();
        if spec.ready.is_some() || self.record.ready || self.record.awaits_main {
            self.start_probes();
        } else {
            self.found_ready();
        }
    }

    /// Why what runs is not to be ended for another run: that one certainly cannot start.
    pub(super) fn no_next_run(&self, spec: &Spec) -> Option<Error> {
        if self.record.state != State::Running {
            return None;
        }
        let missing = |next: Prepared| Some(failure::explain(&failure::missing(&next.launch)?, spec));
        let e = self.prepare(spec, &Vec::new()).map_or_else(Some, missing)?;
        let why = e.message.strip_prefix("cannot start: ").unwrap_or(&e.message);
        let message = format!("it runs on, since it could not start again: {why}");
        Some(Error { message, ..e })
    }
}
