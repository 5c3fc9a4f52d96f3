//! Whose call is next. Each caller has a queue of its own, and they take turns: who asks a thousand times at
//! once makes a thousand wait for each other, and nobody else. Pure: whoever has a thread asks here.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Callers whose queues are kept when they are empty: who asks again needs no new memory.
const KEPT_MAX: usize = 16;

/// Calls that wait for a thread, by their callers.
pub(super) struct Turns<K, J> {
    callers: HashMap<K, Caller<J>>,
    /// Those of whom calls wait, each once, as they came or had their last turn.
    order: VecDeque<K>,
    /// Threads that work for nobody.
    free: usize,
    /// The last ones are for callers of whom no call is at work: nobody has all threads.
    kept_free: usize,
}

struct Caller<J> {
    waiting: VecDeque<J>,
    /// Calls that have a thread.
    at_work: usize,
}

impl<K: Hash + Eq + Clone, J> Turns<K, J> {
    /// For so many threads, all of them without work.
    pub fn new(threads: usize, kept_free: usize) -> Self {
        Self { callers: HashMap::new(), order: VecDeque::new(), free: threads, kept_free }
    }

    /// One more call. Of how many there can be, others take care.
    pub fn add(&mut self, caller: K, call: J) {
        let its = self.callers.entry(caller.clone()).or_insert_with(Caller::none);
        if its.waiting.is_empty() {
            self.order.push_back(caller);
        }
        its.waiting.push_back(call);
    }

    /// The place in the order of who is next. Before one without a call at work is found, at most as many
    /// are passed over as there are threads.
    fn next(&self) -> Option<usize> {
        let is_idle = |caller: &K| self.callers.get(caller).is_some_and(|its| its.at_work == 0);
        let idle = self.order.iter().position(is_idle);
        idle.or((self.free > self.kept_free && !self.order.is_empty()).then_some(0))
    }

    /// The next call, for a thread without work; to be given back by [`Self::done`].
    pub fn take(&mut self) -> Option<(K, J)> {
        let caller = self.order.remove(self.next()?)?;
        let its = self.callers.get_mut(&caller)?;
        let call = its.waiting.pop_front()?;
        its.at_work += 1;
        self.free -= 1;
        if !its.waiting.is_empty() {
            self.order.push_back(caller.clone());
        }
        Some((caller, call))
    }

    /// A call of this caller has ended, and its thread has no work.
    pub fn done(&mut self, caller: &K) {
        self.free += 1;
        let Some(its) = self.callers.get_mut(caller) else { return };
        its.at_work -= 1;
        if its.at_work == 0 && its.waiting.is_empty() && self.callers.len() > KEPT_MAX {
            self.callers.remove(caller);
        }
    }
}

impl<J> Caller<J> {
    fn none() -> Self {
        Self { waiting: VecDeque::new(), at_work: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens one after the other: `+a` is a call of a, `.` a thread takes the next one, `-a` one of
    /// a's has ended. What was taken, `_` for nothing.
    fn taken(threads: usize, kept_free: usize, steps: &str) -> String {
        let mut turns = Turns::new(threads, kept_free);
        let steps = steps.split(' ').filter_map(|step| match step.as_bytes() {
            b"." => Some(turns.take().map_or('_', |(caller, ())| caller)),
            [b'+', caller] => {
                turns.add(char::from(*caller), ());
                None
            }
            [b'-', caller] => {
                turns.done(&char::from(*caller));
                None
            }
            _ => panic!("{step}"),
        });
        steps.collect()
    }

    #[test]
    fn callers_take_turns_and_nobody_has_all_threads() {
        for (what, steps, expected) in [
            ("one has all but the last", "+a +a +a +a . . . .", "aaa_"),
            ("which is another's", "+a +a +a +a . . . +b . .", "aaab_"),
            ("also of two", "+a +a +a +b +b +b . . . . +c .", "aba_c"),
            ("who has none at work is first", "+a +a +a +a . . +b .", "aab"),
            ("as they came", "+a +b +c . . .", "abc"),
            ("and then in turn", "+a +a +a +b +b . . . -a . -b .", "ababa"),
            ("what has ended leaves its thread", "+a +a +a +a +a . . . -a . . -a .", "aaaa_a"),
            ("an only call at work is no hindrance", "+a . +a . +a . -a -a -a +b .", "aaab"),
            ("nothing to do", ". +a . . -a .", "_a__"),
        ] {
            assert_eq!(taken(4, 1, steps), expected, "{what}");
        }
    }

    #[test]
    fn a_thousand_calls_of_one_stand_behind_one_of_another() {
        let mut turns = Turns::new(8, 2);
        (0..1000).for_each(|n| turns.add("heavy", n));
        let mut at_work = 0;
        while turns.take().is_some() {
            at_work += 1;
        }
        assert_eq!(at_work, 6, "two threads are for others");
        for n in 0..100 {
            turns.add("good", n);
            assert_eq!(turns.take(), Some(("good", n)));
            turns.done(&"good");
            turns.done(&"heavy");
            assert_eq!(turns.take(), Some(("heavy", 6 + n)));
        }
    }

    #[test]
    fn callers_who_are_gone_are_forgotten() {
        let mut turns = Turns::new(1, 0);
        for caller in 0..1000 {
            turns.add(caller, ());
            assert!(turns.take().is_some());
            turns.done(&caller);
        }
        assert_eq!(turns.callers.len(), KEPT_MAX);
        assert!(turns.order.is_empty() && turns.free == 1);
    }
}
