//! What one host leaves to the next about a registration of modules. The next one may be of another version:
//! fields are never reused.

use prost::Message;

use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::time::Timestamp;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleNote {
    /// The run of the machine that it holds for.
    pub boot: String,
    pub registered_at: Timestamp,
    /// The message of the protocol, with what was accepted of it.
    pub registration: Vec<u8>,
    /// Who has registered it; empty: a program on this machine.
    pub owner: String,
}

impl ModuleNote {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        v1::ModuleNote {
            boot: self.boot.clone(),
            registered_at: self.registered_at.0,
            registration: self.registration.clone(),
            owner: self.owner.clone(),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let w = v1::ModuleNote::decode(bytes).map_err(|e| Error::failed("decode the note", &e))?;
        let registered_at = Timestamp(w.registered_at);
        Ok(Self { boot: w.boot, registered_at, registration: w.registration, owner: w.owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back() {
        let note = ModuleNote {
            boot: "b".into(),
            registered_at: Timestamp(5),
            registration: vec![1],
            owner: "dns:a".into(),
        };
        assert_eq!(ModuleNote::decode(&note.encode()), Ok(note));
        assert!(ModuleNote::decode(&[0xff]).is_err());
    }
}
