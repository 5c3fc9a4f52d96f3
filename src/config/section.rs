//! A table of the configuration file, read key by key: each value is checked where it is asked for, and what
//! is not asked for is unknown. Every refusal says where it is: file, line and column.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::path::Path;
#[cfg(feature = "gateway")]
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::hints;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::secrets::is_secret;
use crate::wire::values::{self, duration_text, size_text};

/// What is taken for a span of time.
const DURATION: &str = "a duration, as \"500ms\", \"10s\", \"2m\", \"1h\" or \"30d\"";
/// What is taken for a number of bytes.
const SIZE: &str = "a size, as \"64 KiB\", \"10 MiB\" or \"1 GiB\"";
/// The most of a line that is shown of it, in characters.
const EXCERPT_LEN_MAX: usize = 96;

/// The file that is read, for messages.
pub struct Source<'a> {
    pub path: &'a Path,
    /// What is in it.
    pub text: &'a str,
}

impl Source<'_> {
    /// An error at this byte.
    pub fn error(&self, at: usize, message: &str) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = self.line(at);
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let path = quoted(&self.path.to_string_lossy());
        Error::usage(format!("{path}, line {line}, column {column}: {message}"))
            .excerpt(self.excerpt(line, column))
    }

    /// The line with a mark below the column. One that may hold a secret is not shown: what is said of an
    /// error goes into logs.
    fn excerpt(&self, line: usize, column: usize) -> String {
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        if text.trim().is_empty() || is_secret(text) {
            return String::new();
        }
        let skipped = (column - 1).saturating_sub(EXCERPT_LEN_MAX / 2);
        // Each takes one column, so that the mark stands where it should.
        let shown: String = (text.chars().skip(skipped).take(EXCERPT_LEN_MAX))
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let (number, ellipsis) = (line.to_string(), if skipped > 0 { "…" } else { "" });
        let (margin, before) =
            (" ".repeat(number.len()), " ".repeat(ellipsis.chars().count() + column - 1 - skipped));
        format!("{number} | {ellipsis}{}\n{margin} | {before}^", shown.trim_end())
    }

    /// The line that this byte is in, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1
    }

    /// An error about a value of this file.
    pub fn bad<T>(&self, value: &At<T>, message: &str) -> Error {
        self.error(value.at, message)
    }
}

/// A value, and where it stands.
#[derive(Debug)]
pub struct At<T> {
    pub value: T,
    at: usize,
}

