//! Providers: a value that is fetched through the host, beside the same call made of the provider directly;
//! how soon one answers; and what a hundred of them cost.
//!
//! "In the host" is the host's own code in this process, over a copy of what the host has noted: so that the
//! direct call and it have the same two processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use grpcio::{Method, MethodType};
use provost::Client;
use provost::client::{grpc_socket, host_socket};
use provost::provider::{Notes, Providers};
use provost::sdk::provider::{Failure, Health, Info, Init, Provider, serve};
use provost::sdk::value;
use provost::wire::provider::{Definition, HOST, ProviderAnswer, ProviderCall, ProviderName};
use provost::wire::registry::{RegistryCall, Verb, Whom};
use serde_json::{Map, Value};

use crate::SERVICES;
use crate::grpc::LOOPBACK;
use crate::grpc::client::{Caller, targets};
use crate::grpc::server::method;
use crate::grpc::site::Site;
use crate::host;
use crate::ours::only;
use crate::sample::{Outcome, Samples, pass, until};
use crate::sweep::MARK;
use crate::table::{Goal, Table};

/// What this program is called where it is a provider, which gets no arguments.
pub const PROVIDER: &str = "bench-provider";

static INIT: Method<Vec<u8>, Vec<u8>> = method(MethodType::Unary, "/nomos.provider.v1.ProviderService/Init");
static FETCH: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::Unary, "/nomos.provider.v1.ProviderService/Fetch");
static FETCH_VALUE: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::Unary, "/provost.v1.ProviderService/FetchValue");

/// The provider that is asked, and what for.
const ALIAS: &str = "asked";
pub const KEY: &str = "database";
/// How often it was asked how it is, under this key as its one value.
pub const CHECKS: &str = "checks";
/// Calls one after the other: rounds, and calls of each kind in a round.
const ROUNDS: u32 = 30;
const ROW: u32 = 100;
/// Calls for a rate: rounds, calls in each, and how many are under way.
const RATE_ROUNDS: u32 = 7;
const RATE_CALLS: u32 = 3200;
const UNDER_WAY: u32 = 16;
/// Starts until the first value.
const STARTS: u32 = 11;
/// Providers at once.
const CROWD: usize = 100;
/// Until connections that nobody uses are closed, and for how long nothing is done then.
const SETTLE: Duration = Duration::from_secs(8);
const IDLE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);

/// The provider: one value, and how often it was asked how it is.
#[derive(Default)]
struct One(AtomicU64);

impl Provider for One {
    fn init(&self, _: Init) -> Result<(), Failure> {
        Ok(())
    }

