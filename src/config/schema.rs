//! The JSON Schema of a configuration file, for editors: `packaging/provost.schema.json`. Made of the same
//! table as the reference. It knows kinds and ranges of values; what only the service can tell, as whether a
//! user exists, it leaves to that.

use serde_json::{Map, Value, json};

use crate::config::reference::{ANY, LIST, Setting, settings};

/// How durations and sizes are written.
const DURATION: &str = "^([0-9.]+(ms|s|m|h|d))+$";
const SIZE: &str = "^[0-9]+( ?[KMG]iB|[kKmMgG])?$";
/// The same, or hundredths of what the machine has.
const MEMORY: &str = "^[0-9]+( ?[KMG]iB|[kKmMgG]| ?%)?$";
const PROCESSORS: &str = "^[0-9]+(\\.[0-9]{1,3})?( ?%)?$";

/// The whole of it.
#[must_use]
pub fn schema() -> Value {
    let mut root = object();
    let all = settings();
    for setting in &all {
        add(at(&mut root, &setting.path), setting);
    }
    // A rule that makes a process has the keys of one beside its own.
    let rule = ["registry", "discovery", "environment[]"].map(ToOwned::to_owned);
    for setting in all.iter().filter(|s| s.path == ["providers", ANY]) {
        let known = at(&mut root, &rule);
        if known["properties"].get(&setting.key).is_none() {
            add(known, &Setting { default: String::new(), ..setting.clone() });
        }
    }
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    whole.insert("title".to_owned(), "provost.toml: settings and processes of provost".into());
    whole.extend(root.as_object().cloned().unwrap_or_default());
    whole.into()
}

fn object() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// The schema of the section, made where it is not there yet.
fn at<'a>(root: &'a mut Value, path: &[String]) -> &'a mut Value {
    let mut here = root;
    for part in path {
        here = match (part.as_str(), part.strip_suffix(LIST)) {
            (ANY, _) => {
                let any = &mut here["additionalProperties"];
                if any.is_boolean() {
                    *any = object();
                }
                any
            }
            (_, Some(list)) => {
                let list = &mut here["properties"][list];
                if list.is_null() {
                    *list = json!({ "type": "array", "items": object() });
                }
                &mut list["items"]
            }
            (part, None) => {
                let table = &mut here["properties"][part];
                if table.is_null() {
                    *table = object();
                }
                table
            }
        };
    }
    here
}

fn add(section: &mut Value, setting: &Setting) {
    let mut value = taken(&setting.takes, &setting.range);
    if !setting.meaning.is_empty() {
        value["description"] = setting.meaning.replace('`', "").into();
    }
    if let Some(default) = literal(&setting.default) {
        value["default"] = default;
    }
    if setting.key == ANY {
        section["additionalProperties"] = value;
        return;
    }
    // Two kinds of one section may share a key.
    section["properties"][&setting.key] = value;
    if setting.is_required() && setting.variant.is_none() {
        match section["required"].as_array_mut() {
            Some(required) => required.push(setting.key.as_str().into()),
            None => section["required"] = json!([setting.key]),
        }
    }
}

/// What takes this; the range is that of the reference.
fn taken(takes: &str, range: &str) -> Value {
    let is =
        |words: &[&str]| words.iter().any(|word| takes == *word || takes.starts_with(&format!("{word}:")));
    let begins = |words: &[&str]| words.iter().any(|word| takes.starts_with(word));
    let words = if range.is_empty() { takes } else { range };
    if is(&["boolean", "true or false", "true"]) {
        json!({ "type": "boolean" })
    } else if begins(&["number", "integer", "a whole number", "a port"]) {
        let number = bounds(if range.is_empty() { takes } else { range });
        if takes.ends_with("or \"none\"") {
            json!({ "anyOf": [number, { "const": "none" }] })
        } else {
            number
        }
    } else if begins(&["a list of exit codes"]) {
        json!({ "type": "array", "items": bounds(takes) })
    } else if begins(&["a table of strings, or a list"]) {
        let texts = json!({ "type": "array", "items": { "type": "string" } });
        json!({ "anyOf": [{ "type": "object", "additionalProperties": { "type": "string" } }, texts] })
    } else if begins(&["a table"]) {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    } else if is(&["table"]) {
        json!({ "type": "object" })
    } else if begins(&["list of strings", "a list of"]) {
        json!({ "type": "array", "items": { "type": "string" } })
    } else if begins(&["as those of"]) {
        // Of several keys, each of its own kind.
        json!({})
    } else if begins(&["duration", "a duration"]) {
        let span = json!({ "type": "string", "pattern": DURATION });
        if takes.ends_with("or \"infinity\"") {
            json!({ "anyOf": [span, { "const": "infinity" }] })
        } else {
            span
        }
    } else if takes == "size" {
        json!({ "type": "string", "pattern": SIZE })
    } else if begins(&["a size"]) {
        let number = json!({ "type": "integer", "minimum": 0 });
        let mut either = vec![number, json!({ "type": "string", "pattern": SIZE })];
        either.extend(takes.ends_with("or \"none\"").then(|| json!({ "const": "none" })));
        json!({ "anyOf": either })
    } else if begins(&["an amount of memory"]) {
        let number = json!({ "type": "integer", "minimum": 0 });
        json!({ "anyOf": [number, { "type": "string", "pattern": MEMORY }] })
    } else if begins(&["a number of processors"]) {
        json!({ "anyOf": [{ "type": "number" }, { "type": "string", "pattern": PROCESSORS }] })
    } else if let Some(choices) = choices(words) {
        json!({ "enum": choices })
    } else {
        json!({ "type": "string" })
    }
}

