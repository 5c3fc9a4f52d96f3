//! What keeps others from asking too much of us, and us from asking too much of others.

#![forbid(unsafe_code)]

pub mod breaker;
pub mod gate;
pub mod group;
pub mod retry_budget;
pub mod share;
pub mod slots;
pub mod token_bucket;
