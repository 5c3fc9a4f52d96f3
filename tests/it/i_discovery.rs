//! Providers are discovered: folders of plugins, the configuration, variables of the environment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Options, Registry, SOON, Scratch, fixture, procfs, wait};

/// What must never be seen.
const CANARY: &str = "sk-canary-123";

/// A service that watches a directory of plugins, which is there.
pub fn watching(scratch: &Scratch, more: &str) -> Registry {
    let plugins = scratch.file("plugins");
    fs::create_dir_all(&plugins).expect("the directory is ours");
    Registry::configured(scratch, &format!("[registry.discovery]\nplugin_path = '{plugins}'\n{more}"))
}

/// Puts a folder there, or changes its manifest.
pub fn put(scratch: &Scratch, name: &str, more: &str) -> String {
    let folder = scratch.file(&format!("plugins/{name}"));
    let run = format!("{folder}/run");
    if !Path::new(&run).exists() {
        fs::create_dir_all(&folder).expect("it is ours");
        fs::write(&run, format!("#!/bin/sh\nexec {} fine\n", fixture("rude"))).expect("it is ours");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let manifest = format!("name = '{name}'\nversion = '1.2'\nexecutable = 'run'\n{more}");
    fs::write(format!("{folder}/plugin.toml"), manifest).expect("it is ours");
    folder
}

pub fn until_ready(registry: &Registry, name: &str) -> u32 {
    wait::until("it is there", SOON, || registry.cli(&["has", name]).code == 0);
    wait::until("it is ready", SOON, || registry.status(name) == "ready");
    registry.pid(name)
}

pub fn until_said(registry: &Registry, what: &str) {
    wait::until(what, SOON, || String::from_utf8_lossy(&registry.0.output("provost.host")).contains(what));
}

/// What a discovery says, as pairs of what and name.
pub fn findings(registry: &Registry, code: i32, args: &[&str]) -> Vec<(String, String)> {
    let out = registry.cli(&[args, &["--json"]].concat());
    out.expect(code);
    let text = |value: &Value| value.as_str().expect("it is text").to_owned();
    out.json().iter().map(|f| (text(&f["what"]), text(&f["name"]))).collect()
}

#[test]
fn a_folder_comes_changes_and_goes_and_so_does_its_provider() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    let folder = put(&scratch, "one", "type = 'files'\n");
    put(&scratch, "two", "");
    // Nobody asks for it.
    let (one, two) = (until_ready(&registry, "one"), until_ready(&registry, "two"));
    let entry = registry.entry("one");
    assert_eq!(
        (&entry["source"], &entry["type"], &entry["version"]),
        (&json!("plugin"), &json!("files"), &json!("1.2"))
    );
    registry.fetch("one").expect(0);
    // Only what differs is restarted.
    put(&scratch, "one", "type = 'files'\n[config]\nn = 2\n");
    wait::until("it is restarted", SOON, || registry.entry("one")["pid"].as_u64() != Some(one.into()));
    let again = until_ready(&registry, "one");
    assert!(!procfs::alive(one) && registry.pid("two") == two);
    // What is no difference of how it runs restarts nothing.
    put(&scratch, "one", "type = 'files'\n[config]\nn = 2\n[labels]\nteam = 'a'\n");
    wait::until("it has a label", SOON, || registry.entry("one")["labels"] == json!({ "team": "a" }));
    assert_eq!(registry.pid("one"), again);
    // Bad ones are said, and leave all others alone; what was good before stays.
    put(&scratch, "one", "nonsense = 1\n");
    put(&scratch, "bad", "executables = 1\n");
    until_said(&registry, "unknown key 'nonsense'");
    until_said(&registry, "unknown key 'executables'");
    assert_eq!((registry.pid("one"), registry.pid("two")), (again, two));
    // The next host finds them as they were.
    procfs::signal("KILL", registry.0.pid("provost.host"));
    wait::until("the host answers", SOON, || registry.cli(&["has", "two"]).code == 0);
    assert_eq!((registry.pid("one"), registry.pid("two")), (again, two));
    fs::remove_dir_all(&folder).expect("it is ours");
    wait::until("it is gone", SOON, || registry.cli(&["has", "one"]).code == 3);
    assert!(!procfs::alive(again) && registry.pid("two") == two);
    let kinds = registry.kinds_until("one", "provider-unregistered");
    assert_eq!(
        kinds,
        [
            "provider-registered",
            "provider-started",
            "provider-stopped",
            "provider-started",
            "provider-stopped",
            "provider-unregistered"
        ]
    );
}

