//! A channel to a provider that runs elsewhere: its name is looked up, it is connected to, and unless it is
//! on this machine both prove who they are. Certificates are read each time: a new one is good from the next
//! channel on.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::provider::proof::NotOpen;
use crate::rpc::local_channel::LocalChannel;
use crate::sys::{clock, lookup};
use crate::tls::carried::carry;
use crate::tls::material::{self, Files};
use crate::tls::tunnel;
use crate::wire::error::Code;
use crate::wire::host::Host;
use crate::wire::remote_end::{EndFiles, RemoteEnd};
use crate::wire::time::millis;
use grpcio::Environment;

/// Channels that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Open(());

impl Open {
    pub fn one() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    pub fn count() -> usize {
        OPEN.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects to this end within the time.
pub fn channel(
    end: &RemoteEnd,
    timeout: Duration,
    environment: Arc<Environment>,
    receive_max: i32,
) -> Result<LocalChannel, NotOpen> {
    let deadline_ms = clock::now_ms().saturating_add(millis(timeout));
    let target = end.host.to_string();
    let tcp = connect(end, deadline_ms)?;
    tcp.set_nodelay(true)?;
    let Some(files) = &end.files else {
        return Ok(LocalChannel::over(tcp.into(), &target, environment, receive_max)?);
    };
    let config = material::client(&files_of(files)).map_err(|e| NotOpen::BadFiles(e.message))?;
    let tunnel = tunnel::connect(tcp, config, &end.host.name, deadline_ms).map_err(|e| match e.code {
        Code::TimedOut => NotOpen::Late(timeout),
        _ => NotOpen::Unproven(e.message),
    })?;
    let (plain, _) = carry(tunnel)?;
    Ok(LocalChannel::over(plain.into(), &target, environment, receive_max)?)
}

fn files_of(files: &EndFiles) -> Files {
    let path = |text: &str| text.into();
    Files { certificate: path(&files.certificate), key: path(&files.key), ca: path(&files.ca), crl: None }
}

/// To the first of its addresses that answers; in plaintext only to this machine.
fn connect(end: &RemoteEnd, deadline_ms: u64) -> Result<TcpStream, NotOpen> {
    let mut last = io::Error::from(ErrorKind::TimedOut);
    for ip in addresses(&end.host, deadline_ms)? {
        if end.files.is_none() && !ip.is_loopback() {
            let why = format!("{} is {ip}, which is not this machine, and there is no certificate", end.host);
            return Err(NotOpen::BadFiles(why));
        }
        let left = Duration::from_millis(deadline_ms.saturating_sub(clock::now_ms()));
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&SocketAddr::new(ip, end.host.port), left) {
            Ok(tcp) => return Ok(tcp),
            Err(e) => last = e,
        }
    }
    Err(NotOpen::Unreachable(last))
}

/// Of this host, by a program of our own where it is a name.
fn addresses(host: &Host, deadline_ms: u64) -> Result<Vec<IpAddr>, NotOpen> {
    match host.literal() {
        Some(ip) => Ok(vec![ip]),
        None => lookup::addresses(&host.name, deadline_ms).map_err(NotOpen::Taken),
    }
}