    fn fetch(&self, path: &[String]) -> Result<Map<String, Value>, Failure> {
        if path == [CHECKS] {
            let count = Value::from(self.0.load(Ordering::Relaxed));
            return Ok([(CHECKS.to_owned(), count)].into_iter().collect());
        }
        if path != [KEY] {
            return Err(Failure::NotFound(path.join("/")));
        }
        let fields = [("host", Value::from("db.example.net")), ("port", Value::from(5432))];
        Ok(fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
    }

    fn health(&self) -> Health {
        self.0.fetch_add(1, Ordering::Relaxed);
        Health::Ok(String::new())
    }

    fn info(&self) -> Info {
        Info { alias: String::new(), version: "1".to_owned(), kind: "bench".to_owned() }
    }
}

/// The program.
pub fn provide() -> Outcome {
    serve(One::default()).map_err(|e| e.message.into())
}

pub fn measure(dir: &Path, table: &mut Table) -> Outcome {
    let dir = &dir.join("providers");
    fs::create_dir(dir)?;
    let mut site = Site::serve(dir)?;
    let binary = install(dir)?;
    let mut host = Client::connect_to_host(site.service.socket().as_ref())?;
    start(&mut host, &name(ALIAS)?, &binary)?;
    calls(&site, &mut host, dir, table)?;
    first_values(&mut host, &binary, table)?;
    let pids = [site.service.pids()?, vec![site.pid()?, pid(&mut site, HOST)?]].concat();
    crowd(&mut host, &binary, &pids, table)?;
    drop(host);
    site.service.end()
}

/// Puts this program where providers are executed from.
pub(super) fn install(dir: &Path) -> Outcome<PathBuf> {
    let binary = dir.join(PROVIDER);
    fs::copy(std::env::current_exe()?, &binary)?;
    Ok(binary)
}

pub(super) fn name(alias: &str) -> Outcome<ProviderName> {
    Ok(ProviderName::new("", alias)?)
}

fn start(host: &mut Client, name: &ProviderName, binary: &Path) -> Outcome {
    let binary = binary.display().to_string();
    let definition = Definition { binary, allow_external: true, ..Definition::default() };
    host.provider(ProviderCall::Start(name.clone(), Box::new(definition)))?;
    Ok(())
}

fn pid(site: &mut Site, process: &str) -> Outcome<u32> {
    let process = only(site.service.client.status(vec![process.to_owned()])?)?;
    Ok(process.pid.ok_or("it does not run")?)
}

/// The port that a provider listens on.
fn port(host: &mut Client, name: &ProviderName) -> Outcome<u16> {
    let ProviderAnswer::List(all) = host.provider(ProviderCall::List(None))? else {
        return Err("no list of providers".into());
    };
    let port = all.iter().find(|provider| provider.name == *name).and_then(|provider| provider.port);
    Ok(port.ok_or("the provider does not run")?)
}

/// One value in each way there is, in turn.
fn calls(site: &Site, host: &mut Client, dir: &Path, table: &mut Table) -> Outcome {
    let name = name(ALIAS)?;
    let direct = Caller::plain(SocketAddr::new(LOOPBACK.parse()?, port(host, &name)?));
    let inside = inside(site, dir)?;
    let socket = grpc_socket(site.service.socket().as_ref()).ok_or("the path of the socket is too long")?;
    let local = Caller::local(&socket)?;
    let secure = site.caller(site.address)?;
    let path = targets(KEY);
    // `provost.v1.FetchValueRequest`: a target with an alias, and the path.
    let alias = [&[2 << 3 | 2, ALIAS.len() as u8], ALIAS.as_bytes()].concat();
    let request =
        [&[1 << 3 | 2, alias.len() as u8], &alias[..], &[2 << 3 | 2, KEY.len() as u8], KEY.as_bytes()]
            .concat();
    let fetch = || ProviderCall::Fetch(name.clone(), vec![KEY.to_owned()]);

    let [mut bare, mut in_host, mut library, mut socket, mut tls] = [(); 5].map(|()| Samples::default());
    for _ in 0..ROUNDS {
        repeat(&mut bare, || direct.call(&FETCH, &path))?;
        repeat(&mut in_host, || Ok(inside.answer(fetch())?))?;
        repeat(&mut library, || Ok(host.provider(fetch())?))?;
        repeat(&mut socket, || local.call(&FETCH_VALUE, &request))?;
        repeat(&mut tls, || secure.call(&FETCH_VALUE, &request))?;
    }
    let micros = |samples: Option<f64>| samples.map(|ms| ms * 1e3);
    let rows = [
        ("fetch, in the host", &in_host, Some(Goal::BareTimes(1.1))),
        ("fetch, by our library", &library, None),
        ("fetch, over grpc.sock", &socket, Some(Goal::BareTimes(2.3))),
        ("fetch, over TLS", &tls, None),
    ];
    for (what, ours, goal) in rows {
        let row = table.row(what, "us").ours(micros(ours.median())).bare(micros(bare.median()));
        goal.into_iter().fold(row, |row, goal| row.goal(goal)).done();
        let row = table.row(format!("{what}, 99th percentile"), "us");
        row.ours(micros(ours.p99())).bare(micros(bare.p99())).done();
    }
    let added = socket.median().zip(bare.median()).map(|(ours, bare)| (ours - bare) * 1e3);
    table.row("... added over grpc.sock", "us").ours(added).goal(Goal::Value(2000.0)).done();

    let [mut bare, mut socket] = [(); 2].map(|()| Samples::default());
    for _ in 0..RATE_ROUNDS {
        bare.push(direct.rate(&FETCH, &path, UNDER_WAY, RATE_CALLS)?);
        socket.push(local.rate(&FETCH_VALUE, &request, UNDER_WAY, RATE_CALLS)?);
    }
    let row = table.row(format!("fetches over grpc.sock, {UNDER_WAY} under way"), "1/s");
    row.ours(socket.median()).bare(bare.median()).done();
    Ok(())
}

fn repeat<T>(samples: &mut Samples, mut call: impl FnMut() -> Outcome<T>) -> Outcome {
    (0..ROW).try_for_each(|_| samples.time(&mut call).map(drop))
}

/// The code of the host here, with what runs.
fn inside(site: &Site, dir: &Path) -> Outcome<Providers> {
    let socket = Path::new(site.service.socket());
    let notes = Notes::open(&copied(&host_socket(socket).with_extension("notes"), &dir.join("notes"))?)?;
    let providers = Providers::new(socket.to_owned(), Vec::new(), notes);
    match providers.recover(|_| 0).pop() {
        Some(bad) => Err(bad.into()),
        None => Ok(providers),
    }
}

/// Another directory with the same files, for the same owner alone.
pub(super) fn copied(from: &Path, to: &Path) -> Outcome<PathBuf> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(to.to_owned())
}

