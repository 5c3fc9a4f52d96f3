//! The answers to all requests. Runs on the connections' threads; owns nothing but the way to what it asks.

mod audit;
mod batch;
mod health;
mod start;
mod streams;
mod upgrade;
mod who;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::context::Context;
use crate::engine::history::journal::SinkStates;
use crate::engine::process::handle::{Ask, Process};
use crate::engine::process::state::StopOrder;
use crate::engine::reconcile::Report;
pub use crate::engine::service::upgrade::Upgrades;
use crate::engine::service::who::Who;
use crate::engine::table::Table;
use crate::engine::write_queue::{Progress, TIMEOUT_MS, WriteSeq};
use crate::listener::{Caller, Closed, Replies, Service, Woken};
use crate::sys::{clock, system};
use crate::wire::envelope::Envelope;
use crate::wire::error::{Code, Error};
use crate::wire::process::State;
use crate::wire::reply::{self, Environment, More, Reply};
use crate::wire::request::{EnvChange, List, Remove, Request, Stop};
use crate::wire::spec::{Spec, check_env};
use crate::wire::time::Timestamp;

/// The process that hosts providers.
const HOST: &str = "provost.host";
/// Processes in one reply of a list: a few hundred KiB at most, since commands are cut when shown.
const LIST_BATCH: usize = 64;

/// What stands behind the listener.
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
    /// What the last reconciliation found.
    pub reconciled: Mutex<Report>,
    /// How the sinks are.
    pub sinks: SinkStates,
    /// What the service runs for itself once a client asks for it; locked while that is made.
    pub on_demand: Mutex<Vec<Spec>>,
    /// Has one of them run: `engine/internal.rs`, which is above this.
    pub run_on_demand: fn(&Engine, &str) -> Result<(), Error>,
}

impl Service for Engine {
    fn call(&self, envelope: Envelope, caller: &Caller, replies: &mut Replies<'_>) -> Result<(), Closed> {
        let last = match self.authorize_and_answer(envelope, caller, replies) {
            Ok(reply) => reply,
            Err(Failure::Failed(e)) => Reply::Error(e),
            Err(Failure::Closed) => return Err(Closed),
        };
        replies.send(&last, More::Last)
    }
}

impl Engine {
    fn authorize_and_answer(&self, envelope: Envelope, caller: &Caller, replies: &mut Replies<'_>) -> Answer {
        let who = Who::of(caller, envelope.on_behalf_of, system::euid())?;
        if let Request::Start(start) = &envelope.request {
            self.check_name(&start.spec, caller)?;
        }
        if let Some(what) = envelope.request.change() {
            return self.audited(who, what, envelope.request, replies);
        }
        let Who { cause, is_trusted, .. } = who;
        self.answer(envelope.request, &Asked { cause, is_trusted, write_seq: 0 }, replies)
    }

    /// Names of providers are given by their host, which removes what it finds under them.
    fn check_name(&self, spec: &Spec, caller: &Caller) -> Result<(), Error> {
        let Some(name) = spec.name.as_ref().filter(|name| name.is_of_provider()) else { return Ok(()) };
        let host = self.table.find(HOST).ok().and_then(|found| found.first().and_then(|p| p.record().pid));
        if host == Some(caller.pid) {
            return Ok(());
        }
        Err(Error::new(Code::Refused, format!("the name {name} is for a provider"))
            .hint("'provost provider start' starts one; other names do not begin with 'provider.'"))
    }

    /// Sends all replies but the last one, which it returns.
    fn answer(&self, request: Request, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        match request {
            Request::Start(r) => self.start(r, asked, replies),
            Request::StartAgain(targets) => self.ask_each(&targets, &|_| Ask::Start, asked, replies),
            Request::Stop(r) => {
                let order = order(&r);
                self.ask_each(&r.targets, &|_| Ask::Stop(order), asked, replies)
            }
            Request::Restart(targets) => self.ask_each(&targets, &|_| Ask::Restart, asked, replies),
            Request::Remove(r) => self.remove(&r, asked, replies),
            Request::Signal(r) => {
                let ask = Ask::Signal { signal: r.signal, scope: r.scope };
                self.ask_each(&r.targets, &|_| ask, asked, replies)
            }
            Request::Wait(r) => self.wait(&r, replies),
            Request::Status(targets) => self.status(&targets, replies),
            Request::List(r) => self.list(&r, replies),
            Request::Output(r) => self.output(&r, replies),
            Request::Stream(r) => self.stream(&r, replies),
            Request::Follow(r) => self.follow(&r, asked, replies),
            Request::Env(r) => self.env(&r, asked, replies),
            Request::Events(r) => self.events(&r, replies),
            Request::Service => Ok(self.about()),
            Request::Health => Ok(Reply::Health(self.health())),
            Request::Upgrade(r) => self.upgrade(&r, asked, replies),
            Request::AuditLog(r) => self.audit(r, replies),
            Request::Host => {
                (self.run_on_demand)(self, HOST)?;
                Ok(Reply::Done)
            }
            Request::Provider(_) => {
                let e = Error::new(Code::Refused, "the engine knows nothing of providers");
                Err(e.hint("their host does, at its own socket: 'provost provider' finds it").into())
            }
            // A note is nothing but its line in the audit.
            Request::Note(_) => {
                self.recorded(asked.write_seq, replies)?;
                Ok(Reply::Done)
            }
        }
    }
}

