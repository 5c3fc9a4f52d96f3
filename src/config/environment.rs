//! `[environment]`: the variables that every process gets, all of them.

use std::path::Path;

use crate::config::file::{text, top};
use crate::config::section::{Section, Source};
use crate::wire::error::Error;
use crate::wire::spec::check_env;

/// What a configuration says of it; none: nothing, and whatever is there stays.
pub fn environment(path: &Path) -> Result<Option<Vec<(String, String)>>, Error> {
    let path = if path.is_dir() { path.join("provost.toml") } else { path.to_owned() };
    if !path.exists() {
        return Ok(None);
    }
    let text = text(&path)?;
    let source = Source { path: &path, text: &text };
    top(&source)?.section("environment")?.map(variables).transpose()
}

pub(super) fn variables(section: Section<'_>) -> Result<Vec<(String, String)>, Error> {
    let at = section.source();
    let mut all = Vec::new();
    for (name, value) in section.texts()? {
        check_env(&name.value, &value.value).map_err(|e| at.bad(&name, &e.message).hint(e.hint))?;
        all.push((name.value, value.value.into_owned()));
    }
    Ok(all)
}
