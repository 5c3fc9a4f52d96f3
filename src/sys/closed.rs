//! Whether this program was started without a standard output. The runtime opens `/dev/null` in the place of
//! one that is closed before any code of ours runs; so it is looked at when the program is loaded.

use std::sync::atomic::{AtomicBool, Ordering};

static IS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether there was none: what is written there now goes nowhere.
#[must_use]
pub fn is_stdout_closed() -> bool {
    IS_STDOUT_CLOSED.load(Ordering::Relaxed)
}

extern "C" fn look() {
    // SAFETY: only reads the flags of a number that may or may not be open.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    IS_STDOUT_CLOSED.store(flags == -1, Ordering::Relaxed);
}

// SAFETY: the C libraries that we run on call each function in this section once, before main, on the first
// thread; this one needs nothing of the runtime, which is not set up yet.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
