//! What shows that a process is ready, and that it is still well, with the pace of both. Checked here; the
//! probes themselves are in `engine/process/probe`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::wire::error::Error;
use crate::wire::grpc_probe::{self, GrpcEnd};
use crate::wire::id::quoted;
use crate::wire::proto::v1;
use crate::wire::time::{DURATION_MAX, millis};

/// The longest text of a line that is looked for, and the longest URL, in bytes.
const TEXT_LEN_MAX: usize = 1024;
/// The most bytes of a probe's command.
const COMMAND_LEN_MAX: usize = 16 << 10;
/// The most probes in a row that a threshold asks for.
pub const THRESHOLD_MAX: u32 = 1000;
/// The shortest time between two probes: more often would be polling for its own sake.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What makes a running process ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A line of its output holds this text.
    Line(String),
    /// This port of 127.0.0.1 accepts a connection.
    Tcp(u16),
    /// It says READY=1 at the socket that its variable NOTIFY_SOCKET names.
    Notify,
    /// This URL answers with a status from 200 to 399.
    Http(String),
    /// This program ends with exit code 0.
    Exec(Vec<String>),
    /// It has ended with success: a job that others wait for.
    Exit,
    /// This server says by grpc.health.v1 that it is serving, see [`GrpcEnd`].
    Grpc(String),
}

/// What shows that a process is still well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// As with readiness.
    Tcp(u16),
    /// As with readiness.
    Http(String),
    /// As with readiness.
    Exec(Vec<String>),
    /// It says WATCHDOG=1 at least once in each interval.
    Notify,
    /// As with readiness.
    Grpc(String),
}

/// How readiness is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyRules {
    /// Between two probes; what is usual for their kind when none is given.
    pub interval: Option<Duration>,
    /// How long one probe may take.
    pub attempt: Duration,
    /// How many in a row have to succeed.
    pub successes: u32,
    /// From the start of the program to the first one.
    pub delay: Duration,
    /// From the start of the program until it is too late: the run has failed. None: never.
    pub timeout: Option<Duration>,
    /// A line of output with this text says that it will never be ready.
    pub fail_line: Option<String>,
    /// Between two probes from when it is ready on. None: it is not looked at again.
    pub recheck: Option<Duration>,
    /// How many of those in a row have to fail for it to be ready no more.
    pub failures: u32,
}

impl Default for ReadyRules {
    fn default() -> Self {
        Self {
            interval: None,
            attempt: Duration::from_secs(1),
            successes: 1,
            delay: Duration::ZERO,
            timeout: None,
            fail_line: None,
            recheck: None,
            failures: 3,
        }
    }
}

/// How often it is looked whether it is well, and how often it may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRules {
    /// Between two probes.
    pub interval: Duration,
    /// How long one probe may take.
    pub attempt: Duration,
    /// So many failures in a row end the run.
    pub failures: u32,
    /// From when it is ready to the first one.
    pub delay: Duration,
}

impl Default for LiveRules {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            attempt: Duration::from_secs(1),
            failures: 3,
            delay: Duration::ZERO,
        }
    }
}

/// An `http://` URL, taken apart. No name is looked up: that could take as long as it likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    pub address: SocketAddr,
    /// As the request names it.
    pub host: String,
    /// With the query, if there is one.
    pub path: String,
}

impl HttpUrl {
    /// Parses `http://HOST[:PORT][/PATH]`, where HOST is an address or `localhost`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::usage(format!("bad URL {}: {why}", quoted(url)));
        if url.len() > TEXT_LEN_MAX || url.contains(|c: char| c.is_control() || c == ' ' || !c.is_ascii()) {
            return Err(bad("at most 1024 characters of ASCII, without spaces"));
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(bad("it begins with http://").hint("for anything else, probe with a program"));
        };
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('?') => (&rest[..at], format!("/{}", &rest[at..])),
            Some(at) => (&rest[..at], rest[at..].to_owned()),
            None => (rest, "/".to_owned()),
        };
        let path = path.split('#').next().unwrap_or("/").to_owned();
        let local = host.strip_prefix("localhost").filter(|port| port.is_empty() || port.starts_with(':'));
        let numeric = local.map_or_else(|| host.to_owned(), |port| format!("{}{port}", Ipv4Addr::LOCALHOST));
        let only = numeric.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(&numeric);
        let address = (numeric.parse::<SocketAddr>().ok())
            .or_else(|| only.parse::<IpAddr>().ok().map(|ip| SocketAddr::from((ip, 80))))
            .filter(|address| address.port() != 0)
            .ok_or_else(|| bad("its host is an address or localhost, with a port from 1"))?;
        Ok(Self { address, host: host.to_owned(), path })
    }
}

