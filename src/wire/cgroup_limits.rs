//! What a process and all that it starts may take of the machine together, which the kernel sees to by the
//! cgroup that they are in. Which file says it there is known to `engine/process/limits.rs`.

use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::values::{size, size_text};

/// The least memory that can be said, in bytes: no program runs in less.
pub const MEMORY_MIN: u64 = 1 << 20;
/// The most processors that can be said, in thousandths.
pub const QUOTA_MAX: u32 = 4_096_000;
/// The least part of a processor that can be said, in thousandths: the kernel counts in no smaller pieces.
pub const QUOTA_MIN: u32 = 10;
/// The largest weight: the kernel's own.
pub const WEIGHT_MAX: u32 = 10_000;
/// The most processes that can be said: as many as Linux has numbers for.
pub const PIDS_MAX: u64 = 4 << 20;

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Bytes(u64),
    /// Hundredths of what the machine has.
    Percent(u8),
}

impl Memory {
    /// `512MiB`, `2g` or `50%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse().ok().map(Self::Percent),
            None => size(text).map(Self::Bytes),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Bytes(bytes) => size_text(bytes),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }

    /// In bytes, on a machine that has so many.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }

    fn to_wire(self) -> v1::MemoryAmount {
        match self {
            Self::Bytes(bytes) => v1::MemoryAmount { bytes, percent: 0 },
            Self::Percent(percent) => v1::MemoryAmount { bytes: 0, percent: percent.into() },
        }
    }

    fn from_wire(w: v1::MemoryAmount) -> Self {
        match u8::try_from(w.percent) {
            Ok(0) => Self::Bytes(w.bytes),
            percent => Self::Percent(percent.unwrap_or(u8::MAX)),
        }
    }
}

/// The limits of a cgroup. What is not said is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// What would take more is killed for memory.
    pub memory_max: Option<Memory>,
    /// What takes more is slowed down, and has to give back.
    pub memory_high: Option<Memory>,
    /// What takes more than this is restarted.
    pub restart_above: Option<Memory>,
    /// Its share of the processors, where others want them too: 1 to 10,000. Others have 100.
    pub cpu_weight: Option<u32>,
    /// As many processors, in thousandths.
    pub cpu_quota: Option<u32>,
    /// As many processes and threads.
    pub pids_max: Option<u64>,
    /// Its share of storage, where others want it too: 1 to 10,000. Others have 100.
    pub io_weight: Option<u32>,
    /// It runs also where the machine does not see to that.
    pub optional: bool,
}

impl CgroupLimits {
    /// Whether there is any.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self { optional: self.optional, ..Self::default() }
    }

    /// What the kernel needs for them: its controllers, each with the key of a limit that needs it.
    pub fn controllers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let memory = [
            ("memory_max", self.memory_max.is_some()),
            ("memory_high", self.memory_high.is_some()),
            ("restart_above", self.restart_above.is_some()),
        ];
        let memory = memory.into_iter().find(|(_, is_on)| *is_on).map(|(key, _)| ("memory", key));
        let cpu = [("cpu_weight", self.cpu_weight.is_some()), ("cpu_quota", self.cpu_quota.is_some())];
        let cpu = cpu.into_iter().find(|(_, is_on)| *is_on).map(|(key, _)| ("cpu", key));
        let pids = self.pids_max.map(|_| ("pids", "pids_max"));
        let io = self.io_weight.map(|_| ("io", "io_weight"));
        [memory, cpu, pids, io].into_iter().flatten()
    }

    /// Whether they make sense, one beside the other.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |what: String| Err(Error::usage(what));
        let memory = [
            ("memory_max", self.memory_max),
            ("memory_high", self.memory_high),
            ("restart_above", self.restart_above),
        ];
        for (key, amount) in memory {
            match amount {
                Some(Memory::Bytes(bytes)) if bytes < MEMORY_MIN => {
                    return bad(format!(
                        "{key} of {} is under 1 MiB: nothing runs in that",
                        size_text(bytes)
                    ));
                }
                Some(Memory::Percent(percent)) if !(1..=100).contains(&percent) => {
                    return bad(format!("{key} of {percent}% is outside 1% to 100%"));
                }
                Some(_) | None => {}
            }
        }
        if self.memory_high.is_some() && self.restart_above.is_some() {
            let e = "memory_high slows down what restart_above is to restart: only one of them has a place";
            return Err(Error::usage(e).hint("restart_above slows it down, too, until it is restarted"));
        }
        let below = [("memory_high", self.memory_high), ("restart_above", self.restart_above)];
        for (key, amount) in below {
            let is_over = match (amount, self.memory_max) {
                (Some(Memory::Bytes(it)), Some(Memory::Bytes(max))) => it >= max,
                (Some(Memory::Percent(it)), Some(Memory::Percent(max))) => it >= max,
                _ => false,
            };
            if is_over {
                return bad(format!("{key} is not below memory_max: what takes so much is killed first"));
            }
        }
        for (key, weight) in [("cpu_weight", self.cpu_weight), ("io_weight", self.io_weight)] {
            if weight.is_some_and(|weight| !(1..=WEIGHT_MAX).contains(&weight)) {
                return bad(format!("{key} is outside 1 to {WEIGHT_MAX}"));
            }
        }
        if self.cpu_quota.is_some_and(|quota| !(QUOTA_MIN..=QUOTA_MAX).contains(&quota)) {
            return bad("cpu_quota is outside 0.01 to 4096 processors".into());
        }
        if self.pids_max.is_some_and(|max| !(1..=PIDS_MAX).contains(&max)) {
            return bad(format!("pids_max is outside 1 to {PIDS_MAX}"));
        }
        if self.optional && !self.is_on() {
            return bad("limits_optional has no place without a limit".into());
        }
        Ok(())
    }

    pub(in crate::wire) fn to_wire(self) -> Option<v1::CgroupLimits> {
        (self != Self::default()).then(|| v1::CgroupLimits {
            memory_max: self.memory_max.map(Memory::to_wire),
            memory_high: self.memory_high.map(Memory::to_wire),
            restart_above: self.restart_above.map(Memory::to_wire),
            cpu_weight: self.cpu_weight,
            cpu_quota_millis: self.cpu_quota,
            pids_max: self.pids_max,
            io_weight: self.io_weight,
            optional: self.optional,
        })
    }

    pub(crate) fn from_wire(w: Option<v1::CgroupLimits>) -> Self {
        let Some(w) = w else { return Self::default() };
        Self {
            memory_max: w.memory_max.map(Memory::from_wire),
            memory_high: w.memory_high.map(Memory::from_wire),
            restart_above: w.restart_above.map(Memory::from_wire),
            cpu_weight: w.cpu_weight,
            cpu_quota: w.cpu_quota_millis,
            pids_max: w.pids_max,
            io_weight: w.io_weight,
            optional: w.optional,
        }
    }
}

