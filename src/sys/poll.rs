//! Waiting: for descriptors, for another thread, for a deadline, all in one place.
//!
//! Another thread wakes a waiting one with a signal that only the wait itself lets through (`ppoll` swaps the
//! mask atomically), so no thread needs a descriptor of its own: with thousands of children, descriptors are
//! what runs out.

use std::cell::OnceCell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Once};

use crate::sys::{cerr, cerr_long, clock};

/// The signal. A standard one, since a real-time one is refused where the user's share of pending signals
/// (`ulimit -i`) is used up; and one that by default is ignored. Its handler does nothing; that it interrupts
/// `ppoll` is all it is for.
const WAKE: libc::c_int = libc::SIGURG;

const AWAKE: u8 = 0;
const WAITING: u8 = 1;
const WOKEN: u8 = 2;

thread_local! {
    static OURS: OnceCell<Waker> = const { OnceCell::new() };
}

/// Wakes one thread out of [`wait`], or out of the next one if it is not in one. Cheap to clone; outliving
/// its thread does no harm.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tid: libc::pid_t,
    state: AtomicU8,
}

impl Waker {
    /// The one of the calling thread, which from now on can be woken.
    #[must_use]
    pub fn for_this_thread() -> Self {
        OURS.with(|ours| ours.get_or_init(Self::make).clone())
    }

    fn make() -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(install_handler);
        // SAFETY: the set is initialised before use, and blocking a signal in our own thread touches no
        // memory.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, WAKE);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        }
        // SAFETY: gettid takes nothing and cannot fail.
        let tid = unsafe { libc::gettid() };
        Self(Arc::new(Inner { tid, state: AtomicU8::new(AWAKE) }))
    }

    /// Whether both wake the same thread.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Wakes the thread. A system call is made only if it waits and was not woken yet.
    pub fn wake(&self) {
        if self.0.state.swap(WOKEN, Ordering::SeqCst) == WAITING {
            // SAFETY: tgkill touches no memory. If the thread has ended, it fails; if another of our threads
            // has its number by now, that one sees a signal that is blocked or whose handler does nothing.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0.tid, WAKE) };
            if let Err(e) = cerr_long(sent) {
                // A thread that is not woken waits for ever, and so does whoever waits for it.
                assert_eq!(e.raw_os_error(), Some(libc::ESRCH), "cannot wake a thread: {e}");
            }
        }
    }
}

extern "C" fn on_wake(_: libc::c_int) {}

fn install_handler() {
    // SAFETY: the action is zeroed, then given a handler that is async-signal-safe for doing nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_wake as extern "C" fn(libc::c_int) as usize;
        // Others may send it to us, too; `ppoll` is interrupted all the same.
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(WAKE, &raw const action, ptr::null_mut());
    }
}

/// One descriptor to wait for, and what for.
#[derive(Debug)]
#[repr(transparent)]
pub struct PollFd<'a>(libc::pollfd, PhantomData<BorrowedFd<'a>>);

impl<'a> PollFd<'a> {
    fn new(fd: libc::c_int, events: libc::c_short) -> Self {
        Self(libc::pollfd { fd, events, revents: 0 }, PhantomData)
    }

    /// Bytes to read, or the end of them.
    #[must_use]
    pub fn readable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLIN)
    }

    #[must_use]
    pub fn writable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLOUT)
    }

    /// Either of the two, or both; with neither, only that the other end is gone.
    #[must_use]
    pub fn traffic(fd: BorrowedFd<'a>, reading: bool, writing: bool) -> Self {
        let events = if reading { libc::POLLIN } else { 0 } | if writing { libc::POLLOUT } else { 0 };
        Self::new(fd.as_raw_fd(), events)
    }

    /// The peer of a socket has closed its writing side, or is gone.
    #[must_use]
    pub fn hangup(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLRDHUP)
    }

    /// Nobody can read any more what is written: a pipe without readers, a socket whose peer is gone. Not one
    /// whose peer has only said its last word, as sshd does when its client has no input.
    #[must_use]
    pub fn unread(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), 0)
    }

    /// A file of the kernel's (`cgroup.events`) has changed.
    #[must_use]
    pub fn changed(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLPRI)
    }

    /// A place in the list that waits for nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(-1, 0)
    }

    /// Waits for `Some` of it, or for nothing.
    #[must_use]
    pub fn maybe(fd: Option<BorrowedFd<'a>>, kind: fn(BorrowedFd<'a>) -> Self) -> Self {
        fd.map_or_else(Self::nothing, kind)
    }

    /// Whether what was waited for happened, an error and a hang-up included.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.revents != 0
    }

    /// Whether reading gets somewhere, to an error or the end included.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.0.revents & libc::POLLIN != 0 || self.is_hung_up()
    }

    /// Whether writing gets somewhere, to an error included.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.0.revents & libc::POLLOUT != 0 || self.is_hung_up()
    }

    /// Whether the other end is gone or broken.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.0.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLRDHUP | libc::POLLNVAL) != 0
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// At least one descriptor is ready.
    Ready,
    /// Another thread called [`Waker::wake`]; descriptors may be ready too.
    Woken,
    /// The deadline has come.
    Deadline,
}

