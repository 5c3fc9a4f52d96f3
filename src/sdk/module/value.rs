//! Values of modules: plain JSON for people, JSON with tags for executors. Both ways go by the type, so that
//! nothing is guessed, rounded or replaced; what does not fit is an error that names its place.

use std::collections::BTreeMap;

use memchr::memchr2;
use serde_json::Number;

use crate::sdk::module::json::{Json, Object, object};
use crate::sdk::module::schema::{DEPTH_MAX, Type};
use crate::sys::thread;

/// The most levels of JSON: a level of a value has three at most, in a map with tags.
const JSON_DEPTH_MAX: usize = 3 * DEPTH_MAX;
/// More than so many are looked at with more room than threads of ours have.
const SHALLOW_MAX: usize = 24;

/// What does not fit: where, and why.
type Misfit = String;

fn misfit(path: &str, why: &str) -> Misfit {
    if path.is_empty() { why.to_owned() } else { format!("{path}: {why}") }
}

fn field(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value's place in a list.
fn element(path: &str, n: usize) -> String {
    format!("{path}[{n}]")
}

/// A type as the tagged form writes it. Variants of a union are called by their position.
fn tagged_type(of: &Type) -> Json<'static> {
    match of {
        Type::String => object([("tag", "CString".into())]),
        Type::Int => object([("tag", "CInt".into())]),
        Type::Float => object([("tag", "CFloat".into())]),
        Type::Bool => object([("tag", "CBoolean".into())]),
        Type::Record(fields) => object([("tag", "CProduct".into()), ("structure", structure_of(fields))]),
        Type::List(t) => object([("tag", "CList".into()), ("valuesType", tagged_type(t))]),
        Type::Map(key, value) => {
            let types = (tagged_type(key), tagged_type(value));
            object([("tag", "CMap".into()), ("keysType", types.0), ("valuesType", types.1)])
        }
        Type::Union(variants) => object([("tag", "CUnion".into()), ("structure", variants_of(variants))]),
        Type::Option(t) => object([("tag", "COptional".into()), ("innerType", tagged_type(t))]),
    }
}

fn structure_of(fields: &BTreeMap<String, Type>) -> Json<'static> {
    Json::Object(fields.iter().map(|(name, t)| (name.clone().into(), tagged_type(t))).collect())
}

fn variants_of(variants: &[Type]) -> Json<'static> {
    let variants = variants.iter().enumerate();
    Json::Object(variants.map(|(n, t)| (format!("variant{n}").into(), tagged_type(t))).collect())
}

/// Reads JSON and makes something of it, with as much room as its levels take: whoever sends them may want
/// our stack to overflow.
pub(crate) fn read<T: Send>(
    bytes: &[u8],
    work: impl FnOnce(Json<'_>) -> Result<T, String> + Send,
) -> Result<T, String> {
    let read = || work(serde_json::from_slice(bytes).map_err(|e| misfit(&place(bytes, &e), &e.to_string()))?);
    match depth_of(bytes) {
        depth if depth > JSON_DEPTH_MAX => Err(format!("it is nested deeper than {DEPTH_MAX} levels")),
        depth if depth > SHALLOW_MAX => thread::with_room("deep", read).map_err(|e| e.to_string())?,
        _ => read(),
    }
}

/// Where a reader of JSON is.
enum Level<'a> {
    /// In the field of this name, if it has come.
    Object(Option<&'a [u8]>),
    /// In the element of this number.
    Array(usize),
}

/// The path to what cannot be read, as far as it is JSON up to there.
fn place(bytes: &[u8], e: &serde_json::Error) -> String {
    let before = bytes.split_inclusive(|b| *b == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len);
    // The last byte that was looked at is the one that does not fit: it opens and closes nothing.
    let end = bytes.len().min(before.sum::<usize>() + e.column().saturating_sub(1));
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut rest = bytes;
    while let Some((byte, behind)) = rest.split_first().filter(|_| bytes.len() - rest.len() < end) {
        rest = behind;
        match (byte, levels.last_mut()) {
            (b'{', _) => levels.push(Level::Object(None)),
            (b'[', _) => levels.push(Level::Array(0)),
            (b'}' | b']', _) => drop(levels.pop()),
            (b',', Some(Level::Object(name))) => *name = None,
            (b',', Some(Level::Array(n))) => *n += 1,
            (b'"', level) => {
                rest = behind_string(behind);
                if let Some(Level::Object(name @ None)) = level {
                    *name = behind.get(..(behind.len() - rest.len()).saturating_sub(1));
                }
            }
            _ => {}
        }
    }
    levels.into_iter().fold(String::new(), |path, level| match level {
        Level::Object(Some(name)) => field(&path, &String::from_utf8_lossy(name)),
        Level::Object(None) => path,
        Level::Array(n) => element(&path, n),
    })
}

/// How deep brackets are nested, outside of strings. Of what is no JSON it may be anything.
fn depth_of(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut rest) = (0usize, 0, bytes);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = behind_string(rest),
            _ => {}
        }
    }
    deepest
}

