//! Who may do what: users with their passwords, roles, and the one table of what a role may ask for.

#![forbid(unsafe_code)]

pub mod basic;
pub mod password;
pub mod policy;
pub mod remembered;
pub mod roles;
mod throttle;
pub mod users;
pub mod verifier;
