//! The configuration file: TOML into each layer's own settings. Only the composition root asks for it; what it makes is
//! plain values, and no other layer knows that there is a file. The environment is not looked at.

#![forbid(unsafe_code)]

mod section;
mod sinks;

use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;

use crate::config::section::{Section, Source};
use crate::engine::settings::{HistorySettings, OrphanPolicy, SinkSettings};
use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::id::quoted;

/// The largest configuration file, in bytes.
const LEN_MAX: u64 = 1 << 20;
/// The most sinks: each is a thread.
const SINKS_MAX: usize = 16;

/// All that can be configured. The default is what holds without a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What becomes of processes that outlived their keeper.
    pub orphans: OrphanPolicy,
    /// How long events are kept.
    pub history: HistorySettings,
    /// Where else events go.
    pub sinks: Vec<SinkSettings>,
}

/// Reads a file, and the files of secrets and certificates that it names.
pub fn load(path: &Path) -> Result<Config, Error> {
    let shown = quoted(&path.to_string_lossy());
    let text = files::read(path, LEN_MAX).map_err(|why| {
        Error::usage(format!("cannot read the configuration {shown}: {why}"))
            .hint("docs/config.md shows what can stand in it")
    })?;
    let text = String::from_utf8(text).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::usage(format!(
            "the configuration {shown} is not UTF-8 text: byte {at} is the first that is none"
        ))
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Config, Error> {
    let source = Source { path, text };
    // The parser itself refuses nesting deeper than 80.
    let table = DeTable::parse(text).map_err(|e| {
        let message: String = e.message().replace('\n', ", ").chars().take(200).collect();
        source.error(e.span().map_or(0, |span| span.start), &message)
    })?;
    let mut file = Section::new(&source, String::new(), 0, table.into_inner());
    let orphans = file.choice(
        "orphans",
        &[("adopt", OrphanPolicy::Adopt), ("kill", OrphanPolicy::Kill), ("leave", OrphanPolicy::Leave)],
    )?;
    let history = file.section("history")?.map(history).transpose()?;
    let entries = file.sections("sink", SINKS_MAX)?;
    file.finish()?;
    Ok(Config {
        orphans: orphans.unwrap_or_default(),
        history: history.unwrap_or_default(),
        sinks: sinks::all(entries)?,
    })
}

fn history(mut section: Section<'_>) -> Result<HistorySettings, Error> {
    let or = HistorySettings::default();
    let (shortest, longest) = (Duration::from_secs(60), Duration::from_secs(3650 * 86_400));
    let keep = section.duration("keep", shortest..=longest)?.unwrap_or(or.keep);
    let keep_events = section.integer("keep_events", 1000..=100_000_000)?.unwrap_or(or.keep_events);
    section.finish()?;
    Ok(HistorySettings { keep, keep_events })
}

#[cfg(test)]
mod tests;
