//! An entry of the registry as the engine's database keeps it, for hosts of a later boot: how it was
//! registered and what people have made of it since. Later versions read it: fields are never reused.

use prost::Message;

use crate::wire::error::Error;
use crate::wire::note::ProviderNote;
use crate::wire::proto::v1;
use crate::wire::provider::Definition;
use crate::wire::registry_note::{BreakerNote, RegistryNote};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDocument {
    /// Without what is of one boot.
    note: RegistryNote,
    /// How it is run; none: nothing is run for it.
    pub definition: Option<Definition>,
    /// In which boot it was written.
    pub boot_id: String,
}

impl EntryDocument {
    /// What of a note is of use in another boot.
    #[must_use]
    pub fn new(note: RegistryNote, definition: Option<Definition>, boot_id: String) -> Self {
        let BreakerNote { is_held, reason, .. } = note.breaker;
        let reason = if is_held { reason } else { String::new() };
        let breaker = BreakerNote { is_held, reason, ..BreakerNote::default() };
        let note = RegistryNote { breaker, counted: None, reset_ms: 0, ..note };
        Self { note, definition, boot_id }
    }

    /// What a host of that boot would have left.
    #[must_use]
    pub fn into_note(self) -> RegistryNote {
        self.note
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let definition = self.definition.clone().map(|definition| ProviderNote::of(definition).encode());
        v1::EntryDocument {
            note: self.note.encode(),
            definition: definition.unwrap_or_default(),
            boot_id: self.boot_id.clone(),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let w = v1::EntryDocument::decode(bytes).map_err(|e| Error::failed("decode the document", &e))?;
        let definition =
            (!w.definition.is_empty()).then(|| ProviderNote::decode(&w.definition)).transpose()?;
        let definition = definition.map(|note| note.definition);
        Ok(Self { note: RegistryNote::decode(&w.note)?, definition, boot_id: w.boot_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;
    use crate::wire::time::Timestamp;

    #[test]
    fn what_is_of_one_boot_is_left_out_and_the_rest_comes_back() {
        let breaker = BreakerNote {
            is_held: true,
            reason: "repairs".into(),
            openings: 3,
            failures: vec![Timestamp(1)],
            ..BreakerNote::default()
        };
        let labels = vec![("team".to_owned(), "web".to_owned())];
        let note = RegistryNote {
            breaker,
            counted: Some(ProcessId::new()),
            reset_ms: 7,
            labels: labels.clone(),
            ..RegistryNote::default()
        };
        let definition = Definition { binary: "/x".into(), ..Definition::default() };
        for definition in [Some(definition), None] {
            let document = EntryDocument::new(note.clone(), definition.clone(), "boot".into());
            let read = EntryDocument::decode(&document.encode()).unwrap();
            assert_eq!((&read, read.definition.is_some()), (&document, definition.is_some()));
            let kept = read.into_note();
            let breaker = BreakerNote { is_held: true, reason: "repairs".into(), ..BreakerNote::default() };
            assert_eq!(kept, RegistryNote { breaker, labels: labels.clone(), ..RegistryNote::default() });
        }
        assert!(EntryDocument::decode(&[0xff]).is_err());
    }
}
