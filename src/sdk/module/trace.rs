//! The type of what serde can read: a deserializer that has no value, but notes what it is asked for.

use std::collections::BTreeMap;
use std::fmt;

use serde::de;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::sdk::module::schema::{DEPTH_MAX, Type};

/// The type of `T` on the wire, or why it has none.
pub(in crate::sdk::module) fn type_of<T: DeserializeOwned>() -> Result<Type, String> {
    let mut found = None;
    T::deserialize(Trace { found: &mut found, depth: 1 }).map_err(|e| e.0)?;
    found.ok_or_else(|| "it asks for nothing".to_owned())
}

/// Why there is no type.
#[derive(Debug)]
struct NoType(String);

impl fmt::Display for NoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoType {}

impl de::Error for NoType {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

/// One place of a value.
struct Trace<'t> {
    found: &'t mut Option<Type>,
    depth: usize,
}

impl Trace<'_> {
    /// A place inside of this one.
    fn inner<T>(&self, trace: impl FnOnce(Trace<'_>) -> Result<T, NoType>) -> Result<(T, Type), NoType> {
        if self.depth >= DEPTH_MAX {
            return Err(NoType(format!("it is nested deeper than {DEPTH_MAX} levels, or holds itself")));
        }
        let mut found = None;
        let value = trace(Trace { found: &mut found, depth: self.depth + 1 })?;
        Ok((value, found.ok_or_else(|| NoType("a part of it asks for nothing".to_owned()))?))
    }
}

macro_rules! primitives {
    ($($method:ident => $visit:ident($value:expr), $of:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoType> {
            *self.found = Some($of);
            visitor.$visit($value)
        })*
    };
}

macro_rules! refused {
    ($($method:ident($($argument:ty),*), $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, NoType> {
            Err(NoType(concat!($what, " has no type on the wire").to_owned()))
        })*
    };
}

impl<'de> Deserializer<'de> for Trace<'_> {
    type Error = NoType;

    primitives! {
        deserialize_bool => visit_bool(false), Type::Bool;
        deserialize_i8 => visit_i8(0), Type::Int;
        deserialize_i16 => visit_i16(0), Type::Int;
        deserialize_i32 => visit_i32(0), Type::Int;
        deserialize_i64 => visit_i64(0), Type::Int;
        deserialize_u8 => visit_u8(0), Type::Int;
        deserialize_u16 => visit_u16(0), Type::Int;
        deserialize_u32 => visit_u32(0), Type::Int;
        deserialize_u64 => visit_u64(0), Type::Int;
        deserialize_f32 => visit_f32(0.0), Type::Float;
        deserialize_f64 => visit_f64(0.0), Type::Float;
        deserialize_char => visit_char(' '), Type::String;
        deserialize_str => visit_str(""), Type::String;
        deserialize_string => visit_str(""), Type::String;
    }

    refused! {
        deserialize_any(), "a value of any type";
        deserialize_i128(), "a number of 128 bits";
        deserialize_u128(), "a number of 128 bits";
        deserialize_bytes(), "a string of bytes";
        deserialize_byte_buf(), "a string of bytes";
        deserialize_tuple(usize), "a tuple";
        deserialize_tuple_struct(&'static str, usize), "a tuple";
        deserialize_enum(&'static str, &'static [&'static str]), "an enum";
        deserialize_identifier(), "a name of a field";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoType> {
        let (value, of) = self.inner(|inner| visitor.visit_some(inner))?;
        *self.found = Some(Type::Option(Box::new(of)));
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoType> {
        let mut parts = Parts { trace: &self, keys: &[], next: 0, found: Vec::new() };
        let value = visitor.visit_seq(&mut parts)?;
        let [of] = &mut *parts.found else { return Err(NoType("it takes no elements".to_owned())) };
        let of = std::mem::replace(&mut of.1, Type::Bool);
        *self.found = Some(Type::List(Box::new(of)));
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoType> {
        let mut parts = Parts { trace: &self, keys: &[""], next: 0, found: Vec::new() };
        let value = visitor.visit_map(&mut parts)?;
        let of = parts.found.pop().ok_or_else(|| NoType("it takes no entries".to_owned()))?;
        *self.found = Some(Type::Map(Box::new(Type::String), Box::new(of.1)));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoType> {
        let mut parts = Parts { trace: &self, keys: fields, next: 0, found: Vec::new() };
        let value = visitor.visit_map(&mut parts)?;
        *self.found = Some(Type::Record(parts.found.into_iter().collect()));
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoType> {
        visitor.visit_newtype_struct(self)
    }

    /// A module without input or output: a record without fields.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoType> {
        *self.found = Some(Type::Record(BTreeMap::new()));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoType> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoType> {
        self.deserialize_unit(visitor)
    }
}

/// The fields of a record, the one entry of a map, or the one element of a list.
struct Parts<'p, 't> {
    trace: &'p Trace<'t>,
    keys: &'static [&'static str],
    next: usize,
    found: Vec<(String, Type)>,
}

impl<'de> SeqAccess<'de> for &mut Parts<'_, '_> {
    type Error = NoType;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NoType> {
        if !self.found.is_empty() {
            return Ok(None);
        }
        let (value, of) = self.trace.inner(|inner| seed.deserialize(inner))?;
        self.found.push((String::new(), of));
        Ok(Some(value))
    }
}

impl<'de> MapAccess<'de> for &mut Parts<'_, '_> {
    type Error = NoType;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NoType> {
        let Some(key) = self.keys.get(self.next) else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NoType> {
        let key = self.keys[self.next];
        self.next += 1;
        let traced = self.trace.inner(|inner| seed.deserialize(inner));
        let (value, of) = traced.map_err(|e| NoType(format!("{key}: {}", e.0)))?;
        self.found.push((key.to_owned(), of));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its type matters")]
    struct Outer {
        text: String,
        count: Option<u32>,
        ratio: f64,
        on: bool,
        all: Vec<Inner>,
        by_name: BTreeMap<String, i64>,
        #[serde(rename = "other")]
        renamed: Wrapped,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its type matters")]
    struct Inner {
        n: i8,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its type matters")]
    struct Wrapped(String);

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its type matters")]
    struct Endless {
        next: Option<Box<Endless>>,
    }

    #[derive(Deserialize)]
    enum Choice {
        One,
    }

    #[test]
    fn types_are_what_serde_reads() {
        let shown = |of: Result<Type, String>| of.map(|of| of.to_string());
        assert_eq!(
            shown(type_of::<Outer>()),
            Ok("{all: List<{n: Int}>, by_name: Map<String, Int>, count: Int?, on: Bool, other: String, \
                ratio: Float, text: String}"
                .to_owned())
        );
        assert_eq!(shown(type_of::<()>()), Ok("{}".to_owned()));
        assert_eq!(shown(type_of::<Vec<f32>>()), Ok("List<Float>".to_owned()));
    }

    #[test]
    fn what_has_no_type_is_refused_with_its_reason() {
        for (of, why) in [
            (type_of::<Endless>(), "nested deeper than 32"),
            (type_of::<Choice>(), "an enum has no type"),
            (type_of::<(i64, i64)>(), "a tuple has no type"),
            (type_of::<serde_json::Value>(), "any type has no type"),
            (type_of::<BTreeMap<i64, i64>>(), "invalid type"),
        ] {
            let found = of.unwrap_err();
            assert!(found.contains(why), "{why}: {found}");
        }
    }
}
