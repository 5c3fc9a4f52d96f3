//! What the plane says of canaries: why one is refused, and what has happened to one.

use crate::module::canary::{News, What};
use crate::wire::event::EventKind;

/// Why a canary is not begun, or not aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryRefused {
    NoMembers,
    /// The provider has the namespace for itself.
    Alone,
    /// Of this version.
    Running(String),
    NotRunning,
    TooMany,
}

/// What has happened to a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryNews {
    pub namespace: String,
    pub version: String,
    pub news: News,
}

impl CanaryNews {
    /// Its kind and its text, as an event; without a kind only the log has it.
    pub fn event(&self) -> (Option<EventKind>, String) {
        let Self { namespace, version, news } = self;
        let kind = match news.what {
            What::Started => Some(EventKind::CanaryStarted),
            What::Promoted => Some(EventKind::CanaryPromoted),
            What::Failed | What::RolledBack => Some(EventKind::CanaryRolledBack),
            What::Aborted => Some(EventKind::CanaryAborted),
            What::OnTrial | What::Gone | What::Resumed => None,
        };
        let step = &news.step;
        let at = if step.executor.is_empty() { String::new() } else { format!(" at {}", step.executor) };
        let what = if kind.is_some() { String::new() } else { format!(" {}", step.what) };
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        (kind, format!("{namespace} {version:.80}{at}{what}{detail}"))
    }
}
