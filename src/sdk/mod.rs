//! For authors of providers and of modules, in Rust; and the protocol between a provider and its host, of
//! which both have the same pieces here: the line that reports the port, values, and the messages.
//!
//! An author implements [`provider::Provider`] and calls [`provider::serve`]; `docs/providers.md` is the
//! guide, `docs/files-provider.rs` a whole one. Modules are in [`module`].

#![forbid(unsafe_code)]

pub mod handshake;
pub mod launch;
pub mod module;
pub mod provider;
mod tls_listener;
pub mod value;