/// It is up as soon as its folder is there, and so it is with the next service.
#[test]
fn a_plugin_runs_again_with_the_next_service() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    for name in ["same", "changed", "halted"] {
        put(&scratch, name, "");
        until_ready(&registry, name);
    }
    registry.ok(&["stop", "halted"]);
    for round in 0..2 {
        if round == 0 {
            registry.0.end()
        } else {
            registry.0.kill_all()
        }
        put(&scratch, "changed", &format!("[config]\nround = {round}\n"));
        registry.0.serve_again();
        // Nobody asks for them.
        for name in ["same", "changed"] {
            until_ready(&registry, name);
        }
        assert_eq!(registry.status("halted"), "stopped");
    }
}

#[test]
fn a_secret_is_nowhere() {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    let text = "[registry.discovery]
enable_environment_discovery = true
[[registry.discovery.environment]]
variable = 'APP_KEY'
name = 'app'
type = 'process'
binary = 'fine'
config = { password = { '$env' = 'APP_KEY' } }
env_clear = true
[providers.refusing]
lazy = true
binary = 'refusing'
config = { nested = [{ password = { '$env' = 'APP_KEY' } }], password = { '$env' = 'APP_KEY' } }
[providers.missing]
lazy = true
binary = 'fine'
config = { password = { '$env' = 'NO_SUCH_KEY' } }
";
    fs::write(&config, text).expect("it is ours");
    let keys = [format!("ANTHROPIC_API_KEY={CANARY}"), format!("APP_KEY={CANARY}")];
    let options = Options::new().through(&["env", &keys[0], &keys[1]]).serve(&["--config", &config]);
    let registry = Registry::of(options.start());
    registry.binary("refusing", "refuse-init");
    wait::until("it is there", SOON, || registry.cli(&["has", "anthropic"]).code == 0);
    let entry = registry.entry("anthropic");
    assert_eq!(
        (&entry["type"], &entry["source"], &entry["status"]),
        (&json!("credential"), &json!("environment"), &json!("ready"))
    );
    assert_eq!(registry.fetch_reason(6, "anthropic"), "credential");
    registry.cli(&["has", "openai"]).expect(3);
    // What a provider gets is the secret itself.
    registry.ok(&["discover"]);
    let length = registry.0.ok(&["provider", "fetch", "app", "password-length", "--unwrap"]);
    assert_eq!(length, CANARY.len().to_string());
    let refused = registry.0.cli(&["provider", "fetch", "refusing", "pid"]);
    assert!(refused.err().contains("[hidden]"), "{refused:?}");
    assert_eq!(registry.fetch_reason(2, "missing"), "invalid_config");
    let mut seen = vec![refused.err(), registry.0.log()];
    for args in [&["list", "--json"][..], &["events"], &["validate", "--json"], &["discover", "--dry-run"]] {
        seen.push(registry.cli(args).out());
    }
    for args in [&["events"][..], &["audit"], &["list"], &["provider", "list", "--json"], &["env"]] {
        seen.push(registry.0.cli(args).out());
    }
    seen.push(String::from_utf8_lossy(&registry.0.output("provost.host")).into_owned());
    for pid in registry.0.ours() {
        seen.push(procfs::command(pid));
    }
    let leaks: Vec<_> = seen.iter().filter(|text| text.contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    // The database, the notes, and whatever else there is of files.
    let state = registry.0.state_dir();
    let mut files = 0;
    let runtime = Path::new(registry.0.socket()).parent().expect("it is in a directory").to_owned();
    let mut directories = vec![state.into(), runtime];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("it has a type");
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                files += 1;
                let is_there = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
                assert!(!is_there, "{}", entry.path().display());
            }
        }
    }
    assert!(files > 3, "{files}");
}

#[test]
fn of_one_name_the_configuration_is_over_a_plugin_and_a_registration_over_both() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "[providers.app]\nbinary = 'fine'\nlazy = true\n");
    put(&scratch, "app", "");
    put(&scratch, "mine", "");
    until_ready(&registry, "mine");
    wait::until("it is seen", SOON, || registry.entry("app")["shadows"] == json!(["plugin"]));
    assert_eq!(registry.entry("app")["source"], "config");
    until_said(&registry, "plugin app: shadowed: not used, since config has one of this name");
    registry.ok(&["unregister", "mine"]);
    registry.register("mine");
    let pid = registry.pid("mine");
    let found = findings(&registry, 0, &["discover", "--dry-run"]);
    assert_eq!(found, [("shadowed".into(), "app".into()), ("shadowed".into(), "mine".into())]);
    registry.ok(&["discover"]);
    let entry = registry.entry("mine");
    assert_eq!((&entry["source"], &entry["shadows"]), (&json!("api"), &json!(["plugin"])));
    assert_eq!(registry.pid("mine"), pid);
}

