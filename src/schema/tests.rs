//! Schemas of strangers: what they may say, what they may not cost, and what is told of a value.

use serde_json::{Value, json};

use crate::schema::{check, faults as found_by};

/// Why a schema is refused; empty: it is not.
fn refusal(schema: &Value) -> String {
    check(&schema.to_string()).err().unwrap_or_default()
}

fn faults(schema: &Value, config: &Value) -> Result<Vec<(String, String)>, String> {
    let faults = found_by(&schema.to_string(), config.clone())?;
    Ok(faults.into_iter().map(|fault| (fault.path, fault.message)).collect())
}

fn paths(schema: &Value, config: &Value) -> Vec<String> {
    faults(schema, config).unwrap().into_iter().map(|(path, _)| path).collect()
}

#[test]
fn what_schemas_usually_say_is_understood() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/app.json",
        "type": "object",
        "$defs": { "port": { "type": "integer", "minimum": 1, "maximum": 65535 } },
        "properties": {
            "port": { "$ref": "#/$defs/port" },
            "mode": { "oneOf": [{ "const": "a" }, { "const": "b" }] },
            "url": { "type": "string", "pattern": "^https?://[^/]+(/.*)?$" },
            "a/b": { "type": "array", "items": { "type": "string" }, "uniqueItems": true },
            "$ref": { "type": "string" },
        },
        "patternProperties": { "^x-": true },
        "required": ["port"],
        "unevaluatedProperties": false,
    });
    let good = json!({ "port": 80, "mode": "a", "url": "http://h/", "a/b": ["x"], "x-1": 1, "$ref": "y" });
    assert_eq!(faults(&schema, &good), Ok(vec![]));
    let bad = json!({ "port": 0, "mode": "c", "url": "ftp://h", "a/b": ["x", 1, "x"], "y": 1 });
    assert_eq!(paths(&schema, &bad), ["/a~1b", "/a~1b/1", "/mode", "/port", "/url", "/y"]);
    for draft in ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"] {
        let schema = json!({ "$schema": draft, "definitions": { "s": { "type": "string" } },
            "items": [{ "$ref": "#/definitions/s" }] });
        assert_eq!(paths(&schema, &json!([1])), ["/0"], "{draft}");
    }
    assert_eq!(faults(&json!(true), &json!({})), Ok(vec![]));
    assert_eq!(paths(&json!(false), &json!({})), [""]);
}

#[test]
fn a_value_is_in_no_fault() {
    let schema = json!({
        "additionalProperties": {
            "allOf": [
                { "type": "integer" }, { "pattern": "^a+$" }, { "minLength": 100 }, { "enum": ["x"] },
                { "const": 1 }, { "not": { "type": "string" } },
                { "anyOf": [{ "pattern": "^b+$" }, { "maxLength": 1 }] }, { "oneOf": [{ "pattern": "^c" }] },
            ],
        },
        "propertyNames": { "maxLength": 6 },
    });
    let found = faults(&schema, &json!({ "key": "hunter2" })).unwrap();
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(found.iter().all(|(path, why)| path == "/key" && !why.contains("hunter2")), "{found:?}");
    let numbers = json!({ "additionalProperties": {
        "allOf": [{ "maximum": 1 }, { "minimum": 99_999_999 }, { "multipleOf": 7.5 }, { "exclusiveMaximum": 2 }],
    } });
    let found = faults(&numbers, &json!({ "pin": 47_114_711 })).unwrap();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|(_, why)| !why.contains("47114711")), "{found:?}");
    // Formats are looked at in drafts that say so.
    let format = json!({ "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": { "key": { "format": "ipv4" }, "mail": { "format": "email" } } });
    let found = faults(&format, &json!({ "key": "hunter2", "mail": "hunter2" })).unwrap();
    assert!(found.len() == 2 && found.iter().all(|(_, why)| !why.contains("hunter2")), "{found:?}");
}

