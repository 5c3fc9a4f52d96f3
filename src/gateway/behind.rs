//! Whether there is an engine behind the gateway: one thread (`grpc-engine`) keeps a connection to it, and
//! learns from its end that the engine has gone.

use std::sync::Arc;

use crate::client::Client;
use crate::gateway::shared::Gateway;
use crate::sys::poll;
use crate::sys::{clock, thread};
use crate::wire::error::Error;

/// How long it is until the next attempt where nobody answers, ms. A service that is there answers as soon as
/// it has an engine, for its socket stays where it is.
const RETRY_MS: u64 = 1000;

/// `engine` has answered before the gateway listened: that its end is seen does not depend on how soon the
/// thread comes to run.
pub(super) fn begin(gateway: &Arc<Gateway>, engine: Client) -> Result<(), Error> {
    let gateway = Arc::clone(gateway);
    thread::spawn("grpc-engine", move || run(&gateway, engine))
        .map(drop)
        .map_err(|e| Error::failed("start a thread", &e))
}

fn run(gateway: &Gateway, mut engine: Client) {
    loop {
        engine.until_lost();
        gateway.serving.set_alone(true);
        engine = next(gateway);
        gateway.serving.set_alone(false);
    }
}

/// The next one that answers.
fn next(gateway: &Gateway) -> Client {
    loop {
        match Client::connect_to(&gateway.address).and_then(|mut engine| engine.service().map(|_| engine)) {
            Ok(engine) => return engine,
            Err(_) => drop(poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS))),
        }
    }
}
