//! A file of sections as Python's ConfigParser reads it for supervisord: `key = value` or `key: value`, lines
//! that go on further to the right, comments behind `;` or `#`, and `%(NAME)s` in values.

use std::collections::BTreeMap;

use crate::wire::error::Error;
use crate::wire::id::quoted;

/// A section with its keys, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub keys: Vec<(String, String)>,
}

impl Section {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

/// The widest that a value may be made, in characters.
const WIDTH_MAX: usize = 1000;
/// The section whose keys every other one has.
const DEFAULT: &str = "DEFAULT";
/// What begins a comment: at the begin of a line, or behind white space.
const COMMENTS: [char; 2] = [';', '#'];

/// All sections; one that comes twice has the keys of both, and later ones win.
pub fn sections(text: &str, file: &str) -> Result<Vec<Section>, Error> {
    let mut all: Vec<Section> = Vec::new();
    // The section that a line is in, and whether a key of it may go on.
    let (mut at, mut is_open) = (None, false);
    // How far the last key or section is indented: what is further to the right goes on with it.
    let mut indent = 0;
    for (n, line) in text.lines().enumerate() {
        let bad = |why: &str| Error::usage(format!("{file}, line {}: {why}", n + 1));
        let value = uncommented(line).trim();
        let last = at.filter(|_| is_open).and_then(|at: usize| all[at].keys.last_mut());
        if value.is_empty() {
            // An empty line is one of the value; a comment is not.
            if let Some((_, value)) = last.filter(|_| line.trim().is_empty()) {
                value.push('\n');
            }
            continue;
        }
        let own = line.chars().take_while(|c| c.is_whitespace()).count();
        if let Some((_, before)) = last.filter(|_| own > indent) {
            before.push('\n');
            before.push_str(value);
            continue;
        }
        indent = own;
        let header = value.strip_prefix('[').and_then(|rest| rest.rsplit_once(']'));
        if let Some((name, _)) = header.filter(|(name, _)| !name.is_empty()) {
            at = Some(all.iter().position(|section| section.name == name).unwrap_or_else(|| {
                all.push(Section { name: name.to_owned(), keys: Vec::new() });
                all.len() - 1
            }));
            is_open = false;
            continue;
        }
        let at = at.ok_or_else(|| bad("it stands before the first section"))?;
        let Some((key, value)) = value.split_once(['=', ':']) else {
            return Err(bad("it is neither a section nor 'key = value'"));
        };
        all[at].keys.push((key.trim().to_lowercase(), value.trim().to_owned()));
        is_open = true;
    }
    for (_, value) in all.iter_mut().flat_map(|section| &mut section.keys) {
        value.truncate(value.trim_end().len());
    }
    Ok(all)
}

/// Without `[DEFAULT]`, whose keys stand before all others of each section.
pub fn with_defaults(mut all: Vec<Section>) -> Vec<Section> {
    let Some(at) = all.iter().position(|section| section.name == DEFAULT) else { return all };
    let common = all.remove(at).keys;
    for section in &mut all {
        section.keys.splice(..0, common.iter().cloned());
    }
    all
}

/// Without a comment.
fn uncommented(line: &str) -> &str {
    let is_comment = |(at, c): &(usize, char)| {
        let before = &line[..*at];
        COMMENTS.contains(c) && (before.trim().is_empty() || before.ends_with(char::is_whitespace))
    };
    line.char_indices().find(is_comment).map_or(line, |(at, _)| &line[..at])
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Text(String),
    Number(i64),
}

pub type Names = BTreeMap<String, Meaning>;

/// Replaces `%(NAME)s`, `%(NAME)d`, `%(NAME)02d` and the like by what they stand for, and `%%` by `%`, as
/// Python's operator does.
pub fn expand(text: &str, names: &Names) -> Result<String, Error> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let bad = || Error::usage(format!("{} holds a '%' that stands for nothing", quoted(text)));
        let (name, after) = rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(bad)?;
        let end = after.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
        let meaning = names.get(name).ok_or_else(|| {
            Error::usage(format!("{} needs %({name})s, which is not known here", quoted(text)))
                .hint("variables of the environment are those of this command: set it, and try again")
        })?;
        let format = &after[..end];
        let width = format.trim_start_matches(['-', '0', '+', ' ', '#']);
        let flags = &format[..format.len() - width.len()];
        let width = if width.is_empty() { 0 } else { width.parse::<usize>().map_err(|_| bad())? };
        if width > WIDTH_MAX {
            return Err(bad());
        }
        let (value, is_number) = match (after.as_bytes()[end], meaning) {
            (b's', Meaning::Text(text)) => (text.clone(), false),
            (b's', Meaning::Number(n)) => (n.to_string(), false),
            (b'd' | b'i' | b'u', Meaning::Number(n)) => (n.to_string(), true),
            (b'x', Meaning::Number(n)) => (format!("{n:x}"), true),
            _ => return Err(bad()),
        };
        out.push_str(&match (flags.contains('-'), flags.contains('0') && is_number) {
            (true, _) => format!("{value:<width$}"),
            (false, true) => format!("{value:0>width$}"),
            (false, false) => format!("{value:>width$}"),
        });
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_as_python_reads_them() {
        let text =
            "; a comment\n[a]\nx = 1 ; one\ny: a;b\n# more\nz =\n  p,\n\tq # two\n\n[b]\nX=2#3\n[a]\nx=3\n";
        let all = sections(text, "f").unwrap();
        assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (all[0].get("x"), all[0].get("y"), all[0].get("z")),
            (Some("3"), Some("a;b"), Some("\np,\nq"))
        );
        assert_eq!(all[1].get("x"), Some("2#3"));
        assert!(sections("x = 1", "f").is_err() && sections("[a]\nx", "f").is_err());
    }

    #[test]
    fn what_is_indented_alike_is_one_key_beside_the_other() {
        let text = "[DEFAULT]\nd = 1\n[a]\n    x = 1\n    y = 2\n\n      3\n    ; no\n      4\n    z = 5\n";
        let all = with_defaults(sections(text, "f").unwrap());
        assert_eq!(all.len(), 1);
        let get = |key: &str| all[0].get(key).unwrap();
        assert_eq!([get("d"), get("x"), get("y"), get("z")], ["1", "1", "2\n\n3\n4", "5"]);
    }

    #[test]
    fn names_stand_for_values() {
        let names = Names::from([
            ("program_name".to_owned(), Meaning::Text("web".to_owned())),
            ("process_num".to_owned(), Meaning::Number(7)),
        ]);
        let expanded = |text: &str| expand(text, &names);
        assert_eq!(expanded("%(program_name)s_%(process_num)02d 50%%"), Ok("web_07 50%".into()));
        assert_eq!(expanded("%(process_num)d%(process_num)3d%(process_num)-3s|"), Ok("7  77  |".into()));
        for bad in [
            "%(nobody)s",
            "%x",
            "%(process_num",
            "%(process_num)",
            "%(program_name)d",
            "%(process_num)99999d",
        ] {
            assert!(expanded(bad).is_err(), "{bad}");
        }
    }
}
