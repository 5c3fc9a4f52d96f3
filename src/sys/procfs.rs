//! What /proc tells of processes. Everything read here may be out of date when it is used; callers that act
//! on it hold a pidfd first and look again.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use crate::sys::errno::is_want;
use crate::sys::system;

/// The kernel's PF_FORKNOEXEC, among the flags of /proc/PID/stat.
const FORKED_ONLY: u64 = 0x40;
/// PF_EXITING: of the first thread.
const EXITING: u64 = 0x4;
/// PF_KTHREAD.
const KERNEL: u64 = 0x20_0000;
/// What proc(5) numbers as the last field that is read here, and one more.
const FIELDS: usize = 52;

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
    /// What it executes, as far as that says something of its environment.
    pub program: Program,
    /// How many threads it has.
    pub threads: u32,
    /// When it started, in clock ticks since boot: with the number, its identity.
    pub start_ticks: u64,
    /// Time on processors since it began, in clock ticks.
    pub cpu_ticks: u64,
    /// Resident memory, in pages.
    pub pages: u64,
}

/// What is known of a process's program by the numbers in /proc/PID/stat, which are all of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// It has none, and gets none: it is the kernel's, or ends.
    Nothing,
    /// Its first thread has ended; the others go on.
    Headless,
    /// The middle of an exec: where the code begins is written after the environment was laid down.
    Between,
    /// It has one, and this many bytes of environment.
    WithEnvironment(u64),
    /// We may not see.
    Hidden,
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

/// How much memory the machine has, in bytes; 0 where it does not tell.
#[must_use]
pub fn memory_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) << 10
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
    let mut words = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = words.next()?.chars().next()?;
    // By their numbers in proc(5). Some may be negative; those are of no use here.
    let mut fields = [None; FIELDS];
    for (number, word) in (4..FIELDS).zip(words) {
        fields[number] = word.parse::<u64>().ok();
    }
    let small = |number: usize| u32::try_from(fields[number]?).ok();
    let (flags, threads) = (fields[9]?, small(20)?);
    let is_ending = flags & EXITING != 0 || state == 'Z';
    let program = match (fields[26], fields[50].zip(fields[51])) {
        _ if flags & KERNEL != 0 || (is_ending && threads <= 1) => Program::Nothing,
        _ if is_ending => Program::Headless,
        (Some(0), _) => Program::Between,
        // 1 stands for what may not be seen.
        (Some(2..), Some((start, end))) => Program::WithEnvironment(end.saturating_sub(start)),
        (Some(_) | None, _) => Program::Hidden,
    };
    Some(Stat {
        pid,
        state,
        parent: small(4)?,
        group: small(5)?,
        session: small(6)?,
        has_executed: flags & FORKED_ONLY == 0,
        program,
        threads,
        start_ticks: fields[22]?,
        cpu_ticks: fields[14]?.saturating_add(fields[15]?),
        pages: fields[24]?,
    })
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

/// The soft limit of locks that a process has; `None`: it has none, or is gone.
pub fn limit_of_locks(pid: u32) -> io::Result<Option<u64>> {
    let mut buf = [0; 4096];
    let read = fs::File::open(format!("/proc/{pid}/limits")).and_then(|mut file| file.read(&mut buf));
    let len = read.map(Some).or_else(is_gone)?.unwrap_or(0);
    let text = String::from_utf8_lossy(&buf[..len]);
    let soft = text.lines().find_map(|line| line.strip_prefix("Max file locks"));
    Ok(soft.and_then(|soft| soft.split_ascii_whitespace().next()?.parse().ok()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        // Field 25 of proc(5) is the last one.
        let text = "12 (a) (b)) S 1 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 777 1 88 1";
        let want = Stat {
            pid: 12,
            state: 'S',
            parent: 1,
            group: 12,
            session: 12,
            has_executed: true,
            program: Program::Hidden,
            threads: 3,
            start_ticks: 777,
            cpu_ticks: 11,
            pages: 88,
        };
        assert_eq!(parse_stat(text), Some(want));
        let forked = text.replace("4194304", "4194368");
        assert_eq!(parse_stat(&forked), Some(Stat { has_executed: false, ..want }));
        assert_eq!(parse_stat("12 (a"), None);
        assert!(Stat { state: 'Z', threads: 1, ..want }.is_zombie());
        assert!(!Stat { state: 'Z', threads: 2, ..want }.is_zombie());
        assert_eq!(stat(std::process::id()).unwrap().pid, std::process::id());
    }

    #[test]
    fn the_middle_of_an_exec_is_seen_by_where_the_code_begins() {
        let program = |state: char, flags: u64, threads: u32, code: u64, env: (u64, u64)| {
            let (before, between) = ("4 5 6 7 8 20 0", " 9".repeat(23));
            let (start, end) = env;
            let numbers =
                format!("{flags} 1 2 3 {before} {threads} 0 777 1 88 1 {code}{between} {start} {end} 0");
            parse_stat(&format!("12 (a) {state} 1 12 12 0 -1 {numbers}")).unwrap().program
        };
        let sound = 0x40_0000;
        assert_eq!(program('S', 0, 1, sound, (7, 9)), Program::WithEnvironment(2));
        assert_eq!(program('S', 0, 1, sound, (7, 7)), Program::WithEnvironment(0));
        assert_eq!(program('S', 0, 1, 0, (7, 7)), Program::Between, "its environment is being laid down");
        assert_eq!(program('S', 0, 1, 0, (0, 0)), Program::Between);
        assert_eq!(program('S', 0, 1, 1, (0, 0)), Program::Hidden);
        assert_eq!(program('R', EXITING, 1, 0, (0, 0)), Program::Nothing);
        assert_eq!(program('Z', EXITING, 1, 0, (0, 0)), Program::Nothing);
        assert_eq!(program('Z', EXITING, 2, 0, (0, 0)), Program::Headless);
        assert_eq!(program('S', KERNEL, 1, 0, (0, 0)), Program::Nothing);
        assert!(matches!(stat(std::process::id()).unwrap().program, Program::WithEnvironment(1..)));
    }
}
