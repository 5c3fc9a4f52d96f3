//! The C core's threads for clients.

use std::sync::{Arc, OnceLock};

use grpcio::{EnvBuilder, Environment};

/// One set for all connections of a program. Never dropped: its last owner might be one of its threads, which
/// would wait for itself.
pub(crate) fn environment() -> Arc<Environment> {
    static ENVIRONMENT: OnceLock<Arc<Environment>> = OnceLock::new();
    let made = || Arc::new(EnvBuilder::new().cq_count(1).name_prefix("grpc").build());
    Arc::clone(ENVIRONMENT.get_or_init(made))
}