/// A whole number in the range that stands in the text, as "1 to 65535" or "from -20 to 19".
fn bounds(text: &str) -> Value {
    let numbers: Vec<i64> = (text.split([' ', ':']))
        .filter_map(|word| word.trim_end_matches(',').replace(',', "").parse().ok())
        .collect();
    let mut schema = json!({ "type": "integer" });
    let names = ["minimum", "maximum"];
    for (name, number) in names.iter().zip(&numbers) {
        schema[*name] = (*number).into();
    }
    schema
}

/// The words of a text that has nothing but words between backquotes or double quotes.
fn choices(text: &str) -> Option<Vec<&str>> {
    let separators = [", ", " or "];
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let quote = rest.chars().next().filter(|c| ['`', '"'].contains(c))?;
        let (word, behind) = rest[1..].split_once(quote)?;
        words.push(word.trim_matches('"'));
        if behind.is_empty() {
            break;
        }
        rest = separators.iter().find_map(|separator| behind.strip_prefix(separator))?;
    }
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    (words.len() > 1 && words.iter().all(is_word)).then_some(words)
}

/// A default that is a value between backquotes.
fn literal(text: &str) -> Option<Value> {
    let inner = text.strip_prefix('`')?.strip_suffix('`')?;
    serde_json::from_str(&inner.replace('_', "")).or_else(|_| serde_json::from_str(inner)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::FIELDS;

    #[test]
    fn kinds_are_what_the_reference_says() {
        let is = |takes: &str, range: &str, wanted: Value| assert_eq!(taken(takes, range), wanted, "{takes}");
        is("string", "`adopt`, `kill`, `leave`", json!({ "enum": ["adopt", "kill", "leave"] }));
        is(
            "\"never\", \"on-failure\" or \"always\"",
            "",
            json!({ "enum": ["never", "on-failure", "always"] }),
        );
        is("string", "`http://` or `https://`, host, port, path", json!({ "type": "string" }));
        is("number", "1,000 to 100,000", json!({ "type": "integer", "minimum": 1000, "maximum": 100_000 }));
        is("a whole number from -20 to 19", "", json!({ "type": "integer", "minimum": -20, "maximum": 19 }));
        is("true: it says READY=1", "", json!({ "type": "boolean" }));
        is("a list of exit codes, 0 to 255", "", {
            json!({ "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 255 } })
        });
        is(
            "a port of 127.0.0.1, 1 to 65535",
            "",
            json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        );
        assert_eq!(literal("`1_000_000`"), Some(json!(1_000_000)));
        assert_eq!(literal("`\"on-error\"`"), Some(json!("on-error")));
        assert_eq!(literal("the service's"), None);
    }

    #[test]
    fn every_field_of_a_process_is_in_it_with_the_kind_that_it_has() {
        let schema = schema();
        let process = &schema["properties"]["process"]["additionalProperties"]["properties"];
        for field in FIELDS {
            assert!(process[field.key].is_object(), "{}", field.key);
        }
        assert_eq!(process["success_codes"]["type"], "array");
        assert_eq!(
            schema["properties"]["providers"]["additionalProperties"]["properties"]["tls"]["enum"][1],
            "required"
        );
    }

    /// The file is what is made; `provost config schema` prints it.
    #[test]
    fn the_file_for_editors_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/provost.schema.json");
        let file = std::fs::read_to_string(path).unwrap();
        let made = serde_json::to_string_pretty(&schema()).unwrap();
        assert!(file.trim_end() == made, "provost config schema > packaging/provost.schema.json");
    }
}
