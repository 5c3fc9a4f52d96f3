//! Values of providers: JSON on our side, `google.protobuf.Struct` on the wire.

use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as Proto};
use serde_json::{Map, Number, Value};

use crate::wire::error::{Code, Error};

/// The deepest value that is taken: maps and lists inside of each other, the outermost counted. The decoder
/// gives up at 33.
pub const DEPTH_MAX: usize = 30;
/// Up to here a whole number is shown without a fraction: numbers are doubles, and beyond it not every whole
/// number is one.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// As a message. Refuses what the message cannot hold.
pub fn to_struct(map: Map<String, Value>) -> Result<Struct, Error> {
    let fields = map.into_iter().map(|(key, value)| to_proto(value, 2).map(|value| (key, value)));
    Ok(Struct { fields: fields.collect::<Result<_, _>>()? })
}

fn to_proto(value: Value, depth: usize) -> Result<Proto, Error> {
    if depth > DEPTH_MAX + 1 {
        return Err(Error::usage(format!("a value of more than {DEPTH_MAX} levels")));
    }
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(is) => Kind::BoolValue(is),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(all) => {
            let values = all.into_iter().map(|value| to_proto(value, depth + 1)).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        Value::Object(map) => {
            let fields = map.into_iter().map(|(k, value)| to_proto(value, depth + 1).map(|value| (k, value)));
            Kind::StructValue(Struct { fields: fields.collect::<Result<_, _>>()? })
        }
    };
    Ok(Proto { kind: Some(kind) })
}

/// As JSON, with sorted keys. What JSON has no number for (NaN, infinity) is text.
#[must_use]
pub fn to_json(message: Struct) -> Map<String, Value> {
    message.fields.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn json(value: Proto) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(is)) => Value::Bool(is),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(map)) => Value::Object(to_json(map)),
        Some(Kind::NumberValue(number)) => {
            if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
                return Value::from(number as i64);
            }
            Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
        }
    }
}

/// Decodes a value, which may be too deep for the decoder: then it says so.
pub fn decode(bytes: &[u8]) -> Result<Struct, Error> {
    if depth(bytes).is_some_and(|depth| depth > DEPTH_MAX) {
        return Err(Error::new(Code::Failed, format!("the value has more than {DEPTH_MAX} levels")));
    }
    Struct::decode(bytes).map_err(|e| Error::failed("decode the value", &e))
}

/// How deep maps and lists are inside of each other in an encoded `Struct`; none where the bytes are no
/// message. Without recursion: the bytes are a stranger's.
#[must_use]
pub fn depth(bytes: &[u8]) -> Option<usize> {
    /// What a message that is being read is, by which its fields are known.
    #[derive(Clone, Copy)]
    enum Of {
        Struct,
        Entry,
        Value,
        List,
    }
    let (mut open, mut deepest) = (vec![(Of::Struct, bytes, 1)], 1);
    while let Some((of, bytes, level)) = open.pop() {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (field, inner) = next_field(&mut rest)?;
            let Some(inner) = inner else { continue };
            let next = match (of, field) {
                (Of::Struct, 1) => (Of::Entry, inner, level),
                (Of::Entry, 2) | (Of::List, 1) => (Of::Value, inner, level),
                (Of::Value, 5) => (Of::Struct, inner, level + 1),
                (Of::Value, 6) => (Of::List, inner, level + 1),
                _ => continue,
            };
            deepest = deepest.max(next.2);
            open.push(next);
        }
    }
    Some(deepest)
}

/// The number of the next field, and its bytes where it has a length.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = prost::encoding::decode_varint(rest).ok()?;
    let skip = |rest: &mut &'a [u8], len: usize| {
        let (field, behind) = rest.split_at_checked(len)?;
        *rest = behind;
        Some(field)
    };
    let inner = match key & 7 {
        0 => prost::encoding::decode_varint(rest).ok().map(|_| None)?,
        1 => skip(rest, 8).map(|_| None)?,
        2 => {
            let len = usize::try_from(prost::encoding::decode_varint(rest).ok()?).ok()?;
            Some(skip(rest, len)?)
        }
        5 => skip(rest, 4).map(|_| None)?,
        _ => return None,
    };
    Some((key >> 3, inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn values_come_back_with_sorted_keys_and_whole_numbers() {
        let value = json!({
            "z": 1, "a": [null, true, "x", 1.5, -3, {"k": []}], "big": 9_007_199_254_740_992_u64, "e": {}
        });
        let message = to_struct(map(value.clone())).unwrap();
        let back = to_json(decode(&message.encode_to_vec()).unwrap());
        assert_eq!(Value::Object(back.clone()), value);
        assert_eq!(back.keys().collect::<Vec<_>>(), ["a", "big", "e", "z"]);
        assert_eq!(Value::Object(back).to_string().matches(".0").count(), 0);
    }

    #[test]
    fn numbers_that_json_has_not_are_text() {
        let number = |n| Proto { kind: Some(Kind::NumberValue(n)) };
        assert_eq!(json(number(f64::NAN)), json!("NaN"));
        assert_eq!(json(number(f64::INFINITY)), json!("inf"));
        assert_eq!(json(number(1e300)).to_string(), "1e+300");
        assert_eq!(json(number(0.1)).to_string(), "0.1");
        assert_eq!(json(Proto { kind: None }), Value::Null);
    }

    fn nested(levels: usize, list: bool) -> Vec<u8> {
        let mut inner = Proto { kind: Some(Kind::BoolValue(true)) };
        for _ in 1..levels {
            let kind = if list {
                Kind::ListValue(ListValue { values: vec![inner] })
            } else {
                Kind::StructValue(Struct { fields: [("k".to_owned(), inner)].into() })
            };
            inner = Proto { kind: Some(kind) };
        }
        Struct { fields: [("k".to_owned(), inner)].into() }.encode_to_vec()
    }

    #[test]
    fn what_is_too_deep_is_said_so_and_what_is_not_is_decoded() {
        for list in [false, true] {
            assert_eq!(depth(&nested(DEPTH_MAX, list)), Some(DEPTH_MAX));
            assert!(decode(&nested(DEPTH_MAX, list)).is_ok());
            for levels in [DEPTH_MAX + 1, 33, 34, 100, 500] {
                let refused = decode(&nested(levels, list)).unwrap_err();
                assert!(refused.message.contains("levels"), "{levels}: {refused}");
            }
        }
        assert!(decode(&[0xff; 9]).is_err());
        assert_eq!(depth(&[]), Some(1));
    }
}
