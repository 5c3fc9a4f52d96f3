//! As much of parking_lot as `src/provider/current.rs` uses, made of loom's locks.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use loom::sync as model;

#[derive(Debug, Default)]
pub struct Mutex<T>(model::Mutex<T>);

pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// None while it is given up for a moment.
    held: Option<model::MutexGuard<'a, T>>,
}

#[derive(Debug, Default)]
pub struct Condvar(model::Condvar);

/// How a wait with a deadline ended.
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl<T> Mutex<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.take()) }
    }

    fn take(&self) -> model::MutexGuard<'_, T> {
        self.0.lock().expect("no thread panics with it")
    }
}

impl<T> MutexGuard<'_, T> {
    pub fn unlocked<U>(this: &mut Self, work: impl FnOnce() -> U) -> U {
        drop(this.held.take());
        let result = work();
        this.held = Some(this.mutex.take());
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("it is held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("it is held")
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("it is held");
        guard.held = Some(self.0.wait(held).expect("no thread panics with it"));
    }

    /// Time has no place in a model: others may do something, and then the deadline has passed.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
        MutexGuard::unlocked(guard, loom::thread::yield_now);
        WaitTimeoutResult(true)
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
