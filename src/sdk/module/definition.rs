//! A module: its name, its types, and what it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::sdk::module::schema::Type;
use crate::sdk::module::serializer::Serializer;
use crate::sdk::module::trace::type_of;

/// Why a module gives no output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(in crate::sdk::module) code: &'static str,
    pub(in crate::sdk::module) message: String,
}

impl Failure {
    /// It was tried, and failed.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: "RUNTIME_ERROR", message: message.into() }
    }

    /// The input is none for this module, though it is of its type.
    #[must_use]
    pub fn of_input(message: impl Into<String>) -> Self {
        Self { code: "TYPE_ERROR", message: message.into() }
    }

    /// It took too long.
    #[must_use]
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self { code: "TIMEOUT", message: message.into() }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Self {
        Self::new(e.to_string())
    }
}

/// What is known of a call beside its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub execution_id: String,
    /// `traceparent` and the like.
    pub metadata: BTreeMap<String, String>,
}

/// What an author writes where a closure is not enough. Calls come from several threads at once.
pub trait Handler: Send + Sync + 'static {
    type Input: DeserializeOwned;
    type Output: Serialize + DeserializeOwned;

    fn execute(&self, input: Self::Input, call: &Call) -> Result<Self::Output, Failure>;
}

type Execute = dyn Fn(Value, &Call) -> Result<Value, Failure> + Send + Sync;

/// A module that can be registered.
#[derive(Clone)]
pub struct Module {
    pub(in crate::sdk::module) name: String,
    pub(in crate::sdk::module) version: String,
    pub(in crate::sdk::module) description: String,
    /// An error says why there is no type for it.
    pub(in crate::sdk::module) types: Result<(Type, Type), String>,
    execute: Arc<Execute>,
}

impl Module {
    /// A closure as a module. The types of its input and output become the module's: structs are records,
    /// `Option` is an option, `Vec` a list, a map with text as keys a map; enums and tuples have none.
    pub fn new<I, O>(name: &str, work: impl Fn(I) -> Result<O, Failure> + Send + Sync + 'static) -> Self
    where
        I: DeserializeOwned,
        O: Serialize + DeserializeOwned,
    {
        Self::with::<I, O>(name, move |input, _| work(input))
    }

    /// The same of what is more than a closure.
    #[must_use]
    pub fn of<H: Handler>(name: &str, handler: H) -> Self {
        Self::with::<H::Input, H::Output>(name, move |input, call| handler.execute(input, call))
    }

    fn with<I, O>(name: &str, work: impl Fn(I, &Call) -> Result<O, Failure> + Send + Sync + 'static) -> Self
    where
        I: DeserializeOwned,
        O: Serialize + DeserializeOwned,
    {
        let types = type_of::<I>()
            .map_err(|why| format!("the input of {name}: {why}"))
            .and_then(|i| Ok((i, type_of::<O>().map_err(|why| format!("the output of {name}: {why}"))?)));
        let execute = move |input: Value, call: &Call| {
            // A unit is a record without fields on the wire, and null for serde.
            let is_empty = input.as_object().is_some_and(serde_json::Map::is_empty);
            let input = serde_json::from_value(input)
                .or_else(|e| if is_empty { serde_json::from_value(Value::Null) } else { Err(e) });
            let input = input.map_err(|e| Failure::of_input(e.to_string()))?;
            serde_json::to_value(work(input, call)?).map_err(|e| Failure::new(e.to_string()))
        };
        Self {
            name: name.to_owned(),
            version: String::new(),
            description: String::new(),
            types,
            execute: Arc::new(execute),
        }
    }

    #[must_use]
    pub fn version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    #[must_use]
    pub fn description(self, description: &str) -> Self {
        Self { description: description.to_owned(), ..self }
    }

    /// Executes it: input and output are bytes as the serializer has them.
    pub(in crate::sdk::module) fn run(
        &self,
        serializer: &dyn Serializer,
        input: &[u8],
        call: &Call,
    ) -> Result<Vec<u8>, Failure> {
        let (of, output) = self.types.as_ref().map_err(|why| Failure::new(why.clone()))?;
        let read = |why: String| Failure::of_input(format!("Failed to deserialize input: {why}"));
        let mut plain = serializer.read(input, &Type::Record(of.parameters())).map_err(read)?;
        if !matches!(of, Type::Record(_)) {
            plain = plain["input"].take();
        }
        let value = (self.execute)(plain, call)?;
        let value =
            if value.is_null() && *output == Type::Record(BTreeMap::new()) { json!({}) } else { value };
        serializer.write(value, output).map_err(|why| Failure::new(format!("the output does not fit: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::sdk::module::serializer::TaggedJson;
    use crate::sdk::module::value;

    #[derive(Serialize, Deserialize)]
    struct Given {
        a: i64,
        b: Option<i64>,
    }

    fn plain(module: &Module, input: &Value) -> Result<Value, Failure> {
        let (of, output) = module.types.clone().unwrap();
        let input = match of {
            Type::Record(_) => value::to_tagged(input.clone(), &of).unwrap(),
            _ => value::to_tagged(json!({ "input": input }), &Type::Record(of.parameters())).unwrap(),
        };
        let tagged = module.run(&TaggedJson, &input.to_bytes(0), &Call::default())?;
        let tagged: Value = serde_json::from_slice(&tagged).unwrap();
        Ok(value::to_plain(tagged, &output).unwrap().into())
    }

    #[test]
    fn closures_take_records_single_values_and_nothing() {
        let add = Module::new("add", |given: Given| Ok(given.a + given.b.unwrap_or(0)));
        assert_eq!(plain(&add, &json!({ "a": 6, "b": 7 })), Ok(json!(13)));
        assert_eq!(plain(&add, &json!({ "a": 6 })), Ok(json!(6)));
        let words =
            Module::new("words", |text: String| Ok(text.split(' ').map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(plain(&words, &json!("a b")), Ok(json!(["a", "b"])));
        let nothing = Module::new("nothing", |()| Ok(()));
        assert_eq!(plain(&nothing, &json!({})), Ok(json!({})));
    }

    #[test]
    fn failures_have_their_codes() {
        let fail = Module::new("fail", |n: i64| match n {
            0 => Err::<i64, _>(Failure::new("no")),
            _ => Err("x".parse::<i64>().unwrap_err().into()),
        });
        assert_eq!(plain(&fail, &json!(0)), Err(Failure::new("no")));
        assert!(plain(&fail, &json!(1)).is_err_and(|e| e.code == "RUNTIME_ERROR"));
        let bad = fail.run(&TaggedJson, b"{}", &Call::default()).unwrap_err();
        assert!(
            bad.code == "TYPE_ERROR" && bad.message.starts_with("Failed to deserialize input"),
            "{bad:?}"
        );
        let float = Module::new("float", |()| Ok(f64::NAN));
        assert!(plain(&float, &json!({})).is_err_and(|e| e.message.contains("does not fit")));
    }
}
