//! Pipes of runs that are over, which somebody outside their trees still writes to. Where a child keeps its
//! pipe open to read (`keeper/child.rs`), such a writer would wait for ever in a full one: so it is read, and
//! dropped. One thread, there as long as there is such a pipe.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::poll::{self, PollFd, Waker};
use crate::sys::thread;

/// The most pipes; whoever writes to more than these has to wait.
const PIPES_MAX: usize = 1024;
/// What a pipe holds.
const READ_LEN: usize = 64 << 10;

/// Shared by all threads.
#[derive(Debug, Default)]
pub struct Drain(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    new: Vec<File>,
    /// How many the thread has, with the new ones.
    count: usize,
    thread: Thread,
}

#[derive(Debug, Default)]
enum Thread {
    #[default]
    None,
    Begins,
    Runs(Waker),
}

impl Drain {
    /// Reads these from now on.
    pub fn read_on(self: &Arc<Self>, pipes: impl Iterator<Item = OwnedFd>) {
        let mut inner = self.0.lock();
        let room = PIPES_MAX.saturating_sub(inner.count);
        let before = inner.new.len();
        inner.new.extend(pipes.take(room).map(File::from));
        inner.count += inner.new.len() - before;
        if inner.new.is_empty() {
            return;
        }
        match &inner.thread {
            Thread::Begins => {}
            Thread::Runs(waker) => waker.wake(),
            Thread::None => {
                let this = Arc::clone(self);
                let spawned = thread::spawn("drain", move || this.work());
                // Without a thread they are closed, and whoever writes has to wait.
                match spawned {
                    Ok(_) => inner.thread = Thread::Begins,
                    Err(_) => *inner = Inner::default(),
                }
            }
        }
    }

    fn work(&self) {
        let mut pipes: Vec<File> = Vec::new();
        let mut bytes = vec![0; READ_LEN];
        loop {
            {
                let mut inner = self.0.lock();
                pipes.append(&mut inner.new);
                inner.count = pipes.len();
                if pipes.is_empty() {
                    inner.thread = Thread::None;
                    return;
                }
                inner.thread = Thread::Runs(Waker::for_this_thread());
            }
            let mut fds: Vec<_> = pipes.iter().map(|pipe| PollFd::readable(pipe.as_fd())).collect();
            let is_failed = poll::wait(&mut fds, None).is_err();
            let ready: Vec<bool> = fds.iter().map(PollFd::is_ready).collect();
            let mut ready = ready.into_iter();
            pipes.retain_mut(|pipe| {
                let is_ready = ready.next().unwrap_or(false);
                // One read takes what is there, and so does not wait.
                !is_failed && (!is_ready || pipe.read(&mut bytes).is_ok_and(|n| n > 0))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::sys::pipe::pipe;

    #[test]
    fn who_writes_goes_on_until_they_are_done() {
        let drain = Arc::new(Drain::default());
        for _ in 0..3 {
            let [one, two] = [(); 2].map(|()| pipe().unwrap());
            drain.read_on([one.0, two.0].into_iter());
            for end in [one.1, two.1] {
                // Far more than a pipe holds.
                File::from(end).write_all(&vec![b'x'; 1 << 20]).unwrap();
            }
        }
        while !matches!(drain.0.lock().thread, Thread::None) {
            std::thread::yield_now();
        }
        assert_eq!(drain.0.lock().count, 0);
    }
}
