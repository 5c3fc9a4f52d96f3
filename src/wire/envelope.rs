//! A request as it crosses the command channel: what is asked, and on behalf of which user.

use prost::Message;

use crate::wire::error::{Code, Error};
use crate::wire::id::{is_bidi, quoted};
use crate::wire::proto::v1;
use crate::wire::request::Request;

/// The longest text that names that user, in characters.
pub const ON_BEHALF_LEN_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub request: Request,
    /// The user, where the client only hands the request on.
    pub on_behalf_of: Option<String>,
}

impl Envelope {
    /// Encoded, without the frame.
    #[must_use]
    pub fn encode(request: &Request, on_behalf_of: Option<&str>) -> Vec<u8> {
        let on_behalf_of = on_behalf_of.unwrap_or_default().to_owned();
        v1::Request { body: Some(request.to_body()), on_behalf_of }.encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let request = v1::Request::decode(bytes)
            .map_err(|e| Error::usage(format!("cannot decode the request: {e}")))?;
        let body = request.body.ok_or_else(|| {
            Error::new(Code::Refused, "the service does not know this request")
                .hint("the client may be newer than the service: compare 'provost version'")
        })?;
        let on_behalf_of = (!request.on_behalf_of.is_empty()).then_some(request.on_behalf_of);
        if let Some(text) = &on_behalf_of {
            let is_odd = |c: char| c.is_control() || is_bidi(c);
            if text.chars().count() > ON_BEHALF_LEN_MAX || text.contains(is_odd) {
                return Err(Error::usage(format!(
                    "{} is not 1 to {ON_BEHALF_LEN_MAX} printable characters",
                    quoted(text)
                )));
            }
        }
        Ok(Self { request: Request::from_body(body)?, on_behalf_of })
    }
}

impl Request {
    /// Encoded for the caller itself, without the frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Envelope::encode(self, None)
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
        Envelope::decode(&Envelope::encode(&Request::Service, Some(text))).map(|e| e.on_behalf_of)
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
