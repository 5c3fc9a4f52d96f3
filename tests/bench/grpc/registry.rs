//! The registry: what it takes to register, to find one of ten thousand, and to watch over them all.
//!
//! The ten thousand run elsewhere: one provider of this program on the loopback, which all of them lead to.
//! "In the registry" is its code in this process, over a copy of what the host has noted of them.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use grpcio::{Method, MethodType};
use provost::Client;
use provost::client::host_socket;
use provost::guard::breaker::{Breaker, BreakerSettings, Outcome as Ended};
use provost::guard::gate::Gate;
use provost::provider::{Notes, Providers};
use provost::registry::Registry;
use provost::registry::settings::RegistrySettings;
use provost::wire::audit::Note;
use provost::wire::provider::{Definition, HOST, ProviderCall};
use provost::wire::registration::Registration;
use provost::wire::registry::{RegistryAnswer, RegistryCall, Verb, Whom};
use provost::wire::remote_end::RemoteEnd;

use crate::grpc::client::Caller;
use crate::grpc::providers::{Bare, CHECKS, KEY, copied, install, name};
use crate::grpc::server::method;
use crate::host;
use crate::ours::{Provost, only};
use crate::sample::{Outcome, Samples, pass};
use crate::table::{Goal, Table};

static HEALTH: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::Unary, "/nomos.provider.v1.ProviderService/Health");

/// Registrations one after the other, of each kind.
const SINGLE: u32 = 100;
const STARTED: u32 = 20;
/// All that are registered, and how many threads do so.
const ALL: u32 = 10_000;
const CLIENTS: u32 = 8;
/// Look-ups and decisions.
const LOOKUPS: u32 = 200_000;
/// Lists.
const LISTS: u32 = 10;
/// How many are monitored while another one is called, in which interval, for how long each time, how often.
const WATCHED: u32 = 100;
const WATCHED_EVERY: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(10);
const WINDOWS: u32 = 5;
/// How long the checks of all of them are measured, each once in this time, and the bare calls beside.
const ROUND: Duration = Duration::from_secs(30);
const BARE_CALLS: u32 = 5000;
/// Until what nobody uses is closed.
const SETTLE: Duration = Duration::from_secs(8);

pub fn measure(dir: &Path, table: &mut Table) -> Outcome {
    let dir = &dir.join("registry");
    fs::create_dir(dir)?;
    let binary = install(dir)?;
    let config = dir.join("provost.toml");
    fs::write(&config, "[registry.health]\ncheck_interval = '0s'\n")?;
    let mut service =
        Provost::serve_with(dir, &["--config", config.to_str().ok_or("the path is not text")?])?;
    let mut site = Site {
        host: Client::connect_to_host(service.socket().as_ref())?,
        there: Bare::start(&binary)?,
        pid: 0,
    };
    site.pid = only(service.client.status(vec![HOST.to_owned()])?)?.pid.ok_or("it does not run")?;
    singles(&mut site, &mut service, &binary, table)?;
    calls(&mut site, &binary, table)?;
    crowd(&mut site, table)?;
    inside(&service, dir, table)?;
    monitor(&mut site, table)?;
    drop(site);
    service.end()
}

struct Site {
    host: Client,
    there: Bare,
    /// Of the host.
    pid: u32,
}

impl Site {
    fn all(&mut self, verb: Verb) -> Outcome<RegistryAnswer> {
        Ok(self.host.registry(RegistryCall { whom: Whom::All(None), verb })?)
    }

    fn memory_kib(&self) -> f64 {
        host::usage(&[self.pid]).pss_mib * 1024.0
    }

    /// How often the provider elsewhere was asked how it is.
    fn checks(&self) -> Outcome<u64> {
        self.there.count(CHECKS)
    }
}

fn register(host: &mut Client, alias: &str, definition: Definition) -> Outcome {
    let kind = definition.kind().to_owned();
    let registration = Registration { kind, definition, namespace: None, labels: Vec::new() };
    let whom = Whom::One(name(alias)?);
    host.registry(RegistryCall { whom, verb: Verb::Register(Box::new(registration)) })?;
    Ok(())
}

fn elsewhere(address: SocketAddr) -> Outcome<Definition> {
    let end = RemoteEnd::new(&address.to_string(), None)?;
    Ok(Definition { remote: Some(end), ..Definition::default() })
}

fn of_binary(binary: &Path) -> Definition {
    Definition { binary: binary.display().to_string(), allow_external: true, ..Definition::default() }
}

