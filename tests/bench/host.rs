//! What the kernel says about the machine and its processes. A process may end at any moment: then its share
//! is zero.

use std::collections::HashMap;
use std::fs;

/// The machine in one line.
pub fn line() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu =
        field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory_kib = sum_of(&read("/proc/meminfo"), "MemTotal:");
    let load = read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    format!("machine: {count} x {cpu}, {} GiB, Linux {kernel}, load {load} before the run", memory_kib >> 20)
}

/// The processes whose variable `key` begins with `value`, except this one.
pub fn marked(key: &str, value: &str) -> Vec<u32> {
    let prefix = format!("{key}={value}");
    let is_marked = |pid: &u32| {
        let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        bytes.split(|&b| b == 0).any(|variable| variable.starts_with(prefix.as_bytes()))
    };
    pids().filter(|pid| *pid != std::process::id()).filter(is_marked).collect()
}

/// A process and everything below it.
pub fn tree(root: u32) -> Vec<u32> {
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        below.entry(parent(pid).unwrap_or(0)).or_default().push(pid);
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(below.remove(pid).unwrap_or_default());
        at += 1;
    }
    found
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: the state, then the parent.
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The program that a process runs.
pub fn program(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string()).unwrap_or_default()
}

/// What a set of processes takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory in MiB, shared pages counted by their share.
    pub pss_mib: f64,
    pub processes: usize,
    pub threads: usize,
}

/// What these take together.
pub fn usage(pids: &[u32]) -> Usage {
    let mut sum = Usage { processes: pids.len(), ..Usage::default() };
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        sum.pss_mib += sum_of(&text, "Pss:") as f64 / 1024.0;
        sum.threads += fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    }
    sum
}

/// How often these were put on a processor so far, all their threads together: what does nothing is not woken
/// up.
pub fn wakeups(pids: &[u32]) -> u64 {
    let tasks = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten();
    tasks
        .flatten()
        .map(|task| {
            let text = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sum_of(&text, "voluntary_ctxt_switches:") + sum_of(&text, "nonvoluntary_ctxt_switches:")
        })
        .sum()
}

/// Time on a processor so far, in steps of 10 ms.
pub fn processor_ms(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn sum_of(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok();
    text.lines().filter_map(number).sum()
}
