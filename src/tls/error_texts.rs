//! What went wrong with a peer, in words for people and logs. What the peer itself has written is quoted.

use std::net::IpAddr;

use rustls::{AlertDescription as Alert, CertificateError as Fault, PeerIncompatible as Incompatible};
use rustls::{Error as Tls, InvalidMessage};

use crate::wire::id::quoted;
use crate::wire::json;
use crate::wire::time::Timestamp;

/// Any failure of TLS; `peer` is "client" or "server".
pub(in crate::tls) fn failure(e: &Tls, peer: &str) -> String {
    match e {
        Tls::NoCertificatesPresented => format!("the {peer} has shown no certificate"),
        Tls::InvalidCertificate(e) => format!("the certificate of the {peer} {}", certificate(e)),
        Tls::PeerIncompatible(e) if is_version(e) => format!("the {peer} does not speak TLS 1.3"),
        Tls::PeerIncompatible(Incompatible::NoCipherSuitesInCommon) => {
            format!("the {peer} offers none of our cipher suites")
        }
        Tls::NoApplicationProtocol => no_alpn(peer),
        Tls::AlertReceived(alert) => refused_by(*alert, peer),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => format!("the {peer} does not speak TLS"),
        // Debug texts of what the peer has sent are in there.
        other => quoted(&other.to_string()),
    }
}

/// It does not speak HTTP/2, or does not say so.
pub(in crate::tls) fn no_alpn(peer: &str) -> String {
    format!("the {peer} does not choose HTTP/2 (ALPN h2)")
}

fn is_version(e: &Incompatible) -> bool {
    matches!(
        e,
        Incompatible::SupportedVersionsExtensionRequired
            | Incompatible::SignatureAlgorithmsExtensionRequired
            | Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig
            | Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled
    )
}

/// What the peer's alert says about us.
fn refused_by(alert: Alert, peer: &str) -> String {
    let what = match alert {
        Alert::CertificateRequired => "wants a certificate from us".to_owned(),
        Alert::CertificateExpired => "says that our certificate is not valid now".to_owned(),
        Alert::CertificateRevoked => "says that our certificate is revoked".to_owned(),
        Alert::UnknownCA => "does not know the authority of our certificate".to_owned(),
        Alert::UnsupportedCertificate => "says that our certificate was not made for this purpose".to_owned(),
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied => {
            "does not accept our certificate".to_owned()
        }
        Alert::ProtocolVersion => "does not speak TLS 1.3".to_owned(),
        Alert::NoApplicationProtocol => "does not speak HTTP/2 (ALPN h2)".to_owned(),
        other => format!("has ended the connection with the alert {other:?}"),
    };
    format!("the {peer} {what}")
}

fn certificate(e: &Fault) -> String {
    match e {
        Fault::ExpiredContext { not_after, .. } => format!("has expired on {}", at(not_after.as_secs())),
        Fault::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", at(not_before.as_secs()))
        }
        Fault::Revoked => "is revoked".to_owned(),
        Fault::UnknownIssuer => "is from an authority that we do not know".to_owned(),
        Fault::UnknownRevocationStatus => {
            "is from an authority without a revocation list, and lists are configured".to_owned()
        }
        Fault::ExpiredRevocationListContext { next_update, .. } => {
            format!("cannot be checked: the revocation list has expired on {}", at(next_update.as_secs()))
        }
        Fault::BadSignature => {
            "has a wrong signature: it may be of another authority that has the same name".to_owned()
        }
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => {
            "was not made for this purpose (extended key usage)".to_owned()
        }
        Fault::NotValidForNameContext { expected, presented } => {
            let shown = |name: &String| {
                let bare = bare(name);
                // An address of IPv6 is told with a zero in front.
                bare.parse::<IpAddr>().map_or_else(|_| quoted(bare), |ip| quoted(&ip.to_string()))
            };
            let names: Vec<_> = presented.iter().map(shown).collect();
            format!("is not for {} but for {}", quoted(&expected.to_str()), names.join(", "))
        }
        Fault::Other(e) => format!("is not acceptable: {}", quoted(&e.0.to_string())),
        other => format!("is not acceptable: {}", quoted(&other.to_string())),
    }
}

/// A name that rustls tells with its kind, as in `DnsName("localhost")`, without it.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn at(secs: u64) -> String {
    json::time(Timestamp(secs.saturating_mul(1000)))
}
