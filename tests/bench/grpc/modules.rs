//! Modules: a call through the plane beside the same call made of the executor directly, registration, what a
//! thousand providers with heartbeats cost, and whose turn it is under many threads.
//!
//! "In the host" is the host's own code in this process, with which the provider has registered, too: so that
//! the direct call and it have the same two processes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use grpcio::{Method, MethodType};
use provost::Client;
use provost::client::grpc_socket;
use provost::module::Modules;
use provost::module::settings::ModuleSettings;
use provost::sdk::module::definition::Module;
use provost::sdk::module::provider::Provider;
use provost::wire::module::{ModuleAnswer, ModuleCall, ModuleConnection, ModuleOrder};
use provost::wire::provider::HOST;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::grpc::LOOPBACK;
use crate::grpc::client::Caller;
use crate::grpc::raw::{ACK, DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, call, frame};
use crate::grpc::server::method;
use crate::host;
use crate::ours::{Provost, only};
use crate::programs::our_path;
use crate::sample::{Outcome, Samples, pass, until};
use crate::sweep::MARK;
use crate::table::{Goal, Table};

static EXECUTE: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::Unary, "/constellation.provider.v1.ModuleExecutor/Execute");
static CALL_MODULE: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::Unary, "/provost.v1.ModuleService/CallModule");
static REGISTER: Method<Vec<u8>, Vec<u8>> =
    method(MethodType::Unary, "/constellation.provider.v1.ModuleProvider/Register");
const CONTROL_PLANE: &str = "/constellation.provider.v1.ModuleProvider/ControlPlane";

/// The module that is called: it gives back what it is given.
const NAMESPACE: &str = "bench";
const NAME: &str = "bench.echo";
/// What is given, in bytes, and in words. One mebibyte is the longest input with what is around it.
const PAYLOADS: [(usize, &str); 3] = [(100, "100 B"), (10 << 10, "10 KiB"), ((1 << 20) - 64, "1 MiB")];
/// Calls one after the other: rounds, and calls of each kind in a round; of the largest, a tenth.
const ROUNDS: u32 = 20;
const ROW: u32 = 100;
/// Calls for a rate: rounds, calls in each, and how many are under way.
const RATE_ROUNDS: u32 = 5;
const RATE_CALLS: u32 = 3200;
const UNDER_WAY: u32 = 16;
/// Providers of one group, among which calls choose.
const MEMBERS: usize = 4;
/// Registrations of each kind.
const REGISTRATIONS: u32 = 21;
/// Modules of a large one.
const MANY: usize = 1000;
/// Providers with heartbeats, for how long they are watched, and how often each beats, as the SDKs do.
const CROWD: usize = 1000;
const WATCHED: Duration = Duration::from_secs(20);
const BEAT: Duration = Duration::from_secs(5);
/// Who asks.
const WHO: &str = "bench";
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Given {
    data: String,
}

/// The program: a provider of the services at these addresses.
pub fn module(addresses: &str) -> Outcome {
    let echo = Module::new("echo", |given: Given| Ok(given.data));
    let begun = Provider::new(NAMESPACE).group("bench").module(echo);
    let provider = addresses.split(',').fold(begun, Provider::instance);
    provider.serve().map_err(|e| e.message.into())
}

