//! Everything that speaks gRPC to others: a process of its own that reaches processes only through the client library.

#![forbid(unsafe_code)]

pub mod settings;
