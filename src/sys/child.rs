//! Making children and reaping them: the steps between fork and exec, one function each, and wait4.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::sys::{cerr, cerr_long};

/// Proof that this process has one thread, which makes everything allowed between fork and exec.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Looks; an error names the number of threads.
    pub fn claim() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self(()))
        } else {
            Err(io::Error::other(format!("the process has {threads} threads instead of one")))
        }
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    Child,
    Parent { pid: u32, pidfd: OwnedFd },
}

/// The kernel's `struct clone_args`, as far as we use it.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks, the child started inside `cgroup` when one is given (moving it later would cost milliseconds and
/// leave a gap).
pub fn fork(_: &SingleThreaded, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    clone3(0, cgroup)
}

/// The same, but the child gets the descriptors below `first_high` and no others, so that it costs the same
/// however many there are above: it starts with the parent's table, does `first` with it, and then copies the
/// low end of it. Until then the parent must leave open, and as it is, what the child is to have. If that
/// fails, or it cannot have a table of its own, the child runs `refuse`. Both see the parent's descriptors
/// and must neither open, close nor change any.
pub fn fork_with_low(
    _: &SingleThreaded,
    cgroup: Option<BorrowedFd<'_>>,
    first_high: u32,
    first: impl FnOnce() -> io::Result<()>,
    refuse: impl FnOnce(io::Error) -> Infallible,
) -> io::Result<Fork> {
    let fork = clone3(libc::CLONE_FILES as u64, cgroup)?;
    if let Fork::Child = fork {
        let Ok(()) = first().and_then(|()| keep_below(first_high)).map_err(refuse);
    }
    Ok(fork)
}

/// Leaves only the descriptors below `first`, in a table of this process alone, whoever shared it before.
fn keep_below(first: u32) -> io::Result<()> {
    // SAFETY: called by a new child, which has closed nothing and uses none of these numbers: what it shared
    // stays open for its parent, and what it had alone is the copy of things that belong to the parent.
    cerr_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_UNSHARE) })
        .map(drop)
}

/// Whether this kernel (from 5.9 on), and whoever filters its calls, lets [`fork_with_low`] work.
#[must_use]
pub fn can_fork_with_low() -> bool {
    // SAFETY: no descriptor has this number, so nothing is closed.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, libc::CLOSE_RANGE_UNSHARE) == 0 }
}

fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("a descriptor");
    }
    // SAFETY: without CLONE_VM the child gets a copy of all memory, and with one thread (the callers' token)
    // no lock can be held by somebody who does not exist in the copy. With CLONE_FILES the descriptors are
    // not copied: the caller sees to it that the child does nothing to them. The arguments live through the
    // call.
    let pid = cerr_long(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: CLONE_PIDFD has put a new descriptor here, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent { pid: u32::try_from(pid).expect("pids are positive"), pidfd })
}

/// Ends this process at once: no destructors, no flushing of what the parent had buffered.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches nothing.
    unsafe { libc::_exit(code) }
}

/// A session and process group of its own, without a terminal.
pub fn setsid() -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::setsid() }).map(drop)
}

/// Makes `fd` also descriptor `number`, which programs inherit.
pub fn dup_to(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: touches no memory; the numbers used are 0 to 3, which the caller has set aside.
    cerr(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Makes what is open at `from` also descriptor `number`: standard ones both.
pub fn dup(from: i32, number: i32) -> io::Result<()> {
    // SAFETY: touches no memory; the standard descriptors have no owner in Rust.
    cerr(unsafe { libc::dup2(from, number) }).map(drop)
}

/// fchown(2) of what is open at this number; whom it is not given to stays who they are.
pub fn give(number: i32, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::fchown(number, uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX)) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed by exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    cerr_long(result).map(drop)
}

/// For a child before its exec: closes everything but the standard descriptors, and these where they are
/// given.
pub fn close_all_but(kept: [Option<BorrowedFd<'_>>; 2]) -> io::Result<()> {
    let number =
        |fd: Option<BorrowedFd<'_>>| fd.map_or(2, |fd| u32::try_from(fd.as_raw_fd()).expect("a descriptor"));
    let [one, other] = kept.map(number);
    let (low, high) = (one.min(other), one.max(other));
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, u32::MAX)] {
        // An empty range is an error.
        if first <= last {
            // SAFETY: the child of a fork owns a copy of each, ends in an exec or without running
            // destructors, and uses none of them any more.
            cerr_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// umask(2): sets the file mode creation mask, returns the one before.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: cannot fail, touches no memory.
    unsafe { libc::umask(mask) }
}

/// setpriority(2) of this process.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// setrlimit(2), by the resource's number.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit.
    cerr_long(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<libc::rlimit>())
    })
    .map(drop)
}

/// setgroups(2).
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe `groups`.
    cerr(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map(drop)
}

/// setresgid(2), all three.
pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::setresgid(gid, gid, gid) }).map(drop)
}

/// setresuid(2), all three.
pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::setresuid(uid, uid, uid) }).map(drop)
}

/// From here on, no exec gives more rights than there were.
pub fn set_no_new_privs() -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// prctl(2), `PR_SET_PDEATHSIG`: SIGKILL when the thread that has forked this process ends. An error: the
/// process of that thread, which is `parent`, has ended before.
pub fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: sets an attribute of this process; takes no pointers.
    cerr(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Strings one behind the other, each ended by NUL, in the memory of a child that would rather not take any
/// of its own.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'m>(&'m [u8]);

/// A string within [`Packed`] ones.
#[derive(Clone, Copy, Debug)]
pub struct Text<'m>(pub(in crate::sys) *const libc::c_char, pub(in crate::sys) PhantomData<&'m [u8]>);