/// What follows the end of a string that has begun.
fn behind_string(mut bytes: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', bytes) {
        let is_end = bytes[at] == b'"';
        // Behind a backslash, one more is of the string.
        bytes = bytes.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return bytes;
        }
    }
    &[]
}

/// A plain value with tags, for an executor.
pub(crate) fn to_tagged<'a>(value: impl Into<Json<'a>>, of: &Type) -> Result<Json<'a>, Misfit> {
    tag(&mut value.into(), of, "")
}

/// Takes out of the value what is large.
fn tag<'a>(value: &mut Json<'a>, of: &Type, path: &str) -> Result<Json<'a>, Misfit> {
    let kind = kind(value);
    let not = |what: &str| misfit(path, &format!("it is {kind}, not {what}"));
    let tagged = |tag: &'static str, value| object([("tag", tag.into()), ("value", value)]);
    Ok(match of {
        Type::String => match value {
            Json::Text(text) => tagged("CString", Json::Text(std::mem::take(text))),
            _ => return Err(not("a string")),
        },
        Type::Int => {
            let whole = whole(value).ok_or_else(|| not("a whole number of 64 bits"))?;
            tagged("CInt", Json::Number(whole.into()))
        }
        Type::Float => tagged("CFloat", Json::Number(finite(value).ok_or_else(|| not("a number"))?)),
        Type::Bool => tagged("CBoolean", Json::Bool(value.as_bool().ok_or_else(|| not("a boolean"))?)),
        Type::Record(fields) => {
            let object_of = value.as_object_mut().ok_or_else(|| not("an object"))?;
            if let Some(name) = object_of.keys().find(|name| !fields.contains_key(&***name)) {
                return Err(misfit(&field(path, name), "there is no such field"));
            }
            let (mut inner, mut nothing) = (Object::new(), Json::Null);
            for (name, t) in fields {
                let value = match (object_of.get_mut(name.as_str()), t) {
                    (Some(value), _) => value,
                    (None, Type::Option(_)) => &mut nothing,
                    (None, _) => return Err(misfit(&field(path, name), "it is missing")),
                };
                inner.insert(name.clone().into(), tag(value, t, &field(path, name))?);
            }
            let (inner, structure) = (Json::Object(inner), structure_of(fields));
            object([("tag", "CProduct".into()), ("value", inner), ("structure", structure)])
        }
        Type::List(t) => {
            let all = value.as_array_mut().ok_or_else(|| not("an array"))?.iter_mut().enumerate();
            let inner =
                all.map(|(n, value)| tag(value, t, &element(path, n))).collect::<Result<Vec<_>, _>>()?;
            object([("tag", "CList".into()), ("value", Json::Array(inner)), ("subtype", tagged_type(t))])
        }
        Type::Map(key, t) => {
            let pairs = Json::Array(tag_pairs(value, key, t, path)?);
            let types = (tagged_type(key), tagged_type(t));
            object([("tag", "CMap".into()), ("value", pairs), ("keysType", types.0), ("valuesType", types.1)])
        }
        Type::Union(variants) => {
            let names = (0..variants.len()).map(|n| format!("variant{n}"));
            let only = value.as_object_mut().filter(|object| object.len() == 1);
            let chosen = only.and_then(|object| {
                let (name, value) = object.iter_mut().next()?;
                names.zip(variants).find(|(variant, _)| *variant == **name).map(|(name, t)| (name, t, value))
            });
            let last = variants.len() - 1;
            let (name, t, value) =
                chosen.ok_or_else(|| not(&format!("an object with one of variant0 to variant{last}")))?;
            let inner = tag(value, t, &field(path, &name))?;
            let (structure, name) = (variants_of(variants), Json::Text(name.into()));
            let tag = ("tag", "CUnion".into());
            object([tag, ("value", inner), ("structure", structure), ("unionTag", name)])
        }
        Type::Option(t) if *value == Json::Null => {
            object([("tag", "CNone".into()), ("innerType", tagged_type(t))])
        }
        Type::Option(t) => {
            let inner = tag(value, t, path)?;
            object([("tag", "CSome".into()), ("value", inner), ("innerType", tagged_type(t))])
        }
    })
}

