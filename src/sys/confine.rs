//! Gives up what this process will not need: its capabilities, and the way to files and the network.

use std::io;
use std::mem::size_of;

use crate::sys::{cerr, cerr_long};

/// The kernel's `struct landlock_ruleset_attr`, as far as we use it.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
}

/// Everything that version 1 of landlock knows of files: to open, make, remove or execute any.
const FILES: u64 = (1 << 13) - 1;
/// What each later version adds: renames across directories, truncation, device commands.
const FILES_SINCE: [(i64, u64); 3] = [(2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];
/// Since version 4: to bind and to connect TCP.
const NETWORK: (i64, u64) = (4, 3);
const VERSION_ASKED: u32 = 1;

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

/// From now on this thread, and those that it makes, open no file and no TCP connection; what is open stays
/// so. False: this kernel has no landlock. To be called after [`drop_capabilities`].
pub fn open_nothing() -> io::Result<bool> {
    // SAFETY: without an address it only tells the version.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0usize, VERSION_ASKED)
    };
    if version < 1 {
        return Ok(false);
    }
    let later = FILES_SINCE.iter().filter(|(since, _)| version >= *since).map(|(_, files)| files);
    let files = later.fold(FILES, |all, some| all | some);
    let network = if version >= NETWORK.0 { NETWORK.1 } else { 0 };
    let ruleset = Ruleset { files, network };
    // An older kernel knows only the first field.
    let len = if network == 0 { size_of::<u64>() } else { size_of::<Ruleset>() };
    // SAFETY: the attributes live through the call; the descriptor is ours, used once and closed.
    unsafe {
        let fd = cerr_long(libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, len, 0u32))?;
        let restricted = cerr_long(libc::syscall(libc::SYS_landlock_restrict_self, fd, 0u32));
        libc::close(i32::try_from(fd).expect("a descriptor"));
        restricted.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::TcpListener;

    #[test]
    fn a_confined_thread_opens_nothing() {
        // Both hold for a thread and for those that it makes.
        let confined = std::thread::spawn(|| {
            let open = File::open("/proc/self/status").unwrap();
            drop_capabilities().unwrap();
            if !open_nothing().unwrap() {
                return println!("this kernel has no landlock");
            }
            assert!(
                File::open("/proc/self/status").is_err() && File::create("/tmp/provost-confined").is_err()
            );
            let status = std::io::read_to_string(open).unwrap();
            assert!(status.contains("NoNewPrivs:"), "what is open can be read");
            drop(TcpListener::bind("127.0.0.1:0"));
        });
        confined.join().unwrap();
        assert!(File::open("/proc/self/status").is_ok(), "another thread is not");
    }
}
