//! Descriptors kept for the end of things: a service that is out of them must still be able to stop what
//! holds them.

use std::fs::File;
use std::io;

use parking_lot::Mutex;

use crate::sys::errno::is_want;

/// How many: to look into a cgroup, and at one of its processes.
const KEPT: usize = 4;

/// Given up for a moment by the caller that finds no other descriptor.
#[derive(Debug)]
pub struct Reserve(Mutex<Vec<File>>);

impl Reserve {
    /// Takes them; as many as there are.
    #[must_use]
    pub fn take() -> Self {
        let mut kept = Vec::new();
        fill(&mut kept);
        Self(Mutex::new(kept))
    }

    /// Does something that opens and closes, and once more with what is kept if there was no other
    /// descriptor. One caller at a time: more would share what is enough for one.
    pub fn with<T>(&self, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match act() {
            Err(e) if is_want(&e) => {
                let mut kept = self.0.lock();
                kept.clear();
                let done = act();
                fill(&mut kept);
                done
            }
            done => done,
        }
    }
}

fn fill(kept: &mut Vec<File>) {
    while kept.len() < KEPT
        && let Ok(file) = File::open("/dev/null")
    {
        kept.push(file);
    }
}
