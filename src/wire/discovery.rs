//! Where providers are looked for, as a person says it.

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::v1;

/// Where providers are discovered.
const SOURCES: [&str; 3] = ["config", "plugin", "environment"];
/// The longest path where providers are looked for, in bytes.
const PLACE_LEN_MAX: usize = 4095;

/// Where providers are looked for, and whether anything is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// "config", "plugin" or "environment"; none: everywhere.
    pub sources: Vec<String>,
    /// Only say what would be done.
    pub is_dry_run: bool,
    /// One more file of the configuration, from now on.
    pub config_file: Option<String>,
    /// One more directory of plugins, from now on.
    pub plugin_directory: Option<String>,
}

impl Discovery {
    pub(in crate::wire) fn fill(&self, wire: &mut v1::RegistryCall) {
        wire.sources.clone_from(&self.sources);
        wire.dry_run = self.is_dry_run;
        wire.config_file = self.config_file.clone().unwrap_or_default();
        wire.plugin_directory = self.plugin_directory.clone().unwrap_or_default();
    }

    pub(in crate::wire) fn from_wire(w: &mut v1::RegistryCall) -> Result<Self, Error> {
        if let Some(source) = w.sources.iter().find(|source| !SOURCES.contains(&source.as_str())) {
            let e = format!("providers are not looked for in {}", quoted(source));
            return Err(Error::usage(e).hint(format!("there are: {}", SOURCES.join(", "))));
        }
        Ok(Self {
            sources: std::mem::take(&mut w.sources),
            is_dry_run: w.dry_run,
            config_file: place(std::mem::take(&mut w.config_file))?,
            plugin_directory: place(std::mem::take(&mut w.plugin_directory))?,
        })
    }
}

/// A path where providers are looked for; empty: none.
fn place(path: String) -> Result<Option<String>, Error> {
    if path.is_empty() {
        return Ok(None);
    }
    if !path.starts_with('/') || path.len() > PLACE_LEN_MAX || path.contains('\0') {
        let e = format!("{} is no absolute path of at most {PLACE_LEN_MAX} bytes", quoted(&path));
        return Err(Error::usage(e));
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_can_look_is_refused() {
        let asked = |sources: &[&str], config_file: &str| {
            let sources = sources.iter().map(|source| (*source).to_owned()).collect();
            let config_file = config_file.to_owned();
            Discovery::from_wire(&mut v1::RegistryCall { sources, config_file, ..Default::default() })
        };
        let there = asked(&["config"], "/a").unwrap();
        assert_eq!((there.config_file.as_deref(), there.plugin_directory), (Some("/a"), None));
        let long = format!("/{}", "a".repeat(PLACE_LEN_MAX));
        for (sources, path) in [(&["api"][..], ""), (&[], "a"), (&[], "/a\0b"), (&[], &long)] {
            assert!(asked(sources, path).is_err(), "{path}");
        }
    }
}