/// Pairs of a map: of an object where the keys are text, of an array of arrays of two else.
fn tag_pairs<'a>(value: &mut Json<'a>, key: &Type, of: &Type, path: &str) -> Result<Vec<Json<'a>>, Misfit> {
    let kind = kind(value);
    if *key == Type::String {
        let not = || misfit(path, &format!("it is {kind}, not an object"));
        let pairs = value.as_object_mut().ok_or_else(not)?.iter_mut().map(|(name, value)| {
            let value = tag(value, of, &field(path, name))?;
            let key = object([("tag", "CString".into()), ("value", Json::Text(name.clone()))]);
            Ok(object([("key", key), ("value", value)]))
        });
        return pairs.collect();
    }
    let not = || misfit(path, &format!("it is {kind}, not an array of pairs"));
    let pairs = value.as_array_mut().ok_or_else(not)?.iter_mut().enumerate().map(|(n, pair)| {
        let path = element(path, n);
        let Some([k, value]) = pair.as_array_mut().map(Vec::as_mut_slice) else {
            return Err(misfit(&path, "it is no array of a key and a value"));
        };
        let key = tag(k, key, &element(&path, 0))?;
        Ok(object([("key", key), ("value", tag(value, of, &element(&path, 1))?)]))
    });
    pairs.collect()
}

/// The plain form of a value with tags, if it is of this type.
pub(crate) fn to_plain<'a>(value: impl Into<Json<'a>>, of: &Type) -> Result<Json<'a>, Misfit> {
    untag(&mut value.into(), of, "")
}

