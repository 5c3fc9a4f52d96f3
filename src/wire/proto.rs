//! The generated protobuf messages. They stop in this folder and where gRPC needs them as they are
//! (`src/rpc`, the wire files of `src/gateway` and `src/client`): everything else speaks the domain types
//! beside them.

#![allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]

pub(crate) mod v1 {
    include!(concat!(env!("OUT_DIR"), "/provost.internal.v1.rs"));
}