impl Readiness {
    /// The port of this machine that has to belong to the process for it to be ready.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(port) => Some(*port),
            Self::Http(url) => {
                let address = HttpUrl::parse(url).ok()?.address;
                address.ip().is_loopback().then(|| address.port())
            }
            Self::Grpc(end) => GrpcEnd::parse(end).ok()?.port(),
            Self::Line(_) | Self::Notify | Self::Exec(_) | Self::Exit => None,
        }
    }

    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Line(text) => check_line("ready line", text),
            Self::Tcp(port) => check_port(*port),
            Self::Http(url) => HttpUrl::parse(url).map(drop),
            Self::Exec(command) => check_command(command),
            Self::Grpc(end) => grpc_probe::check(end),
            Self::Notify | Self::Exit => Ok(()),
        }
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Ready {
        use v1::ready::By;
        v1::Ready {
            by: Some(match self {
                Self::Line(text) => By::Line(text.clone()),
                Self::Tcp(port) => By::Tcp(u32::from(*port)),
                Self::Notify => By::Notify(true),
                Self::Http(url) => By::Http(url.clone()),
                Self::Exec(command) => By::Exec(v1::ProbeCommand { command: command.clone() }),
                Self::Exit => By::Exit(true),
                Self::Grpc(end) => By::Grpc(end.clone()),
            }),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::Ready) -> Result<Option<Self>, Error> {
        use v1::ready::By;
        Ok(match w.by {
            None | Some(By::Notify(false) | By::Exit(false)) => None,
            Some(By::Line(text)) => Some(Self::Line(text)),
            Some(By::Tcp(port)) => Some(Self::Tcp(port_from_wire(port)?)),
            Some(By::Notify(true)) => Some(Self::Notify),
            Some(By::Http(url)) => Some(Self::Http(url)),
            Some(By::Exec(exec)) => Some(Self::Exec(exec.command)),
            Some(By::Exit(true)) => Some(Self::Exit),
            Some(By::Grpc(end)) => Some(Self::Grpc(end)),
        })
    }
}

impl Liveness {
    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Tcp(port) => check_port(*port),
            Self::Http(url) => HttpUrl::parse(url).map(drop),
            Self::Exec(command) => check_command(command),
            Self::Grpc(end) => grpc_probe::check(end),
            Self::Notify => Ok(()),
        }
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::Live {
        use v1::live::By;
        v1::Live {
            by: Some(match self {
                Self::Tcp(port) => By::Tcp(u32::from(*port)),
                Self::Http(url) => By::Http(url.clone()),
                Self::Exec(command) => By::Exec(v1::ProbeCommand { command: command.clone() }),
                Self::Notify => By::Notify(true),
                Self::Grpc(end) => By::Grpc(end.clone()),
            }),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::Live) -> Result<Option<Self>, Error> {
        use v1::live::By;
        Ok(match w.by {
            None | Some(By::Notify(false)) => None,
            Some(By::Tcp(port)) => Some(Self::Tcp(port_from_wire(port)?)),
            Some(By::Http(url)) => Some(Self::Http(url)),
            Some(By::Exec(exec)) => Some(Self::Exec(exec.command)),
            Some(By::Notify(true)) => Some(Self::Notify),
            Some(By::Grpc(end)) => Some(Self::Grpc(end)),
        })
    }
}

