//! The output of one process, in a ring of bytes in its memory. `layout.rs` says how it lies there,
//! `write.rs` and `redacted.rs` are for the one writer, and `read.rs` for any number of readers, in the
//! engine or in a process with which it shares the memory.

#![forbid(unsafe_code)]

mod layout;
mod read;
mod redacted;
mod write;

pub use crate::ring::layout::{Geometry, READ_MAX, Source};
pub use crate::ring::read::{Piece, Read, Reader, SharedOutput};
pub use crate::ring::redacted::Writer;
pub use crate::ring::write::{Ring, Taken};
