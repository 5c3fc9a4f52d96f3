//! What one host leaves to the next about a provider: a small file for each. The next one may be of another
//! version: fields are never reused.

use std::fmt;

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
    /// How it and its host prove who they are.
    pub proof: ProviderProof,
}

/// The host's end of what both ends of a launch prove who they are with. All secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ProviderProof {
    pub tls: Option<ProviderKeys>,
    /// A token that the provider knows.
    pub cookie: Option<String>,
}

/// All PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ProviderKeys {
    /// Of the host.
    pub certificate: String,
    pub private_key: String,
    /// The one that the provider's certificate has to come from.
    pub authority: String,
}

impl fmt::Debug for ProviderProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderProof").finish_non_exhaustive()
    }
}

impl ProviderProof {
    fn to_wire(&self) -> Option<v1::ProviderProof> {
        let ProviderKeys { certificate, private_key, authority } = self.tls.clone().unwrap_or_default();
        let cookie = self.cookie.clone().unwrap_or_default();
        let is_some = self.tls.is_some() || self.cookie.is_some();
        is_some.then_some(v1::ProviderProof { certificate, private_key, authority, cookie })
    }

    fn from_wire(w: v1::ProviderProof) -> Self {
        let v1::ProviderProof { certificate, private_key, authority, cookie } = w;
        let has_tls = !certificate.is_empty();
        let tls = has_tls.then_some(ProviderKeys { certificate, private_key, authority });
        Self { tls, cookie: (!cookie.is_empty()).then_some(cookie) }
    }
}

impl ProviderNote {
    /// That nothing of it was started.
    #[must_use]
    pub fn of(definition: Definition) -> Self {
        let proof = ProviderProof::default();
        Self { definition, process: None, port: None, init: InitState::None, proof }
    }

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
            proof: self.proof.to_wire(),
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
            proof: ProviderProof::from_wire(w.proof.unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back() {
        let definition = Definition { binary: "/x".into(), ..Definition::default() };
        let keys =
            || ProviderKeys { certificate: "a".into(), private_key: "secret".into(), authority: "b".into() };
        for (process, port, init, tls, cookie) in [
            (None, None, InitState::None, None, None),
            (Some((ProcessId::new(), 1)), Some(80), InitState::Intended, Some(keys()), None),
            (Some((ProcessId::new(), 7)), Some(65535), InitState::Done, Some(keys()), Some("secret".into())),
        ] {
            let proof = ProviderProof { tls, cookie };
            let note = ProviderNote { definition: definition.clone(), process, port, init, proof };
            assert!(!format!("{note:?}").contains("secret"));
            assert_eq!(ProviderNote::decode(&note.encode()), Ok(note));
        }
        assert!(ProviderNote::decode(&[]).is_err());
    }
}
