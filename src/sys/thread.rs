//! Threads with names. The one way in which threads are made, so that every one shows up in `ps -T` as what it is.

use std::io;
use std::thread::{Builder, JoinHandle};

/// The longest name Linux keeps, in bytes.
const NAME_LEN_MAX: usize = 15;

/// Runs `work` on a thread of its own. The stack is reserved, not used, until it is touched.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    debug_assert!(name.len() <= NAME_LEN_MAX, "{name}");
    Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(work)
}
