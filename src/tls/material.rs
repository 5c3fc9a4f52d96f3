//! Certificates, keys, authorities and revocation lists: from files into what rustls works with. What cannot
//! work is an error here, with the file's name, and not a handshake that fails later.
//!
//! Nothing is left to defaults: TLS 1.3, three suites, HTTP/2, a certificate from both sides, authorities
//! from the configured file only, and no way to resume a session or to send data before the handshake is
//! done.
//!
//! With revocation lists, every certificate of a chain has to be covered by one that has not expired; a
//! status that is unknown is a refusal. So a file for a chain with intermediates holds one list of each
//! authority in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::sys::files;
use crate::tls::identity::{self, Described};
use crate::tls::issue::Usage;
use crate::tls::verify::Clients;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::json;
use crate::wire::time::Timestamp;

/// The only protocol inside of our connections (ALPN).
pub(in crate::tls) const ALPN: &[u8] = b"h2";

/// The largest file of certificates or keys, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// The largest file of revocation lists, in bytes.
const LISTS_LEN_MAX: u64 = 16 << 20;
/// What they are called in messages.
const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";
const AUTHORITIES: &str = "authorities";
const LISTS: &str = "revocation lists";
/// The most authorities in a file.
const AUTHORITIES_MAX: usize = 100;

/// What one end of a connection shows, and the authorities that it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Our certificate, then those of the authorities between it and the one that the peer knows.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authorities that the peer's certificate has to come from. One that has expired counts no more when
    /// the file is read.
    pub ca: PathBuf,
    /// What they have revoked.
    pub crl: Option<PathBuf>,
}

/// What is in them, for who reads them once, or is given them open.
#[derive(Clone)]
pub struct Contents {
    /// Where they are, for messages.
    pub files: Files,
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
    crl: Option<Vec<u8>>,
}

impl Files {
    /// Opens them, in the order of the fields. Others cannot have put them there, nor read the key.
    pub fn open(&self) -> Result<Vec<File>, Error> {
        let guarded = |what, path: &Path| files::guarded_file(path).map_err(|why| wrong(what, path, &why));
        let mut open = vec![guarded(CERTIFICATE, &self.certificate)?];
        open.push(files::private_file(&self.key).map_err(|why| wrong(KEY, &self.key, &why))?);
        open.push(guarded(AUTHORITIES, &self.ca)?);
        open.extend(self.crl.as_deref().map(|crl| guarded(LISTS, crl)).transpose()?);
        Ok(open)
    }

    fn read(&self) -> Result<Contents, Error> {
        Contents::read(self.clone(), &self.open()?)
    }
}

impl Contents {
    /// What was read elsewhere, of a certificate, its key, and the authorities; `path` is for messages.
    #[must_use]
    pub fn of_pem(path: &Path, certificate: &str, key: &str, ca: &str) -> Self {
        let files =
            Files { certificate: path.to_owned(), key: path.to_owned(), ca: path.to_owned(), crl: None };
        Self { files, certificate: certificate.into(), key: key.into(), ca: ca.into(), crl: None }
    }

    /// Reads what [`Files::open`] has opened.
    pub fn read(files: Files, open: &[File]) -> Result<Self, Error> {
        let read = |what, path: &Path, at: usize, max| {
            let file = open.get(at).ok_or_else(|| wrong(what, path, "it is not open"))?;
            files::content(file, max).map_err(|why| wrong(what, path, &why))
        };
        let certificate = read(CERTIFICATE, &files.certificate, 0, FILE_LEN_MAX)?;
        let key = read(KEY, &files.key, 1, FILE_LEN_MAX)?;
        let ca = read(AUTHORITIES, &files.ca, 2, FILE_LEN_MAX)?;
        let crl = files.crl.as_deref().map(|crl| read(LISTS, crl, 3, LISTS_LEN_MAX)).transpose()?;
        Ok(Self { files, certificate, key, ca, crl })
    }
}

/// For the end that accepts connections.
pub fn server(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    server_of(&files.read()?)
}

