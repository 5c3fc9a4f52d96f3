//! Whose a listening port is: what a provider reports has to be its own, or its configuration, and what is
//! asked of it, would go to a stranger.

use std::fmt;
use std::fs;

use crate::wire::id::ProcessId;

/// The state of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";
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

/// Who listens on this port of 127.0.0.1 without being of the process tree of `leader`, whose runs have `id`
/// in their environment. What we may not see is taken for the provider's only if it is of the same user.
pub fn stranger(port: u16, leader: u32, id: ProcessId) -> Option<Stranger> {
    let listeners = listeners(port);
    let inodes: Vec<_> = listeners.iter().map(|(inode, _)| inode.clone()).collect();
    // Mostly so, and seen without a look at everything that runs.
    if has_socket(leader, &inodes) {
        return None;
    }
    let owners: Vec<_> = pids().filter(|&pid| has_socket(pid, &inodes)).collect();
    let is_ours = |&pid: &u32| is_of(pid, leader) || has_id(pid, id);
    match owners.first() {
        Some(_) if owners.iter().any(is_ours) => None,
        Some(&pid) => Some(Stranger::Process(pid)),
        None => {
            let ours = user(leader);
            let others = listeners.iter().map(|&(_, uid)| uid).find(|&uid| Some(uid) != ours);
            others.map(Stranger::OfUser)
        }
    }
}

/// As whom a process runs.
fn user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The inodes of the sockets that a connection to this port of 127.0.0.1 may come to, and whose they are.
fn listeners(port: u16) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| listener(line, port)));
    }
    found
}

fn listener(line: &str, port: u16) -> Option<(String, u32)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, local_port) = fields.next()?.rsplit_once(':')?;
    let is_local = address.bytes().all(|b| b == b'0') || address.ends_with("0100007F");
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?;
    let is_it = is_local && state == LISTENING && u16::from_str_radix(local_port, 16) == Ok(port);
    is_it.then(|| (inode.to_owned(), uid))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_socket(pid: u32, inodes: &[String]) -> bool {
    let sockets: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links
        .filter_map(|link| fs::read_link(link.path()).ok())
        .any(|to| sockets.iter().any(|s| to.as_os_str() == s.as_str()))
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
    use std::net::TcpListener;

    #[test]
    fn a_port_is_its_listeners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ours, id) = (std::process::id(), ProcessId::new());
        assert_eq!(stranger(port, ours, id), None);
        let parent = parent(ours).unwrap();
        assert_eq!(stranger(port, parent, id), None, "a child's is the parent's");
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(stranger(port, other.id(), id), Some(Stranger::Process(ours)));
        drop(listener);
        assert_eq!(stranger(port, other.id(), id), None, "nobody listens");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn lines_of_the_kernels_table_are_read() {
        let line = |address: &str, state: &str| {
            format!(
                "   0: {address}:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0"
            )
        };
        let found = Some(("4711".to_owned(), 1000));
        assert_eq!(listener(&line("0100007F", "0A"), 8080), found);
        assert_eq!(listener(&line("00000000", "0A"), 8080), found);
        assert_eq!(listener(&line("0000000000000000FFFF00000100007F", "0A"), 8080), found);
        for (address, state, port) in
            [("0100007F", "01", 8080), ("0200000A", "0A", 8080), ("0100007F", "0A", 8081)]
        {
            assert_eq!(listener(&line(address, state), port), None);
        }
    }
}
