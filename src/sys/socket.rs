//! Sockets beyond std: descriptors and credentials beside the bytes of a unix socket, calls that do not wait,
//! options.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::cerr;

/// The most descriptors in one message that we send or take.
const FDS_MAX: usize = 8;

/// Two connected ends that keep message boundaries.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors, which nobody else owns.
    unsafe {
        cerr(libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        ))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Takes over a socket that this process was started with. An error: nothing of the kind is open at that
/// number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let mut kind: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("a small number");
    // SAFETY: the buffer and its length belong together. If there is a socket, nobody else in this process
    // owns it: this is called once, first thing, for the number that our parent has agreed on.
    unsafe {
        cerr(libc::getsockopt(
            number,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        ))?;
        cerr(libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Until it can be done.
    Wait,
    /// Not at all: `WouldBlock`.
    Never,
}

impl Blocking {
    fn flag(self) -> libc::c_int {
        match self {
            Self::Wait => 0,
            Self::Never => libc::MSG_DONTWAIT,
        }
    }
}

/// Space for the control message of `FDS_MAX` descriptors, aligned as cmsg(3) wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one message with descriptors beside it.
pub fn sendmsg(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    blocking: Blocking,
) -> io::Result<()> {
    assert!(fds.len() <= FDS_MAX, "at most {FDS_MAX} descriptors in a message");
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the header points to `iov` and `control`, which live through the call; the control buffer has
    // room for FDS_MAX descriptors (16 bytes of header, 32 of numbers), and CMSG_* stay within the length
    // given.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        if !fds.is_empty() {
            let len = u32::try_from(size_of_val(fds)).expect("a few descriptors");
            msg.msg_control = (&raw mut control).cast();
            msg.msg_controllen = libc::CMSG_SPACE(len) as _;
            let cmsg = libc::CMSG_FIRSTHDR(&raw const msg);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(len) as _;
            let data = libc::CMSG_DATA(cmsg).cast::<RawFd>();
            for (n, fd) in fds.iter().enumerate() {
                data.add(n).write_unaligned(fd.as_raw_fd());
            }
        }
        loop {
            let sent =
                libc::sendmsg(socket.as_raw_fd(), &raw const msg, libc::MSG_NOSIGNAL | blocking.flag());
            if sent != -1 {
                return Ok(());
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
    }
}

/// Receives one message and the descriptors beside it. 0 bytes: the other end is gone.
pub fn recvmsg(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    blocking: Blocking,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut fds = Vec::new();
    // SAFETY: as in `sendmsg`; every descriptor the kernel put into the control buffer is new and owned by
    // nobody else.
    let len = unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = (&raw mut control).cast();
        msg.msg_controllen = size_of::<Control>() as _;
        let len = loop {
            let n = libc::recvmsg(socket.as_raw_fd(), &raw mut msg, libc::MSG_CMSG_CLOEXEC | blocking.flag());
            if n != -1 {
                break n.cast_unsigned();
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        };
        let mut cmsg = libc::CMSG_FIRSTHDR(&raw const msg);
        while !cmsg.is_null() {
            if (*cmsg).cmsg_level == libc::SOL_SOCKET && (*cmsg).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(cmsg).cast::<RawFd>();
                let count = ((*cmsg).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                for n in 0..count {
                    fds.push(OwnedFd::from_raw_fd(data.add(n).read_unaligned()));
                }
            }
            cmsg = libc::CMSG_NXTHDR(&raw const msg, cmsg);
        }
        len
    };
    Ok((len, fds))
}

/// Accepts a connection if one waits; the descriptor is not inherited by programs.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: null addresses are allowed; the descriptor returned is new and ours.
    unsafe {
        let fd = libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        );
        Ok(OwnedFd::from_raw_fd(cerr(fd)?))
    }
}

