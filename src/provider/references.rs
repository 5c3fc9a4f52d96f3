//! Secrets that a configuration only names: `{"$env": "NAME"}` and `{"$file": "PATH"}`. They are resolved
//! when a provider is given its configuration, and what they stand for is kept nowhere.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::sys::environ::{self, Environ};
use crate::sys::{files, system};
use crate::wire::error::Detail;

/// What a secret is named by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A variable that the service was started with; what `provost env` sets does not count.
    Variable(String),
    /// A file that only its owner may read, who is root or the service's user.
    File(PathBuf),
}

impl Reference {
    /// Reads a value that is nothing but a reference; none: it is something else.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        let map = value.as_object().filter(|map| map.len() == 1)?;
        let (key, name) = map.iter().next()?;
        let name = name.as_str()?;
        match key.as_str() {
            "$env" => Some(Self::Variable(name.to_owned())),
            "$file" => Some(Self::File(name.into())),
            _ => None,
        }
    }

    /// As it is written and shown.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Variable(name) => format!("$env:{name}"),
            Self::File(path) => format!("$file:{}", path.display()),
        }
    }

    /// Reads what [`Reference::text`] has written.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let name = |rest: &str| Some(rest.to_owned()).filter(|name| !name.is_empty());
        match (text.strip_prefix("$env:"), text.strip_prefix("$file:")) {
            (Some(rest), _) => name(rest).map(Self::Variable),
            (None, Some(rest)) => name(rest).map(|path| Self::File(path.into())),
            (None, None) => None,
        }
    }

    /// What it stands for; an error says why there is nothing, and never what it is.
    pub fn resolve(&self) -> Result<String, String> {
        match self {
            Self::Variable(name) => {
                let found = ServiceVariables::read()?.get(name);
                found.ok_or_else(|| format!("the variable {name} is not set"))
            }
            Self::File(path) => {
                files::password(path).map_err(|why| format!("the file {}: {why}", path.display()))
            }
        }
    }
}

/// The variables that the service was started with, as they were read once: all processes of the service's
/// own are the keeper's children.
pub struct ServiceVariables(Vec<u8>);

impl ServiceVariables {
    /// Reads them. That they cannot be read says nothing of what is set.
    pub fn read() -> Result<Self, String> {
        let keeper = system::parent_pid();
        let cannot = |e| format!("the variables of the service cannot be read: {e}");
        match environ::Reader::default().settle(keeper).map_err(cannot)? {
            Environ::Is(all) => Ok(Self(all.to_vec())),
            // Nobody is there any more, or we may not look: then this says why.
            Environ::Nothing | Environ::Hidden | Environ::Unsettled => {
                std::fs::read(format!("/proc/{keeper}/environ")).map_err(cannot).map(Self)
            }
        }
    }

    /// As the kernel shows them: each ended by NUL.
    #[cfg(test)]
    pub fn of(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// An empty one is none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let value = |pair: &'_ [u8]| {
            let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            String::from_utf8(value.to_vec()).ok()
        };
        self.0.split(|&byte| byte == 0).find_map(value).filter(|value| !value.is_empty())
    }
}

/// Replaces every reference in a configuration by what it stands for. Those that stand for nothing stay;
/// they come back with the reason.
pub fn replace_all(map: &mut Map<String, Value>) -> Vec<Detail> {
    let mut missing = Vec::new();
    map.iter_mut().for_each(|(key, value)| replace(value, &pointer("", key), &mut missing));
    missing
}

/// The JSON pointer of what has this key there.
fn pointer(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// All references in a configuration.
#[must_use]
pub fn all_in(map: &Map<String, Value>) -> Vec<Reference> {
    let mut all = Vec::new();
    map.values().for_each(|value| collect(value, &mut all));
    all
}

fn collect(value: &Value, all: &mut Vec<Reference>) {
    match value {
        Value::Object(_) if Reference::of(value).is_some() => all.extend(Reference::of(value)),
        Value::Object(map) => map.values().for_each(|value| collect(value, all)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replace(value: &mut Value, path: &str, missing: &mut Vec<Detail>) {
    if let Some(reference) = Reference::of(value) {
        match reference.resolve() {
            Ok(text) => *value = Value::String(text),
            Err(message) => missing.push(Detail { path: path.to_owned(), message }),
        }
        return;
    }
    match value {
        Value::Object(map) => {
            map.iter_mut().for_each(|(key, value)| replace(value, &pointer(path, key), missing));
        }
        Value::Array(list) => {
            let all = list.iter_mut().enumerate();
            all.for_each(|(at, value)| replace(value, &format!("{path}/{at}"), missing));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key");
        fs::write(&path, "sk-canary-123\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let replaced = |config: &Value| {
            let mut config = config.as_object().unwrap().clone();
            let missing = replace_all(&mut config);
            (Value::Object(config), missing)
        };
        let config =
            json!({ "api": [{ "key": { "$file": path } }], "n": 1, "other": { "$env": "A", "b": 1 } });
        let (found, missing) = replaced(&config);
        assert_eq!((&found["api"][0]["key"], missing.len()), (&json!("sk-canary-123"), 0));
        assert_eq!(found["other"], json!({ "$env": "A", "b": 1 }), "that is no reference");
        let bad = json!({ "a/b": [{ "$env": "PROVOST_NO_SUCH_VARIABLE" }], "c": { "$env": "PROVOST_NONE" } });
        let (found, missing) = replaced(&bad);
        let paths: Vec<_> = missing.iter().map(|detail| detail.path.as_str()).collect();
        assert_eq!((found, paths), (bad, vec!["/a~1b/0", "/c"]));
        assert!(missing[0].message.contains("PROVOST_NO_SUCH_VARIABLE is not set"), "{missing:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(replaced(&config).1.len(), 1, "others may read it");
    }

    #[test]
    fn a_reference_is_written_and_read_again() {
        for reference in [Reference::Variable("A".into()), Reference::File("/a b".into())] {
            assert_eq!(Reference::from_text(&reference.text()), Some(reference));
        }
        assert_eq!((Reference::from_text("$env:"), Reference::from_text("x")), (None, None));
    }
}
