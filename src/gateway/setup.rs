//! What the gateway works with: settings, certificates, keys and users. The engine opens the files and binds
//! the listener, and gives them as descriptors, at the start and at each reload: the gateway itself may open
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;

use crate::access::roles::Roles;
use crate::access::users::Users;
use crate::gateway::settings::{GatewaySettings, Limits, UserSource};
use crate::sys::watch::Watch;
use crate::sys::{files, memory, system};
use crate::tls::material::{Contents, Files};
use crate::wire::error::{Code, Error};
use crate::wire::proto::v1;
use crate::wire::role::{GroupRoles, Role};
use crate::wire::time::millis;

/// The longest description, in bytes: the configuration that it is made of has at most half.
const LEN_MAX: u64 = 2 << 20;

/// What a gateway is given.
pub(super) struct Setup {
    /// None: it serves programs on this machine alone.
    pub network: Option<Network>,
    /// Of the service: it and root may do everything on this machine.
    pub service_uid: u32,
    /// Who else comes in there.
    pub groups: GroupRoles,
}

/// What others can do over the network.
pub(super) struct Network {
    pub listen: SocketAddr,
    /// If it was asked for.
    pub listener: Option<TcpListener>,
    pub contents: Contents,
    pub users: Users,
    pub roles: Roles,
    pub limits: Limits,
    /// Everybody knows the users' passwords.
    pub is_demo: bool,
    /// Of the directories where the files are.
    pub watch: Watch,
}

/// Opens what `settings` name, for the gateway: the description first, then what it says. To be called by who
/// may read the files. `listens`: with the listening socket.
pub fn offer(
    settings: Option<&GatewaySettings>,
    groups: &GroupRoles,
    listens: bool,
) -> Result<Vec<File>, Error> {
    let mut open = Vec::new();
    let network = settings.map(|settings| network(settings, listens, &mut open)).transpose()?;
    let group_roles = groups.0.iter().map(|(&group, role)| (group, role.number())).collect();
    let setup = v1::GatewaySetup { network, service_uid: system::euid(), group_roles };
    let failed = |e| Error::failed("describe what the gateway works with", &e);
    let mut description = memory::memfd_create(c"provost-gateway", 0).map_err(failed)?;
    description.write_all(&setup.encode_to_vec()).and_then(|()| description.rewind()).map_err(failed)?;
    open.insert(0, description);
    Ok(open)
}

fn network(
    settings: &GatewaySettings,
    listens: bool,
    open: &mut Vec<File>,
) -> Result<v1::GatewayNetwork, Error> {
    // First, so that no change is missed.
    let watch = watch(&settings.paths()).map_err(|e| match settings.files.open() {
        // What is missed tells more.
        Err(missing) => missing,
        Ok(_) => Error::failed("watch the certificates", &e),
    })?;
    open.push(File::from(OwnedFd::from(watch)));
    open.extend(settings.files.open()?);
    let Files { certificate, key, ca, crl } = &settings.files;
    let mut paths = vec![certificate, key, ca];
    paths.extend(crl);
    let (users, users_path) = match &settings.users {
        UserSource::File(path) => (Users::open(path)?, path.clone()),
        UserSource::Demo(users) => (demo(users)?, PathBuf::from("[grpc.demo_users]")),
    };
    open.push(users);
    paths.push(&users_path);
    if listens {
        open.push(File::from(OwnedFd::from(open_listener(settings.listen)?)));
    }
    let numbers = |roles: &BTreeMap<String, Role>| {
        roles.iter().map(|(name, role)| (name.clone(), role.number())).collect()
    };
    Ok(v1::GatewayNetwork {
        listen: settings.listen.to_string(),
        certificate_roles: numbers(&settings.roles.by_certificate),
        user_roles: numbers(&settings.roles.by_user),
        is_demo: matches!(settings.users, UserSource::Demo(_)),
        paths: paths.into_iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        has_lists: crl.is_some(),
        has_listener: listens,
        limits: Some(limits(&settings.limits)),
    })
}

