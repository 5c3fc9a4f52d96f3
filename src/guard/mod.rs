//! What keeps others from asking too much of us.

#![forbid(unsafe_code)]

pub mod token_bucket;
