//! One attempt to reach a process over the network: a connection, and over it a request, if the probe is one
//! of HTTP. Nothing here waits: the thread of the process polls the descriptor.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::datagram::connect_at_once;
use crate::sys::listeners;
use crate::sys::poll::PollFd;
use crate::sys::socket::forget_when_closed;
use crate::wire::probes::HttpUrl;

/// The most of an answer that is read before its first line has to be over, in bytes.
const ANSWER_LEN_MAX: usize = 4096;

/// An attempt that is under way.
#[derive(Debug)]
pub struct NetAttempt {
    stream: TcpStream,
    phase: Phase,
    request: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    /// So much of the request is still to go.
    Asking(Vec<u8>),
    Reading(Vec<u8>),
}

/// Who listens at a port before the process is started.
pub fn listeners(port: Option<u16>) -> Vec<u64> {
    port.and_then(|port| inodes(port).ok()).unwrap_or_default()
}

/// Whether somebody listens there who did not before. Where it cannot be seen who listens, that somebody
/// takes connections has to do.
pub fn is_listened_to(port: u16, taken: &[u64]) -> Result<(), String> {
    match inodes(port) {
        Ok(now) if now.is_empty() => Err(format!("nobody listens at port {port}")),
        Ok(now) if now.iter().all(|inode| taken.contains(inode)) => {
            Err(format!("another program had port {port} before the start"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn inodes(port: u16) -> io::Result<Vec<u64>> {
    Ok(listeners::listeners(port)?.into_iter().map(|listener| listener.inode).collect())
}

impl NetAttempt {
    /// Connects to the port of this machine.
    pub fn tcp(port: u16) -> Result<Self, String> {
        Self::begin(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None)
    }

    /// Asks for the URL.
    pub fn http(url: &HttpUrl) -> Result<Self, String> {
        let HttpUrl { host, path, .. } = url;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: provost\r\nConnection: close\r\n\r\n"
        );
        Self::begin(url.address, Some(request.into_bytes()))
    }

    fn begin(address: SocketAddr, request: Option<Vec<u8>>) -> Result<Self, String> {
        let stream = connect_at_once(address).map_err(|e| unconnected(&e))?;
        Ok(Self { stream, phase: Phase::Connecting, request })
    }

    pub fn poll_fd(&self) -> PollFd<'_> {
        let fd: BorrowedFd<'_> = self.stream.as_fd();
        match self.phase {
            Phase::Connecting | Phase::Asking(_) => PollFd::writable(fd),
            Phase::Reading(_) => PollFd::readable(fd),
        }
    }

    /// Goes on as far as it can; none: it is not over. Called when the descriptor is ready.
    pub fn go_on(&mut self) -> Option<Result<(), String>> {
        match self.advance() {
            Ok(over) => over.then_some(Ok(())),
            Err(why) => Some(Err(why)),
        }
    }

    fn advance(&mut self) -> Result<bool, String> {
        loop {
            match &mut self.phase {
                Phase::Connecting => {
                    match self.stream.take_error() {
                        Ok(None) => {}
                        Ok(Some(e)) | Err(e) => return Err(unconnected(&e)),
                    }
                    // Not connected yet, and no error: it is still on its way.
                    let Ok(peer) = self.stream.peer_addr() else { return Ok(false) };
                    // One at a port of the range that the kernel gives out may be connected to itself, if
                    // nobody listens there.
                    if self.stream.local_addr().ok() == Some(peer) {
                        let _ = forget_when_closed(self.stream.as_fd());
                        return Err(format!("nobody listens at port {}", peer.port()));
                    }
                    match self.request.take() {
                        Some(request) => self.phase = Phase::Asking(request),
                        // Closed in order: to many programs a reset is an error, which they log.
                        None => return Ok(true),
                    }
                }
                Phase::Asking(left) => {
                    match self.stream.write(left) {
                        Ok(n) => drop(left.drain(..n)),
                        Err(e) if is_for_later(&e) => return Ok(false),
                        Err(e) => return Err(format!("cannot ask: {e}")),
                    }
                    if left.is_empty() {
                        self.phase = Phase::Reading(Vec::new());
                    }
                }
                Phase::Reading(answer) => {
                    let mut bytes = [0; 512];
                    match self.stream.read(&mut bytes) {
                        Ok(0) => return Err("it closed the connection without an answer".to_owned()),
                        Ok(n) => answer.extend_from_slice(&bytes[..n]),
                        Err(e) if is_for_later(&e) => return Ok(false),
                        Err(e) => return Err(format!("cannot read the answer: {e}")),
                    }
                    if let Some(end) = answer.iter().position(|&b| b == b'\n') {
                        return is_good(&String::from_utf8_lossy(&answer[..end])).map(|()| true);
                    }
                    if answer.len() > ANSWER_LEN_MAX {
                        return Err("its answer is not HTTP".to_owned());
                    }
                }
            }
        }
    }
}

fn is_for_later(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn unconnected(e: &io::Error) -> String {
    format!("cannot connect: {e}")
}

/// `HTTP/1.1 200 OK`
fn is_good(line: &str) -> Result<(), String> {
    let mut words = line.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match words.next().and_then(|status| status.parse::<u16>().ok()).filter(|_| is_http) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("it answers with status {status}")),
        None => Err("its answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, poll, soon};
    use std::net::TcpListener;

    fn outcome(attempt: Result<NetAttempt, String>) -> Result<(), String> {
        let mut attempt = attempt?;
        loop {
            poll::wait(&mut [attempt.poll_fd()], Some(clock::now_ms() + 10_000)).unwrap();
            if let Some(outcome) = attempt.go_on() {
                return outcome;
            }
        }
    }

    fn outcome_of_answer(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/up", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let outcome = outcome(NetAttempt::http(&HttpUrl::parse(&url).unwrap()));
        assert!(server.join().unwrap().starts_with("GET /up HTTP/1.1\r\nHost: 127.0.0.1:"));
        outcome
    }

    #[test]
    fn a_status_decides() {
        assert_eq!(outcome_of_answer("HTTP/1.0 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(outcome_of_answer("HTTP/1.1 503 x\r\n\r\n"), Err("it answers with status 503".into()));
        assert_eq!(outcome_of_answer("SSH-2.0-x\r\n"), Err("its answer is not HTTP".into()));
        assert!(outcome_of_answer("").unwrap_err().contains("without an answer"));
    }

    #[test]
    fn a_port_that_another_one_has_is_no_sign() {
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = foreign.local_addr().unwrap().port();
        assert!(is_listened_to(port, &listeners(Some(port))).is_err());
        // Who came afterwards.
        assert_eq!(is_listened_to(port, &[]), Ok(()));
        assert_eq!(outcome(NetAttempt::tcp(port)), Ok(()));
        drop(foreign);
        soon::until("nobody listens", || is_listened_to(port, &[]).is_err());
        assert!(outcome(NetAttempt::tcp(port)).is_err());
    }

    #[test]
    fn a_connection_that_asks_nothing_ends_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(outcome(NetAttempt::tcp(listener.local_addr().unwrap().port())), Ok(()));
        // After a reset this is an error.
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.read(&mut [0; 8]).map_err(|e| e.kind()), Ok(0));
    }

    #[test]
    fn a_connection_to_itself_is_no_sign() {
        // With only this port to choose from, the kernel connects it to itself. In a network of its own,
        // where the choice disturbs nobody.
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let mut range = range.split_whitespace().map(|n| n.parse::<u16>().unwrap());
        let (first, last) = (range.next().unwrap(), range.next().unwrap());
        let port =
            (first..last).find(|&port| port % 2 == 0 && TcpListener::bind(("127.0.0.1", port)).is_ok());
        assert!((0..100_000).all(|_| outcome(NetAttempt::tcp(port.unwrap())).is_err()));
    }
}
