//! The audit: a line for every request that changes something, or would have. `change.rs` says what a request
//! changes.

use prost::Message;

use crate::wire::error::Error;
use crate::wire::id::{is_bidi, quoted};
use crate::wire::proto::v1;
use crate::wire::time::Timestamp;

/// The longest text of a line, in bytes.
pub const TEXT_LEN_MAX: usize = 512;
/// The longest line that [`AuditLine::encode`] makes, in bytes: three texts, two numbers, and what marks
/// them.
pub const LINE_LEN_MAX: usize = 3 * (TEXT_LEN_MAX + 3) + 22;

/// What the result of a refusal begins with.
pub const REFUSED: &str = "refused";
/// Between how often something was refused, and the time of the last.
pub const TIMES_UNTIL: &str = " times until ";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number; later lines have larger ones.
    pub seq: u64,
    /// When it was asked.
    pub at: Timestamp,
    /// The caller, as `uid 0 pid 123`, or the one that it asked on behalf of.
    pub who: String,
    /// What was asked for, as `stop web-*`.
    pub what: String,
    /// What came of it; none: it is not known, or it is under way.
    pub result: Option<String>,
}

/// A line for a request that was refused before the service heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub what: String,
    /// What came of it.
    pub result: String,
}

/// What of the audit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AuditLog {
    /// Lines after this number.
    pub since: u64,
    /// At most so many; 0: as many as one answer takes.
    pub max: u32,
}

impl AuditLine {
    /// When it was asked last: refusals that repeat are counted in the line of the first.
    #[must_use]
    pub fn last_at(&self) -> Timestamp {
        let until = self.result.as_deref().and_then(|result| {
            let (count, rest) = result.strip_prefix(REFUSED)?.split_once(TIMES_UNTIL)?;
            count.trim().parse::<u64>().ok()?;
            let moment = rest.split(": ").next()?.parse::<jiff::Timestamp>().ok()?;
            u64::try_from(moment.as_millisecond()).ok().map(Timestamp)
        });
        until.unwrap_or(self.at)
    }

    /// For the memory that the keeper holds; a text that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let cut = |text: &str| {
            let end = (0..=text.len().min(TEXT_LEN_MAX)).rev().find(|&n| text.is_char_boundary(n));
            text[..end.unwrap_or(0)].to_owned()
        };
        let (who, what) = (cut(&self.who), cut(&self.what));
        Self { who, what, result: self.result.as_deref().map(cut), ..*self }.to_wire().encode_to_vec()
    }

    /// Decodes what [`AuditLine::encode`] made.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        v1::AuditLine::decode(bytes).ok().map(Self::from_wire)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::AuditLine {
        v1::AuditLine {
            seq: self.seq,
            at: self.at.0,
            who: self.who.clone(),
            what: self.what.clone(),
            result: self.result.clone().unwrap_or_default(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::AuditLine) -> Self {
        let result = (!w.result.is_empty()).then_some(w.result);
        Self { seq: w.seq, at: Timestamp(w.at), who: w.who, what: w.what, result }
    }
}

impl Note {
    pub(in crate::wire) fn to_wire(&self) -> v1::Note {
        v1::Note { what: self.what.clone(), result: self.result.clone() }
    }

    pub(in crate::wire) fn from_wire(w: v1::Note) -> Result<Self, Error> {
        for text in [&w.what, &w.result] {
            if text.is_empty() || text.len() > TEXT_LEN_MAX || text.contains(is_odd) {
                let e = format!("{} is not 1 to {TEXT_LEN_MAX} bytes of printable characters", quoted(text));
                return Err(Error::usage(e));
            }
        }
        Ok(Self { what: w.what, result: w.result })
    }
}

/// Text from outside, fit for a line.
#[must_use]
pub fn fit(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() > TEXT_LEN_MAX - 16 {
            out.push_str("...");
            break;
        }
        if is_odd(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

pub(in crate::wire) fn is_odd(c: char) -> bool {
    c.is_control() || is_bidi(c)
}
