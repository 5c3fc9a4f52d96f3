//! One process, from its start to its removal: `state.rs` decides what follows from what happens, `worker` is
//! the thread that does it, and `handle.rs` is how everybody else holds the process.

pub mod above;
pub mod bonds;
pub mod due;
pub mod env;
pub mod executable;
pub mod failure;
pub mod fresh;
pub mod handle;
pub mod hook;
pub mod input;
pub mod limits;
pub mod log_state;
pub mod memory_look;
pub mod now;
pub mod pipes;
pub mod prepare;
pub mod probe;
pub mod restart;
pub mod search;
pub mod standing;
pub mod state;
pub mod tree;
pub mod users;
pub mod waiting;
pub mod worker;
