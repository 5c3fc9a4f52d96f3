//! A file of sections as Python's ConfigParser reads it for supervisord: `key = value` or `key: value`, lines
//! that go on behind white space, comments behind `;` or `#`, and `%(NAME)s` in values.

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

/// All sections; one that comes twice has the keys of both, and later ones win.
pub fn sections(text: &str, file: &str) -> Result<Vec<Section>, Error> {
    let mut all: Vec<Section> = Vec::new();
    let mut at = None;
    for (n, line) in text.lines().enumerate() {
        let bad = |why: &str| Error::usage(format!("{file}, line {}: {why}", n + 1));
        let stripped = line.trim();
        if stripped.is_empty() || stripped.starts_with([';', '#']) {
            continue;
        }
        let value_of = |text: &str| uncommented(text).trim().to_owned();
        if line.starts_with([' ', '\t'])
            && let Some((_, value)) = at.and_then(|at: usize| all[at].keys.last_mut())
        {
            value.push('\n');
            value.push_str(&value_of(stripped));
            continue;
        }
        if let Some(rest) = stripped.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default().to_owned();
            at = Some(all.iter().position(|section| section.name == name).unwrap_or_else(|| {
                all.push(Section { name, keys: Vec::new() });
                all.len() - 1
            }));
            continue;
        }
        let Some((key, value)) = stripped.split_once(['=', ':']) else {
            return Err(bad("it is neither a section nor 'key = value'"));
        };
        let at = at.ok_or_else(|| bad("it stands before the first section"))?;
        all[at].keys.push((key.trim().to_ascii_lowercase(), value_of(value)));
    }
    Ok(all)
}

/// Without a comment: that begins with ` ;`.
fn uncommented(text: &str) -> &str {
    let is_comment =
        |(at, c): &(usize, char)| *c == ';' && text[..*at].ends_with(|before: char| before.is_whitespace());
    text.char_indices().find(is_comment).map_or(text, |(at, _)| &text[..at])
}

/// Replaces `%(NAME)s`, `%(NAME)d` and `%(NAME)02d` by what they stand for, and `%%` by `%`.
pub fn expand(text: &str, names: &BTreeMap<String, String>) -> Result<String, Error> {
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
        let value = names.get(name).ok_or_else(|| {
            Error::usage(format!("{} needs %({name})s, which is not known here", quoted(text)))
                .hint("variables of the environment are those of this command: set it, and try again")
        })?;
        let width = after[..end].trim_start_matches('0').parse::<usize>().unwrap_or(0);
        match after.as_bytes()[end] {
            b's' => out.push_str(value),
            b'd' if after.starts_with('0') => out.push_str(&format!("{value:0>width$}")),
            b'd' => out.push_str(&format!("{value:>width$}")),
            _ => return Err(bad()),
        }
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
            "; a comment\n[a]\nx = 1 ; one\ny: a;b\n# more\nz =\n  p,\n\tq ; two\n\n[b]\nX=2\n[a]\nx=3\n";
        let all = sections(text, "f").unwrap();
        assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (all[0].get("x"), all[0].get("y"), all[0].get("z")),
            (Some("3"), Some("a;b"), Some("\np,\nq"))
        );
        assert_eq!(all[1].get("x"), Some("2"));
        assert!(sections("x = 1", "f").is_err() && sections("[a]\nx", "f").is_err());
    }

    #[test]
    fn names_stand_for_values() {
        let names = [("program_name", "web"), ("process_num", "7")];
        let names = names.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let expanded = |text: &str| expand(text, &names);
        assert_eq!(expanded("%(program_name)s_%(process_num)02d 50%%"), Ok("web_07 50%".into()));
        assert_eq!(expanded("%(process_num)d%(process_num)3d"), Ok("7  7".into()));
        for bad in ["%(nobody)s", "%x", "%(process_num", "%(process_num)"] {
            assert!(expanded(bad).is_err(), "{bad}");
        }
    }
}
