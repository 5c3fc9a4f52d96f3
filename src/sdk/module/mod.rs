//! For authors of modules, in Rust: functions with serde types that a running service calls. What a provider
//! and the service have in common, types and values, is here, too.
//!
//! ```no_run
//! use provost::sdk::module::definition::Module;
//! use provost::sdk::module::provider::Provider;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Given {
//!     a: i64,
//!     b: i64,
//! }
//!
//! # fn main() -> Result<(), provost::Error> {
//! let add = Module::new("add", |given: Given| Ok(given.a + given.b)).version("1.0");
//! Provider::new("demo").instance("127.0.0.1:9090").module(add).serve()
//! # }
//! ```
//!
//! `docs/modules.md` is the guide, `docs/words-module.rs` a whole provider.

pub mod canary;
mod connection;
pub(crate) mod counts;
pub mod definition;
mod executor;
pub mod grpc;
pub(crate) mod json;
pub mod memory;
pub(crate) mod protocol;
pub mod provider;
mod record;
pub mod schema;
pub mod serializer;
mod stop;
mod trace;
pub mod transport;
pub mod value;
