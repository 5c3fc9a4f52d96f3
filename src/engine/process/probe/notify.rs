//! The socket at which a process says how it is, as sd_notify(3) does. Its name is the kernel's own kind, in
//! no directory; each process has one of its own, for all its runs, and the keeper holds it too: what is said
//! while there is no engine waits in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::sys::datagram::{pass_credentials, receive};
use crate::sys::socket::PeerCredentials;
use crate::wire::id::ProcessId;

/// The longest message that is read whole, in bytes: as systemd has it.
const MESSAGE_LEN_MAX: usize = 4096;

/// Receives what a process says.
#[derive(Debug)]
pub struct NotifySocket(UnixDatagram);

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Ready,
    Stopping,
    /// A sentence on how it is.
    Status(String),
    /// It is well.
    Watchdog,
    /// It is not, and says so itself.
    Unwell,
    /// It needs so much longer.
    Extend(Duration),
    /// Its main process has this number.
    MainPid(u32),
}

impl NotifySocket {
    pub fn create(id: ProcessId) -> io::Result<Self> {
        // A number of its own: an engine before this one may still have the last socket.
        let name = format!("provost/notify/{id}/{}", ProcessId::new().short());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        Self::of(socket)
    }

    /// The one that the keeper has kept.
    pub fn inherited(socket: OwnedFd) -> io::Result<Self> {
        Self::of(UnixDatagram::from(socket))
    }

    fn of(socket: UnixDatagram) -> io::Result<Self> {
        pass_credentials(socket.as_fd())?;
        Ok(Self(socket))
    }

    /// As NOTIFY_SOCKET has it: `@` stands for the NUL in front of such names.
    pub fn name(&self) -> Option<String> {
        let address = self.0.local_addr().ok()?;
        Some(format!("@{}", String::from_utf8(address.as_abstract_name()?.to_vec()).ok()?))
    }

    /// The next message, and who sent it; none: nothing is there. What somebody sends whom the kernel does
    /// not name is passed over.
    pub fn next(&self) -> Option<(Vec<Word>, PeerCredentials)> {
        let mut bytes = [0; MESSAGE_LEN_MAX];
        loop {
            match receive(self.0.as_fd(), &mut bytes) {
                Ok((len, Some(sender))) => return Some((words(&bytes[..len]), sender)),
                Ok((_, None)) => {}
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lines of KEY=VALUE; those of other keys are for others.
fn words(message: &[u8]) -> Vec<Word> {
    let text = String::from_utf8_lossy(message);
    let word = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Word::Ready),
        ("STOPPING", "1") => Some(Word::Stopping),
        ("STATUS", status) => Some(Word::Status(status.chars().filter(|c| !c.is_control()).collect())),
        ("WATCHDOG", "1") => Some(Word::Watchdog),
        ("WATCHDOG", "trigger") => Some(Word::Unwell),
        ("MAINPID", pid) => Some(Word::MainPid(pid.parse().ok()?)),
        ("EXTEND_TIMEOUT_USEC", us) => Some(Word::Extend(Duration::from_micros(us.parse().ok()?))),
        _ => None,
    };
    text.lines().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_with_its_sender() {
        let socket = NotifySocket::create(ProcessId::new()).unwrap();
        let name = socket.name().unwrap();
        let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to_addr(b"STATUS=half way\nREADY=1\nX=1\nEXTEND_TIMEOUT_USEC=5000", &address).unwrap();
        let (words, from) = socket.next().unwrap();
        let extend = Word::Extend(Duration::from_millis(5));
        assert_eq!(words, [Word::Status("half way".into()), Word::Ready, extend]);
        assert_eq!(from.pid, std::process::id());
        assert!(socket.next().is_none());
    }

    #[test]
    fn rubbish_says_nothing() {
        assert!(words(b"READY\nREADY=0\nEXTEND_TIMEOUT_USEC=-1\nMAINPID=-1\nMAINPID=x\n\xff\0=").is_empty());
        assert_eq!(words(b"WATCHDOG=1\nWATCHDOG=trigger"), [Word::Watchdog, Word::Unwell]);
        assert_eq!(words(b"MAINPID=77"), [Word::MainPid(77)]);
    }
}
