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
    let version = version()?.max(1) as usize;
    let handled = KNOWN[version.min(KNOWN.len()) - 1];
    // SAFETY: the kernel reads one number, which is the oldest form of its argument.
    let ruleset = cerr_long(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of::<u64>(), 0_u32)
    })?;
    // SAFETY: a new descriptor, which nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(i32::try_from(ruleset).expect("a descriptor")) };
    for (paths, allowed) in [(read, READ), (write, handled)] {
        for path in paths.iter() {
            allow(&ruleset, path, allowed & handled)?;
        }
    }
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