fn order(r: &Stop) -> StopOrder {
    StopOrder { signal: r.signal, timeout: r.timeout, scope: r.scope, no_kill: r.no_kill, for_now: false }
}

/// The last reply to a request, or why there is none.
type Answer = Result<Reply, Failure>;

/// Why a request was not answered to its end.
#[derive(Debug)]
enum Failure {
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
struct Asked {
    /// For events and records.
    cause: String,
    is_trusted: bool,
    /// What has to be written before anything is answered.
    write_seq: WriteSeq,
}

impl Engine {
    /// The processes that the targets mean, each once; and the targets that mean none.
    fn find_all(&self, targets: &[String]) -> (Vec<Arc<Process>>, Vec<(String, Error)>) {
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

    /// Waits until what was marked up to this number is on the disk. What is returned says why it is not.
    fn recorded(&self, write_seq: WriteSeq, replies: &mut Replies<'_>) -> Result<Option<String>, Closed> {
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

    fn status(&self, targets: &[String], replies: &mut Replies<'_>) -> Answer {
        let (found, missing) = self.find_all(targets);
        for process in found {
            replies.send(&batch::item(&process, None), More::Follows)?;
        }
        for (target, error) in missing {
            replies.send(&batch::missing(target, error), More::Follows)?;
        }
        Ok(Reply::Done)
    }

    fn list(&self, r: &List, replies: &mut Replies<'_>) -> Answer {
        let mut found = match &r.pattern {
            None => self.table.all(),
            Some(pattern) => self.table.matching(pattern),
        };
        found.retain(|p| r.all || !p.is_internal);
        for some in found.chunks(LIST_BATCH) {
            let shown = some.iter().map(|p| p.show()).collect();
            replies.send(&Reply::Processes(shown), More::Follows)?;
        }
        Ok(Reply::Done)
    }

    /// Removes what is at rest; by force, stops it first.
    fn remove(&self, r: &Remove, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        let (found, _) = self.find_all(&r.targets);
        if let Some(internal) = found.iter().find(|p| p.is_internal) {
            let e = format!("{} is what the service runs for itself", internal.label());
            let e = Error::new(Code::Refused, e);
            return Err(e.hint("it goes when the configuration does not ask for it any more").into());
        }
        if r.force {
            self.ask_all(&found, &Ask::Stop(StopOrder::default()), asked, replies)?;
        }
        self.ask_each(&r.targets, &|_| Ask::Remove, asked, replies)
    }

    fn env(&self, r: &EnvChange, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        r.set.iter().try_for_each(|(key, value)| check_env(key, value))?;
        r.unset.iter().try_for_each(|key| check_env(key, ""))?;
        let env = self.context.feed.change_env(&r.set, &r.unset, &asked.cause)?;
        let is_change = !r.set.is_empty() || !r.unset.is_empty();
        let write_seq = if is_change { self.context.write_queue.mark_env() } else { 0 };
        let unrecorded = self.recorded(write_seq, replies)?;
        Ok(Reply::Environment(Environment { env, unrecorded }))
    }

    fn about(&self) -> Reply {
        let all = self.table.others();
        let running = all.iter().filter(|p| p.record().state == State::Running).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Reply::Service(reply::Service {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            keeper_pid: system::parent_pid(),
            engine_pid: std::process::id(),
            started_at: self.started_at,
            engine_starts: self.engine_starts,
            processes: count(all.len()),
            running: count(running),
            cgroups: self.context.cgroups.is_some(),
            keeper_version: self.keeper_version.clone(),
        })
    }
}
