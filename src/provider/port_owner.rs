//! Whose a listening port is: what a provider reports has to be its own, or its configuration, and what is
//! asked of it, would go to a stranger.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::sys::listeners::{Listener, listeners};
use crate::wire::id::ProcessId;

/// How many parents up a process of the provider's may be.
const ANCESTORS_MAX: usize = 64;

/// Who listens on a port that is not a provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    Process(u32),
    /// A process that we may not see, of this user.
    OfUser(u32),
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::OfUser(uid) => write!(f, "a process of user {uid}"),
        }
    }
}

/// Why there is no connection to a provider.
#[derive(Debug)]
pub enum NotConnected {
    /// Its port is another's.
    Taken {
        port: u16,
        by: Stranger,
    },
    Failed(io::Error),
}

impl From<io::Error> for NotConnected {
    fn from(e: io::Error) -> Self {
        Self::Failed(e)
    }
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { port, by } => {
                write!(f, "port {port} belongs to {by}, which is not of this provider")
            }
            Self::Failed(e) => e.fmt(f),
        }
    }
}

/// A port of 127.0.0.1 that a provider has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub number: u16,
    /// The provider's process, whose tree the listener has to be of.
    pub leader: u32,
    /// What all processes of that tree have in their environment.
    pub id: ProcessId,
}

impl Port {
    /// A connection that has come to the provider: the same listeners of its own were there before and after,
    /// so that nobody has taken the port in between.
    pub fn connect(self, timeout: Duration) -> Result<TcpStream, NotConnected> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.number));
        self.connect_by(|| TcpStream::connect_timeout(&address, timeout))
    }

    fn connect_by(self, connect: impl FnOnce() -> io::Result<TcpStream>) -> Result<TcpStream, NotConnected> {
        let before = self.listeners()?;
        let stream = connect()?;
        let after = self.listeners()?;
        if after.is_empty() {
            let e = io::Error::new(io::ErrorKind::ConnectionReset, "nobody listens there any more");
            return Err(e.into());
        }
        if after != before {
            // It may have begun to listen just now.
            let e = io::Error::new(io::ErrorKind::ConnectionRefused, "another socket listens there now");
            return Err(e.into());
        }
        Ok(stream)
    }

    /// The inodes of those that listen there, if each is one of the provider's. What we may not see is taken
    /// for it only if it is of the same user.
    fn listeners(self) -> Result<Vec<u64>, NotConnected> {
        let listeners = listeners(self.number)?.into_iter().filter(Listener::is_at_loopback);
        let listeners: Vec<_> = listeners.map(|listener| (listener.inode, listener.uid)).collect();
        // Mostly all of them, and seen without a look at everything that runs.
        let sockets = sockets(self.leader);
        let others: Vec<_> = listeners.iter().filter(|(inode, _)| !sockets.contains(inode)).collect();
        if !others.is_empty() {
            let by_process: Vec<_> = pids().map(|pid| (pid, self::sockets(pid))).collect();
            for (inode, uid) in others {
                let has_it = |(_, sockets): &&(u32, Vec<u64>)| sockets.contains(inode);
                let owners: Vec<_> = by_process.iter().filter(has_it).map(|(pid, _)| *pid).collect();
                let by = match owners.first() {
                    Some(_) if owners.iter().any(|&pid| is_of(pid, self.leader) || has_id(pid, self.id)) => {
                        continue;
                    }
                    Some(&pid) => Stranger::Process(pid),
                    None if Some(*uid) == user(self.leader) => continue,
                    None => Stranger::OfUser(*uid),
                };
                if self.is_ending(*inode, by)? {
                    let e = io::Error::new(io::ErrorKind::ConnectionReset, "who listened there has ended");
                    return Err(e.into());
                }
                return Err(NotConnected::Taken { port: self.number, by });
            }
        }
        let mut inodes: Vec<_> = listeners.into_iter().map(|(inode, _)| inode).collect();
        inodes.sort_unstable();
        Ok(inodes)
    }
}

