//! Canaries of module namespaces: a new version that gets a share of the calls, on one member of its group
//! after the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::proto::v1::module_canary::What;
use crate::wire::time::{Timestamp, millis};

/// The longest version that can be named, in bytes.
const VERSION_LEN_MAX: usize = 4096;
/// The longest window and latency.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most calls that can be asked for before a member is judged.
const CALLS_MAX: u32 = 1_000_000;

/// A part of a whole, in ten-thousandths: shares and ratios are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part(u32);

impl Part {
    /// In ten-thousandths.
    pub const WHOLE: u32 = 10_000;

    /// None: it is nothing, or more than the whole.
    #[must_use]
    pub const fn of(ten_thousandths: u32) -> Option<Self> {
        if ten_thousandths == 0 || ten_thousandths > Self::WHOLE { None } else { Some(Self(ten_thousandths)) }
    }

    /// The nearest of a fraction.
    #[must_use]
    pub fn of_fraction(fraction: f64) -> Option<Self> {
        let scaled = (fraction * f64::from(Self::WHOLE)).round();
        let is_part = scaled >= 1.0 && scaled <= f64::from(Self::WHOLE);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between these")]
        is_part.then_some(Self(scaled as u32))
    }

    #[must_use]
    pub fn ten_thousandths(self) -> u32 {
        self.0
    }

    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// `10 %`, with as many digits as it needs.
    #[must_use]
    pub fn percent(self) -> String {
        let text = format!("{}.{:02}", self.0 / 100, self.0 % 100);
        format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Part {
    /// `0.95`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fraction())
    }
}

impl FromStr for Part {
    type Err = Error;

    /// Reads `10%` or `0.1`: of more digits than there are the nearest.
    fn from_str(text: &str) -> Result<Self, Error> {
        let is_number = |s: &&str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit() || c == b'.');
        let percent = text.strip_suffix('%').map(str::trim_end);
        let number = Some(percent.unwrap_or(text)).filter(is_number).and_then(|s| s.parse::<f64>().ok());
        let fraction = number.map(|n| if percent.is_some() { n / 100.0 } else { n });
        fraction.and_then(Self::of_fraction).ok_or_else(|| {
            Error::usage(format!("'{text:.40}' is no part of a whole"))
                .hint("as 10% or 0.1: at least 0.01%, at most 100%")
        })
    }
}

/// What a canary is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryOrder {
    pub namespace: String,
    /// Members that have a module of this version are the canary.
    pub version: String,
    /// Of the calls, for the member that is on trial.
    pub share: Part,
    /// At least so many calls have to succeed, and so many to be within the latency.
    pub success_ratio: Part,
    pub latency: Duration,
    /// How long a member is on trial at least, and with how many calls.
    pub window: Duration,
    pub min_calls: u32,
    /// Whether those that were promoted go back when a later one fails.
    pub rolls_back: bool,
}

impl CanaryOrder {
    /// With what nothing else is said about.
    #[must_use]
    pub fn new(namespace: &str, version: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            version: version.to_owned(),
            share: Part(1000),
            success_ratio: Part(9500),
            latency: Duration::from_secs(5),
            window: Duration::from_secs(30),
            // Of these two may fail: hardly any version that fails in one call of a hundred is taken for bad.
            min_calls: 50,
            rolls_back: true,
        }
    }

    fn to_wire(&self) -> v1::ModuleCanaryOrder {
        v1::ModuleCanaryOrder {
            namespace: self.namespace.clone(),
            version: self.version.clone(),
            share: self.share.0,
            success_ratio: self.success_ratio.0,
            latency_ms: millis(self.latency),
            window_ms: millis(self.window),
            min_calls: self.min_calls,
            keeps_promoted: !self.rolls_back,
        }
    }

    fn from_wire(w: v1::ModuleCanaryOrder) -> Result<Self, Error> {
        let part = |name: &str, ten_thousandths| {
            Part::of(ten_thousandths).ok_or_else(|| Error::usage(format!("the {name} is no part of a whole")))
        };
        if w.version.is_empty() || w.version.len() > VERSION_LEN_MAX {
            return Err(Error::usage(format!("a version has 1 to {VERSION_LEN_MAX} bytes")));
        }
        if w.min_calls == 0 || w.min_calls > CALLS_MAX {
            return Err(Error::usage(format!("a member is judged after 1 to {CALLS_MAX} calls")));
        }
        let (latency, window) = (Duration::from_millis(w.latency_ms), Duration::from_millis(w.window_ms));
        if latency.is_zero() || latency > TIME_MAX || window.is_zero() || window > TIME_MAX {
            return Err(Error::usage("latency and window of a canary are 1 ms to 24 h"));
        }
        Ok(Self {
            namespace: w.namespace,
            version: w.version,
            share: part("share", w.share)?,
            success_ratio: part("success ratio", w.success_ratio)?,
            latency,
            window,
            min_calls: w.min_calls,
            rolls_back: !w.keeps_promoted,
        })
    }
}

