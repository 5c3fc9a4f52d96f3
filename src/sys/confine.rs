//! Gives up the capabilities, which this process will not need. The way to files and the network is given up
//! in `sys/landlock.rs`.

use std::io;

use crate::sys::{cerr, cerr_long};

/// The header of capset(2), third version.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION: u32 = 0x2008_0522;

/// This process, and what it may ever become by an exec, has no capability from now on, root's included.
pub fn drop_capabilities() -> io::Result<()> {
    let header = CapHeader { version: CAP_VERSION, pid: 0 };
    let none = [CapData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and data live through the calls and have the layout of that version.
    unsafe {
        cerr(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        cerr_long(libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr())).map(drop)
    }
}
