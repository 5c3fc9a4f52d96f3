//! A service on another machine, as a client needs to know it. Plain values that have been checked; `config`
//! makes them from a file.

use std::path::PathBuf;

use crate::tls::material::Files;
use crate::wire::error::Error;
use crate::wire::id::quoted;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    pub host: Host,
    /// The certificate that we show, and the authority that we believe.
    pub files: Files,
    /// Who we are besides.
    pub user: Option<String>,
    /// Where that user's password is.
    pub password_file: Option<PathBuf>,
}

/// `HOST:PORT`: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name or the address; an IPv6 address without its brackets.
    pub name: String,
    pub port: u16,
}

impl std::str::FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let split = || {
            let (name, port) = text.rsplit_once(':')?;
            let port = port.parse::<u16>().ok().filter(|&port| port != 0)?;
            let name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(|_| inner)?,
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
            assert_eq!(text.parse(), Ok(Host { name: name.into(), port }));
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
}
