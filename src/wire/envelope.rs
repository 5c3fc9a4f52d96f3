//! A request as it crosses the command channel: what is asked, and on behalf of which user.

use prost::Message;

use crate::wire::error::{Code, Error};
use crate::wire::id::{OrderKey, is_bidi, quoted};
use crate::wire::proto::v1;
use crate::wire::request::Request;
use crate::wire::role::Role;

/// The longest text that names that user, in characters.
pub const ON_BEHALF_LEN_MAX: usize = 256;

/// The user for whom a client only hands a request on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behalf {
    /// 1 to 256 printable characters, for the record.
    pub who: String,
    /// What it may ask for.
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub request: Request,
    /// None: the client itself.
    pub on_behalf_of: Option<Behalf>,
    /// Of a restart or a signal that may be asked again.
    pub key: Option<OrderKey>,
}

impl Envelope {
    /// Encoded, without the frame.
    #[must_use]
    pub fn encode(request: &Request, on_behalf_of: Option<&Behalf>, key: Option<OrderKey>) -> Vec<u8> {
        let role = on_behalf_of.map_or(0, |behalf| behalf.role.number());
        let on_behalf_of = on_behalf_of.map_or_else(String::new, |behalf| behalf.who.clone());
        let key = key.map_or_else(Vec::new, |key| key.as_bytes().to_vec());
        v1::Request { body: Some(request.to_body()), on_behalf_of, key, role }.encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let request = v1::Request::decode(bytes)
            .map_err(|e| Error::usage(format!("cannot decode the request: {e}")))?;
        let body = request.body.ok_or_else(|| {
            Error::new(Code::Refused, "the service does not know this request")
                .hint("the client may be newer than the service: compare 'provost version'")
        })?;
        // A number that is not known is of a role that may more than it is given here.
        let role = Role::from_number(request.role).unwrap_or(Role::Viewer);
        let on_behalf_of =
            (!request.on_behalf_of.is_empty()).then_some(Behalf { who: request.on_behalf_of, role });
        if let Some(Behalf { who: text, .. }) = &on_behalf_of {
            let is_odd = |c: char| c.is_control() || is_bidi(c);
            if text.chars().count() > ON_BEHALF_LEN_MAX || text.contains(is_odd) {
                return Err(Error::usage(format!(
                    "{} is not 1 to {ON_BEHALF_LEN_MAX} printable characters",
                    quoted(text)
                )));
            }
        }
        let key = (!request.key.is_empty()).then(|| OrderKey::from_wire(&request.key)).transpose()?;
        Ok(Self { request: Request::from_body(body)?, on_behalf_of, key })
    }
}

impl Request {
    /// Encoded for the caller itself, without the frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Envelope::encode(self, None, None)
    }

    /// Decodes and checks, and leaves out on behalf of which user it is.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Envelope::decode(bytes).map(|envelope| envelope.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Option<String>, Error> {
        let behalf = Behalf {
            who: text.to_owned(),
            role: if text.starts_with("ops") { Role::Admin } else { Role::Operator },
        };
        let envelope = Envelope::decode(&Envelope::encode(&Request::Service, Some(&behalf), None))?;
        assert!(envelope.on_behalf_of.as_ref().is_none_or(|back| *back == behalf));
        Ok(envelope.on_behalf_of.map(|behalf| behalf.who))
    }

    #[test]
    fn a_request_carries_for_whom_it_is() {
        for good in ["ops@client.example (serial 7f, user demo)", "é", &"é".repeat(ON_BEHALF_LEN_MAX)] {
            assert_eq!(decoded(good), Ok(Some(good.to_owned())));
        }
        assert_eq!(decoded(""), Ok(None));
        for bad in ["a\nb", "\u{1b}[31m", "a\0", "\u{202e}x", &"x".repeat(ON_BEHALF_LEN_MAX + 1)] {
            assert_eq!(decoded(bad).map_err(|e| e.code), Err(Code::Usage), "{bad:?}");
        }
    }
}
