//! What a process may take of the machine, as its cgroup has it: which file says what, and why a machine does
//! not see to it.

use std::fs;
use std::io;
use std::path::Path;

use crate::engine::process::failure;
use crate::sys::cgroup::{Cgroup, Root};
use crate::sys::controllers::{self, Lack};
use crate::sys::procfs;
use crate::wire::cgroup_limits::{CgroupLimits, Memory};
use crate::wire::error::{Code, Error};
use crate::wire::health::Controller;

/// In how long a process may use its time on the processors, in µs: what the kernel has by default.
const PERIOD_US: u64 = 100_000;
/// How many of others are named.
const NAMED_MAX: usize = 3;

/// A file of a cgroup, and what is to stand there.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    key: &'static str,
    file: &'static str,
    value: String,
    /// It is the kernel's own value: where there is no such file, nothing is missed.
    is_default: bool,
}

/// All that can be said of a cgroup, on a machine with so much memory. What is said first cannot be in the
/// way of what follows.
fn lines(limits: &CgroupLimits, total: u64) -> Vec<Line> {
    let line = |key, file, value: Option<String>, default: &str| Line {
        key,
        file,
        is_default: value.is_none(),
        value: value.unwrap_or_else(|| default.to_owned()),
    };
    let memory = |amount: Option<Memory>| amount.map(|amount| amount.bytes(total).to_string());
    let (high_key, high) = match limits.restart_above {
        Some(above) => ("restart_above", Some(above)),
        None => ("memory_high", limits.memory_high),
    };
    let quota = limits.cpu_quota.map(|quota| format!("{} {PERIOD_US}", u64::from(quota) * PERIOD_US / 1000));
    vec![
        line(high_key, "memory.high", memory(high), "max"),
        line("memory_max", "memory.max", memory(limits.memory_max), "max"),
        line("cpu_weight", "cpu.weight", limits.cpu_weight.map(|n| n.to_string()), "100"),
        line("cpu_quota", "cpu.max", quota, "max 100000"),
        line("pids_max", "pids.max", limits.pids_max.map(|n| n.to_string()), "max"),
        line("io_weight", "io.weight", limits.io_weight.map(|n| format!("default {n}")), "default 100"),
    ]
}

/// Whether the machine can see to them, as far as that is known without changing anything.
pub fn check(root: Option<&Root>, limits: &CgroupLimits) -> Result<(), Error> {
    for (controller, key) in limits.controllers() {
        let Some(root) = root else { return Err(no_cgroups(key)) };
        controllers::available(root, controller).map_err(|lack| refusal(key, controller, &lack))?;
    }
    Ok(())
}

/// Which controllers there are, and why another is not.
pub fn all(root: Option<&Root>) -> Vec<Controller> {
    let of = |name: &&str| {
        let (trouble, hint) = match root {
            None => (NO_CGROUPS.to_owned(), NO_CGROUPS_HINT.to_owned()),
            Some(root) => controllers::available(root, name)
                .map_or_else(|lack| words(name, &lack), |()| Default::default()),
        };
        Controller { name: (*name).to_owned(), trouble, hint }
    };
    controllers::CONTROLLERS.iter().map(of).collect()
}

/// Sees to it that they hold for what is in the cgroup, if there is one: all that can, where they are
/// optional. Says why the first one does not.
pub fn keep(root: Option<&Root>, cgroup: Option<&Cgroup>, limits: &CgroupLimits) -> Result<(), Error> {
    let switched = limits.controllers().map(|(controller, key)| match (root, cgroup) {
        (None, _) => Err(no_cgroups(key)),
        (Some(_), None) => Err(no_cgroup(key)),
        (Some(root), Some(_)) => {
            controllers::enable(root, controller).map_err(|lack| refusal(key, controller, &lack))
        }
    });
    let failed = first_failure(limits, switched)?;
    let Some(cgroup) = cgroup else { return failed.map_or(Ok(()), Err) };
    let all = lines(limits, procfs::memory_total());
    let written = all.iter().map(|line| match cgroup.set(line.file, &line.value) {
        Err(e) if !line.is_default => Err(unset(line, &e)),
        Ok(()) | Err(_) => Ok(()),
    });
    let unwritten = first_failure(limits, written)?;
    failed.or(unwritten).map_or(Ok(()), Err)
}

/// The first one of several. Those behind it are not tried any more, unless all are optional.
fn first_failure(
    limits: &CgroupLimits,
    tried: impl Iterator<Item = Result<(), Error>>,
) -> Result<Option<Error>, Error> {
    if !limits.optional {
        return tried.collect::<Result<(), Error>>().map(|()| None);
    }
    Ok(tried.fold(None, |first, one| first.or(one.err())))
}

const OPTIONAL: &str =
    "limits_optional = true runs it without, and says so; 'provost doctor' shows what there is";

const NO_CGROUPS: &str = "processes get no cgroups of their own here";
const NO_CGROUPS_HINT: &str = "the first lines of the service's log say why";

fn error(what: &str) -> Error {
    Error::new(Code::Refused, format!("cannot start: {what}"))
}

