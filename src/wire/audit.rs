//! The audit: a line for every request that changes something, or would have. What a request is in words is made here,
//! so that both listeners use the same; no value of an environment is ever in them.

use std::fmt::Write;

use crate::sys::signal;
use crate::wire::error::Error;
use crate::wire::id::{is_bidi, quoted};
use crate::wire::proto::v1;
use crate::wire::request::{Numbering, Request};
use crate::wire::time::Timestamp;

/// The longest text of a line, in bytes.
pub const TEXT_LEN_MAX: usize = 512;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number; later lines have larger ones.
    pub seq: u64,
    /// When it was asked.
    pub at: Timestamp,
    /// By whom: `uid 0 pid 123`, or for whom.
    pub who: String,
    /// What: `stop web-*`.
    pub what: String,
    /// What came of it; none: nobody knows, or it is under way.
    pub result: Option<String>,
}

/// A line for a request that was refused before the service heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What was asked.
    pub what: String,
    /// What came of it.
    pub result: String,
}

/// What of the audit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AuditLog {
    /// Lines after this number.
    pub since: u64,
    /// At most so many; 0: as many as one answer takes.
    pub max: u32,
}

impl AuditLine {
    pub(in crate::wire) fn to_wire(&self) -> v1::AuditLine {
        v1::AuditLine {
            seq: self.seq,
            at: self.at.0,
            who: self.who.clone(),
            what: self.what.clone(),
            result: self.result.clone().unwrap_or_default(),
        }
    }

    pub(in crate::wire) fn from_wire(w: v1::AuditLine) -> Self {
        let result = (!w.result.is_empty()).then_some(w.result);
        Self { seq: w.seq, at: Timestamp(w.at), who: w.who, what: w.what, result }
    }
}

impl Note {
    pub(in crate::wire) fn to_wire(&self) -> v1::Note {
        v1::Note { what: self.what.clone(), result: self.result.clone() }
    }

    pub(in crate::wire) fn from_wire(w: v1::Note) -> Result<Self, Error> {
        for text in [&w.what, &w.result] {
            if text.is_empty() || text.len() > TEXT_LEN_MAX || text.contains(is_odd) {
                let e = format!("{} is not 1 to {TEXT_LEN_MAX} bytes of printable characters", quoted(text));
                return Err(Error::usage(e));
            }
        }
        Ok(Self { what: w.what, result: w.result })
    }
}

impl Request {
    /// What it changes, in words that fit a line; none: nothing.
    #[must_use]
    pub fn change(&self) -> Option<String> {
        let on = |verb: &str, targets: &[String]| format!("{verb} {}", targets.join(" "));
        let text = match self {
            Self::Start(r) => {
                let mut text = format!("start {}", r.spec.command.first().map_or("", String::as_str));
                if let Some(name) = &r.spec.name {
                    let _ = write!(text, " as {name}");
                }
                if r.numbering == Numbering::Numbered {
                    let _ = write!(text, " ({} instances)", r.ids.len());
                }
                text
            }
            Self::StartAgain(targets) => on("start again", targets),
            Self::Stop(r) => on("stop", &r.targets),
            Self::Restart(targets) => on("restart", targets),
            Self::Remove(r) => on("remove", &r.targets),
            Self::Signal(r) => on(&format!("signal {}", signal::name(r.signal)), &r.targets),
            Self::Env(r) if r.set.is_empty() && r.unset.is_empty() => return None,
            Self::Env(r) => {
                let set = r.set.iter().map(|(key, _)| format!(" set {key}"));
                let unset = r.unset.iter().map(|key| format!(" unset {key}"));
                format!("env{}", set.chain(unset).collect::<String>())
            }
            Self::Upgrade(r) => format!("upgrade to {}", r.path.as_deref().unwrap_or("its own path")),
            Self::Note(note) => note.what.clone(),
            Self::Wait(_)
            | Self::Status(_)
            | Self::List(_)
            | Self::Output(_)
            | Self::Stream(_)
            | Self::Events(_)
            | Self::Service
            | Self::Health
            | Self::Follow(_)
            | Self::AuditLog(_) => return None,
        };
        Some(fit(&text))
    }
}

/// Text from outside, fit for a line.
#[must_use]
pub fn fit(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() > TEXT_LEN_MAX - 16 {
            out.push_str("...");
            break;
        }
        if is_odd(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

fn is_odd(c: char) -> bool {
    c.is_control() || is_bidi(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ProcessId;
    use crate::wire::request::{EnvChange, Start, Stop};
    use crate::wire::spec::Spec;

    #[test]
    fn a_change_is_told_without_values() {
        let mut spec = Spec::new(["/bin/x", "--password=hush"]);
        spec.name = Some("web".parse().unwrap());
        spec.env.push(("KEY".into(), "hush".into()));
        let ids = vec![ProcessId::new(), ProcessId::new()];
        let start = Request::Start(Start { spec, ids, numbering: Numbering::Numbered });
        assert_eq!(start.change().unwrap(), "start /bin/x as web (2 instances)");
        let env = EnvChange { set: vec![("A".into(), "hush".into())], unset: vec!["B".into()] };
        assert_eq!(Request::Env(env).change().unwrap(), "env set A unset B");
        assert_eq!(Request::Env(EnvChange::default()).change(), None);
        assert_eq!(Request::Service.change(), None);
    }

    #[test]
    fn a_line_is_one_line_of_limited_length() {
        let targets = vec!["a\n\u{202e}".repeat(1000)];
        let text = Request::Stop(Stop { targets, ..Stop::default() }).change().unwrap();
        assert!(text.len() <= TEXT_LEN_MAX && !text.contains(is_odd) && text.ends_with("..."), "{text}");
        let note = |what: &str| Note::from_wire(v1::Note { what: what.into(), result: "refused".into() });
        assert!(note("stop web").is_ok() && note(&text).is_ok());
        assert!(note("").is_err() && note("a\nb").is_err() && note(&"x".repeat(513)).is_err());
    }
}