impl Port {
    /// Whether what looks like a stranger's listener is one that just goes: of the provider, or of nobody in
    /// a moment.
    fn is_ending(self, inode: u64, by: Stranger) -> io::Result<bool> {
        let owner = if let Stranger::Process(pid) = by { pid } else { self.leader };
        Ok(!has_memory(owner) || listeners(self.number)?.iter().all(|listener| listener.inode != inode))
    }
}

/// Whether it is more than the rest of a process: what ends gives up its memory, and with that its
/// environment, before its descriptors.
fn has_memory(pid: u32) -> bool {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    pages.split(' ').next().is_some_and(|pages| !pages.is_empty() && pages != "0")
}

/// As whom a process runs.
fn user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The inodes of the sockets that a process has, as far as we may see.
fn sockets(pid: u32) -> Vec<u64> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode =
        |to: std::path::PathBuf| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(|link| inode(fs::read_link(link.path()).ok()?)).collect()
}

/// Whether a process is `leader` or comes from it.
fn is_of(mut pid: u32, leader: u32) -> bool {
    for _ in 0..ANCESTORS_MAX {
        if pid == leader {
            return true;
        }
        let Some(parent) = parent(pid).filter(|&parent| parent > 1) else { return false };
        pid = parent;
    }
    false
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, and ends with the last parenthesis.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn has_id(pid: u32, id: ProcessId) -> bool {
    let wanted = format!("PROVOST_ID={id}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&b| b == 0).any(|variable| variable == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::soon;
    use std::net::TcpListener;

    #[test]
    fn a_port_is_its_listeners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let (ours, id) = (std::process::id(), ProcessId::new());
        let port = |leader| Port { number, leader, id };
        assert_eq!(port(ours).listeners().unwrap().len(), 1);
        let parent = parent(ours).unwrap();
        assert_eq!(port(parent).listeners().unwrap().len(), 1, "a child's is the parent's");
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let others = port(other.id());
        let refused = others.connect_by(|| panic!("nobody is connected to")).unwrap_err();
        let by = Stranger::Process(ours);
        assert!(matches!(refused, NotConnected::Taken { port, by: b } if port == number && b == by));
        // Of the two, one has ended, and is not reaped yet.
        other.kill().unwrap();
        let is_over = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
        while !is_over(other.id()) {
            std::thread::yield_now();
        }
        let inode = port(ours).listeners().unwrap()[0];
        let is_ending = |port: Port, by| port.is_ending(inode, by).unwrap();
        assert!(!is_ending(others, Stranger::Process(ours)) && is_ending(others, Stranger::OfUser(0)));
        drop(listener);
        soon::until("nobody listens", || others.listeners().unwrap().is_empty());
        assert!(is_ending(others, Stranger::Process(ours)), "it has just gone");
        other.wait().unwrap();
    }

    /// A listener where another one was closed just now.
    fn bound(address: SocketAddr) -> TcpListener {
        let mut listener = None;
        soon::until("the port is free", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        listener.expect("it was waited for")
    }

    #[test]
    fn who_takes_the_port_in_between_is_not_connected_to() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let port = Port { number: address.port(), leader: std::process::id(), id: ProcessId::new() };
        assert!(port.connect(Duration::from_secs(20)).is_ok());
        let mut second = None;
        let refused = port.connect_by(|| {
            drop(first);
            second = Some(bound(address));
            TcpStream::connect(address)
        });
        assert!(is_refused(refused));
        assert!(port.connect(Duration::from_secs(20)).is_ok(), "it is the provider's own now");
        drop(second);
        soon::until("nobody listens", || port.listeners().unwrap().is_empty());
        let mut late = None;
        let refused = port.connect_by(|| {
            late = Some(bound(address));
            TcpStream::connect(address)
        });
        assert!(is_refused(refused), "nobody was there before");
    }

    fn is_refused(result: Result<TcpStream, NotConnected>) -> bool {
        matches!(result, Err(NotConnected::Failed(e)) if e.kind() == io::ErrorKind::ConnectionRefused)
    }
}
