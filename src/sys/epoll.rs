//! Many descriptors that one thread looks after, of which few are ready at a time: the kernel keeps the list.
//! The thread waits for the list itself in its one place, `poll::wait`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::cerr;

/// How many are taken from the list at once.
const READY_MAX: usize = 64;

/// The list.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What is waited for on one descriptor. That the other end is gone is always told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub reads: bool,
    pub writes: bool,
}

/// A descriptor that is ready, by the key that it was added with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub key: u64,
    /// Both ways are over, or it is broken.
    pub is_hung_up: bool,
}

impl Interest {
    fn events(self) -> u32 {
        let bits = if self.reads { libc::EPOLLIN } else { 0 } | if self.writes { libc::EPOLLOUT } else { 0 };
        bits.cast_unsigned()
    }
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: it takes a flag and returns a new descriptor, which nobody else has.
        let fd = cerr(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Puts a descriptor on the list. It has to be removed before it is closed where others hold it, too.
    pub fn add(&self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, key, interest)
    }

    pub fn change(&self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, key, interest)
    }

    /// Nothing is told of it any more.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::default())
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.events(), u64: key };
        // SAFETY: both descriptors are open for as long as they are borrowed, and the kernel only reads the
        // event during the call.
        cerr(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) })
            .map(drop)
    }

    /// Those that are ready now, some of them at least; it does not wait.
    pub fn ready(&self) -> io::Result<Vec<Ready>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_MAX];
        let max = libc::c_int::try_from(READY_MAX).expect("a small number");
        // SAFETY: the kernel writes at most `max` events, for which there is room.
        let n = cerr(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), max, 0) })?;
        let hung_up = (libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        let ready = events.iter().take(usize::try_from(n).unwrap_or(0));
        // The fields may not be aligned: they are copied.
        Ok(ready
            .map(|event| Ready { key: { event.u64 }, is_hung_up: { event.events } & hung_up != 0 })
            .collect())
    }
}

impl AsFd for Epoll {
    /// Readable when one of the list is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::soon;

    #[test]
    fn who_is_ready_is_told_by_its_key() {
        let epoll = Epoll::new().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        epoll.add(theirs.as_fd(), 7, Interest { reads: true, writes: false }).unwrap();
        assert_eq!(epoll.ready().unwrap(), []);
        ours.write_all(b"x").unwrap();
        assert_eq!(epoll.ready().unwrap(), [Ready { key: 7, is_hung_up: false }]);
        epoll.change(theirs.as_fd(), 8, Interest::default()).unwrap();
        assert_eq!(epoll.ready().unwrap(), []);
        drop(ours);
        soon::until("it is hung up", || epoll.ready().unwrap() == [Ready { key: 8, is_hung_up: true }]);
        epoll.remove(theirs.as_fd()).unwrap();
        assert_eq!(epoll.ready().unwrap(), []);
    }
}
