//! The service over gRPC and mutual TLS: calls, streams, handshakes and connections through the gateway
//! beside the same without any of that, and a client that is served while others attack.

mod attack;
mod calls;
mod cipher;
mod client;
mod crowd;
mod modules;
mod providers;
mod raw;
mod registry;
mod server;
mod site;

use std::path::Path;

pub use crate::grpc::attack::attack;
pub use crate::grpc::crowd::idle;
pub use crate::grpc::modules::{measure as measure_modules, module};
pub use crate::grpc::providers::{PROVIDER, measure as measure_providers, provide};
pub use crate::grpc::registry::measure as measure_registry;
pub use crate::grpc::server::echo;

use crate::grpc::site::Site;
use crate::sample::Outcome;
use crate::table::Table;

/// Where the gateways and servers of a run are: all the machine's own.
const LOOPBACK: &str = "127.0.0.1";

pub fn measure(dir: &Path, table: &mut Table) -> Outcome {
    let mut site = Site::serve(dir)?;
    crowd::memory(&mut site, table)?;
    calls::measure(&mut site, dir, table)?;
    table.print_new("grpc, calls and streams");
    crowd::measure(&mut site, dir, table)?;
    table.print_new("grpc, connections");
    attack::measure(&site, dir, table)?;
    site.service.end()
}