pub fn measure(dir: &Path, table: &mut Table) -> Outcome {
    let dir = &dir.join("modules");
    fs::create_dir(dir)?;
    let address = SocketAddr::new(LOOPBACK.parse()?, free_port()?);
    let config = dir.join("provost.toml");
    fs::write(&config, format!("[modules]\nlisten = '{address}'\n"))?;
    let config = config.to_str().ok_or("the path is not text")?;
    let mut service = Provost::serve_with(dir, &["--config", config])?;
    let mut host = Client::connect_to_host(service.socket().as_ref())?;
    let settings = ModuleSettings { listen: Some(([127, 0, 0, 1], 0).into()), ..ModuleSettings::default() };
    let (inside, ours) = Modules::start(
        settings,
        &dir.join("notes"),
        Arc::new(|_: &str| ()),
        Arc::new(|_, _: &str, _: &str| ()),
    )?;
    let ours = ours.ok_or("it listens")?;

    let mut providers = vec![provider(dir, &[address, ours])?];
    let executor = until_members(&mut host, &inside, 1)?;
    let direct = Caller::plain(executor);
    let socket = grpc_socket(service.socket().as_ref()).ok_or("the path of the socket is too long")?;
    let local = Caller::local(&socket)?;
    for payload in PAYLOADS {
        calls(payload, &direct, &inside, &mut host, &local, table)?;
    }
    for _ in 1..MEMBERS {
        providers.push(provider(dir, &[address, ours])?);
    }
    until_members(&mut host, &inside, MEMBERS)?;
    let mut rates = Samples::default();
    for _ in 0..RATE_ROUNDS {
        rates.push(rate_inside(&inside, &order(PAYLOADS[0].0), RATE_CALLS)?);
    }
    let what = format!("calls in the host, {UNDER_WAY} threads, {MEMBERS} members");
    table.row(what, "1/s").ours(rates.median()).done();
    drop(providers);
    until("they are gone", LIMIT, || connections(&mut host).is_ok_and(|all| all.is_empty()))?;

    registrations(address, &mut host, table)?;
    let pid = only(service.client.status(vec![HOST.to_owned()])?)?.pid.ok_or("the host does not run")?;
    crowd(address, pid, table)?;
    drop(host);
    service.end()
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port())
}

