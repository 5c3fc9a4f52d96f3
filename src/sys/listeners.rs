//! Who listens at a TCP port of this network: the kernel is asked for that port alone (sock_diag(7)), which
//! takes microseconds however many connections there are. A kernel that cannot be asked has a table to read.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use crate::sys::cerr;
use crate::sys::socket::{recv, send};

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where connections come to it.
    pub address: IpAddr,
    /// The number in the link that each of its owners has in /proc/PID/fd.
    pub inode: u64,
    /// The user that has made it.
    pub uid: u32,
}

impl Listener {
    /// Whether a connection to 127.0.0.1 may come to it.
    #[must_use]
    pub fn is_at_loopback(&self) -> bool {
        let address = self.address.to_canonical();
        address.is_unspecified() || address == IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}

/// Those that listen at a port. An error: there is no way to know.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    asked(port).or_else(|_| read(port))
}

/// The header of a netlink message, and in a request what is asked; see linux/netlink.h, linux/inet_diag.h.
const HEADER_LEN: usize = 16;
const REQUEST_LEN: usize = HEADER_LEN + 56;
/// What describes one socket, without the attributes behind it.
const SOCKET_LEN: usize = 72;
/// What sockets are asked about and told by; linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// TCP_LISTEN, as include/net/tcp_states.h numbers it.
const LISTEN: u32 = 10;
/// More than the kernel puts into one datagram.
const DATAGRAM_LEN_MAX: usize = 32 << 10;

fn asked(port: u16) -> io::Result<Vec<Listener>> {
    // SAFETY: makes a descriptor, which nobody else owns.
    let socket = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        OwnedFd::from_raw_fd(cerr(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG))?)
    };
    let mut found = Vec::new();
    let mut datagram = vec![0; DATAGRAM_LEN_MAX];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = request(u8::try_from(family).expect("a small number"), port);
        send(socket.as_fd(), &request)?;
        // The answer is there when the request is: the kernel gives it on each call that takes some of it.
        loop {
            let len = recv(socket.as_fd(), &mut datagram)?;
            match take(&datagram[..len], port, &mut found) {
                Ok(true) => break,
                Ok(false) => {}
                // A kernel without IPv6.
                Err(e) if family == libc::AF_INET6 && e.raw_os_error() == Some(libc::ENOENT) => break,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(found)
}

/// A dump of all TCP sockets of a family that listen at a port.
fn request(family: u8, port: u16) -> [u8; REQUEST_LEN] {
    let mut out = [0; REQUEST_LEN];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &u32::try_from(REQUEST_LEN).expect("a small number").to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).expect("two bits").to_ne_bytes());
    put(HEADER_LEN, &[family, u8::try_from(libc::IPPROTO_TCP).expect("a small number")]);
    put(HEADER_LEN + 4, &(1u32 << LISTEN).to_ne_bytes());
    put(HEADER_LEN + 8, &port.to_be_bytes());
    out
}

/// Takes what one datagram tells; whether it was the last.
fn take(mut datagram: &[u8], port: u16, found: &mut Vec<Listener>) -> io::Result<bool> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not understood");
    while !datagram.is_empty() {
        let len = number(datagram, 0).and_then(|len| usize::try_from(len).ok()).ok_or_else(bad)?;
        let message = datagram.get(..len).filter(|m| m.len() >= HEADER_LEN).ok_or_else(bad)?;
        let body = &message[HEADER_LEN..];
        match i32::from(u16::from_ne_bytes([message[4], message[5]])) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let errno = number(body, 0).ok_or_else(bad)?.cast_signed().wrapping_neg();
                return Err(io::Error::from_raw_os_error(errno));
            }
            kind if kind == i32::from(SOCK_DIAG_BY_FAMILY) => {
                let socket = body.get(..SOCKET_LEN).ok_or_else(bad)?;
                found.extend(listener(socket, port));
            }
            _ => return Err(bad()),
        }
        datagram = &datagram[len.next_multiple_of(4).min(datagram.len())..];
    }
    Ok(false)
}