/// The next connection that `accept` gives; none: none waits. What went before it was let in is passed over.
pub fn next_connection<T>(mut accept: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match accept() {
            Ok(connection) => return Ok(Some(connection)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Who is at the other end of a unix socket, as the kernel noted it when they connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// For logs only: numbers are reused.
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// SO_PEERCRED of unix(7).
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let mut cred = MaybeUninit::<libc::ucred>::uninit();
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("a small struct");
    // SAFETY: the buffer and its length belong together; on success the kernel has written the whole struct.
    let cred = unsafe {
        cerr(libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            cred.as_mut_ptr().cast(),
            &raw mut len,
        ))?;
        cred.assume_init()
    };
    Ok(PeerCredentials { pid: cred.pid.cast_unsigned(), uid: cred.uid, gid: cred.gid })
}

/// SO_PEERGROUPS of unix(7): the supplementary groups of whoever is at the other end, as the kernel noted
/// them when they connected.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = vec![0; 32];
    loop {
        let size = groups.len() * size_of::<u32>();
        let mut len =
            libc::socklen_t::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::ERANGE))?;
        // SAFETY: the buffer and its length, in bytes, belong together.
        let result = cerr(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        });
        // So much is there, or would have been if it had fitted.
        let count = len as usize / size_of::<u32>();
        match result {
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0)
            }
            Err(e) => return Err(e),
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
        }
    }
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: fcntl with these commands touches no memory of ours.
    unsafe {
        let flags = cerr(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
        cerr(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags))?;
    }
    Ok(())
}

/// Sends on a stream socket without SIGPIPE. Returns what went out.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    let n = unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Receives from a stream socket without waiting; 0 is the end.
pub fn recv(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    let n =
        unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Closes both directions for every holder of the socket.
pub fn shutdown(socket: BorrowedFd<'_>) {
    // SAFETY: touches no memory; an error means that it is closed already.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Says that nothing more will be sent; the other direction goes on.
pub fn shutdown_write(socket: BorrowedFd<'_>) {
    // SAFETY: touches no memory; an error means that it is closed already.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// TCP_USER_TIMEOUT: for how long what was sent may stay unacknowledged before the connection counts as
/// broken.
pub fn set_user_timeout(socket: BorrowedFd<'_>, timeout_ms: u32) -> io::Result<()> {
    setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, timeout_ms)
}

/// SO_SNDBUF: how much may be on its way, in bytes, as far as the system allows (net.core.wmem_max).
pub fn set_send_buffer(socket: BorrowedFd<'_>, len: u32) -> io::Result<()> {
    setsockopt(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, len)
}

/// SO_LINGER of no time: closed, the connection is forgotten, and its port is free.
pub fn forget_when_closed(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a small number");
    let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
    // SAFETY: the value and its length belong together.
    cerr(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const linger).cast(), len) })
        .map(drop)
}

fn setsockopt(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<u32>()).expect("a small number");
    // SAFETY: the value and its length belong together.
    cerr(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_groups_of_the_other_end_are_its_own() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let ours = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = ours.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let ours: Vec<u32> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!(peer_groups(a.as_fd()).unwrap(), ours);
    }

    #[test]
    fn descriptors_travel_beside_the_bytes() {
        let (a, b) = seqpacket_pair().unwrap();
        let (c, d) = seqpacket_pair().unwrap();
        sendmsg(a.as_fd(), b"hello", &[c.as_fd(), d.as_fd()], Blocking::Wait).unwrap();
        drop(c);
        let mut buf = [0; 16];
        let (n, fds) = recvmsg(b.as_fd(), &mut buf, Blocking::Never).unwrap();
        assert_eq!((&buf[..n], fds.len()), (&b"hello"[..], 2));
        sendmsg(fds[0].as_fd(), b"x", &[], Blocking::Wait).unwrap();
        assert_eq!(recvmsg(d.as_fd(), &mut buf, Blocking::Never).unwrap().0, 1);
        drop(a);
        assert_eq!(recvmsg(b.as_fd(), &mut buf, Blocking::Wait).unwrap().0, 0);
    }
}
