//! Where declarations stand, for what is wrong only with all of them known.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::file::{parsed, text};
use crate::config::processes::Declaration;
use crate::config::section::Source;
use crate::wire::error::Error;
use crate::wire::id::Name;

/// The files with declarations, and what they declare.
pub struct Places<'a> {
    /// What was read, and is read again for the place of a key.
    pub files: Vec<&'a Path>,
    /// Where the section of each name begins.
    pub sections: &'a BTreeMap<Name, String>,
}

impl Places<'_> {
    /// An error at the first of these keys of a section; where it begins, if `[defaults]` says it or the
    /// files are others by now.
    pub fn error(&self, declaration: &Declaration, keys: &[&str], what: &str) -> Error {
        let name = declaration.spec.name.as_ref().expect("a section has a name");
        let in_file = |path: &&Path| {
            let text = text(path).ok()?;
            let source = Source { path, text: &text };
            let table = parsed(&source).ok()?;
            let sections = table.get("process")?.get_ref().as_table()?;
            let section = sections.get(name.as_str())?.get_ref().as_table()?;
            let key = keys.iter().find_map(|key| section.get(*key))?;
            Some(source.error(key.span().start, what))
        };
        self.files.iter().find_map(in_file).unwrap_or_else(|| {
            let first = declaration.names().into_iter().next();
            let section = first.and_then(|(name, _)| self.sections.get(&name)).map_or("", String::as_str);
            Error::usage(format!("{section}: {what}"))
        })
    }
}
