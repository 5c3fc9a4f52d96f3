//! The caller at the other end of a connection: the certificate that it has proven to own, and the users that
//! it has logged in as.

use std::sync::Arc;

use grpcio::{Metadata, RpcStatus};
use zeroize::Zeroizing;

use crate::access::basic;
use crate::access::remembered::Remembered;
use crate::access::verifier::{Denied, Verifier};
use crate::gateway::pool::Engine;
use crate::gateway::running::RunningCall;
use crate::gateway::shared::Gateway;
use crate::gateway::shares::{Holder, Place};
use crate::gateway::threads::busy;
use crate::rpc::status::{self, Reason};
use crate::sys::socket::PeerCredentials;
use crate::sys::{clock, rest};
use crate::tls::identity::Peer;
use crate::wire::audit::{Note, fit};
use crate::wire::envelope::Behalf;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::role::Role;

/// A user that has logged in.
pub(super) type User = Arc<str>;

/// The caller of one connection.
pub(super) enum Caller {
    /// Over the network.
    Remote { peer: Peer, remembered: Remembered },
    /// On this machine, as the kernel says: root or the service's own user, or one whose group has a role.
    Local(PeerCredentials, Role),
}

/// What the metadata of a call says about its user.
pub(super) enum Entry {
    Known(User),
    /// To be verified, which takes a while.
    Login(Credentials),
}

impl Entry {
    /// The user, if there is nothing to verify.
    pub fn known(&self) -> Option<&User> {
        match self {
            Self::Known(user) => Some(user),
            Self::Login(_) => None,
        }
    }
}

/// The header with user and password.
pub(super) struct Credentials(Zeroizing<Vec<u8>>);

impl Caller {
    pub fn new(peer: Peer, verifier: Arc<Verifier>) -> Self {
        Self::Remote { peer, remembered: Remembered::new(verifier) }
    }

    /// Whose share a call is part of, before its user is known.
    pub fn holder(&self, service_uid: u32) -> Holder {
        match self {
            Self::Remote { peer, .. } => {
                Holder::Certificate(peer.typed.first().map_or("", String::as_str).into())
            }
            Self::Local(peer, _) if peer.uid == 0 || peer.uid == service_uid => Holder::Uid(peer.uid),
            Self::Local(peer, _) => Holder::Member(peer.uid),
        }
    }

    /// The call is part of this user's share, too.
    pub fn share(&self, place: &mut Place, user: &User) -> Result<(), RpcStatus> {
        let is_free = match self {
            Self::Remote { .. } => place.is_also_of(Holder::User(Arc::clone(user))),
            Self::Local(..) => true,
        };
        is_free.then_some(()).ok_or_else(busy)
    }

    /// What a call begins with: credentials.
    pub fn enter(&self, metadata: &Metadata) -> Result<Entry, RpcStatus> {
        self.enter_freely(metadata)?.ok_or_else(|| {
            denied(
                "a user and a password are needed",
                "send them as metadata: authorization: Basic BASE64(USER:PASSWORD)",
            )
        })
    }

    /// For what needs no credentials: those that are given are to be good all the same.
    pub fn enter_freely(&self, metadata: &Metadata) -> Result<Option<Entry>, RpcStatus> {
        rest::used();
        let remembered = match self {
            Self::Remote { remembered, .. } => remembered,
            Self::Local(peer, _) => return Ok(Some(Entry::Known(format!("uid {}", peer.uid).into()))),
        };
        let mut headers = metadata.iter().filter(|(key, _)| *key == "authorization").map(|(_, value)| value);
        let Some(header) = headers.next() else { return Ok(None) };
        if headers.next().is_some() {
            return Err(denied("there is more than one 'authorization' in the metadata", ""));
        }
        Ok(Some(match remembered.recall(header) {
            Some(user) => Entry::Known(user),
            None => Entry::Login(Credentials(Zeroizing::new(header.to_vec()))),
        }))
    }