/// A running provider.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn provider(dir: &Path, addresses: &[SocketAddr]) -> Outcome<Running> {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let mut command = Command::new(our_path()?);
    command.args(["module", &addresses.join(",")]).env(MARK, dir);
    Ok(Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

fn connections(host: &mut Client) -> Outcome<Vec<ModuleConnection>> {
    match host.module(ModuleCall::Connections)? {
        ModuleAnswer::Connections(all) => Ok(all),
        _ => Err("no list of connections".into()),
    }
}

/// Waits until both planes have so many; where the first of them executes.
fn until_members(host: &mut Client, inside: &Modules, count: usize) -> Outcome<SocketAddr> {
    let is_active = |all: &[ModuleConnection]| all.iter().filter(|c| c.state == "active").count() == count;
    until("the providers are there", LIMIT, || {
        let both = (connections(host), inside.answer(ModuleCall::Connections, WHO));
        matches!(both, (Ok(theirs), Ok(ModuleAnswer::Connections(ours))) if is_active(&theirs) && is_active(&ours))
    })?;
    let first = connections(host)?.first().map(|c| c.executor.clone()).unwrap_or_default();
    let port = first.rsplit_once(':').ok_or("no port")?.1.parse()?;
    Ok(SocketAddr::new(LOOPBACK.parse()?, port))
}

fn order(len: usize) -> ModuleOrder {
    let input = json!({ "data": "x".repeat(len) }).to_string().into_bytes();
    let (name, timeout) = (NAME.to_owned(), Duration::from_secs(30));
    ModuleOrder { name, input, timeout, tagged: false, metadata: Vec::new() }
}

/// One call in each way there is, in turn.
fn calls(
    (len, shown): (usize, &str),
    direct: &Caller,
    inside: &Modules,
    host: &mut Client,
    local: &Caller,
    table: &mut Table,
) -> Outcome {
    let order = order(len);
    let tagged = json!({
        "tag": "CProduct",
        "value": { "data": { "tag": "CString", "value": "x".repeat(len) } },
        "structure": { "data": { "tag": "CString" } },
    });
    let execute = [text(1, b"echo"), text(2, tagged.to_string().as_bytes()), text(3, b"1")].concat();
    let request = [text(1, NAME.as_bytes()), text(2, &order.input)].concat();
    let call = || ModuleCall::Call(order.clone());
    let small = if len > 100 << 10 { 10 } else { 1 };

    let [mut bare, mut in_host, mut library, mut socket] = [(); 4].map(|()| Samples::default());
    let row = ROW / small;
    for _ in 0..ROUNDS {
        repeat(row, &mut bare, || direct.call(&EXECUTE, &execute))?;
        repeat(row, &mut in_host, || Ok(inside.answer(call(), WHO)?))?;
        repeat(row, &mut library, || Ok(host.module(call())?))?;
        repeat(row, &mut socket, || local.call(&CALL_MODULE, &request))?;
    }
    let micros = |samples: Option<f64>| samples.map(|ms| ms * 1e3);
    let is_short = len == PAYLOADS[0].0;
    for (what, ours, goal) in [
        ("in the host", &in_host, is_short.then_some(Goal::BareTimes(1.25))),
        ("by our library", &library, None),
        ("over grpc.sock", &socket, is_short.then_some(Goal::BareTimes(2.3))),
    ] {
        let row = table.row(format!("call of {shown}, {what}"), "us");
        let row = row.ours(micros(ours.median())).bare(micros(bare.median()));
        goal.into_iter().fold(row, |row, goal| row.goal(goal)).done();
        let row = table.row(format!("call of {shown}, {what}, 99th percentile"), "us");
        row.ours(micros(ours.p99())).bare(micros(bare.p99())).done();
    }
    if is_short {
        let added = socket.median().zip(bare.median()).map(|(ours, bare)| (ours - bare) * 1e3);
        table.row("... added over grpc.sock", "us").ours(added).goal(Goal::Value(2000.0)).done();
    }

    let [mut bare, mut in_host] = [(); 2].map(|()| Samples::default());
    let total = RATE_CALLS / small;
    for _ in 0..RATE_ROUNDS {
        bare.push(direct.rate(&EXECUTE, &execute, UNDER_WAY, total)?);
        in_host.push(rate_inside(inside, &order, total)?);
    }
    let row = table.row(format!("calls of {shown} in the host, {UNDER_WAY} under way"), "1/s");
    let row = row.ours(in_host.median()).bare(bare.median());
    if len > 100 << 10 {
        row.goal(Goal::BareShare(0.9)).done()
    } else {
        row.done()
    }
    Ok(())
}

fn repeat<T>(row: u32, samples: &mut Samples, mut call: impl FnMut() -> Outcome<T>) -> Outcome {
    (0..row).try_for_each(|_| samples.time(&mut call).map(drop))
}

/// Calls per second, by as many threads as there are to be under way.
fn rate_inside(inside: &Modules, order: &ModuleOrder, total: u32) -> Outcome<f64> {
    let begin = Instant::now();
    let call = || {
        let mut all = 0..total / UNDER_WAY;
        all.try_for_each(|_| inside.answer(ModuleCall::Call(order.clone()), WHO).map(drop))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..UNDER_WAY).map(|_| scope.spawn(call)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done.map_err(|e| e.message),
            Err(_) => Err("a call panicked".to_owned()),
        })
    })?;
    Ok(f64::from(total) / begin.elapsed().as_secs_f64())
}

/// A registration that takes its own place each time.
fn registrations(address: SocketAddr, host: &mut Client, table: &mut Table) -> Outcome {
    let service = Caller::plain(address);
    for (count, what) in [(1, "registration of 1 module"), (MANY, "registration of 1000 modules")] {
        let request = registration("registered", count);
        let mut samples = Samples::default();
        for _ in 0..REGISTRATIONS {
            samples.time(|| service.call(&REGISTER, &request))?;
        }
        table.row(what, "ms").ours(samples.median()).done();
    }
    let there = connections(host)?.len();
    if there == 1 { Ok(()) } else { Err(format!("{there} connections are left of one").into()) }
}