/// Thousandths of a processor, of `1.5`, `150%` or `2`.
#[must_use]
pub fn quota(text: &str) -> Option<u32> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1000), |percent| (percent.trim_end(), 10));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 3 || !part.bytes().all(|c| c.is_ascii_digit()) || (part.is_empty() && number != whole) {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let thousandths: u32 = format!("{part:0<3}").parse().ok()?;
    whole.checked_mul(unit)?.checked_add(thousandths * unit / 1000)
}

/// As it is written: `1.5`.
#[must_use]
pub fn quota_text(quota: u32) -> String {
    let text = format!("{}.{:03}", quota / 1000, quota % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_as_people_do() {
        assert_eq!(Memory::parse("512MiB"), Some(Memory::Bytes(512 << 20)));
        assert_eq!(Memory::parse("2g"), Some(Memory::Bytes(2 << 30)));
        assert_eq!(Memory::parse("50%"), Some(Memory::Percent(50)));
        for bad in ["", "%", "x%", "1.5%", "-1", "300%", "1x"] {
            assert_eq!(Memory::parse(bad), None, "{bad}");
        }
        assert_eq!(
            (Memory::Bytes(1 << 29).text(), Memory::Percent(7).text()),
            ("512 MiB".into(), "7%".into())
        );
        assert_eq!(Memory::Percent(50).bytes(4 << 30), (4 << 30) / 100 * 50);
        for (text, thousandths) in [("1.5", 1500), ("150%", 1500), ("2", 2000), ("0.25", 250), ("12.5%", 125)]
        {
            assert_eq!(quota(text), Some(thousandths), "{text}");
        }
        for bad in ["", "%", "x", "1.", ".5", "-1", "1.2345", "1e3", "+", "99999999999"] {
            assert_eq!(quota(bad), None, "{bad}");
        }
        let texts = [1500, 2000, 250, 10].map(quota_text);
        assert_eq!(texts, ["1.5", "2", "0.25", "0.01"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let limits = CgroupLimits::default();
        assert!(limits.check().is_ok() && !limits.is_on());
        let mib = |n: u64| Some(Memory::Bytes(n << 20));
        let bad = [
            CgroupLimits { memory_max: Some(Memory::Bytes(4096)), ..limits },
            CgroupLimits { memory_max: Some(Memory::Percent(0)), ..limits },
            CgroupLimits { memory_high: Some(Memory::Percent(101)), ..limits },
            CgroupLimits { memory_max: mib(64), memory_high: mib(64), ..limits },
            CgroupLimits { memory_max: mib(64), restart_above: mib(65), ..limits },
            CgroupLimits { memory_high: mib(64), restart_above: mib(65), ..limits },
            CgroupLimits { cpu_weight: Some(0), ..limits },
            CgroupLimits { io_weight: Some(10_001), ..limits },
            CgroupLimits { cpu_quota: Some(9), ..limits },
            CgroupLimits { pids_max: Some(0), ..limits },
            CgroupLimits { optional: true, ..limits },
        ];
        for limits in bad {
            assert!(limits.check().is_err(), "{limits:?}");
        }
        let good = CgroupLimits { memory_max: mib(64), memory_high: mib(48), pids_max: Some(10), ..limits };
        assert!(good.check().is_ok() && good.is_on());
        let needs: Vec<_> = good.controllers().collect();
        assert_eq!(needs, [("memory", "memory_max"), ("pids", "pids_max")]);
        assert_eq!(CgroupLimits::from_wire(good.to_wire()), good);
    }
}