/// The same of what was read before.
pub fn server_of(contents: &Contents) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = identity(contents, Usage::Server)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(clients_of(contents)?))
        .with_single_cert(chain, key)
        .map_err(|e| mismatch(&contents.files, &e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Which clients a server lets in that has these files.
pub fn clients_of(contents: &Contents) -> Result<Clients, Error> {
    let (roots, lists) = trusted(contents)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .map_err(|e| unusable(&contents.files, &e))?;
    Ok(Clients(verifier))
}

/// For the end that connects.
pub fn client(files: &Files) -> Result<Arc<ClientConfig>, Error> {
    client_of(&files.read()?)
}

/// The same of what was read before.
pub fn client_of(contents: &Contents) -> Result<Arc<ClientConfig>, Error> {
    let files = &contents.files;
    let (chain, key) = identity(contents, Usage::Client)?;
    let (roots, lists) = trusted(contents)?;
    let servers = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .map_err(|e| unusable(files, &e))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_webpki_verifier(servers)
        .with_client_auth_cert(chain, key)
        .map_err(|e| mismatch(files, &e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

/// Our own certificate with its chain, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(contents: &Contents, usage: Usage) -> Result<Identity, Error> {
    let path = &contents.files.certificate;
    let chain = certificates(&contents.certificate, path, CERTIFICATE)?;
    check_certificate(&chain[0], usage).map_err(|why| wrong(CERTIFICATE, path, &why))?;
    Ok((chain, key(&contents.key, &contents.files.key)?))
}

/// The authorities that we trust, and what they have revoked.
type Trusted = (Arc<RootCertStore>, Vec<CertificateRevocationListDer<'static>>);

fn trusted(contents: &Contents) -> Result<Trusted, Error> {
    let roots = authorities(&contents.ca, &contents.files.ca)?;
    let revoked = contents.crl.as_deref().zip(contents.files.crl.as_deref());
    Ok((Arc::new(roots), revoked.map_or(Ok(Vec::new()), |(pem, path)| lists(pem, path))?))
}

fn certificates(pem: &[u8], path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    identity::certificates(pem).map_err(|why| wrong(what, path, &why))
}

/// Whether our own certificate has a chance with the peer.
fn check_certificate(der: &[u8], usage: Usage) -> Result<(), String> {
    let cert = identity::described(der)?;
    if cert.is_ca {
        return Err("it is that of an authority".to_owned());
    }
    let (fits, peers) = match usage {
        Usage::Server => (cert.server, "servers"),
        Usage::Client => (cert.client, "clients"),
    };
    if !fits {
        return Err(format!("it was not made for {peers} (extended key usage)"));
    }
    in_time(&cert, Timestamp::now())
}

fn in_time(cert: &Described, now: Timestamp) -> Result<(), String> {
    if cert.not_after <= now {
        return Err(format!("it has expired on {}", json::time(cert.not_after)));
    }
    if cert.not_before > now {
        return Err(format!("it is not valid before {}", json::time(cert.not_before)));
    }
    Ok(())
}

fn key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| wrong(KEY, path, "there is no private key in it (PEM, not encrypted)"))
}

/// Those that may sign for the peer. webpki takes whatever it is told to trust, so that it is an authority,
/// and still one, is checked here.
fn authorities(pem: &[u8], path: &Path) -> Result<RootCertStore, Error> {
    let fail = |why: &str| wrong(AUTHORITIES, path, why);
    let found = certificates(pem, path, AUTHORITIES)?;
    if found.len() > AUTHORITIES_MAX {
        return Err(fail(&format!("there are more than {AUTHORITIES_MAX} certificates in it")));
    }
    let mut roots = RootCertStore::empty();
    let mut expired = Ok(());
    for der in found {
        let cert = identity::described(&der).map_err(|why| fail(&why))?;
        if !cert.is_ca {
            return Err(fail(&format!("{} in it is not an authority", quoted(&cert.subject))));
        }
        match in_time(&cert, Timestamp::now()) {
            Ok(()) => roots.add(der).map_err(|e| fail(&e.to_string()))?,
            Err(why) => expired = Err(fail(&why)),
        }
    }
    if roots.is_empty() { expired.map(|()| roots) } else { Ok(roots) }
}

/// Lists that have not expired, so that a configuration that would refuse every peer is refused itself.
fn lists(pem: &[u8], path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let fail = |why: &str| wrong(LISTS, path, why);
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| fail("it is not PEM"))?;
    if found.is_empty() {
        return Err(fail("there is no revocation list in it (PEM)"));
    }
    for der in &found {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| fail("there is a malformed revocation list in it"))?;
        let until = list.next_update().and_then(|at| u64::try_from(at.timestamp()).ok()).unwrap_or(0);
        let until = Timestamp(until.saturating_mul(1000));
        if until <= Timestamp::now() {
            return Err(fail(&format!("it has expired on {}", json::time(until))));
        }
    }
    Ok(found)
}

fn wrong(what: &str, path: &Path, why: &str) -> Error {
    let shown = quoted(&path.to_string_lossy());
    let e = Error::usage(format!("cannot use the {what} {shown}: {why}"));
    match what {
        LISTS if !path.exists() => {
            e.hint("'provost cert revoke' makes the first one: leave 'crl' out until then")
        }
        _ if !path.exists() => e.hint("'provost cert init' makes what is needed"),
        CERTIFICATE | AUTHORITIES if path.is_file() => e.hint(
            "'provost cert show FILE' tells what is in a file, 'provost cert init' makes what is needed",
        ),
        _ => e,
    }
}

/// Authorities and lists that only webpki finds fault with.
fn unusable(files: &Files, e: &VerifierBuilderError) -> Error {
    match &files.crl {
        Some(path) => wrong(LISTS, path, &e.to_string()),
        None => wrong(AUTHORITIES, &files.ca, &e.to_string()),
    }
}

fn mismatch(files: &Files, e: &rustls::Error) -> Error {
    match e {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let certificate = quoted(&files.certificate.to_string_lossy());
            wrong(KEY, &files.key, &format!("it is not that of the certificate {certificate}"))
        }
        other => wrong(KEY, &files.key, &other.to_string()),
    }
}
