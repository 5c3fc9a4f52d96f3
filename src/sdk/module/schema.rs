//! The types of modules' inputs and outputs, from the schemas of the wire.

use std::collections::BTreeMap;
use std::fmt;

use crate::rpc::services::constellation as proto;
use crate::rpc::services::constellation::primitive_type::Kind;
use crate::rpc::services::constellation::type_schema::Type as Wire;

/// The deepest schema: what the protobuf parser takes of nested records.
pub const DEPTH_MAX: usize = 32;
/// The most fields and variants of one schema, over all its levels.
const PARTS_MAX: usize = 1000;

/// A type of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Int,
    Float,
    Bool,
    Record(BTreeMap<String, Type>),
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// The wire has no names for the variants.
    Union(Vec<Type>),
    Option(Box<Type>),
}

impl Type {
    /// Reads a schema; an error says what is wrong with it.
    pub(crate) fn from_wire(schema: &proto::TypeSchema) -> Result<Self, String> {
        Self::read(schema, 1, &mut PARTS_MAX.clone())
    }

    fn read(schema: &proto::TypeSchema, depth: usize, left: &mut usize) -> Result<Self, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
        }
        *left = left.checked_sub(1).ok_or_else(|| format!("it has more than {PARTS_MAX} parts"))?;
        let mut inner = |schema: Option<&proto::TypeSchema>, what: &str| {
            let schema = schema.ok_or_else(|| format!("{what} is missing"))?;
            Self::read(schema, depth + 1, left).map(Box::new)
        };
        Ok(match schema.r#type.as_ref().ok_or("TypeSchema has no type set")? {
            Wire::Primitive(primitive) => match Kind::try_from(primitive.kind) {
                Ok(Kind::String) => Self::String,
                Ok(Kind::Int) => Self::Int,
                Ok(Kind::Float) => Self::Float,
                Ok(Kind::Bool) => Self::Bool,
                Err(_) => return Err(format!("Unrecognized primitive kind {}", primitive.kind)),
            },
            Wire::Record(record) => {
                let mut fields = BTreeMap::new();
                for (name, schema) in &record.fields {
                    // An existing SDK loses a field of this name.
                    if name == "__proto__" {
                        return Err("a field cannot be called __proto__".to_owned());
                    }
                    let field =
                        inner(Some(schema), name).map_err(|why| format!("field {name:.80}: {why}"))?;
                    fields.insert(name.clone(), *field);
                }
                Self::Record(fields)
            }
            Wire::List(list) => Self::List(inner(list.element_type.as_deref(), "element_type")?),
            Wire::Map(map) => Self::Map(
                inner(map.key_type.as_deref(), "key_type")?,
                inner(map.value_type.as_deref(), "value_type")?,
            ),
            Wire::Union(union) if union.variants.is_empty() => {
                return Err("a union needs at least one variant".to_owned());
            }
            Wire::Union(union) => {
                let variants = union.variants.iter().map(|v| inner(Some(v), "variant").map(|t| *t));
                Self::Union(variants.collect::<Result<_, _>>()?)
            }
            Wire::Option(option) => Self::Option(inner(option.inner_type.as_deref(), "inner_type")?),
        })
    }

    /// As the wire has it.
    pub(crate) fn to_wire(&self) -> proto::TypeSchema {
        let boxed = |of: &Self| Some(Box::new(of.to_wire()));
        let primitive = |kind: Kind| Wire::Primitive(proto::PrimitiveType { kind: kind.into() });
        let of = match self {
            Self::String => primitive(Kind::String),
            Self::Int => primitive(Kind::Int),
            Self::Float => primitive(Kind::Float),
            Self::Bool => primitive(Kind::Bool),
            Self::Record(fields) => {
                let fields = fields.iter().map(|(name, of)| (name.clone(), of.to_wire())).collect();
                Wire::Record(proto::RecordType { fields })
            }
            Self::List(of) => Wire::List(Box::new(proto::ListType { element_type: boxed(of) })),
            Self::Map(key, value) => {
                Wire::Map(Box::new(proto::MapType { key_type: boxed(key), value_type: boxed(value) }))
            }
            Self::Union(variants) => {
                Wire::Union(proto::UnionType { variants: variants.iter().map(Self::to_wire).collect() })
            }
            Self::Option(of) => Wire::Option(Box::new(proto::OptionType { inner_type: boxed(of) })),
        };
        proto::TypeSchema { r#type: Some(of) }
    }

    /// The parameters of a module with this input: the fields of a record, or `input`.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, Type> {
        match self {
            Self::Record(fields) => fields.clone(),
            other => BTreeMap::from([("input".to_owned(), other.clone())]),
        }
    }
}

