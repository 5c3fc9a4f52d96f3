//! What a provider is given with Init: its configuration with what it refers to, if that fits its schemas. It
//! is looked at when it is given, and before that as far as it can be; what is wrong is said all at once.

use prost::Message;
use serde_json::{Map, Value};

use crate::provider::failure::Failure;
use crate::provider::references;
use crate::schema;
use crate::sdk::value;
use crate::wire::error::{Detail, Error};
use crate::wire::provider::Definition;

/// How many faults are in a message; all are in its details.
const TOLD_MAX: usize = 5;

/// As it is sent, an encoded `Struct`.
pub fn given(definition: &Definition) -> Result<Vec<u8>, Failure> {
    let (config, missing) = looked_at(definition)?;
    if !missing.is_empty() {
        return Err(refused("cannot be resolved", missing));
    }
    Ok(value::to_struct(config).map_err(bad)?.encode_to_vec())
}

/// Whether it could be sent, but for what it refers to and is not there now.
pub fn check(definition: &Definition) -> Result<(), Failure> {
    if definition.schemas.is_empty() { Ok(()) } else { looked_at(definition).map(drop) }
}

/// With what it refers to, and what of that is not there. It fits its schemas as far as it is there.
fn looked_at(definition: &Definition) -> Result<(Map<String, Value>, Vec<Detail>), Failure> {
    let mut config = value::to_json(value::decode(&definition.config).map_err(bad)?);
    let missing = references::replace_all(&mut config);
    let mut all = Vec::new();
    for text in &definition.schemas {
        let faults = schema::faults(text, Value::Object(config.clone()));
        all.extend(faults.map_err(|why| Failure::BadConfig {
            why: format!("cannot be looked at: its schema: {why}"),
            details: Vec::new(),
        })?);
    }
    // Nothing is said of what is not there.
    let is_of = |path: &str, of: &Detail| {
        path.strip_prefix(of.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    all.retain(|fault| !missing.iter().any(|of| is_of(&fault.path, of)));
    if all.is_empty() {
        return Ok((config, missing));
    }
    all.extend(missing);
    Err(refused("does not fit its schema", all))
}

fn refused(how: &str, details: Vec<Detail>) -> Failure {
    let one = |fault: &Detail| format!("{} {}", fault.path, fault.message).trim().to_owned();
    let some: Vec<_> = details.iter().take(TOLD_MAX).map(one).collect();
    let more = match details.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Failure::BadConfig { why: format!("{how}: {}{more}", some.join("; ")), details }
}

fn bad(e: Error) -> Failure {
    Failure::BadConfig { why: format!("cannot be resolved: {}", e.message), details: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(config: &Value, schema: &Value) -> Definition {
        let config = value::to_struct(config.as_object().unwrap().clone()).unwrap().encode_to_vec();
        Definition { config, schemas: vec![schema.to_string()], ..Definition::default() }
    }

    fn details(result: Result<(), Failure>) -> Vec<(String, String)> {
        let Err(Failure::BadConfig { details, .. }) = result else { panic!("{result:?}") };
        details.into_iter().map(|detail| (detail.path, detail.message)).collect()
    }

    #[test]
    fn all_faults_are_told_at_once_each_where_it_is_and_without_the_value() {
        let schema = json!({
            "type": "object", "required": ["name", "host"], "additionalProperties": false,
            "properties": {
                "port": { "type": "integer", "maximum": 65535 },
                "key": { "type": "string", "pattern": "^sk-", "writeOnly": true },
                "list": { "items": { "enum": ["a", "b"] } },
                "host": { "minLength": 1 },
            },
        });
        let config = json!({ "port": 70_000, "key": "hunter2", "list": ["a", "hunter2"], "hots": "h" });
        let definition = definition(&config, &schema);
        let found = details(given(&definition).map(drop));
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["", "/hots", "/key", "/list/1", "/port"], "{found:?}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
        assert!(found[0].1.contains("name, host"), "{found:?}");
        assert_eq!(details(check(&definition)), found);
    }

    #[test]
    fn what_is_not_there_yet_is_missed_only_when_it_is_sent() {
        let schema = json!({ "properties": { "key": { "type": "string", "minLength": 3 } } });
        let missing = json!({ "$env": "PROVOST_NO_SUCH_VARIABLE" });
        let definition_of = |config: Value| definition(&config, &schema);
        let of_key = definition_of(json!({ "key": missing }));
        assert_eq!(check(&of_key), Ok(()));
        let found = details(given(&of_key).map(drop));
        assert_eq!(found.len(), 1);
        assert!(found[0].0 == "/key" && found[0].1.contains("is not set"), "{found:?}");
        // What there is, is looked at all the same, and all is told.
        let both = definition(
            &json!({ "key": missing, "n": 1 }),
            &json!({ "properties": { "key": { "type": "string" }, "n": { "type": "string" } } }),
        );
        let paths: Vec<_> = details(check(&both)).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/n", "/key"]);
    }

    #[test]
    fn a_schema_that_is_none_is_a_bad_configuration_of_one_provider() {
        let of = |schema: &Value| check(&definition(&json!({}), schema)).unwrap_err();
        let failure = of(&json!({ "$ref": "https://example.com/schema.json" }));
        assert_eq!(failure.reason(), "invalid_config");
        assert!(failure.message().contains("nothing is fetched"), "{failure:?}");
        assert!(of(&json!({ "type": "strnig" })).message().contains("no JSON Schema"));
    }
}
