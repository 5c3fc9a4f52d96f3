//! timerfd(2) of the wall clock: waits for a time of day, over sleep of the machine, and learns when the
//! clock was set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::sys::cerr;

/// Farther ahead than this the kernel's clock does not reach, in seconds.
const SECONDS_MAX: u64 = 9_000_000_000;

/// A timer of the wall clock. Readable when its time has come, or when the clock was set.
#[derive(Debug)]
pub struct WallTimer(OwnedFd);

impl WallTimer {
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: a new descriptor, which nobody else owns.
        unsafe { Ok(Self(OwnedFd::from_raw_fd(cerr(libc::timerfd_create(libc::CLOCK_REALTIME, flags))?))) }
    }

    /// Waits for this moment, in ms since the Unix epoch. Without one it waits for nothing.
    pub fn set(&self, at: Option<u64>) -> io::Result<()> {
        let time = |ms: u64| libc::timespec {
            tv_sec: (ms / 1000).min(SECONDS_MAX).cast_signed(),
            tv_nsec: (ms % 1000 * 1_000_000).cast_signed(),
        };
        let spec = libc::itimerspec { it_interval: time(0), it_value: time(at.map_or(0, |at| at.max(1))) };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: the new value lives through the call, the old one is not asked for.
        cerr(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const spec, ptr::null_mut()) })
            .map(drop)
    }

    /// Whether the clock was set since the last time that this was asked. Its time having come is forgotten.
    #[must_use]
    pub fn was_clock_set(&self) -> bool {
        let mut times = [0u8; 8];
        // SAFETY: the buffer and its length belong together.
        let n = unsafe { libc::read(self.0.as_raw_fd(), times.as_mut_ptr().cast(), times.len()) };
        n == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ECANCELED)
    }
}

impl AsFd for WallTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use crate::sys::poll::{self, PollFd, Wait};
    use std::time::{SystemTime, UNIX_EPOCH};

    fn wait(timer: &WallTimer, ms: u64) -> Wait {
        poll::wait(&mut [PollFd::readable(timer.as_fd())], Some(clock::now_ms() + ms)).unwrap()
    }

    #[test]
    fn it_wakes_at_its_time_and_not_before() {
        let timer = WallTimer::new().unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let at = now() + 30;
        timer.set(Some(at)).unwrap();
        assert_eq!(wait(&timer, 60_000), Wait::Ready);
        assert!(now() >= at && !timer.was_clock_set());
        timer.set(Some(1)).unwrap();
        assert_eq!(wait(&timer, 60_000), Wait::Ready, "it has passed");
        timer.set(None).unwrap();
        assert_eq!(wait(&timer, 1), Wait::Deadline);
        timer.set(Some(u64::MAX)).unwrap();
        assert_eq!(wait(&timer, 1), Wait::Deadline);
    }
}
