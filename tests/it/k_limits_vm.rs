//! What a process may take of the machine, in a virtual machine whose kernel has the controllers of cgroup
//! v2. One machine is booted for all tests of this file; each looks at its part of what the script there has
//! said.

use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::vm;

/// The script: its functions, then the parts, each behind a line `== NAME`.
const SCRIPT: &str = include_str!("k_limits_vm.sh");

/// What was said in a part; none: there is no machine here.
fn part(name: &str) -> Option<&'static str> {
    static SAID: LazyLock<Option<String>> = LazyLock::new(|| match vm::lack() {
        Some(why) => {
            println!("not run: a virtual machine is needed, and {why}");
            None
        }
        None => Some(vm::run(SCRIPT)),
    });
    let all = SAID.as_deref()?;
    let begin = format!("== {name}\n");
    let from = all.find(&begin).unwrap_or_else(|| panic!("there is no part {name} in:\n{all}")) + begin.len();
    let len = all[from..].find("\n== ").map_or(all.len() - from, |at| at + 1);
    println!("{}", &all[from..from + len]);
    Some(&all[from..from + len])
}

/// The line that begins so, without that.
fn line<'a>(part: &'a str, begin: &str) -> &'a str {
    let found = part.lines().find_map(|line| line.strip_prefix(begin));
    found.unwrap_or_else(|| panic!("no line begins with {begin:?}"))
}

fn json(part: &str, begin: &str) -> Value {
    serde_json::from_str(line(part, begin)).expect("it is JSON")
}

#[test]
fn l5_what_takes_more_memory_than_it_may_is_killed_for_that() {
    let Some(part) = part("memory") else { return };
    assert_eq!(line(part, "memory.max: "), "67108864");
    let status = json(part, "json: ");
    assert_eq!(status["limits"]["memory_max"], "64 MiB", "{status}");
    assert_eq!((&status["exit"]["signal"], &status["exit"]["oom"]), (&"SIGKILL".into(), &true.into()));
    assert!(line(part, "status: ").contains("out of memory"), "{part}");
    assert!(line(part, "why: ").contains("out of memory"), "{part}");
}

/// The lines that begin so, without that.
fn lines<'a>(part: &'a str, begin: &str) -> Vec<&'a str> {
    part.lines().filter_map(|line| line.strip_prefix(begin)).collect()
}

#[test]
fn a_limit_that_nobody_sees_to_is_refused_with_the_reason() {
    let Some(poor) = part("not delegated") else { return };
    let start = line(poor, "start: ");
    let why = "memory_max cannot be kept: the controller 'memory' is not handed down to /sys/fs/cgroup/poor";
    assert!(start.contains(why), "{start}");
    assert!(poor.contains("Delegate=yes") && poor.contains("limits_optional"), "the next step: {poor}");
    assert!(line(poor, "doctor: limits: ").starts_with("none"), "{poor}");
    assert!(!line(poor, "status: ").contains("running"), "{poor}");
    let easy = line(poor, "easy: ");
    assert!(
        easy.contains("running") && easy.contains("without its limits: memory_max cannot be kept"),
        "{easy}"
    );
}

#[test]
fn a_cgroup_with_others_in_it_is_called_that() {
    let Some(part) = part("shared") else { return };
    let start = line(part, "start: ");
    assert!(
        start.contains("others are in the service's cgroup /sys/fs/cgroup/shared, too: sleep ("),
        "{start}"
    );
    assert_eq!(line(part, "pids.max: "), "10", "alone, it moves out of the way");
}

#[test]
fn doctor_lists_the_controllers() {
    let Some(part) = part("doctor") else { return };
    assert_eq!(lines(part, "doctor: limits: "), ["memory, cpu, pids, io"]);
}

#[test]
fn a_kill_for_memory_has_its_own_rule_of_restart() {
    let Some(part) = part("policy") else { return };
    let never = line(part, "never: ");
    assert!(never.starts_with("failed after 3 runs") && never.contains("out of memory"), "{never}");
    let always = line(part, "always: ");
    assert!(always.starts_with("stopped after 1 runs") && always.contains("out of memory"), "{always}");
    let plain = line(part, "plain: ");
    assert!(plain.starts_with("failed after 2 runs"), "{plain}");
    assert!(plain.contains("exit code 137, out of memory"), "a shell ends as what it has started: {plain}");
}

#[test]
fn what_is_killed_for_memory_beside_the_process_is_told() {
    let Some(part) = part("child") else { return };
    let said = lines(part, "event: ");
    let detail = "one process of its tree was killed, memory_max is 32 MiB";
    assert!(said.iter().any(|event| event.contains("oom-killed") && event.contains(detail)), "{said:?}");
    assert_eq!(line(part, "state: "), "running");
}

#[test]
fn it_starts_no_more_processes_than_it_may() {
    let Some(part) = part("pids") else { return };
    assert_eq!((line(part, "pids.max: "), line(part, "pids.current: ")), ("4", "4"));
    assert_eq!(line(part, "forks: "), "sh: can't fork: Resource temporarily unavailable");
}

#[test]
fn every_limit_is_written_and_each_instance_has_its_own() {
    let Some(part) = part("all") else { return };
    let total: u64 = line(part, "MemTotal:").trim().trim_end_matches(" kB").parse().unwrap();
    let page = 4096;
    assert_eq!(line(part, "memory.max: "), ((total << 10) / 100 * 50 / page * page).to_string());
    assert_eq!(line(part, "memory.high: "), "104857600");
    assert_eq!((line(part, "cpu.max: "), line(part, "cpu.weight: ")), ("150000 100000", "20"));
    assert!(part.contains("io.weight: default 30"), "{part}");
    assert!(
        part.contains("show: cpu_quota = \"1.5\"") && part.contains("show: memory_max = \"50%\""),
        "{part}"
    );
    assert_eq!(lines(part, "pids.max: "), ["7", "7"]);
}

#[test]
fn limits_are_changed_while_it_runs_and_survive_the_engine() {
    let Some(part) = part("in place") else { return };
    assert_eq!(lines(part, "memory.max: "), ["209715200", "max"]);
    assert_eq!(line(part, "cpu.max: "), "50000 100000");
    assert!(part.contains("the same run\n"), "{part}");
    assert_eq!(line(part, "memory.high: "), "104857600");
    assert!(line(part, "status: ").contains("memory_high 100 MiB, cpu_weight 20, cpu_quota 0.5"), "{part}");
}

#[test]
fn what_holds_too_much_is_restarted_in_good_order_and_not_at_once_again() {
    let Some(part) = part("above") else { return };
    let said = lines(part, "event: ");
    let over: Vec<_> = said.iter().filter(|event| event.contains("over-memory")).collect();
    assert!(over.len() == 1 && over[0].contains("restart_above is 48 MiB"), "{said:?}");
    let has = |kind: &str| said.iter().any(|event| event.contains(kind));
    assert!(
        has("stopping (run 1, ") && has("SIGTERM, by restart_above)") && !has("attempt-failed"),
        "{said:?}"
    );
    assert!(has("started (run 2, ") && has("by restart_above"), "{said:?}");
}

#[test]
fn the_service_leaves_the_cgroups_as_it_found_them() {
    let Some(part) = part("end of unit") else { return };
    assert_eq!(line(part, "ended: "), "0");
    assert!(lines(part, "left: ").is_empty(), "{part}");
    assert_eq!(lines(part, "subtree: ").concat(), "", "{part}");
}
