//! Values of modules: plain JSON for people, JSON with tags for executors. Both ways go by the type, so that
//! nothing is guessed, rounded or replaced; what does not fit is an error that names its place.

use memchr::memchr2;
use serde::Serialize;
use serde_json::{Map, Number, Value, json};

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
fn tagged_type(of: &Type) -> Value {
    match of {
        Type::String => json!({ "tag": "CString" }),
        Type::Int => json!({ "tag": "CInt" }),
        Type::Float => json!({ "tag": "CFloat" }),
        Type::Bool => json!({ "tag": "CBoolean" }),
        Type::Record(fields) => {
            let structure: Map<_, _> =
                fields.iter().map(|(name, t)| (name.clone(), tagged_type(t))).collect();
            json!({ "tag": "CProduct", "structure": structure })
        }
        Type::List(t) => json!({ "tag": "CList", "valuesType": tagged_type(t) }),
        Type::Map(key, value) => {
            json!({ "tag": "CMap", "keysType": tagged_type(key), "valuesType": tagged_type(value) })
        }
        Type::Union(variants) => json!({ "tag": "CUnion", "structure": variants_of(variants) }),
        Type::Option(t) => json!({ "tag": "COptional", "innerType": tagged_type(t) }),
    }
}

fn variants_of(variants: &[Type]) -> Map<String, Value> {
    variants.iter().enumerate().map(|(n, t)| (format!("variant{n}"), tagged_type(t))).collect()
}

