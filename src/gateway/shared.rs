//! What all threads of the gateway share.

use std::sync::Arc;

use grpcio::Environment;
use parking_lot::Mutex;
use rustls::ServerConfig;

use crate::access::roles::Roles;
use crate::access::verifier::Verifier;
use crate::client::Address;
use crate::gateway::live::Live;
use crate::gateway::log::Log;
use crate::gateway::pool::{Engine, Pool};
use crate::gateway::rate_limit::RateLimit;
use crate::gateway::running::{Rights, Running};
use crate::gateway::serving::Serving;
use crate::gateway::settings::Limits;
use crate::gateway::setup::Network;
use crate::gateway::shares::Shares;
use crate::gateway::threads::Threads;
use crate::guard::token_bucket::{Rate, TokenBucket};
use crate::meter::budget::Budget;
use crate::sys::clock;
use crate::tls::material;
use crate::tls::verify::Clients;
use crate::wire::error::Error;
use crate::wire::role::GroupRoles;

/// So many connections are kept for the next calls with threads of their own.
const RESTED_MAX: usize = 4;

pub(super) struct Gateway {
    pub limits: Limits,
    /// Of the engine behind.
    pub address: Address,
    /// Of the service: on this machine it and root may do everything.
    pub service_uid: u32,
    /// Who comes in on this machine besides root and the service's own user.
    pub groups: GroupRoles,
    /// None: nobody comes in over the network.
    pub access: Mutex<Option<Arc<Access>>>,
    pub verifier: Arc<Verifier>,
    pub rate_limit: RateLimit,
    pub live: Live,
    pub running: Running,
    pub env: Arc<Environment>,
    pub pool: Pool,
    /// Connections of calls with threads of their own that have ended.
    pub rested: Mutex<Vec<Engine>>,
    /// What all connections hold of requests that are not at their end.
    pub unfinished: Budget,
    /// And of answers that their clients have not taken.
    pub unread: Budget,
    pub threads: Threads,
    /// Whose the calls with threads of their own are.
    pub lasting: Shares,
    /// The same of calls for the pool.
    pub quick: Shares,
    pub serving: Serving,
    pub log: Log,
    pub notes: Notes,
}

/// Lines about logins at which nobody has looked, which cost those who send them nothing: a few are put on
/// record, and the others are not counted.
pub(super) struct Notes(Mutex<TokenBucket>);

/// How many there may be.
const NOTES: Rate = Rate { burst: 10, per_second: 5 };

impl Default for Notes {
    fn default() -> Self {
        Self(Mutex::new(TokenBucket::full(NOTES, clock::now_ms())))
    }
}

impl Notes {
    /// Whether there is room for one more.
    pub fn is_room(&self) -> bool {
        let mut bucket = self.0.lock();
        bucket.refill(clock::now_ms());
        let is_room = !bucket.is_in_debt();
        if is_room {
            bucket.take(1);
        }
        is_room
    }
}

/// Which clients may connect and what they may do: as the files say.
pub(super) struct Access {
    pub tls: Arc<ServerConfig>,
    /// Which clients that lets in.
    pub clients: Clients,
    pub roles: Roles,
    /// Whether there is a list of the revoked.
    has_list: bool,
}

impl Access {
    pub fn of(network: &Network) -> Result<Self, Error> {
        let (tls, clients) =
            (material::server_of(&network.contents)?, material::clients_of(&network.contents)?);
        let has_list = network.contents.files.crl.is_some();
        Ok(Self { tls, clients, roles: network.roles.clone(), has_list })
    }
}

impl Access {
    /// What follows this one, if it may: where there was a list of the revoked, its absence revokes nothing
    /// that is meant.
    pub fn replace_by(&self, network: &Network) -> Result<Self, Error> {
        if self.has_list && network.contents.files.crl.is_none() {
            let e = Error::usage("there is no list of the revoked any more (crl.pem)");
            return Err(e.hint("put it back; 'provost restart provost.gateway' begins without one"));
        }
        Self::of(network)
    }
}

impl Gateway {
    pub fn access(&self) -> Option<Arc<Access>> {
        self.access.lock().clone()
    }

    /// What this user has with a certificate of these names.
    pub fn rights(&self, names: &[String], user: &str) -> Rights {
        let hash = self.verifier.users().get(user).cloned();
        Rights { hash, role: self.access().and_then(|access| access.roles.of(names, user)) }
    }

    /// The service behind, for a call that has a thread of its own, and takes its connections over.
    pub fn engine(&self) -> Engine {
        Engine::new(self.address.clone())
    }

    /// One whose connections are at rest, if there is one.
    pub fn rested(&self) -> Option<Engine> {
        self.rested.lock().pop()
    }

    /// The next call has its connections, which are as they were.
    pub fn rest(&self, mut engine: Engine) {
        if engine.rest() {
            let mut rested = self.rested.lock();
            if rested.len() < RESTED_MAX {
                rested.push(engine);
            }
        }
    }

    /// For a call that leaves them as they were, where all goes well; with its own or one at rest.
    pub fn with<T, E>(
        &self,
        engine: Option<Engine>,
        work: impl FnOnce(&mut Engine) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut engine = engine.or_else(|| self.rested()).unwrap_or_else(|| self.engine());
        let result = work(&mut engine)?;
        self.rest(engine);
        Ok(result)
    }
}
