//! How a running process shows that it is ready, when its spec asks for a probe.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::ring::{Ring, Source};
use crate::sys::procfs;
use crate::sys::socket::forget_when_closed;
use crate::wire::request::StreamKind;
use crate::wire::spec::Readiness;

/// Between two attempts to connect, ms. Only until it is ready: after that nothing is probed.
const PROBE_MS: u64 = 50;
/// How long one attempt may take. A local port answers at once or not at all.
const CONNECT: Duration = Duration::from_millis(50);
/// The most output looked at in one go, in bytes.
const READ_MAX: u64 = 1 << 20;

/// A readiness probe that has not succeeded yet. The process's thread owns it.
#[derive(Debug)]
pub enum Probe {
    Line(LineProbe),
    /// This port accepts a connection; the next attempt is due at that time (monotonic ms). `taken`: who
    /// listened there before the process was started.
    Tcp {
        port: u16,
        due: u64,
        taken: Vec<u64>,
    },
}

/// A line with this text, looked for from this offset on.
#[derive(Debug)]
pub struct LineProbe {
    text: Vec<u8>,
    from: u64,
    /// The last bytes of each stream: the text may be cut in two, and what the other one says may stand
    /// between its halves.
    ends: [Vec<u8>; 2],
}

/// Who listens at the port of such a probe before the process is started.
pub fn taken(readiness: Option<&Readiness>) -> Vec<u64> {
    match readiness {
        Some(Readiness::Tcp(port)) => procfs::listeners(*port).unwrap_or_default(),
        Some(Readiness::Line(_)) | None => Vec::new(),
    }
}

impl Probe {
    /// What to look for in a run whose output begins at `from`.
    pub fn new(readiness: &Readiness, from: u64, taken: &[u64]) -> Self {
        match readiness {
            Readiness::Line(text) => Self::Line(LineProbe {
                text: text.clone().into_bytes(),
                from,
                ends: [Vec::new(), Vec::new()],
            }),
            Readiness::Tcp(port) => Self::Tcp { port: *port, due: 0, taken: taken.to_vec() },
        }
    }

    /// When to probe next.
    pub fn due(&self) -> Option<u64> {
        match self {
            Self::Line(_) => None,
            Self::Tcp { due, .. } => Some(*due),
        }
    }

    /// Probes; true when it is ready.
    pub fn probe(&mut self, now: u64) -> bool {
        let Self::Tcp { port, due, taken } = self else { return false };
        *due = now + PROBE_MS;
        // A program that will not be able to have the port is not ready because another one has it. Where it
        // cannot be seen who listens, that somebody takes connections has to do.
        let is_there = procfs::listeners(*port).map(|now| now.iter().any(|inode| !taken.contains(inode)));
        is_there.unwrap_or(true) && accepts(*port)
    }

    /// Looks at the output that is new; true when the text is there.
    pub fn reads(&mut self, ring: &Ring<'_>) -> bool {
        if let Self::Line(probe) = self { probe.reads(ring) } else { false }
    }
}

impl LineProbe {
    fn reads(&mut self, ring: &Ring<'_>) -> bool {
        loop {
            let Ok(read) = ring.read(self.from, READ_MAX, StreamKind::Both) else { return false };
            if read.missed > 0 {
                self.ends = [Vec::new(), Vec::new()];
            }
            for piece in &read.pieces {
                if self.finds(piece.source, &read.bytes(piece)) {
                    return true;
                }
            }
            self.from = read.next;
            if read.next >= ring.head() {
                return false;
            }
        }
    }

    /// The text has no end of a line in it: where it is found within one stream, it is within a line.
    fn finds(&mut self, source: Source, bytes: &[u8]) -> bool {
        let end = &mut self.ends[usize::from(source == Source::Stderr)];
        end.extend_from_slice(bytes);
        if end.windows(self.text.len()).any(|w| w == self.text.as_slice()) {
            return true;
        }
        end.drain(..end.len().saturating_sub(self.text.len() - 1));
        false
    }
}

/// Whether the port takes a connection. One at a port of the range that the kernel gives out may be connected
/// to itself, if nobody listens there; and would keep the program from having its port.
fn accepts(port: u16) -> bool {
    let connected = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT);
    let Ok(stream) = connected else { return false };
    let is_its_own = stream.local_addr().ok() == stream.peer_addr().ok();
    // Best without a trace: nothing of it keeps the port.
    let _ = forget_when_closed(stream.as_fd());
    !is_its_own
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_line_is_found_in_one_stream_whatever_the_other_says_between() {
        let readiness = Readiness::Line("server ready".to_owned());
        let Probe::Line(mut probe) = Probe::new(&readiness, 0, &[]) else { panic!("a line") };
        assert!(!probe.finds(Source::Stdout, b"server "));
        assert!(!probe.finds(Source::Stderr, b"ready\nserver rea"), "of two streams");
        assert!(!probe.finds(Source::Stdout, b"rea"));
        assert!(probe.finds(Source::Stdout, b"dy\n"), "in three pieces");
        assert!(probe.finds(Source::Stderr, b"dy"));
    }

    #[test]
    fn a_port_that_another_one_has_is_no_sign() {
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = foreign.local_addr().unwrap().port();
        let readiness = Readiness::Tcp(port);
        let taken = taken(Some(&readiness));
        assert!(!Probe::new(&readiness, 0, &taken).probe(0));
        // Who came afterwards.
        assert!(Probe::new(&readiness, 0, &[]).probe(0));
        drop(foreign);
        assert!(!Probe::new(&readiness, 0, &taken).probe(0));
    }

    #[test]
    fn a_connection_to_itself_is_no_sign() {
        // With only this port to choose from, the kernel connects it to itself. In a network of its own,
        // where the choice disturbs nobody.
        let accepts = |port| (0..200_000).any(|_| accepts(port));
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let mut range = range.split_whitespace().map(|n| n.parse::<u16>().unwrap());
        let (first, last) = (range.next().unwrap(), range.next().unwrap());
        let port =
            (first..last).find(|&port| port % 2 == 0 && TcpListener::bind(("127.0.0.1", port)).is_ok());
        assert!(!accepts(port.unwrap()));
    }
}
