//! Mutual TLS 1.3 over a TCP connection, for both of its ends: who may be there (certificates, authorities,
//! revocations), the handshake, and the pump that carries plaintext between it and a socket of our own. It
//! knows nothing of what the bytes mean.

#![forbid(unsafe_code)]

pub mod carried;
pub mod closer;
mod error_texts;
pub mod identity;
pub mod issue;
pub mod material;
pub mod pump;
mod session;
pub mod tunnel;
pub mod verify;

#[cfg(test)]
mod tests;
