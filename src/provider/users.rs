//! The calls over one run, which are waited for when another run has taken its place.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The calls over one run: they are waited for when another one has taken its place.
#[derive(Debug, Default)]
pub struct Users {
    state: Mutex<UsersState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct UsersState {
    count: usize,
    /// Nobody begins any more.
    is_over: bool,
}

/// One of them, for as long as it lasts.
pub struct User<'a>(&'a Users);

impl Users {
    /// None: there is another run to be used.
    pub fn enter(&self) -> Option<User<'_>> {
        let mut state = self.state.lock();
        if state.is_over {
            return None;
        }
        state.count += 1;
        Some(User(self))
    }

    /// Lets nobody begin, and waits for those that are under way, so long at most.
    pub fn leave(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        state.is_over = true;
        while state.count > 0 && !self.changed.wait_until(&mut state, deadline).timed_out() {}
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.state.lock().count -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_begun_is_waited_for_and_nobody_else_begins() {
        let users = Users::default();
        let user = users.enter().unwrap();
        std::thread::scope(|scope| {
            let leaving = scope.spawn(|| users.leave(Duration::from_secs(3600)));
            while users.enter().is_some() {
                std::thread::yield_now();
            }
            assert!(!leaving.is_finished());
            drop(user);
        });
        // Who does not leave is not waited for without end.
        let users = Users::default();
        let _user = users.enter();
        users.leave(Duration::ZERO);
    }
}
