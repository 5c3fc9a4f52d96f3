//! Every value of a configuration, and where it comes from: a line of a file, `[defaults]`, or nowhere, and
//! then the reference says what holds. What stands in the files is taken as it is: whether it can be is for
//! who reads it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::config::declared;
use crate::config::file::{parsed, text};
use crate::config::reference::{ANY, LIST, Setting, settings};
use crate::config::section::{Source, json_value};
use crate::wire::error::Error;
use crate::wire::secrets;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing is said: the value is a sentence of the reference.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
}

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The section as it is written, without brackets: `history`, `process.web`, `sink.1`; empty at the top.
    pub section: String,
    pub key: String,
    pub value: Value,
    pub origin: Origin,
    /// Of the value as it stands there, also where that is hidden.
    pub digest: u64,
}

/// Something that a file says.
struct Given {
    /// As in [`Setting`], with names and numbers in place of [`ANY`] and [`LIST`].
    section: Vec<String>,
    pattern: Vec<String>,
    key: String,
    value: Value,
    origin: Origin,
}

/// All values of this file and those beside it, section by section; without a file, what holds then.
pub fn shown(path: Option<&Path>) -> Result<Vec<Shown>, Error> {
    let known = settings();
    let sections: BTreeSet<Vec<String>> = known.iter().map(|setting| setting.path.clone()).collect();
    let mut given = Vec::new();
    for file in path.map(declared::files).transpose()?.unwrap_or_default() {
        let text = text(&file)?;
        let source = Source { path: &file, text: &text };
        let table = parsed(&source)?;
        walk(&source, &sections, (&[], &[]), table, &mut given);
    }
    let mut places: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    let always = known.iter().filter(|setting| is_always_there(&setting.path));
    let always = always.map(|setting| (setting.path.clone(), setting.path.clone()));
    let said = given.iter().map(|one| (one.section.clone(), one.pattern.clone()));
    for place in always.chain(said) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    // As in the reference, and in each kind of section as in the files.
    places.sort_by_key(|(_, pattern)| known.iter().position(|setting| setting.path == *pattern));
    Ok(places.iter().flat_map(|(section, pattern)| rows(section, pattern, &known, &given)).collect())
}

/// Whether it holds though nobody wrote it.
fn is_always_there(path: &[String]) -> bool {
    let is_optional = path.first().is_some_and(|first| ["grpc", "defaults"].contains(&first.as_str()));
    !is_optional && !path.iter().any(|part| part == ANY || part.ends_with(LIST))
}

fn rows(section: &[String], pattern: &[String], known: &[Setting], given: &[Given]) -> Vec<Shown> {
    let own = |key: &str| given.iter().rev().find(|one| one.section == *section && one.key == key);
    let common = |key: &str| given.iter().rev().find(|one| one.pattern == ["defaults"] && one.key == key);
    let kind = own("kind").and_then(|kind| kind.value.as_str());
    let mut rows = Vec::new();
    let row = |key: &str, value, origin, digest| Shown {
        section: section.join("."),
        key: key.to_owned(),
        value,
        origin,
        digest,
    };
    let said = |one: &Given| row(&one.key, hidden(one), one.origin.clone(), digest(&one.value));
    for setting in known.iter().filter(|setting| setting.path == pattern && setting.key != ANY) {
        if setting.variant.as_deref().is_some_and(|variant| kind != Some(variant)) {
            continue;
        }
        let is_process = pattern == ["process", ANY];
        match own(&setting.key).or_else(|| common(&setting.key).filter(|_| is_process)) {
            Some(one) => rows.push(said(one)),
            // What is said for all is shown where it holds.
            None if pattern == ["defaults"] => {}
            None => rows.push(row(&setting.key, setting.default_text().into(), Origin::Default, 0)),
        }
    }
    let is_known = |key: &str| rows.iter().any(|row| row.key == key);
    let others: Vec<_> = given.iter().filter(|one| one.section == *section && !is_known(&one.key)).collect();
    rows.extend(others.into_iter().map(said));
    rows
}

fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Without what is not for everybody's eyes.
fn hidden(given: &Given) -> Value {
    fn cover(value: &mut Value, is_secret: bool) {
        match value {
            Value::Object(table) => {
                table.iter_mut().for_each(|(key, value)| cover(value, is_secret || secrets::is_secret(key)));
            }
            Value::Array(list) => {
                for value in list {
                    let name = value.as_str().and_then(|text| Some(text.split_once('=')?.0.to_owned()));
                    match name.filter(|name| secrets::is_secret(name)) {
                        Some(name) => *value = format!("{name}={}", secrets::HIDDEN).into(),
                        None => cover(value, is_secret),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) if is_secret => {
                *value = secrets::HIDDEN.into();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut value = given.value.clone();
    let is_secret = match given.pattern.last().map(String::as_str) {
        Some("demo_users") => true,
        Some("environment") => secrets::is_secret(&given.key),
        Some(_) | None => false,
    };
    cover(&mut value, is_secret);
    value
}

/// Takes a table apart into what its keys say, as deep as there are sections.
fn walk(
    source: &Source<'_>,
    sections: &BTreeSet<Vec<String>>,
    (section, pattern): (&[String], &[String]),
    table: DeTable<'_>,
    given: &mut Vec<Given>,
) {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let is_known = |path: &[String]| sections.iter().any(|known| known.starts_with(path));
    let with = |path: &[String], part: &str| [path, &[part.to_owned()]].concat();
    for (key, value) in entries {
        let at = key.span().start;
        let name = key.into_inner().into_owned();
        let list = with(pattern, &format!("{name}{LIST}"));
        let below = [with(pattern, &name), with(pattern, ANY)].into_iter().find(|path| is_known(path));
        match (value.into_inner(), below) {
            (DeValue::Table(table), Some(below)) => {
                walk(source, sections, (&with(section, &name), &below), table, given);
            }
            (DeValue::Array(tables), _) if is_known(&list) => {
                for (n, table) in tables.into_iter().enumerate() {
                    let place = with(&with(section, &name), &(n + 1).to_string());
                    if let DeValue::Table(table) = table.into_inner() {
                        walk(source, sections, (&place, &list), table, given);
                    }
                }
            }
            (value, _) => given.push(Given {
                section: section.to_vec(),
                pattern: pattern.to_vec(),
                key: name,
                value: json_value(value),
                origin: Origin::File { path: source.path.to_owned(), line: source.line(at) },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_value_is_shown_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provost.toml");
        let text = "orphans = \"adopt\"\n[defaults]\nnice = 3\nenv = { A = \"1\" }\n[process.web]\n\
                    command = [\"sleep\", \"1\"]\nenv = { API_KEY = \"x\" }\n[[sink]]\nkind = \"jsonl\"\npath = \"/a\"\n\
                    [grpc.demo_users]\nann = \"hash\"\n[process.web.limits]\nnofile = \"64\"\n";
        fs::write(&path, text).unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        fs::write(dir.path().join("conf.d/b.toml"), "\n[process.b]\ncommand = [\"b\"]\n").unwrap();
        let all = shown(Some(&path)).unwrap();
        let find = |section: &str, key: &str| {
            let mut found = all.iter().filter(|row| row.section == section && row.key == key);
            let row = found.next().unwrap_or_else(|| panic!("{section} {key}"));
            assert!(found.next().is_none(), "{section} {key} twice");
            let line = if let Origin::File { line, .. } = row.origin { line } else { 0 };
            (row.value.to_string(), line)
        };
        let is = |value: &str, line| (value.to_owned(), line);
        assert_eq!(find("", "orphans"), is("\"adopt\"", 1));
        assert_eq!(find("process.web", "nice"), is("3", 3));
        assert_eq!(find("process.web", "env"), is("{\"API_KEY\":\"***\"}", 7));
        assert_eq!(find("process.web", "limits"), is("{\"nofile\":\"64\"}", 13));
        assert_eq!(find("process.b", "command"), is("[\"b\"]", 3));
        assert_eq!(find("history", "keep"), is("\"\\\"30d\\\"\"", 0));
        assert_eq!(find("sink.1", "path"), is("\"/a\"", 10));
        assert_eq!(find("grpc.demo_users", "ann"), is("\"***\"", 12));
        assert!(all.iter().all(|row| row.key != "index"), "that is of another kind of sink");
        assert!(shown(None).unwrap().iter().all(|row| row.origin == Origin::Default));
    }
}
