//! What processes take of the machine at this moment, as /proc shows it.

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
    let stat = procfs::stat(pid)?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let bytes =
        |key: &str| io.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0);
    Some(Usage {
        cpu_ms: stat.cpu_ticks.saturating_mul(1000) / system::ticks_per_second(),
        memory: stat.pages.saturating_mul(page_size() as u64),
        threads: stat.threads,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
            .map_or(0, |fds| u32::try_from(fds.count()).unwrap_or(u32::MAX)),
        read: bytes("read_bytes:"),
        written: bytes("write_bytes:"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
