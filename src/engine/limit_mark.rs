//! A mark that no program takes off by chance. Without a cgroup a process is known by its environment, which
//! may be thrown away, and by its parents, who may be gone; but resource limits are inherited over every
//! fork, exec and change of user, and everybody may read them. One of them, RLIMIT_LOCKS, has limited nothing
//! since Linux 2.4.

use std::io;

use uuid::Uuid;

use crate::sys::limits::{self, LOCKS};
use crate::sys::procfs;
use crate::wire::id::ProcessId;

/// No limit that anybody chose is this large.
const BASE: u64 = 1 << 62;

/// What a process and all that it starts have as their soft limit of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitMark(u64);

impl LimitMark {
    #[must_use]
    pub fn new(service: Uuid, id: ProcessId) -> Self {
        let (service, id) = (service.as_u64_pair(), Uuid::from_bytes(*id.as_bytes()).as_u64_pair());
        Self(BASE | ((service.0 ^ service.1 ^ id.0 ^ id.1) & (BASE - 1)))
    }

    /// The one that somebody has, if he has one. An error: we lack the means to look.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let soft = procfs::limit_of_locks(pid)?;
        Ok(soft.filter(|soft| (BASE..2 * BASE).contains(soft)).map(Self))
    }

    /// Adds it to the limits of a launch, unless they have that one, or it may not be so large.
    pub fn put(self, rlimits: &mut Vec<(u32, u64, u64)>) {
        let hard = limits::hard(LOCKS).unwrap_or(0);
        if hard >= self.0 && rlimits.iter().all(|&(resource, ..)| resource != LOCKS) {
            rlimits.push((LOCKS, self.0, hard));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Ends(Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn it_is_read_where_it_was_put() {
        let (service, id) = (Uuid::from_u128(7), ProcessId::new());
        let mark = LimitMark::new(service, id);
        assert_ne!(mark, LimitMark::new(Uuid::from_u128(8), id));
        assert_ne!(mark, LimitMark::new(service, ProcessId::new()));
        let mut rlimits = vec![(limits::NOFILE, 1, 2)];
        mark.put(&mut rlimits);
        mark.put(&mut rlimits);
        let [_, (LOCKS, soft, hard)] = rlimits[..] else { panic!("once, as allowed here: {rlimits:?}") };
        let mut command = Command::new("prlimit");
        let hard = if hard == u64::MAX { "unlimited".to_owned() } else { hard.to_string() };
        command.args([&format!("--locks={soft}:{hard}"), "env", "-i", "cat"]);
        let child = Ends(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
        while LimitMark::of(child.0.id()).unwrap() != Some(mark) {
            std::thread::yield_now();
        }
        assert_eq!(LimitMark::of(std::process::id()).unwrap(), None);
        let mut asked = vec![(LOCKS, 5, 5)];
        mark.put(&mut asked);
        assert_eq!(asked, [(LOCKS, 5, 5)], "what was asked for counts");
    }
}
