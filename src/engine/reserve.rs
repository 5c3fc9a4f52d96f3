//! Descriptors kept for the end of things: a service that is out of them must still be able to stop what
//! holds them.

use std::io;

use parking_lot::Mutex;

use crate::sys::errno::is_want;
use crate::sys::spares::Spares;

/// How many: to look into a cgroup, and at one of its processes.
const KEPT: usize = 4;

/// Given up for a moment by the caller that finds no other descriptor.
#[derive(Debug)]
pub struct Reserve(Mutex<Spares>);

impl Reserve {
    /// Takes them; as many as there are.
    #[must_use]
    pub fn take() -> Self {
        let mut spares = Spares::new(KEPT);
        spares.fill();
        Self(Mutex::new(spares))
    }

    /// Does something that opens and closes, and once more with what is kept if there was no other
    /// descriptor. One caller at a time: more would share what is enough for one.
    pub fn with<T>(&self, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match act() {
            Err(e) if is_want(&e) => {
                let mut spares = self.0.lock();
                spares.free();
                let done = act();
                spares.fill();
                done
            }
            done => done,
        }
    }
}
