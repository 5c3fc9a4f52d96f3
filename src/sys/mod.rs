//! The only place with `unsafe` and `libc`: one function for a system call, with its man-page name,
//! `io::Result`, and owned descriptors in the signature. Policy-free: nothing here decides anything.

use std::io;

pub mod append;
pub mod beside;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod closed;
#[cfg(feature = "gateway")]
pub mod confine;
pub mod controllers;
pub mod datagram;
pub mod descriptor;
pub mod environ;
#[cfg(feature = "gateway")]
pub mod epoll;
pub mod files;
#[cfg(feature = "gateway")]
pub mod grpc;
pub mod landlock;
pub mod limits;
pub mod listeners;
pub mod lookup;
pub mod memory;
pub mod pidfd;
pub mod pipe;
pub mod poll;
pub mod procfs;
pub mod rest;
pub mod signal;
pub mod socket;
#[cfg(test)]
pub mod soon;
pub mod spares;
#[cfg(feature = "gateway")]
pub mod spin;
pub mod system;
pub mod terminal;
pub mod thread;
pub mod timer;
pub mod usage;
pub mod watch;

/// Turns the -1 of a system call into its errno.
fn cerr(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a size or a long.
fn cerr_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Error numbers by name, for the layers that may not name `libc`.
pub mod errno {
    use std::io;

    pub use libc::{
        E2BIG, EACCES, EAGAIN, EBADF, EEXIST, EINVAL, EIO, EISDIR, ELOOP, EMFILE, EMSGSIZE, ENAMETOOLONG,
        ENFILE, ENOENT, ENOEXEC, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, ESRCH, ETOOMANYREFS,
        ETXTBSY,
    };

    /// Whether an error is a want of descriptors or memory: it says nothing about what was looked at.
    #[must_use]
    pub fn is_want(e: &io::Error) -> bool {
        matches!(e.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM))
    }
}

/// For `OpenOptions::custom_flags`: refuse a symbolic link at the end of the path.
pub const O_NOFOLLOW: i32 = libc::O_NOFOLLOW;
/// The same: opening does not wait, whatever the file turns out to be.
pub const O_NONBLOCK: i32 = libc::O_NONBLOCK;
