//! A process among those that it needs, and that need it: it is not started before what it needs is ready,
//! it follows when that ends, and it does not go before those that need it have gone. The board tells the
//! thread when one of them has changed.

use crate::engine::board::{Standing, Watch};
use crate::engine::process::bonds::{DEFERRED_MAX, Deferred, seen_since};
use crate::engine::process::handle::{AnswerTo, Ask};
use crate::engine::process::input::{Input, StopOrder};
use crate::engine::process::restart;
use crate::engine::process::standing::{Going, standing};
use crate::engine::process::state::Action;
use crate::engine::process::worker::Worker;
use crate::sys::clock;
use crate::sys::poll::Waker;
use crate::wire::error::{Code, Error};
use crate::wire::event::CAUSE_DEPENDENCY;
use crate::wire::hooks::When;
use crate::wire::needs::OnDependency;
use crate::wire::process::State;
use crate::wire::record::cut;

/// For whom a run waits behind one whose output is held.
const READER: &str = "the reader of its last run (--hold)";

impl Worker {
    /// Puts on the board how it stands.
    pub(super) fn put_standing(&self) {
        if self.process.is_internal {
            return;
        }
        let going = if self.bonds.deferred.is_empty() { Going::Stays } else { Going::Leaves };
        let standing = standing(&self.record, &self.process.spec(), going);
        self.process.context.board.put(self.process.id, standing);
    }

    /// Whether its start has to wait: it is on record then for whom.
    pub(super) fn waits_for_others(&mut self) -> bool {
        let (waits_for, is_blocked) = self.unmet();
        let is_held = !waits_for.is_empty();
        let is_new = waits_for != self.record.waits_for || is_blocked != self.record.is_blocked;
        if is_held != self.bonds.is_held || is_new {
            self.bonds.is_held = is_held;
            (self.record.waits_for, self.record.is_blocked) = (waits_for, is_blocked);
            self.commit(&[]);
            self.answer();
        }
        is_held
    }

    /// Is told of the others from now on, for as long as it has something to do with them.
    pub(super) fn watch_others(&mut self) {
        let needs = &self.process.spec().needs;
        // Held still, though it needs nobody any more: it is let go.
        let is_bound = !needs.is_none() || self.bonds.is_held || !self.bonds.deferred.is_empty();
        if self.record.state.is_at_rest() || !is_bound {
            self.bonds.watch = None;
        } else if self.bonds.watch.is_none() {
            let board = &self.process.context.board;
            self.bonds.watch = Some(board.watch(self.process.id, Waker::for_this_thread()));
        }
    }

    /// For whom it waits, and whether those do not come by themselves.
    fn unmet(&self) -> (String, bool) {
        let spec = self.process.spec();
        let (mut all, mut is_blocked) = (Vec::new(), false);
        if self.is_read_still() {
            all.push(READER.to_owned());
        }
        let board = &self.process.context.board;
        for name in &spec.needs.requires {
            let meant = board.meant_by(name, self.process.id);
            if meant.is_empty() {
                all.push(format!("{name} (there is none)"));
                is_blocked = true;
            }
            for other in meant.iter().filter(|other| !other.is_ready || other.is_leaving) {
                is_blocked |= other.state.is_at_rest() || other.is_blocked;
                all.push(said(other));
            }
        }
        for name in spec.needs.wants.iter().chain(&spec.needs.after) {
            let meant = board.meant_by(name, self.process.id);
            let is_to_come = |other: &&Standing| !other.is_ready && !other.state.is_at_rest();
            all.extend(meant.iter().filter(is_to_come).map(said));
        }
        all.dedup();
        (cut(&all.join(", ")), is_blocked)
    }

    /// From here on it follows those that it requires.
    pub(super) fn note_others(&mut self) {
        self.bonds.seen = self.required().map(|other| (other.name, other.run)).collect();
    }

    /// The same under another engine.
    pub(super) fn note_others_again(&mut self) {
        let since = self.record.bound_mono.max(self.record.started_mono);
        let spec = self.process.spec();
        let seen = self.required().filter_map(|other| seen_since(since, &spec.needs, other));
        self.bonds.seen = seen.collect();
    }

    /// Those that it requires and that stay: not jobs.
    fn required(&self) -> impl Iterator<Item = Standing> + use<> {
        let spec = self.process.spec();
        let board = &self.process.context.board;
        let requires = spec.needs.requires.iter();
        let all: Vec<_> = requires.flat_map(|name| board.meant_by(name, self.process.id)).collect();
        all.into_iter().filter(|other| !other.is_job)
    }