/// A table of the file.
pub struct Section<'a> {
    source: &'a Source<'a>,
    /// As it is called in messages, as `[history]`; empty for the top of the file.
    title: String,
    at: usize,
    table: DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// A table that was read from here.
    pub fn new(source: &'a Source<'a>, title: String, at: usize, table: DeTable<'a>) -> Self {
        Self { source, title, at, table, known: Vec::new() }
    }

    /// An error about a value of this section.
    pub fn bad<T>(&self, value: &At<T>, message: &str) -> Error {
        self.source.bad(value, message)
    }

    /// Where it stands: file, line and column.
    pub fn place(&self) -> String {
        self.error("").message.trim_end_matches(": ").to_owned()
    }

    /// An error about the section as a whole.
    pub fn error(&self, message: &str) -> Error {
        self.source.error(self.at, message)
    }

    pub fn source(&self) -> &'a Source<'a> {
        self.source
    }

    /// As it is called in messages.
    pub fn title(&self) -> &str {
        &self.title
    }

    fn take(&mut self, key: &'static str) -> Option<At<DeValue<'a>>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        Some(At { at: value.span().start, value: value.into_inner() })
    }

    fn of_kind(&self, key: &str, value: &At<DeValue<'_>>, kind: &str) -> Error {
        let e = self.bad(value, &format!("'{key}' takes {kind}, not {}", a(value.value.type_str())));
        match hints::value(key, kind, &json_value(value.value.clone())) {
            // Which unit is meant, a number does not tell: days are kept, seconds are waited for.
            Some(hint) if kind != DURATION => e.hint(hint),
            Some(_) | None => e,
        }
    }

    pub fn text(&mut self, key: &'static str) -> Result<Option<At<Cow<'a, str>>>, Error> {
        self.text_of(key, "a string")
    }

    /// Text that stands for this kind of value.
    fn text_of(&mut self, key: &'static str, kind: &str) -> Result<Option<At<Cow<'a, str>>>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(At { value: DeValue::String(value), at }) => Ok(Some(At { value, at })),
            Some(other) => Err(self.of_kind(key, &other, kind)),
        }
    }

    /// Text that must be there.
    pub fn required(&mut self, key: &'static str) -> Result<At<Cow<'a, str>>, Error> {
        let text = self.text(key)?;
        text.ok_or_else(|| self.lacks(key))
    }

    /// The error that this key has to be there.
    pub fn lacks(&self, key: &str) -> Error {
        let what = if self.title.is_empty() { "the file" } else { &self.title };
        let there: Vec<_> = self.table.keys().map(|key| key.get_ref().to_string()).collect();
        let near = hints::instead_of(key, &there);
        let near = near.map(|near| format!("; did you mean that by {}?", quoted(&near)));
        let e = self.error(&format!("{what} needs '{key}'{}", near.unwrap_or_default()));
        match hints::example(key) {
            Some(example) => e.hint(format!("write {example}")),
            None => e,
        }
    }

    /// A path; one that is not absolute begins where the file is.
    #[cfg(feature = "gateway")]
    pub fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, Error> {
        Ok(self.path_or(key, None)?.flatten())
    }

    /// The same, but for a word that says that there is none: `Some(None)`.
    #[cfg(feature = "gateway")]
    pub fn path_or(
        &mut self,
        key: &'static str,
        none: Option<&str>,
    ) -> Result<Option<Option<PathBuf>>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if text.value.is_empty() || text.value.contains('\0') {
            return Err(self.bad(&text, &format!("'{key}' is a path, not {}", quoted(&text.value))));
        }
        let dir = self.source.path.parent().unwrap_or(Path::new(""));
        Ok(Some((none != Some(&*text.value)).then(|| dir.join(&*text.value))))
    }

    /// One of these words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, of: &[(&str, T)]) -> Result<Option<T>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let found = of.iter().find(|(name, _)| *name == text.value);
        let allowed: Vec<_> = of.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let refusal = || format!("'{key}' is one of {}, not {}", allowed.join(", "), quoted(&text.value));
        Ok(Some(found.ok_or_else(|| self.bad(&text, &refusal()))?.1))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(At { value: DeValue::Boolean(value), .. }) => Ok(Some(value)),
            Some(other) => Err(self.of_kind(key, &other, "true or false")),
        }
    }

    /// A whole number in this range.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let DeValue::Integer(number) = &value.value else {
            return Err(self.of_kind(key, &value, "a whole number"));
        };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        let refusal = || format!("'{key}' is a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| self.bad(&value, &refusal()))
    }

    /// A size in bytes, in this range.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        let Some(text) = self.text_of(key, SIZE)? else { return Ok(None) };
        let size = values::size(&text.value).ok_or_else(|| self.bad(&text, &format!("'{key}' is {SIZE}")))?;
        let refusal =
            || format!("'{key}' is from {} to {}", size_text(*range.start()), size_text(*range.end()));
        if range.contains(&size) { Ok(Some(size)) } else { Err(self.bad(&text, &refusal())) }
    }

    /// A span of time in this range.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Error> {
        let Some(text) = self.text_of(key, DURATION)? else { return Ok(None) };
        // A number without a unit is taken on the command line, where it is at once seen what it does.
        let value = values::duration(&text.value).filter(|_| text.value.ends_with(char::is_alphabetic));
        let value = value.ok_or_else(|| self.bad(&text, &format!("'{key}' is {DURATION}")))?;
        let refusal = || {
            format!("'{key}' is from {} to {}", duration_text(*range.start()), duration_text(*range.end()))
        };
        if range.contains(&value) { Ok(Some(value)) } else { Err(self.bad(&text, &refusal())) }
    }

    /// Yes or no.
    #[cfg(feature = "gateway")]
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(At { value: DeValue::Boolean(is), .. }) => Ok(Some(is)),
            Some(other) => Err(self.of_kind(key, &other, "true or false")),
        }
    }

    /// A list of texts.
    #[cfg(feature = "gateway")]
    pub fn texts_of(&mut self, key: &'static str) -> Result<Option<Texts<'a>>, Error> {
        self.take(key).map(|value| self.list(key, value)).transpose()
    }

    /// All keys, whatever they are, each of which is a list of texts.
    #[cfg(feature = "gateway")]
    pub fn lists(mut self) -> Result<Vec<(At<String>, Texts<'a>)>, Error> {
        let table = std::mem::take(&mut self.table);
        let one = |(key, value): (At<String>, _)| {
            let list = self.list(&key.value, value)?;
            Ok((key, list))
        };
        entries(table).map(one).collect()
    }

    #[cfg(feature = "gateway")]
    fn list(&self, key: &str, value: At<DeValue<'a>>) -> Result<Texts<'a>, Error> {
        let kind = "a list of strings";
        let At { value: DeValue::Array(list), .. } = value else {
            return Err(self.of_kind(key, &value, kind));
        };
        let one = |entry: Spanned<DeValue<'a>>| {
            let at = entry.span().start;
            match entry.into_inner() {
                DeValue::String(value) => Ok(At { value, at }),
                other => Err(self.of_kind(key, &At { value: other, at }, kind)),
            }
        };
        list.into_iter().map(one).collect()
    }

    /// Whatever it is.
    pub fn value(&mut self, key: &'static str) -> Option<At<Value>> {
        let At { value, at } = self.take(key)?;
        Some(At { value: json_value(value), at })
    }

    /// A table with whatever is in it.
    #[cfg(feature = "gateway")]
    pub fn json(&mut self, key: &'static str) -> Result<Option<Map<String, Value>>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(At { value: DeValue::Table(table), .. }) => Ok(Some(json_map(table))),
            Some(other) => Err(self.of_kind(key, &other, "a table")),
        }
    }

    /// A table in this one.
    pub fn section(&mut self, key: &'static str) -> Result<Option<Self>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(At { value: DeValue::Table(table), at }) => {
                let title = match self.title.strip_suffix(']') {
                    Some(outer) => format!("{outer}.{key}]"),
                    None => format!("[{key}]"),
                };
                Ok(Some(Self::new(self.source, title, at, table)))
            }
            Some(other) => Err(self.of_kind(key, &other, &format!("a table, written [{key}]"))),
        }
    }

    /// A list of tables in this one.
    pub fn sections(&mut self, key: &'static str, max: usize) -> Result<Vec<Self>, Error> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let kind = format!("a list of tables, each written [[{key}]]");
        let At { value: DeValue::Array(list), at } = value else {
            return Err(self.of_kind(key, &value, &kind));
        };
        if list.len() > max {
            return Err(self
                .source
                .error(at, &format!("there are {} [[{key}]], at most {max} can be", list.len())));
        }
        let one = |entry: Spanned<DeValue<'a>>| {
            let at = entry.span().start;
            match entry.into_inner() {
                DeValue::Table(table) => Ok(Self::new(self.source, format!("[[{key}]]"), at, table)),
                other => Err(self.of_kind(key, &At { value: other, at }, &kind)),
            }
        };
        list.into_iter().map(one).collect()
    }

    /// All keys, whatever they are, with the text of each.
    pub fn texts(mut self) -> Result<Vec<Text<'a>>, Error> {
        let table = std::mem::take(&mut self.table);
        let one = |(key, value): (At<String>, _)| match value {
            At { value: DeValue::String(value), at } => Ok((key, At { value, at })),
            other => Err(self.of_kind(&key.value, &other, "a string")),
        };
        entries(table).map(one).collect()
    }

    /// All keys, whatever they are, each of which is a table.
    pub fn tables(mut self) -> Result<Vec<(At<String>, Self)>, Error> {
        let (table, outer) = (std::mem::take(&mut self.table), self.title.trim_end_matches(']'));
        let one = |(key, value): (At<String>, _)| {
            let title = format!("{outer}.{}]", key.value);
            match value {
                At { value: DeValue::Table(table), at } => {
                    Ok((key, Self::new(self.source, title, at, table)))
                }
                other => Err(self.of_kind(&key.value, &other, &format!("a table, written {title}"))),
            }
        };
        entries(table).map(one).collect()
    }

    /// Refuses the keys that were not asked for.
    pub fn finish(self) -> Result<(), Error> {
        // The first of them in the file.
        let first = self.table.iter().min_by_key(|(key, _)| key.span().start);
        let Some((key, value)) = first else { return Ok(()) };
        let section = if self.title.is_empty() { String::new() } else { format!(" in {}", self.title) };
        let (name, at) = (key.get_ref(), key.span().start);
        let error = self.source.error(at, &format!("unknown key {}{section}", quoted(name)));
        Err(error.hint(match value.get_ref() {
            DeValue::Table(_) => hints::table(name, &self.title, &self.known),
            _ => hints::key(name, &self.known),
        }))
    }
}

