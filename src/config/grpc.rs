//! `[grpc]`: the gateway, who may come in and what they may do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::access::password::Hash;
use crate::access::roles::{Roles, typed};
use crate::access::users::Users;
use crate::config::section::Section;
use crate::gateway::settings::{GatewaySettings, Limits, UserSource};
use crate::tls::material::Files;
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::role::Role;

/// The number of nobody.
const NOBODY: &str = "65534";
/// The longest name of a certificate, in bytes.
const CERTIFICATE_NAME_LEN_MAX: usize = 1024;

/// The whole section. Certificates and users that are not named are in the service's own directory, if it has
/// one.
pub fn read(mut section: Section<'_>, state: Option<&Path>) -> Result<GatewaySettings, Error> {
    let listen = section.required("listen")?;
    let address = listen.value.parse::<SocketAddr>().map_err(|_| {
        let message = format!("'listen' is an address and a port, not {}", quoted(&listen.value));
        section.bad(&listen, &message).hint("as \"127.0.0.1:7443\" or \"[::]:7443\"; names are not looked up")
    })?;
    let files = files(&mut section, state)?;
    let users = users(&mut section, state, address)?;
    let by_certificate = section.section("certificate_roles")?.map(|table| roles(table, certificate_name));
    let by_user = section.section("user_roles")?;
    let roles = Roles {
        by_certificate: by_certificate.transpose()?.unwrap_or_default(),
        by_user: by_user.map(|table| roles(table, user_name)).transpose()?.unwrap_or_default(),
    };
    let limits = section.section("limits")?.map(limits).transpose()?.unwrap_or_default();
    let user = gateway_user(&mut section)?;
    section.finish()?;
    Ok(GatewaySettings { listen: address, files, users, roles, limits, user })
}

/// `certificate`, `key`, `ca`, `crl`: each where it is said to be, or else in the directory of all.
pub fn files(section: &mut Section<'_>, state: Option<&Path>) -> Result<Files, Error> {
    let dir = section.path("certificates")?.or_else(|| state.map(|state| state.join("certs")));
    let mut named = |key: &'static str, name: &str| match section.path(key)? {
        Some(path) => Ok(path),
        None => dir.as_ref().map(|dir| dir.join(name)).ok_or_else(|| {
            section
                .error(&format!("{} needs '{key}', or 'certificates'", section.title()))
                .hint("without a directory of the service's own there is no usual place for them")
        }),
    };
    let (certificate, key) = (named("certificate", "server.pem")?, named("key", "server.key")?);
    let ca = named("ca", "ca.pem")?;
    let crl = section.path("crl")?.or_else(|| Some(dir?.join("crl.pem")).filter(|crl| crl.exists()));
    Ok(Files { certificate, key, ca, crl })
}

fn users(section: &mut Section<'_>, state: Option<&Path>, listen: SocketAddr) -> Result<UserSource, Error> {
    let file = section.path("users")?;
    let demo = section.section("demo_users")?;
    match (file, demo) {
        (Some(_), Some(demo)) => Err(demo.error("with 'users' there is no [grpc.demo_users]")),
        (Some(file), None) => Ok(UserSource::File(file)),
        (None, Some(demo)) if !listen.ip().is_loopback() => {
            Err(demo.error("[grpc.demo_users] goes only with an address of the loopback in 'listen'").hint(
                "everybody who reads the configuration can find out these passwords: take them into a file with \
                 'provost user add', and name it with 'users'",
            ))
        }
        (None, Some(demo)) => demo_users(demo).map(UserSource::Demo),
        (None, None) => state.map(|state| UserSource::File(state.join("users"))).ok_or_else(|| {
            section.error(&format!("{} needs 'users'", section.title())).hint("'provost user add' makes the file")
        }),
    }
}

fn demo_users(section: Section<'_>) -> Result<Users, Error> {
    let at = section.source();
    let mut users = Users::default();
    for (name, hash) in section.texts()? {
        let parsed = name.value.parse::<Name>().map_err(|e| at.bad(&name, &e.message).hint(e.hint))?;
        let hash = Hash::parse(&hash.value)
            .ok_or_else(|| at.bad(&hash, "it is no hash of Argon2id with m=19456,t=2,p=1"))?;
        users.set(parsed, hash)?;
    }
    Ok(users)
}

/// Whom the gateway runs as. Under the name of nobody runs what has no user of its own, all of it together.
fn gateway_user(section: &mut Section<'_>) -> Result<Option<String>, Error> {
    let Some(user) = section.text("user")? else { return Ok(None) };
    if user.value == "nobody" || user.value == NOBODY {
        let e = section.bad(&user, "'user' is not to be nobody, whom other programs are, too");
        return Err(e.hint("make a user for it: useradd --system provost"));
    }
    Ok(Some(user.value.into_owned()))
}

fn certificate_name(name: &str) -> Result<String, Error> {
    let fits = (1..=CERTIFICATE_NAME_LEN_MAX).contains(&name.len()) && !name.contains(char::is_control);
    if fits { typed(name) } else { Err(Error::usage("it is no name of a certificate")) }
}

fn user_name(name: &str) -> Result<String, Error> {
    name.parse::<Name>().map(|name| name.to_string())
}

fn roles(
    section: Section<'_>,
    key: fn(&str) -> Result<String, Error>,
) -> Result<BTreeMap<String, Role>, Error> {
    let at = section.source();
    let mut all = BTreeMap::new();
    for (name, role) in section.texts()? {
        let key = key(&name.value).map_err(|e| at.bad(&name, &e.message).hint(e.hint))?;
        let parsed = role.value.parse::<Role>().map_err(|e| at.bad(&role, &e.message).hint(e.hint))?;
        if all.insert(key, parsed).is_some() {
            return Err(at.bad(&name, "it has a role already, as another way to write the same name"));
        }
    }
    Ok(all)
}

fn limits(mut section: Section<'_>) -> Result<Limits, Error> {
    let or = Limits::default();
    let number = |n: u64| usize::try_from(n).expect("every range is small");
    let connections = section.integer("connections", 1..=100_000)?.map_or(or.connections, number);
    let unauthenticated = section.integer("unauthenticated", 1..=10_000)?.map_or(or.unauthenticated, number);
    let each = section.integer("connections_each", 1..=100_000)?.map(number);
    // A quarter, but not so few that a small service has none for a second program of a client's.
    let connections_each = each.unwrap_or_else(|| (connections / 4).max(64)).min(connections);
    let streams = section.integer("streams", 1..=10_000)?.map_or(or.streams, |n| n as u32);
    let message_size = section.size("message_size", 64 << 10..=64 << 20)?.map_or(or.message_size, number);
    let handshake = section.duration("handshake", Duration::from_secs(1)..=Duration::from_secs(120))?;
    let timeout = Duration::from_secs(1)..=Duration::from_secs(3600);
    let keepalive = section.duration("keepalive", timeout.clone())?.unwrap_or(or.keepalive);
    let stall = section.duration("stall", timeout)?.unwrap_or(or.stall);
    let grace = section.duration("grace", Duration::ZERO..=Duration::from_secs(300))?.unwrap_or(or.grace);
    let max_age = section.duration("max_age", Duration::from_secs(1)..=Duration::from_secs(20 * 86_400))?;
    section.finish()?;
    let handshake = handshake.unwrap_or(or.handshake);
    Ok(Limits {
        connections,
        unauthenticated,
        connections_each,
        streams,
        message_size,
        handshake,
        keepalive,
        stall,
        grace,
        max_age,
    })
}
