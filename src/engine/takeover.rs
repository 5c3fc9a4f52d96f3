//! The first thing an engine does: learn from the keeper what there is, and go on with it. The first engine
//! of a service finds nothing, and is otherwise no special case.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::engine::audit_memory::AuditMemory;
use crate::engine::context::{Context, Ended, HostWay, Link, Notify, Starts};
use crate::engine::feed::{Feed, LEN as FEED_LEN};
use crate::engine::log_queue::LogQueue;
use crate::engine::memory::Memory;
use crate::engine::process::handle::{Inherited, Msg, Process};
use crate::engine::process::prepare::is_inherited;
use crate::engine::process::worker;
use crate::engine::reserve::Reserve;
use crate::engine::restore::restore_all;
use crate::engine::retention::Retention;
use crate::engine::schedule_queue::ScheduleQueue;
use crate::engine::service::{Allow, Engine, Reload, RunOnDemand, Upgrades};
use crate::engine::settings::{GatewaySource, HistorySettings, OrphanPolicy, SinkSettings};
use crate::engine::spawns::Spawns;
use crate::engine::store::Opened;
use crate::engine::table::Table;
use crate::engine::write_queue::WriteQueue;
use crate::sys::cgroup::Root;
use crate::sys::clock;
use crate::sys::pidfd::PidFd;
use crate::sys::socket::{Blocking, inherited, recvmsg};
use crate::sys::system::{TUNABLES, TUNABLES_KEY};
use crate::wire::error::{Code, Error};
use crate::wire::event::{Event, EventKind};
use crate::wire::health::Reconciled;
use crate::wire::id::ProcessId;
use crate::wire::keeper::{ENGINE_FD, MESSAGE_LEN, Open, ToEngine, ToKeeper, VERSION};
use crate::wire::leader::Leader;
use crate::wire::record::Record;
use crate::wire::role::GroupRoles;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;
use crate::wire::upgrade::Version;

/// What every engine is given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the service listens.
    pub socket: PathBuf,
    /// The directory that it made for cgroups.
    pub cgroups: Option<PathBuf>,
    /// The path that the service was started from.
    pub exe: Option<PathBuf>,
    /// Where the store is; none: nothing is kept.
    pub state: Option<PathBuf>,
    /// What becomes of processes that have outlived an earlier service.
    pub orphans: OrphanPolicy,
    /// The processes that the configuration declares, if somebody applies it when the service has begun.
    pub declared: Option<Vec<Spec>>,
    /// How long events are kept.
    pub history: HistorySettings,
    /// Where else events go.
    pub sinks: Vec<SinkSettings>,
    /// What the service runs for itself, with names that are reserved for it; none: not known.
    pub internal: Option<Vec<Spec>>,
    /// What it runs for itself once a client asks for it.
    pub on_demand: Vec<Spec>,
    /// Who comes in besides root and our own user.
    pub groups: GroupRoles,
    /// Who may ask for what.
    pub allow: Allow,
    /// What the gateway is and works with.
    pub gateway: GatewaySource,
    /// For the service's log.
    pub notify: Notify,
}

/// A process as the keeper listed it.
struct Listed {
    id: ProcessId,
    memory: File,
    inherited: Inherited,
}

/// The keeper's answer to our greeting.
struct Greeting {
    global: File,
    listener: OwnedFd,
    /// The engine's end of the gateway's pair, and the gateway's.
    pair: Option<(OwnedFd, OwnedFd)>,
    grpc: Option<OwnedFd>,
    started_at: Timestamp,
    engine_starts: u64,
    keeper: Version,
}

/// What there is when everything is taken over.
pub struct TakenOver {
    pub engine: Engine,
    /// Where clients come in.
    pub listener: OwnedFd,
    /// Where the gateway hands in its connections.
    pub gateway: Option<OwnedFd>,
    pub opened: Option<Opened>,
}