/// One question about canaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryCall {
    Start(CanaryOrder),
    /// Of this namespace.
    Abort(String),
    /// Of this namespace; empty: of all.
    Status(String),
}

impl CanaryCall {
    pub(in crate::wire) fn to_wire(&self) -> v1::ModuleCanary {
        let what = match self {
            Self::Start(order) => What::Start(order.to_wire()),
            Self::Abort(namespace) => What::Abort(namespace.clone()),
            Self::Status(namespace) => What::Status(namespace.clone()),
        };
        v1::ModuleCanary { what: Some(what) }
    }

    pub(in crate::wire) fn from_wire(w: v1::ModuleCanary) -> Result<Self, Error> {
        Ok(match w.what.ok_or_else(|| Error::usage("the host does not know this question"))? {
            What::Start(order) => Self::Start(CanaryOrder::from_wire(order)?),
            What::Abort(namespace) => Self::Abort(namespace),
            What::Status(namespace) => Self::Status(namespace),
        })
    }

    /// What it changes, in words; none: nothing.
    pub(in crate::wire) fn change(&self) -> Option<String> {
        match self {
            Self::Start(order) => Some(format!(
                "start a canary of modules {:.200}, version {:.80}",
                order.namespace, order.version
            )),
            Self::Abort(namespace) => Some(format!("abort the canary of modules {namespace:.200}")),
            Self::Status(_) => None,
        }
    }
}

/// A canary, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    pub order: CanaryOrder,
    /// Who has started it.
    pub by: String,
    /// "running", "promoted", "rolled-back", "partial-failure" or "aborted".
    pub state: String,
    pub started_at: Timestamp,
    /// None: it has not ended.
    pub ended_at: Option<Timestamp>,
    /// Why it has ended; empty: it has not, or well.
    pub reason: String,
    /// What comes next, in words.
    pub next: String,
    /// Whether members of this version get no calls, though it has ended.
    pub holds: bool,
    /// All of the group.
    pub members: Vec<CanaryMember>,
    /// What has happened, the oldest first.
    pub steps: Vec<CanaryStep>,
}

/// A member of a canary's group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanaryMember {
    /// Where it executes.
    pub executor: String,
    pub version: String,
    /// "stable", "waiting", "on-trial", "promoted", "rolled-back" or "held".
    pub standing: String,
    /// Since when, if it was on trial.
    pub since: Option<Timestamp>,
    /// Since its trial began: calls, those that failed, and those that took too long.
    pub calls: u64,
    pub failures: u64,
    pub slow: u64,
    /// Of those that have an answer.
    pub mean_latency_us: u64,
    /// Why it could get no calls, whatever the canary says; empty: it could.
    pub reason: String,
}

impl CanaryMember {
    /// How many of its calls succeeded, in ten-thousandths; none: there were none.
    #[must_use]
    pub fn success(&self) -> Option<u64> {
        let whole = u64::from(Part::WHOLE);
        (self.calls > 0).then(|| self.calls.saturating_sub(self.failures) * whole / self.calls)
    }
}

/// What has happened to a canary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanaryStep {
    pub at: Timestamp,
    /// "started", "on-trial", "promoted", "failed", "rolled-back", "gone", "aborted" or "resumed".
    pub what: String,
    /// To which member; empty: to the whole.
    pub executor: String,
    pub detail: String,
}

impl Canary {
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.ended_at.is_none()
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::ModuleCanaryInfo {
        v1::ModuleCanaryInfo {
            order: Some(self.order.to_wire()),
            by: self.by.clone(),
            state: self.state.clone(),
            started_at_ms: self.started_at.0,
            ended_at_ms: self.ended_at.map(|at| at.0),
            reason: self.reason.clone(),
            next: self.next.clone(),
            holds: self.holds,
            members: self.members.iter().map(CanaryMember::to_wire).collect(),
            steps: self.steps.iter().map(CanaryStep::to_wire).collect(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ModuleCanaryInfo) -> Result<Self, Error> {
        Ok(Self {
            order: CanaryOrder::from_wire(w.order.unwrap_or_default())?,
            by: w.by,
            state: w.state,
            started_at: Timestamp(w.started_at_ms),
            ended_at: w.ended_at_ms.map(Timestamp),
            reason: w.reason,
            next: w.next,
            holds: w.holds,
            members: w.members.into_iter().map(CanaryMember::from_wire).collect(),
            steps: w.steps.into_iter().map(CanaryStep::from_wire).collect(),
        })
    }

    /// For a note: all canaries of a host.
    #[must_use]
    pub fn encode_all(all: &[Self]) -> Vec<u8> {
        prost::Message::encode_to_vec(&list_to_wire(all))
    }

    /// What [`Canary::encode_all`] made.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        let w = <v1::ModuleCanaries as prost::Message>::decode(bytes)
            .map_err(|e| Error::failed("decode the note", &e))?;
        list_from_wire(w)
    }
}

pub(in crate::wire) fn list_to_wire(all: &[Canary]) -> v1::ModuleCanaries {
    v1::ModuleCanaries { canaries: all.iter().map(Canary::to_wire).collect() }
}

pub(in crate::wire) fn list_from_wire(w: v1::ModuleCanaries) -> Result<Vec<Canary>, Error> {
    w.canaries.into_iter().map(Canary::from_wire).collect()
}

impl CanaryMember {
    fn to_wire(&self) -> v1::ModuleCanaryMember {
        v1::ModuleCanaryMember {
            executor: self.executor.clone(),
            version: self.version.clone(),
            standing: self.standing.clone(),
            since_ms: self.since.map(|at| at.0),
            calls: self.calls,
            failures: self.failures,
            slow: self.slow,
            mean_latency_us: self.mean_latency_us,
            reason: self.reason.clone(),
        }
    }