    /// Checks a password. Takes tens of milliseconds, and longer while others wait.
    pub fn verify(&self, gateway: &Gateway, credentials: &Credentials) -> Result<User, RpcStatus> {
        let Self::Remote { peer, remembered } = self else {
            return Err(denied("no password is asked for on this machine", ""));
        };
        let source = peer.names.first().map_or("", String::as_str);
        remembered.verify(source, &credentials.0, clock::now_ms()).map_err(|why| {
            let text = Error::from(why).message;
            gateway.log.say(&format!("{}: {text}", self.peer_text()));
            let user = basic::parse(&credentials.0).map_or_else(|| "nobody".into(), |login| login.user);
            let user: String = user.chars().take(64).collect();
            // One whose password was looked at waits for its line, and there are few of these. Of others,
            // which cost nothing, one at a time is counted.
            let turn = match why {
                Denied::Wrong => Some(gateway.notes.lock()),
                Denied::Throttled { .. } | Denied::Busy => gateway.notes.try_lock(),
            };
            if turn.is_some() {
                let what = format!("log in as {}", quoted(&user));
                self.note(&self.peer_text(), &what, &text, &mut gateway.engine());
            }
            let reason = match why {
                Denied::Busy => Reason::Busy,
                Denied::Throttled { for_ms } => Reason::Throttled { for_ms },
                Denied::Wrong => Reason::Credentials,
            };
            status::refusal(reason, &why.into())
        })
    }

    /// Puts a refusal on record.
    pub fn note(&self, who: &str, what: &str, why: &str, engine: &mut Engine) {
        if let Ok(client) = engine.client() {
            client.on_behalf_of(Some(Behalf { who: who.to_owned(), role: Role::Viewer }));
            // Without the service there is nowhere to put it, and nothing that could have been done.
            let _ = client.note(Note { what: fit(what), result: fit(&format!("refused: {why}")) });
        }
    }

    /// The lower of the certificate's role and the user's.
    pub fn role(&self, gateway: &Gateway, user: &User) -> Result<Role, RpcStatus> {
        let peer = match self {
            Self::Remote { peer, .. } => peer,
            Self::Local(_, role) => return Ok(*role),
        };
        let Some(access) = gateway.access() else { return Err(denied("nobody may come in", "")) };
        access.roles.of(&peer.typed, user).ok_or_else(|| {
            let e = access.roles.missing(&peer.typed, user);
            gateway.log.say(&format!("{}: {}", self.who(user), e.message));
            status::refusal(Reason::Role, &e)
        })
    }

    /// A call that lasts. `generation`: of the users, from before the credentials were looked at.
    pub fn begin(&self, gateway: &Gateway, user: &User, generation: u64) -> Result<RunningCall, RpcStatus> {
        let Self::Remote { peer, .. } = self else { return Ok(RunningCall::unjudged()) };
        gateway.running.enter(&peer.typed, user, || {
            let rights = gateway.rights(&peer.typed, user);
            if gateway.verifier.generation() == generation {
                return Ok(rights);
            }
            let e = Error::new(Code::Refused, "the users have changed just now").hint("come again");
            Err(status::refusal(Reason::Busy, &e))
        })
    }

    /// For whom the service is asked, and what that one may ask for: the engine holds it, too.
    pub fn behalf(&self, gateway: &Gateway, user: &User) -> Result<Behalf, RpcStatus> {
        Ok(Behalf { who: self.who(user), role: self.role(gateway, user)? })
    }

    /// For the record: user, certificate and its serial number; on this machine as with other local clients.
    pub fn who(&self, user: &User) -> String {
        match self {
            Self::Remote { .. } => format!("user {user}, {}", self.peer_text()),
            Self::Local(..) => self.peer_text(),
        }
    }

    fn peer_text(&self) -> String {
        let peer = match self {
            Self::Remote { peer, .. } => peer,
            Self::Local(peer, _) => return format!("uid {} pid {}", peer.uid, peer.pid),
        };
        format!("certificate {} serial {:.64}", peer.shown(), peer.serial)
    }
}

fn denied(what: &str, hint: &str) -> RpcStatus {
    status::refusal(Reason::Credentials, &Error::new(Code::Refused, what).hint(hint))
}
