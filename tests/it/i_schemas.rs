//! Configurations of providers have to fit their schemas: what is wrong is said all at once and before
//! anything is touched, and a schema that is too much harms its own plugin alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Options, Registry, SOON, Scratch, procfs, wait};
use crate::i_discovery::{findings, put, until_ready, until_said, watching};

/// What must never be seen.
const CANARY: &str = "sk-canary-987";
const SCHEMA: &str = r#"{
    "type": "object", "required": ["port"], "additionalProperties": false,
    "properties": {
        "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
        "dsn": { "type": "string", "pattern": "^db://", "writeOnly": true },
        "hosts": { "items": { "type": "string" } }
    }
}"#;

/// A folder with a schema of its own.
fn put_with_schema(scratch: &Scratch, name: &str, schema: &str, more: &str) -> String {
    let folder = scratch.file(&format!("plugins/{name}"));
    fs::create_dir_all(&folder).expect("it is ours");
    fs::write(format!("{folder}/schema.json"), schema).expect("it is ours");
    put(scratch, name, &format!("schema = 'schema.json'\n{more}"))
}

/// The details of an error that a command shows with `--json`.
fn details(registry: &Registry, code: i32, args: &[&str]) -> Vec<(String, String)> {
    let out = registry.0.cli(&[args, &["--json"]].concat());
    let error = out.expect(code).json()[0]["error"].clone();
    assert_eq!(error["reason"], "invalid_config", "{error}");
    let text = |value: &Value| value.as_str().expect("it is text").to_owned();
    let details = error["details"].as_array().expect("there are some").iter();
    details.map(|detail| (text(&detail["path"]), text(&detail["message"]))).collect()
}

