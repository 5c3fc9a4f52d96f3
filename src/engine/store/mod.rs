//! What outlives the machine's boot: what should run, how its runs ended, every event, the global
//! environment.
//!
//! Called from one thread only, hence `&mut self` and no lock. It decides nothing: it keeps what it is told,
//! tells what it has, and names the kind of an error; what to do about that is up to the caller.
//!
//! | file | what |
//! |---|---|
//! | `sqlite.rs` | open, load, write, read |
//! | `calm_clock.rs` | what time it is, for deleting what is old |
//! | `content.rs` | what goes in and comes out |
//! | `directory.rs` | the directory, its lock, the files and whether they are still the ones that were opened |
//! | `schema.rs` | tables, and from one version of them to the next |
//! | `rows.rs` | a process, a run and an event as rows |
//! | `salvage.rs` | what can still be read from a damaged file |
//! | `opened.rs` | opening it whatever state it is in |
//! | `numbers.rs` | up to which number events were given to sinks before they were stored |
//! | `error.rs` | what SQLite and the system say, as one of eight kinds of error |

mod calm_clock;
mod content;
#[cfg(test)]
mod damage_tests;
mod directory;
mod error;
pub mod numbers;
mod opened;
mod rows;
mod salvage;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;

pub use crate::engine::store::calm_clock::CalmClock;
pub use crate::engine::store::content::{About, Change, EventsPage, Kept, Loaded, Prune, Put};
pub use crate::engine::store::error::{ErrorKind, StoreError};
pub use crate::engine::store::opened::Opened;
pub use crate::engine::store::sqlite::Sqlite;