#[test]
fn nothing_is_fetched_for_a_schema() {
    for reference in
        ["https://example.com/s", "http://127.0.0.1:1/", "file:///etc/passwd", "other.json", "//h/s"]
    {
        let refused = refusal(&json!({ "properties": { "a": { "$ref": reference } } }));
        assert!(refused.contains("nothing is fetched"), "{reference}: {refused}");
    }
    for bad in [
        json!({ "$schema": "https://example.com/schema" }),
        json!({ "$schema": 1 }),
        json!({ "$dynamicRef": "#meta" }),
        json!({ "$recursiveRef": "#" }),
        json!({ "properties": { "a": { "$id": "https://example.com/", "$ref": "#/x" } } }),
        json!({ "$ref": "#/nowhere" }),
        json!({ "$ref": "#anchor" }),
        json!([]),
        json!({ "type": "strnig" }),
        json!({ "properties": 1 }),
    ] {
        assert!(!refusal(&bad).is_empty(), "{bad}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let circles = [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } },
            "properties": { "x": { "$ref": "#/$defs/a" } } }),
        json!({ "dependentSchemas": { "a": { "if": { "$ref": "#" } } } }),
    ];
    for circle in circles {
        assert!(refusal(&circle).contains("without an end"), "{circle}: {}", refusal(&circle));
    }
    // Each line doubles what is to be done.
    let reference = |n: usize| json!({ "$ref": format!("#/$defs/d{n}") });
    let doubling = |key: &str, lines: usize| {
        let defs: serde_json::Map<_, _> = (0..lines)
            .map(|n| (format!("d{n}"), json!({ key: [reference(n + 1), reference(n + 1)] })))
            .chain([(format!("d{lines}"), json!({ "type": "string" }))])
            .collect();
        json!({ "$defs": defs, "$ref": "#/$defs/d0" })
    };
    for key in ["allOf", "anyOf", "oneOf"] {
        assert!(refusal(&doubling(key, 30)).contains("for one value"), "{}", refusal(&doubling(key, 30)));
        assert_eq!(refusal(&doubling(key, 4)), "");
    }
    // With each level of the value, too.
    let levels = json!({ "anyOf": [
        { "properties": { "x": { "$ref": "#" } } }, { "properties": { "x": { "$ref": "#" } } },
    ] });
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "x": inner }));
    assert_eq!(faults(&levels, &deep(5)), Ok(vec![]));
    assert!(faults(&levels, &deep(29)).unwrap_err().contains("too long"));
    // Deep, large, many.
    assert!(refusal(&(0..40).fold(json!(true), |inner, _| json!({ "not": inner }))).contains("levels"));
    assert!(refusal(&json!({ "enum": vec![1; 20_000] })).contains("values"));
    let references: Vec<_> = (0..300).map(|_| json!({ "$ref": "#/$defs/d" })).collect();
    let many = json!({ "$defs": { "d": true }, "prefixItems": references });
    assert!(refusal(&many).contains("references"));
    assert!(refusal(&json!({ "description": "x".repeat(200_000) })).contains("bytes"));
    let no_json = "[".repeat(100_000);
    assert!(check(&no_json).unwrap_err().contains("no JSON"));
}

#[test]
fn a_pattern_costs_little_or_is_refused() {
    let of = |pattern: &str| json!({ "properties": { "a": { "pattern": pattern } } });
    for pattern in ["(a{1000}){1000}", r"((((\w{99}){99}){99}){99})", "(?:x{50}){50}{50}{50}"] {
        assert!(refusal(&of(pattern)).contains("costs too much"), "{pattern}: {}", refusal(&of(pattern)));
    }
    for pattern in ["(?=a)b", r"(a)\1", "(", &"a".repeat(2000)] {
        assert!(refusal(&of(pattern)).contains("pattern"), "{pattern:.20}: {}", refusal(&of(pattern)));
    }
    let many: serde_json::Map<_, _> = (0..100).map(|n| (format!("^{n}"), json!(true))).collect();
    assert!(refusal(&json!({ "patternProperties": many })).contains("patterns"));
    // Where others go back and try again, this takes one way.
    let backtracking = of("^(a+)+$");
    assert_eq!(paths(&backtracking, &json!({ "a": format!("{}b", "a".repeat(50_000)) })), ["/a"]);
}

#[test]
fn as_many_faults_as_anybody_reads_are_told() {
    let found = faults(&json!({ "items": { "type": "string" } }), &json!(vec![1; 1000])).unwrap();
    assert_eq!(found.len(), 65);
    assert_eq!(found[64], (String::new(), "and 936 more".to_owned()));
}
