//! What processes take of the machine at this moment, as /proc shows it.

use std::collections::HashMap;
use std::fs;

use crate::sys::memory::page_size;
use crate::sys::procfs;
use crate::sys::system;

/// What one process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on processors since it began, ms.
    pub cpu_ms: u64,
    /// Resident memory in bytes, with what it shares with others.
    pub memory: u64,
    pub threads: u32,
    /// Open descriptors; 0 also where we may not look.
    pub descriptors: u32,
    /// Bytes read from and written to storage; 0 also where we may not look.
    pub read: u64,
    pub written: u64,
}

/// What this process takes; none: it is gone.
#[must_use]
pub fn of(pid: u32) -> Option<Usage> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: the first field is the third of proc(5).
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let bytes =
        |key: &str| io.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0);
    let ticks = field(14)?.saturating_add(field(15)?);
    Some(Usage {
        cpu_ms: ticks.saturating_mul(1000) / system::ticks_per_second(),
        memory: field(24)?.saturating_mul(page_size() as u64),
        threads: u32::try_from(field(20)?).unwrap_or(u32::MAX),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
            .map_or(0, |fds| u32::try_from(fds.count()).unwrap_or(u32::MAX)),
        read: bytes("read_bytes:"),
        written: bytes("write_bytes:"),
    })
}

/// Who descends from whom, at one moment.
#[derive(Debug)]
pub struct Families(HashMap<u32, Vec<u32>>);

impl Families {
    /// Looks at all processes.
    #[must_use]
    pub fn look() -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for stat in procfs::pids().into_iter().flatten().filter_map(procfs::stat) {
            children.entry(stat.parent).or_default().push(stat.pid);
        }
        Self(children)
    }

    /// This process and all that descend from it.
    #[must_use]
    pub fn of(&self, pid: u32) -> Vec<u32> {
        let mut family = vec![pid];
        let mut at = 0;
        while let Some(parent) = family.get(at) {
            family.extend(self.0.get(parent).into_iter().flatten());
            at += 1;
        }
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn we_take_something() {
        let before = of(std::process::id()).unwrap();
        assert!(before.memory > 1 << 20 && before.threads > 0 && before.descriptors > 2, "{before:?}");
        let mut sum = 0u64;
        while of(std::process::id()).unwrap().cpu_ms < before.cpu_ms + 20 {
            sum = std::hint::black_box(sum.wrapping_mul(3).wrapping_add(1));
        }
        assert_eq!(of(0), None);
    }

    #[test]
    fn a_family_has_its_grandchildren() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 71801 & echo $!; read _"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        let families = Families::look();
        let found = (families.of(child.id()), families.of(grandchild));
        let _ = Command::new("kill").arg(line.trim()).status();
        drop(child.stdin.take());
        let _ = child.wait();
        assert_eq!(found, (vec![child.id(), grandchild], vec![grandchild]));
        assert!(families.of(std::process::id()).contains(&grandchild));
    }
}
