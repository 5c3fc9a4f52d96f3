//! landlock(7): a process gives up what it may do with files, and so do all that come from it. Three system
//! calls. Rights that a kernel does not know it does not take away.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::sys::child::{Packed, Text};
use crate::sys::{cerr, cerr_long};

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
/// What can be said of something that is no directory.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
/// For each version of the interface the rights that it knows: removing and making things, moving them
/// between directories, truncating, calls to devices.
const KNOWN: [u64; 5] = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1];

/// Since this version the interface knows of TCP: to bind, and to connect.
const NETWORK_SINCE: u32 = 4;
const NETWORK: u64 = 3;

/// What is given up; the kernel's `struct landlock_ruleset_attr`, as far as we use it.
#[repr(C)]
struct Handled {
    files: u64,
    network: u64,
}

/// A rule about what is below a path; the kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The version of the kernel's interface, from 1 on. ENOSYS and EOPNOTSUPP: it has none.
pub fn version() -> io::Result<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag nothing is read.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u64>(), 0_usize, VERSION) };
    cerr_long(result).map(|version| u32::try_from(version).unwrap_or(0))
}

/// For a child before its exec, which can gain no more rights by then: from here on it may read and execute
/// what is at and below the paths of `read`, also change what is at and below those of `write`, and reach
/// nothing else. What is open stays so.
pub fn restrict(read: Packed<'_>, write: Packed<'_>) -> io::Result<()> {
    let handled = known(version()?);
    let ruleset = ruleset(&Handled { files: handled, network: 0 })?;
    for (paths, allowed) in [(read, READ), (write, handled)] {
        for path in paths.iter() {
            allow(&ruleset, path, allowed & handled)?;
        }
    }
    restrict_self(&ruleset)
}

/// From now on this thread, and those that it makes, open no file and no TCP connection; what is open stays
/// so. False: this kernel has no landlock. Only a process that can gain no more rights may call it.
pub fn open_nothing() -> io::Result<bool> {
    let Ok(version) = version() else { return Ok(false) };
    let network = if version >= NETWORK_SINCE { NETWORK } else { 0 };
    restrict_self(&ruleset(&Handled { files: known(version), network })?).map(|()| true)
}

/// The rights on files that this version knows.
fn known(version: u32) -> u64 {
    KNOWN[(version.max(1) as usize).min(KNOWN.len()) - 1]
}

fn ruleset(handled: &Handled) -> io::Result<OwnedFd> {
    // An older kernel knows only the first field.
    let len = if handled.network == 0 { size_of::<u64>() } else { size_of::<Handled>() };
    // SAFETY: the kernel reads so many bytes of the attributes, which live through the call.
    let fd = cerr_long(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, ptr::from_ref(handled), len, 0_u32)
    })?;
    // SAFETY: a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) })
}

fn restrict_self(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: touches no memory.
    cerr_long(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) })
        .map(drop)
}

fn allow(ruleset: &OwnedFd, Text(path, _): Text<'_>, allowed: u64) -> io::Result<()> {
    const PATH_BENEATH: u32 = 1;
    // SAFETY: a C string.
    let fd = cerr(unsafe { libc::open(path, libc::O_PATH | libc::O_CLOEXEC) })?;
    // SAFETY: a new descriptor, which nobody else owns.
    let parent = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zero is a valid stat, and a place for the kernel to write to.
    let is_dir = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        cerr(libc::fstat(parent.as_raw_fd(), &raw mut stat))?;
        stat.st_mode & libc::S_IFMT == libc::S_IFDIR
    };
    let allowed = if is_dir { allowed } else { allowed & OF_FILES };
    let rule = PathBeneath { allowed, parent: parent.as_raw_fd() };
    // SAFETY: the kernel reads one rule.
    cerr_long(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0_u32)
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::confine::drop_capabilities;
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