/// Greets the keeper and rebuilds everything.
pub fn take_over(options: Options, run_on_demand: RunOnDemand, reload: Reload) -> Result<TakenOver, Error> {
    let link = greet()?;
    let Greeting { global, listener, pair, grpc, started_at, engine_starts, keeper } = receive_hello(&link)?;
    let (gateway, gateway_end) = pair.unzip();
    let upgrades = Upgrades::default();
    let listed = receive_list(&link, &upgrades)?;

    let feed = Feed::open(&global)?;
    let audit = AuditMemory::open(&global, FEED_LEN as u64);
    let audit = audit.map_err(|e| Error::failed("map the memory of the audit", &e))?;
    let context = Arc::new(Context {
        link,
        gateway_end,
        feed,
        reserve: Reserve::take(),
        board: Arc::default(),
        write_queue: WriteQueue::new(options.state.clone()).with_audit(audit),
        retention: Retention::new(options.history),
        logs: LogQueue::new(options.state.as_deref()),
        schedules: ScheduleQueue::default(),
        notify: options.notify,
        cgroups: options.cgroups.map(Root::at),
        holds: Arc::default(),
        looks: Arc::default(),
        spawns: Spawns::beside(&options.socket),
        drain: Arc::default(),
        no_cgroup: AtomicBool::new(false),
        adopts: options.orphans == OrphanPolicy::Adopt,
        service_env: service_env(),
        stopping: AtomicBool::new(false),
        ended: Ended::default(),
        starts: Starts::default(),
        host: Arc::new(HostWay::new(options.gateway.host.clone())),
    });
    let table = Table::default();
    let mut taken = open_listed(&context, listed)?;
    let mut report = take_in(&context, &table, &taken, engine_starts)?;
    let opened = if context.feed.is_restored() {
        None
    } else {
        "the service began".clone_into(&mut report.why);
        let declared = options.declared.as_deref();
        let state = options.state.as_deref();
        begin(&context, &table, (state, options.orphans, declared), &mut taken, &mut report)?
    };
    sweep_cgroups(&context, &table);
    for process in table.others() {
        process.put_standing();
    }
    for (process, inherited) in taken {
        if process.record().held {
            // Before anybody asks whether there is more of it.
            let (tail, has_ended) = (process.memory.ring().tail(), inherited.ended.is_some());
            process.context.holds.expect(process.id, tail, has_ended);
        }
        process.send(Msg::Resume(inherited));
    }
    let engine = Engine {
        table: Arc::new(table),
        context,
        started_at,
        engine_starts,
        keeper_version: keeper.text(),
        exe: options.exe,
        upgrades,
        refusals: Mutex::default(),
        reconciled: Mutex::new(report),
        sinks: Arc::default(),
        on_demand: Mutex::new(options.on_demand),
        run_on_demand,
        allow: options.allow,
        gateway: options.gateway,
        gateway_specs: Mutex::default(),
        reload,
        itself: OnceLock::new(),
        reporter: Mutex::default(),
        grpc,
    };
    Ok(TakenOver { engine, listener, gateway, opened })
}

fn greet() -> Result<Link, Error> {
    let socket = inherited(ENGINE_FD).map_err(|_| {
        Error::usage("'provost engine' is started by 'provost serve' and by nothing else")
            .hint("to start the service: provost serve")
    })?;
    let link = Link::new(socket);
    link.send(&ToKeeper::Hello { version: VERSION }, &[])
        .map_err(|e| Error::new(Code::Unreachable, format!("cannot greet the keeper: {e}")))?;
    Ok(link)
}

/// Makes processes of what the keeper has listed, and has it forget what is none.
fn open_listed(context: &Arc<Context>, listed: Vec<Listed>) -> Result<Vec<(Arc<Process>, Inherited)>, Error> {
    let mut taken = Vec::new();
    for Listed { id, memory, inherited } in listed {
        // For want of descriptors or memory: the next engine, which is started later, may have them.
        let opened =
            Memory::open(memory).map_err(|e| Error::failed(&format!("read the memory of {id}"), &e))?;
        match opened {
            Some((memory, spec, record)) if record.run > 0 || !record.cause.is_empty() => {
                let process = Process::new(spec, memory, record, Arc::clone(context), worker::run);
                taken.push((Arc::new(process), inherited));
            }
            // No client was told of it: the engine that made it ended before it was asked to start. Or its
            // memory is broken, and then there is no telling what it is; what runs of it is left alone.
            Some(_) | None => {
                let _ = context.link.send(&ToKeeper::Forget { id }, &[]);
            }
        }
    }
    Ok(taken)
}

/// Puts them into the table, completes the feed, and tells that this engine goes on with them.
fn take_in(
    context: &Context,
    table: &Table,
    taken: &[(Arc<Process>, Inherited)],
    engine_starts: u64,
) -> Result<Reconciled, Error> {
    let processes: Vec<_> = taken.iter().map(|(p, _)| Arc::clone(p)).collect();
    table.insert(&processes)?;
    let records: Vec<Record> = processes.iter().map(|p| p.record()).collect();
    context.feed.catch_up(&mut records.iter());
    let others = || records.iter().filter(|r| !r.internal);
    if engine_starts > 1 {
        context.feed.publish(taken_over(engine_starts, others().filter(|r| r.pid.is_some()).count()));
    }
    Ok(Reconciled {
        at: Timestamp::now(),
        why: format!("engine {engine_starts} took over"),
        found: u32::try_from(others().count()).unwrap_or(u32::MAX),
        ..Reconciled::default()
    })
}

/// The first engine of a service goes on where an earlier one ended.
fn begin(
    context: &Arc<Context>,
    table: &Table,
    (state, policy, declared): (Option<&Path>, OrphanPolicy, Option<&[Spec]>),
    taken: &mut Vec<(Arc<Process>, Inherited)>,
    report: &mut Reconciled,
) -> Result<Option<Opened>, Error> {
    let Some(state) = state else {
        context.feed.begin(Uuid::now_v7(), 0, &[]);
        context.feed.set_restored();
        return Ok(None);
    };
    let opened = Opened::open(state)?;
    taken.extend(restore_all(context, table, &opened, (policy, declared), report)?);
    report.notices.clone_from(&opened.notices);
    Ok(Some(opened))
}