/// From nothing to the first value.
fn first_values(host: &mut Client, binary: &Path, table: &mut Table) -> Outcome {
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    let name = name("first")?;
    for _ in 0..STARTS {
        drop(bare.time(|| Bare::first_value(binary))?);
        ours.time(|| {
            start(host, &name, binary)?;
            Ok(host.provider(ProviderCall::Fetch(name.clone(), vec![KEY.to_owned()]))?)
        })?;
        host.provider(ProviderCall::Stop(name.clone()))?;
    }
    table.row("start to the first value", "ms").ours(ours.median()).bare(bare.median()).done();
    Ok(())
}

/// A provider without a host.
pub(super) struct Bare {
    child: Child,
    pub address: SocketAddr,
}

impl Bare {
    /// Starts one and gives it its configuration.
    pub fn start(binary: &Path) -> Outcome<Self> {
        let mut command = Command::new(binary);
        let child = command.env(MARK, binary).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut bare = Self { child, address: SocketAddr::new(LOOPBACK.parse()?, 0) };
        let mut line = String::new();
        BufReader::new(bare.child.stdout.take().ok_or("it has an output")?).read_line(&mut line)?;
        bare.address.set_port(line.trim().strip_prefix("PROVIDER_PORT=").ok_or("no port")?.parse()?);
        // An alias and an empty configuration.
        Caller::plain(bare.address).call(&INIT, &[targets(ALIAS), vec![2 << 3 | 2, 0]].concat())?;
        Ok(bare)
    }

    /// Starts one and asks it.
    fn first_value(binary: &Path) -> Outcome<Self> {
        let bare = Self::start(binary)?;
        Caller::plain(bare.address).call(&FETCH, &targets(KEY))?;
        Ok(bare)
    }

    /// The number that it has under this key.
    pub fn count(&self, key: &str) -> Outcome<u64> {
        let answer = Caller::plain(self.address).call(&FETCH, &targets(key))?;
        // `FetchResponse`: the value is its first field, after a tag and a length of one byte.
        let value = value::to_json(value::decode(answer.get(2..).ok_or("no value")?)?);
        let count = value.get(key).and_then(Value::as_f64).ok_or("no number")?;
        Ok(count as u64)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hundred: started and ended at once, and doing nothing between. `pids`: all processes of ours.
fn crowd(host: &mut Client, binary: &Path, pids: &[u32], table: &mut Table) -> Outcome {
    // What was asked last was a value of the one provider, over all ways.
    pass(SETTLE);
    let memory = || Some(host::usage(pids).pss_mib);
    let what = format!("memory (PSS) of all four, {SERVICES} processes");
    table.row(what, "MiB").ours(memory()).goal(Goal::Value(22.0)).done();

    let begin = Instant::now();
    let address = host.address().clone();
    thread::scope(|scope| {
        let starts: Vec<_> = (0..CROWD)
            .map(|n| {
                let address = &address;
                scope.spawn(move || {
                    let mut host = Client::connect_to(address).map_err(|e| e.message)?;
                    name(&format!("crowd-{n}"))
                        .and_then(|name| start(&mut host, &name, binary))
                        .map_err(|e| e.to_string())
                })
            })
            .collect();
        starts.into_iter().try_for_each(|start| start.join().map_err(|_| "a start panicked".to_owned())?)
    })?;
    let all = Some(begin.elapsed().as_secs_f64() * 1e3);
    table.row(format!("start of {CROWD} at once"), "ms").ours(all).done();

    pass(SETTLE);
    table.row(format!("... with {CROWD} providers more"), "MiB").ours(memory()).done();
    // The gateway, which has been called, is another group's.
    let silent: Vec<u32> = pids.iter().copied().filter(|&pid| Some(pid) != pids.get(2).copied()).collect();
    let woken = || {
        let before = host::wakeups(&silent);
        pass(IDLE);
        // Those of threads that have ended are not counted.
        Some(host::wakeups(&silent).saturating_sub(before) as f64)
    };
    let what = format!("wake-ups in {} s, {CROWD} providers idle", IDLE.as_secs());
    table.row(&*what, "").ours(woken()).goal(Goal::Value(0.0)).done();
    host.registry(RegistryCall { whom: Whom::All(None), verb: Verb::Monitor(None) })?;
    pass(SETTLE);
    table.row(format!("{what}, checked every 30 s"), "").ours(woken()).done();

    let begin = Instant::now();
    host.provider(ProviderCall::ShutDown(None))?;
    until("all providers are gone", LIMIT, || host::marked("PROVOST_NAME", "provider.").is_empty())?;
    let all = Some(begin.elapsed().as_secs_f64() * 1e3);
    table.row(format!("shutdown of {CROWD}"), "ms").ours(all).done();
    Ok(())
}