/// Takes out of the value what is large.
fn untag<'a>(value: &mut Json<'a>, of: &Type, path: &str) -> Result<Json<'a>, Misfit> {
    let mut nothing = Json::Null;
    let known =
        value.get("tag").and_then(Json::as_str).ok_or_else(|| misfit(path, "it is no object with a tag"))?;
    let tag = format!("{known:.20}");
    let not = |what: &str| misfit(path, &format!("it is a {tag}, not {what}"));
    let inner = value.get_mut("value").unwrap_or(&mut nothing);
    Ok(match (of, &*tag) {
        (Type::String, "CString") => match inner {
            Json::Text(text) => Json::Text(std::mem::take(text)),
            _ => return Err(not("text")),
        },
        (Type::Int, "CInt") => {
            Json::Number(whole(inner).ok_or_else(|| not("a whole number of 64 bits"))?.into())
        }
        (Type::Float, "CFloat") => finite(inner).map(Json::Number).ok_or_else(|| not("a finite number"))?,
        (Type::Bool, "CBoolean") => inner.as_bool().map(Json::Bool).ok_or_else(|| not("a boolean"))?,
        (Type::Record(fields), "CProduct") => {
            let object = inner.as_object_mut().ok_or_else(|| not("fields"))?;
            if let Some(name) = object.keys().find(|name| !fields.contains_key(&***name)) {
                return Err(misfit(&field(path, name), "the type has no such field"));
            }
            let plain = fields.iter().map(|(name, t)| {
                let path = field(path, name);
                let value = object.get_mut(name.as_str()).ok_or_else(|| misfit(&path, "it is missing"))?;
                Ok((name.clone().into(), untag(value, t, &path)?))
            });
            Json::Object(plain.collect::<Result<_, Misfit>>()?)
        }
        (Type::List(t), "CList") => {
            let all = inner.as_array_mut().ok_or_else(|| not("elements"))?.iter_mut().enumerate();
            Json::Array(all.map(|(n, value)| untag(value, t, &element(path, n))).collect::<Result<_, _>>()?)
        }
        (Type::Map(key, t), "CMap") => untag_pairs(inner, key, t, path)?,
        (Type::Union(variants), "CUnion") => {
            let name = value.get("unionTag").and_then(Json::as_str);
            let name = name.ok_or_else(|| not("a union with a unionTag"))?;
            let inner = value.get("value").unwrap_or(&Json::Null);
            if value.get("structure").and_then(|known| known.get(name)).is_none() {
                return Err(misfit(path, "its unionTag is not in its structure"));
            }
            // The names of variants are their author's; what counts is the type. Where the name is one of
            // ours, that one first: a value may be of more than one.
            let ours = name.strip_prefix("variant").and_then(|n| n.parse().ok());
            let ours = ours.filter(|n| *n < variants.len());
            let order = ours.into_iter().chain((0..variants.len()).filter(|n| Some(*n) != ours));
            let fitting = order.into_iter().find_map(|n| {
                // One that does not fit may have taken something out.
                Some((n, untag(&mut inner.clone(), &variants[n], path).ok()?))
            });
            let (n, plain) = fitting.ok_or_else(|| misfit(path, "it is of none of the union's types"))?;
            Json::Object(Object::from([(format!("variant{n}").into(), plain)]))
        }
        (Type::Option(_), "CNone") => Json::Null,
        (Type::Option(t), "CSome") => untag(inner, t, path)?,
        (of, _) => return Err(not(&of.to_string())),
    })
}

fn untag_pairs<'a>(pairs: &mut Json<'a>, key: &Type, of: &Type, path: &str) -> Result<Json<'a>, Misfit> {
    let pairs = pairs.as_array_mut().ok_or_else(|| misfit(path, "a map is an array of pairs"))?;
    let pairs = pairs.iter_mut().enumerate();
    let plain = pairs.map(|(n, pair)| {
        let path = element(path, n);
        let mut part = |name: &str, of: &Type| {
            let mut nothing = Json::Null;
            untag(pair.get_mut(name).unwrap_or(&mut nothing), of, &field(&path, name))
        };
        Ok((part("key", key)?, part("value", of)?))
    });
    let plain = plain.collect::<Result<Vec<_>, Misfit>>()?;
    if *key != Type::String {
        let pairs = plain.into_iter().map(|(key, value)| Json::Array(vec![key, value]));
        return Ok(Json::Array(pairs.collect()));
    }
    let mut object = Object::new();
    for (key, value) in plain {
        let Json::Text(name) = key else { continue };
        if object.contains_key(&name) {
            return Err(misfit(&field(path, &name), "the key is there twice"));
        }
        object.insert(name, value);
    }
    Ok(Json::Object(object))
}