impl ReadyRules {
    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        let times = [Some(self.attempt), Some(self.delay), self.interval, self.timeout, self.recheck];
        check_times(times.into_iter().flatten())?;
        check_interval(self.interval)?;
        check_interval(self.recheck)?;
        check_threshold(self.successes)?;
        check_threshold(self.failures)?;
        self.fail_line.as_ref().map_or(Ok(()), |text| check_line("fail line", text))
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::ReadyRules {
        v1::ReadyRules {
            interval_ms: self.interval.map(millis),
            attempt_ms: Some(millis(self.attempt)),
            successes: self.successes,
            delay_ms: millis(self.delay),
            timeout_ms: self.timeout.map(millis),
            fail_line: self.fail_line.clone().unwrap_or_default(),
            recheck_ms: self.recheck.map(millis),
            failures: self.failures,
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ReadyRules) -> Self {
        Self {
            interval: w.interval_ms.map(Duration::from_millis),
            attempt: w.attempt_ms.map_or(Self::default().attempt, Duration::from_millis),
            successes: if w.successes == 0 { 1 } else { w.successes },
            delay: Duration::from_millis(w.delay_ms),
            timeout: w.timeout_ms.map(Duration::from_millis),
            fail_line: (!w.fail_line.is_empty()).then_some(w.fail_line),
            recheck: w.recheck_ms.map(Duration::from_millis),
            failures: if w.failures == 0 { Self::default().failures } else { w.failures },
        }
    }
}

impl LiveRules {
    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        check_times([self.interval, self.attempt, self.delay])?;
        check_interval(Some(self.interval))?;
        check_threshold(self.failures)
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::LiveRules {
        v1::LiveRules {
            interval_ms: Some(millis(self.interval)),
            attempt_ms: Some(millis(self.attempt)),
            failures: self.failures,
            delay_ms: millis(self.delay),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::LiveRules) -> Self {
        let default = Self::default();
        Self {
            interval: w.interval_ms.map_or(default.interval, Duration::from_millis),
            attempt: w.attempt_ms.map_or(default.attempt, Duration::from_millis),
            failures: if w.failures == 0 { default.failures } else { w.failures },
            delay: Duration::from_millis(w.delay_ms),
        }
    }
}

fn port_from_wire(port: u32) -> Result<u16, Error> {
    u16::try_from(port).map_err(|_| Error::usage(format!("there is no port {port}")))
}

fn check_port(port: u16) -> Result<(), Error> {
    if port == 0 { Err(Error::usage("there is no port 0")) } else { Ok(()) }
}

fn check_line(what: &str, text: &str) -> Result<(), Error> {
    if text.is_empty() || text.len() > TEXT_LEN_MAX || text.contains('\n') {
        return Err(Error::usage(format!("the text of a {what} is 1 to 1024 bytes of one line")));
    }
    Ok(())
}

fn check_command(command: &[String]) -> Result<(), Error> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::usage("a probe by a program names no program"));
    }
    if command.iter().map(|word| word.len() + 1).sum::<usize>() > COMMAND_LEN_MAX
        || command.iter().any(|word| word.contains('\0'))
    {
        return Err(Error::usage("the command of a probe has at most 16 KiB, and no NUL byte"));
    }
    Ok(())
}

fn check_times(times: impl IntoIterator<Item = Duration>) -> Result<(), Error> {
    match times.into_iter().find(|time| *time > DURATION_MAX) {
        Some(time) => Err(Error::usage(format!("a duration of {} s is over a year", time.as_secs()))),
        None => Ok(()),
    }
}

fn check_interval(interval: Option<Duration>) -> Result<(), Error> {
    if interval.is_some_and(|interval| interval < INTERVAL_MIN) {
        return Err(Error::usage("probes are at least 10 ms apart"));
    }
    Ok(())
}

fn check_threshold(threshold: u32) -> Result<(), Error> {
    if !(1..=THRESHOLD_MAX).contains(&threshold) {
        return Err(Error::usage(format!("{threshold} probes in a row are outside 1 to {THRESHOLD_MAX}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = |text: &str| HttpUrl::parse(text).map(|u| (u.address.to_string(), u.host, u.path));
        let is = |a: &str, h: &str, p: &str| Ok((a.to_owned(), h.to_owned(), p.to_owned()));
        assert_eq!(url("http://127.0.0.1:8000/up?a=1#x"), is("127.0.0.1:8000", "127.0.0.1:8000", "/up?a=1"));
        assert_eq!(url("http://localhost:81"), is("127.0.0.1:81", "localhost:81", "/"));
        assert_eq!(url("http://[::1]:82/"), is("[::1]:82", "[::1]:82", "/"));
        assert_eq!(url("http://10.0.0.1?x"), is("10.0.0.1:80", "10.0.0.1", "/?x"));
        for bad in
            ["https://127.0.0.1/", "http://example.org/", "http://127.0.0.1:0/", "http://1.2.3.4/a b", "x"]
        {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(Readiness::Http("http://[::1]:82/".into()).port(), Some(82));
        assert_eq!(Readiness::Http("http://10.0.0.1/".into()).port(), None);
    }
}
