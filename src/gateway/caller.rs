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
use crate::meter::slowdown::Slowdown;
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
    Remote { peer: Peer, certificate: Arc<str>, remembered: Remembered, slowdown: Slowdown },
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
    /// `slowdown`: for what its logins fail.
    pub fn new(peer: Peer, verifier: Arc<Verifier>, slowdown: Slowdown) -> Self {
        let certificate = peer.typed.first().map_or("", String::as_str).into();
        Self::Remote { peer, certificate, remembered: Remembered::new(verifier), slowdown }
    }

    /// Whose share a call is part of, before its user is known.
    pub fn holder(&self, service_uid: u32) -> Holder {
        match self {
            Self::Remote { certificate, .. } => Holder::Certificate(Arc::clone(certificate)),
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
    pub fn enter(&self, gateway: &Arc<Gateway>, metadata: &Metadata) -> Result<Entry, RpcStatus> {
        self.enter_freely(gateway, metadata)?.ok_or_else(|| {
            denied(
                "a user and a password are needed",
                "on a command line --user NAME; of a program metadata: authorization: Basic BASE64(USER:PASSWORD)",
            )
        })
    }

    /// For what needs no credentials: those that are given are to be good all the same.
    pub fn enter_freely(
        &self,
        gateway: &Arc<Gateway>,
        metadata: &Metadata,
    ) -> Result<Option<Entry>, RpcStatus> {
        rest::used();
        let (peer, remembered) = match self {
            Self::Remote { peer, remembered, .. } => (peer, remembered),
            Self::Local(peer, _) => return Ok(Some(Entry::Known(format!("uid {}", peer.uid).into()))),
        };
        let mut headers = metadata.iter().filter(|(key, _)| *key == "authorization").map(|(_, value)| value);
        let Some(header) = headers.next() else { return Ok(None) };
        if headers.next().is_some() {
            return Err(denied("there is more than one 'authorization' in the metadata", ""));
        }
        if let Some(user) = remembered.recall(header) {
            return Ok(Some(Entry::Known(user)));
        }
        // What would not be looked at is refused here: a thread costs more than the refusal.
        let credentials = Credentials(Zeroizing::new(header.to_vec()));
        let Err(why) = remembered.may_try(source(peer), header, clock::now_ms()) else {
            return Ok(Some(Entry::Login(credentials)));
        };
        if gateway.notes.is_room() {
            let (ours, who) = (Arc::clone(gateway), self.peer_text());
            // Without a thread for it, it is one of those that nobody counts.
            let _ = gateway.threads.run((), move |()| note_login(&ours, &who, &credentials, why));
        }
        Err(self.refuse_login(gateway, why))
    }

    /// Checks a password. Takes tens of milliseconds, and longer while others wait.
    pub fn verify(&self, gateway: &Gateway, credentials: &Credentials) -> Result<User, RpcStatus> {
        let Self::Remote { peer, remembered, .. } = self else {
            return Err(denied("no password is asked for on this machine", ""));
        };
        remembered.verify(source(peer), &credentials.0, clock::now_ms()).map_err(|why| {
            // One whose password was looked at waits for its line, and there are few of these.
            if why == Denied::Wrong || gateway.notes.is_room() {
                note_login(gateway, &self.peer_text(), credentials, why);
            }
            self.refuse_login(gateway, why)
        })
    }

    fn refuse_login(&self, gateway: &Gateway, why: Denied) -> RpcStatus {
        // That others are looked at is no fault of this one.
        if let Self::Remote { slowdown, .. } = self
            && why != Denied::Busy
        {
            slowdown.refused(clock::now_ms());
        }
        let e = Error::from(why);
        gateway.log.say(&format!("{}: {}", self.peer_text(), e.message));
        let reason = match why {
            Denied::Busy => Reason::Busy,
            Denied::Throttled { for_ms } => Reason::Throttled { for_ms },
            Denied::Wrong => Reason::Credentials,
        };
        status::refusal(reason, &e)
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

/// Puts a refusal on record.
pub(super) fn note(who: &str, what: &str, why: &str, engine: &mut Engine) -> Result<(), Error> {
    let client = engine.client()?;
    client.on_behalf_of(Some(Behalf { who: who.to_owned(), role: Role::Viewer }));
    client.note(Note { what: fit(what), result: fit(&format!("refused: {why}")) })
}

/// The same of a login.
fn note_login(gateway: &Gateway, who: &str, credentials: &Credentials, why: Denied) {
    let user = basic::parse(&credentials.0).map_or_else(|| "nobody".into(), |login| login.user);
    let user: String = user.chars().take(64).collect();
    let what = format!("log in as {}", quoted(&user));
    // Without the service there is nowhere to put it, and nothing that could have been done.
    let _ = gateway.with(None, |engine| note(who, &what, &Error::from(why).message, engine));
}

/// What failures of logins are counted for.
fn source(peer: &Peer) -> &str {
    peer.names.first().map_or("", String::as_str)
}

fn denied(what: &str, hint: &str) -> RpcStatus {
    status::refusal(Reason::Credentials, &Error::new(Code::Refused, what).hint(hint))
}
