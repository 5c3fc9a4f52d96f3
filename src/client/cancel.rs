//! Ends what a client waits for, from another thread: for a program that waits on behalf of a client,
//! which may go away.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::wire::error::{Code, Error};

/// Ends what one [`Client`](crate::Client) and what it has handed out wait for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_cancelled: AtomicBool,
    /// What the client waits at.
    socket: Mutex<Weak<UnixStream>>,
}

impl Canceller {
    /// From now on every call of the client fails, the one that it is in included.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        if let Some(socket) = self.0.socket.lock().upgrade() {
            // One that is no longer connected has woken the thread that waited at it.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// The client does something else by now. False: it was cancelled before.
    #[cfg(feature = "gateway")]
    pub(super) fn let_go(&self) -> bool {
        *self.0.socket.lock() = Weak::new();
        // Who cancels while the socket is taken away has shut it down by now, or finds none.
        !self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// The client goes on at this socket. Fails if it is to go on no more.
    pub(super) fn moved_to(&self, socket: &Arc<UnixStream>) -> Result<(), Error> {
        *self.0.socket.lock() = Arc::downgrade(socket);
        // A later cancel finds the socket; an earlier one has left the mark.
        if self.0.is_cancelled.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Failed, "the call was cancelled"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_wait_ends_and_none_begins() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (canceller, ours) = (Canceller::default(), Arc::new(ours));
        canceller.moved_to(&ours).unwrap();
        let other = canceller.clone();
        let thread = std::thread::spawn(move || other.cancel());
        assert_eq!((&*ours).read(&mut [0]).unwrap(), 0);
        thread.join().unwrap();
        assert!(canceller.moved_to(&ours).is_err());
    }
}
