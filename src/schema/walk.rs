//! Goes through a schema and a value together, as a validator would that takes every way there is: what that
//! costs is counted before a validator is run, and where the schema says `writeOnly` is found.

use regex::Regex;
use serde_json::{Map, Value};

/// The most steps for one value; a step is a part of the schema at a part of the value.
const STEPS_MAX: usize = 300_000;
/// How many bytes of a text a pattern looks at in one step.
const BYTES_A_STEP: usize = 16;
/// Keys whose schema is for the same value.
pub const IN_PLACE: [&str; 4] = ["not", "if", "then", "else"];
/// Keys of lists of them.
pub const IN_PLACE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keys of maps of them.
pub const IN_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keys whose schema is for what a map has.
const OF_MAPS: [&str; 2] = ["additionalProperties", "unevaluatedProperties"];
/// Keys whose schema is for what a list has, and those that may also be lists of schemas.
const OF_LISTS: [&str; 5] = ["items", "prefixItems", "additionalItems", "contains", "unevaluatedItems"];

/// What a reference leads to.
pub fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    match reference.strip_prefix('#').unwrap_or(reference) {
        "" => Some(root),
        pointer => root.pointer(&unescaped(pointer)?),
    }
}

/// A pointer as it stands in an address, with `%25` and the like.
fn unescaped(pointer: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let [first, more @ ..] = rest {
        (rest, _) = match (first, more) {
            (b'%', [high, low, more @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                (more, bytes.push(u8::from_str_radix(digits, 16).ok()?))
            }
            _ => (more, bytes.push(*first)),
        };
    }
    String::from_utf8(bytes).ok()
}

pub struct Walk<'a> {
    root: &'a Value,
    steps: usize,
    secrets: Vec<String>,
}

impl<'a> Walk<'a> {
    /// What stands where the schema says `writeOnly`. An error: it would take too long.
    pub fn of(root: &'a Value, value: &Value) -> Result<Vec<String>, String> {
        let mut walk = Self { root, steps: 0, secrets: Vec::new() };
        walk.visit(root, value)?;
        Ok(walk.secrets)
    }

    fn count(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            return Err("it would take too long for this configuration".to_owned());
        }
        Ok(())
    }

    fn visit(&mut self, part: &'a Value, value: &Value) -> Result<(), String> {
        let Some(map) = part.as_object() else { return self.count(1) };
        self.count(1 + map.len())?;
        if map.get("writeOnly") == Some(&Value::Bool(true)) {
            self.secrets.extend(scalars(value));
        }
        self.visit_in_place(map, value)?;
        match value {
            Value::Object(fields) => self.visit_fields(map, fields),
            Value::Array(items) => self.visit_items(map, items),
            Value::String(text) => {
                let texts = map.get("enum").and_then(Value::as_array).map_or(0, Vec::len);
                let patterns = usize::from(map.contains_key("pattern"));
                self.count(texts + patterns * text.len() / BYTES_A_STEP)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.count(map.get("enum").and_then(Value::as_array).map_or(0, Vec::len))
            }
        }
    }

    fn visit_in_place(&mut self, map: &'a Map<String, Value>, value: &Value) -> Result<(), String> {
        if let Some(target) = map.get("$ref").and_then(Value::as_str).and_then(|r| target(self.root, r)) {
            self.visit(target, value)?;
        }
        for part in IN_PLACE.iter().filter_map(|key| map.get(*key)) {
            self.visit(part, value)?;
        }
        for part in IN_PLACE_LISTS.iter().filter_map(|key| map.get(*key)?.as_array()).flatten() {
            self.visit(part, value)?;
        }
        for part in IN_PLACE_MAPS.iter().filter_map(|key| map.get(*key)?.as_object()).flat_map(Map::values) {
            self.visit(part, value)?;
        }
        Ok(())
    }

    fn visit_fields(
        &mut self,
        map: &'a Map<String, Value>,
        fields: &Map<String, Value>,
    ) -> Result<(), String> {
        let of = |key: &str| map.get(key).and_then(Value::as_object);
        let patterns: Vec<_> = of("patternProperties")
            .into_iter()
            .flatten()
            .map(|(pattern, part)| (Regex::new(pattern).ok(), part))
            .collect();
        for (key, value) in fields {
            self.count(1)?;
            if let Some(part) = of("properties").and_then(|parts| parts.get(key)) {
                self.visit(part, value)?;
            }
            for (pattern, part) in &patterns {
                self.count(1 + key.len() / BYTES_A_STEP)?;
                // One that is written in another way than we know it is taken to be meant.
                if pattern.as_ref().is_none_or(|pattern| pattern.is_match(key)) {
                    self.visit(part, value)?;
                }
            }
            for part in OF_MAPS.iter().filter_map(|of| map.get(*of)) {
                self.visit(part, value)?;
            }
            if let Some(part) = map.get("propertyNames") {
                self.visit(part, &Value::String(key.clone()))?;
            }
        }
        Ok(())
    }

    fn visit_items(&mut self, map: &'a Map<String, Value>, items: &[Value]) -> Result<(), String> {
        for (at, value) in items.iter().enumerate() {
            self.count(1)?;
            for part in OF_LISTS.iter().filter_map(|key| map.get(*key)) {
                match part {
                    Value::Array(parts) => parts.get(at).map_or(Ok(()), |part| self.visit(part, value))?,
                    part => self.visit(part, value)?,
                }
            }
        }
        Ok(())
    }
}

/// All texts and numbers in a value.
pub fn scalars(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(list) => list.iter().flat_map(scalars).collect(),
        Value::Object(map) => map.values().flat_map(scalars).collect(),
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}
