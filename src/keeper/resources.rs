//! What the keeper holds from its first moment to its last.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::keeper::socket_dir::{GrpcSocket, SocketDir};
use crate::keeper::socket_watch::SocketWatch;
use crate::keeper::spawn::Spawner;
use crate::sys::cgroup::Root;
use crate::sys::signal::{self, SignalFd};
use crate::sys::socket::seqpacket_pair;
use crate::wire::error::{Code, Error};

/// What a keeper needs to work at all. It has them until it ends, or hands them over.
pub struct Resources {
    // Dropped first: nobody connects to a service that ends.
    /// None: it is switched off, or the keeper before this one knew of none.
    pub grpc: Option<GrpcSocket>,
    pub socket_dir: SocketDir,
    pub listener: OwnedFd,
    pub global: File,
    /// None: the keeper before this one had none, and no descriptor is left for one.
    pub pair: Option<GatewayPair>,
    pub cgroups: Option<Root>,
    pub no_cgroups: Option<String>,
    /// The limit of descriptors that the service was started with, soft and hard.
    pub nofile: (u64, u64),
    pub engine_arguments: Vec<String>,
    pub spawner: Spawner,
    pub signals: SignalFd,
    pub sockets: SocketWatch,
}

/// The two ends of the gateway's way to the engine: connections come over it, as descriptors, and nobody else
/// has an end of it. The keeper holds both, so that it outlives engine and gateway.
#[derive(Debug)]
pub struct GatewayPair {
    pub engine: OwnedFd,
    pub gateway: OwnedFd,
}

impl GatewayPair {
    pub fn new() -> io::Result<Self> {
        seqpacket_pair().map(|(engine, gateway)| Self { engine, gateway })
    }
}

impl Resources {
    /// Both ends of the gateway's pair, for an engine. Without descriptors for them there is no gateway under
    /// that engine.
    pub fn share_pair(&self) -> Option<(OwnedFd, OwnedFd)> {
        let pair = self.pair.as_ref()?;
        pair.engine.try_clone().ok().zip(pair.gateway.try_clone().ok())
    }

    /// The socket for gRPC, for an engine. Without a descriptor for it there is no gRPC under that engine;
    /// nothing else depends on it.
    pub fn share_grpc(&self) -> Option<OwnedFd> {
        self.grpc.as_ref()?.listener().try_clone().ok()
    }
}

/// Blocks what the keeper reads instead of being interrupted by it.
pub fn receive_signals() -> Result<SignalFd, Error> {
    SignalFd::new(&[
        signal::CHLD,
        signal::TERM,
        signal::INT,
        signal::QUIT,
        signal::HUP,
        signal::USR1,
        signal::USR2,
    ])
    .map_err(|e| Error::new(Code::Failed, format!("cannot receive signals: {e}")))
}
