//! What every answer needs: the parts of the engine, and what is known of the client.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::engine::context::Context;
use crate::engine::history::journal::SinkStates;
use crate::engine::process::handle::Process;
use crate::engine::service::refusals::Refusals;
use crate::engine::service::upgrades::Upgrades;
use crate::engine::settings::GatewaySource;
use crate::engine::table::Table;
use crate::engine::write_queue::{Progress, TIMEOUT_MS, WriteSeq};
use crate::listener::{Closed, Replies, Woken};
use crate::sys::clock;
use crate::sys::poll::Waker;
use crate::wire::error::{ADMIN_ONLY, Code, Error};
use crate::wire::health::Reconciled;
use crate::wire::id::{Name, OrderKey};
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::role::Role;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// Has what is called so run, if it does not yet.
pub type RunOnDemand = fn(&Engine, &str) -> Result<(), Error>;

/// Refuses what a role is not enough for.
pub type Allow = fn(Role, &Request) -> Result<(), Error>;

/// Has the gateway be what the configuration says.
pub type Reload = fn(&Engine) -> Result<(), Error>;

/// What stands behind the listener in the engine: `mod.rs` beside this implements its `Service`, and the
/// other files here answer.
#[derive(Debug)]
pub struct Engine {
    pub table: Arc<Table>,
    pub context: Arc<Context>,
    pub started_at: Timestamp,
    pub engine_starts: u64,
    pub keeper_version: String,
    /// Where the service was started from: its next binary will be there.
    pub exe: Option<PathBuf>,
    pub upgrades: Upgrades,
    /// Refusals that may repeat.
    pub refusals: Mutex<Refusals>,
    /// What the last reconciliation found.
    pub reconciled: Mutex<Reconciled>,
    /// How the sinks are.
    pub sinks: SinkStates,
    /// What the service runs for itself once a client asks for it; locked while that is made.
    pub on_demand: Mutex<Vec<Spec>>,
    /// Has one of them run: `engine/internal.rs`, which is above this.
    pub run_on_demand: RunOnDemand,
    /// Who may ask for what: the table is `access/policy.rs`, which is above this.
    pub allow: Allow,
    /// The socket for gRPC on this machine, if the keeper has one.
    pub grpc: Option<OwnedFd>,
    /// What the gateway is and works with.
    pub gateway: GatewaySource,
    /// Held while it is made to be what the configuration says.
    pub gateway_specs: Mutex<()>,
    /// Does that: `engine/internal.rs`, as above.
    pub reload: Reload,
    /// For threads of its own, once it is shared.
    pub itself: OnceLock<Weak<Engine>>,
    /// Who reports about what the service runs for itself.
    pub reporter: Mutex<Option<Waker>>,
}

/// The last reply to a request, or why there is none.
pub(super) type Answer = Result<Reply, Failure>;

/// Why a request was not answered to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The whole request failed; the client is to read why.
    Failed(Error),
    /// The client is gone.
    Closed,
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl From<Closed> for Failure {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

/// What is known of the client and the request while it is answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// For events and records.
    pub cause: String,
    pub is_trusted: bool,
    /// Whether it may have to do with what the service runs for itself.
    pub is_admin: bool,
    /// Of an order that may be asked again.
    pub key: Option<OrderKey>,
    /// Whether the gateway asks, for itself or for others.
    pub is_gateway: bool,
    /// What has to be written before anything is answered.
    pub write_seq: WriteSeq,
}

impl Engine {
    /// The processes that the targets mean, each once; and the targets that mean none.
    pub(super) fn find_all(&self, targets: &[String]) -> (Vec<Arc<Process>>, Vec<(String, Error)>) {
        let mut seen = BTreeSet::new();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for target in targets {
            match self.table.find(target) {
                Ok(processes) => found.extend(processes.into_iter().filter(|p| seen.insert(p.id))),
                Err(e) => missing.push((target.clone(), e)),
            }
        }
        (found, missing)
    }

    /// The same for what goes into a process or reads what it prints. What the service runs for itself, and
    /// the providers that its host keeps, are there for administrators only.
    pub(super) fn find_allowed(
        &self,
        targets: &[String],
        asked: &Asked,
    ) -> (Vec<Arc<Process>>, Vec<(String, Error)>) {
        let (found, mut missing) = self.find_all(targets);
        let (allowed, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|p| check(p, asked).is_ok());
        missing.extend(refused.iter().filter_map(|p| Some((p.label(), check(p, asked).err()?))));
        (allowed, missing)
    }

    /// Waits until what was marked up to this number is on the disk. What is returned says why it is not.
    pub(super) fn recorded(
        &self,
        write_seq: WriteSeq,
        replies: &mut Replies<'_>,
    ) -> Result<Option<String>, Closed> {
        let write_queue = &self.context.write_queue;
        let deadline = clock::now_ms() + TIMEOUT_MS;
        let _woken = write_queue.woken_by_writes(replies.waker());
        loop {
            match write_queue.progress(write_seq) {
                Progress::Written => return Ok(None),
                Progress::Failing(why) => return Ok(Some(why)),
                Progress::Pending => {}
            }
            if replies.wait(Some(deadline))? == Woken::Deadline {
                return Ok(Some(format!("the database has not answered within {TIMEOUT_MS} ms")));
            }
        }
    }
}

/// Refuses a process of the service's own to who is no administrator.
pub(super) fn check(process: &Process, asked: &Asked) -> Result<(), Error> {
    let is_own = process.is_internal || process.name.as_ref().is_some_and(Name::is_of_provider);
    if asked.is_admin || !is_own {
        return Ok(());
    }
    let message = format!("{} is what the service runs for itself: that needs admin", process.label());
    Err(Error::new(Code::Refused, message).reason(ADMIN_ONLY))
}
