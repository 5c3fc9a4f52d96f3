//! Tells whoever started the service how it is, by the protocol of sd_notify(3): datagrams to the socket that
//! `NOTIFY_SOCKET` names. Never waits; a message that cannot be sent is dropped, since nobody could be told.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::sys::clock;

/// The variable. Engine and children do not get it: what they said would count as ours.
pub const NOTIFY_KEY: &str = "NOTIFY_SOCKET";

/// The one who is told, if there is one. The keeper's loop owns it.
#[derive(Debug)]
pub struct Notifier(Option<SocketAddr>);

impl Notifier {
    /// As the environment names it.
    pub fn from_env() -> Self {
        Self(std::env::var_os(NOTIFY_KEY).and_then(address))
    }

    /// The service does its work.
    pub fn ready(&self, status: &str) {
        let pid = std::process::id();
        self.send(&format!("READY=1\nMAINPID={pid}\nSTATUS={status}\n"));
    }

    /// It becomes another program; [`ready`](Self::ready) follows, whatever comes of it.
    pub fn reloading(&self) {
        let now_us = clock::now_ns() / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=upgrading\n"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping all processes\n");
    }

    fn send(&self, message: &str) {
        if let Some(address) = &self.0
            && let Ok(socket) = UnixDatagram::unbound()
            && socket.set_nonblocking(true).is_ok()
        {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

fn address(name: OsString) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(&name).ok(),
        // Other kinds of address (vsock) are for virtual machines.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_address_are_understood() {
        let abstract_name = address("@provost".into()).unwrap();
        assert_eq!(abstract_name.as_abstract_name(), Some(&b"provost"[..]));
        assert!(address("/run/systemd/notify".into()).unwrap().as_pathname().is_some());
        for bad in ["", "relative", "vsock:2:1234", "/a\0b"] {
            assert!(address(bad.into()).is_none(), "{bad:?}");
        }
    }
}
