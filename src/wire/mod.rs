//! Bytes to domain types and back: the shared ground of all programs. Nothing here does I/O or knows
//! which program sends what; a value that exists has been checked.

#![forbid(unsafe_code)]

pub mod audit;
pub mod background;
pub mod buffer;
pub mod canary;
mod change;
pub mod envelope;
pub mod error;
pub mod event;
pub mod field;
pub mod field_values;
pub mod fields;
pub mod frame;
pub mod grpc_probe;
pub mod handover;
pub mod health;
pub mod host;
pub mod id;
pub mod json;
pub mod keeper;
pub mod landlock;
pub mod launch;
pub mod leader;
pub mod log;
mod log_fields;
pub mod module;
pub mod module_note;
pub mod needs;
pub mod note;
pub mod order;
pub mod permit;
pub mod probes;
pub mod process;
pub(crate) mod proto;
pub mod provider;
mod provider_messages;
pub mod provider_rules;
pub mod record;
pub mod registry;
mod registry_answer;
pub mod registry_note;
pub mod remote_end;
pub mod reply;
pub mod request;
pub mod role;
pub mod schedule;
mod schedule_fields;
pub mod secrets;
pub mod spawn_record;
pub mod spec;
pub mod stop;
pub mod strings;
pub mod time;
pub mod upgrade;
pub mod values;
