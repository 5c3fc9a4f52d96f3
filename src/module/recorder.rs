//! What is done in its order on one thread: registrations, and the notes about them. The threads of the C
//! core do not wait for a disk.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::{Condvar, Mutex};

/// The most registrations and deregistrations that wait.
const JOBS_MAX: usize = 1000;
/// What they may come to, in bytes of their messages: in memory they are some times as large.
const JOBS_LEN_MAX: usize = 8 << 20;

pub type Job = Box<dyn FnOnce() + Send>;

/// What is to be done next.
pub enum Work {
    Job(Job),
    /// The note of this connection is to be as the plane is.
    Note(String),
    /// The same of canaries.
    Canaries,
}

#[derive(Default)]
pub struct Recorder {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<(usize, Job)>,
    jobs_len: usize,
    /// Connections that have changed.
    notes: BTreeSet<String>,
    canaries_changed: bool,
}

impl Recorder {
    /// `len`: of its message. False: too much waits already, and this was not taken in.
    pub fn submit(&self, len: usize, job: Job) -> bool {
        let mut inner = self.inner.lock();
        let has_room = inner.jobs.len() < JOBS_MAX && inner.jobs_len + len <= JOBS_LEN_MAX;
        if has_room {
            inner.jobs_len += len;
            inner.jobs.push_back((len, job));
            self.changed.notify_one();
        }
        has_room
    }

    /// A connection has changed.
    pub fn note(&self, id: &str) {
        self.inner.lock().notes.insert(id.to_owned());
        self.changed.notify_one();
    }

    /// A canary has changed.
    pub fn note_canaries(&self) {
        self.inner.lock().canaries_changed = true;
        self.changed.notify_one();
    }

    /// Waits for something to do: jobs come last, so that what changed before one is noted before it.
    pub fn next(&self) -> Work {
        let mut inner = self.inner.lock();
        loop {
            if let Some(id) = inner.notes.pop_first() {
                return Work::Note(id);
            }
            if std::mem::take(&mut inner.canaries_changed) {
                return Work::Canaries;
            }
            if let Some((len, job)) = inner.jobs.pop_front() {
                inner.jobs_len -= len;
                return Work::Job(job);
            }
            self.changed.wait(&mut inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_a_limit_in_number_and_in_bytes() {
        let recorder = Recorder::default();
        let nothing = || -> Job { Box::new(|| ()) };
        assert!(recorder.submit(JOBS_LEN_MAX, nothing()) && !recorder.submit(1, nothing()));
        assert!(matches!(recorder.next(), Work::Job(_)));
        assert!((0..JOBS_MAX).all(|_| recorder.submit(1, nothing())));
        assert!(!recorder.submit(0, nothing()));
    }
}
