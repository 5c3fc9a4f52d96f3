//! What a client's certificate needs beyond the chain that webpki checks: a purpose that names clients, and a
//! name.

use std::error::Error;
use std::sync::Arc;

use rustls::Error as Tls;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName};
use rustls::{OtherError, SignatureScheme};

use crate::tls::identity::{self, Peer};

/// The chain as webpki sees it, then ours: webpki takes a certificate without any extended key usage for
/// every purpose.
#[derive(Debug)]
pub struct Clients(pub(in crate::tls) Arc<dyn ClientCertVerifier>);

impl Clients {
    /// Whether a peer that was let in once would be let in now.
    #[must_use]
    pub fn accept(&self, peer: &Peer) -> bool {
        let (leaf, others) = peer.chain.split_first().expect("no peer is let in without a certificate");
        self.verify_client_cert(leaf, others, UnixTime::now()).is_ok()
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Tls> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        let unacceptable = |why: String| {
            CertificateError::Other(OtherError(Arc::from(Box::<dyn Error + Send + Sync>::from(why))))
        };
        if !identity::described(end_entity).map_err(unacceptable)?.client {
            return Err(CertificateError::InvalidPurpose.into());
        }
        identity::peer(std::slice::from_ref(end_entity)).map_err(unacceptable)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Tls> {
        Err(Tls::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Tls> {
        self.0.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