/// Waits until a descriptor is ready, this thread is woken, or `deadline` (monotonic ms) has come.
pub fn wait(fds: &mut [PollFd<'_>], deadline: Option<u64>) -> io::Result<Wait> {
    let waker = Waker::for_this_thread();
    let state = &waker.0.state;
    loop {
        let woken = state.compare_exchange(AWAKE, WAITING, Ordering::SeqCst, Ordering::SeqCst).is_err();
        // Woken already: look at the descriptors, but do not sleep.
        let result = ppoll(fds, if woken { Some(0) } else { deadline });
        let woken = state.swap(AWAKE, Ordering::SeqCst) == WOKEN;
        match result {
            Ok(_) if woken => return Ok(Wait::Woken),
            Ok(0) => return Ok(Wait::Deadline),
            Ok(_) => return Ok(Wait::Ready),
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {
                for fd in fds.iter_mut() {
                    fd.0.revents = 0;
                }
                if woken {
                    return Ok(Wait::Woken);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// Waits until a descriptor is ready or `deadline` (monotonic ms) has come. A wake that comes meanwhile is
/// for the next [`wait`].
pub fn wait_unwoken(fds: &mut [PollFd<'_>], deadline: u64) -> io::Result<()> {
    loop {
        // Nobody sends the signal to a thread that is not in a wait; what interrupts is for others.
        match ppoll(fds, Some(deadline)) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            done => return done.map(drop),
        }
    }
}

fn ppoll(fds: &mut [PollFd<'_>], deadline: Option<u64>) -> io::Result<libc::c_int> {
    let timeout = deadline.map(|ms| {
        let left = ms.saturating_mul(1_000_000).saturating_sub(if ms == 0 { 0 } else { clock::now_ns() });
        libc::timespec {
            tv_sec: (left / 1_000_000_000).cast_signed(),
            tv_nsec: (left % 1_000_000_000).cast_signed(),
        }
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `PollFd` is a transparent pollfd, so the pointer and length describe valid memory; the timeout
    // is null or points to a timespec that lives through the call; the mask is the thread's own without the
    // wake signal.
    unsafe {
        let mut mask = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &raw mut mask);
        libc::sigdelset(&raw mut mask, WAKE);
        cerr(libc::ppoll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, timeout, &raw const mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_wake_before_the_wait_is_not_lost() {
        Waker::for_this_thread().wake();
        assert_eq!(wait(&mut [], Some(clock::now_ms() + 60_000)).unwrap(), Wait::Woken);
        assert_eq!(wait(&mut [], Some(clock::now_ms() + 1)).unwrap(), Wait::Deadline);
    }

    #[test]
    fn every_wake_of_many_arrives() {
        let (ours, theirs) = (mpsc::channel(), mpsc::channel());
        let thread = std::thread::spawn(move || {
            ours.0.send(Waker::for_this_thread()).unwrap();
            for _ in 0..2000 {
                assert_eq!(wait(&mut [], Some(clock::now_ms() + 60_000)).unwrap(), Wait::Woken);
                theirs.0.send(()).unwrap();
            }
        });
        let waker = ours.1.recv().unwrap();
        for _ in 0..2000 {
            waker.wake();
            theirs.1.recv().unwrap();
        }
        thread.join().unwrap();
    }
}
