//! What one host leaves to the next about a provider: a small file for each. The next one may be of another
//! version: fields are never reused.

use prost::Message;

use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::proto::v1;
use crate::wire::provider::Definition;

/// How far the configuration of a provider's process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum InitState {
    #[default]
    None,
    /// It was about to be sent: whether it was is not known.
    Intended,
    Done,
}

/// A provider as its host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderNote {
    pub definition: Definition,
    /// Its process, and the number of its run; none: nothing was started.
    pub process: Option<(ProcessId, u64)>,
    /// That it has reported.
    pub port: Option<u16>,
    pub init: InitState,
}

impl ProviderNote {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let init = match self.init {
            InitState::None => v1::ProviderInit::None,
            InitState::Intended => v1::ProviderInit::Intended,
            InitState::Done => v1::ProviderInit::Done,
        };
        v1::ProviderNote {
            definition: Some(self.definition.to_wire()),
            process_id: self.process.map(|(id, _)| id.as_bytes().to_vec()).unwrap_or_default(),
            run: self.process.map_or(0, |(_, run)| run),
            port: self.port.map_or(0, u32::from),
            init: init.into(),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let w = v1::ProviderNote::decode(bytes).map_err(|e| Error::failed("decode the note", &e))?;
        let init = match w.init() {
            v1::ProviderInit::None => InitState::None,
            v1::ProviderInit::Intended => InitState::Intended,
            v1::ProviderInit::Done => InitState::Done,
        };
        let id = (!w.process_id.is_empty()).then(|| ProcessId::from_wire(&w.process_id)).transpose()?;
        Ok(Self {
            definition: Definition::from_wire(w.definition.unwrap_or_default())?,
            process: id.map(|id| (id, w.run)),
            port: u16::try_from(w.port).ok().filter(|port| *port != 0),
            init,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back() {
        let definition = Definition { binary: "/x".into(), ..Definition::default() };
        for (process, port, init) in [
            (None, None, InitState::None),
            (Some((ProcessId::new(), 1)), Some(80), InitState::Intended),
            (Some((ProcessId::new(), 7)), Some(65535), InitState::Done),
        ] {
            let note = ProviderNote { definition: definition.clone(), process, port, init };
            assert_eq!(ProviderNote::decode(&note.encode()), Ok(note));
        }
        assert!(ProviderNote::decode(&[]).is_err());
    }
}
