//! Looks at the sources of providers again: when something in the directory of plugins has changed, and by
//! the clock. One thread, which sleeps until then; it makes the looks itself, so they never overlap.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::sys::poll::{self, PollFd, Waker};
use crate::sys::watch::Watch;
use crate::sys::{clock, thread};
use crate::wire::error::Error;
use crate::wire::time::millis;

/// How long it has to be quiet in the directory before it is looked at, ms: files come one after the other.
const QUIET_MS: u64 = 300;
/// The longest that it is waited for quiet, ms.
const QUIET_MAX_MS: u64 = 5000;
/// The most folders that are watched.
const FOLDERS_MAX: usize = 1000;

/// When it is looked.
#[derive(Clone, Debug)]
pub struct When {
    /// Where folders of plugins are.
    pub plugins: Option<PathBuf>,
    pub interval: Option<Duration>,
}

/// What looks, while it does. At most one thread does so.
#[derive(Debug, Default)]
pub struct Refresh(Arc<Mutex<Turn>>);

#[derive(Debug, Default)]
struct Turn {
    /// Of the thread that looks; one with another number ends.
    number: u64,
    waker: Option<Waker>,
}

impl Refresh {
    /// Begins: looks at once, and again when it is time. What has looked before ends.
    pub fn begin(&self, when: When, look: impl Fn() + Send + 'static) -> Result<(), Error> {
        let number = self.stop();
        let turn = Arc::clone(&self.0);
        let run = move || {
            {
                let mut turn = turn.lock();
                if turn.number != number {
                    return;
                }
                turn.waker = Some(Waker::for_this_thread());
            }
            run(&when, &look, &|| turn.lock().number == number);
        };
        thread::spawn("refresh", run).map(drop).map_err(|e| Error::failed("start a thread", &e))
    }

    /// Ends it. A look that is under way comes to its end. Returns the number of the next one.
    pub fn stop(&self) -> u64 {
        let mut turn = self.0.lock();
        turn.number += 1;
        turn.waker.take().iter().for_each(Waker::wake);
        turn.number
    }
}

fn run(when: &When, look: &impl Fn(), goes_on: &impl Fn() -> bool) {
    while goes_on() {
        // Watched before it is looked, so that no change falls in between.
        let watch = when.plugins.as_deref().and_then(watch);
        look();
        let next = when.interval.map(|interval| clock::now_ms().saturating_add(millis(interval)));
        if watch.is_none() && next.is_none() {
            return;
        }
        let mut fds: Vec<_> = watch.iter().map(|watch| PollFd::readable(watch.as_fd())).collect();
        if poll::wait(&mut fds, next).is_err() || !goes_on() {
            return;
        }
        let until = clock::now_ms() + QUIET_MAX_MS;
        while watch.as_ref().is_some_and(Watch::drain) && clock::now_ms() < until {
            let mut fds: Vec<_> = watch.iter().map(|watch| PollFd::readable(watch.as_fd())).collect();
            let _ = poll::wait(&mut fds, Some(clock::now_ms() + QUIET_MS));
        }
    }
}

/// The directory and the folders in it. One that is not there is awaited where it is to be.
fn watch(directory: &Path) -> Option<Watch> {
    let watch = Watch::new().ok()?;
    directory.ancestors().find(|path| watch.add(path).is_ok())?;
    for folder in fs::read_dir(directory).into_iter().flatten().flatten().take(FOLDERS_MAX) {
        // What is no folder is refused.
        let _ = watch.add(&folder.path());
    }
    Some(watch)
}
