//! Signals: their names, and receiving them through a descriptor instead of a handler.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::sys::cerr;

/// Names and numbers; the one list of them.
const NAMES: [(&str, libc::c_int); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The first and last real-time signal as the kernel counts them: glibc's own numbering is shifted by two.
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

pub const KILL: u32 = libc::SIGKILL as u32;
pub const TERM: u32 = libc::SIGTERM as u32;
pub const INT: u32 = libc::SIGINT as u32;
pub const QUIT: u32 = libc::SIGQUIT as u32;
pub const HUP: u32 = libc::SIGHUP as u32;
pub const CONT: u32 = libc::SIGCONT as u32;
pub const SEGV: u32 = libc::SIGSEGV as u32;
pub const BUS: u32 = libc::SIGBUS as u32;
pub const STOP: u32 = libc::SIGSTOP as u32;
pub const TSTP: u32 = libc::SIGTSTP as u32;
pub const CHLD: u32 = libc::SIGCHLD as u32;
/// SIGUSR1's number.
pub const USR1: u32 = libc::SIGUSR1 as u32;
/// SIGUSR2's number.
pub const USR2: u32 = libc::SIGUSR2 as u32;
pub const WINCH: u32 = libc::SIGWINCH as u32;
pub const PIPE: u32 = libc::SIGPIPE as u32;

/// The number of "TERM", "SIGTERM", "sigterm", "15" or "RTMIN+3"; `None` for what is no signal.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    if let Ok(n) = name.parse::<u32>() {
        return (1..=RTMAX).contains(&n).then_some(n);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        let n = if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse::<u32>().ok()? };
        return RTMAX.checked_sub(n).filter(|&n| n >= RTMIN);
    }
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        let n = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<u32>().ok()? };
        return Some(RTMIN.checked_add(n)?).filter(|&n| n <= RTMAX);
    }
    NAMES.iter().find(|(n, _)| *n == bare).map(|&(_, n)| n.cast_unsigned())
}

/// "SIGTERM" for 15, "SIGRTMIN" for 34, "SIGRTMIN+3" for 37, "SIGRTMAX" for 64.
#[must_use]
pub fn name(number: u32) -> String {
    match NAMES.iter().find(|(_, n)| n.cast_unsigned() == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == RTMIN => "SIGRTMIN".to_owned(),
        None if number == RTMAX => "SIGRTMAX".to_owned(),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => format!("signal {number}"),
    }
}

/// Signals of the whole process, read instead of handled.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks these signals in this thread, and in those it makes from now on, and receives them here.
    pub fn new(signals: &[u32]) -> io::Result<Self> {
        // SAFETY: the set is initialised before use; signalfd copies it and returns a descriptor that nobody
        // else owns. No handler of ours stands behind these signals.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, signal.cast_signed());
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
            // An ignored SIGCHLD, inherited from whoever started us, would take the exits of all children
            // with it.
            for signal in signals {
                libc::signal(signal.cast_signed(), libc::SIG_DFL);
            }
            let fd = cerr(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The next signal, if one has come. Does not wait.
    pub fn read(&self) -> io::Result<Option<u32>> {
        let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has room for one siginfo, and the kernel writes whole ones only.
        let n = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), len) };
        if n == -1 {
            let e = io::Error::last_os_error();
            return if e.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(e) };
        }
        // SAFETY: the read above succeeded, so the whole siginfo is written.
        Ok(Some(unsafe { info.assume_init() }.ssi_signo))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes this process deaf to a signal.
pub fn ignore(signal: u32) {
    // SAFETY: SIG_IGN is a valid disposition, and no handler of ours is replaced that anything relies on.
    unsafe { libc::signal(signal.cast_signed(), libc::SIG_IGN) };
}

/// Signals that this process ignores, which an exec would leave so.
#[derive(Clone, Copy, Debug)]
pub struct Ignored(u64);

impl Ignored {
    /// Those that it ignores now: what our parent ignored, and the SIGPIPE of Rust.
    #[must_use]
    pub fn now() -> Self {
        let is_ignored = |signal: &u32| {
            let mut action = [0u64; 4];
            let (new, len) = (ptr::null::<u64>(), size_of::<u64>());
            // SAFETY: the kernel writes one sigaction of its own: 32 bytes on every 64-bit machine, the
            // handler first.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, *signal, new, action.as_mut_ptr(), len) };
            action[0] == libc::SIG_IGN as u64
        };
        Self((1..=RTMAX).filter(is_ignored).fold(0, |set, signal| set | 1 << (signal - 1)))
    }
}

impl Ignored {
    /// Blocks them, in this process and in what it forks: what is sent to a child before it has taken back
    /// their default, as a stop may be, then waits for that instead of being lost.
    pub fn block(self) {
        // SAFETY: the kernel reads a set of 64 bits.
        unsafe {
            let (old, len) = (ptr::null_mut::<u64>(), size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const self.0, old, len)
        };
    }
}

/// Default dispositions for all 64 signals and an empty mask, as of the next exec: what a program expects to
/// find. Also reaches the two signals that glibc keeps for itself.
pub fn reset(ignored: Ignored) {
    // The kernel's sigaction, all zero: SIG_DFL, no flags, empty mask. 32 bytes on every 64-bit machine.
    let default = [0u64; 4];
    let empty = 0u64;
    let len = size_of::<u64>();
    // What has a handler gets its default by the exec itself.
    for signal in (1..=RTMAX).filter(|signal| ignored.0 & 1 << (signal - 1) != 0) {
        // SAFETY: the kernel reads one zeroed sigaction.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), len)
        };
    }
    // SAFETY: the kernel reads a set of 64 bits.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            ptr::null_mut::<u64>(),
            len,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for n in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(number(&name(n)), Some(n), "{n}");
        }
        assert_eq!(number("term"), Some(15));
        assert_eq!(number("SigHup"), Some(1));
        assert_eq!((number("RTMAX-1"), number("SIGRTMAX-30")), (Some(63), Some(34)));
        for bad in [
            "",
            "RTMAX-31",
            "RTMAX+1",
            "RTMAX1",
            "0",
            "65",
            "-1",
            "FOO",
            "RTMIN+31",
            "RTMIN-1",
            "99999999999",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
