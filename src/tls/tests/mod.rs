//! Real handshakes and connections over 127.0.0.1. Here: authorities, certificates and files for them, and
//! both ends of a connection.

mod certificates;
mod files;
mod handshake;
mod pump;
mod revocation;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

use crate::sys::clock;
use crate::tls::closer::Closer;
use crate::tls::identity::Peer;
use crate::tls::issue::revocation;
use crate::tls::material::{self, Files};
use crate::tls::pump::{Ended, Meter, Unmetered};
use crate::tls::tunnel::{Refused, Tunnel, accept, connect};
use crate::wire::error::Error;

/// Longer than anything here takes, in milliseconds.
const LONG_MS: u64 = 20_000;

const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;

struct Authority {
    cert: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain and its key, as PEM.
struct Identity {
    chain: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let params = authority(name);
        let key = KeyPair::generate().unwrap();
        Self { cert: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn under(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { cert: params.signed_by(&key, &self.issuer).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A list of what it has revoked, as PEM.
    fn revoke(&self, serials: &[u64], until_year: i32) -> String {
        let begin = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = |serial: &u64| revocation(SerialNumber::from(*serial), begin);
        let params = CertificateRevocationListParams {
            this_update: begin,
            next_update: rcgen::date_time_ymd(until_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf(names: &[&str], purposes: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "not a name");
    params.extended_key_usages = purposes.to_vec();
    params
}

/// The certificate of the client `ops`, but for this.
fn ops_but(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf(&["ops"], &[CLIENT]);
    change(&mut params);
    params
}

/// A directory that goes with the test.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A file that only its owner may read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn files(&self, name: &str, identity: &Identity, ca: &Authority) -> Files {
        Files {
            certificate: self.write(&format!("{name}.pem"), &identity.chain),
            key: self.write(&format!("{name}.key"), &identity.key),
            ca: self.write(&format!("{name}-ca.pem"), &ca.cert.pem()),
            crl: None,
        }
    }
}

/// An authority, a server for `localhost`, and the client `ops`.
struct World {
    dir: Dir,
    ca: Authority,
    server: Files,
    client: Files,
}

impl World {
    fn new() -> Self {
        let (dir, ca) = (Dir::new(), Authority::new("test authority"));
        let server = dir.files("server", &ca.issue(&leaf(&["localhost", "127.0.0.1"], &[SERVER])), &ca);
        let client = dir.files("client", &ca.issue(&leaf(&["ops"], &[CLIENT])), &ca);
        Self { dir, ca, server, client }
    }

    fn server(&self) -> Arc<ServerConfig> {
        material::server(&self.server).unwrap()
    }

    fn client(&self) -> Arc<ClientConfig> {
        material::client(&self.client).unwrap()
    }

    /// What the server says to a client that shows this.
    fn admits(&self, client: &Identity) -> Result<Peer, Refused> {
        let files = self.dir.files("other", client, &self.ca);
        // Not checked on our side: that would refuse it before the server does.
        let config = unchecked(&files);
        let (server, _client) = shake_hands(self.server(), config, "localhost");
        server.map(|(_, peer)| peer)
    }
}

/// A client that shows a certificate whatever it looks like.
fn unchecked(files: &Files) -> Arc<ClientConfig> {
    let read = |path: &PathBuf| fs::read(path).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read(&files.ca)).unwrap()).unwrap();
    let pem = read(&files.certificate);
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Both ends of a TCP connection: of who was connected to, of who has connected.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_millis(LONG_MS))).unwrap();
    }
    (far, near)
}

type Accepting = JoinHandle<Result<(Tunnel, Peer), Refused>>;

/// A server that accepts one connection, and the raw other end of it.
fn accepting(config: Arc<ServerConfig>, within_ms: u64) -> (Accepting, TcpStream) {
    let (far, near) = connected();
    (std::thread::spawn(move || accept(far, config, clock::now_ms() + within_ms)), near)
}

fn shake_hands(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> (Result<(Tunnel, Peer), Refused>, Result<Tunnel, Error>) {
    let (accepting, near) = accepting(server, LONG_MS);
    let client = connect(near, client, name, clock::now_ms() + LONG_MS);
    (accepting.join().unwrap(), client)
}

/// What becomes of an OpenSSL client.
struct Openssl {
    /// What the server makes of it.
    result: Result<Peer, Refused>,
    said: String,
}

/// A client that is `client.pem` unless the arguments say otherwise.
fn openssl_client(world: &World, arguments: &[&str]) -> Openssl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Command::new("openssl")
        .args(["s_client", "-alpn", "h2", "-cert", "client.pem", "-key", "client.key"])
        .args(arguments)
        .arg("-connect")
        .arg(listener.local_addr().unwrap().to_string())
        .current_dir(world.dir.0.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let tcp = listener.accept().unwrap().0;
    let result = accept(tcp, world.server(), clock::now_ms() + LONG_MS).map(|(_, peer)| peer);
    let output = client.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Openssl { result, said: String::from_utf8_lossy(&said).into_owned() }
}

/// A tunnel that runs, and our end of its plaintext.
struct Running {
    app: UnixStream,
    closer: Closer,
    ended: Receiver<Ended>,
}

impl Running {
    fn start(tunnel: Tunnel, mut meter: impl Meter + Send + 'static) -> Self {
        let (theirs, app) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        app.set_read_timeout(Some(Duration::from_millis(LONG_MS))).unwrap();
        let closer = tunnel.closer();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(tunnel.run(theirs.into(), &mut meter)));
        Self { app, closer, ended }
    }

    /// The server's and the client's.
    fn both(world: &World) -> (Self, Self) {
        let (server, client) = shake_hands(world.server(), world.client(), "localhost");
        (Self::start(server.unwrap().0, Unmetered), Self::start(client.unwrap(), Unmetered))
    }

    fn end(&self) -> Ended {
        self.ended.recv_timeout(Duration::from_millis(LONG_MS)).expect("it ends")
    }

    /// Our end of the plaintext goes first.
    fn leave(self) -> Ended {
        drop(self.app);
        self.ended.recv_timeout(Duration::from_millis(LONG_MS)).expect("it ends")
    }
}
