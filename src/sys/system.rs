//! What a process is to the system: its identity, its limits, its parenthood of orphans.

use std::io;
use std::os::fd::AsFd;

use crate::sys::cerr;

/// Effective user of this process.
#[must_use]
pub fn euid() -> u32 {
    // SAFETY: cannot fail, touches no memory.
    unsafe { libc::geteuid() }
}

/// Effective group of this process.
#[must_use]
pub fn egid() -> u32 {
    // SAFETY: cannot fail, touches no memory.
    unsafe { libc::getegid() }
}

/// Number of this process's parent.
#[must_use]
pub fn parent_pid() -> u32 {
    // SAFETY: cannot fail, touches no memory.
    unsafe { libc::getppid() }.cast_unsigned()
}

/// Descendants whose parents die become children of this process instead of init's.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// The soft limit of descriptors, before and after raising it to the hard one.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes, then reads, one rlimit.
    unsafe {
        cerr(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        cerr(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
        Ok((before, limit.rlim_max))
    }
}

/// The environment variable that tunes glibc, which it reads before `main`.
pub const TUNABLES_KEY: &str = "GLIBC_TUNABLES";
/// For a process with hundreds of threads that rarely allocate: one arena, nothing cached per thread (a cache
/// each was measured at 10 KiB a thread), large blocks given back, and few stacks of ended threads kept.
pub const TUNABLES: &str = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=262144:\
glibc.malloc.trim_threshold=262144:glibc.pthread.stack_cache_size=1048576";

/// Blocks up to this size are parts of malloc's heaps, and so much that is free at the end of one stays there
/// ([`keep_freed`]), in bytes: a message of 4 MiB while its vector doubles; sixteen calls with such messages.
#[cfg(target_env = "gnu")]
const HEAP_BLOCK_MAX: libc::c_int = 8 << 20;
#[cfg(target_env = "gnu")]
const KEPT_FREE_MAX: libc::c_int = 64 << 20;

/// From now on blocks of megabytes that are freed are used again as they are, for whoever works with large
/// messages: the kernel takes as long to give each page as it takes to copy it. What is free goes back by
/// [`trim_malloc`].
pub fn keep_freed() {
    // SAFETY: malloc's own function, which takes its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, HEAP_BLOCK_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_FREE_MAX);
    }
}

/// Gives the pages that malloc holds free back to the system.
pub fn trim_malloc() {
    // SAFETY: malloc's own function, which takes its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Locks a file against other processes, without waiting; false when another holds it.
pub fn try_lock(file: &impl AsFd) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: touches no memory.
    match cerr(unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// From now on a panic in any thread ends the process by SIGABRT, once it has said what it has to.
pub fn end_at_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        // SAFETY: ends the process, whatever its other threads do.
        unsafe { libc::abort() }
    }));
}

/// In what /proc counts the time on processors.
#[must_use]
pub fn ticks_per_second() -> u64 {
    // SAFETY: asks for a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|&n| n > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::{env, process, thread};

    #[test]
    fn a_panic_in_any_thread_ends_the_process() {
        const IS_CHILD: &str = "PROVOST_TEST_PANIC";
        if env::var_os(IS_CHILD).is_some() {
            end_at_panic();
            let _ = thread::spawn(|| panic!("as it was told to")).join();
            return;
        }
        let mut child = process::Command::new(env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "sys::system::tests::a_panic_in_any_thread_ends_the_process"]);
        let ended = child.env(IS_CHILD, "1").output().unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("as it was told to"));
    }
}
