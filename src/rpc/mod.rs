//! gRPC as both of its ends need it: the public messages, the codec, the services generated from `proto/`,
//! statuses to errors and back, a channel on this machine, a server of one connection, and a call as a
//! blocking one.

#![forbid(unsafe_code)]

pub(crate) mod api;
pub(crate) mod block;
pub(crate) mod client_threads;
pub(crate) mod codec;
pub(crate) mod local_channel;
pub(crate) mod pending;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod status;
