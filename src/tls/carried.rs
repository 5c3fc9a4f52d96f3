//! A connection for code that knows nothing of TLS: the plaintext is at the other end of a socket pair, and a
//! thread of its own carries it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::thread;
use crate::tls::pump::{Ended, Unmetered};
use crate::tls::tunnel::{Tunnel, plain_pair};

/// How a connection ended; locked by its pump until then.
pub type HowEnded = Arc<Mutex<Option<Ended>>>;

/// Begins to carry. It ends when the socket that is returned, or the connection, is closed.
pub fn carry(tunnel: Tunnel) -> io::Result<(UnixStream, HowEnded)> {
    let (ours, theirs) = plain_pair()?;
    let ended = HowEnded::default();
    let result = Arc::clone(&ended);
    thread::spawn("tls", move || {
        let mut result = result.lock();
        *result = Some(tunnel.run(theirs, &mut Unmetered));
    })?;
    Ok((ours, ended))
}