    fn from_wire(w: v1::ModuleCanaryMember) -> Self {
        Self {
            executor: w.executor,
            version: w.version,
            standing: w.standing,
            since: w.since_ms.map(Timestamp),
            calls: w.calls,
            failures: w.failures,
            slow: w.slow,
            mean_latency_us: w.mean_latency_us,
            reason: w.reason,
        }
    }
}

impl CanaryStep {
    fn to_wire(&self) -> v1::ModuleCanaryStep {
        v1::ModuleCanaryStep {
            at_ms: self.at.0,
            what: self.what.clone(),
            executor: self.executor.clone(),
            detail: self.detail.clone(),
        }
    }

    fn from_wire(w: v1::ModuleCanaryStep) -> Self {
        Self { at: Timestamp(w.at_ms), what: w.what, executor: w.executor, detail: w.detail }
    }
}

#[cfg(test)]
impl Canary {
    /// With all that there can be.
    pub(crate) fn sample() -> Self {
        let member = CanaryMember {
            executor: "localhost:1".into(),
            version: "2".into(),
            standing: "on-trial".into(),
            since: Some(Timestamp(7)),
            calls: 4,
            failures: 3,
            slow: 2,
            mean_latency_us: 1,
            reason: "deaf".into(),
        };
        let step = CanaryStep {
            at: Timestamp(8),
            what: "started".into(),
            executor: "localhost:1".into(),
            detail: "d".into(),
        };
        let order = CanaryOrder { rolls_back: false, ..CanaryOrder::new("n", "2") };
        Self {
            order,
            by: "uid 0".into(),
            state: "rolled-back".into(),
            started_at: Timestamp(5),
            ended_at: Some(Timestamp(6)),
            reason: "r".into(),
            next: "x".into(),
            holds: true,
            members: vec![member],
            steps: vec![step],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_shown() {
        for (text, part, percent) in [
            ("10%", 1000, "10 %"),
            ("0.1", 1000, "10 %"),
            ("12.5 %", 1250, "12.5 %"),
            ("0.01%", 1, "0.01 %"),
            ("1", 10_000, "100 %"),
            ("0.95", 9500, "95 %"),
        ] {
            let read: Part = text.parse().unwrap();
            assert_eq!((read.ten_thousandths(), &*read.percent()), (part, percent), "{text}");
            assert_eq!(Part::of_fraction(read.fraction()), Some(read));
        }
        for text in ["", "%", "0", "0%", "101%", "1.1", "-1", "x", "1e-2", "nan", "0.00001", "1..2"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }

    #[test]
    fn questions_and_canaries_survive_the_wire() {
        let order = CanaryOrder { rolls_back: false, ..CanaryOrder::new("a", "2") };
        for call in [CanaryCall::Start(order), CanaryCall::Abort("a".into()), CanaryCall::Status("".into())] {
            assert_eq!(CanaryCall::from_wire(call.to_wire()), Ok(call));
        }
        let all = vec![Canary::sample()];
        assert_eq!(Canary::decode_all(&Canary::encode_all(&all)), Ok(all));
        assert!(Canary::decode_all(&[0xff]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = CanaryOrder::new("a", "2");
        for bad in [
            CanaryOrder { version: String::new(), ..good.clone() },
            CanaryOrder { min_calls: 0, ..good.clone() },
            CanaryOrder { min_calls: CALLS_MAX + 1, ..good.clone() },
            CanaryOrder { window: Duration::ZERO, ..good.clone() },
            CanaryOrder { latency: TIME_MAX * 2, ..good.clone() },
            CanaryOrder { share: Part(0), ..good.clone() },
            CanaryOrder { success_ratio: Part(10_001), ..good.clone() },
        ] {
            assert!(CanaryOrder::from_wire(bad.to_wire()).is_err(), "{bad:?}");
        }
        assert_eq!(CanaryOrder::from_wire(good.to_wire()), Ok(good));
    }
}
