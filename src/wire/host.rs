//! A machine and a port, as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The name of this machine that nobody needs to be asked for.
const LOCALHOST: &str = "localhost";

/// `HOST:PORT`: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// The name or the address; an IPv6 address without its brackets.
    pub name: String,
    pub port: u16,
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let split = || {
            let (name, port) = text.rsplit_once(':')?;
            let port = port.parse::<u16>().ok().filter(|&port| port != 0)?;
            let name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|_| inner)?,
                None => name,
            };
            let is_part = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
            let is_bare = !name.contains(':') || text.starts_with('[');
            let fits = is_bare && (1..=253).contains(&name.len()) && name.chars().all(is_part);
            fits.then(|| Self { name: name.to_owned(), port })
        };
        split().ok_or_else(|| {
            Error::usage(format!("{} is not HOST:PORT", quoted(text)))
                .hint("as build.example:7443, 192.0.2.7:7443 or [2001:db8::7]:7443")
        })
    }
}

impl Host {
    /// Its address, if that is what is given; `localhost` is one, too.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        if self.name.eq_ignore_ascii_case(LOCALHOST) {
            return Some(Ipv4Addr::LOCALHOST.into());
        }
        self.name.parse().ok()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_port() {
        for (text, name, port) in [
            ("build.example:7443", "build.example", 7443),
            ("192.0.2.7:1", "192.0.2.7", 1),
            ("[2001:db8::7]:65535", "2001:db8::7", 65535),
        ] {
            let host = Host { name: name.into(), port };
            assert_eq!((host.to_string().as_str(), text.parse()), (text, Ok(host)));
        }
        for bad in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:x",
            "2001:db8::7:1",
            "[a]:1",
            "[::1:1",
            "a b:1",
            "a/b:1",
            "https://a:1",
            "a\n:1",
            "u@a:1",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_needs_no_name_service() {
        let literal = |text: &str| text.parse::<Host>().unwrap().literal().map(|ip| ip.to_string());
        assert_eq!(literal("localhost:1").as_deref(), Some("127.0.0.1"));
        assert_eq!(literal("[::1]:1").as_deref(), Some("::1"));
        assert_eq!(literal("192.0.2.7:1").as_deref(), Some("192.0.2.7"));
        assert_eq!(literal("build.example:1"), None);
    }
}
