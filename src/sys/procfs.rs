//! What /proc tells of processes. Everything read here may be out of date when it is used; callers that act
//! on it hold a pidfd first and look again.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::thread;

use crate::sys::clock;
use crate::sys::errno::is_want;
use crate::sys::system;

/// The kernel's PF_FORKNOEXEC, among the flags of /proc/PID/stat.
const FORKED_ONLY: u64 = 0x40;
/// PF_EXITING and PF_KTHREAD: those have no program, and get none.
const WITHOUT_PROGRAM: u64 = 0x4 | 0x20_0000;
/// How long an exec may take from the end of the old program to the environment of the new one, in
/// milliseconds: some microseconds, if nothing else wants the processor.
const EXEC_MS: u64 = 2000;

/// A process as /proc/PID/stat shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    /// 'R', 'S', 'D', 'Z', ...
    pub state: char,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// Whether it runs a program of its own: a fork that has not come to its exec still runs its parent's.
    pub has_executed: bool,
    /// The middle of an exec, as far as we may see: the old program is gone, the new one's environment not
    /// there yet.
    pub is_between_programs: bool,
    /// How many threads it has.
    pub threads: u32,
    /// When it started, in clock ticks since boot: with the number, its identity.
    pub start_ticks: u64,
}

impl Stat {
    /// Whether it is dead and only not reaped yet. A process whose first thread has ended looks like a
    /// zombie, but lives on in the others.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z' && self.threads <= 1
    }

    /// Whether a signal, or a debugger, has halted it.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// Reads /proc/PID/stat; `None`: there is no such process.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    look(pid).ok().flatten()
}

/// The same for those to whom it makes a difference that they cannot look.
pub fn look(pid: u32) -> io::Result<Option<Stat>> {
    // In one read: a size that is not known beforehand would make std read it in small pieces.
    let mut buf = [0; 1024];
    let read = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut buf));
    let len = read.map(Some).or_else(is_gone)?;
    Ok(len.and_then(|len| parse_stat(&String::from_utf8_lossy(&buf[..len]))))
}

fn parse_stat(text: &str) -> Option<Stat> {
    let pid = text.split(' ').next()?.parse().ok()?;
    // The name in parentheses may hold anything; what follows the last one is regular.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let parent = u32::try_from(number()?).ok()?;
    let group = u32::try_from(number()?).ok()?;
    let session = u32::try_from(number()?).ok()?;
    let flags = fields.nth(2)?.parse::<u64>().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    // env_end of proc(5).
    let is_between_programs = flags & WITHOUT_PROGRAM == 0 && state != 'Z' && fields.nth(28) == Some("0");
    let has_executed = flags & FORKED_ONLY == 0;
    Some(Stat { pid, state, parent, group, session, has_executed, is_between_programs, threads, start_ticks })
}

/// The wait status of a process that has ended and is not reaped yet. `None`: it is no such process, or we
/// may not see it, which the kernel shows as a 0.
#[must_use]
pub fn unreaped_status(pid: u32, start_ticks: u64) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let stat = parse_stat(&text).filter(|stat| stat.is_zombie() && stat.start_ticks == start_ticks)?;
    let status = text.split_ascii_whitespace().next_back()?.parse().ok()?;
    (status != 0 || owner(stat.pid)? == system::euid()).then_some(status)
}

/// What an error about one process means: that it is not there, unless it is we who lack the means to look.
pub fn is_gone<T>(e: io::Error) -> io::Result<Option<T>> {
    if is_want(&e) { Err(e) } else { Ok(None) }
}

/// Numbers of all processes.
pub fn pids() -> io::Result<impl Iterator<Item = u32>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// Which user a process belongs to; none: it is gone.
#[must_use]
pub fn owner(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

/// The namespace of process numbers that this process is in, by its inode; none: the kernel does not tell.
#[must_use]
pub fn namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino())
}

/// Whether /proc shows processes by the numbers that they have for us. One that is mounted for another
/// namespace shows others by these numbers.
pub fn is_ours() -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    // Our numbers, from the namespace of this /proc down to our own.
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    Ok(numbers.is_none_or(|numbers| numbers.split_ascii_whitespace().count() == 1))
}

/// Names this boot of the machine; empty where the kernel does not tell.
#[must_use]
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().chars().take(64).collect()
}

/// The environment that a process was started with, each variable ended by NUL; at most 256 KiB of it, and
/// nothing of one that is gone or not ours to see. In the middle of an exec it has none for a moment, which
/// is waited for. An error: we lack the means to look.
pub fn variables(pid: u32) -> io::Result<Vec<u8>> {
    const READ_MAX: u64 = 256 << 10;
    let until = clock::now_ms() + EXEC_MS;
    let mut empty = 0;
    loop {
        let mut env = Vec::new();
        let read = fs::File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(READ_MAX).read_to_end(&mut env));
        if read.map(Some).or_else(is_gone)?.is_none() {
            return Ok(Vec::new());
        }
        if !env.is_empty() {
            return Ok(env);
        }
        let is_between_programs = look(pid)?.is_some_and(|s| s.is_between_programs);
        // Once it may have been the old program's memory, which went between the two calls.
        empty += u32::from(!is_between_programs);
        if empty > 1 || clock::now_ms() >= until {
            return Ok(env);
        }
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        let text = "12 (a) (b)) S 1 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 777 1 1";
        let want = Stat {
            pid: 12,
            state: 'S',
            parent: 1,
            group: 12,
            session: 12,
            has_executed: true,
            is_between_programs: false,
            threads: 3,
            start_ticks: 777,
        };
        assert_eq!(parse_stat(text), Some(want));
        let forked = text.replace("4194304", "4194368");
        assert_eq!(parse_stat(&forked), Some(Stat { has_executed: false, ..want }));
        // The 29th behind the start time is the end of the environment; two are there.
        let exec = |env_end: u64| format!("{text}{} {env_end} 0", " 9".repeat(26));
        assert_eq!(parse_stat(&exec(7)), Some(want));
        assert_eq!(parse_stat(&exec(0)), Some(Stat { is_between_programs: true, ..want }));
        assert_eq!(parse_stat(&exec(0).replace("4194304", "4194308")), Some(want), "it is exiting");
        assert!(!stat(std::process::id()).unwrap().is_between_programs);
        assert_eq!(parse_stat("12 (a"), None);
        assert!(Stat { state: 'Z', threads: 1, ..want }.is_zombie());
        assert!(!Stat { state: 'Z', threads: 2, ..want }.is_zombie());
        assert_eq!(stat(std::process::id()).unwrap().pid, std::process::id());
    }
}