fn unregister(host: &mut Client, alias: &str) -> Outcome {
    host.registry(RegistryCall { whom: Whom::One(name(alias)?), verb: Verb::Unregister })?;
    Ok(())
}

/// One after the other, beside what each of them has to wait for: a line in the audit, on disk; and the same
/// program, started and initialised by hand.
fn singles(site: &mut Site, service: &mut Provost, binary: &Path, table: &mut Table) -> Outcome {
    let (mut ours, mut durable) = (Samples::default(), Samples::default());
    let definition = elsewhere(site.there.address)?;
    for n in 0..SINGLE {
        let alias = format!("single-{n}");
        let note = Note { what: format!("register {alias}"), result: "done".to_owned() };
        durable.time(|| Ok(service.client.note(note)?))?;
        ours.time(|| register(&mut site.host, &alias, definition.clone()))?;
        unregister(&mut site.host, &alias)?;
    }
    let (ours, durable) = (ours.median(), durable.median());
    table.row("register; one durable write", "ms").ours(ours).bare(durable).done();
    let beyond = ours.zip(durable).map(|(ours, durable)| ours - durable);
    table.row("... beyond the write", "ms").ours(beyond).goal(Goal::Value(1.0)).done();

    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for n in 0..STARTED {
        let alias = format!("started-{n}");
        ours.time(|| register(&mut site.host, &alias, of_binary(binary)))?;
        unregister(&mut site.host, &alias)?;
        drop(bare.time(|| Bare::start(binary))?);
    }
    let row = table.row("register, with a process", "ms").ours(ours.median()).bare(bare.median());
    row.goal(Goal::Value(100.0)).done();
    Ok(())
}

/// Calls of one provider while others are monitored, and while nobody is.
fn calls(site: &mut Site, binary: &Path, table: &mut Table) -> Outcome {
    let asked = name("asked")?;
    register(&mut site.host, asked.alias(), of_binary(binary))?;
    let definition = elsewhere(site.there.address)?;
    (0..WATCHED).try_for_each(|n| register(&mut site.host, &format!("app-{n}"), definition.clone()))?;
    pass(SETTLE);
    let [mut with, mut without] = [(); 2].map(|()| Samples::default());
    for _ in 0..WINDOWS {
        for (verb, p99s) in [(Verb::Monitor(Some(WATCHED_EVERY)), &mut with), (Verb::Unmonitor, &mut without)]
        {
            site.all(verb)?;
            let (begin, mut calls) = (Instant::now(), Samples::default());
            while begin.elapsed() < WINDOW {
                let fetch = ProviderCall::Fetch(asked.clone(), vec![KEY.to_owned()]);
                calls.time(|| Ok(site.host.provider(fetch)?))?;
            }
            calls.p99().into_iter().for_each(|p99| p99s.push(p99 * 1e3));
        }
    }
    let what = format!("99th percentile of calls, {WATCHED} checked");
    table.row(what, "us").ours(with.median()).bare(without.median()).goal(Goal::BareTimes(1.05)).done();
    Ok(())
}

/// Registers the others, in two halves.
fn crowd(site: &mut Site, table: &mut Table) -> Outcome {
    let definition = elsewhere(site.there.address)?;
    let address = site.host.address().clone();
    let add = |from: u32, to: u32| -> Outcome {
        let next = AtomicU64::new(from.into());
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut host = Client::connect_to(&address).map_err(|e| e.message)?;
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= to.into() {
                                return Ok::<(), String>(());
                            }
                            register(&mut host, &format!("app-{n}"), definition.clone())
                                .map_err(|e| e.to_string())?;
                        }
                    })
                })
                .collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_| "a client panicked".to_owned())?)
        })?;
        Ok(())
    };
    // What is made once is there after the first of them.
    let (first, half) = (ALL / 10, ALL / 2 + ALL / 20);
    add(WATCHED, first)?;
    pass(SETTLE);
    let before = site.memory_kib();
    let begin = Instant::now();
    add(first, half)?;
    let took = begin.elapsed();
    pass(SETTLE);
    let middle = site.memory_kib();
    add(half, ALL)?;
    pass(SETTLE);
    let (one, other) = (middle - before, site.memory_kib() - middle);
    let per_second = f64::from(half - first) / took.as_secs_f64();
    table.row(format!("registrations, {CLIENTS} clients"), "1/s").ours(Some(per_second)).done();
    table
        .row(format!("memory of an entry, at {half}"), "KiB")
        .ours(Some(one / f64::from(half - first)))
        .done();
    let row = table.row(format!("... at {ALL}, beside those before"), "KiB");
    let of_each = |kib: f64, count: u32| Some(kib / f64::from(count));
    let row = row.ours(of_each(other, ALL - half)).bare(of_each(one, half - first));
    row.goal(Goal::BareTimes(1.2)).done();
    let mut lists = Samples::default();
    for _ in 0..LISTS {
        let count = lists.time(|| site.all(Verb::Show))?.entries.len();
        if count < ALL as usize {
            return Err(format!("{count} entries are listed, not {ALL}").into());
        }
    }
    table.row(format!("list of {ALL}"), "ms").ours(lists.median()).done();
    Ok(())
}