/// Opens the listening socket.
fn open_listener(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |e: io::Error| Error::failed(&format!("listen on {address}"), &e);
    let listener = TcpListener::bind(address).map_err(|e| {
        failed(e)
            .hint("'listen' in [grpc] has to be an address of this machine, and a port that nobody else has")
    })?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Watches the directories of these files.
fn watch(paths: &[PathBuf]) -> io::Result<Watch> {
    let watch = Watch::new()?;
    let directories: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
    directories.into_iter().try_for_each(|directory| watch.add(directory))?;
    Ok(watch)
}

/// The users of a demonstration as a file like any other.
fn demo(users: &Users) -> Result<File, Error> {
    let failed = |e| Error::failed("write down the users", &e);
    let mut file = memory::memfd_create(c"provost-users", 0).map_err(failed)?;
    file.write_all(users.to_text().as_bytes()).and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file)
}

fn limits(limits: &Limits) -> v1::GatewayLimits {
    v1::GatewayLimits {
        connections: limits.connections as u64,
        unauthenticated: limits.unauthenticated as u64,
        streams: limits.streams,
        message_size: limits.message_size as u64,
        handshake_ms: millis(limits.handshake),
        keepalive_ms: millis(limits.keepalive),
        stall_ms: millis(limits.stall),
        grace_ms: millis(limits.grace),
        connections_each: limits.connections_each as u64,
        max_age_ms: limits.max_age.map_or(0, millis),
    }
}

/// Takes what [`offer`] has opened.
pub(super) fn take(given: Vec<OwnedFd>) -> Result<Setup, Error> {
    let mut given: Vec<_> = given.into_iter().map(File::from).collect();
    if given.is_empty() {
        return Err(unusable("nothing came with it"));
    }
    let description = files::content(&given.remove(0), LEN_MAX).map_err(|why| unusable(&why))?;
    let setup = v1::GatewaySetup::decode(&description[..]).map_err(|e| unusable(&e.to_string()))?;
    let groups =
        setup.group_roles.into_iter().filter_map(|(group, role)| Some((group, Role::from_number(role)?)));
    let groups = GroupRoles(groups.collect());
    let network = setup.network.map(|network| take_network(network, given)).transpose()?;
    Ok(Setup { network, service_uid: setup.service_uid, groups })
}

fn take_network(network: v1::GatewayNetwork, mut given: Vec<File>) -> Result<Network, Error> {
    let listener = network.has_listener.then(|| given.pop()).flatten();
    let listener = listener.map(|file| TcpListener::from(OwnedFd::from(file)));
    let users = given.pop().ok_or_else(|| unusable("it has no users"))?;
    if given.is_empty() {
        return Err(unusable("it has no watch"));
    }
    let watch = Watch::from(OwnedFd::from(given.remove(0)));
    let mut paths = network.paths.into_iter().map(PathBuf::from);
    let mut path = || paths.next().ok_or_else(|| unusable("it lacks a path"));
    let (certificate, key, ca) = (path()?, path()?, path()?);
    let crl = network.has_lists.then(&mut path).transpose()?;
    let users = Users::read_from(&users, Path::new(&path()?))?;
    let roles = |numbers: HashMap<String, u32>| {
        numbers.into_iter().filter_map(|(name, role)| Some((name, Role::from_number(role)?))).collect()
    };
    Ok(Network {
        listen: network.listen.parse().map_err(|_| unusable("it has no address"))?,
        listener,
        contents: Contents::read(Files { certificate, key, ca, crl }, &given)?,
        users,
        roles: Roles { by_certificate: roles(network.certificate_roles), by_user: roles(network.user_roles) },
        limits: taken_limits(&network.limits.unwrap_or_default()),
        is_demo: network.is_demo,
        watch,
    })
}

fn taken_limits(limits: &v1::GatewayLimits) -> Limits {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Limits {
        connections: number(limits.connections),
        unauthenticated: number(limits.unauthenticated),
        streams: limits.streams,
        message_size: number(limits.message_size),
        handshake: Duration::from_millis(limits.handshake_ms),
        keepalive: Duration::from_millis(limits.keepalive_ms),
        stall: Duration::from_millis(limits.stall_ms),
        grace: Duration::from_millis(limits.grace_ms),
        connections_each: number(limits.connections_each),
        max_age: (limits.max_age_ms > 0).then(|| Duration::from_millis(limits.max_age_ms)),
    }
}

fn unusable(why: &str) -> Error {
    Error::new(Code::Failed, format!("what the engine gives to the gateway cannot be used: {why}"))
}
