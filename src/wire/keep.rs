//! What the service's own processes have the engine keep: documents that it does not look into, in one write
//! with the line of the audit that says who wanted it.

use crate::wire::audit::{AuditLine, TEXT_LEN_MAX, is_odd};
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::v1;

/// The longest kind of a document, in bytes.
const KIND_LEN_MAX: usize = 64;
/// The longest key, in bytes.
const KEY_LEN_MAX: usize = 256;
/// The largest document, in bytes: what one request has room for, and a little less.
pub const CONTENT_LEN_MAX: usize = 3 << 20;

/// Which document, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Whose it is.
    pub kind: String,
    /// Its name among those of its kind.
    pub key: String,
    /// None: it goes.
    pub content: Option<Vec<u8>>,
}

/// A change, and what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Its line; with number 0 a new one. With a number and a result it is what came of that one. None: the
    /// document is written with the next line, or soon.
    pub line: Option<AuditLine>,
    pub document: Option<Document>,
}

impl Document {
    pub(in crate::wire) fn to_wire(&self) -> v1::Document {
        v1::Document { kind: self.kind.clone(), key: self.key.clone(), content: self.content.clone() }
    }

    pub(in crate::wire) fn from_wire(w: v1::Document) -> Result<Self, Error> {
        for (text, max) in [(&w.kind, KIND_LEN_MAX), (&w.key, KEY_LEN_MAX)] {
            if text.is_empty() || text.len() > max || text.contains(is_odd) {
                let e = format!("{} is not 1 to {max} bytes of printable characters", quoted(text));
                return Err(Error::usage(e));
            }
        }
        if w.content.as_ref().is_some_and(|content| content.len() > CONTENT_LEN_MAX) {
            return Err(Error::usage(format!("a document is at most {CONTENT_LEN_MAX} bytes")));
        }
        Ok(Self { kind: w.kind, key: w.key, content: w.content })
    }
}

impl Keep {
    pub(in crate::wire) fn to_wire(&self) -> v1::Keep {
        let document = self.document.as_ref().map(Document::to_wire);
        v1::Keep { line: self.line.as_ref().map(AuditLine::to_wire), document }
    }

    pub(in crate::wire) fn from_wire(w: v1::Keep) -> Result<Self, Error> {
        let line = w.line.map(AuditLine::from_wire);
        let texts = line.iter().flat_map(|line| [Some(&line.who), Some(&line.what), line.result.as_ref()]);
        for text in texts.flatten() {
            if text.is_empty() || text.len() > TEXT_LEN_MAX || text.contains(is_odd) {
                let e = format!("{} is not 1 to {TEXT_LEN_MAX} bytes of printable characters", quoted(text));
                return Err(Error::usage(e));
            }
        }
        Ok(Self { line, document: w.document.map(Document::from_wire).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Timestamp;

    fn keep(what: &str, key: &str, content: Option<Vec<u8>>) -> Keep {
        let line =
            AuditLine { seq: 0, at: Timestamp(1), who: "uid 0".into(), what: what.into(), result: None };
        let document = Document { kind: "entry".into(), key: key.into(), content };
        Keep { line: Some(line), document: Some(document) }
    }

    #[test]
    fn a_change_comes_back_and_what_is_no_line_is_refused() {
        let empty = keep("register x", "x", Some(Vec::new()));
        let (lone, bare) = (keep("x", "b", None), keep("x", "b", None));
        let (lone, bare) = (Keep { line: None, ..lone }, Keep { document: None, ..bare });
        for keep in [empty, keep("unregister x", "x", None), lone, bare] {
            assert_eq!(Keep::from_wire(keep.to_wire()), Ok(keep));
        }
        let too_large = Some(vec![0; CONTENT_LEN_MAX + 1]);
        for bad in
            [keep("", "x", None), keep("a\nb", "x", None), keep("a", "", None), keep("a", "x", too_large)]
        {
            assert!(Keep::from_wire(bad.to_wire()).is_err());
        }
    }
}
