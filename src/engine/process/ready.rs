//! How a running process shows that it is ready, when its spec asks for a probe.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::ring::Ring;
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
    /// A line with this text, looked for from this offset on.
    Line { text: Vec<u8>, from: u64 },
    /// This port accepts a connection; the next attempt is due at that time (monotonic ms).
    Tcp { port: u16, due: u64 },
}

impl Probe {
    /// What to look for in a run whose output begins at `from`.
    pub fn new(readiness: &Readiness, from: u64) -> Self {
        match readiness {
            Readiness::Line(text) => Self::Line { text: text.clone().into_bytes(), from },
            Readiness::Tcp(port) => Self::Tcp { port: *port, due: 0 },
        }
    }

    /// When to probe next.
    pub fn due(&self) -> Option<u64> {
        match self {
            Self::Line { .. } => None,
            Self::Tcp { due, .. } => Some(*due),
        }
    }

    /// Probes; true when it is ready.
    pub fn probe(&mut self, now: u64) -> bool {
        let Self::Tcp { port, due } = self else { return false };
        *due = now + PROBE_MS;
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, *port)), CONNECT).is_ok()
    }

    /// Looks at the output that is new; true when the text is there.
    pub fn reads(&mut self, ring: &Ring<'_>) -> bool {
        let Self::Line { text, from } = self else { return false };
        loop {
            let Ok(read) = ring.read(*from, READ_MAX, StreamKind::Both) else { return false };
            let bytes = read.join();
            if bytes.windows(text.len()).any(|w| w == text.as_slice()) {
                return true;
            }
            // The text may be cut in two: its beginning is looked at again.
            *from = read.next.saturating_sub(text.len() as u64 - 1).max(*from);
            if read.next >= ring.head() {
                return false;
            }
        }
    }
}