#[test]
fn all_that_is_wrong_with_a_configuration_is_said_at_once() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    let bad = "[config]\nport = 0\ndsn = 'file:hunter2'\nhosts = ['a', 1]\nother = 1\n";
    put_with_schema(&scratch, "bad", SCHEMA, bad);
    put_with_schema(&scratch, "good", SCHEMA, "[config]\nport = 80\n");
    until_ready(&registry, "good");
    until_said(&registry, "plugin bad: invalid: its configuration does not fit its schema");
    assert_eq!(registry.ok(&["names"]), "good");
    // Also where nothing is changed.
    for args in [&["validate"][..], &["discover", "--plugins", "--dry-run"]] {
        let out = registry.cli(&[args, &["--json"]].concat());
        let all = out.expect(8).json();
        let finding = all.iter().find(|finding| finding["name"] == "bad").expect("it is there");
        let detail = finding["detail"].as_str().expect("it is text");
        let paths = ["/dsn", "/hosts/1", "/other", "/port"];
        assert!(finding["what"] == "invalid" && paths.iter().all(|path| detail.contains(path)), "{detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    // A change that does not fit touches nothing.
    let pid = registry.pid("good");
    put_with_schema(&scratch, "good", SCHEMA, "[config]\nport = 'eighty'\n");
    until_said(&registry, "plugin good: invalid: its configuration does not fit its schema: /port");
    assert!(registry.pid("good") == pid && registry.fetch("good").code == 0);
    put_with_schema(&scratch, "good", SCHEMA, "[config]\nport = 81\n");
    wait::until("it is restarted", SOON, || registry.entry("good")["pid"].as_u64() != Some(pid.into()));
}

#[test]
fn a_registration_that_does_not_fit_starts_nothing_and_names_every_place() {
    let scratch = Scratch::new();
    let types = scratch.file("process.json");
    fs::write(&types, r#"{ "properties": { "name": { "maxLength": 3 } } }"#).expect("it is ours");
    let text = format!(
        "[registry.schemas]\nprocess = '{types}'\n[providers.conf]\nbinary = 'fine'\n\
                        config = {{ name = 'much too long' }}\n"
    );
    let registry = Registry::configured(&scratch, &text);
    let config = r#"{ "port": "x", "name": "four", "dsn": "hunter2" }"#;
    let register =
        ["registry", "register", "app", "--binary", "fine", "--config", config, "--schema", SCHEMA];
    let found = details(&registry, 2, &register);
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    // Its own schema, and that of its type.
    assert_eq!(paths, ["/dsn", "/name", "/port", "/name"], "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    let start = ["provider", "start", "app", "--binary", "fine", "--config", config];
    assert_eq!(details(&registry, 2, &start).len(), 1);
    registry.cli(&["has", "app"]).expect(3);
    let running = procfs::with_command("rude fine");
    assert!(!running.into_iter().any(|pid| registry.0.is_marked(pid)));
    // Of the configuration file only that one is not used.
    until_said(&registry, "provider conf: its configuration does not fit its schema: /name");
    registry.cli(&["has", "conf"]).expect(3);
    let fits = r#"{ "port": 80 }"#;
    registry.ok(&["register", "app", "--binary", "fine", "--config", fits, "--schema", SCHEMA]);
    // A schema of a type that cannot be read is said where it is needed.
    fs::write(&types, "{").expect("it is ours");
    let register = || registry.cli(&["register", "other", "--binary", "fine"]).expect(2).err();
    assert!(register().contains("its schema: it is no JSON"), "{}", register());
    fs::set_permissions(&types, fs::Permissions::from_mode(0o666)).expect("it is ours");
    assert!(register().contains("the schema of type process"), "{}", register());
    registry.fetch("app").expect(0);
}

#[test]
fn a_reference_is_looked_at_by_what_it_stands_for_and_never_shown() {
    let scratch = Scratch::new();
    let plugins = scratch.file("plugins");
    fs::create_dir_all(&plugins).expect("the directory is ours");
    let config = scratch.file("provost.toml");
    fs::write(&config, format!("[registry.discovery]\nplugin_path = '{plugins}'\n")).expect("it is ours");
    let keys = [format!("GOOD_DSN=db://{CANARY}"), format!("BAD_DSN={CANARY}")];
    let options = Options::new().through(&["env", &keys[0], &keys[1]]).serve(&["--config", &config]);
    let registry = Registry::of(options.start());
    put_with_schema(&scratch, "bad", SCHEMA, "[config]\nport = 1\ndsn = { '$env' = 'BAD_DSN' }\n");
    put_with_schema(&scratch, "good", SCHEMA, "[config]\nport = 1\ndsn = { '$env' = 'GOOD_DSN' }\n");
    put_with_schema(&scratch, "missing", SCHEMA, "[config]\nport = 'x'\ndsn = { '$env' = 'NO_DSN' }\n");
    until_ready(&registry, "good");
    until_said(&registry, "plugin bad: invalid: its configuration does not fit its schema: /dsn");
    until_said(&registry, "/dsn the variable NO_DSN is not set");
    // One that a provider repeats is hidden, since its schema says what it is: its key does not.
    registry.binary("refusing", "refuse-init");
    let schema = r#"{ "properties": { "password": {}, "word": { "writeOnly": true } } }"#;
    let config = format!(r#"{{ "password": "{CANARY}", "word": "no such" }}"#);
    let args = ["register", "r", "--binary", "refusing", "--config", &config, "--schema", schema];
    let refused = registry.cli(&args);
    assert!(
        refused.expect(1).err().contains("my [hidden]word is [hidden]") || refused.err().contains("[hidden]")
    );
    let mut seen = vec![refused.err(), registry.0.log()];
    for args in [&["list", "--json"][..], &["events"], &["validate", "--json"], &["discover", "--dry-run"]] {
        seen.push(registry.cli(args).out());
    }
    seen.push(registry.0.ok(&["audit"]));
    seen.push(String::from_utf8_lossy(&registry.0.output("provost.host")).into_owned());
    let leaks: Vec<_> = seen.iter().filter(|text| text.contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    // What is noted is the name.
    let notes = Path::new(registry.0.socket()).parent().expect("it is in a directory").to_owned();
    let note = fs::read_dir(notes)
        .expect("it is there")
        .flatten()
        .filter(|entry| entry.path().join("default.good").exists());
    let bytes: Vec<u8> =
        note.flat_map(|entry| fs::read(entry.path().join("default.good")).unwrap_or_default()).collect();
    let has = |what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
    assert!(has("GOOD_DSN") && !has(CANARY));
}

#[test]
fn h19_a_schema_that_is_a_bomb_harms_its_own_plugin_alone() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    let doubling: Vec<_> = (0..40)
        .map(|n| {
            format!(
                r##""d{n}": {{ "allOf": [{{ "$ref": "#/$defs/d{0}" }}, {{ "$ref": "#/$defs/d{0}" }}] }}"##,
                n + 1
            )
        })
        .collect();
    let doubling =
        format!(r##"{{ "$ref": "#/$defs/d0", "$defs": {{ {}, "d40": true }} }}"##, doubling.join(","));
    let deep = format!("{}true{}", r#"{"not":"#.repeat(5000), "}".repeat(5000));
    let large = format!(r#"{{ "description": "{}" }}"#, "x".repeat(1 << 20));
    let bombs = [
        ("circle", r##"{ "$ref": "#" }"##),
        ("doubling", doubling.as_str()),
        ("deep", deep.as_str()),
        ("large", large.as_str()),
        ("pattern", r#"{ "properties": { "a": { "pattern": "(((a{100}){100}){100}){100}" } } }"#),
        ("remote", r#"{ "$ref": "http://127.0.0.1:1/schema.json" }"#),
        ("file", r#"{ "$ref": "file:///etc/passwd" }"#),
        ("nonsense", r#"{ "type": "strnig" }"#),
    ];
    for (name, schema) in bombs {
        put_with_schema(&scratch, name, schema, "[config]\na = 'b'\n");
    }
    put_with_schema(&scratch, "fine", SCHEMA, "[config]\nport = 1\n");
    until_ready(&registry, "fine");
    until_said(&registry, "plugins/remote: invalid: ");
    assert_eq!(registry.ok(&["names"]), "fine");
    let found = findings(&registry, 8, &["validate"]);
    let invalid = found.iter().filter(|(what, _)| what == "invalid").count();
    assert_eq!((invalid, found.len()), (bombs.len(), bombs.len() + 1), "{found:?}");
    registry.fetch("fine").expect(0);
}
