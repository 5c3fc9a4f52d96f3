//! How values are written as bytes, behind a trait: JSON with tags is what services speak.

use serde_json::Value;

use crate::sdk::module::schema::Type;
use crate::sdk::module::value;

/// Values of modules as bytes, and back. Values are plain JSON, as `docs/modules.md` has it.
pub trait Serializer: Send + Sync + 'static {
    /// The bytes of a value of this type; an error names the place that does not fit.
    fn write(&self, value: Value, of: &Type) -> Result<Vec<u8>, String>;

    /// The value of this type that the bytes have.
    fn read(&self, bytes: &[u8], of: &Type) -> Result<Value, String>;
}

/// JSON in which each value has a tag of its type.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaggedJson;

impl Serializer for TaggedJson {
    fn write(&self, value: Value, of: &Type) -> Result<Vec<u8>, String> {
        value::to_tagged(value, of).map(|tagged| tagged.to_bytes(0))
    }

    fn read(&self, bytes: &[u8], of: &Type) -> Result<Value, String> {
        value::read(bytes, |tagged| value::to_plain(tagged, of).map(Value::from))
    }
}
