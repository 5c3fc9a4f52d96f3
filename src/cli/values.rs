//! Values of options, from text: durations, sizes, pairs, signals, limits. Each refusal names the option, the value and
//! how it is written.

use std::time::Duration;

use crate::sys::{limits, signal};
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::request::StreamKind;
use crate::wire::spec::{RestartPolicy, Rlimit, Scope};

fn bad(option: &str, value: &str, how: &str) -> Error {
    Error::usage(format!("bad value {} of {option}", quoted(value))).hint(how.to_owned())
}

/// `500ms`, `10s`, `1.5m`, `1h`, `1d`; a bare number is seconds.
pub fn duration(option: &str, text: &str) -> Result<Duration, Error> {
    let how = "a duration is written 500ms, 10s, 2m, 1h or 1d; a bare number is seconds";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(bad(option, text, how)),
    };
    let number: f64 = number.parse().map_err(|_| bad(option, text, how))?;
    // Whole milliseconds are what the service counts in.
    let ms = (number * seconds * 1000.0).round();
    Duration::try_from_secs_f64(ms / 1000.0)
        .ok()
        .filter(|d| d.as_secs() < u64::from(u32::MAX))
        .ok_or_else(|| bad(option, text, how))
}

/// `4096`, `64k`, `1m`, `1g`.
pub fn size(option: &str, text: &str) -> Result<u64, Error> {
    parse_size(text).ok_or_else(|| bad(option, text, "a size is written 4096, 64k, 1m or 1g"))
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
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
    let amount = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { parse_size(text) };
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

/// The candidate that is so near to `word` that a typing error explains the difference.
pub fn closest(word: &str, candidates: impl IntoIterator<Item = impl Into<String>>) -> Option<String> {
    let (distance, near) = candidates
        .into_iter()
        .map(Into::into)
        .map(|candidate: String| (distance(word, &candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2 && distance < near.len() / 2).then_some(near)
}

/// Insertions, deletions, replacements and swaps of neighbours from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = |text| duration("--timeout", text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("10"), Some(10_000));
        assert_eq!(ms("1.5m"), Some(90_000));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("1d"), Some(86_400_000));
        for bad in ["", "s", "-1", "5x", "1e9", "1..2", "1 s", "1m30s", "99999999999d", "nan", "inf"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64k"), Some(65536));
        assert_eq!(parse_size("1M"), Some(1 << 20));
        for bad in ["", "k", "-1", "1.5m", "1kb", "99999999999999999999", "99999999999999g"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_are_read() {
        let limit = rlimit("--limit", "NOFILE=1k:unlimited").unwrap();
        assert_eq!((limit.resource.as_str(), limit.soft, limit.hard), ("nofile", 1024, u64::MAX));
        for bad in ["nofile", "files=3", "nofile=", "nofile=1:", "nofile=x"] {
            assert!(rlimit("--limit", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_typing_error_finds_its_word() {
        let commands = ["start", "stop", "status", "list"];
        assert_eq!(closest("sart", commands).as_deref(), Some("start"));
        assert_eq!(closest("sttaus", commands).as_deref(), Some("status"));
        assert_eq!(closest("ls", commands), None);
        assert_eq!(closest("frobnicate", commands), None);
    }
}
