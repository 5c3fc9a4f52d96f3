//! A module that there is to be, and what can change about it.

use std::collections::BTreeSet;

use crate::module::plane::connection::Connection;
use crate::module::settings::ModuleLimits;
use crate::wire::time::Timestamp;

/// A module that there is to be, or any of a namespace.
#[derive(Debug)]
pub struct Expected {
    namespace: String,
    /// None: any of it.
    name: Option<String>,
    /// Since when nobody executes it, as far as that was seen.
    pub(super) absent: Option<Absent>,
    /// For longer than it may.
    pub(super) is_missing: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Absent {
    pub since_ms: u64,
    pub at: Timestamp,
}

/// What has changed about one that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Why.
    Missing(String),
    Back,
}

impl Expected {
    /// All that the settings name.
    pub fn all(limits: &ModuleLimits) -> Vec<Self> {
        let of = |(namespace, names): (&String, &BTreeSet<String>)| {
            let one = |name: Option<&String>| Self {
                namespace: namespace.clone(),
                name: name.cloned(),
                absent: None,
                is_missing: false,
            };
            if names.is_empty() {
                vec![one(None)]
            } else {
                names.iter().map(|name| one(Some(name))).collect()
            }
        };
        limits.expect.iter().flat_map(of).collect()
    }

    pub(super) fn is_of(&self, c: &Connection) -> bool {
        c.namespace == self.namespace && self.name.as_ref().is_none_or(|name| c.modules.contains_key(name))
    }

    /// As it is shown: `demo.add`, or `demo.*`.
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.namespace, self.name.as_deref().unwrap_or("*"))
    }
}
