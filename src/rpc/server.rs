//! A gRPC server of one connection, as all begin that serve each connection with a server of its own.

use std::sync::Arc;

use grpcio::{ChannelBuilder, Environment, ServerBuilder};

/// Calls that a completion queue takes in before it is asked again. Each is 1 KiB for as long as the
/// connection lives.
const SLOTS: usize = 4;

pub(crate) fn of_one_connection(env: &Arc<Environment>, arguments: ChannelBuilder) -> ServerBuilder {
    ServerBuilder::new(Arc::clone(env)).channel_args(arguments.build_args()).requests_slot_per_cq(SLOTS)
}
