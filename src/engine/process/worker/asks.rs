//! What clients ask of the process, one arm for each.

use crate::engine::context;
use crate::engine::process::handle::{AnswerTo, Ask};
use crate::engine::process::input::Input;
use crate::engine::process::waiting::{Until, Waiting};
use crate::engine::process::worker::Worker;
use crate::sys::signal;
use crate::wire::error::{Code, Error};
use crate::wire::event::{EventKind, NewEvent};
use crate::wire::process::State;
use crate::wire::record::AfterStop;
use crate::wire::spec::Scope;

impl Worker {
    pub(super) fn ask(&mut self, what: Ask, cause: &str, answer: AnswerTo) {
        match what {
            Ask::Start | Ask::Schedule | Ask::Restart { .. } if self.process.context.is_stopping() => {
                answer.give(self.process.show(), Some(context::ending()));
            }
            Ask::Start => {
                self.note_created(cause);
                self.go(Ask::Start, cause, Some(answer));
            }
            Ask::Schedule => {
                self.note_created(cause);
                self.keep_schedule();
                self.record.wanted &= self.record.run > 0;
                self.apply(Input::Schedule, cause);
                answer.give(self.process.show(), None);
            }
            Ask::Restart { key } if self.record.orders.has(key) => self.do_now(what, cause, Some(answer)),
            Ask::Restart { .. } => match self.no_next_run(&self.process.spec()) {
                Some(refusal) => answer.give(self.process.show(), Some(refusal)),
                None => self.go(what, cause, Some(answer)),
            },
            Ask::Stop(_) => self.go(what, cause, Some(answer)),
            Ask::Signal { key, .. } if self.record.orders.has(key) => answer.give(self.process.show(), None),
            Ask::Signal { signal, scope, key } => {
                if let Some(key) = key {
                    // On record before it is sent: it may be lost with the engine, and is never sent twice.
                    self.record.orders.add(key);
                    self.commit(&[]);
                }
                let error = self.signal(signal, scope, cause).err();
                answer.give(self.process.show(), error);
            }
            Ask::Update { spec, outdated } => self.update(&spec, outdated, cause, answer),
            Ask::Remove => self.remove(cause, answer),
        }
    }

    /// Puts on record that it has become known, if it has just now.
    fn note_created(&mut self, cause: &str) {
        if self.record.run == 0 && self.record.cause.is_empty() {
            cause.clone_into(&mut self.record.cause);
            self.commit(&[NewEvent { kind: EventKind::Created, detail: String::new() }]);
        }
    }

    /// A start, a stop or a restart. `answer` is given when that is done.
    pub(super) fn do_now(&mut self, what: Ask, cause: &str, answer: Option<AnswerTo>) {
        let until = match what {
            Ask::Start => {
                self.keep_schedule();
                self.apply(Input::Start, cause);
                if self.record.state.is_at_rest() {
                    // It came to nothing, and others may take it for one that starts.
                    self.put_standing();
                }
                Until::Running { run: self.record.run }
            }
            Ask::Restart { key } if self.record.orders.has(key) => {
                let next = u64::from(self.record.stop.then == AfterStop::Run);
                let is_stopping = self.record.state == State::Stopping;
                Until::Running { run: self.record.run + if is_stopping { next } else { 0 } }
            }
            Ask::Restart { key } => {
                let run = self.record.run;
                self.keep_schedule();
                key.into_iter().for_each(|key| self.record.orders.add(key));
                self.apply(Input::Restart, cause);
                Until::Running { run: run + 1 }
            }
            Ask::Stop(mut order) => {
                let run = self.record.run;
                if !order.for_now && !order.keep_schedule {
                    order.suspends = self.record.next_run_at.is_some();
                    self.plan(None);
                }
                self.apply(Input::Stop(order), cause);
                Until::Gone { run }
            }
            Ask::Schedule | Ask::Signal { .. } | Ask::Update { .. } | Ask::Remove => return,
        };
        self.waiting.extend(answer.map(|answer| Waiting { until, answer }));
        self.answer();
    }

    fn signal(&mut self, number: u32, scope: Scope, cause: &str) -> Result<(), Error> {
        let label = self.process.label();
        if self.record.pid.is_none() {
            return Err(Error::new(
                Code::No,
                format!("{label} is {}, there is nothing to signal", self.record.state.name()),
            ));
        }
        let name = signal::name(number);
        let reached = (self.process.context.reserve.with(|| self.tree.signal_alone(number, scope)))
            .map_err(|e| Error::new(Code::Failed, format!("cannot send {name} to {label}: {e}")))?;
        let es = if reached == 1 { "" } else { "es" };
        let events =
            NewEvent { kind: EventKind::Signalled, detail: format!("{name} to {reached} process{es}") };
        let before = std::mem::replace(&mut self.record.cause, cause.to_owned());
        self.commit(&[events]);
        self.record.cause = before;
        Ok(())
    }

    fn remove(&mut self, cause: &str, answer: AnswerTo) {
        if !self.record.state.is_at_rest() {
            let error = Error::new(
                Code::Refused,
                format!("{} is {}", self.process.label(), self.record.state.name()),
            )
            .hint("stop it first, or use 'provost remove --force'");
            return answer.give(self.process.show(), Some(error));
        }
        if let Some(error) = self.record.left.then(|| self.refuse_beside_survivors().err()).flatten() {
            return answer.give(self.process.show(), Some(error));
        }
        self.close_pipes();
        cause.clone_into(&mut self.record.cause);
        self.finish_log();
        self.commit(&[NewEvent { kind: EventKind::Removed, detail: String::new() }]);
        self.removed = true;
        answer.give(self.process.show(), None);
    }
}
