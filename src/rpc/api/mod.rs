//! The public messages of `proto/provost/v1`, and the way between them and what the service itself speaks:
//! requests in [`requests`], answers in [`answers`], by [`pages`] where they
//! may be long. The gateway goes one way, the client library the other.
//!
//! What is stored and what crosses the command channel has messages of its own (`crate::wire`), so that
//! neither holds the other back.

pub(crate) mod answers;
mod canaries;
mod cgroups;
mod events;
mod health;
mod hooks;
mod modules;
pub(crate) mod pages;
mod permits;
mod probes;
mod processes;
mod providers;
pub(crate) mod registry;
pub(crate) mod requests;
mod schedules;
mod specs;
mod values;

pub(crate) use crate::rpc::api::values::Invalid;
