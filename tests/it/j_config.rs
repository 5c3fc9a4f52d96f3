//! `provost config`: every value of a configuration with the line that it comes from, and the schema for
//! editors, tried by a real validator.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Scratch, binary, cli};

/// Says for each file on its command line whether the schema takes it, and what it says if not.
const VALIDATE: &str = "import json, sys, tomllib
import jsonschema
schema = json.load(open(sys.argv[1]))
cls = jsonschema.validators.validator_for(schema)
cls.check_schema(schema)
for path in sys.argv[2:]:
    errors = sorted(cls(schema).iter_errors(tomllib.load(open(path, 'rb'))), key=str)
    print('; '.join('/'.join(map(str, e.path)) + ': ' + e.message for e in errors) or 'taken')
";

fn config(args: &[&str]) -> cli::Output {
    let mut command = Command::new(binary());
    command.arg("config").args(args).env_remove("PROVOST_SOCKET").env("XDG_CONFIG_HOME", "/nowhere");
    cli::run(command, Duration::from_secs(20))
}

/// What the validator says of each text.
fn said_of(texts: &[String]) -> Vec<String> {
    let scratch = Scratch::new();
    let schema = scratch.file("schema.json");
    fs::write(&schema, config(&["schema"]).expect(0).out()).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", VALIDATE, &schema]);
    for (n, text) in texts.iter().enumerate() {
        let path = scratch.file(&format!("{n}.toml"));
        fs::write(&path, text).unwrap();
        command.arg(path);
    }
    let output = cli::run(command, Duration::from_secs(60));
    output.expect(0).out().lines().map(str::to_owned).collect()
}

/// The examples of the reference, beside the files that are shipped.
#[test]
fn a_validator_takes_what_the_service_takes() {
    let mut texts = vec![
        include_str!("../../packaging/example.toml").to_owned(),
        include_str!("../../packaging/demo.toml").to_owned(),
        String::new(),
    ];
    texts.extend(examples());
    assert!(texts.len() > 8, "{}", texts.len());
    for (text, said) in texts.iter().zip(said_of(&texts)) {
        assert_eq!(said, "taken", "{text}");
    }
}

/// What the reference shows.
fn examples() -> impl Iterator<Item = String> {
    let reference = include_str!("../../docs/config.md");
    reference.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap().to_owned())
}

#[test]
fn the_examples_of_the_reference_are_taken_but_for_what_is_not_on_this_machine() {
    let scratch = Scratch::new();
    let path = scratch.file("provost.toml");
    for text in examples() {
        fs::write(&path, &text).unwrap();
        let said = config(&["show", &path]);
        let foreign =
            ["No such file or directory", "there is no group", "there is no user", "is not declared"];
        let is_foreign = said.code == 2 && foreign.iter().any(|why| said.err().contains(why));
        assert!(said.code == 0 || is_foreign, "{text}\n{}", said.err());
    }
}

#[test]
fn a_validator_refuses_other_kinds_and_unknown_keys_by_their_place() {
    let refused = [
        ("orphans = 'keep'", "orphans"),
        ("wibble = 1", "wibble"),
        ("[history]\nkeep_events = '5'", "history/keep_events"),
        ("[history]\nkeep_events = 5", "history/keep_events"),
        ("[history]\nkeep = '5 weeks'", "history/keep"),
        ("[process.a]\ncwd = '/'", "process/a"),
        ("[process.a]\ncommand = 'sleep 1'", "process/a/command"),
        ("[process.a]\ncommand = ['a']\nnice = -21", "process/a/nice"),
        ("[process.a]\ncommand = ['a']\nrestart = 'sometimes'", "process/a/restart"),
        ("[process.a]\ncommand = ['a']\nready_tpc = 80", "ready_tpc"),
        ("[process.a]\ncommand = ['a']\nready_tcp = 65536", "process/a/ready_tcp"),
        ("[process.a]\ncommand = ['a']\nenv = { A = 1 }", "process/a/env"),
        ("[process.a]\ncommand = ['a']\nforking = 'yes'", "process/a/forking"),
        ("[process.a]\ncommand = ['a']\nsuccess_codes = [256]", "process/a/success_codes/0"),
        ("[defaults]\ncommand = ['a']", "command"),
        ("[[sink]]\nname = 'a'", "sink/0"),
        ("[local.group_roles]\nusers = 'king'", "local/group_roles/users"),
        ("[grpc]\ncertificates = '/c'", "grpc"),
        ("[providers.x]\nbinary = 'x'\ntls = 'maybe'", "providers/x/tls"),
        ("[modules.namespaces]\n'a.b' = 'dns:a'", "modules/namespaces/a.b"),
    ];
    let texts: Vec<_> = refused.iter().map(|(text, _)| (*text).to_owned()).collect();
    for ((text, place), said) in refused.iter().zip(said_of(&texts)) {
        assert!(said != "taken" && said.contains(place), "{text}: {said}");
    }
}

