//! What a launch hands over where its definition asks for TLS or a cookie: certificates of an authority that
//! signs nothing else and is forgotten at once, and a token. The provider finds its end in a private file,
//! which is there until it has reported its port; the host keeps the other end (`proof.rs`).

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::provider::failure::Failure;
use crate::sdk::handshake::Features;
use crate::sdk::launch::{self, LaunchFile};
use crate::sys::files;
use crate::tls::issue::{Authority, Usage};
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::note::{ProviderKeys, ProviderProof};
use crate::wire::provider::Definition;
use crate::wire::provider_rules::Tls;
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// The certificates are good for as long as a provider may run.
const DAYS: u64 = 3652;
/// Where a provider listens: its certificate has no other name.
const PROVIDER: &str = "127.0.0.1";
/// Its host, which is asked for no name.
const HOST: &str = "host";
/// Of a token, in bytes.
const COOKIE_LEN: usize = 32;
/// Where the file is of a provider with a user of its own, who does not get as far as to the service's
/// directory.
const RUN: &str = "/run";
const PASSWD: &str = "/etc/passwd";
/// The most that is read of it, in bytes.
const PASSWD_LEN_MAX: u64 = 32 << 20;

/// What was handed over; taken back when this is dropped.
pub struct Launch {
    wanted: Features,
    /// Only its owner gets into it. None: nothing was asked for.
    directory: Option<PathBuf>,
    /// The host's end.
    pub proof: ProviderProof,
}

impl Launch {
    /// Makes what the definition asks for. `socket` is the service's.
    pub fn prepare(definition: &Definition, socket: &Path, id: ProcessId) -> Result<Self, Failure> {
        let wanted = Features { tls: definition.tls == Tls::Required, cookie: definition.cookie };
        let mut launch = Self { wanted, directory: None, proof: ProviderProof::default() };
        if wanted == Features::default() {
            return Ok(launch);
        }
        let mut file = LaunchFile::default();
        if wanted.tls {
            launch.proof.tls = Some(sign(&mut file)?);
        }
        if wanted.cookie {
            file.cookie = token()?;
            launch.proof.cookie = Some(file.cookie.clone());
        }
        let directory = directory(definition, socket, id);
        let owner = definition.user.as_deref().map(uid).transpose()?;
        launch.directory = Some(directory);
        let bytes = Zeroizing::new(serde_json::to_vec(&file).expect("texts make JSON"));
        let _wiped = (Zeroizing::new(file.private_key), Zeroizing::new(file.cookie));
        launch
            .write(&bytes, owner)
            .map_err(|e| Error::failed("hand over what the provider is to prove itself with", &e))?;
        Ok(launch)
    }

    /// Others get at no moment to the file: its directory is its owner's from the start.
    fn write(&self, bytes: &[u8], owner: Option<u32>) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        DirBuilder::new().mode(0o700).create(directory)?;
        let path = path(directory);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        if owner.is_some() {
            chown(&path, owner, None)?;
            chown(directory, owner, None)?;
        }
        Ok(())
    }

    /// Tells the process of it.
    pub fn add_to(&self, spec: &mut Spec) {
        let Some(directory) = &self.directory else { return };
        let path = path(directory).to_string_lossy().into_owned();
        for (name, is_wanted) in [(launch::TLS, self.wanted.tls), (launch::COOKIE, self.wanted.cookie)] {
            if is_wanted {
                spec.env.push((name.to_owned(), "1".to_owned()));
            }
        }
        if !spec.landlock.is_empty() {
            spec.landlock.read.push(path.clone());
        }
        spec.env.push((launch::FILE.to_owned(), path));
    }

    /// The provider has reported its port, and that it can do so much: the file has served its purpose.
    pub fn taken(self, offered: Features) -> Result<(), Failure> {
        match self.wanted.missing_from(offered) {
            Some(feature) => Err(Failure::MissingFeature { feature }),
            None => Ok(()),
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.directory.iter().for_each(|directory| remove(directory));
    }
}

/// Takes back what a host that has died in the middle has left of this launch.
pub fn forget(definition: &Definition, socket: &Path, id: ProcessId) {
    remove(&directory(definition, socket, id));
}

/// The same, whoever's launch it was.
pub fn forget_everywhere(socket: &Path, id: ProcessId) {
    for user in [None, Some(String::new())] {
        forget(&Definition { user, ..Definition::default() }, socket, id);
    }
}

fn remove(directory: &Path) {
    let _ = fs::remove_file(path(directory));
    let _ = fs::remove_dir(directory);
}

