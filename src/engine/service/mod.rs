//! The answers to all requests. Runs on the connections' threads; owns nothing but the way to what it asks.

mod announce;
mod audit;
mod batch;
mod definitions;
mod engine;
mod health;
mod needs;
mod refusals;
mod start;
mod streams;
mod upgrade;
mod upgrades;
mod usage;
mod who;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::engine::process::handle::{Ask, Process};
use crate::engine::process::input::StopOrder;
use crate::engine::service::engine::{Answer, Asked, Failure};
use crate::engine::service::who::Who;
use crate::listener::{Caller, Closed, Replies, Service};
use crate::sys::{procfs, system};
use crate::wire::audit::{Note, fit};
use crate::wire::envelope::Envelope;
use crate::wire::error::{Code, Error};
use crate::wire::process::State;
use crate::wire::provider::HOST;
use crate::wire::reply::{self, Environment, Item, More, Reply};
use crate::wire::request::{EnvChange, List, Remove, Request, Status, Stop};
use crate::wire::role::Role;
use crate::wire::spec::{Spec, check_env};

pub use crate::engine::service::engine::{Allow, Engine, Reload, RunOnDemand};
pub use crate::engine::service::refusals::Refusals;
pub use crate::engine::service::upgrades::Upgrades;

/// Processes in one reply of a list: a few hundred KiB at most, since commands are cut when shown.
const LIST_BATCH: usize = 64;

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
        let who = Who::of(caller, envelope.on_behalf_of)?;
        if let Err(e) = self.admit(caller, who.role, &envelope.request) {
            let request = &envelope.request;
            let what =
                request.on_record().map_or_else(|| request.verb().to_owned(), |what| self.named(&what));
            let note = Note { what: fit(&what), result: fit(&format!("refused: {}", e.message)) };
            let what = note.what.clone();
            self.audited(who, what, Request::Note(note), None, replies)?;
            return Err(e.into());
        }
        if let Request::Start(start) = &envelope.request {
            self.check_name(&start.spec, caller)?;
        }
        if matches!(envelope.request, Request::Announce(_)) && !self.is_host(caller) {
            let e = Error::new(Code::Refused, "only the host of providers adds events");
            return Err(e.into());
        }
        if matches!(envelope.request, Request::Keep(_) | Request::Documents(_)) && !self.is_host(caller) {
            let e = Error::new(Code::Refused, "only the host of providers has documents");
            return Err(e.into());
        }
        if let Some(what) = envelope.request.on_record() {
            return self.audited(who, self.named(&what), envelope.request, envelope.key, replies);
        }
        let Who { cause, is_trusted, is_admin, is_gateway, .. } = who;
        let asked = Asked { cause, is_trusted, is_admin, is_gateway, key: envelope.key, write_seq: 0 };
        self.answer(envelope.request, &asked, replies)
    }

    /// With names in place of the ids of what has one: who reads the audit looks for these.
    fn named(&self, what: &str) -> String {
        let named = |word: &str| Some(self.table.get(word.parse().ok()?)?.label());
        let words: Vec<_> =
            what.split(' ').map(|word| named(word).unwrap_or_else(|| word.to_owned())).collect();
        words.join(" ")
    }

    /// Refuses what a role is not enough for. Some is asked by the gateway for itself, and by nobody else.
    fn admit(&self, caller: &Caller, role: Role, request: &Request) -> Result<(), Error> {
        match request {
            Request::Note(_) if caller.is_gateway => Ok(()),
            Request::GrpcListener | Request::GatewaySetup { .. } if caller.is_gateway => Ok(()),
            Request::GrpcListener | Request::GatewaySetup { .. } => {
                Err(Error::new(Code::Refused, "only the gateway of this service asks for this"))
            }
            _ => (self.allow)(role, request),
        }
    }

    /// Names of providers are given by their host, which removes what it finds under them.
    fn check_name(&self, spec: &Spec, caller: &Caller) -> Result<(), Error> {
        let Some(name) = spec.name.as_ref().filter(|name| name.is_of_provider()) else { return Ok(()) };
        if self.is_host(caller) {
            return Ok(());
        }
        Err(Error::new(Code::Refused, format!("the name {name} is for a provider"))
            .hint("'provost provider start' starts one; other names do not begin with 'provider.'"))
    }

    /// Sends all replies but the last one, which it returns.
    fn answer(&self, request: Request, asked: &Asked, replies: &mut Replies<'_>) -> Answer {
        match request {
            Request::Start(r) => self.start(*r, asked, replies),
            Request::StartAgain(targets) => {
                self.pull_up(&self.find_allowed(&targets, asked).0, asked);
                self.ask_each(&targets, &|_| Ask::Start, asked, replies)
            }
            Request::Update(r) => self.update(*r, asked, replies),
            Request::Definitions(targets) => self.definitions(&targets, asked, replies),
            Request::Stop(r) => {
                let order = order(&r);
                self.ask_each(&r.targets, &|_| Ask::Stop(order), asked, replies)
            }
            Request::Restart(targets) => {
                self.pull_up(&self.find_allowed(&targets, asked).0, asked);
                self.ask_each(&targets, &|_| Ask::Restart { key: asked.key }, asked, replies)
            }
            Request::Remove(r) => self.remove(&r, asked, replies),
            Request::Signal(r) => {
                let ask = Ask::Signal { signal: r.signal, scope: r.scope, key: asked.key };
                self.ask_each(&r.targets, &|_| ask.clone(), asked, replies)
            }
            Request::Wait(r) => self.wait(&r, replies),
            Request::Status(r) => self.status(&r, replies),
            Request::List(r) => self.list(&r, replies),
            Request::Output(r) => self.output(&r, asked, replies),
            Request::Stream(r) => self.stream(&r, asked, replies),
            Request::Follow(r) => self.follow(&r, asked, replies),
            Request::Hold(id) => self.hold_output(id, asked, replies),
            Request::Env(r) => self.env(&r, asked, replies),
            Request::Events(r) => self.events(&r, replies),
            Request::Service => Ok(self.about()),
            Request::Health => Ok(Reply::Health(self.health())),
            Request::Upgrade(r) => self.upgrade(&r, asked, replies),
            Request::AuditLog(r) => self.audit(r, replies),
            Request::Host => {
                (self.run_on_demand)(self, HOST)?;
                self.connect_to_host(asked, replies)?;
                Ok(Reply::Done)
            }
            Request::GatewaySetup { listens } => {
                replies.share(Vec::new(), &(self.gateway.setup)(listens)?)?;
                Ok(Reply::Done)
            }
            Request::Reload => {
                (self.reload)(self)?;
                Ok(Reply::Done)
            }
            Request::GrpcListener => {
                self.share_grpc(replies)?;
                Ok(Reply::Done)
            }
            Request::Announce(events) => self.announced(events),
            Request::Keep(keep) => self.keep(*keep, replies),
            Request::Documents(kind) => self.documents(kind, replies),
            Request::Provider(_) | Request::Registry(_) | Request::Module(_) | Request::GrpcProbe(_) => {
                let e = Error::new(Code::Refused, "the engine knows nothing of providers, modules and gRPC");
                Err(e.hint("their host does, at its own socket, which 'provost provider' finds").into())
            }
            // A note is nothing but its line in the audit.
            Request::Note(_) => {
                self.recorded(asked.write_seq, replies)?;
                Ok(Reply::Done)
            }
        }
    }
}

