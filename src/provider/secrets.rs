//! Secrets of a configuration do not go into errors: a provider may have printed them. They are what has a
//! name that says so, what it refers to, and what its schemas call `writeOnly`. They are looked for before
//! anything is cut: half of one would not be found.

use std::ops::Range;

use serde_json::{Map, Value};

use crate::provider::references;
use crate::schema;
use crate::sdk::value;
use crate::wire::provider::Definition;

/// What a key contains whose value is a secret.
const SECRET_KEYS: [&str; 6] = ["pass", "secret", "token", "key", "credential", "auth"];
/// Shorter texts are too common to be hidden wherever they stand.
const LEN_MIN: usize = 4;
/// What stands for one.
const HIDDEN: &[u8] = b"[hidden]";

/// The text without the secrets of this definition's configuration.
pub fn redact(text: &str, definition: &Definition) -> String {
    tail(text.as_bytes(), 0, text.len(), definition)
}

/// The same of the end of a text: what comes after `from`, and of that at most the last `len_max` bytes.
pub fn tail(text: &[u8], from: usize, len_max: usize, definition: &Definition) -> String {
    if text.len() <= from {
        return String::new();
    }
    let mut at = from.max(text.len().saturating_sub(len_max));
    let secrets = secrets(definition);
    // None that begins before this reaches what is shown.
    let first = at.saturating_sub(secrets.iter().map(String::len).max().unwrap_or_default());
    let mut shown = Vec::new();
    for hidden in hidden(&text[first..], &secrets) {
        let hidden = first + hidden.start..first + hidden.end;
        if hidden.end <= at {
            continue;
        }
        shown.extend_from_slice(&text[at.min(hidden.start)..hidden.start]);
        shown.extend_from_slice(HIDDEN);
        at = hidden.end;
    }
    shown.extend_from_slice(&text[at..]);
    String::from_utf8_lossy(&shown).into_owned()
}

/// Where secrets stand, from the first to the last; two that overlap are one.
fn hidden(text: &[u8], secrets: &[String]) -> Vec<Range<usize>> {
    let places = |secret: &String| {
        let (secret, len) = (secret.clone().into_bytes(), secret.len());
        let found = text.windows(len).enumerate().filter(move |(_, window)| *window == secret);
        found.map(move |(at, _)| at..at + len)
    };
    let mut all: Vec<_> = secrets.iter().flat_map(places).collect();
    all.sort_by_key(|place| place.start);
    all.dedup_by(|next, place| {
        let overlaps = next.start < place.end;
        if overlaps {
            place.end = place.end.max(next.end);
        }
        overlaps
    });
    all
}

fn secrets(definition: &Definition) -> Vec<String> {
    let mut secrets = Vec::new();
    if let Ok(config) = value::decode(&definition.config) {
        let config = value::to_json(config);
        let referred = references::all_in(&config).into_iter().filter_map(|r| r.resolve().ok());
        secrets.extend(referred.filter(|secret| secret.len() >= LEN_MIN));
        collect_map(&config, false, &mut secrets);
        secrets.extend(of_schemas(definition, config).into_iter().filter(|secret| secret.len() >= LEN_MIN));
    }
    secrets
}

/// Whether the configuration has a secret in itself, and not only the name of one.
pub fn are_within(definition: &Definition) -> bool {
    let Ok(config) = value::decode(&definition.config) else { return false };
    let config = value::to_json(config);
    let mut named = Vec::new();
    collect_map(&config, false, &mut named);
    let referred: Vec<_> = references::all_in(&config).into_iter().filter_map(|r| r.resolve().ok()).collect();
    !named.is_empty() || of_schemas(definition, config).iter().any(|secret| !referred.contains(secret))
}

/// What the schemas call so, with what it refers to.
fn of_schemas(definition: &Definition, mut config: Map<String, Value>) -> Vec<String> {
    if definition.schemas.is_empty() {
        return Vec::new();
    }
    let missing = references::replace_all(&mut config);
    let mut config = Value::Object(config);
    // Their names are no secrets.
    missing.iter().filter_map(|of| config.pointer_mut(&of.path).map(Value::take)).for_each(drop);
    definition.schemas.iter().flat_map(|text| schema::secrets(text, &config)).collect()
}

