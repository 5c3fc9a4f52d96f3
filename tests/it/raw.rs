//! A client that keeps to no rules: bytes on the service's socket, as a test wants them.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use provost::Error;
use provost::wire::frame::{self, Frames};
use provost::wire::reply::{More, Reply};
use provost::wire::request::{Hello, Request};

use crate::harness::SOON;

/// One message as a frame.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, payload).expect("it fits a frame");
    out
}

/// What a good client says first.
pub fn hello() -> Vec<u8> {
    framed(&Hello::ours().encode())
}

/// One connection.
pub struct Peer {
    socket: UnixStream,
    frames: Frames,
}

impl Peer {
    /// Connected, and nothing said.
    #[track_caller]
    pub fn silent(path: &str) -> Self {
        Self::try_silent(path).unwrap_or_else(|e| panic!("cannot connect to {path}: {e}"))
    }

    /// The same; a full queue of connections is an answer.
    pub fn try_silent(path: &str) -> std::io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(SOON))?;
        socket.set_write_timeout(Some(SOON))?;
        Ok(Self { socket, frames: Frames::new() })
    }

    /// Connected, with the hellos of both sides exchanged.
    #[track_caller]
    pub fn greeted(path: &str) -> Self {
        let mut peer = Self::silent(path);
        peer.send(&hello());
        let answer = peer.hello().expect("the service says hello");
        assert_eq!(answer.error, None, "{answer:?}");
        peer
    }

    /// Sends bytes; that the service has closed already is no failure.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends as much as is taken without waiting, and says how much that was.
    pub fn send_at_once(&mut self, bytes: &[u8]) -> usize {
        self.socket.set_nonblocking(true).expect("a socket");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        self.socket.set_nonblocking(false).expect("a socket");
        sent
    }

    /// A second hand on the same connection, to write while this one reads.
    pub fn writer(&self) -> UnixStream {
        self.socket.try_clone().expect("a descriptor for it")
    }

    /// Says that nothing more comes, and still reads.
    pub fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next frame; none when the service closed the connection.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        let mut buf = [0; 64 << 10];
        loop {
            if let Some(frame) = self.frames.take().expect("the service sends frames") {
                return Some(frame.to_vec());
            }
            match self.socket.read(&mut buf) {
                Ok(0) => return None,
                Ok(n) => self.frames.feed(&buf[..n]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("nothing comes from the service: {e}"),
            }
        }
    }

    /// The service's hello; none when it closed the connection instead.
    #[track_caller]
    pub fn hello(&mut self) -> Option<Hello> {
        self.frame().map(|frame| Hello::decode(&frame).expect("it is a hello"))
    }

    /// The next reply; none when the service closed the connection.
    #[track_caller]
    pub fn reply(&mut self) -> Option<(Reply, More)> {
        self.frame().map(|frame| Reply::decode(&frame).expect("it is a reply"))
    }

    /// Asks, and collects the replies to the last one.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Result<Vec<Reply>, Error> {
        self.ask_bytes(&request.encode())
    }

    /// The same with a message of any bytes.
    #[track_caller]
    pub fn ask_bytes(&mut self, request: &[u8]) -> Result<Vec<Reply>, Error> {
        self.send(&framed(request));
        let mut replies = Vec::new();
        loop {
            let (reply, more) = self.reply().expect("an answer to the request");
            if let Reply::Error(error) = reply {
                return Err(error);
            }
            replies.push(reply);
            if more == More::Last {
                return Ok(replies);
            }
        }
    }

    /// Whether the service has closed the connection, seen without waiting. What it said before is read over.
    pub fn is_closed(&mut self) -> bool {
        let mut buf = [0; 4096];
        self.socket.set_nonblocking(true).expect("a socket");
        let closed = loop {
            match self.socket.read(&mut buf) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(e) => break e.kind() != ErrorKind::WouldBlock,
            }
        };
        self.socket.set_nonblocking(false).expect("a socket");
        closed
    }

    /// Reads to the end that the service makes of it; how long that took.
    #[track_caller]
    pub fn until_closed(&mut self) -> Duration {
        let begin = Instant::now();
        while self.frame().is_some() {}
        begin.elapsed()
    }
}