impl Engine {
    /// Gives the gateway, which may connect to nothing, a connection to the host, if that listens by now.
    fn connect_to_host(&self, asked: &Asked, replies: &mut Replies<'_>) -> Result<(), Failure> {
        let host = asked.is_gateway.then(|| UnixStream::connect(&self.gateway.host).ok()).flatten();
        if let Some(host) = host {
            replies.share(Vec::new(), &[File::from(OwnedFd::from(host))])?;
        }
        Ok(())
    }

    /// Gives the socket for gRPC on this machine to whoever serves it.
    fn share_grpc(&self, replies: &mut Replies<'_>) -> Result<(), Failure> {
        let Some(listener) = self.grpc.as_ref() else {
            let e = Error::new(Code::NotFound, "this service listens for no gRPC on this machine");
            return Err(e.hint("see 'grpc' of [local] in docs/config.md").into());
        };
        let listener = listener.try_clone().map_err(|e| Error::failed("share the socket", &e))?;
        Ok(replies.share(Vec::new(), &[File::from(listener)])?)
    }
}

fn order(r: &Stop) -> StopOrder {
    StopOrder {
        signal: r.signal,
        timeout: r.timeout,
        scope: r.scope,
        no_kill: r.no_kill,
        keep_schedule: r.keep_schedule,
        ..StopOrder::default()
    }
}

impl Engine {
    fn status(&self, r: &Status, replies: &mut Replies<'_>) -> Answer {
        let (found, missing) = self.find_all(&r.targets);
        for process in found {
            let mut shown = process.show();
            let pid = shown.pid.filter(|_| r.look);
            shown.halted = pid.and_then(procfs::stat).is_some_and(|stat| stat.is_halted());
            let (target, process) = (process.label(), Some(shown));
            let item = Item { target, process, error: None, unrecorded: None, has_others: false };
            replies.send(&Reply::Item(item), More::Follows)?;
        }
        for (target, error) in missing {
            replies.send(&batch::missing(target, error, None), More::Follows)?;
        }
        Ok(Reply::Done)
    }

    fn list(&self, r: &List, replies: &mut Replies<'_>) -> Answer {
        let mut found = match &r.pattern {
            None => self.table.all(),
            Some(pattern) => self.table.matching(pattern),
        };
        // They are in the order of their ids. What is not wanted is not looked at.
        found.retain(|p| (r.all || !p.is_internal) && r.after.is_none_or(|after| p.id > after));
        if r.followers {
            found.retain(|p| p.is_follower());
        }
        if r.max > 0 {
            found.truncate(r.max as usize);
        }
        let mut look = r.usage.then(|| usage::Look::new(&self.context));
        for some in found.chunks(LIST_BATCH) {
            let show = |p: &Arc<Process>| {
                let mut shown = p.show();
                shown.usage = look.as_mut().and_then(|look| look.at(&shown));
                shown
            };
            let shown = some.iter().map(show).collect();
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
            last_event: self.context.feed.newest(),
            is_stopping: self.context.is_stopping(),
        })
    }
}