fn unset(line: &Line, e: &io::Error) -> Error {
    let why = failure::cause(e.raw_os_error().unwrap_or(0));
    let what = format!("{} cannot be kept: {} cannot be set to {}", line.key, line.file, line.value);
    error(&format!("{what}: {why}")).hint(OPTIONAL)
}

fn no_cgroups(key: &str) -> Error {
    error(&format!("{key} cannot be kept: {NO_CGROUPS}"))
        .hint(format!("{NO_CGROUPS_HINT}; limits_optional = true runs it without"))
}

fn no_cgroup(key: &str) -> Error {
    error(&format!("{key} cannot be kept: this run has no cgroup of its own"))
        .hint("the service's log says why; it holds from the next run that has one")
}

fn refusal(key: &str, controller: &str, lack: &Lack) -> Error {
    let (why, hint) = words(controller, lack);
    error(&format!("{key} cannot be kept: {why}"))
        .hint(format!("{hint}; limits_optional = true runs it without"))
}

/// Why there is no such controller, and what to do about it.
pub fn words(controller: &str, lack: &Lack) -> (String, String) {
    let dir = |path: &Path| path.display().to_string();
    match lack {
        Lack::Version1 => (
            format!("the controller '{controller}' is bound to cgroup v1"),
            "boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all".to_owned(),
        ),
        Lack::Disabled => (
            format!("the controller '{controller}' is switched off on this machine"),
            format!("boot with cgroup_enable={controller}"),
        ),
        Lack::NotBuilt => (
            format!("this kernel has no controller '{controller}' for cgroup v2"),
            "take one that has it".to_owned(),
        ),
        Lack::NotDelegated(path) => (
            format!("the controller '{controller}' is not handed down to {}", dir(path)),
            "run the service with Delegate=yes, as packaging/provost.service does, or with a cgroup namespace \
             of its own in a container"
                .to_owned(),
        ),
        Lack::Shared(path, pids) => {
            let named = |pid: &u32| match fs::read_to_string(format!("/proc/{pid}/comm")) {
                Ok(name) => format!("{} ({pid})", name.trim()),
                Err(_) => pid.to_string(),
            };
            let mut names: Vec<_> = pids.iter().take(NAMED_MAX).map(named).collect();
            names.extend((pids.len() > NAMED_MAX).then(|| "...".to_owned()));
            (
                format!("others are in the service's cgroup {}, too: {}", dir(path), names.join(", ")),
                "give the service a cgroup of its own: its systemd unit, or 'systemd-run --scope -p Delegate=yes \
                 provost serve'"
                    .to_owned(),
            )
        }
        Lack::Refused(path, e) => (
            format!(
                "the controller '{controller}' cannot be switched on in {}: {}",
                dir(path),
                failure::cause(e.raw_os_error().unwrap_or(0))
            ),
            "run the service as root, or with Delegate=yes".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(limits: CgroupLimits) -> Vec<(&'static str, String)> {
        let all = lines(&limits, 1000 << 20).into_iter();
        all.filter(|line| !line.is_default).map(|line| (line.file, line.value)).collect()
    }

    #[test]
    fn each_limit_has_its_file() {
        let limits = CgroupLimits {
            memory_max: Some(Memory::Percent(50)),
            memory_high: Some(Memory::Bytes(64 << 20)),
            cpu_weight: Some(200),
            cpu_quota: Some(1500),
            pids_max: Some(20),
            io_weight: Some(10),
            ..CgroupLimits::default()
        };
        let expected = [
            ("memory.high", "67108864"),
            ("memory.max", "524288000"),
            ("cpu.weight", "200"),
            ("cpu.max", "150000 100000"),
            ("pids.max", "20"),
            ("io.weight", "default 10"),
        ];
        assert_eq!(said(limits), expected.map(|(file, value)| (file, value.to_owned())));
        let above = CgroupLimits { restart_above: Some(Memory::Bytes(4096)), ..CgroupLimits::default() };
        assert_eq!(said(above), [("memory.high", "4096".to_owned())]);
        let defaults: Vec<_> =
            lines(&CgroupLimits::default(), 1).into_iter().map(|line| line.value).collect();
        assert_eq!(defaults, ["max", "max", "100", "max 100000", "max", "default 100"]);
    }

    #[test]
    fn what_is_missing_is_said_with_the_next_step() {
        let limits = CgroupLimits { memory_max: Some(Memory::Bytes(1 << 20)), ..CgroupLimits::default() };
        let e = check(None, &limits).unwrap_err();
        assert!(
            e.message.contains("memory_max cannot be kept") && e.hint.contains("limits_optional"),
            "{e:?}"
        );
        assert!(check(None, &CgroupLimits::default()).is_ok());
        assert!(keep(None, None, &CgroupLimits::default()).is_ok());
        let lack = Lack::Shared("/sys/fs/cgroup/a".into(), vec![std::process::id(), 1, 2, 3]);
        let (why, hint) = words("memory", &lack);
        assert!(why.contains("/sys/fs/cgroup/a, too: ") && why.ends_with("..."), "{why}");
        assert!(hint.contains("Delegate=yes"), "{hint}");
    }
}
