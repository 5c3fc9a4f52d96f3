//! The generated protobuf types. They stop in this folder: everything else speaks the domain types beside it.

#![allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]

pub(in crate::wire) mod v1 {
    include!(concat!(env!("OUT_DIR"), "/provost.v1.rs"));
}

pub(in crate::wire) mod internal {
    pub(in crate::wire) mod v1 {
        include!(concat!(env!("OUT_DIR"), "/provost.internal.v1.rs"));
    }
}
