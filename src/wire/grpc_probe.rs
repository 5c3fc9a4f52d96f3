//! A probe by gRPC: where it is made, and the request by which the engine has the host of providers make it,
//! since nothing of gRPC is in the engine itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::proto::v1;
use crate::wire::time::millis;

/// The longest text of an end, in bytes.
const TEXT_LEN_MAX: usize = 1024;
/// The longest path of a unix socket, in bytes.
const PATH_LEN_MAX: usize = 107;
/// The longest that one may take: who asks for it waits no longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Where a server of gRPC on this machine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcAddress {
    /// Of the loopback network.
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(PathBuf),
}

/// A server of gRPC, and which of its services is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcEnd {
    pub address: GrpcAddress,
    /// Empty: the server as a whole.
    pub service: String,
}

impl GrpcEnd {
    /// Parses `HOST:PORT[#SERVICE]` or `unix:PATH[#SERVICE]`, where HOST is an address of loopback or
    /// `localhost`. No name is looked up.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::usage(format!("bad end of gRPC {}: {why}", quoted(text)))
                .hint("write 127.0.0.1:PORT or unix:/PATH, and #SERVICE behind it for one of its services")
        };
        if text.len() > TEXT_LEN_MAX || text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(bad("at most 1024 bytes, without spaces"));
        }
        let (address, service) = text.split_once('#').unwrap_or((text, ""));
        let address = match address.strip_prefix("unix:") {
            Some(path) if !path.starts_with('/') => return Err(bad("the path of a socket is absolute")),
            Some(path) if path.len() > PATH_LEN_MAX => {
                return Err(bad("the path of a socket has at most 107 bytes"));
            }
            Some(path) => GrpcAddress::Unix(path.into()),
            None => {
                let numeric = match address.strip_prefix("localhost:") {
                    Some(port) => format!("127.0.0.1:{port}"),
                    None => address.to_owned(),
                };
                let parsed = numeric.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
                let address = parsed.ok_or_else(|| bad("it is an address with a port from 1"))?;
                if !is_loopback(address.ip()) {
                    return Err(bad("what is probed listens on this machine"));
                }
                GrpcAddress::Tcp(address)
            }
        };
        Ok(Self { address, service: service.to_owned() })
    }

    /// The port of this machine at which it listens, if it is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        if let GrpcAddress::Tcp(address) = &self.address { Some(address.port()) } else { None }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a definition may ask for it: it can be read, and there is a host that makes such probes.
pub(in crate::wire) fn check(end: &str) -> Result<(), Error> {
    GrpcEnd::parse(end)?;
    if cfg!(feature = "gateway") {
        return Ok(());
    }
    let message = "this program was built without the gateway, and so without probes by gRPC";
    Err(Error::new(Code::Refused, message)
        .hint("probe with ready_tcp, or with a program (ready_exec) that asks by gRPC"))
}

/// Asks a server how it is. The host answers with done, or with the failure: any other error means that
/// nobody has looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// As in the definition.
    pub end: String,
    /// How long it may take.
    pub timeout: Duration,
}

impl GrpcProbe {
    pub(in crate::wire) fn to_wire(&self) -> v1::GrpcProbe {
        v1::GrpcProbe { end: self.end.clone(), timeout_ms: millis(self.timeout) }
    }

    pub(in crate::wire) fn from_wire(w: v1::GrpcProbe) -> Result<Self, Error> {
        GrpcEnd::parse(&w.end)?;
        Ok(Self { end: w.end, timeout: Duration::from_millis(w.timeout_ms).min(TIMEOUT_MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_taken_apart() {
        let tcp = |address: &str, service: &str| GrpcEnd {
            address: GrpcAddress::Tcp(address.parse().unwrap()),
            service: service.into(),
        };
        assert_eq!(GrpcEnd::parse("127.0.0.1:50051"), Ok(tcp("127.0.0.1:50051", "")));
        assert_eq!(GrpcEnd::parse("localhost:1#a.B"), Ok(tcp("127.0.0.1:1", "a.B")));
        assert_eq!(GrpcEnd::parse("[::1]:2#"), Ok(tcp("[::1]:2", "")));
        let unix = GrpcEnd { address: GrpcAddress::Unix("/run/a.sock".into()), service: "a/b".into() };
        assert_eq!(GrpcEnd::parse("unix:/run/a.sock#a/b"), Ok(unix));
        let long = format!("unix:/{}", "x".repeat(PATH_LEN_MAX));
        for bad in ["", "1", "10.0.0.1:1", "a.b:1", "127.0.0.1:0", "unix:a", "unix:/a b", &long] {
            assert!(GrpcEnd::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_refused_where_nobody_could_make_it() {
        assert_eq!(check("127.0.0.1:1").is_ok(), cfg!(feature = "gateway"));
        assert!(check("x").is_err());
    }
}
