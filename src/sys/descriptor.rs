//! Descriptors as numbers: what goes from one program to the next by exec (that without FD_CLOEXEC;
//! everything that this program opens has the flag, so its absence tells what was inherited), and one number
//! that means now this, now that.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::cerr;

/// What becomes of a descriptor at an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtExec {
    /// The next program has it.
    Keep,
    Close,
}

/// Sets what becomes of it.
pub fn at_exec(fd: BorrowedFd<'_>, what: AtExec) -> io::Result<()> {
    let flags = match what {
        AtExec::Keep => 0,
        AtExec::Close => libc::FD_CLOEXEC,
    };
    // SAFETY: fcntl with this command touches no memory.
    cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// Whether this number is open and was inherited, apart from the standard ones.
#[must_use]
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: fcntl with this command touches no memory; a number that is not open is an error.
    number > 2 && unsafe { libc::fcntl(number, libc::F_GETFD) } == 0
}

/// Takes over what this process was started with. From then on it is closed at an exec and cannot be taken
/// again.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if !is_inherited(number) {
        return Err(io::Error::other(format!("descriptor {number} was not inherited")));
    }
    // SAFETY: it is open and without the flag that everything we open has, so nobody in this program owns it;
    // the flag is set before the owner is made, so there is no second one.
    unsafe {
        cerr(libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Makes the number of `slot` mean what `with` means, in one step: others never find it closed or another's.
pub fn replace(slot: BorrowedFd<'_>, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: touches no memory; whoever owns the slot still owns one open descriptor of that number.
    cerr(unsafe { libc::dup3(with.as_raw_fd(), slot.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, IntoRawFd};

    #[test]
    fn what_is_inherited_can_be_taken_once() {
        let file = File::open("/dev/null").unwrap();
        assert!(!is_inherited(file.as_raw_fd()), "what we open is not inherited");
        assert!(take(file.as_raw_fd()).is_err());
        at_exec(file.as_fd(), AtExec::Keep).unwrap();
        let number = file.into_raw_fd();
        let taken = take(number).unwrap();
        assert!(take(number).is_err(), "it has an owner");
        drop(taken);
        assert!(!is_inherited(1 << 20) && !is_inherited(0));
    }
    #[test]
    fn a_number_means_something_else() {
        let (end, other_end) = crate::sys::pipe::pipe().unwrap();
        let slot = File::open("/dev/null").unwrap();
        replace(slot.as_fd(), other_end.as_fd()).unwrap();
        drop(other_end);
        std::io::Write::write_all(&mut &slot, b"x").unwrap();
        assert!(!is_inherited(slot.as_raw_fd()), "no program gets it");
        replace(slot.as_fd(), File::open("/dev/null").unwrap().as_fd()).unwrap();
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut File::from(end), &mut read).unwrap();
        assert_eq!(read, b"x", "and then it is at its end");
    }
}
