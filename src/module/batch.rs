//! A module that is executed with each of several inputs: some at once, told in their order. The thread of
//! whoever asks works, too, so a batch goes on where there are no helpers left.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::module::call::call;
use crate::module::shared::Shared;
use crate::sys::thread;
use crate::wire::error::{Code, Error};
use crate::wire::module::ModuleBatch;
use crate::wire::module::ModuleOrder;

/// The most bytes of what one batch gives: what a client takes at once.
const OUTPUTS_LEN_MAX: usize = 64 << 20;

/// What came of one input.
pub type Outcome = Result<Vec<u8>, Error>;

/// Has one input executed, in the way of every other call of the module: on whichever thread executes it.
pub type Guard = Arc<dyn Fn(&dyn Fn() -> Outcome) -> Outcome + Send + Sync>;

/// What the threads of one batch share.
struct Work {
    batch: ModuleBatch,
    guard: Guard,
    state: Mutex<State>,
    done: Condvar,
}

struct State {
    /// The first input that nobody has taken.
    next: usize,
    outcomes: Vec<Option<Outcome>>,
    /// What outputs may come to yet, in bytes.
    room: usize,
}

/// Executes all of it. `each` is given what came of each input, in their order; its error ends the batch,
/// but for what is under way.
pub fn batch<C>(
    shared: &Arc<Shared>,
    batch: ModuleBatch,
    guard: Guard,
    mut each: impl FnMut(Outcome) -> Result<(), C>,
) -> Result<(), C> {
    let len = batch.inputs.len();
    let wanted = (batch.parallel as usize).min(len).saturating_sub(1);
    let state = State { next: 0, outcomes: (0..len).map(|_| None).collect(), room: OUTPUTS_LEN_MAX };
    let work = Arc::new(Work { batch, guard, state: Mutex::new(state), done: Condvar::new() });
    for n in 0..shared.helpers.take(wanted) {
        let (work, theirs) = (Arc::clone(&work), Arc::clone(shared));
        let help = move || {
            while let Some(n) = work.take() {
                work.execute(&theirs, n);
            }
            theirs.helpers.give_back(1);
        };
        if thread::spawn(&format!("batch-{n}"), help).is_err() {
            shared.helpers.give_back(1);
        }
    }
    for n in 0..len {
        let result = each(work.outcome(shared, n));
        if result.is_err() {
            work.state.lock().next = len;
            return result;
        }
    }
    Ok(())
}

impl Work {
    /// What came of this input. Meanwhile this thread executes others.
    fn outcome(&self, shared: &Shared, n: usize) -> Outcome {
        loop {
            if let Some(outcome) = self.state.lock().outcomes[n].take() {
                return outcome;
            }
            if let Some(n) = self.take() {
                self.execute(shared, n);
                continue;
            }
            let mut state = self.state.lock();
            if state.outcomes[n].is_none() {
                self.done.wait(&mut state);
            }
        }
    }

    fn take(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let n = state.next;
        state.next += 1;
        (n < state.outcomes.len()).then_some(n)
    }

    fn execute(&self, shared: &Shared, n: usize) {
        let order = ModuleOrder { input: self.batch.inputs[n].clone(), ..self.batch.order.clone() };
        let outcome = (self.guard)(&|| call(shared, &order));
        let mut state = self.state.lock();
        state.outcomes[n] = Some(state.fit(outcome));
        self.done.notify_one();
    }
}

impl State {
    /// The outcome, if there is room for it.
    fn fit(&mut self, outcome: Outcome) -> Outcome {
        let output = outcome?;
        self.room = self.room.checked_sub(output.len()).ok_or_else(|| {
            let e = format!("the module was executed, but the batch gives more than {OUTPUTS_LEN_MAX} bytes");
            Error::new(Code::Refused, e).reason("too_large").hint("ask with fewer inputs at once")
        })?;
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_a_limit_together() {
        let mut state = State { next: 0, outcomes: Vec::new(), room: 3 };
        assert_eq!(state.fit(Ok(vec![1, 2])), Ok(vec![1, 2]));
        assert!(state.fit(Ok(vec![1, 2])).is_err_and(|e| e.reason == "too_large"));
        assert_eq!(state.fit(Ok(vec![1])), Ok(vec![1]));
    }
}