/// In the order of the file.
fn json_map(table: DeTable<'_>) -> Map<String, Value> {
    let mut all: Vec<_> = table.into_iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all.into_iter()
        .map(|(key, value)| (key.into_inner().into_owned(), json_value(value.into_inner())))
        .collect()
}

/// Dates are texts, as they are written.
pub fn json_value(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.into_owned().into(),
        DeValue::Boolean(is) => is.into(),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(all) => all.into_iter().map(|value| json_value(value.into_inner())).collect(),
        DeValue::Table(table) => json_map(table).into(),
    }
}

/// A key that stands for itself, and its text.
pub type Text<'a> = (At<String>, At<Cow<'a, str>>);

/// A list of texts.
#[cfg(feature = "gateway")]
pub type Texts<'a> = Vec<At<Cow<'a, str>>>;

/// In the order of the file.
fn entries(table: DeTable<'_>) -> impl Iterator<Item = (At<String>, At<DeValue<'_>>)> {
    let mut all: Vec<_> = table.into_iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all.into_iter().map(|(key, value)| {
        let name = At { at: key.span().start, value: key.into_inner().into_owned() };
        (name, At { at: value.span().start, value: value.into_inner() })
    })
}

fn a(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_below_what_is_wrong() {
        let excerpt = |text: &str, at: usize| {
            let source = Source { path: Path::new("f"), text };
            source.error(at, "bad").marked().to_owned()
        };
        assert_eq!(excerpt("a = 1\n\tb = 2\n", 7), "2 |  b = 2\n  |  ^");
        assert_eq!(excerpt("ä = x", 5), "1 | ä = x\n  |     ^");
        // At the end of the text, and of a line that is longer than is shown.
        assert_eq!(excerpt("a =", 3), "1 | a =\n  |    ^");
        let long = format!("a = '{}' x", "y".repeat(200));
        let [line, mark] = [0, 1].map(|n| excerpt(&long, long.len() - 1).lines().nth(n).unwrap().to_owned());
        assert_eq!(line.chars().count(), mark.chars().count());
        assert!(line.ends_with("yy' x") && line.contains("| …y"), "{line}");
        for secret in ["API_KEY = 3", "env = { DB_PASSWORD = 'x', 3 }", ""] {
            assert_eq!(excerpt(secret, 0), "", "{secret}");
        }
    }
}
