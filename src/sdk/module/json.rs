//! JSON as it is read: long strings are lent by the bytes that they stand in, not copied.

use std::borrow::Cow;
use std::fmt;

use indexmap::IndexMap;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Objects keep the order of their fields; of a name that is there twice the last one counts.
pub(crate) type Object<'a> = IndexMap<Text<'a>, Json<'a>>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Text<'a>),
    Array(Vec<Self>),
    Object(Object<'a>),
}

/// Lent where it stands without escapes, in JSON or as a word of ours. What is lent is written again as it
/// is, so it may have nothing that is to be escaped.
pub(crate) type Text<'a> = Cow<'a, str>;

impl<'a> Json<'a> {
    /// The field of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        if let Self::Object(all) = self { all.get(name) } else { None }
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        if let Self::Object(all) = self { all.get_mut(name) } else { None }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(is) = self { Some(*is) } else { None }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Self>> {
        if let Self::Array(all) = self { Some(all) } else { None }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Object<'a>> {
        if let Self::Object(all) = self { Some(all) } else { None }
    }

    /// As bytes, of about this length.
    pub fn to_bytes(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        self.write(&mut out);
        out
    }

    /// What it differs in from serde_json's own: a string of a megabyte is not looked at byte by byte for
    /// what is to be escaped.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(is) => write_other(is, out),
            Self::Number(number) => write_other(number, out),
            Self::Text(text) => write_text(text, out),
            Self::Array(all) => {
                out.push(b'[');
                for (n, value) in all.iter().enumerate() {
                    out.extend((n > 0).then_some(b','));
                    value.write(out);
                }
                out.push(b']');
            }
            Self::Object(all) => {
                out.push(b'{');
                for (n, (name, value)) in all.iter().enumerate() {
                    out.extend((n > 0).then_some(b','));
                    write_text(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn write_text(text: &Text<'_>, out: &mut Vec<u8>) {
    let is_lent = matches!(text, Text::Borrowed(_));
    debug_assert!(!is_lent || !is_escaped(text), "{text:.200}");
    if !is_lent && is_escaped(text) {
        return write_other(text, out);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn is_escaped(text: &str) -> bool {
    // Without an end at the first one found, which the compiler makes many bytes at a time of.
    text.bytes().fold(false, |is, b| is | (b < b' ') | (b == b'"') | (b == b'\\'))
}

fn write_other<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("memory takes it, and it has no keys");
}

/// An object of what is there: values may be large, and are not copied.
pub(crate) fn object<'a, const N: usize>(fields: [(&'static str, Json<'a>); N]) -> Json<'a> {
    Json::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

impl From<&'static str> for Json<'_> {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Value> for Json<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(is) => Self::Bool(is),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(all) => Self::Array(all.into_iter().map(Self::from).collect()),
            Value::Object(all) => {
                Self::Object(all.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
            }
        }
    }
}

impl From<Json<'_>> for Value {
    fn from(value: Json<'_>) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(is) => Self::Bool(is),
            Json::Number(number) => Self::Number(number),
            Json::Text(text) => Self::String(text.into_owned()),
            Json::Array(all) => Self::Array(all.into_iter().map(Self::from).collect()),
            Json::Object(all) => {
                let all = all.into_iter().map(|(name, value)| (name.into_owned(), value.into()));
                Self::Object(all.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader).map(|value: Json<'de>| value)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(is))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(n.into()))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(n.into()))
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<Json<'de>, E> {
        Number::from_f64(n).map(Json::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = from.next_element()? {
            all.push(value);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let mut all = Object::new();
        while let Some((Name(name), value)) = from.next_entry()? {
            all.insert(name, value);
        }
        Ok(Json::Object(all))
    }
}

/// Of a field.
struct Name<'a>(Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_str(Reader)? {
            Json::Text(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a name is text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_written_is_what_serde_json_reads_and_writes() {
        for text in [
            r#"{"a":"é\u0000\n\"\\x","b":[],"c":{},"d":[null,true,-1,1.5e300,"",["x",{"\t":"y"}]]}"#,
            r#""a long string without anything in it that is to be escaped \u00e9 \/""#,
            r#"{"z":18446744073709551615,"a":-9223372036854775808,"z":0.1}"#,
            r#""\u001f""#,
            r#""\"""#,
            "[[],[[]]]",
            "7",
        ] {
            let known: Value = serde_json::from_str(text).unwrap();
            let json: Json<'_> = serde_json::from_str(text).unwrap();
            assert_eq!(Value::from(json.clone()), known, "{text}");
            assert_eq!(String::from_utf8(json.to_bytes(0)).unwrap(), known.to_string(), "{text}");
            assert_eq!(Json::from(known), json, "{text}");
        }
        for text in ["1e999", "[1", r#""\ud800""#, "{1:2}", "nul", "", "1 2"] {
            let known = serde_json::from_str::<Value>(text).unwrap_err().to_string();
            let found = serde_json::from_str::<Json<'_>>(text).unwrap_err().to_string();
            assert_eq!(found, known, "{text}");
        }
        assert!(serde_json::from_slice::<Json<'_>>(b"\"\xff\"").is_err());
    }

    #[test]
    fn long_strings_are_lent() {
        let text = format!(r#"{{"data":"{}"}}"#, "x".repeat(1 << 20));
        let json: Json<'_> = serde_json::from_str(&text).unwrap();
        assert!(matches!(json.get("data"), Some(Json::Text(Text::Borrowed(_)))));
    }
}
