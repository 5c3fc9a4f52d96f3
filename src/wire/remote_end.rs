//! A provider that somebody else runs: where it listens, and what both ends show each other.

use crate::wire::error::Error;
use crate::wire::host::Host;
use crate::wire::proto::v1;

/// The other end of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEnd {
    /// Where it listens.
    pub host: Host,
    /// None: plaintext, which does not leave this machine.
    pub files: Option<EndFiles>,
}

/// Files of PEM for mutual TLS, by their absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EndFiles {
    /// What we show.
    pub certificate: String,
    /// The private key of that.
    pub key: String,
    /// The authorities that its certificate has to come from.
    pub ca: String,
}

impl RemoteEnd {
    /// Checks that nothing is said in plaintext over a network, as far as that is known of an address.
    pub fn new(address: &str, files: Option<EndFiles>) -> Result<Self, Error> {
        let host: Host = address.parse()?;
        if files.is_none() && host.literal().is_some_and(|ip| !ip.is_loopback()) {
            let e =
                format!("the provider at {host} is not on this machine, and is to be spoken to in plaintext");
            return Err(
                Error::usage(e).hint("give a certificate, its key, and the authority of the other end")
            );
        }
        let paths = files.iter().flat_map(|files| [&files.certificate, &files.key, &files.ca]);
        if let Some(path) = paths.into_iter().find(|path| !path.starts_with('/') || path.contains('\0')) {
            let e = format!("{} is not an absolute path", crate::wire::id::quoted(path));
            return Err(Error::usage(e).hint("certificate, key and authority are three files of PEM"));
        }
        Ok(Self { host, files })
    }

    pub(in crate::wire) fn to_wire(&self) -> v1::ProviderRemote {
        let text = |of: fn(&EndFiles) -> &String| self.files.as_ref().map(of).cloned().unwrap_or_default();
        v1::ProviderRemote {
            address: self.host.to_string(),
            certificate: text(|files| &files.certificate),
            key: text(|files| &files.key),
            ca: text(|files| &files.ca),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::ProviderRemote) -> Result<Self, Error> {
        let v1::ProviderRemote { address, certificate, key, ca } = w;
        let has_files = [&certificate, &key, &ca].into_iter().any(|path| !path.is_empty());
        Self::new(&address, has_files.then_some(EndFiles { certificate, key, ca }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_machine_in_plaintext() {
        let files = || {
            let path = |name: &str| format!("/etc/{name}.pem");
            Some(EndFiles { certificate: path("c"), key: path("k"), ca: path("a") })
        };
        for (address, files) in [
            ("127.0.0.1:1", None),
            ("localhost:1", None),
            ("[::1]:1", None),
            // What it is an address of shows when it is connected to.
            ("build.example:1", None),
            ("127.0.0.1:1", files()),
            ("192.0.2.7:1", files()),
        ] {
            let end = RemoteEnd::new(address, files).unwrap();
            assert_eq!(RemoteEnd::from_wire(end.to_wire()), Ok(end));
        }
        for address in ["192.0.2.7:1", "[2001:db8::7]:1", "0.0.0.0:1", "nowhere", ""] {
            assert!(RemoteEnd::new(address, None).is_err(), "{address}");
        }
        let some = EndFiles { certificate: "c.pem".into(), ..files().unwrap() };
        assert!(RemoteEnd::new("127.0.0.1:1", Some(some)).is_err());
        let half =
            v1::ProviderRemote { address: "127.0.0.1:1".into(), key: "/k".into(), ..Default::default() };
        assert!(RemoteEnd::from_wire(half).is_err(), "a key alone is no identity");
    }
}
