//! Values of options, from text: durations, sizes, pairs, signals, limits. Each refusal names the option, the
//! value and how it is written.

use std::time::Duration;

use crate::sys::{limits, signal};
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::request::{StreamKind, Until};
use crate::wire::spec::{RestartPolicy, Rlimit, Scope};
pub use crate::wire::values::{closest, sha256};
use crate::wire::{stop, values};

/// The refusal of an option's value; `how` tells how it is written.
pub fn bad(option: &str, value: &str, how: &str) -> Error {
    Error::usage(format!("bad value {} of {option}", quoted(value))).hint(how.to_owned())
}

/// `500ms`, `10s`, `1.5m`, `1h`, `1d`; a bare number is seconds.
pub fn duration(option: &str, text: &str) -> Result<Duration, Error> {
    values::duration(text).ok_or_else(|| bad(option, text, values::DURATION_HINT))
}

/// `4096`, `64k`, `1m`, `1g`.
pub fn size(option: &str, text: &str) -> Result<u64, Error> {
    values::size(text).ok_or_else(|| bad(option, text, "a size is written 4096, 64k, 1m or 1g"))
}

/// `KEY=VALUE`, cut at the first `=`.
pub fn pair(option: &str, text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(bad(option, text, "write KEY=VALUE")),
    }
}

/// A signal's number, from its name or number.
pub fn signal(text: &str) -> Result<u32, Error> {
    signal::number(text).ok_or_else(|| {
        Error::usage(format!("there is no signal {}", quoted(text)))
            .hint("write its name, as TERM or SIGTERM, or its number, 1 to 64")
    })
}

/// The time of a stop: a duration, or `infinity`.
pub fn stop_timeout(option: &str, text: &str) -> Result<Duration, Error> {
    stop::stop_timeout(text).ok_or_else(|| bad(option, text, values::DURATION_HINT))
}

/// Whom a stop reaches: as [`scope`], or `mixed`.
pub fn stop_scope(option: &str, text: &str) -> Result<Scope, Error> {
    if text == "mixed" { Ok(Scope::Mixed) } else { scope(option, text) }
}

/// `tree`, `group` or `leader`.
pub fn scope(option: &str, text: &str) -> Result<Scope, Error> {
    match text {
        "tree" => Ok(Scope::Tree),
        "group" => Ok(Scope::Group),
        "leader" => Ok(Scope::Leader),
        _ => Err(bad(
            option,
            text,
            "write tree (all that it started), group (its process group) or leader (it alone)",
        )),
    }
}

/// `never`, `on-failure` or `always`.
pub fn restart_policy(option: &str, text: &str) -> Result<RestartPolicy, Error> {
    [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always]
        .into_iter()
        .find(|policy| policy.name() == text)
        .ok_or_else(|| bad(option, text, "write never, on-failure or always"))
}

/// A number in base 8.
pub fn umask(option: &str, text: &str) -> Result<u32, Error> {
    let number = u32::from_str_radix(text, 8).ok().filter(|&mask| mask <= 0o777);
    number.ok_or_else(|| bad(option, text, "write it in base 8, 000 to 777, as 027"))
}

/// `RESOURCE=SOFT[:HARD]`, with `unlimited` for either.
pub fn rlimit(option: &str, text: &str) -> Result<Rlimit, Error> {
    let how = "write RESOURCE=SOFT or RESOURCE=SOFT:HARD, as nofile=1024:4096 or core=unlimited";
    let (resource, value) = text.split_once('=').ok_or_else(|| bad(option, text, how))?;
    if limits::rlimit_number(resource).is_none() {
        let names: Vec<&str> = limits::rlimit_names().collect();
        return Err(Error::usage(format!("there is no resource {}", quoted(resource)))
            .hint(format!("resources are {}", names.join(", "))));
    }
    let amount = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { values::size(text) };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (Some(soft), Some(hard)) = (amount(soft), amount(hard)) else { return Err(bad(option, text, how)) };
    Ok(Rlimit { resource: resource.to_ascii_lowercase(), soft, hard })
}

/// `0,3`: exit codes.
pub fn exit_codes(option: &str, text: &str) -> Result<Vec<u8>, Error> {
    text.split(',')
        .map(|code| code.trim().parse().map_err(|_| bad(option, text, "write exit codes, 0 to 255, as 0,3")))
        .collect()
}

/// A number, or `none` for no limit.
pub fn max_restarts(option: &str, text: &str) -> Result<Option<u32>, Error> {
    match text.parse() {
        Ok(0) => Err(bad(option, text, "for no restarts at all: --restart never; for no limit: none")),
        Ok(count) => Ok(Some(count)),
        Err(_) if text == "none" => Ok(None),
        Err(_) => Err(bad(option, text, "write a number, or none for no limit")),
    }
}

/// Narrows the choice of streams by one more option.
pub fn narrow(kind: StreamKind, to: StreamKind) -> StreamKind {
    if kind == StreamKind::Both || kind == to { to } else { StreamKind::Both }
}

/// What `--wait` waits for; none: nothing is said.
pub fn until_up(what: Option<&str>) -> Result<Until, Error> {
    match what {
        None | Some("ready") => Ok(Until::Ready),
        Some("running") => Ok(Until::Running),
        Some(other) => {
            let how =
                "write --wait=running or --wait=ready; how long: --timeout; its end: provost wait TARGET";
            Err(bad("--wait", other, how))
        }
    }
}

/// Refuses what is no process among the targets of a wait, as in `--wait 15 web` and `--wait ready web`.
pub fn only_processes(targets: &[String]) -> Result<(), Error> {
    let word = targets.iter().find(|target| ["ready", "running"].contains(&target.as_str()));
    if let Some(word) = word.filter(|_| targets.len() > 1) {
        let e = Error::usage(format!("{} is what is waited for, and no process", quoted(word)));
        return Err(e.hint(format!("in one piece: --wait={word}")));
    }
    let time = targets.iter().find(|target| values::duration(target).is_some());
    match time.filter(|_| targets.len() > 1) {
        Some(time) => {
            let e = Error::usage(format!("{} is a time, and no process", quoted(time)));
            Err(e.hint(format!("how long a wait may take: --wait --timeout {time}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limit = rlimit("--limit", "NOFILE=1k:unlimited").unwrap();
        assert_eq!((limit.resource.as_str(), limit.soft, limit.hard), ("nofile", 1024, u64::MAX));
        for bad in ["nofile", "files=3", "nofile=", "nofile=1:", "nofile=x"] {
            assert!(rlimit("--limit", bad).is_err(), "{bad}");
        }
    }
}