/// `{text: String, n: Int?}`, `List<Float>`, `Map<String, Int>`, `String | Int`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("String"),
            Self::Int => f.write_str("Int"),
            Self::Float => f.write_str("Float"),
            Self::Bool => f.write_str("Bool"),
            Self::Record(fields) => {
                f.write_str("{")?;
                for (n, (name, field)) in fields.iter().enumerate() {
                    write!(f, "{}{name}: {field}", if n == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Self::List(of) => write!(f, "List<{of}>"),
            Self::Map(key, value) => write!(f, "Map<{key}, {value}>"),
            Self::Union(variants) => {
                f.write_str("(")?;
                for (n, variant) in variants.iter().enumerate() {
                    write!(f, "{}{variant}", if n == 0 { "" } else { " | " })?;
                }
                f.write_str(")")
            }
            Self::Option(of) => write!(f, "{of}?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(of: Wire) -> proto::TypeSchema {
        proto::TypeSchema { r#type: Some(of) }
    }

    fn primitive(kind: i32) -> proto::TypeSchema {
        wire(Wire::Primitive(proto::PrimitiveType { kind }))
    }

    fn list(of: Option<proto::TypeSchema>) -> proto::TypeSchema {
        wire(Wire::List(Box::new(proto::ListType { element_type: of.map(Box::new) })))
    }

    #[test]
    fn a_schema_is_read_and_shown() {
        let option = proto::OptionType { inner_type: Some(Box::new(primitive(1))) };
        let fields =
            [("text".to_owned(), primitive(0)), ("n".to_owned(), wire(Wire::Option(Box::new(option))))];
        let record = wire(Wire::Record(proto::RecordType { fields: fields.into() }));
        let union = wire(Wire::Union(proto::UnionType { variants: vec![primitive(2), primitive(3)] }));
        let map = proto::MapType { key_type: Some(Box::new(record)), value_type: Some(Box::new(union)) };
        let shown = Type::from_wire(&wire(Wire::Map(Box::new(map)))).unwrap().to_string();
        assert_eq!(shown, "Map<{n: Int?, text: String}, (Float | Bool)>");
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_reason() {
        let empty_map = wire(Wire::Map(Box::default()));
        let proto_field = proto::RecordType { fields: [("__proto__".to_owned(), primitive(0))].into() };
        let nested = proto::RecordType { fields: [("a".to_owned(), list(None))].into() };
        for (schema, reason) in [
            (proto::TypeSchema::default(), "no type set"),
            (primitive(9), "Unrecognized"),
            (list(None), "element_type"),
            (empty_map, "key_type"),
            (wire(Wire::Option(Box::default())), "inner_type"),
            (wire(Wire::Union(proto::UnionType::default())), "variant"),
            (wire(Wire::Record(proto_field)), "__proto__"),
            (wire(Wire::Record(nested)), "field a: element_type"),
            ((0..DEPTH_MAX).fold(primitive(0), |inner, _| list(Some(inner))), "deeper than 32"),
        ] {
            let why = Type::from_wire(&schema).unwrap_err();
            assert!(why.contains(reason), "{reason}: {why}");
        }
        let deepest = (1..DEPTH_MAX).fold(primitive(0), |inner, _| list(Some(inner)));
        assert!(Type::from_wire(&deepest).is_ok());
    }
}
