//! How whoever listens on a provider's port proves to the host that it is this launch of it, before anything
//! is said to it: by the certificate of the launch, by its token, or both. Where the definition asks for
//! neither, the owner of the port has to do (`port_owner.rs`).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{CallOption, Environment, Metadata, MetadataBuilder};
use rustls::ClientConfig;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::provider::failure::Failure;
use crate::provider::port_owner::{NotConnected, Port};
use crate::rpc::local_channel::LocalChannel;
use crate::sdk::launch;
use crate::sys::clock;
use crate::tls::carried::carry;
use crate::tls::material::{Contents, client_of};
use crate::tls::tunnel;
use crate::wire::error::{Code, Error};
use crate::wire::note::ProviderProof;
use crate::wire::time::millis;

/// What the host knows of a launch. A clone is the same.
#[derive(Clone, Default)]
pub struct Proof {
    tls: Option<Arc<ClientConfig>>,
    cookie: Option<Arc<Zeroizing<String>>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotOpen {
    Unreachable(io::Error),
    /// Its port is another's, as this says.
    Taken(String),
    /// It did not prove in time who it is.
    Late(Duration),
    /// It is not the provider, or cannot show that it is.
    Unproven(String),
    /// What we would have to show is not there.
    BadFiles(String),
}

impl NotOpen {
    pub fn failure(self) -> Failure {
        match self {
            Self::Unreachable(e) => {
                Failure::Unavailable { message: format!("it cannot be connected to: {e}") }
            }
            Self::Taken(why) => Failure::Unavailable { message: why },
            Self::Late(after) => Failure::Deadline { call: "Health", after },
            Self::Unproven(why) => Failure::NotProven { why },
            Self::BadFiles(why) => Failure::BadEnd { why },
        }
    }

    /// The same of one that somebody else runs.
    pub fn failure_of_remote(self) -> Failure {
        match self {
            Self::Unproven(why) => Failure::Unproven { why },
            other => other.failure(),
        }
    }
}

impl From<io::Error> for NotOpen {
    fn from(e: io::Error) -> Self {
        Self::Unreachable(e)
    }
}

impl From<NotConnected> for NotOpen {
    fn from(why: NotConnected) -> Self {
        match why {
            NotConnected::Failed(e) => Self::Unreachable(e),
            NotConnected::Taken { .. } => Self::Taken(why.to_string()),
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

impl Proof {
    pub fn of(known: &ProviderProof) -> Result<Self, Error> {
        let tls = known.tls.as_ref().map(|keys| {
            let path = Path::new("of this launch");
            let (certificate, key, ca) = (&keys.certificate, &keys.private_key, &keys.authority);
            client_of(&Contents::of_pem(path, certificate, key, ca))
        });
        let cookie = known.cookie.clone().map(|cookie| Arc::new(Zeroizing::new(cookie)));
        Ok(Self { tls: tls.transpose()?, cookie })
    }

    /// A channel to this port of a provider; with certificates, to nobody who has not its own.
    pub fn connect(
        &self,
        port: Port,
        timeout: Duration,
        environment: Arc<Environment>,
        receive_max: i32,
    ) -> Result<LocalChannel, NotOpen> {
        let deadline_ms = clock::now_ms() + millis(timeout);
        let tcp = port.connect(timeout)?;
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number)).to_string();
        let Some(tls) = &self.tls else {
            tcp.set_nodelay(true)?;
            return Ok(LocalChannel::over(tcp.into(), &target, environment, receive_max)?);
        };
        let name = Ipv4Addr::LOCALHOST.to_string();
        let tunnel = tunnel::connect(tcp, Arc::clone(tls), &name, deadline_ms).map_err(|e| match e.code {
            Code::TimedOut => NotOpen::Late(timeout),
            _ => NotOpen::Unproven(e.message),
        })?;
        let (plain, _) = carry(tunnel)?;
        Ok(LocalChannel::over(plain.into(), &target, environment, receive_max)?)
    }

    /// What is asked of the provider with a Health call; none: it needs no token.
    pub fn challenge(&self) -> Option<Challenge> {
        let cookie = Arc::clone(self.cookie.as_ref()?);
        Some(Challenge { text: Uuid::new_v4().simple().to_string(), cookie })
    }
}

/// Good for one answer.
pub struct Challenge {
    text: String,
    cookie: Arc<Zeroizing<String>>,
}

impl Challenge {
    /// The call that carries it.
    pub fn add_to(&self, option: CallOption) -> CallOption {
        let mut headers = MetadataBuilder::new();
        headers.add_str(launch::CHALLENGE, &self.text).expect("digits can be sent");
        option.headers(headers.build())
    }

    /// Whether the answer to it is of somebody who knows the token.
    pub fn is_met_by(&self, headers: &Metadata) -> Result<(), NotOpen> {
        let found = headers.iter().find(|(key, _)| *key == launch::PROOF).map(|(_, value)| value);
        let wanted = launch::proof(&self.cookie, self.text.as_bytes());
        match found {
            Some(found) if found.ct_eq(wanted.as_bytes()).into() => Ok(()),
            Some(_) => Err(NotOpen::Unproven("its proof is not made with the cookie of this launch".into())),
            None => {
                Err(NotOpen::Unproven("it gives no proof that it knows the cookie of this launch".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_met_by_who_knows_the_token_and_by_no_other() {
        let proof = Proof::of(&ProviderProof { tls: None, cookie: Some("token".into()) }).unwrap();
        let challenge = proof.challenge().unwrap();
        let answer = |key: &str, value: &str| {
            let mut headers = MetadataBuilder::new();
            headers.add_str(key, value).unwrap();
            challenge.is_met_by(&headers.build()).is_ok()
        };
        let right = launch::proof("token", challenge.text.as_bytes());
        assert!(answer(launch::PROOF, &right));
        assert!(!answer("provider-proofs", &right));
        assert!(!answer(launch::PROOF, &launch::proof("tokens", challenge.text.as_bytes())));
        assert!(!answer(launch::PROOF, "token") && !answer(launch::PROOF, ""));
        // An answer that was seen once is of no use for the next.
        let next = proof.challenge().unwrap();
        assert_ne!(launch::proof("token", next.text.as_bytes()), right);
        assert!(Proof::default().challenge().is_none());
    }
}