/// `RegisterRequest` of so many modules without parameters.
fn registration(namespace: &str, count: usize) -> Vec<u8> {
    let integer = text(1, &[1 << 3, 1]);
    let modules = (0..count).flat_map(|n| {
        let name = format!("m{n}");
        text(2, &[text(1, name.as_bytes()), text(2, &integer), text(3, &integer)].concat())
    });
    let modules: Vec<u8> = modules.collect();
    [text(1, namespace.as_bytes()), modules, vec![3 << 3, 1], text(4, b"127.0.0.1:1")].concat()
}

/// What providers cost that do nothing but beat.
fn crowd(address: SocketAddr, pid: u32, table: &mut Table) -> Outcome {
    let before = host::usage(&[pid]);
    let mut all = Vec::new();
    for n in 0..CROWD {
        all.push(Beating::begin(address, &format!("crowd{n}"))?);
    }
    let (memory, processor) = (host::usage(&[pid]), host::processor_ms(pid));
    let begin = Instant::now();
    // Each in its turn, as providers that know nothing of each other.
    let mut beats = 0;
    while begin.elapsed() < WATCHED {
        all[beats as usize % CROWD].beat()?;
        beats += 1;
        pass((BEAT * beats / CROWD as u32).saturating_sub(begin.elapsed()));
    }
    let busy = (host::processor_ms(pid) - processor) as f64 / begin.elapsed().as_secs_f64() / 10.0;
    let what = format!("{CROWD} providers with heartbeats, of one processor");
    table.row(what, "%").ours(Some(busy)).done();
    let each = (memory.pss_mib - before.pss_mib) * 1024.0 / CROWD as f64;
    table.row("... memory of each in the host", "KiB").ours(Some(each)).done();
    table.row("... threads of the host", "").ours(Some(memory.threads as f64)).goal(Goal::Value(49.0)).done();
    Ok(())
}

/// A provider by hand: its control stream is stream 3.
struct Beating {
    socket: TcpStream,
    beat: Vec<u8>,
}

impl Beating {
    fn begin(address: SocketAddr, namespace: &str) -> Outcome<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
        socket.write_all(&[PREFACE, &settings].concat())?;
        let headers = |path: &str, stream| frame(HEADERS, END_HEADERS, stream, &call(path, &[]));
        let request = registration(namespace, 1);
        let register = headers("/constellation.provider.v1.ModuleProvider/Register", 1);
        socket.write_all(&[register, data(1, 1, &request)].concat())?;
        let answer = answer(&mut socket, 1)?;
        let at = answer.windows(2).position(|two| two == [4 << 3 | 2, 36]).ok_or("no id")?;
        let id = answer.get(at + 2..at + 38).ok_or("half an id")?;
        let beat = text(10, &text(1, namespace.as_bytes()));
        let beat = data(3, 0, &[vec![1 << 3, 1], text(2, id), beat].concat());
        let mut beating = Self { socket, beat };
        beating.socket.write_all(&headers(CONTROL_PLANE, 3))?;
        beating.beat()?;
        Ok(beating)
    }

    /// Beats, and takes what has come.
    fn beat(&mut self) -> Outcome {
        self.socket.write_all(&self.beat)?;
        self.socket.set_nonblocking(true)?;
        while self.socket.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
        Ok(self.socket.set_nonblocking(false)?)
    }
}

/// The message that comes on this stream.
fn answer(socket: &mut TcpStream, stream: u32) -> Outcome<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload)?;
        if head[3] == DATA && head[8] == stream as u8 {
            return Ok(payload);
        }
    }
}

/// A message in one frame.
fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let len = (bytes.len() as u32).to_be_bytes();
    frame(DATA, flags, stream, &[&[0], &len[..], bytes].concat())
}

/// A field of bytes, as protobuf has it.
fn text(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut len, mut out) = (bytes.len(), vec![number << 3 | 2]);
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [out, bytes.to_vec()].concat()
}
