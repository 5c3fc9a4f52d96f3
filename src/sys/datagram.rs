//! Datagrams with the word of the kernel who sent them, and connections that are begun without waiting.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::sys::cerr;
use crate::sys::socket::PeerCredentials;

/// Space for the control message of one sender, aligned as cmsg(3) wants it. Descriptors that were sent too
/// find no room, and the kernel closes them.
#[repr(C, align(8))]
struct Control([u8; 32]);

/// SO_PASSCRED: from now on the kernel says of every datagram who sent it.
pub fn pass_credentials(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("a small number");
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
    // SAFETY: the value and its length belong together.
    cerr(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), len) }).map(drop)
}

/// Takes one datagram, without waiting: its length, and who sent it. What does not fit is cut off.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<PeerCredentials>)> {
    let mut control = Control([0; 32]);
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the header points to `iov` and `control`, which live through the call; what is read of the
    // control buffer is what the kernel has written, of the size that it names.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = (&raw mut control).cast();
        msg.msg_controllen = size_of::<Control>() as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let len = libc::recvmsg(socket.as_raw_fd(), &raw mut msg, flags);
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        let mut sender = None;
        let cmsg = libc::CMSG_FIRSTHDR(&raw const msg);
        if !cmsg.is_null()
            && (*cmsg).cmsg_level == libc::SOL_SOCKET
            && (*cmsg).cmsg_type == libc::SCM_CREDENTIALS
        {
            let mut cred = MaybeUninit::<libc::ucred>::uninit();
            cred.as_mut_ptr().cast::<u8>().copy_from(libc::CMSG_DATA(cmsg), size_of::<libc::ucred>());
            let cred = cred.assume_init();
            sender = Some(PeerCredentials { pid: cred.pid.cast_unsigned(), uid: cred.uid, gid: cred.gid });
        }
        Ok((len, sender))
    }
}

/// Begins to connect. The stream is writable when that is done, and then its error says how.
pub fn connect_at_once(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the descriptor that is returned is new and ours; each address lives through the call, and its
    // length is its own.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let socket = OwnedFd::from_raw_fd(cerr(libc::socket(family, kind, 0))?);
        let connected = match address {
            SocketAddr::V4(v4) => {
                let mut to: libc::sockaddr_in = std::mem::zeroed();
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_port = v4.port().to_be();
                to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                libc::connect(socket.as_raw_fd(), (&raw const to).cast(), len)
            }
            SocketAddr::V6(v6) => {
                let mut to: libc::sockaddr_in6 = std::mem::zeroed();
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_port = v6.port().to_be();
                to.sin6_addr.s6_addr = v6.ip().octets();
                let len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
                libc::connect(socket.as_raw_fd(), (&raw const to).cast(), len)
            }
        };
        if connected == -1 {
            let e = io::Error::last_os_error();
            if e.raw_os_error() != Some(libc::EINPROGRESS) {
                return Err(e);
            }
        }
        Ok(TcpStream::from(socket))
    }
}

/// Connects to the unix socket of this path, or fails: also where its queue is full, for which connect(2)
/// would wait. The stream does not block.
pub fn connect_to_socket_at_once(path: &Path) -> io::Result<UnixStream> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: the descriptor that is returned is new and ours; the address lives through the call, holds the
    // path and the NUL behind it, and its length is its own.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let socket = OwnedFd::from_raw_fd(cerr(libc::socket(libc::AF_UNIX, kind, 0))?);
        let mut to: libc::sockaddr_un = std::mem::zeroed();
        to.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if bytes.len() >= to.sun_path.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (place, byte) in to.sun_path.iter_mut().zip(bytes) {
            *place = byte.cast_signed();
        }
        let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        cerr(libc::connect(socket.as_raw_fd(), (&raw const to).cast(), len))?;
        Ok(UnixStream::from(socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::soon;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn a_datagram_names_its_sender() {
        let (a, b) = UnixDatagram::pair().unwrap();
        pass_credentials(b.as_fd()).unwrap();
        a.send(b"hello").unwrap();
        let mut bytes = [0; 16];
        let (len, sender) = receive(b.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..len], sender.unwrap().pid), (&b"hello"[..], std::process::id()));
        assert_eq!(receive(b.as_fd(), &mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("provost-full-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut connected = Vec::new();
        let error = loop {
            match connect_to_socket_at_once(&path) {
                Ok(stream) => connected.push(stream),
                Err(e) => break e,
            }
        };
        assert_eq!((error.kind(), connected.is_empty()), (io::ErrorKind::WouldBlock, false));
        drop(listener);
        soon::until("nobody listens", || {
            connect_to_socket_at_once(&path).unwrap_err().kind() == io::ErrorKind::ConnectionRefused
        });
        std::fs::remove_dir_all(&dir).unwrap();
        let error = connect_to_socket_at_once(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_connection_is_begun_to_both_kinds_of_addresses() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let stream = connect_at_once(listener.local_addr().unwrap()).unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(stream.local_addr().unwrap(), from);
        }
    }
}