#[test]
fn the_configuration_is_read_again_when_it_is_asked_for() {
    let scratch = Scratch::new();
    let config = scratch.file("provost.toml");
    let registry =
        Registry::configured(&scratch, "[providers.a]\nbinary = 'fine'\n[providers.b]\nbinary = 'fine'\n");
    registry.fetch("a").expect(0);
    registry.fetch("b").expect(0);
    let (a, b) = (registry.pid("a"), registry.pid("b"));
    let text = "[providers.a]\nbinary = 'fine'\nconfig = { n = 1 }\n[providers.c]\nbinary = 'fine'\nlazy = true\n\
                [providers.d]\nbinary = 'fine'\nenabled = false\n[providers.b]\nbinary = 'fine'\n";
    fs::write(&config, text).expect("it is ours");
    let expected = vec![("added".to_owned(), "c".to_owned()), ("changed".into(), "a".into())];
    assert_eq!(findings(&registry, 0, &["discover", "--config", "--dry-run"]), expected);
    assert_eq!(registry.ok(&["names"]), "a\nb");
    assert_eq!(findings(&registry, 0, &["refresh"]), expected);
    assert_eq!(findings(&registry, 0, &["refresh"]), []);
    assert_eq!(registry.ok(&["refresh"]), "nothing has changed");
    assert_eq!((registry.ok(&["names"]), registry.status("c")), ("a\nb\nc".into(), "idle".into()));
    assert!(registry.pid("a") != a && registry.pid("b") == b);
    fs::write(&config, "[providers.b]\nbinary = 'fine'\n").expect("it is ours");
    registry.ok(&["discover", "--config"]);
    assert_eq!((registry.ok(&["names"]), registry.pid("b")), ("b".into(), b));
    // One that cannot be read changes nothing.
    fs::write(&config, "[providers.b]\n").expect("it is ours");
    let found = findings(&registry, 8, &["discover", "--config"]);
    assert_eq!(found, [("invalid".to_owned(), String::new())]);
    assert_eq!(registry.pid("b"), b);
}

#[test]
fn a_person_names_one_more_file_and_one_more_directory() {
    let scratch = Scratch::new();
    let registry = Registry::configured(&scratch, "[providers.own]\nbinary = 'fine'\nlazy = true\n");
    let more = scratch.file("more.toml");
    let write = |text: &str| fs::write(&more, text).expect("the directory is ours");
    let found = |what: &str, name: &str| vec![(what.to_owned(), name.to_owned())];
    write("[providers.more]\nbinary = 'fine'\n");
    // Nothing is done yet, and nothing is remembered of it.
    let looked = findings(&registry, 0, &["discover", "--config", &more, "--dry-run"]);
    assert_eq!(looked, found("added", "more"));
    assert_eq!(findings(&registry, 0, &["discover"]), []);
    assert_eq!(registry.ok(&["names"]), "own");
    assert_eq!(findings(&registry, 0, &["discover", "--config", &more]), found("added", "more"));
    let pid = until_ready(&registry, "more");
    assert_eq!(registry.entry("more")["source"], "config");
    put(&scratch, "one", "");
    let plugins = format!("--plugins={}", scratch.file("plugins"));
    assert_eq!(findings(&registry, 0, &["discover", &plugins]), found("added", "one"));
    until_ready(&registry, "one");
    // From now on they are places as the others are: what is in them stays, changes and goes.
    assert_eq!(findings(&registry, 0, &["refresh"]), []);
    write("[providers.more]\nbinary = 'fine'\n[providers.next]\nbinary = 'fine'\nlazy = true\n");
    assert_eq!(findings(&registry, 0, &["discover", "--config"]), found("added", "next"));
    assert_eq!(registry.pid("more"), pid);
    write("[providers.next]\nbinary = 'fine'\nlazy = true\n");
    assert_eq!(findings(&registry, 0, &["discover", "--config"]), found("removed", "more"));
    // What is not there is not remembered.
    let none = scratch.file("none.toml");
    assert_eq!(findings(&registry, 8, &["discover", "--config", &none]), found("invalid", &none));
    assert_eq!(findings(&registry, 0, &["discover"]), []);
    // One that others can change is not used, and what it said before holds.
    fs::set_permissions(&more, fs::Permissions::from_mode(0o666)).expect("it is ours");
    assert_eq!(findings(&registry, 8, &["discover"]), found("invalid", &more));
    fs::remove_file(&more).expect("it is ours");
    assert_eq!(findings(&registry, 8, &["discover", "--config"]), found("invalid", &more));
    assert_eq!(registry.ok(&["names"]), "next\none\nown");
    registry.cli(&["discover", "--config="]).expect(2);
}