/// A whole number of 64 bits, also one that is written with a fraction of zero.
fn whole(value: &Json<'_>) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float =
            number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0);
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within 2^53")]
        float.filter(|_| !number.is_u64()).map(|float| float as i64)
    })
}

/// A number that is finite as a double.
fn finite(value: &Json<'_>) -> Option<Number> {
    let number = value.as_number()?;
    number.as_f64().filter(|float| float.is_finite()).map(|_| number.clone())
}

fn kind(value: &Json<'_>) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::Text(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(fields: &[(&str, Type)]) -> Type {
        Type::Record(fields.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect())
    }

    fn list(of: Type) -> Type {
        Type::List(Box::new(of))
    }

    fn to_tagged(value: Value, of: &Type) -> Result<Value, Misfit> {
        super::to_tagged(value, of).map(Value::from)
    }

    fn to_plain(value: Value, of: &Type) -> Result<Value, Misfit> {
        super::to_plain(value, of).map(Value::from)
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        for (bytes, why) in [
            (&br#"{"a": 1, "ports": [1, {"n": 1e999}]}"#[..], "ports[1].n: number out of range"),
            (b"{\"a\": [\"x,]\",\n \"\xff\"], \"b\": 1}", "a[1]: invalid unicode"),
            (br#"[["\"]", [1, 2], ["\ud800"]]"#, "[0][2][0]: "),
            (br#"{"a": 1, "b": tru}"#, "b: expected ident"),
            (br#"{"a"#, "EOF while parsing"),
            (b"nul", "EOF while parsing"),
            (b"", "EOF while parsing"),
        ] {
            let found = read(bytes, |_| Ok(())).unwrap_err();
            assert!(found.starts_with(why), "{found}");
        }
    }

    #[test]
    fn levels_are_counted_outside_of_strings() {
        for (text, depth) in
            [("[[]]", 2), (r#"{"[[[\"[[":[]}"#, 2), (r#"["\\",[[]]]"#, 3), (r#"["["#, 1), (r#"["\"#, 1)]
        {
            assert_eq!(depth_of(text.as_bytes()), depth, "{text}");
        }
    }

    #[test]
    fn plain_values_come_back_from_their_tags() {
        let option = Type::Option(Box::new(Type::Int));
        for (value, of) in [
            (json!("s"), Type::String),
            (json!(i64::MAX), Type::Int),
            (json!(1.5), Type::Float),
            (json!(true), Type::Bool),
            (json!([]), list(Type::Int)),
            (json!({}), record(&[])),
            (json!({ "a": [1, 2], "b": null }), record(&[("a", list(Type::Int)), ("b", option.clone())])),
            (json!({ "k": 1 }), Type::Map(Box::new(Type::String), Box::new(Type::Int))),
            (json!([[1, "a"], [1, "b"]]), Type::Map(Box::new(Type::Int), Box::new(Type::String))),
            (json!({ "variant1": 7 }), Type::Union(vec![Type::String, Type::Int])),
            (json!(7), option),
        ] {
            let tagged = to_tagged(value.clone(), &of).unwrap_or_else(|why| panic!("{value}: {why}"));
            let shown = tagged.to_string();
            assert_eq!(to_plain(tagged, &of), Ok(value), "{shown}");
        }
    }

    #[test]
    fn the_tagged_form_is_that_of_existing_executors() {
        let of = record(&[("a", Type::Int), ("o", Type::Option(Box::new(Type::String)))]);
        assert_eq!(
            to_tagged(json!({ "a": 6 }), &of).unwrap(),
            json!({
                "tag": "CProduct",
                "value": {
                    "a": { "tag": "CInt", "value": 6 },
                    "o": { "tag": "CNone", "innerType": { "tag": "CString" } },
                },
                "structure": {
                    "a": { "tag": "CInt" },
                    "o": { "tag": "COptional", "innerType": { "tag": "CString" } },
                },
            })
        );
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let ports = record(&[("ports", list(record(&[("number", Type::Int)])))]);
        for (value, why) in [
            (
                json!({ "ports": [{ "number": 1 }, { "number": 2 }, { "number": "3" }] }),
                "ports[2].number: it is a string",
            ),
            (json!({ "ports": [{}] }), "ports[0].number: it is missing"),
            (json!({ "ports": [], "x": 1 }), "x: there is no such field"),
            (json!({ "ports": [{ "number": 1.5 }] }), "ports[0].number: it is a number, not a whole"),
            (json!({ "ports": [{ "number": 18_446_744_073_709_551_615_u64 }] }), "not a whole"),
            (json!(1), "it is a number, not an object"),
        ] {
            let found = to_tagged(value, &ports).unwrap_err();
            assert!(found.starts_with(why) || found.contains(why), "{found}");
        }
        let tagged = |value: Value| json!({ "tag": "CList", "value": [value], "subtype": { "tag": "CInt" } });
        for (value, why) in [
            (json!({ "tag": "CString", "value": "1" }), "[0]: it is a CString, not Int"),
            (json!({ "tag": "CInt", "value": "1" }), "[0]: it is a CInt, not a whole number"),
            (json!({ "tag": "CInt", "value": 1e21 }), "not a whole number"),
            (json!(5), "[0]: it is no object with a tag"),
        ] {
            let found = to_plain(tagged(value), &list(Type::Int)).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }

    #[test]
    fn values_of_all_levels_fit_the_stack_of_our_threads_and_deeper_ones_are_refused() {
        /// A type and a value around others.
        type Wrap = (fn(Type) -> Type, fn(Value) -> Value);
        let wraps: [Wrap; 3] = [
            (|of| Type::List(Box::new(of)), |v| json!([v])),
            (|of| Type::Map(Box::new(Type::Int), Box::new(of)), |v| json!([[1, v]])),
            (|of| Type::Record([("a".to_owned(), of)].into()), |v| json!({ "a": v })),
        ];
        for (of, wrap) in wraps {
            let deepest = (1..DEPTH_MAX).fold(Type::Int, |inner, _| of(inner));
            let plain = (1..DEPTH_MAX).fold(json!(7), |inner, _| wrap(inner)).to_string();
            let work = move || {
                let tagged = |value: Json<'_>| Ok(super::to_tagged(value, &deepest)?.to_bytes(0));
                let back = |value: Json<'_>| Ok(super::to_plain(value, &deepest)?.to_bytes(0));
                let tagged = read(plain.as_bytes(), tagged).unwrap();
                assert_eq!(read(&tagged, back).unwrap(), plain.as_bytes());
            };
            thread::spawn("levels", work).unwrap().join().unwrap();
        }
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"{"tag":"CList","value":["#, "]}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            let work = move || read(deep.as_bytes(), |_| Ok(()));
            let refused = thread::spawn("levels", move || assert!(work().is_err())).unwrap();
            refused.join().unwrap();
        }
        assert_eq!(depth_of(br#"{"a]}": ["\"[[["]}"#), 2);
        assert!(read(b"]", |_| Ok(())).is_err());
    }

    #[test]
    fn what_existing_sdks_write_is_read() {
        let plain = |value: Value, of: Type| to_plain(value, &of);
        assert_eq!(plain(json!({ "tag": "CFloat", "value": 1 }), Type::Float), Ok(json!(1)));
        assert_eq!(plain(json!({ "tag": "CInt", "value": 1.0 }), Type::Int), Ok(json!(1)));
        let union = json!({
            "tag": "CUnion", "value": { "tag": "CInt", "value": 3 }, "unionTag": "Count",
            "structure": { "Count": { "tag": "CInt" }, "Name": { "tag": "CString" } },
        });
        assert_eq!(plain(union, Type::Union(vec![Type::String, Type::Int])), Ok(json!({ "variant1": 3 })));
        assert!(plain(json!({ "tag": "CFloat", "value": null }), Type::Float).is_err());
    }
}
