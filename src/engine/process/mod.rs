//! One process: how it is started.

pub mod env;
pub mod failure;
pub mod handle;
pub mod now;
pub mod pipes;
pub mod prepare;
pub mod ready;
pub mod restart;
pub mod state;
pub mod tree;
pub mod users;
pub mod waiting;
pub mod worker;
