//! The engine as the keeper sees it: a child that speaks over a socket pair and is started again whenever it
//! dies.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::keeper::notify::NOTIFY_KEY;
use crate::sys::child::{self, Fork, SingleThreaded, fork};
use crate::sys::socket::{Blocking, sendmsg, seqpacket_pair};
use crate::sys::system::{TUNABLES, TUNABLES_KEY};
use crate::sys::{clock, limits, signal};
use crate::wire::keeper::{ENGINE_FD, ToKeeper};

/// An engine that lived this long was healthy, ms.
const HEALTHY_MS: u64 = 1000;
/// So many short lives in a row are restarted at once: somebody may be killing it, and every moment counts.
const SHORT_RUNS_FREE: u32 = 3;
/// The first delay after that, ms; it doubles.
const DELAY_MS: u64 = 10;
/// Where the doubling ends, ms.
const DELAY_MAX_MS: u64 = 1000;

/// No core, in which everybody's variables would be: less than a page is written to no file, and one byte is
/// the only limit that counts for a handler, too.
const CORE_LEN_MAX: u64 = 1;

/// The engine's life. The keeper's loop owns it.
#[derive(Debug)]
pub enum Engine {
    Up {
        pid: u32,
        channel: OwnedFd,
        since: u64,
    },
    /// To be started at that time (monotonic ms).
    Down {
        start_at: u64,
    },
}

/// How long to wait after so many short lives in a row.
#[must_use]
pub fn delay_ms(short_runs: u32) -> u64 {
    match short_runs.checked_sub(SHORT_RUNS_FREE) {
        None | Some(0) => 0,
        Some(n) => (DELAY_MS << (n - 1).min(10)).min(DELAY_MAX_MS),
    }
}

impl Engine {
    /// Starts one. `exe` is the program to run; the arguments tell it where the cgroups are.
    pub fn start(alone: &SingleThreaded, exe: &Path, arguments: &[String]) -> io::Result<Self> {
        let (ours, theirs) = seqpacket_pair()?;
        match fork(alone, None)? {
            Fork::Child => {
                let error = become_engine(&theirs, exe, arguments);
                let errno = error.raw_os_error().unwrap_or(1);
                // The exit code alone could be the program's own.
                let _ =
                    sendmsg(theirs.as_fd(), &ToKeeper::NotExecuted { errno }.encode(), &[], Blocking::Never);
                child::exit_now(errno)
            }
            Fork::Parent { pid, .. } => Ok(Self::Up { pid, channel: ours, since: clock::now_ms() }),
        }
    }

    /// Its end of the pair, if it runs.
    pub fn channel(&self) -> Option<&OwnedFd> {
        match self {
            Self::Up { channel, .. } => Some(channel),
            Self::Down { .. } => None,
        }
    }

    /// Its number, if it runs.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Up { pid, .. } => Some(*pid),
            Self::Down { .. } => None,
        }
    }

    /// Whether this life was long enough to forget the short ones before.
    pub fn was_healthy(&self) -> bool {
        matches!(self, Self::Up { since, .. } if clock::now_ms().saturating_sub(*since) >= HEALTHY_MS)
    }
}

fn become_engine(channel: &OwnedFd, exe: &Path, arguments: &[String]) -> io::Error {
    let first = u32::try_from(ENGINE_FD).expect("a small number");
    let prepare = || -> io::Result<()> {
        child::setsid()?;
        if let Some(core) = limits::rlimit_number("core") {
            child::set_rlimit(core, CORE_LEN_MAX, CORE_LEN_MAX)?;
        }
        // The channel may sit at that very number; then dup2 would leave its close-on-exec flag.
        let channel = channel.try_clone()?;
        child::close_on_exec_from(first)?;
        child::dup_to(channel.as_fd(), ENGINE_FD)
    };
    if let Err(e) = prepare() {
        return e;
    }
    signal::reset(signal::Ignored::now());
    // std gives every thread a second stack for the handler that names a stack overflow, unless somebody else
    // has taken SIGSEGV: six system calls for each thread that is started. A real fault ends the engine all
    // the same.
    signal::ignore(signal::SEGV);
    signal::ignore(signal::BUS);
    let c = |bytes: &[u8]| CString::new(bytes).expect("paths and our own arguments hold no NUL");
    let argv: Vec<_> = ["provost", "engine"]
        .iter()
        .map(|a| c(a.as_bytes()))
        .chain(arguments.iter().map(|a| c(a.as_bytes())))
        .collect();
    // What the operator tuned comes first; the engine takes ours off again before children inherit it.
    let tuned = std::env::var_os(TUNABLES_KEY).map_or_else(Vec::new, |t| [t.as_bytes(), b":"].concat());
    let tuned = c(&[TUNABLES_KEY.as_bytes(), b"=", &tuned, TUNABLES.as_bytes()].concat());
    let env: Vec<_> = std::env::vars_os()
        .filter(|(k, _)| k != TUNABLES_KEY && k != NOTIFY_KEY)
        .map(|(k, v)| c(&[k.as_bytes(), b"=", v.as_bytes()].concat()))
        .chain([tuned])
        .collect();
    let [argv, env] = [&argv, &env].map(|strings| strings.iter().map(CString::as_c_str).collect::<Vec<_>>());
    child::exec(&c(exe.as_os_str().as_bytes()), &argv, &env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dying_engine_is_restarted_at_once_and_then_more_slowly() {
        let delays: Vec<_> = (0..14).map(delay_ms).collect();
        assert_eq!(delays, [0, 0, 0, 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert_eq!(delay_ms(u32::MAX), 1000);
    }
}