#[test]
fn every_value_is_shown_with_where_it_comes_from() {
    let scratch = Scratch::new();
    let path = scratch.file("provost.toml");
    let text = "orphans = \"adopt\"\n\n[defaults]\nrestart = \"always\"\n\n[process.web]\ncommand = [\"web\"]\n\
                env = { DB_PASSWORD = \"x\", A = \"1\" }\n";
    fs::write(&path, text).unwrap();
    fs::create_dir(scratch.file("conf.d")).unwrap();
    let other = scratch.file("conf.d/more.toml");
    fs::write(&other, "[process.more]\ncommand = [\"more\"]\n").unwrap();
    let rows = config(&["show", "--json", &path]).expect(0).json();
    let find = |section: &str, key: &str| -> Value {
        let found = rows.iter().find(|row| row["section"] == section && row["key"] == key);
        found.unwrap_or_else(|| panic!("{section} {key}")).clone()
    };
    assert_eq!((&find("", "orphans")["value"], &find("", "orphans")["line"]), (&"adopt".into(), &1.into()));
    let common = find("process.web", "restart");
    assert_eq!((&common["value"], &common["line"]), (&"always".into(), &4.into()), "{common}");
    assert_eq!(find("process.more", "command")["file"], other);
    assert_eq!(find("process.web", "stop_timeout")["from"], "default");
    assert_eq!(find("process.web", "env")["value"]["DB_PASSWORD"], "***");
    assert_eq!(find("", "--config")["from"], "command line");
    // In a pipe, fields set apart by tabs; and what is said alone.
    let set = config(&["show", "--set", "--socket", "/tmp/x", &path]);
    let lines: Vec<_> = set.expect(0).out().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "\t--socket\t/tmp/x\tcommand line");
    assert_eq!(lines[2], format!("\torphans\t\"adopt\"\t{path}:1"));
    assert!(lines.iter().all(|line| !line.ends_with("default")), "{lines:?}");
    // The service's own values are there without any file.
    assert!(config(&["show"]).expect(0).out().contains("history\tkeep\t\"30d\"\tdefault"));
    // What apply and the service refuse, with their words, behind what stands there.
    fs::write(&path, "[process.web]\ncommand = [\"web\"]\nrestrt = \"always\"\n").unwrap();
    let shown = config(&["show", "--set", &path]);
    assert!(shown.expect(2).out().contains("process.web\trestrt\t\"always\""));
    assert!(shown.err().contains("line 3, column 1: unknown key 'restrt' in [process.web]"), "{shown:?}");
    assert!(shown.err().contains("the nearest key there is: restart"), "{shown:?}");
    let mut apply = Command::new(binary());
    apply.args(["apply", "--dry-run", &path]);
    assert_eq!(cli::run(apply, Duration::from_secs(20)).expect(2).err(), shown.err());
    fs::write(&path, "[history]\nkeep = \"5 weeks\"\n").unwrap();
    assert!(config(&["show", &path]).expect(2).err().contains("line 2"));
    fs::write(&path, "orphans = [").unwrap();
    assert!(
        config(&["show", &path]).expect(2).err().contains("line 1"),
        "what is no TOML is refused by its place"
    );
}