fn collect_map(map: &Map<String, Value>, is_secret: bool, secrets: &mut Vec<String>) {
    for (key, value) in map {
        let key = key.to_ascii_lowercase();
        collect(value, is_secret || SECRET_KEYS.iter().any(|k| key.contains(k)), secrets);
    }
}

/// `is_secret`: it stands below a key that says so.
fn collect(value: &Value, is_secret: bool, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) if is_secret && text.len() >= LEN_MIN => secrets.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| collect(value, is_secret, secrets)),
        // What it names was collected; the name is none.
        Value::Object(_) if references::Reference::of(value).is_some() => {}
        Value::Object(map) => collect_map(map, is_secret, secrets),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use serde_json::json;

    fn of(config: &Value) -> Definition {
        let config = value::to_struct(config.as_object().unwrap().clone()).unwrap().encode_to_vec();
        Definition { config, ..Definition::default() }
    }

    #[test]
    fn what_is_secret_is_hidden_wherever_it_stands() {
        let config = json!({
            "db": { "Password": "hunter2", "host": "db1" }, "api_token": "hunter2-long", "key": "ab",
            "list": [{ "secret": "in-a-list" }, "plain"], "tokens": ["first", ["second"]],
            "auth": { "basic": "user:pw" },
        });
        let definition = of(&config);
        let redacted = |said: &str| redact(said, &definition);
        assert_eq!(
            redacted("cannot log in to db1 as hunter2 (hunter2-long), ab"),
            "cannot log in to db1 as [hidden] ([hidden]), ab"
        );
        assert_eq!(
            redacted("in-a-list plain first second user:pw"),
            "[hidden] plain [hidden] [hidden] [hidden]"
        );
        let bad = Definition { config: vec![0xff], ..Definition::default() };
        assert_eq!(redact("hunter2", &bad), "hunter2");
        assert_eq!(redact("", &definition), "");
    }

    #[test]
    fn what_a_schema_calls_write_only_is_secret() {
        let schema = json!({
            "$defs": { "pin": { "writeOnly": true, "type": "integer" } },
            "properties": {
                "dsn": { "writeOnly": true },
                "pins": { "items": { "$ref": "#/$defs/pin" } },
                "host": { "anyOf": [{ "type": "string" }, { "type": "null", "writeOnly": false }] },
            },
        });
        let config = json!({
            "dsn": "db://u:p@h", "pins": [4711, 12345], "host": "localhost",
            "other": { "dsn": "db://other" },
        });
        let definition = Definition { schemas: vec![schema.to_string()], ..of(&config) };
        let said = "db://u:p@h 4711 12345 localhost db://other";
        assert_eq!(redact(said, &definition), "[hidden] [hidden] [hidden] localhost db://other");
        // A schema that is too much hides everything.
        let bomb = Definition { schemas: vec![json!({ "$ref": "#" }).to_string()], ..of(&config) };
        assert_eq!(redact(said, &bomb), "[hidden] [hidden] [hidden] [hidden] [hidden]");
    }

    #[test]
    fn nothing_of_a_secret_is_left_where_a_text_is_cut() {
        let definition = of(&json!({ "password": "hunter2" }));
        let shown = |from, len_max| tail(b"as hunter2, hunter2 x", from, len_max, &definition);
        assert_eq!(shown(0, 100), "as [hidden], [hidden] x");
        assert_eq!(shown(0, 13), "[hidden], [hidden] x");
        assert_eq!(shown(0, 3), "[hidden] x");
        assert_eq!(shown(0, 2), " x");
        assert_eq!(shown(5, 100), "[hidden], [hidden] x");
        assert_eq!(shown(15, 100), "[hidden] x");
        assert_eq!(shown(21, 100), "");
        assert_eq!(tail(b"\xff hunter2", 0, 100, &definition), "\u{fffd} [hidden]");
    }
}
