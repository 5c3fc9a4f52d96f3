//! The gateway's way to its service: one end of a socket pair, over which it hands connections to the engine,
//! as descriptors. Nobody else has that end, so the engine knows who they are from.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use crate::client::link::{Fault, HOST_AGAIN, HOST_TIMEOUT, Link, TIMEOUT};
use crate::sys::clock;
use crate::sys::poll::{self, PollFd, Wait};
use crate::sys::socket::{Blocking, sendmsg};
use crate::wire::error::{Code, Error};
use crate::wire::provider::HOST;
use crate::wire::reply::{More, Reply};
use crate::wire::request::{Request, Until, Wait as WaitFor};
use crate::wire::time::millis;

/// The byte that goes with a connection: nothing is said by it.
const BYTE: &[u8] = &[0];

#[derive(Debug)]
pub(super) struct Pair {
    end: OwnedFd,
    /// Where the service listens, for messages.
    pub shown: PathBuf,
}

impl Pair {
    pub fn new(end: OwnedFd, shown: PathBuf) -> Self {
        Self { end, shown }
    }

    /// A connection to the engine. While there is none, it waits for the next one.
    pub fn connect(&self) -> Result<Link, Error> {
        let unreachable =
            |e: io::Error| Error::new(Code::Unreachable, format!("the service is not reachable: {e}"));
        let (ours, theirs) = UnixStream::pair().map_err(|e| Error::failed("make a socket pair", &e))?;
        let deadline = clock::now_ms() + millis(TIMEOUT);
        loop {
            match sendmsg(self.end.as_fd(), BYTE, &[theirs.as_fd()], Blocking::Never) {
                Ok(()) => return Ok(Link::over(ours)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(unreachable(e)),
            }
            let mut fds = [PollFd::writable(self.end.as_fd())];
            if poll::wait(&mut fds, Some(deadline)).map_err(unreachable)? == Wait::Deadline {
                return Err(unreachable(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    /// A connection to the host of providers, which the engine makes and runs, where it does not run yet.
    pub fn connect_to_host(&self) -> Result<Link, Error> {
        let mut engine = self.connect()?;
        let deadline = clock::now_ms() + millis(HOST_TIMEOUT);
        while clock::now_ms() < deadline {
            if let Some(host) = ask_for_host(&mut engine)? {
                return Ok(host);
            }
            // It is about to begin, or has just ended and the engine is about to notice.
            thread::sleep(HOST_AGAIN);
            let (targets, timeout) = (vec![HOST.to_owned()], Some(HOST_TIMEOUT));
            ask(&mut engine, &Request::Wait(WaitFor { targets, until: Until::Ready, timeout }))?;
        }
        Err(Error::new(Code::Unreachable, "the host of providers is not reachable")
            .hint("see 'provost why provost.host'"))
    }
}

/// None while the host does not listen yet.
fn ask_for_host(engine: &mut Link) -> Result<Option<Link>, Error> {
    ask(engine, &Request::Host)?;
    Ok(engine.take_shared().pop().map(|host| Link::over(UnixStream::from(host))))
}

/// Asks for something on a connection of its own, and has an error if any item has one.
fn ask(engine: &mut Link, request: &Request) -> Result<(), Error> {
    let failed = |fault| match fault {
        Fault::Final(e) => e,
        Fault::Unsent(e) | Fault::Broken(e) => {
            Error::new(Code::Unreachable, format!("the service has ended the connection: {e}"))
        }
        Fault::Silent(_) => Error::new(Code::Unreachable, "the service does not answer"),
    };
    engine.send(request, None, None).map_err(failed)?;
    loop {
        let timeout = HOST_TIMEOUT + TIMEOUT;
        let (reply, more) = engine.receive(Some(timeout)).map_err(failed)?;
        match reply {
            Reply::Error(e) => return Err(e),
            Reply::Item(item) => item.error.map_or(Ok(()), Err)?,
            _ => {}
        }
        if more == More::Last {
            return Ok(());
        }
    }
}
