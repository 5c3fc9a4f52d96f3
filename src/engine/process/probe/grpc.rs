//! One attempt by gRPC. The engine has nothing of gRPC in it: the host of providers is asked at its socket,
//! in frames, and makes it. Where the host cannot be asked, nothing is known of the process.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::context::HostWay;
use crate::sys::datagram::connect_to_socket_at_once;
use crate::sys::poll::PollFd;
use crate::wire::error::Code;
use crate::wire::frame::{self, Frames};
use crate::wire::grpc_probe::GrpcProbe;
use crate::wire::reply::Reply;
use crate::wire::request::{Hello, Request};

/// How much longer than the server the host may take to answer, ms.
pub const MARGIN_MS: u64 = 1000;
/// Bytes read at once: an answer is short.
const READ_LEN: usize = 4 << 10;

/// Why nobody has looked.
#[derive(Debug, PartialEq, Eq)]
pub struct Unseen(pub String);

#[derive(Debug)]
pub struct GrpcAttempt {
    stream: UnixStream,
    /// So much of the question is still to go.
    left: Vec<u8>,
    frames: Frames,
    is_greeted: bool,
}

impl GrpcAttempt {
    /// Asks the host, and has it run where it does not.
    pub fn begin(host: &Arc<HostWay>, end: &str, timeout: Duration) -> Result<Self, Unseen> {
        let stream = connect_to_socket_at_once(&host.socket).map_err(|e| {
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                host.want();
            }
            Unseen(format!("the host of providers cannot be asked yet: {e}"))
        })?;
        let probe = Request::GrpcProbe(GrpcProbe { end: end.to_owned(), timeout });
        let mut left = Vec::new();
        for message in [Hello::ours().encode(), probe.encode()] {
            frame::put(&mut left, &message).map_err(|e| Unseen(e.message))?;
        }
        Ok(Self { stream, left, frames: Frames::new(), is_greeted: false })
    }

    pub fn poll_fd(&self) -> PollFd<'_> {
        let fd: BorrowedFd<'_> = self.stream.as_fd();
        if self.left.is_empty() { PollFd::readable(fd) } else { PollFd::writable(fd) }
    }

    /// Goes on as far as it can; none: it is not over. Called when the descriptor is ready.
    pub fn go_on(&mut self) -> Option<Result<Result<(), String>, Unseen>> {
        match self.advance() {
            Ok(answer) => answer.map(Ok),
            Err(e) if is_for_later(&e) => None,
            Err(e) => Some(Err(Unseen(format!("the host of providers has not answered: {e}")))),
        }
    }

    fn advance(&mut self) -> io::Result<Option<Result<(), String>>> {
        while !self.left.is_empty() {
            let sent = self.stream.write(&self.left)?;
            self.left.drain(..sent);
        }
        loop {
            if let Some(payload) = self.frames.take().map_err(io::Error::other)? {
                if self.is_greeted {
                    return of_reply(Reply::decode(payload).map_err(io::Error::other)?.0).map(Some);
                }
                let hello = Hello::decode(payload).map_err(io::Error::other)?;
                if let Some(e) = hello.error {
                    return Err(io::Error::other(e));
                }
                self.is_greeted = true;
                continue;
            }
            let read = self.stream.read(self.frames.room(READ_LEN))?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.frames.add(read);
        }
    }
}

/// Done, or what the server says; every other answer is about the host itself.
fn of_reply(reply: Reply) -> io::Result<Result<(), String>> {
    match reply {
        Reply::Done => Ok(Ok(())),
        Reply::Error(e) if e.code == Code::Failed => Ok(Err(e.message)),
        Reply::Error(e) => Err(io::Error::other(e)),
        _ => Err(io::Error::other("its answer is to another question")),
    }
}

fn is_for_later(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Error;
    use crate::wire::reply::More;

    /// What comes of an attempt that hears these bytes.
    fn outcome(bytes: &[u8]) -> Result<Result<(), String>, Unseen> {
        let (stream, mut host) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut attempt =
            GrpcAttempt { stream, left: b"?".to_vec(), frames: Frames::new(), is_greeted: false };
        assert_eq!(attempt.go_on(), None, "nothing has come yet");
        host.write_all(bytes).unwrap();
        drop(host);
        attempt.go_on().unwrap()
    }

    fn frames(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| frame::put(&mut bytes, message).unwrap());
        bytes
    }

    #[test]
    fn only_what_the_server_says_is_said_of_the_process() {
        let hello = Hello::ours().encode();
        let reply = |reply: Reply| frames(&[hello.clone(), reply.encode(More::Last)]);
        assert_eq!(outcome(&reply(Reply::Done)), Ok(Ok(())));
        let failed = Reply::Error(Error::new(Code::Failed, "it is not serving"));
        assert_eq!(outcome(&reply(failed)), Ok(Err("it is not serving".into())));
        let refused = Reply::Error(Error::new(Code::Refused, "not here"));
        let no = Hello { error: Some(Error::new(Code::Refused, "full")), ..Hello::ours() };
        for bytes in [reply(refused), frames(&[no.encode()]), frames(&[hello]), b"GET / HTTP/1.1".to_vec()] {
            assert!(outcome(&bytes).is_err());
        }
    }
}
