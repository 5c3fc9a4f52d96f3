//! A file of the configuration, as text and as a table.

use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use crate::config::hints;
use crate::config::section::{Section, Source};
use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The largest configuration file, in bytes.
pub const LEN_MAX: u64 = 1 << 20;

/// What is in it.
pub fn text(path: &Path) -> Result<String, Error> {
    let shown = quoted(&path.to_string_lossy());
    let text = files::read(path, LEN_MAX).map_err(|why| {
        let e = Error::usage(format!("cannot read the configuration {shown}: {why}"));
        match path.read_link() {
            Ok(target) if !path.exists() => {
                let target = quoted(&target.to_string_lossy());
                e.hint(format!("it is a link to {target}, which is not there: remove the link, or make that"))
            }
            _ => e.hint("docs/config.md shows what can stand in it"),
        }
    })?;
    String::from_utf8(text).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::usage(format!(
            "the configuration {shown} is not UTF-8 text: byte {at} is the first that is none"
        ))
    })
}

/// The table that the whole file is.
pub fn top<'a>(source: &'a Source<'a>) -> Result<Section<'a>, Error> {
    Ok(Section::new(source, String::new(), 0, parsed(source)?))
}

/// The same as a plain table.
pub fn parsed<'a>(source: &Source<'a>) -> Result<DeTable<'a>, Error> {
    // The parser itself refuses nesting deeper than 80.
    let table = DeTable::parse(source.text).map_err(|e| {
        let message: String = e.message().replace('\n', ", ").chars().take(200).collect();
        let error = source.error(e.span().map_or(0, |span| span.start), &message);
        match hints::syntax(source.text, &message) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    });
    table.map(Spanned::into_inner)
}