/// Nobody else's: it has the name of a process that did not exist before.
fn directory(definition: &Definition, socket: &Path, id: ProcessId) -> PathBuf {
    match (&definition.user, socket.parent()) {
        (None, Some(own)) => own.join(format!("launch-{id}")),
        _ => Path::new(RUN).join(format!("provost-launch-{id}")),
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("launch.json")
}

/// Certificates for both ends, and the provider's into the file.
fn sign(file: &mut LaunchFile) -> Result<ProviderKeys, Error> {
    let now = Timestamp::now();
    let (authority, ca) = Authority::new("launch", now)?;
    let of_provider = authority.sign(Usage::Server, &[PROVIDER.to_owned()], DAYS, now)?;
    let of_host = authority.sign(Usage::Client, &[HOST.to_owned()], DAYS, now)?;
    file.certificate = of_provider.certificate;
    file.private_key = of_provider.key.to_string();
    file.authority.clone_from(&ca.certificate);
    Ok(ProviderKeys {
        certificate: of_host.certificate,
        private_key: of_host.key.to_string(),
        authority: ca.certificate,
    })
}

/// Random, as hexadecimal digits.
fn token() -> Result<String, Error> {
    let mut bytes = Zeroizing::new([0; COOKIE_LEN]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| Error::failed("get random bytes", &io::Error::other("there are none")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whose file it has to be. A name counts before a number, as where the process is started.
fn uid(user: &str) -> Result<u32, Failure> {
    let passwd = files::read(Path::new(PASSWD), PASSWD_LEN_MAX).unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let entry = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok()).flatten());
    let unknown = || Failure::NotStarted { why: format!("there is no user {user}") };
    entry.or_else(|| user.parse().ok()).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::sys::system::euid;

    fn of(tls: Tls, cookie: bool) -> Definition {
        Definition { binary: "/x".into(), tls, cookie, ..Definition::default() }
    }

    #[test]
    fn what_is_handed_over_is_its_owners_alone_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, id) = (dir.path().join("engine.sock"), ProcessId::new());
        let definition = of(Tls::Required, true);
        let launch = Launch::prepare(&definition, &socket, id).unwrap();
        let mut spec = Spec::new(["/x"]);
        spec.landlock.read.push("/usr".into());
        launch.add_to(&mut spec);
        let [(tls, yes), (cookie, also), (file, path)] = &spec.env[..] else { panic!("{:?}", spec.env) };
        assert_eq!([tls, cookie, file], [launch::TLS, launch::COOKIE, launch::FILE]);
        assert_eq!([yes, also], ["1", "1"]);
        assert_eq!(spec.landlock.read, ["/usr", path]);
        let path = PathBuf::from(path);
        let mode = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.permissions().mode() & 0o7777, meta.uid())
        };
        assert_eq!(mode(&path), (0o600, euid()));
        assert_eq!(mode(path.parent().unwrap()), (0o700, euid()));
        let text = fs::read_to_string(&path).unwrap();
        let host = launch.proof.tls.clone().unwrap();
        assert!(text.contains("BEGIN PRIVATE KEY") && !text.contains(&host.private_key.replace('\n', "\\n")));
        assert!(text.contains(launch.proof.cookie.as_ref().unwrap()));
        let none = Features::default();
        assert_eq!(launch.taken(none).map_err(|failure| failure.reason()), Err("missing_feature"));
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn nothing_is_made_for_what_asks_for_nothing_and_leftovers_are_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, id) = (dir.path().join("engine.sock"), ProcessId::new());
        let launch = Launch::prepare(&of(Tls::Off, false), &socket, id).unwrap();
        let mut spec = Spec::new(["/x"]);
        launch.add_to(&mut spec);
        assert!(spec.env.is_empty() && launch.proof == ProviderProof::default());
        assert_eq!(launch.taken(Features { tls: true, cookie: true }), Ok(()));
        let definition = of(Tls::Off, true);
        std::mem::forget(Launch::prepare(&definition, &socket, id).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        forget(&definition, &socket, id);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_launches_have_nothing_in_common() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let proof =
            || Launch::prepare(&of(Tls::Required, true), &socket, ProcessId::new()).unwrap().proof.clone();
        let (one, two) = (proof(), proof());
        assert_ne!(one.cookie, two.cookie);
        assert_ne!(one.tls.unwrap().authority, two.tls.unwrap().authority);
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        assert_eq!((uid("root"), uid("12345")), (Ok(0), Ok(12345)));
        assert!(uid("no such user").is_err());
    }
}
