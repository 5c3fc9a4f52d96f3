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

/// For the end that accepts connections.
pub fn server(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = identity(files, Usage::Server)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(clients(files)?))
        .with_single_cert(chain, key)
        .map_err(|e| mismatch(files, &e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Which clients a server lets in that has these files.
pub fn clients(files: &Files) -> Result<Clients, Error> {
    let (roots, lists) = trusted(files)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .map_err(|e| unusable(files, &e))?;
    Ok(Clients(verifier))
}

/// For the end that connects.
pub fn client(files: &Files) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = identity(files, Usage::Client)?;
    let (roots, lists) = trusted(files)?;
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

fn identity(files: &Files, usage: Usage) -> Result<Identity, Error> {
    let chain = certificates(&files.certificate, "certificate")?;
    check_certificate(&chain[0], usage).map_err(|why| wrong("certificate", &files.certificate, &why))?;
    Ok((chain, key(&files.key)?))
}

/// The authorities that we trust, and what they have revoked.
type Trusted = (Arc<RootCertStore>, Vec<CertificateRevocationListDer<'static>>);

fn trusted(files: &Files) -> Result<Trusted, Error> {
    Ok((Arc::new(authorities(&files.ca)?), files.crl.as_deref().map_or(Ok(Vec::new()), lists)?))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = files::guarded(path, FILE_LEN_MAX).map_err(|why| wrong(what, path, &why))?;
    identity::certificates(&pem).map_err(|why| wrong(what, path, &why))
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

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let fail = |why: &str| wrong("private key", path, why);
    let pem = files::private(path, FILE_LEN_MAX).map_err(|why| fail(&why))?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| fail("there is no private key in it (PEM, not encrypted)"))
}

/// Those that may sign for the peer. webpki takes whatever it is told to trust, so that it is an authority,
/// and still one, is checked here.
fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let fail = |why: &str| wrong("authorities", path, why);
    let found = certificates(path, "authorities")?;
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
fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let fail = |why: &str| wrong("revocation lists", path, why);
    let pem = files::guarded(path, LISTS_LEN_MAX).map_err(|why| fail(&why))?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
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
    Error::usage(format!("cannot use the {what} {}: {why}", quoted(&path.to_string_lossy())))
}

/// Authorities and lists that only webpki finds fault with.
fn unusable(files: &Files, e: &VerifierBuilderError) -> Error {
    match &files.crl {
        Some(path) => wrong("revocation lists", path, &e.to_string()),
        None => wrong("authorities", &files.ca, &e.to_string()),
    }
}

fn mismatch(files: &Files, e: &rustls::Error) -> Error {
    match e {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let certificate = quoted(&files.certificate.to_string_lossy());
            wrong("private key", &files.key, &format!("it is not that of the certificate {certificate}"))
        }
        other => wrong("private key", &files.key, &other.to_string()),
    }
}