/// What takes no call: in this process, by the same code.
fn inside(service: &Provost, dir: &Path, table: &mut Table) -> Outcome {
    let socket: &Path = service.socket().as_ref();
    let noted = host_socket(socket);
    let providers = Notes::open(&copied(&noted.with_extension("notes"), &dir.join("notes"))?)?;
    let entries = Notes::open(&copied(&noted.with_extension("registry"), &dir.join("entries"))?)?;
    let registry = Registry::new(
        socket.to_owned(),
        Providers::new(socket.to_owned(), Vec::new(), providers),
        entries,
        RegistrySettings::default(),
        Arc::new(|_| {}),
    )?;
    registry.recover(Vec::new());
    let names = (0..ALL).map(|n| name(&format!("app-{n}"))).collect::<Outcome<Vec<_>>>()?;
    // One after the other would be too good: the next one is where nobody has been for long.
    let nth = |n: u32| &names[(n.wrapping_mul(7919) % ALL) as usize];
    let found = each(LOOKUPS, |n| Ok(registry.has(nth(n))))?;
    table.row(format!("look-up among {ALL}"), "us").ours(Some(found)).goal(Goal::Value(1.0)).done();

    let gate = || Arc::new(Gate::new(Breaker::new(BreakerSettings::default(), 1), Box::new(|_| {})));
    let closed = gate();
    let passes = each(LOOKUPS, |_| {
        closed.enter().map(|permit| permit.end(Ended::Success)).map_err(|r| r.why)?;
        Ok(true)
    })?;
    table.row("breaker: a call passes", "us").ours(Some(passes)).goal(Goal::Value(1.0)).done();
    let open = gate();
    open.hold("as bad as it was");
    let refused = each(LOOKUPS, |_| Ok(open.enter().is_err()))?;
    table.row("breaker: a call is refused", "us").ours(Some(refused)).goal(Goal::Value(1.0)).done();
    Ok(())
}

/// The time that one of so many takes, us. Each has to hold.
fn each(count: u32, mut one: impl FnMut(u32) -> Outcome<bool>) -> Outcome<f64> {
    let begin = Instant::now();
    for n in 0..count {
        if !one(n)? {
            return Err(format!("it does not hold for {n}").into());
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

/// The checks of all of them, each over a channel of its own, beside the same calls made by hand.
fn monitor(site: &mut Site, table: &mut Table) -> Outcome {
    site.all(Verb::Monitor(Some(ROUND)))?;
    pass(SETTLE);
    let (checks, spent) = (site.checks()?, host::processor_ms(site.pid));
    pass(ROUND);
    let (checks, spent) = (site.checks()? - checks, host::processor_ms(site.pid) - spent);
    site.all(Verb::Unmonitor)?;
    if checks < u64::from(ALL / 2) {
        return Err(format!("there were {checks} checks").into());
    }
    let ours = spent as f64 * 1e3 / checks as f64;

    let spent = host::processor_ms(std::process::id());
    for _ in 0..BARE_CALLS {
        let tcp = TcpStream::connect(site.there.address)?;
        tcp.set_nodelay(true)?;
        Caller::over(UnixStream::from(OwnedFd::from(tcp)))?.call(&HEALTH, &Vec::new())?;
    }
    let bare = (host::processor_ms(std::process::id()) - spent) as f64 * 1e3 / f64::from(BARE_CALLS);
    let what = format!("processor time of a check, {ALL} in {} s", ROUND.as_secs());
    table.row(what, "us").ours(Some(ours)).bare(Some(bare)).goal(Goal::BareTimes(1.5)).done();
    Ok(())
}