/// `struct inet_diag_msg`. An old kernel may tell of other ports, too.
fn listener(socket: &[u8], port: u16) -> Option<Listener> {
    let at = |from: usize| number(socket, from);
    let address = match i32::from(socket[0]) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(&socket[8..12]).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(&socket[8..24]).ok()?),
    };
    let is_it = u32::from(socket[1]) == LISTEN && socket[4..6] == port.to_be_bytes();
    is_it.then_some(Listener { address, uid: at(64)?, inode: at(68)?.into() })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn read(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = read_table("/proc/thread-self/net/tcp", port)?;
    match read_table("/proc/thread-self/net/tcp6", port) {
        Ok(more) => found.extend(more),
        // A kernel without IPv6.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(found)
}

fn read_table(table: &str, port: u16) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    // Those that listen come first: connections, of which there may be very many, are not read.
    for line in BufReader::new(File::open(table)?).lines().skip(1) {
        let Some((at, listener)) = line_of(&line?) else { break };
        if at == port {
            found.push(listener);
        }
    }
    Ok(found)
}

/// A port, and who listens there; none: it is no socket that listens.
fn line_of(line: &str) -> Option<(u16, Listener)> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.rsplit_once(':')?;
    (fields.nth(1)? == "0A").then_some(())?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    // Each four bytes are a number of the machine's own order.
    let words = address.as_bytes().chunks(8).filter(|word| word.len() == 8).map(|word| {
        let text = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?)),
    };
    Some((u16::from_str_radix(port, 16).ok()?, Listener { address, inode, uid }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::soon;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    /// Who listens there, by both ways to know. Other tests may have the port at other addresses.
    fn both(at: SocketAddr) -> [Vec<Listener>; 2] {
        [asked(at.port()).unwrap(), read(at.port()).unwrap()]
            .map(|found| found.into_iter().filter(|listener| listener.address == at.ip()).collect())
    }

    fn inode(listener: &TcpListener) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn who_listens_at_a_port_is_found() {
        // SAFETY: touches no memory.
        let uid = unsafe { libc::geteuid() };
        for (at, is_at_loopback) in [
            ("127.0.0.1:0", true),
            ("0.0.0.0:0", true),
            ("127.0.0.2:0", false),
            ("[::1]:0", false),
            ("[::]:0", true),
        ] {
            // Without IPv6 there is nothing to find.
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let address = listener.local_addr().unwrap();
            let _connected = TcpStream::connect(address).unwrap();
            let found = both(address);
            let expected = Listener { address: address.ip(), inode: inode(&listener), uid };
            assert_eq!(found, [[expected], [expected]]);
            assert_eq!(expected.is_at_loopback(), is_at_loopback, "{at}");
            drop(listener);
            soon::until("it is found no more", || both(address).iter().all(Vec::is_empty));
        }
    }

    #[test]
    fn more_than_one_datagram_is_read() {
        let first = TcpListener::bind("127.1.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let more: Vec<_> = (0..400)
            .map(|n| {
                TcpListener::bind((Ipv4Addr::new(127, 2, (n / 200) as u8, (n % 200) as u8 + 1), port))
                    .unwrap()
            })
            .collect();
        let mut found: Vec<_> = asked(port).unwrap().into_iter().map(|listener| listener.inode).collect();
        let mut expected: Vec<_> = more.iter().chain([&first]).map(inode).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_of_the_kernels_table_are_read() {
        let line = |address: &str, state: &str| {
            format!(
                "   0: {address}:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0"
            )
        };
        let found = |address: &str| {
            line_of(&line(address, "0A")).map(|(port, l)| (port, l.address.to_string(), l.uid, l.inode))
        };
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(found(&format!("{loopback:08X}")), Some((8080, "127.0.0.1".into(), 1000, 4711)));
        assert_eq!(found("00000000"), Some((8080, "0.0.0.0".into(), 1000, 4711)));
        assert_eq!(found(&"0".repeat(32)), Some((8080, "::".into(), 1000, 4711)));
        assert_eq!(found("000000"), None);
        assert_eq!(line_of(&line("00000000", "01")), None);
        assert_eq!(line_of("no line"), None);
    }

    #[test]
    fn an_answer_that_is_not_understood_is_an_error() {
        let mut found = Vec::new();
        for bytes in [
            &[1][..],
            &[0; 16],
            &[200, 0, 0, 0, 20, 0],
            &[18, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 10],
        ] {
            assert!(take(bytes, 1, &mut found).is_err(), "{bytes:?}");
        }
        assert_eq!(found, []);
    }
}
