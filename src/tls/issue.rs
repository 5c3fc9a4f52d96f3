//! Certificates of one's own: an authority, and what it signs. Text in, text out; the caller keeps the
//! files.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

use crate::tls::identity;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::json::base64;
use crate::wire::time::Timestamp;

/// How long an authority is valid, in days.
const AUTHORITY_DAYS: u64 = 3652;
/// Valid from so long before it is made, in milliseconds: clocks differ.
const EARLY_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The end that is connected to.
    Server,
    /// The end that connects.
    Client,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    pub certificate: String,
    /// The key, for its owner alone.
    pub key: Zeroizing<String>,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its distinguished name, as text.
    name: String,
    not_after: Timestamp,
}

impl Authority {
    /// A new one, with what has to be kept of it.
    pub fn new(name: &str, now: Timestamp) -> Result<(Self, Issued), Error> {
        let (mut params, not_after) = params(name, AUTHORITY_DAYS, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key()?;
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let issued = Issued { certificate, key: key.serialize_pem().into() };
        let name = format!("CN={name}");
        Ok((Self { issuer: Issuer::new(params, key), name, not_after }, issued))
    }

    /// One that was made before. The error is one for its reader, without the files' names.
    pub fn load(certificate: &[u8], key: &str) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(certificate)
            .map_err(|_| "there is no certificate in it (PEM)".to_owned())?;
        let described = identity::described(&der)?;
        if !described.is_ca {
            return Err("it is not the certificate of an authority".to_owned());
        }
        let key = KeyPair::from_pem(key).map_err(|_| "its key is not a private key (PEM)".to_owned())?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| e.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("its key is another's".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| e.to_string())?;
        Ok(Self { issuer, name: described.subject, not_after: described.not_after })
    }

    /// The list of what this authority has revoked, as PEM: what was on the one before, and these
    /// certificates. It is valid for as long as the authority is: there is no other that would be waited for.
    /// The lists of other authorities in `before` follow it as they were.
    pub fn revoke(&self, before: Option<&[u8]>, pem: &[u8], now: Timestamp) -> Result<String, Error> {
        let (mut revoked, others) = match before {
            Some(before) => self.listed(before).map_err(Error::usage)?,
            None => (Vec::new(), String::new()),
        };
        for der in identity::certificates(pem).map_err(Error::usage)? {
            let (_, found) = X509Certificate::from_der(&der).map_err(|e| Error::usage(e.to_string()))?;
            if found.is_ca() || found.issuer().to_string() != self.name {
                return Err(Error::new(Code::Refused, "it is not of this authority"));
            }
            let serial_number = SerialNumber::from_slice(found.raw_serial());
            if !revoked.iter().any(|known| known.serial_number == serial_number) {
                revoked.push(revocation(serial_number, moment(now)));
            }
        }
        let list = CertificateRevocationListParams {
            this_update: moment(Timestamp(now.0.saturating_sub(EARLY_MS))),
            next_update: moment(self.not_after),
            crl_number: SerialNumber::from(now.0),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(failed)?;
        Ok(list + &others)
    }

    /// What lists of ours say, and the lists of others, as PEM.
    fn listed(&self, pem: &[u8]) -> Result<(Vec<RevokedCertParams>, String), String> {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
        let lists = lists.map_err(|_| "it is not PEM".to_owned())?;
        if lists.is_empty() {
            return Err("there is no revocation list in it (PEM)".to_owned());
        }
        let (mut known, mut others) = (Vec::new(), String::new());
        for der in &lists {
            let (_, list) = CertificateRevocationList::from_der(der).map_err(|e| e.to_string())?;
            if !self.has_signed(&list) {
                others.push_str(&pem_of(der));
                continue;
            }
            known.extend(list.iter_revoked_certificates().map(|one| {
                revocation(SerialNumber::from_slice(one.raw_serial()), one.revocation_date.to_datetime())
            }));
        }
        Ok((known, others))
    }

    /// By the name alone: an authority that was made anew under the same name goes on with the list.
    fn has_signed(&self, list: &CertificateRevocationList<'_>) -> bool {
        list.issuer().to_string() == self.name
    }

    /// A certificate with these names, signed. It is not valid for longer than the authority is.
    pub fn sign(&self, usage: Usage, names: &[String], days: u64, now: Timestamp) -> Result<Issued, Error> {
        let left = self.not_after.0.saturating_sub(now.0) / DAY_MS;
        if left == 0 {
            return Err(Error::new(Code::Refused, "the authority has expired")
                .hint("move its files away; 'provost cert init' makes a new one"));
        }
        let first = names.first().map_or("", String::as_str);
        let (mut params, _) = params(first, days.min(left), now);
        params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem().into() })
    }
}

