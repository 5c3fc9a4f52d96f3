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

pub(super) fn begin(gateway: &Arc<Gateway>) -> Result<(), Error> {
    let gateway = Arc::clone(gateway);
    thread::spawn("grpc-engine", move || run(&gateway))
        .map(drop)
        .map_err(|e| Error::failed("start a thread", &e))
}

fn run(gateway: &Gateway) {
    loop {
        match Client::connect_to(&gateway.address).and_then(|mut engine| engine.service().map(|_| engine)) {
            Ok(engine) => {
                gateway.serving.set_alone(false);
                engine.until_lost();
                gateway.serving.set_alone(true);
            }
            Err(_) => drop(poll::wait(&mut [], Some(clock::now_ms() + RETRY_MS))),
        }
    }
}
