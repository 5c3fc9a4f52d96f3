//! Those that stand in for each other: the last one of a group that takes calls is not taken out for its
//! failures, since calls that may fail are better than none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of a group take calls.
#[derive(Debug, Default)]
pub struct Group(AtomicUsize);

/// One of a group, until it is dropped.
#[derive(Debug)]
pub struct Member {
    group: Arc<Group>,
    takes_calls: bool,
}

impl Member {
    /// One that takes no calls yet.
    #[must_use]
    pub fn of(group: Arc<Group>) -> Self {
        Self { group, takes_calls: false }
    }

    /// Takes calls from now on.
    pub fn enter(&mut self) {
        if !std::mem::replace(&mut self.takes_calls, true) {
            self.group.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes none any more, whoever else does.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.takes_calls) {
            self.group.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The same, unless nobody else does. Of two that leave at once one stays.
    pub fn leave_to_others(&mut self) -> bool {
        let is_last = |count: usize| (count > 1).then(|| count - 1);
        if self.takes_calls && self.group.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_last).is_err()
        {
            return false;
        }
        self.takes_calls = false;
        true
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_stays_unless_somebody_takes_it_out() {
        let group = Arc::new(Group::default());
        let mut all: Vec<_> = (0..3).map(|_| Member::of(Arc::clone(&group))).collect();
        assert!(all[0].leave_to_others(), "it takes no calls as it is");
        all.iter_mut().for_each(Member::enter);
        assert!(all[0].leave_to_others() && all[1].leave_to_others() && !all[2].leave_to_others());
        all[0].enter();
        assert!(all[2].leave_to_others() && !all[0].leave_to_others());
        all[0].leave();
        all[0].leave();
        assert_eq!(group.0.load(Ordering::SeqCst), 0);
        all[1].enter();
        drop(all);
        assert_eq!(group.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn of_all_that_leave_at_once_one_stays() {
        let group = Arc::new(Group::default());
        for _ in 0..200 {
            let mut all: Vec<_> = (0..4).map(|_| Member::of(Arc::clone(&group))).collect();
            all.iter_mut().for_each(Member::enter);
            let left = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for member in &mut all {
                    scope.spawn(|| left.fetch_add(member.leave_to_others().into(), Ordering::SeqCst));
                }
            });
            assert_eq!(left.into_inner(), 3);
        }
    }
}