pub(in crate::tls) fn revocation(
    serial_number: SerialNumber,
    revocation_time: OffsetDateTime,
) -> RevokedCertParams {
    RevokedCertParams { serial_number, revocation_time, reason_code: None, invalidity_date: None }
}

/// What all certificates have in common, and the end of their time.
fn params(name: &str, days: u64, now: Timestamp) -> (CertificateParams, Timestamp) {
    let not_after = Timestamp(now.0 + days * DAY_MS);
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(Timestamp(now.0.saturating_sub(EARLY_MS)));
    params.not_after = moment(not_after);
    (params, not_after)
}

/// In whole seconds: a certificate knows no parts of them.
fn moment(at: Timestamp) -> OffsetDateTime {
    date_time_ymd(1970, 1, 1) + Duration::from_secs(at.0 / 1000)
}

fn key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

/// A name as the SAN has it: an address, an e-mail address, or the name of a host.
fn san(name: &str) -> Result<SanType, Error> {
    let refused = || {
        Error::usage(format!("{} is no name for a certificate", quoted(name))).hint(
            "a name is that of a host, as build.example or *.example, or an address, as 192.0.2.7 or ::1",
        )
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-_.*".contains(&b);
    let is_host = |name: &str| (1..=253).contains(&name.len()) && name.bytes().all(is_part);
    let (is_email, fits) = match name.split_once('@') {
        Some((who, host)) => (true, is_host(who) && is_host(host)),
        None => (false, is_host(name)),
    };
    if !fits {
        return Err(refused());
    }
    let text = name.try_into().map_err(|_| refused())?;
    Ok(if is_email { SanType::Rfc822Name(text) } else { SanType::DnsName(text) })
}

fn failed(e: rcgen::Error) -> Error {
    Error::new(Code::Failed, format!("cannot make a certificate: {e}"))
}

/// A list in the form in which others read it.
fn pem_of(list: &[u8]) -> String {
    let text = base64(list);
    let mut pem = String::from("-----BEGIN X509 CRL-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem + "-----END X509 CRL-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::identity::describe;

    const NOW: Timestamp = Timestamp(1_795_204_800_000);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn certificates_say_what_they_are_for() {
        let (authority, ca) = Authority::new("provost CA", NOW).unwrap();
        let [ca] = &describe(ca.certificate.as_bytes()).unwrap()[..] else { panic!("one") };
        assert!(ca.is_ca && !ca.client && !ca.server && ca.names.is_empty());
        assert_eq!((ca.subject.as_str(), &ca.issuer), ("CN=provost CA", &ca.subject));
        let all = ["localhost", "127.0.0.1", "::1", "*.example", "ops@example.org"];
        for usage in [Usage::Server, Usage::Client] {
            let issued = authority.sign(usage, &names(&all), 397, NOW).unwrap();
            let [leaf] = &describe(issued.certificate.as_bytes()).unwrap()[..] else { panic!("one") };
            assert_eq!((leaf.client, leaf.server), (usage == Usage::Client, usage == Usage::Server));
            assert!(!leaf.is_ca && leaf.issuer == ca.subject);
            assert_eq!(leaf.names, all);
            assert_eq!(leaf.not_after.0, NOW.0 + 397 * DAY_MS);
            assert_eq!(leaf.not_before.0, NOW.0 - EARLY_MS);
        }
        for bad in ["", "a b", "a/b", "a@b@c", "@a", "é", "a\0b", &"x".repeat(254)] {
            assert!(authority.sign(Usage::Client, &names(&[bad]), 1, NOW).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_of_the_revoked_grows_and_holds_each_once() {
        let (authority, _) = Authority::new("provost CA", NOW).unwrap();
        let (stranger, _) = Authority::new("another CA", NOW).unwrap();
        let leaf = |by: &Authority| by.sign(Usage::Client, &names(&["a"]), 397, NOW).unwrap().certificate;
        let (one, two, other) = (leaf(&authority), leaf(&authority), leaf(&stranger));
        let first = authority.revoke(None, one.as_bytes(), NOW).unwrap();
        let again = authority.revoke(Some(first.as_bytes()), one.as_bytes(), NOW).unwrap();
        let both = authority.revoke(Some(again.as_bytes()), two.as_bytes(), Timestamp(NOW.0 + 5000)).unwrap();
        let listed = |list: &str| authority.listed(list.as_bytes()).unwrap().0;
        assert_eq!([listed(&first).len(), listed(&again).len(), listed(&both).len()], [1, 1, 2]);
        assert_eq!(listed(&both)[0], listed(&first)[0]);
        assert_eq!(listed(&both)[1].revocation_time, moment(Timestamp(NOW.0 + 5000)));
        assert!(authority.revoke(None, other.as_bytes(), NOW).is_err());
        let foreign = stranger.revoke(None, other.as_bytes(), NOW).unwrap();
        // Those of other authorities stay, whichever comes first.
        for before in [format!("{foreign}{first}"), format!("{first}{foreign}")] {
            let all = authority.revoke(Some(before.as_bytes()), two.as_bytes(), NOW).unwrap();
            assert_eq!(listed(&all).len(), 2);
            assert_eq!(stranger.listed(all.as_bytes()).unwrap().0.len(), 1);
        }
        let all = authority.revoke(Some(foreign.as_bytes()), one.as_bytes(), NOW).unwrap();
        assert_eq!((listed(&all).len(), stranger.listed(all.as_bytes()).unwrap().0.len()), (1, 1));
        assert!(authority.revoke(Some(b"x"), one.as_bytes(), NOW).is_err());
    }

    #[test]
    fn an_authority_is_used_again_and_not_beyond_its_time() {
        let (_, ca) = Authority::new("provost CA", NOW).unwrap();
        let (_, other) = Authority::new("provost CA", NOW).unwrap();
        let load = |certificate: &str, key: &str| Authority::load(certificate.as_bytes(), key).map(|_| ());
        let authority = Authority::load(ca.certificate.as_bytes(), &ca.key).unwrap();
        let leaf = authority.sign(Usage::Client, &names(&["a"]), 397, NOW).unwrap();
        assert_eq!(load(&ca.certificate, &other.key), Err("its key is another's".into()));
        assert_eq!(
            load(&leaf.certificate, &leaf.key),
            Err("it is not the certificate of an authority".into())
        );
        assert!(load("", &ca.key).is_err() && load(&ca.certificate, "").is_err());
        let late = Timestamp(NOW.0 + 3600 * DAY_MS);
        let leaf = authority.sign(Usage::Client, &names(&["a"]), 397, late).unwrap();
        let end = describe(leaf.certificate.as_bytes()).unwrap()[0].not_after.0;
        assert_eq!(end, NOW.0 + AUTHORITY_DAYS * DAY_MS);
        let after = Timestamp(NOW.0 + AUTHORITY_DAYS * DAY_MS);
        assert!(authority.sign(Usage::Client, &names(&["a"]), 397, after).is_err());
    }
}
