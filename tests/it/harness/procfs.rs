//! What the kernel says about processes, from /proc. A process may end at any moment, so everything is an
//! option or an empty list.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{LATER, wait};

/// The first fields of /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    /// R, S, D, T, t, Z, ...
    pub state: char,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// Clock ticks (1/100 s) used, user and system together.
    pub ticks: u64,
    /// With the pid it names one process for ever.
    pub started: u64,
}

/// How a process is; none if it is gone.
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: number(1)? as u32,
        group: number(2)? as u32,
        session: number(3)? as u32,
        ticks: number(11)? + number(12)?,
        started: number(19)?,
    })
}

/// Whether a process runs; a zombie does not.
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|s| s.state != 'Z' && s.state != 'X')
}

/// All processes.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| stat(e.file_name().to_str()?.parse().ok()?)).collect()
}

/// The children of a process, zombies included.
pub fn children(pid: u32) -> Vec<Stat> {
    all().into_iter().filter(|s| s.parent == pid).collect()
}

/// Everything below a process, zombies included.
pub fn descendants(pid: u32) -> Vec<Stat> {
    let mut below: HashMap<u32, Vec<Stat>> = HashMap::new();
    for s in all() {
        below.entry(s.parent).or_default().push(s);
    }
    let mut found = Vec::new();
    let mut todo = vec![pid];
    while let Some(parent) = todo.pop() {
        for child in below.remove(&parent).unwrap_or_default() {
            todo.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// The command line, arguments parted by spaces; empty for a zombie.
pub fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}

/// The value of a variable in the environment that a process was started with.
pub fn variable(pid: u32, key: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{key}=");
    let found = bytes.split(|&b| b == 0).find(|v| v.starts_with(prefix.as_bytes()))?;
    Some(String::from_utf8_lossy(&found[prefix.len()..]).into_owned())
}

/// The living processes whose environment holds this.
pub fn with_variable(key: &str, value: &str) -> Vec<u32> {
    let found =
        all().into_iter().filter(|s| s.state != 'Z' && variable(s.pid, key).as_deref() == Some(value));
    found.map(|s| s.pid).collect()
}

/// The living processes whose command line holds this text. For a text that only the test's own children
/// hold.
pub fn with_command(text: &str) -> Vec<u32> {
    all().into_iter().filter(|s| s.state != 'Z' && command(s.pid).contains(text)).map(|s| s.pid).collect()
}

/// How many file descriptors are open.
pub fn fd_count(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What its file descriptors are.
pub fn fds(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = entries.flatten().filter_map(|fd| Some((fd.file_name(), fs::read_link(fd.path()).ok()?)));
    links.map(|(fd, to)| format!("{} {}", fd.display(), to.display())).collect()
}

/// How many threads there are.
pub fn thread_count(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Whether there is a thread of this name.
pub fn has_thread(pid: u32, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.any(|comm| comm.trim_end() == name)
}

/// Of the threads whose name begins so, how many wait in a call of one of the process's descriptors: for an
/// answer, not for work. And how many there are.
pub fn held_up(pid: u32, name: &str) -> (usize, usize) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return (0, 0) };
    let read = |task: &fs::DirEntry, file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
    let is_held_up = |thread: &fs::DirEntry| {
        // The number of the call, its arguments; one word for a thread that runs.
        let call = read(thread, "syscall");
        let fd = call.split(' ').nth(1).and_then(|arg| u32::from_str_radix(arg.strip_prefix("0x")?, 16).ok());
        fd.is_some_and(|fd| fs::exists(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|there| there))
    };
    let threads: Vec<_> = tasks.flatten().filter(|task| read(task, "comm").starts_with(name)).collect();
    (threads.iter().filter(|thread| is_held_up(thread)).count(), threads.len())
}

/// Context switches so far, of both kinds, over all threads: each one is a wake-up.
pub fn switches(pid: u32) -> u64 {
    switches_by_thread(pid).iter().map(|(_, count)| count).sum()
}

fn switches_by_thread(pid: u32) -> Vec<(u64, u64)> {
    let count =
        |text: &str| sum_of(text, "voluntary_ctxt_switches:") + sum_of(text, "nonvoluntary_ctxt_switches:");
    task_statuses(pid).iter().map(|text| (sum_of(text, "Pid:"), count(text))).collect()
}

/// Looks until these have nothing left to do, and returns their context switches. What work took of memory is
/// given back three to six seconds after it, by which they wake up once more.
#[track_caller]
pub fn at_rest(pids: &[u32]) -> u64 {
    // Thread by thread: what one that has ended takes away would hide that another has woken.
    let all = || pids.iter().map(|&pid| switches_by_thread(pid)).collect::<Vec<_>>();
    let mut seen = all();
    wait::until("nothing wakes up any more", LATER, || {
        wait::pass(Duration::from_secs(5));
        let before = std::mem::replace(&mut seen, all());
        before == seen
    });
    pids.iter().map(|&pid| switches(pid)).sum()
}

/// How often the threads of this name have waited so far.
pub fn waits_of(pid: u32, name: &str) -> u64 {
    let is_called = |text: &&String| text.lines().any(|line| line == format!("Name:\t{name}"));
    task_statuses(pid).iter().filter(is_called).map(|text| sum_of(text, "voluntary_ctxt_switches:")).sum()
}

fn task_statuses(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect()
}

/// What a process has of memory for itself, in KiB: its share without the files that it maps. Of those, a
/// program that was built for tests has far more than one that is installed.
pub fn private_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    sum_of(&text, "Pss:").saturating_sub(sum_of(&text, "Pss_File:"))
}

/// What of its files, its own code above all, is in the memory of a process, in KiB.
pub fn files_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    sum_of(&text, "RssFile:")
}

/// Resident memory in KiB.
pub fn rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    sum_of(&text, "VmRSS:")
}

/// A line of /proc/PID/status, without its key.
pub fn status_line(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let prefix = format!("{key}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).map(|rest| rest.trim().to_owned())
}

fn sum_of(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok();
    text.lines().filter_map(number).sum()
}

/// Sends a signal, by its name or number. A process that is gone is no failure.
pub fn signal(signal: &str, pid: u32) {
    assert!(pid > 1, "a signal to pid {pid} would hit more than one process");
    let status = Command::new("kill")
        .args(["-s", signal, "--", &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("kill(1) is installed");
}

/// Sets how many descriptors a process may have. Another user's limits are not everywhere root's to change:
/// this is done as the process's own user.
#[track_caller]
pub fn limit_descriptors(pid: u32, count: &str) {
    let id = |key| {
        let ids = status_line(pid, key).expect("it runs");
        ids.split_whitespace().next().expect("there are four").to_owned()
    };
    let mut command = Command::new("env");
    if id("Uid") != "0" && status_line(std::process::id(), "Uid").is_some_and(|ids| ids.starts_with("0\t")) {
        command.args(["setpriv", "--reuid", &id("Uid"), "--regid", &id("Gid"), "--clear-groups", "--"]);
    }
    command.args(["prlimit", "--pid", &pid.to_string(), &format!("--nofile={count}:")]);
    let ended = command.output().expect("env is there");
    assert!(ended.status.success(), "{ended:?}");
}

/// The kernel's version, as far as two numbers say it.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux tells");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).expect("two numbers")
}
