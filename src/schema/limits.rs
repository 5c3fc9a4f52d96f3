//! What a schema may be. Looked at before anything is compiled: what comes of a few lines may be without an
//! end (a reference to itself), or double with each line.

use std::collections::HashMap;

use regex::RegexBuilder;
use serde_json::{Map, Value};

use crate::schema::walk::{IN_PLACE, IN_PLACE_LISTS, IN_PLACE_MAPS, target};

/// The deepest schema: maps and lists inside of each other.
const DEPTH_MAX: usize = 32;
/// The most values in a schema.
const VALUES_MAX: usize = 10_000;
/// The most references.
const REFERENCES_MAX: usize = 256;
/// The most patterns.
const PATTERNS_MAX: usize = 64;
/// The longest pattern, in bytes.
const PATTERN_LEN_MAX: usize = 1000;
/// The largest pattern once it is compiled, in bytes.
const COMPILED_LEN_MAX: usize = 256 << 10;
/// The most parts of a schema that are for one value, one inside of the other.
const HEIGHT_MAX: usize = 16;
/// The most parts of a schema that are for one value.
const PARTS_MAX: usize = 2000;
/// What `$schema` may say: drafts that need nothing but what is built in.
const DRAFTS: [&str; 4] = [
    "json-schema.org/draft/2020-12/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft-06/schema",
];

/// Refuses what is too much, or reaches for something else.
pub fn check(root: &Value) -> Result<(), String> {
    if !matches!(root, Value::Object(_) | Value::Bool(_)) {
        return Err("it is no table".to_owned());
    }
    if let Some(draft) = root.get("$schema") {
        let name = draft.as_str().unwrap_or_default().trim_end_matches('#');
        let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://"));
        if !name.is_some_and(|name| DRAFTS.contains(&name)) {
            return Err("its $schema is none of the drafts 2020-12, 2019-09, 7 and 6".to_owned());
        }
    }
    Look::default().at_all_of(root)?;
    let mut parts = Parts { root, known: HashMap::new() };
    parts.all()
}

/// What was seen so far.
#[derive(Default)]
struct Look {
    values: usize,
    references: usize,
    patterns: usize,
}

impl Look {
    fn at_all_of(&mut self, root: &Value) -> Result<(), String> {
        let mut left = vec![(root, 1)];
        while let Some((value, depth)) = left.pop() {
            self.values += 1;
            if self.values > VALUES_MAX {
                return Err(format!("it has more than {VALUES_MAX} values"));
            }
            if depth > DEPTH_MAX {
                return Err(format!("it has more than {DEPTH_MAX} levels"));
            }
            match value {
                Value::Array(list) => left.extend(list.iter().map(|value| (value, depth + 1))),
                Value::Object(map) => {
                    self.at_keys(map, depth, root)?;
                    left.extend(map.values().map(|value| (value, depth + 1)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keys count where their value is of the kind that makes them one: a property may be called `$ref`, too.
    fn at_keys(&mut self, map: &Map<String, Value>, depth: usize, root: &Value) -> Result<(), String> {
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        if let Some(reference) = text("$ref") {
            self.references += 1;
            if self.references > REFERENCES_MAX {
                return Err(format!("it has more than {REFERENCES_MAX} references"));
            }
            if !reference.is_empty() && !reference.starts_with('#') {
                return Err(format!("it refers to {reference:.200}: nothing is fetched for it"));
            }
            if target(root, reference).is_none() {
                return Err(format!("it refers to {reference:.200}, which is not there"));
            }
        }
        for key in ["$dynamicRef", "$recursiveRef"] {
            if text(key).is_some() {
                return Err(format!("it has '{key}': a reference is '$ref' with a JSON pointer"));
            }
        }
        if depth > 1 && text("$id").is_some() {
            return Err("it has another '$id' inside: it is one schema".to_owned());
        }
        let named = map.get("patternProperties").and_then(Value::as_object);
        let named = named.into_iter().flat_map(|map| map.keys().map(String::as_str));
        text("pattern").into_iter().chain(named).try_for_each(|pattern| self.at_pattern(pattern))
    }

    fn at_pattern(&mut self, pattern: &str) -> Result<(), String> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(format!("it has more than {PATTERNS_MAX} patterns"));
        }
        if pattern.len() > PATTERN_LEN_MAX {
            return Err(format!("it has a pattern of more than {PATTERN_LEN_MAX} bytes"));
        }
        let compiled = RegexBuilder::new(pattern).size_limit(COMPILED_LEN_MAX).build();
        match compiled {
            Ok(_) => Ok(()),
            Err(regex::Error::CompiledTooBig(_)) => Err(format!("its pattern {pattern:.100} costs too much")),
            Err(_) => Err(format!("its pattern {pattern:.100} is none that is understood")),
        }
    }
}

/// How much each part is, with what it has for the same value.
struct Parts<'a> {
    root: &'a Value,
    /// By address. None: it is being looked at.
    known: HashMap<*const Value, Option<Size>>,
}

#[derive(Clone, Copy)]
struct Size {
    parts: usize,
    height: usize,
}

impl<'a> Parts<'a> {
    /// Every table may be a part, wherever it stands: a reference can lead there.
    fn all(&mut self) -> Result<(), String> {
        let mut left = vec![self.root];
        while let Some(value) = left.pop() {
            match value {
                Value::Array(list) => left.extend(list),
                Value::Object(map) => {
                    self.size(value, 0)?;
                    left.extend(map.values());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn size(&mut self, part: &'a Value, above: usize) -> Result<Size, String> {
        let key: *const Value = part;
        match self.known.get(&key) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err("it refers to itself without an end".to_owned()),
            None => {}
        }
        let too_high = || format!("it has more than {HEIGHT_MAX} parts for one value inside of each other");
        if above > HEIGHT_MAX {
            return Err(too_high());
        }
        self.known.insert(key, None);
        let mut size = Size { parts: 1, height: 1 };
        for inner in in_place(self.root, part) {
            let inner = self.size(inner, above + 1)?;
            size = Size { parts: size.parts + inner.parts, height: size.height.max(inner.height + 1) };
            if size.parts > PARTS_MAX {
                return Err(format!("it has more than {PARTS_MAX} parts for one value"));
            }
            if size.height > HEIGHT_MAX {
                return Err(too_high());
            }
        }
        self.known.insert(key, Some(size));
        Ok(size)
    }
}

/// The parts of a schema that are for the same value as it is.
fn in_place<'a>(root: &'a Value, part: &'a Value) -> Vec<&'a Value> {
    let Some(map) = part.as_object() else { return Vec::new() };
    let reference = map.get("$ref").and_then(Value::as_str).and_then(|reference| target(root, reference));
    let ones = IN_PLACE.iter().filter_map(|key| map.get(*key));
    let lists = IN_PLACE_LISTS.iter().filter_map(|key| map.get(*key)?.as_array()).flatten();
    let maps = IN_PLACE_MAPS.iter().filter_map(|key| map.get(*key)?.as_object()).flat_map(Map::values);
    let all = reference.into_iter().chain(ones).chain(lists).chain(maps);
    all.filter(|inner| inner.is_object()).collect()
}