#[test]
fn a_configuration_names_one_more_file_that_is_looked_at_from_the_start() {
    let scratch = Scratch::new();
    let more = "[providers.more]\nbinary = 'fine'\nlazy = true\n[providers.own]\nbinary = 'exit-early'\n";
    fs::write(scratch.file("more.toml"), more).expect("the directory is ours");
    let own =
        "[registry.discovery]\nconfig_path = 'more.toml'\n[providers.own]\nbinary = 'fine'\nlazy = true\n";
    let registry = Registry::configured(&scratch, own);
    wait::until("it is there", SOON, || registry.cli(&["has", "more"]).code == 0);
    registry.fetch("more").expect(0);
    // Of two of one name that of the configuration itself is used.
    registry.fetch("own").expect(0);
    until_said(&registry, "config own: shadowed");
}

#[test]
fn looks_are_begun_and_ended_while_it_runs() {
    let scratch = Scratch::new();
    let one = |name: &str| format!("[providers.{name}]\nbinary = 'fine'\nlazy = true\n");
    let registry = Registry::configured(&scratch, &one("a"));
    registry.host();
    assert_eq!(registry.ok(&["names"]), "a");
    let config = scratch.file("provost.toml");
    let write = |text: String| fs::write(&config, text).expect("it is ours");
    write(one("a") + &one("b"));
    registry.ok(&["refresh", "start", "--interval", "1s"]);
    wait::until("it is looked at once", SOON, || registry.ok(&["names"]) == "a\nb");
    write(one("b"));
    wait::until("it is looked again", SOON, || registry.ok(&["names"]) == "b");
    // Another interval, and still one who looks.
    registry.ok(&["refresh", "start", "--interval", "2s"]);
    registry.ok(&["refresh", "stop"]);
    write(one("b") + &one("c"));
    let is_as_it_was = || registry.ok(&["names"]) == "b";
    assert!(!wait::holds_within(Duration::from_secs(4), || !is_as_it_was()));
    registry.ok(&["refresh"]);
    assert_eq!(registry.ok(&["names"]), "b\nc");
    registry.cli(&["refresh", "start", "--interval", "1ms"]).expect(2);
}

#[test]
fn what_a_manifest_says_that_it_can_is_what_is_listed() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    put(&scratch, "chats", "capabilities = ['chat', 'embed']\n");
    put(&scratch, "embeds", "capabilities = ['embed']\n");
    until_ready(&registry, "chats");
    until_ready(&registry, "embeds");
    let list = |wanted: &[&str]| {
        let all = registry.cli(&[&["list"], wanted].concat()).json();
        all.iter().map(|e| e["name"].as_str().expect("it is text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&["--capability", "embed"]), ["chats", "embeds"]);
    assert_eq!(list(&["--capability", "embed", "--capability", "chat"]), ["chats"]);
    assert_eq!(list(&["--capability", "sing"]), [""; 0]);
    assert_eq!(registry.entry("embeds")["capabilities"], json!(["embed"]));
}

#[test]
fn a_plugin_that_others_can_change_is_not_run() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    let open = put(&scratch, "open", "");
    fs::set_permissions(format!("{open}/run"), fs::Permissions::from_mode(0o777)).expect("it is ours");
    put(&scratch, "pinned", &format!("sha256 = '{}'\n", "0".repeat(64)));
    put(&scratch, "fine", "");
    until_ready(&registry, "fine");
    until_said(&registry, "others may write to");
    until_said(&registry, "as pinned");
    assert_eq!(registry.ok(&["names"]), "fine");
    let mut found = findings(&registry, 8, &["validate"]);
    found.sort();
    let expected = [("invalid", "open"), ("invalid", "pinned"), ("valid", "fine")];
    assert_eq!(found, expected.map(|(what, name)| (what.to_owned(), name.to_owned())));
}
