//! Threads with names. The one way in which threads are made, so that every one shows up in `ps -T` as what
//! it is.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::sys::memory::page_size;

/// The longest name Linux keeps, in bytes.
const NAME_LEN_MAX: usize = 15;

/// The stack of a thread, in bytes.
const STACK_LEN: usize = 256 << 10;
/// The same of one for others' work: what the standard library gives.
const USUAL_STACK_LEN: usize = 2 << 20;
/// How much of it below the present frame is given back, in bytes: less than half, since callers are near its
/// top.
const GIVEN_BACK_LEN: usize = 96 << 10;

/// More than the rest of one small frame and a system call's own, in bytes.
const FRAMES_LEN: usize = 1 << 10;

/// How much nicer a thread is that lets others go first.
const STEPS_BEHIND: libc::c_int = 5;

/// Runs `work` on a thread of its own. The stack is reserved, not used, until it is touched.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    debug_assert!(name.len() <= NAME_LEN_MAX, "{name}");
    Builder::new().name(name.to_owned()).stack_size(STACK_LEN).spawn(work)
}

/// Runs work that is not ours, and may need as much room as threads usually have.
pub fn spawn_for_others(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    debug_assert!(name.len() <= NAME_LEN_MAX, "{name}");
    Builder::new().name(name.to_owned()).stack_size(USUAL_STACK_LEN).spawn(work)
}

/// Does this with as much room as threads usually have, and waits for it.
pub fn with_room<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    debug_assert!(name.len() <= NAME_LEN_MAX, "{name}");
    std::thread::scope(|scope| {
        let thread = Builder::new().name(name.to_owned()).stack_size(USUAL_STACK_LEN);
        let result = thread.spawn_scoped(scope, work)?.join();
        result.map_err(|panic| std::panic::resume_unwind(panic))
    })
}

/// The same for work that takes a processor for long, and that others who have short work do not wait for:
/// they go first.
pub fn behind_others<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    with_room(name, || {
        // SAFETY: it takes a plain number, and on Linux is about the calling thread alone.
        unsafe { libc::nice(STEPS_BEHIND) };
        work()
    })
}

/// Gives the stack's memory below the present frame back to the system: what a deep call has used once would
/// stay with a thread that then waits for days. Only for threads that [`spawn`] made, and not from a deep
/// call.
#[inline(never)]
pub fn give_back_stack() {
    // In pages of the machine's: the kernel rounds a length up, and would take live frames with it.
    let page = page_size();
    let here = 0u8;
    let end = ((&raw const here as usize) - FRAMES_LEN) & !(page - 1);
    let len = GIVEN_BACK_LEN & !(page - 1);
    // SAFETY: the range lies within this thread's own stack: it has 256 KiB (`spawn`), and the caller is in
    // the upper half of it. It ends so far below this frame that the rest of it and the frame of the call are
    // spared; below them nothing lives, and what is touched there later is zeroed again.
    unsafe { libc::madvise((end - len) as *mut libc::c_void, len, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_others_is_nicer_and_alone() {
        // SAFETY: it takes plain numbers, and none is the calling thread.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = niceness();
        let behind = behind_others("behind", niceness).unwrap();
        assert_eq!((behind, niceness()), ((before + STEPS_BEHIND).min(19), before));
    }
}
