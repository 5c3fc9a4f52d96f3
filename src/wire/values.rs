//! Values as people write them, on the command line and in the configuration: durations, sizes, and words
//! that were nearly right.

use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::id::quoted;

/// How a duration is written.
pub const DURATION_HINT: &str = "a duration is written 500ms, 10s, 2m, 1h30m or 1d; a bare number is seconds";
/// The units of durations with their lengths in ms, the longest first.
const DURATION_UNITS: [(&str, u32); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `500ms`, `10s`, `1.5m`, `1h30m`, `1d`; a bare number is seconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (mut ms, mut rest) = (0.0, text);
    let mut units = &DURATION_UNITS[..];
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let unit_len = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let unit = match &behind[..unit_len] {
            "" if number.len() == text.len() => "s",
            unit => unit,
        };
        // Each unit once, the longer before the shorter.
        let at = units.iter().position(|(name, _)| *name == unit)?;
        ms += number.parse::<f64>().ok()? * f64::from(units[at].1);
        (units, rest) = (&units[at + 1..], &behind[unit_len..]);
        if rest.is_empty() {
            break;
        }
    }
    // Whole milliseconds are what the service counts in.
    let duration = Duration::try_from_secs_f64(ms.round() / 1000.0).ok();
    duration.filter(|d| d.as_secs() < u64::from(u32::MAX))
}

/// `4096`, `64k`, `64 KiB`, `1m`, `1 MiB`, `1g`, `1 GiB`: the units are powers of 1024.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.strip_prefix(' ').filter(|unit| unit.ends_with("iB")).unwrap_or(unit) {
        "" => 0,
        "k" | "K" | "KiB" => 10,
        "m" | "M" | "MiB" => 20,
        "g" | "G" | "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// As it is written: in the largest unit that leaves it whole.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    let unit = DURATION_UNITS.into_iter().find(|(_, len)| ms != 0 && ms.is_multiple_of(u128::from(*len)));
    let (unit, len) = unit.unwrap_or(("s", 1000));
    format!("{}{unit}", ms / u128::from(len))
}

/// The same for sizes.
#[must_use]
pub fn size_text(size: u64) -> String {
    let units = [(" GiB", 1 << 30), (" MiB", 1 << 20), (" KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, len)| size != 0 && size.is_multiple_of(*len));
    let (unit, len) = unit.unwrap_or(("", 1));
    format!("{}{unit}", size / len)
}

/// The candidate that is so near to `value` that a typing error explains the difference.
#[must_use]
pub fn closest(value: &str, candidates: impl IntoIterator<Item = impl Into<String>>) -> Option<String> {
    let (distance, near) = candidates
        .into_iter()
        .map(Into::into)
        .map(|candidate: String| (distance(value, &candidate), candidate))
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

/// A SHA-256 as 64 hexadecimal digits in lower case, of one that may begin with `sha256:`.
pub fn sha256(text: &str) -> Result<String, Error> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Ok(digits.to_ascii_lowercase());
    }
    Err(Error::usage(format!("{} is no SHA-256", quoted(text))).hint("it has 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("10"), Some(10_000));
        assert_eq!(ms("1.5m"), Some(90_000));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("1d"), Some(86_400_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("1d2h3m4s5ms"), Some(93_784_005));
        for bad in [
            "",
            "s",
            "-1",
            "5x",
            "1e9",
            "1..2",
            "1 s",
            "1m30",
            "30s1m",
            "1s2s",
            "1m s",
            "99999999999d",
            "nan",
            "inf",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("64k"), Some(65536));
        assert_eq!(size("1M"), Some(1 << 20));
        assert_eq!(size("10 MiB"), Some(10 << 20));
        assert_eq!(size("2GiB"), Some(2 << 30));
        for bad in ["", "k", "-1", "1.5m", "1kb", "1 k", "1  KiB", "99999999999999999999", "99999999999999g"]
        {
            assert_eq!(size(bad), None, "{bad}");
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
