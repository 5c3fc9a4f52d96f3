//! Connections: how many begin in a second, what a thousand of them cost that do nothing, and how soon a
//! gateway is ready.

use std::io::{Read, stdin};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::sys::thread;
use provost::tls::material;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::SERVICES;
use crate::grpc::LOOPBACK;
use crate::grpc::raw::{END_HEADERS, HEADERS, Raw, call, frame, message};
use crate::grpc::server::serve;
use crate::grpc::site::{Site, client_tls, files, text};
use crate::host;
use crate::programs::our_path;
use crate::sample::{Outcome, Samples, pass};
use crate::table::{Goal, Table};

/// Handshakes: rounds, and how many of each kind in a round.
const ROUNDS: u32 = 7;
const ROW: u32 = 100;
/// Connections that do nothing.
const CROWD: u32 = 1000;
/// Until memory that was used is given back, and for how long nothing is done then.
const SETTLE: Duration = Duration::from_secs(8);
const IDLE: Duration = Duration::from_secs(10);
/// Gateways that begin.
const STARTS: u32 = 11;

pub fn measure(site: &mut Site, dir: &Path, table: &mut Table) -> Outcome {
    handshakes(site, table)?;
    begins(site, table)?;
    crowd(site, dir, table)
}

/// Connections up to the first frame of the server, one after the other, beside the cryptography alone: both
/// ends of a handshake on one thread, without a socket.
fn handshakes(site: &Site, table: &mut Table) -> Outcome {
    let client = site.tls()?;
    let server = material::server(&files(&site.certificates, "server"))?;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        bare.push(per_second(|| shake_hands(&client, &server))?);
        ours.push(per_second(|| Raw::connect(site.address, &client).map(drop))?);
    }
    let row = table.row("connections, handshake and gRPC server", "1/s");
    row.ours(ours.median()).bare(bare.median()).done();
    Ok(())
}

fn per_second(mut act: impl FnMut() -> Outcome) -> Outcome<f64> {
    let begin = Instant::now();
    (0..ROW).try_for_each(|_| act())?;
    Ok(f64::from(ROW) / begin.elapsed().as_secs_f64())
}

fn shake_hands(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from(LOOPBACK)?)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut flight = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        client.write_tls(&mut flight)?;
        server.read_tls(&mut flight.as_slice())?;
        server.process_new_packets()?;
        flight.clear();
        server.write_tls(&mut flight)?;
        client.read_tls(&mut flight.as_slice())?;
        client.process_new_packets()?;
        flight.clear();
    }
    Ok(())
}

/// From the start of one more service until its gateway lets a client in.
fn begins(site: &Site, table: &mut Table) -> Outcome {
    let tls = site.tls()?;
    let mut samples = Samples::default();
    for _ in 0..STARTS {
        let begin = Instant::now();
        let another = site.another()?;
        another.ready(&tls)?;
        samples.push_ms(begin.elapsed());
        another.end()?;
    }
    table.row("service and gateway begin", "ms").ours(samples.median()).done();
    Ok(())
}

/// What all processes of the service take, before anybody has used it.
pub fn memory(site: &mut Site, table: &mut Table) -> Outcome {
    let all = [site.service.pids()?, vec![site.pid()?]].concat();
    pass(SETTLE);
    let row = table.row(format!("memory (PSS) of all three, {SERVICES} processes"), "MiB");
    row.ours(Some(host::usage(&all).pss_mib)).goal(Goal::Value(15.0)).done();
    Ok(())
}

/// What is taken by nobody, and by a thousand.
fn crowd(site: &mut Site, dir: &Path, table: &mut Table) -> Outcome {
    let gateway = site.pid()?;
    let all = [site.service.pids()?, vec![gateway]].concat();
    pass(SETTLE);
    let row = table.row("memory of all three after calls and streams", "MiB");
    row.ours(Some(host::usage(&all).pss_mib)).done();
    let before = host::usage(&[gateway]);
    table.row("... of the gateway alone", "MiB").ours(Some(before.pss_mib)).done();

    let (address, count) = (site.address.to_string(), CROWD.to_string());
    let (mut program, _) =
        serve(&[&our_path()?, "grpc-idle", &address, text(&site.certificates)?, &count], dir)?;
    pass(SETTLE);
    let usage = host::usage(&[gateway]);
    let kib = (usage.pss_mib - before.pss_mib) * 1024.0 / f64::from(CROWD);
    table.row(format!("memory for each of {CROWD} idle connections"), "KiB").ours(Some(kib)).done();
    let (wakeups, time) = (host::wakeups(&[gateway]), host::processor_ms(gateway));
    pass(IDLE);
    let each = |after: u64, before: u64| Some((after - before) as f64 / IDLE.as_secs_f64());
    let row = table.row(format!("wake-ups of the gateway, {CROWD} idle"), "1/s");
    row.ours(each(host::wakeups(&[gateway]), wakeups)).done();
    let row = table.row(format!("processor time of the gateway, {CROWD} idle"), "ms/s");
    row.ours(each(host::processor_ms(gateway), time)).done();
    drop(program.stdin.take());
    program.wait()?;
    Ok(())
}

/// The program: makes connections, a call on each, and then only answers pings.
pub fn idle(address: &str, certificates: &str, count: &str) -> Outcome {
    let (address, tls): (SocketAddr, _) = (address.parse()?, client_tls(Path::new(certificates))?);
    let headers = frame(HEADERS, END_HEADERS, 1, &call("/grpc.health.v1.Health/Check", &[]));
    let question = [headers, message(1, false, &[])].concat();
    for _ in 0..count.parse()? {
        let mut raw = Raw::connect(address, &tls)?;
        raw.write(&question)?;
        raw.finish(1)?;
        raw.patient()?;
        thread::spawn("idle", move || while raw.read().and_then(|frame| raw.answer(&frame)).is_ok() {})?;
    }
    println!("ready");
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