    /// Does what follows from a change of the others, if there was one.
    pub(super) fn look_at_others(&mut self) {
        // It may have ended by itself: nobody tells it that.
        self.go_if_alone();
        self.watch_others();
        let has_changed = self.bonds.watch.as_ref().is_some_and(Watch::has_changed);
        let is_read = self.record.waits_for.starts_with(READER) && !self.is_read_still();
        if !has_changed && !is_read {
            return;
        }
        if is_read {
            // Of a reader who has gone something may be left.
            self.drain();
        }
        if self.bonds.is_held && self.record.state == State::Starting {
            if !self.waits_for_others() {
                let failed = self.act(Action::Spawn);
                self.follow(failed);
            }
        } else if matches!(self.record.state, State::Starting | State::Running)
            && self.bonds.deferred.is_empty()
        {
            self.follow_others();
        }
        self.go_if_alone();
    }

    /// One that it requires has ended, or is about to, or is ready no more.
    fn follow_others(&mut self) {
        let spec = self.process.spec();
        let board = &self.process.context.board;
        let is_there = |(name, run): &(String, u64)| {
            let standing = board.meant_by(name, self.process.id).into_iter().next();
            standing.is_some_and(|s| s.run == *run && s.is_ready && !s.is_leaving)
        };
        let Some((name, _)) = self.bonds.seen.iter().find(|seen| !is_there(seen)).cloned() else { return };
        let cause = cut(&format!("{CAUSE_DEPENDENCY}{name}"));
        match spec.needs.on_dependency {
            OnDependency::Restart => self.go(Ask::Restart { key: None }, &cause, None),
            OnDependency::Stop => self.go(Ask::Stop(StopOrder::default()), &cause, None),
            OnDependency::Ignore => {}
        }
    }

    /// Stops or restarts, when those have gone that need it. What is ordered meanwhile waits behind it, a
    /// start too. `answer` is given when that is done.
    pub(super) fn go(&mut self, what: Ask, cause: &str, answer: Option<AnswerTo>) {
        let is_wanted_again = match what {
            Ask::Restart { .. } => true,
            Ask::Start => self.record.state == State::Stopping,
            _ => false,
        };
        if is_wanted_again && answer.is_some() {
            // A client asks. What the service restarts by itself counts on.
            restart::forget_attempts(&mut self.record);
        }
        let order = if let Ask::Stop(order) = &what { *order } else { StopOrder::default() };
        if order.timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.go_now();
            self.do_now(what, cause, answer);
            return self.end_hook_now();
        }
        let is_first = self.bonds.deferred.is_empty();
        if is_first && (what == Ask::Start || !(self.has_to_wait() || self.has_pre_stop())) {
            return self.do_now(what, cause, answer);
        }
        if self.bonds.deferred.len() >= DEFERRED_MAX && !order.for_now {
            if let Some(answer) = answer {
                let e = format!("{} orders wait for those that need {}", DEFERRED_MAX, self.process.label());
                let error = Error::new(Code::Refused, e).hint("'provost stop --timeout 0' does not wait");
                answer.give(self.process.show(), Some(error));
            }
            return;
        }
        // Others that come behind the first one do not prolong the waiting; the end of the service does, for
        // which more have to go.
        let until = match self.bonds.deferred.last() {
            Some(last) if !order.for_now => last.until,
            _ => clock::now_ms().saturating_add(self.process.context.board.waits_ms(self.process.id)),
        };
        self.bonds.deferred.push(Deferred { what, cause: cause.to_owned(), answer, until });
        self.watch_others();
        self.put_standing();
    }

    /// Whether others have to go before it does.
    fn has_to_wait(&self) -> bool {
        let is_active = matches!(self.record.state, State::Starting | State::Running) && !self.bonds.is_held;
        let context = &self.process.context;
        is_active && context.board.has_to_wait(self.process.id, context.is_stopping())
    }

    /// Does what was deferred, if those have gone, or it itself has, or it has taken too long.
    pub(super) fn go_if_alone(&mut self) {
        let is_free = |due| due <= clock::now_ms() || !self.has_to_wait();
        if self.bonds.due().is_some_and(is_free) && !self.is_before_stop() {
            self.go_now();
        }
    }

    /// When it goes whoever is left, but for the hook that runs before.
    pub(super) fn goes_at(&self) -> Option<u64> {
        self.bonds.due().filter(|_| !self.runs_hook(When::PreStop))
    }

    /// Does what was deferred, in the order in which it was ordered.
    fn go_now(&mut self) {
        let deferred = std::mem::take(&mut self.bonds.deferred);
        if deferred.is_empty() {
            return;
        }
        for Deferred { what, cause, answer, .. } in deferred {
            self.do_now(what, &cause, answer);
        }
        self.put_standing();
    }

    /// A stop of what waits for others has nothing to wait for itself.
    pub(super) fn end_of_waiting(&mut self) -> Option<Input> {
        let was_held = self.bonds.is_held && self.record.state != State::Starting;
        if was_held {
            self.bonds.is_held = false;
            self.record.waits_for.clear();
            self.record.is_blocked = false;
        }
        (was_held && self.record.state == State::Stopping).then_some(Input::TreeEmpty)
    }
}

fn said(other: &Standing) -> String {
    let state = match other.state {
        State::Running if other.is_leaving => "about to stop",
        State::Running => "not ready",
        state => state.name(),
    };
    format!("{} ({state})", other.name)
}
