//! What is configured about providers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::wire::provider::{Definition, ProviderName};

/// Where binaries are executed from, beside the directory of the service itself.
const DIRECTORIES: [&str; 2] = ["/usr/lib/provost/providers", "/usr/local/lib/provost/providers"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Where binaries are executed from; none: where they are by default.
    pub directories: Option<Vec<PathBuf>>,
    /// Binaries may be anywhere.
    pub allow_external: bool,
    /// Those that are known from the start, each once.
    pub definitions: Vec<(ProviderName, Definition)>,
    /// Those of them that run when they are needed; the others do from the start.
    pub lazy: BTreeSet<ProviderName>,
    /// What is noted about them.
    pub labels: BTreeMap<ProviderName, Vec<(String, String)>>,
}

impl ProviderSettings {
    /// Those that run from the start.
    #[must_use]
    pub fn from_start(&self) -> Vec<ProviderName> {
        let names = self.definitions.iter().map(|(name, _)| name);
        names.filter(|name| !self.lazy.contains(name)).cloned().collect()
    }

    /// Where binaries are executed from by a service with this state.
    #[must_use]
    pub fn directories(&self, state: Option<PathBuf>) -> Vec<PathBuf> {
        let ours = || state.map(|state| state.join("providers"));
        self.directories
            .clone()
            .unwrap_or_else(|| ours().into_iter().chain(DIRECTORIES.map(PathBuf::from)).collect())
    }
}
