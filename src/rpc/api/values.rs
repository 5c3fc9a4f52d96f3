//! Values that the public messages write otherwise than the service: durations, points in time, ids, and
//! numbers of enums.

use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};

use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::time::{Timestamp, millis};

/// A request that is wrong, and in which field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// The path to the field: `spec.restart.delay`.
    pub field: String,
    pub error: Error,
}

impl Invalid {
    pub(crate) fn new(field: &str, error: Error) -> Self {
        Self { field: field.to_owned(), error }
    }

    pub(super) fn because(field: &str, why: &str) -> Self {
        Self::new(field, Error::usage(format!("{field}: {why}")))
    }
}

/// Whole milliseconds; less than one is one.
pub(super) fn ms(field: &str, duration: ProtoDuration) -> Result<u64, Invalid> {
    let positive = checked(duration).ok_or_else(|| {
        Invalid::because(field, "a duration is not negative, and has less than 10^9 nanoseconds")
    })?;
    Ok(millis(positive).saturating_add(u64::from(positive.subsec_nanos() % 1_000_000 != 0)))
}

/// `prost_types` has this conversion, too, but overflows over the most negative durations.
fn checked(sent: ProtoDuration) -> Option<Duration> {
    let nanos = u32::try_from(sent.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(sent.seconds).ok()?, nanos))
}

/// A duration as it is sent. One that no message can carry, of 10^11 years, is the longest.
pub(super) fn proto(duration: Duration) -> ProtoDuration {
    ProtoDuration::try_from(duration).unwrap_or(ProtoDuration { seconds: i64::MAX, nanos: 0 })
}

/// A duration of an answer; none or a negative one is 0.
pub(super) fn duration(sent: Option<ProtoDuration>) -> Duration {
    sent.and_then(checked).unwrap_or_default()
}

pub(super) fn proto_time(at: Timestamp) -> ProtoTimestamp {
    let (seconds, ms) = (at.0 / 1000, at.0 % 1000);
    ProtoTimestamp {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms * 1_000_000).unwrap_or(0),
    }
}

/// A point in time of an answer; before 1970 is 1970.
pub(super) fn time(sent: ProtoTimestamp) -> Timestamp {
    let seconds = u64::try_from(sent.seconds).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(u64::try_from(sent.nanos).unwrap_or(0) / 1_000_000))
}

/// The 16 bytes of a UUID that is given as text.
pub(super) fn id_bytes(field: &str, text: &str) -> Result<Vec<u8>, Invalid> {
    let id = text.parse::<ProcessId>().map_err(|e| Invalid::new(field, e))?;
    Ok(id.as_bytes().to_vec())
}

/// A table of an enum of ours and the public one, which has one value more: what is not specified.
pub(super) struct Pairs<A: 'static, B: 'static>(pub &'static [(A, B)]);

impl<A: Copy + PartialEq, B: Copy + PartialEq + TryFrom<i32> + Into<i32>> Pairs<A, B> {
    /// The public number; 0 for what has none.
    pub fn number(&self, ours: A) -> i32 {
        self.0.iter().find(|(a, _)| *a == ours).map_or(0, |(_, b)| (*b).into())
    }

    /// Ours; none for what is not specified, or is of another version.
    pub fn known(&self, number: i32) -> Option<A> {
        let theirs = B::try_from(number).ok()?;
        self.0.iter().find(|(_, b)| *b == theirs).map(|(a, _)| *a)
    }

    /// Ours, of a request: none for what is not specified.
    pub fn asked(&self, field: &str, number: i32) -> Result<Option<A>, Invalid> {
        match self.known(number) {
            None if number != 0 => {
                Err(Invalid::because(field, &format!("there is no value {number} of this enum")))
            }
            known => Ok(known),
        }
    }
}

/// The table of variants that have the same name in both, and of one more that has another.
macro_rules! same_names {
    ($ours:path as $public:ident: $($variant:ident)* $(; $one:ident = $other:ident)?) => {{
        use $ours as Ours;
        Pairs(&[
            $((Ours::$variant, api::$public::$variant),)*
            $((Ours::$one, api::$public::$other),)?
        ])
    }};
}

pub(super) use same_names;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_milliseconds_and_not_negative() {
        let sent = |seconds, nanos| ms("timeout", ProtoDuration { seconds, nanos });
        assert_eq!(sent(1, 500_000_000), Ok(1500));
        assert_eq!((sent(0, 0), sent(0, 1), sent(0, 1_000_001)), (Ok(0), Ok(1), Ok(2)));
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN)] {
            assert_eq!(
                sent(seconds, nanos).map_err(|e| e.field),
                Err("timeout".to_owned()),
                "{seconds} {nanos}"
            );
        }
        assert_eq!(duration(Some(proto(Duration::from_micros(1_500_007)))), Duration::from_micros(1_500_007));
        assert_eq!(duration(Some(ProtoDuration { seconds: -5, nanos: 0 })), Duration::ZERO);
    }

    #[test]
    fn points_in_time_keep_their_milliseconds() {
        for ms in [0, 1, 999, 1_700_000_000_123] {
            assert_eq!(time(proto_time(Timestamp(ms))), Timestamp(ms));
        }
        assert_eq!(time(ProtoTimestamp { seconds: -1, nanos: -1 }), Timestamp(0));
    }
}
