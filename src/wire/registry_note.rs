//! What one host leaves to the next about an entry of the registry, beside the note of its provider. The next
//! one may be of another version: fields are never reused.

use std::time::Duration;

use prost::Message;

use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::proto::v1;
use crate::wire::spec::{pairs_from_wire, pairs_to_wire};
use crate::wire::time::{Timestamp, millis};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryNote {
    pub registered_at: Timestamp,
    /// Where it came from.
    pub source: String,
    pub labels: Vec<(String, String)>,
    pub is_stopped: bool,
    pub is_disposed: bool,
    pub breaker: BreakerNote,
    /// From one check of its health to the next, where a person has set it; zero: it is not checked.
    pub interval: Option<Duration>,
    /// Of which type it is; empty: an executable.
    pub kind: String,
    /// Of the plugin that it comes from.
    pub version: String,
    /// What it can, as its manifest says.
    pub capabilities: Vec<String>,
    /// Of a credential: what it is named by.
    pub credential: Option<String>,
    /// The last of its processes that has ended by itself and was counted.
    pub counted: Option<ProcessId>,
    /// When its failures were forgotten for the last time (monotonic ms); earlier starts do not count.
    pub reset_ms: u64,
}

/// What is known of an entry's breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerNote {
    /// By the wall clock, until when it is open; none: it is not.
    pub open_until: Option<Timestamp>,
    pub reason: String,
    pub openings: u32,
    pub is_held: bool,
    /// By the wall clock, the failures that it counts.
    pub failures: Vec<Timestamp>,
}

impl RegistryNote {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        v1::RegistryNote {
            registered_at: self.registered_at.0,
            source: self.source.clone(),
            labels: pairs_to_wire(&self.labels),
            stopped: self.is_stopped,
            disposed: self.is_disposed,
            open_until: Timestamp::to_wire(self.breaker.open_until),
            breaker_reason: self.breaker.reason.clone(),
            openings: self.breaker.openings,
            held: self.breaker.is_held,
            interval_ms: self.interval.map(millis),
            r#type: self.kind.clone(),
            version: self.version.clone(),
            capabilities: self.capabilities.clone(),
            credential: self.credential.clone().unwrap_or_default(),
            counted: self.counted.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            reset_ms: self.reset_ms,
            failures_at: self.breaker.failures.iter().map(|at| at.0).collect(),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let w = v1::RegistryNote::decode(bytes).map_err(|e| Error::failed("decode the note", &e))?;
        let counted = (!w.counted.is_empty()).then(|| ProcessId::from_wire(&w.counted)).transpose()?;
        Ok(Self {
            registered_at: Timestamp(w.registered_at),
            source: w.source,
            labels: pairs_from_wire(w.labels),
            is_stopped: w.stopped,
            is_disposed: w.disposed,
            breaker: BreakerNote {
                open_until: Timestamp::from_wire(w.open_until),
                reason: w.breaker_reason,
                openings: w.openings,
                is_held: w.held,
                failures: w.failures_at.into_iter().map(Timestamp).collect(),
            },
            interval: w.interval_ms.map(Duration::from_millis),
            kind: w.r#type,
            version: w.version,
            capabilities: w.capabilities,
            credential: (!w.credential.is_empty()).then_some(w.credential),
            counted,
            reset_ms: w.reset_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back() {
        let note = RegistryNote {
            registered_at: Timestamp(1),
            source: "api".into(),
            labels: vec![("a".into(), "b".into())],
            is_stopped: true,
            is_disposed: false,
            breaker: BreakerNote {
                open_until: Some(Timestamp(2)),
                reason: "down".into(),
                openings: 3,
                is_held: true,
                failures: vec![Timestamp(3), Timestamp(4)],
            },
            interval: Some(Duration::ZERO),
            kind: "files".into(),
            version: "1".into(),
            capabilities: vec!["chat".into()],
            credential: Some("$env:A".into()),
            counted: Some(ProcessId::new()),
            reset_ms: 5,
        };
        for note in [note, RegistryNote::default()] {
            assert_eq!(RegistryNote::decode(&note.encode()), Ok(note));
        }
        assert!(RegistryNote::decode(&[0xff]).is_err());
    }
}