fn receive(link: &Link) -> Result<(ToEngine, Vec<OwnedFd>), Error> {
    let mut buf = [0; MESSAGE_LEN];
    let (len, fds) = recvmsg(link.as_fd(), &mut buf, Blocking::Wait)
        .map_err(|e| Error::new(Code::Unreachable, format!("cannot hear the keeper: {e}")))?;
    if len == 0 {
        return Err(Error::new(Code::Unreachable, "the keeper is gone"));
    }
    let message = ToEngine::decode(&buf[..len])
        .ok_or_else(|| Error::new(Code::Failed, "the keeper speaks another version"))?;
    Ok((message, fds))
}

fn receive_hello(link: &Link) -> Result<Greeting, Error> {
    // An exit of a child may be told before the answer.
    loop {
        let (message, fds) = receive(link)?;
        if let ToEngine::Hello { version, started_at, engine_starts, keeper, has_pair } = message {
            if version != VERSION {
                return Err(Error::new(
                    Code::Failed,
                    format!("the keeper speaks version {version}, this engine {VERSION}"),
                ));
            }
            let mut fds = fds.into_iter();
            let (Some(global), Some(listener)) = (fds.next(), fds.next()) else {
                return Err(Error::new(Code::Failed, "the keeper's hello lacks its descriptors"));
            };
            return Ok(Greeting {
                global: File::from(global),
                listener,
                pair: if has_pair { fds.next().zip(fds.next()) } else { None },
                grpc: fds.next(),
                started_at: Timestamp(started_at),
                engine_starts,
                keeper,
            });
        }
    }
}

fn receive_list(link: &Link, upgrades: &Upgrades) -> Result<Vec<Listed>, Error> {
    let mut listed = Vec::new();
    loop {
        let (message, mut fds) = receive(link)?;
        match message {
            ToEngine::Entry { id, run, pid, ended, open } => {
                let mut fds = fds.into_iter();
                let lacking = || Error::new(Code::Failed, "an entry of the keeper lacks its descriptors");
                let memory = File::from(fds.next().ok_or_else(lacking)?);
                let pipes = match open {
                    Open::Memory => None,
                    Open::Pipes | Open::Running => {
                        Some((fds.next().ok_or_else(lacking)?, fds.next().ok_or_else(lacking)?))
                    }
                };
                let leader =
                    fds.next().map_or_else(Leader::default, |fd| Leader::of(pid, &PidFd::from_fd(fd)));
                let inherited = Inherited { run, pid, leader, pipes, ended, cgroup: None, notify: None };
                listed.push(Listed { id, memory, inherited });
            }
            ToEngine::Notify { id } => {
                for entry in listed.iter_mut().filter(|l| l.id == id) {
                    entry.inherited.notify = fds.pop();
                }
            }
            ToEngine::Listed => return Ok(listed),
            ToEngine::Upgrade(outcome) => upgrades.decided(outcome),
            // An entry that was listed before it ended.
            ToEngine::Exited { id, run, ended } => {
                for entry in listed.iter_mut().filter(|l| l.id == id && l.inherited.run == run) {
                    entry.inherited.pid = 0;
                    entry.inherited.ended = Some(ended);
                }
            }
            ToEngine::Hello { .. }
            | ToEngine::Spawned { .. }
            | ToEngine::NotSpawned { .. }
            // The new engine asks again.
            | ToEngine::Lost { .. }
            | ToEngine::StopAll { .. } => {}
        }
    }
}

fn taken_over(engine_starts: u64, running: usize) -> Event {
    Event {
        at: Timestamp::now(),
        mono_ms: clock::now_ms(),
        pid: Some(std::process::id()),
        kind: EventKind::TakenOver,
        cause: "keeper".to_owned(),
        detail: format!("engine {engine_starts} goes on with {running} running processes"),
        ..Event::default()
    }
}

/// What children inherit: the environment of `provost serve`. A variable that is no text cannot be handed on
/// in a spec either; what the keeper added for this program alone is taken off.
fn service_env() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .filter(|(k, _)| is_inherited(k))
        .filter_map(|(k, v)| {
            if k != TUNABLES_KEY {
                return Some((k, v));
            }
            let operators = v.strip_suffix(TUNABLES)?.strip_suffix(':')?;
            Some((k, operators.to_owned()))
        })
        .collect()
}

/// Takes away the cgroups of what is no longer known.
fn sweep_cgroups(context: &Context, table: &Table) {
    let Some(root) = &context.cgroups else { return };
    for name in root.names() {
        if name.parse().is_ok_and(|id: ProcessId| table.get(id).is_none()) {
            root.cgroup(&name).remove();
        }
    }
}