/// Reads JSON and makes something of it, with as much room as its levels take: whoever sends them may want
/// our stack to overflow.
pub(crate) fn read<T: Send>(
    bytes: &[u8],
    work: impl FnOnce(Value) -> Result<T, String> + Send,
) -> Result<T, String> {
    let read = || work(serde_json::from_slice(bytes).map_err(|e| e.to_string())?);
    match depth_of(bytes) {
        depth if depth > JSON_DEPTH_MAX => Err(format!("it is nested deeper than {DEPTH_MAX} levels")),
        depth if depth > SHALLOW_MAX => thread::with_room("deep", read).map_err(|e| e.to_string())?,
        _ => read(),
    }
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

/// The value as JSON, of about this length. What it differs in from serde_json's own: a string of a megabyte
/// is not looked at byte by byte for what is to be escaped.
pub(crate) fn to_json(value: &Value, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => write_string(text, out),
        Value::Array(all) => {
            out.push(b'[');
            for (n, value) in all.iter().enumerate() {
                out.extend((n > 0).then_some(b','));
                write(value, out);
            }
            out.push(b']');
        }
        Value::Object(all) => {
            out.push(b'{');
            for (n, (name, value)) in all.iter().enumerate() {
                out.extend((n > 0).then_some(b','));
                write_string(name, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => write_other(value, out),
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    // Without an end at the first one found, which the compiler makes many bytes at a time of.
    let is_escaped = text.bytes().fold(false, |is, b| is | (b < b' ') | (b == b'"') | (b == b'\\'));
    if is_escaped {
        return write_other(text, out);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write_other<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("memory takes it, and every key is a string");
}

/// An object of what is there: values may be large, and are not copied.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A plain value with tags, for an executor.
pub(crate) fn to_tagged(mut value: Value, of: &Type) -> Result<Value, Misfit> {
    tag(&mut value, of, "")
}

/// Takes out of the value what is large.
fn tag(value: &mut Value, of: &Type, path: &str) -> Result<Value, Misfit> {
    let kind = kind(value);
    let not = |what: &str| misfit(path, &format!("it is {kind}, not {what}"));
    let tagged = |tag: &str, value: Value| object([("tag", tag.into()), ("value", value)]);
    Ok(match of {
        Type::String => match value {
            Value::String(text) => tagged("CString", std::mem::take(text).into()),
            _ => return Err(not("a string")),
        },
        Type::Int => tagged("CInt", whole(value).ok_or_else(|| not("a whole number of 64 bits"))?.into()),
        Type::Float => tagged("CFloat", Value::Number(finite(value).ok_or_else(|| not("a number"))?)),
        Type::Bool => tagged("CBoolean", value.as_bool().ok_or_else(|| not("a boolean"))?.into()),
        Type::Record(fields) => {
            let object_of = value.as_object_mut().ok_or_else(|| not("an object"))?;
            if let Some(name) = object_of.keys().find(|name| !fields.contains_key(*name)) {
                return Err(misfit(&field(path, name), "there is no such field"));
            }
            let mut inner = Map::new();
            for (name, t) in fields {
                let value = match (object_of.get_mut(name), t) {
                    (Some(value), _) => value,
                    (None, Type::Option(_)) => &mut Value::Null,
                    (None, _) => return Err(misfit(&field(path, name), "it is missing")),
                };
                inner.insert(name.clone(), tag(value, t, &field(path, name))?);
            }
            let structure = tagged_type(of)["structure"].take();
            object([("tag", "CProduct".into()), ("value", inner.into()), ("structure", structure)])
        }
        Type::List(t) => {
            let all = value.as_array_mut().ok_or_else(|| not("an array"))?.iter_mut().enumerate();
            let inner =
                all.map(|(n, value)| tag(value, t, &element(path, n))).collect::<Result<Vec<_>, _>>()?;
            object([("tag", "CList".into()), ("value", inner.into()), ("subtype", tagged_type(t))])
        }
        Type::Map(key, t) => {
            let pairs = tag_pairs(value, key, t, path)?.into();
            let types = (tagged_type(key), tagged_type(t));
            object([("tag", "CMap".into()), ("value", pairs), ("keysType", types.0), ("valuesType", types.1)])
        }
        Type::Union(variants) => {
            let names = (0..variants.len()).map(|n| format!("variant{n}"));
            let only = value.as_object_mut().filter(|object| object.len() == 1);
            let chosen = only.and_then(|object| {
                let (name, value) = object.iter_mut().next()?;
                names.zip(variants).find(|(variant, _)| variant == name).map(|(name, t)| (name, t, value))
            });
            let last = variants.len() - 1;
            let (name, t, value) =
                chosen.ok_or_else(|| not(&format!("an object with one of variant0 to variant{last}")))?;
            let inner = tag(value, t, &field(path, &name))?;
            let structure = variants_of(variants).into();
            let tag = ("tag", "CUnion".into());
            object([tag, ("value", inner), ("structure", structure), ("unionTag", name.into())])
        }
        Type::Option(t) if value.is_null() => {
            object([("tag", "CNone".into()), ("innerType", tagged_type(t))])
        }
        Type::Option(t) => {
            let inner = tag(value, t, path)?;
            object([("tag", "CSome".into()), ("value", inner), ("innerType", tagged_type(t))])
        }
    })
}

/// Pairs of a map: of an object where the keys are text, of an array of arrays of two else.
fn tag_pairs(value: &mut Value, key: &Type, of: &Type, path: &str) -> Result<Vec<Value>, Misfit> {
    let kind = kind(value);
    if *key == Type::String {
        let not = || misfit(path, &format!("it is {kind}, not an object"));
        let pairs = value.as_object_mut().ok_or_else(not)?.iter_mut().map(|(name, value)| {
            let value = tag(value, of, &field(path, name))?;
            let key = object([("tag", "CString".into()), ("value", name.clone().into())]);
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
pub(crate) fn to_plain(mut value: Value, of: &Type) -> Result<Value, Misfit> {
    untag(&mut value, of, "")
}

/// Takes out of the value what is large.
fn untag(value: &mut Value, of: &Type, path: &str) -> Result<Value, Misfit> {
    let mut nothing = Value::Null;
    let known = value["tag"].as_str().ok_or_else(|| misfit(path, "it is no object with a tag"))?;
    let tag = format!("{known:.20}");
    let not = |what: &str| misfit(path, &format!("it is a {tag}, not {what}"));
    let inner = value.get_mut("value").unwrap_or(&mut nothing);
    Ok(match (of, &*tag) {
        (Type::String, "CString") => match inner {
            Value::String(text) => std::mem::take(text).into(),
            _ => return Err(not("text")),
        },
        (Type::Int, "CInt") => whole(inner).ok_or_else(|| not("a whole number of 64 bits"))?.into(),
        (Type::Float, "CFloat") => finite(inner).map(Value::Number).ok_or_else(|| not("a finite number"))?,
        (Type::Bool, "CBoolean") => inner.as_bool().ok_or_else(|| not("a boolean"))?.into(),
        (Type::Record(fields), "CProduct") => {
            let object = inner.as_object_mut().ok_or_else(|| not("fields"))?;
            if let Some(name) = object.keys().find(|name| !fields.contains_key(*name)) {
                return Err(misfit(&field(path, name), "the type has no such field"));
            }
            let plain = fields.iter().map(|(name, t)| {
                let path = field(path, name);
                let value = object.get_mut(name).ok_or_else(|| misfit(&path, "it is missing"))?;
                Ok((name.clone(), untag(value, t, &path)?))
            });
            Value::Object(plain.collect::<Result<_, Misfit>>()?)
        }
        (Type::List(t), "CList") => {
            let all = inner.as_array_mut().ok_or_else(|| not("elements"))?.iter_mut().enumerate();
            Value::Array(all.map(|(n, value)| untag(value, t, &element(path, n))).collect::<Result<_, _>>()?)
        }
        (Type::Map(key, t), "CMap") => untag_pairs(inner, key, t, path)?,
        (Type::Union(variants), "CUnion") => {
            let name = value["unionTag"].as_str().ok_or_else(|| not("a union with a unionTag"))?;
            let inner = &value["value"];
            if value["structure"].get(name).is_none() {
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
            object([(&*format!("variant{n}"), plain)])
        }
        (Type::Option(_), "CNone") => Value::Null,
        (Type::Option(t), "CSome") => untag(inner, t, path)?,
        (of, _) => return Err(not(&of.to_string())),
    })
}

fn untag_pairs(pairs: &mut Value, key: &Type, of: &Type, path: &str) -> Result<Value, Misfit> {
    let pairs = pairs.as_array_mut().ok_or_else(|| misfit(path, "a map is an array of pairs"))?;
    let pairs = pairs.iter_mut().enumerate();
    let plain = pairs.map(|(n, pair)| {
        let path = element(path, n);
        let mut part = |name: &str, of: &Type| {
            let mut nothing = Value::Null;
            untag(pair.get_mut(name).unwrap_or(&mut nothing), of, &field(&path, name))
        };
        Ok((part("key", key)?, part("value", of)?))
    });
    let plain = plain.collect::<Result<Vec<_>, Misfit>>()?;
    if *key != Type::String {
        return Ok(Value::Array(plain.into_iter().map(|(key, value)| json!([key, value])).collect()));
    }
    let mut object = Map::new();
    for (key, value) in plain {
        let name = key.as_str().unwrap_or_default().to_owned();
        if object.insert(name.clone(), value).is_some() {
            return Err(misfit(&field(path, &name), "the key is there twice"));
        }
    }
    Ok(Value::Object(object))
}

/// A whole number of 64 bits, also one that is written with a fraction of zero.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float =
            number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0);
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within 2^53")]
        float.filter(|_| !number.is_u64()).map(|float| float as i64)
    })
}

/// A number that is finite as a double.
fn finite(value: &Value) -> Option<Number> {
    let number = value.as_number()?;
    number.as_f64().filter(|float| float.is_finite()).map(|_| number.clone())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&str, Type)]) -> Type {
        Type::Record(fields.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect())
    }

    fn list(of: Type) -> Type {
        Type::List(Box::new(of))
    }

    #[test]
    fn what_is_written_is_what_serde_json_writes() {
        for text in [
            r#"{"a":"é\u0000\n\"\\x","b":[],"c":{},"d":[null,true,-1,1.5e300,"",["x",{"\t":"y"}]]}"#,
            r#""a long string without anything in it that is to be escaped \u00e9 \/""#,
            r#""\u001f""#,
            r#""\"""#,
            "[[],[[]]]",
            "7",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(String::from_utf8(to_json(&value, 0)).unwrap(), value.to_string(), "{text}");
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
                let tagged = read(plain.as_bytes(), |value| Ok(to_tagged(value, &deepest)?.to_string()));
                let back = read(tagged.unwrap().as_bytes(), |value| to_plain(value, &deepest)).unwrap();
                assert_eq!(back.to_string(), plain);
            };
            thread::spawn("levels", work).unwrap().join().unwrap();
        }
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"{"tag":"CList","value":["#, "]}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            let work = move || read(deep.as_bytes(), Ok);
            let refused = thread::spawn("levels", move || assert!(work().is_err())).unwrap();
            refused.join().unwrap();
        }
        assert_eq!(depth_of(br#"{"a]}": ["\"[[["]}"#), 2);
        assert!(read(b"]", Ok).is_err());
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