impl<'m> Packed<'m> {
    /// `None`: the last one has no end.
    #[must_use]
    pub fn new(bytes: &'m [u8]) -> Option<Self> {
        bytes.last().is_none_or(|&b| b == 0).then_some(Self(bytes))
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Text<'m>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let text = Text(rest.as_ptr().cast(), PhantomData);
            let end = rest.iter().position(|&b| b == 0)?;
            rest = &rest[end + 1..];
            Some(text)
        })
    }
}

/// How many strings of a list need no memory of their own.
const POINTERS: usize = 128;

/// A list of strings as exec takes it: pointers, the last one null.
struct Pointers {
    few: [*const libc::c_char; POINTERS],
    many: Vec<*const libc::c_char>,
}

impl Pointers {
    fn new(strings: Packed<'_>) -> Self {
        let mut pointers = Self { few: [ptr::null(); POINTERS], many: Vec::new() };
        let mut len = 0;
        for Text(text, _) in strings.iter() {
            if len < POINTERS - 1 {
                pointers.few[len] = text;
            } else if len == POINTERS - 1 {
                pointers.many.extend_from_slice(&pointers.few[..len]);
                pointers.many.push(text);
            } else {
                pointers.many.push(text);
            }
            len += 1;
        }
        if len >= POINTERS {
            pointers.many.push(ptr::null());
        }
        pointers
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        if self.many.is_empty() { self.few.as_ptr() } else { self.many.as_ptr() }
    }
}

/// execve(2) of each path in turn, as long as `goes_on` says of its errno that the next one is to be tried.
/// Returns only when all have failed.
pub fn exec_first(
    paths: Packed<'_>,
    argv: Packed<'_>,
    env: Packed<'_>,
    goes_on: &mut dyn FnMut(i32) -> bool,
) {
    let (argv, env) = (Pointers::new(argv), Pointers::new(env));
    for Text(path, _) in paths.iter() {
        // SAFETY: path is a C string; both lists end with null and point to C strings that live through the
        // call.
        unsafe { libc::execve(path, argv.as_ptr(), env.as_ptr()) };
        if !goes_on(errno()) {
            return;
        }
    }
}

/// execveat(2) of an open file, whatever has become of its path. Returns the errno only when it has failed.
pub fn exec_file(file: BorrowedFd<'_>, argv: Packed<'_>, env: Packed<'_>) -> i32 {
    let (argv, env) = (Pointers::new(argv), Pointers::new(env));
    // SAFETY: the path is an empty C string; both lists end with null and point to C strings that live
    // through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    errno()
}

fn errno() -> i32 {
    // SAFETY: the address of this thread's own errno.
    unsafe { *libc::__errno_location() }
}

/// chdir(2).
pub fn chdir(path: Text<'_>) -> io::Result<()> {
    // SAFETY: a C string.
    cerr(unsafe { libc::chdir(path.0) }).map(drop)
}

/// execve(2): returns only when it failed.
pub fn exec(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> io::Error {
    let pointers =
        |strings: &[&CStr]| strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: path is a C string; both lists end with null and point to C strings that live through the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    /// Its number, free for others from now on.
    pub pid: u32,
    /// The raw wait status.
    pub status: i32,
    /// CPU time in user mode, µs.
    pub user_us: u64,
    /// CPU time in the kernel, µs.
    pub system_us: u64,
    /// Largest resident set, KiB.
    pub max_rss_kib: u64,
}

/// Whether it is our child, dead or alive, and not reaped: then its number cannot be another's.
#[must_use]
pub fn is_child(pid: u32) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: zero is a valid siginfo, and a place for the kernel to write to.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &raw mut info, flags) == 0
    }
}

/// Reaps one child that has ended, if there is one.
pub fn reap() -> io::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: zero is a valid rusage; both are places for the kernel to write to.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    match pid {
        0 => Ok(None),
        -1 => {
            let e = io::Error::last_os_error();
            if e.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(e) }
        }
        pid => Ok(Some(Reaped {
            pid: pid.cast_unsigned(),
            status,
            user_us: micros(usage.ru_utime),
            system_us: micros(usage.ru_stime),
            max_rss_kib: usage.ru_maxrss.cast_unsigned(),
        })),
    }
}

fn micros(t: libc::timeval) -> u64 {
    t.tv_sec.cast_unsigned() * 1_000_000 + t.tv_usec.cast_unsigned()
}

/// What a wait status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    /// A signal killed it.
    Signalled {
        signal: u8,
        /// A core was dumped.
        core: bool,
    },
}

/// Takes a raw wait status apart. Stops and continuations never come here: nobody asks wait4 for them.
#[must_use]
pub fn status(raw: i32) -> Status {
    if libc::WIFSIGNALED(raw) {
        let signal = u8::try_from(libc::WTERMSIG(raw)).expect("7 bits");
        return Status::Signalled { signal, core: libc::WCOREDUMP(raw) };
    }
    Status::Exited(u8::try_from(libc::WEXITSTATUS(raw)).expect("8 bits"))
}

/// kill(2) of a child of ours that we have not reaped: its number cannot be another's.
pub fn signal_child(pid: u32, signal: u32) -> io::Result<()> {
    assert!(pid > 1, "a child's number");
    // SAFETY: touches no memory.
    cerr(unsafe { libc::kill(pid.cast_signed(), signal.cast_signed()) }).map(drop)
}
