//! Where a provider executes its modules: `HOST:PORT`, read by one strict parser for the check and the call.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where no port is given.
const PORT_DEFAULT: u16 = 9090;
/// The longest host, in bytes.
const HOST_LEN_MAX: usize = 253;

/// A host, and a port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorAddress {
    host: String,
    port: u16,
}

impl ExecutorAddress {
    /// Reads `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("executor_url cannot be empty".to_owned());
        }
        if text.contains("://") {
            return Err(format!("executor_url is HOST:PORT, without a scheme: {text:.80}"));
        }
        let bad = || format!("executor_url is not HOST:PORT: {text:.80}");
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            // One address has many spellings.
            let host = host.parse::<Ipv6Addr>().map_err(|_| bad())?.to_string();
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
        } else {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (host.to_ascii_lowercase(), port)
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_v6 = text.starts_with('[');
        if host.is_empty() || host.len() > HOST_LEN_MAX || !(is_v6 || host.chars().all(is_name)) {
            return Err(bad());
        }
        let port = match port {
            None => PORT_DEFAULT,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) => {
                return Err(format!("Invalid port in executor_url: {digits:.20}"));
            }
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or_else(|| format!("Port out of range in executor_url (1 to 65535): {digits:.20}"))?,
        };
        Ok(Self { host, port })
    }

    /// In lower case; an address of version 6 is without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every address that it means, as far as nobody has to be asked: `localhost` is not looked up. None: it
    /// is another name.
    pub fn literals(&self) -> Vec<IpAddr> {
        if self.host == "localhost" {
            return vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        }
        self.host.parse().into_iter().collect()
    }

    /// Whether it is on this machine by what it says.
    pub fn is_here(&self) -> bool {
        self.literals().first().is_some_and(IpAddr::is_loopback)
    }
}

impl fmt::Display for ExecutorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, shown) in [
            ("localhost:9091", "localhost:9091"),
            (" Host ", "host:9090"),
            ("[2001:DB8:0::1]:1", "[2001:db8::1]:1"),
            ("[::1]:1", "[::1]:1"),
            ("[::1]", "[::1]:9090"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
        ] {
            assert_eq!(ExecutorAddress::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "cannot be empty"),
            ("  ", "cannot be empty"),
            ("http://a:1", "scheme"),
            ("grpc://a", "scheme"),
            ("a:0", "Port out of range"),
            ("a:70000", "Port out of range"),
            ("a:99999999999999999999", "Port out of range"),
            ("a:abc", "Invalid port"),
            ("a:+1", "Invalid port"),
            ("a:b:80", "Invalid port"),
            (":9090", "not HOST:PORT"),
            ("[::1", "not HOST:PORT"),
            ("[::1]garbage", "not HOST:PORT"),
            ("a b:1", "not HOST:PORT"),
        ] {
            let why = ExecutorAddress::parse(text).unwrap_err();
            assert!(why.contains(reason), "{text:?}: {why}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let of = |text| {
            let address = ExecutorAddress::parse(text).unwrap();
            (address.literals().len(), address.is_here())
        };
        assert_eq!(["localhost", "127.0.0.2", "[::1]"].map(of), [(2, true), (1, true), (1, true)]);
        assert_eq!(
            ["example.com", "10.0.0.1", "[2001:db8::1]"].map(of),
            [(0, false), (1, false), (1, false)]
        );
    }
}
