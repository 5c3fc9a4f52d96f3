//! What a certificate says about its holder: the names in its SAN, and nothing else. The subject's common
//! name has no meaning here.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ring::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::wire::error::Error;
use crate::wire::time::Timestamp;

/// How much of a name is shown, in characters.
const NAME_SHOWN_MAX: usize = 120;

/// The peer of a connection, from its verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it may call itself: DNS names, URIs, e-mail addresses and IP addresses of the SAN. Never empty.
    pub names: Vec<String>,
    /// The same with their kinds, as `dns:host.example`: one kind's name is never taken for another's.
    pub typed: Vec<String>,
    /// The serial number in hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// From then on it is not valid any more.
    pub not_after: Timestamp,
    /// The certificate, and those that it came with.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// Its first name, for logs and records: it may be long, and hold anything.
    #[must_use]
    pub fn shown(&self) -> String {
        let name = self.names.first().map_or("", String::as_str);
        let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        name.chars().take(NAME_SHOWN_MAX).map(printable).collect()
    }
}

/// A certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The names in its SAN; may be empty.
    pub names: Vec<String>,
    /// As in [`Peer`].
    pub typed: Vec<String>,
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// As in [`Peer`].
    pub serial: String,
    /// As in [`Peer`].
    pub fingerprint: [u8; 32],
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Whether its extended key usage names clients.
    pub client: bool,
    /// Whether its extended key usage names servers.
    pub server: bool,
}

/// All certificates of a PEM file. The error is one for its reader, without the file's name.
pub fn describe(pem: &[u8]) -> Result<Vec<Described>, Error> {
    let found: Vec<_> = certificates(pem).map_err(Error::usage)?;
    found.iter().map(|der| described(der).map_err(Error::usage)).collect()
}

/// What the lists of a PEM file call revoked: the issuer and the serial number of each.
pub fn revoked(pem: &[u8]) -> Result<BTreeSet<(String, String)>, Error> {
    let mut all = BTreeSet::new();
    for der in CertificateRevocationListDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| Error::usage("it is not PEM"))?;
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|e| Error::usage(e.to_string()))?;
        let issuer = list.issuer().to_string();
        all.extend(list.iter_revoked_certificates().map(|one| (issuer.clone(), serial(one.raw_serial()))));
    }
    Ok(all)
}

pub(in crate::tls) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it (PEM)".to_owned()),
        Ok(found) => Ok(found),
        Err(_) => Err("it is not PEM".to_owned()),
    }
}

/// One certificate; an error says what is wrong with it.
pub(in crate::tls) fn described(der: &[u8]) -> Result<Described, String> {
    let broken = |_| "it is not an X.509 certificate";
    let (rest, cert) = X509Certificate::from_der(der).map_err(|e| broken(e.to_string()))?;
    if !rest.is_empty() {
        return Err("there are bytes after its end".to_owned());
    }
    let broken = |e: x509_parser::error::X509Error| format!("it has a malformed extension: {e}");
    let usage = cert.extended_key_usage().map_err(broken)?.map(|found| found.value);
    let basic = cert.basic_constraints().map_err(broken)?.map(|found| found.value);
    let (mut names, mut typed) = (Vec::new(), Vec::new());
    if let Some(san) = cert.subject_alternative_name().map_err(broken)? {
        for name in &san.value.general_names {
            let Some((kind, name)) = named(name)? else { continue };
            typed.push(format!("{kind}:{name}"));
            names.push(name);
        }
    }
    let validity = cert.validity();
    Ok(Described {
        names,
        typed,
        subject: cert.subject().to_string(),
        issuer: cert.issuer().to_string(),
        serial: serial(cert.raw_serial()),
        fingerprint: digest::digest(&digest::SHA256, der).as_ref().try_into().expect("SHA-256 has 32 bytes"),
        not_before: timestamp(validity.not_before),
        not_after: timestamp(validity.not_after),
        is_ca: basic.is_some_and(|basic| basic.ca),
        client: usage.is_some_and(|usage| usage.client_auth),
        server: usage.is_some_and(|usage| usage.server_auth),
    })
}

/// The peer that a certificate makes its holder; an error says why none.
pub(in crate::tls) fn peer(chain: &[CertificateDer<'_>]) -> Result<Peer, String> {
    let leaf = chain.first().ok_or("there is no certificate")?;
    let Described { names, typed, serial, fingerprint, not_after, .. } = described(leaf)?;
    if names.is_empty() {
        return Err("it has no name (SAN)".to_owned());
    }
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    Ok(Peer { names, typed, serial, fingerprint, not_after, chain })
}

/// A name of the SAN and its kind, or nothing for a kind that we do not use. It has to look like its kind,
/// for people read it without.
fn named(name: &GeneralName<'_>) -> Result<Option<(&'static str, String)>, String> {
    let (kind, text, fits) = match name {
        GeneralName::DNSName(name) => ("dns", *name, is_dns(name)),
        GeneralName::URI(name) => ("uri", *name, name.contains(':') && is_graphic(name)),
        GeneralName::RFC822Name(name) => {
            ("email", *name, name.contains('@') && !name.contains(':') && is_graphic(name))
        }
        GeneralName::IPAddress(bytes) => return Ok(Some(("ip", address(bytes)?.to_string()))),
        GeneralName::Invalid(..) => return Err("it has a malformed name in its SAN".to_owned()),
        _ => return Ok(None),
    };
    if fits {
        Ok(Some((kind, text.to_owned())))
    } else {
        Err("it has a malformed name in its SAN".to_owned())
    }
}

fn is_dns(name: &str) -> bool {
    let is_address = name.parse::<IpAddr>().is_ok();
    !name.is_empty()
        && !is_address
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*'))
}

fn is_graphic(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_graphic())
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(four.into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).map_err(|_| "it has a malformed address in its SAN")?;
    Ok(sixteen.into())
}

fn serial(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|b| **b == 0).count().min(bytes.len().saturating_sub(1));
    bytes[zeros..].iter().map(|b| format!("{b:02X}")).collect()
}

fn timestamp(at: ASN1Time) -> Timestamp {
    Timestamp(u64::try_from(at.timestamp()).unwrap_or(0).saturating_mul(1000))
}
