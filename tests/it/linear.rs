//! Whether a history is linearizable (Wing and Gong's search): all that clients did and all they were
//! answered has to fit one order of events in which every request happened between its question and its
//! answer.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// What is known between two steps.
pub trait Model: Copy + Debug + Eq + Hash {
    type Step: Copy + Debug;

    /// Whether this is what would be seen now. A look changes nothing, so it may as well happen now as later.
    fn shows(self, step: Self::Step) -> bool;
    /// What a step that was asked for may lead to.
    fn after(self, step: Self::Step) -> Vec<Self>;
    /// Whether this can never be seen any more.
    fn is_over(self, step: Self::Step) -> bool;
}

/// A step with the time between its question and its answer, and the step it comes after, if any. A request
/// is one or more of them, since others may come in between.
#[derive(Clone, Copy, Debug)]
pub struct Op<S> {
    pub step: S,
    pub asked: u64,
    pub answered: u64,
    pub after: Option<usize>,
}

/// The steps of one request, when it was asked and when it was answered.
pub type Request<S> = (Vec<S>, u64, u64);

/// The steps of requests in one history, each after the one before it in its request.
pub fn history<S: Copy>(requests: impl IntoIterator<Item = Request<S>>) -> Vec<Op<S>> {
    let mut ops: Vec<Op<S>> = Vec::new();
    for (steps, asked, answered) in requests {
        for (n, step) in steps.into_iter().enumerate() {
            let after = (n > 0).then(|| ops.len() - 1);
            ops.push(Op { step, asked, answered, after });
        }
    }
    ops
}

/// As it is read.
pub fn in_order<S: Copy + Debug>(ops: &[Op<S>]) -> String {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.answered);
    ops.iter().map(|op| format!("\n  {:>5} to {:>5}: {:?}", op.asked, op.answered, op.step)).collect()
}

/// The steps of a history that have happened, in one attempt to order it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    bits: Vec<u64>,
    count: usize,
}

impl Done {
    fn has(&self, n: usize) -> bool {
        self.bits[n / 64] >> (n % 64) & 1 == 1
    }

    fn add(&mut self, n: usize) {
        self.bits[n / 64] |= 1 << (n % 64);
        self.count += 1;
    }

    /// The steps that may come next: asked before the first answer that is still to be explained.
    fn next<S>(&self, ops: &[Op<S>]) -> Vec<usize> {
        let open = || (0..ops.len()).filter(|&n| !self.has(n));
        let horizon = open().map(|n| ops[n].answered).min().unwrap_or(0);
        open()
            .filter(|&n| ops[n].asked <= horizon && ops[n].after.is_none_or(|before| self.has(before)))
            .collect()
    }
}

/// Where the search gives up, in attempts: a history that has an order needs some ten thousands.
const ATTEMPTS_MAX: usize = 1_000_000;

/// Looks for one order that explains everything. The error says how far the best attempt came, and what it
/// could not explain.
pub fn linearize<M: Model>(ops: &[Op<M::Step>], begin: M) -> Result<(), String> {
    let mut seen = HashSet::new();
    let mut best = (0, String::new());
    let mut todo = vec![(Done { bits: vec![0; ops.len().div_ceil(64)], count: 0 }, begin)];
    while let Some((mut done, model)) = todo.pop() {
        while let Some(n) = done.next(ops).into_iter().find(|&n| model.shows(ops[n].step)) {
            done.add(n);
        }
        if done.count == ops.len() {
            println!("an order of {} steps was found in {} attempts", ops.len(), seen.len());
            return Ok(());
        }
        if done.count > best.0 {
            let open = done.next(ops).into_iter().map(|n| format!("\n  {:?}", ops[n]));
            best = (done.count, format!("{model:?}, and none of these fits:{}", open.collect::<String>()));
        }
        let is_late = |n: usize| !done.has(n) && model.is_over(ops[n].step);
        if seen.len() > ATTEMPTS_MAX || (0..ops.len()).any(is_late) || !seen.insert((done.clone(), model)) {
            continue;
        }
        // The one that was answered first is tried first: it lies on top.
        let mut steps = done.next(ops);
        steps.sort_by_key(|&n| std::cmp::Reverse(ops[n].answered));
        for n in steps {
            for next in model.after(ops[n].step) {
                let mut now_done = done.clone();
                now_done.add(n);
                todo.push((now_done, next));
            }
        }
    }
    Err(format!("after {} of {} steps in {} attempts: {}", best.0, ops.len(), seen.len(), best.1))
}
