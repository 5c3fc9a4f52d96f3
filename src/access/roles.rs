//! Which role a caller has. There are two factors, each with a role of its own: the certificate and the user.
//! The lower one counts, and a caller that lacks one of them has no role.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::role::Role;

/// Roles by the names that certificates carry, and by users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// By a name of the certificate, exactly as it stands there, with its kind: see [`typed`].
    pub by_certificate: BTreeMap<String, Role>,
    pub by_user: BTreeMap<String, Role>,
}

impl Roles {
    /// The role of this user behind a certificate with these names: the highest of the certificate's, but not
    /// more than the user's.
    #[must_use]
    pub fn of(&self, names: &[String], user: &str) -> Option<Role> {
        let certificate = self.of_certificate(names)?;
        Some(certificate.min(*self.by_user.get(user)?))
    }

    /// The highest role of any of these names.
    #[must_use]
    pub fn of_certificate(&self, names: &[String]) -> Option<Role> {
        names.iter().filter_map(|name| self.by_certificate.get(name)).max().copied()
    }

    /// Why there is no role, where [`Self::of`] finds none.
    #[must_use]
    pub fn missing(&self, names: &[String], user: &str) -> Error {
        let mut lacking = Vec::new();
        if self.of_certificate(names).is_none() {
            let names: Vec<_> = names.iter().take(4).map(|name| quoted(name)).collect();
            lacking.push(format!("the certificate {} in [grpc.certificate_roles]", names.join(", ")));
        }
        if !self.by_user.contains_key(user) {
            lacking.push(format!("the user {} in [grpc.user_roles]", quoted(user)));
        }
        Error::new(Code::Refused, format!("there is no role for {}", lacking.join(", nor for ")))
            .hint("an administrator of the service gives it one: viewer, operator or admin")
    }
}

/// A name of a certificate with its kind in front: `dns:`, `ip:`, `uri:` or `email:`. One without is of the
/// kind that it looks like.
pub fn typed(name: &str) -> Result<String, Error> {
    let address = |text: &str| text.parse::<IpAddr>().map(|address| format!("ip:{address}"));
    match name.split_once(':') {
        Some(("dns" | "uri" | "email", rest)) if !rest.is_empty() => return Ok(name.to_owned()),
        Some(("ip", text)) => {
            let bad = |_| Error::usage(format!("{} is not an address", quoted(text)));
            return address(text).map_err(bad);
        }
        Some(("dns" | "email" | "uri", _)) => return Err(Error::usage("there is no name behind its kind")),
        _ => {}
    }
    let kind = if name.contains(':') {
        "uri"
    } else if name.contains('@') {
        "email"
    } else {
        "dns"
    };
    Ok(address(name).unwrap_or_else(|_| format!("{kind}:{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_one_kind_is_not_that_of_another() {
        for (name, expected) in [
            ("ops.example", "dns:ops.example"),
            ("*.example", "dns:*.example"),
            ("10.1.2.3", "ip:10.1.2.3"),
            ("fd00::7", "ip:fd00::7"),
            ("FD00:0::7", "ip:fd00::7"),
            ("ip:FD00::7", "ip:fd00::7"),
            ("uri:fd00::7", "uri:fd00::7"),
            ("spiffe://example/ops", "uri:spiffe://example/ops"),
            ("ops@example.org", "email:ops@example.org"),
            ("uri:dns:x", "uri:dns:x"),
            ("dns:10.1.2.3", "dns:10.1.2.3"),
        ] {
            assert_eq!(typed(name).as_deref(), Ok(expected));
        }
        for bad in ["ip:", "ip:x", "dns:", "uri:", "email:"] {
            assert!(typed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_lower_of_both_counts_and_one_alone_is_nothing() {
        let of = |pairs: &[(&str, Role)]| pairs.iter().map(|(k, r)| ((*k).to_owned(), *r)).collect();
        let roles = Roles {
            by_certificate: of(&[
                ("dns:ops", Role::Operator),
                ("dns:ci", Role::Viewer),
                ("dns:boss", Role::Admin),
            ]),
            by_user: of(&[("ann", Role::Admin), ("bob", Role::Viewer)]),
        };
        let role = |names: &[&str], user| {
            roles.of(&names.iter().map(|n| format!("dns:{n}")).collect::<Vec<_>>(), user)
        };
        assert_eq!(role(&["ops"], "ann"), Some(Role::Operator));
        assert_eq!(role(&["boss"], "bob"), Some(Role::Viewer));
        assert_eq!(role(&["ci", "ops", "unknown"], "ann"), Some(Role::Operator));
        assert_eq!(role(&["boss"], "ann"), Some(Role::Admin));
        for (names, user) in
            [(&["boss"][..], "eve"), (&["Boss"], "ann"), (&["boss."], "ann"), (&[], "ann"), (&["boss"], "")]
        {
            assert_eq!(role(names, user), None, "{names:?} {user}");
        }
        let why = |names: &[&str], user| {
            roles.missing(&names.iter().map(|n| format!("dns:{n}")).collect::<Vec<_>>(), user).message
        };
        assert_eq!(why(&["boss"], "eve"), "there is no role for the user 'eve' in [grpc.user_roles]");
        assert!(
            why(&["x"], "eve").contains("certificate 'dns:x' in [grpc.certificate_roles], nor for the user")
        );
    }
}
