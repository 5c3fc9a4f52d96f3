//! What encrypting and decrypting alone takes: the records of a connection, without the connection.

use std::time::Instant;

use rustls::crypto::cipher::{AeadKey, InboundOpaqueMessage, Iv, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::ring::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::{ContentType, ProtocolVersion};

use crate::sample::Outcome;

/// Of a record: what TLS puts into one at most.
const RECORD_LEN: usize = 16 << 10;
const TOTAL: usize = 256 << 20;
/// What is before the ciphertext of a record.
const HEAD: usize = 5;

/// Milliseconds per gigabyte, both ends.
pub fn cost() -> Outcome<f64> {
    let suite = TLS13_AES_256_GCM_SHA384.tls13().ok_or("it is of TLS 1.3")?;
    let (key, iv) = (|| AeadKey::from([7; 32]), || Iv::new([7; 12]));
    let mut sealing = suite.aead_alg.encrypter(key(), iv());
    let mut opening = suite.aead_alg.decrypter(key(), iv());
    let plain = vec![0; RECORD_LEN];
    let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
    let begin = Instant::now();
    for seq in 0..(TOTAL / RECORD_LEN) as u64 {
        let payload = OutboundChunks::Single(&plain);
        let mut sealed = sealing.encrypt(OutboundPlainMessage { typ, version, payload }, seq)?.encode();
        let record = InboundOpaqueMessage::new(typ, version, &mut sealed[HEAD..]);
        if opening.decrypt(record, seq)?.payload.len() != RECORD_LEN {
            return Err("a record has come back with another length".into());
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3 * 1e9 / TOTAL as f64)
}
