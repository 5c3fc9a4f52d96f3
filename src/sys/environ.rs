//! The environment that a process was started with, which says whose it is.
//!
//! An empty answer of the kernel's means nothing by itself: in an exec the old program's memory goes before
//! the new one's environment is laid down, and again in the next exec of a chain. So nothing is called empty
//! that /proc/PID/stat does not call so, in which all numbers are of one moment. And each is read in one
//! call: every further one would look at the memory anew, which may be the next program's by then.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;

use crate::sys::errno::{EACCES, EPERM};
use crate::sys::procfs::{self, Program, is_gone};
use crate::sys::{clock, system};

/// As much of an environment as is read, in bytes. What says whose a process is comes first in it.
const READ_MAX: usize = 256 << 10;
/// How long one process is waited for that is in the middle of an exec, ms: some microseconds, if nothing
/// else wants the processor.
const EXEC_MS: u64 = 2000;

/// What is known of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environ<'a> {
    /// This is its begin, each variable ended by NUL.
    Is(&'a [u8]),
    /// There is none: it has none, or the process is gone.
    Nothing,
    /// It is not ours to see.
    Hidden,
    /// It cannot be known at this moment: the process is in the middle of an exec.
    Unsettled,
}

/// Reads environments, one after another.
#[derive(Debug)]
pub struct Reader {
    buf: Box<[u8]>,
    /// Whether we may take on who a process runs as, to be let in.
    is_root: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buf: vec![0; READ_MAX].into(), is_root: system::euid() == 0 }
    }
}

impl Reader {
    /// One look. An error: we lack the means to look.
    pub fn look(&mut self, pid: u32) -> io::Result<Environ<'_>> {
        let mut is_denied = false;
        let len = match self.read(&format!("/proc/{pid}/environ"), pid) {
            Err(e) if is_refusal(&e) => {
                is_denied = true;
                0
            }
            read => read.map(Some).or_else(is_gone)?.unwrap_or(0),
        };
        if len > 0 {
            return Ok(Environ::Is(&self.buf[..len]));
        }
        // After the reading, so that what it says of the program is no older.
        let Some(stat) = procfs::look(pid)? else { return Ok(Environ::Nothing) };
        Ok(match stat.program {
            Program::Nothing | Program::WithEnvironment(0) => Environ::Nothing,
            Program::Headless => return self.of_threads(pid),
            Program::Hidden => Environ::Hidden,
            Program::WithEnvironment(_) if is_denied => Environ::Hidden,
            Program::WithEnvironment(_) | Program::Between => Environ::Unsettled,
        })
    }

    /// Looks until it is known, or it takes too long: then it is `Unsettled`.
    pub fn settle(&mut self, pid: u32) -> io::Result<Environ<'_>> {
        let until = clock::now_ms() + EXEC_MS;
        loop {
            match self.look(pid)? {
                Environ::Unsettled if clock::now_ms() < until => thread::yield_now(),
                Environ::Unsettled => return Ok(Environ::Unsettled),
                Environ::Nothing => return Ok(Environ::Nothing),
                Environ::Hidden => return Ok(Environ::Hidden),
                // Once more for the borrow checker: it is in the buffer.
                Environ::Is(env) => {
                    let len = env.len();
                    return Ok(Environ::Is(&self.buf[..len]));
                }
            }
        }
    }

    /// Of a process whose first thread has ended: that of another one.
    fn of_threads(&mut self, pid: u32) -> io::Result<Environ<'_>> {
        let Some(threads) = fs::read_dir(format!("/proc/{pid}/task")).map(Some).or_else(is_gone)? else {
            return Ok(Environ::Nothing);
        };
        let mut is_denied = false;
        for thread in threads.filter_map(Result::ok) {
            match self.read(&thread.path().join("environ").to_string_lossy(), pid) {
                Ok(0) => {}
                Ok(len) => return Ok(Environ::Is(&self.buf[..len])),
                Err(e) if is_refusal(&e) => is_denied = true,
                Err(e) => is_gone::<()>(e).map(drop)?,
            }
        }
        Ok(if is_denied { Environ::Hidden } else { Environ::Unsettled })
    }

    /// In one call. How many bytes there are.
    fn read(&mut self, path: &str, pid: u32) -> io::Result<usize> {
        let file = match File::open(path) {
            // Root without CAP_SYS_PTRACE, as it is in containers, may not look at what runs as others; but
            // it may become who they are.
            Err(e) if is_refusal(&e) && self.is_root => match owner(pid) {
                Some((uid, gid)) if uid != 0 => as_user(uid, gid, || File::open(path)),
                Some(_) | None => Err(e),
            },
            opened => opened,
        }?;
        file.read_at(&mut self.buf, 0)
    }
}

fn is_refusal(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(EACCES | EPERM))
}

fn owner(pid: u32) -> Option<(u32, u32)> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| (meta.uid(), meta.gid()))
}

/// Acts with the rights of this user and group to files, on this thread alone.
fn as_user<T>(uid: u32, gid: u32, act: impl FnOnce() -> T) -> T {
    // SAFETY: none of these calls touches memory. The C library passes setfsuid(2) and setfsgid(2) on for
    // the calling thread alone, and takes no notice of them itself. Root may set both, and set them back: it
    // keeps the capability for that, which only a change of the other user numbers takes away.
    unsafe {
        let (own_uid, own_gid) = (libc::geteuid(), libc::getegid());
        let dumpable = libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0);
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        let done = act();
        libc::setfsuid(own_uid);
        libc::setfsgid(own_gid);
        // The kernel makes a process that has been somebody else closed to its own user.
        if dumpable == 1 {
            libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        }
        done
    }
}
