//! What a provider of modules and the service have in common: types and values.

pub mod schema;
pub mod value;
