//! Plugins that mean harm: folders that others can change, ways out of the folder, executables that are
//! swapped, variables that load other code, and manifests that ask for more than they may have. Each is
//! refused with the reason, nothing of it runs, and the others go on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::harness::{Options, Registry, SOON, Scratch, fixture, wait};
use crate::i_discovery::{findings, put, until_ready, until_said, watching};

/// Puts a folder there that is bad, before anybody can look at it: it is made elsewhere and moved.
fn put_bad(scratch: &Scratch, name: &str, more: &str, spoil: impl FnOnce(&str)) {
    let made = Scratch::new();
    let folder = put(&made, name, more);
    spoil(&folder);
    fs::rename(&folder, scratch.file(&format!("plugins/{name}"))).expect("both are on one file system");
}

fn chmod(path: &str, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// Replaces a file of the folder by a link.
fn link(folder: &str, file: &str, to: &str) {
    let _ = fs::remove_file(format!("{folder}/{file}"));
    symlink(to, format!("{folder}/{file}")).expect("it is ours");
}

/// Replaces its manifest.
fn manifest(folder: &str, text: &str) {
    fs::write(format!("{folder}/plugin.toml"), text).expect("it is ours");
}

/// Fails unless these are refused for these reasons, only `fine` runs, and it can be used.
fn expect_refused(registry: &Registry, bad: &[(&str, &str)]) {
    until_ready(registry, "fine");
    wait::until("all are looked at", SOON, || findings(registry, 8, &["validate"]).len() == bad.len() + 1);
    let all = registry.cli(&["validate", "--json"]).json();
    for (name, why) in bad {
        let place = format!("/{name}");
        let is_it = |text: &str| text == *name || text.ends_with(&place);
        let finding = all.iter().find(|f| is_it(f["name"].as_str().expect("it is text")));
        let finding = finding.unwrap_or_else(|| panic!("{name} is not there: {all:?}"));
        let detail = finding["detail"].as_str().expect("it is text");
        assert!(finding["what"] == "invalid" && detail.contains(why), "{name}: {finding}");
    }
    assert_eq!(registry.ok(&["names"]), "fine");
    // Nothing of the others was started, for however short a time.
    let started = registry.0.cli(&["events", "--json"]).json().into_iter().filter_map(|event| {
        let name = event["name"].as_str().filter(|name| name.starts_with("provider."))?;
        (event["kind"] == "started").then(|| name.to_owned())
    });
    assert_eq!(started.collect::<Vec<_>>(), ["provider.default.fine"]);
    registry.fetch("fine").expect(0);
}

#[test]
fn h19_a_folder_that_others_can_change_or_that_leads_elsewhere_is_not_used() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    let elsewhere = Scratch::new();
    let outside = put(&elsewhere, "outside", "");
    put_bad(&scratch, "open-folder", "", |folder| chmod(folder, 0o777));
    put_bad(&scratch, "open-manifest", "", |folder| chmod(&format!("{folder}/plugin.toml"), 0o666));
    put_bad(&scratch, "open-executable", "", |folder| chmod(&format!("{folder}/run"), 0o757));
    put_bad(&scratch, "group-executable", "", |folder| chmod(&format!("{folder}/run"), 0o775));
    put_bad(&scratch, "executable-link", "", |folder| link(folder, "run", &format!("{outside}/run")));
    put_bad(&scratch, "manifest-link", "", |folder| {
        link(folder, "plugin.toml", &format!("{outside}/plugin.toml"));
    });
    put_bad(&scratch, "dots", "", |folder| {
        manifest(folder, "name = 'dots'\nexecutable = '../fine/run'\n");
    });
    put_bad(&scratch, "absolute", "", |folder| {
        manifest(folder, "name = 'absolute'\nexecutable = '/bin/sh'\n");
    });
    put_bad(&scratch, "schema-link", "schema = 's.json'\n", |folder| {
        fs::write(elsewhere.file("s.json"), "{}").expect("it is ours");
        link(folder, "s.json", &elsewhere.file("s.json"));
    });
    put_bad(&scratch, "schema-dots", "schema = '../fine/plugin.toml'\n", |_| {});
    symlink(&outside, scratch.file("plugins/folder-link")).expect("it is ours");
    // A link that stays inside is nothing bad.
    put_bad(&scratch, "fine", "", |folder| {
        fs::rename(format!("{folder}/run"), format!("{folder}/run-1.2")).expect("it is ours");
        link(folder, "run", "run-1.2");
    });
    expect_refused(
        &registry,
        &[
            ("open-folder", "others can change"),
            ("open-manifest", "others can change"),
            ("open-executable", "others may write to"),
            ("group-executable", "others may write to"),
            ("executable-link", "a path in the folder, and leads nowhere else"),
            ("manifest-link", "leads nowhere else"),
            ("dots", "a path in the folder, and leads nowhere else"),
            ("absolute", "a path in the folder, and leads nowhere else"),
            ("schema-link", "leads nowhere else"),
            ("schema-dots", "leads nowhere else"),
            ("folder-link", "it is a link"),
        ],
    );
}

#[test]
fn h19_a_manifest_that_is_a_bomb_or_a_lie_is_refused() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    put_bad(&scratch, "pipe", "", |folder| {
        fs::remove_file(format!("{folder}/plugin.toml")).expect("it is ours");
        let made = Command::new("mkfifo").arg(format!("{folder}/plugin.toml")).status();
        assert!(made.expect("there is mkfifo").success());
    });
    put_bad(&scratch, "large", &format!("# {}\n", "x".repeat(2 << 20)), |_| {});
    let deep = format!("config = {{ a = {}{} }}\n", "[".repeat(5000), "]".repeat(5000));
    put_bad(&scratch, "deep", &deep, |_| {});
    let dotted = format!("[config.{}]\nx = 1\n", vec!["a"; 5000].join("."));
    put_bad(&scratch, "dotted", &dotted, |_| {});
    put_bad(&scratch, "credential", "type = 'credential'\n", |_| {});
    put_bad(&scratch, "escape", "type = \"\\u001b[2J\"\n", |_| {});
    let labels: String = (0..100).map(|n| format!("l{n} = 'x'\n")).collect();
    put_bad(&scratch, "labels", &format!("[labels]\n{labels}"), |_| {});
    put_bad(&scratch, "pinned", &format!("sha256 = '{}'\n", "0".repeat(64)), |_| {});
    put(&scratch, "fine", "");
    expect_refused(
        &registry,
        &[
            ("pipe", "not a regular file"),
            ("large", "larger than"),
            ("deep", ""),
            ("dotted", ""),
            ("credential", "the type 'credential' is no executable's"),
            ("escape", "'type' is one line"),
            ("labels", "100 labels are more than"),
            ("pinned", "as pinned"),
        ],
    );
}

#[test]
fn a_pinned_executable_that_is_swapped_is_not_run_again() {
    let scratch = Scratch::new();
    let registry = watching(&scratch, "");
    let run = scratch.file("run");
    fs::write(&run, format!("#!/bin/sh\nexec {} fine\n", fixture("rude"))).expect("it is ours");
    let sum = Command::new("sha256sum").arg(&run).output().expect("there is sha256sum");
    let digits = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
    let folder = put(&scratch, "app", &format!("sha256 = '{digits}'\n"));
    until_ready(&registry, "app");
    let (new, mark) = (format!("{folder}/new"), scratch.file("was-run"));
    fs::write(&new, format!("#!/bin/sh\necho x > {mark}\nexec {} fine\n", fixture("rude")))
        .expect("it is ours");
    chmod(&new, 0o755);
    fs::rename(&new, format!("{folder}/run")).expect("it is ours");
    registry.kill("app");
    assert_eq!(registry.fetch_reason(6, "app"), "pin_mismatch");
    assert!(!Path::new(&mark).exists());
}

#[test]
fn variables_that_load_other_code_reach_no_plugin() {
    let scratch = Scratch::new();
    let plugins = scratch.file("plugins");
    fs::create_dir_all(&plugins).expect("the directory is ours");
    let config = scratch.file("provost.toml");
    fs::write(&config, format!("[registry.discovery]\nplugin_path = '{plugins}'\n")).expect("it is ours");
    let variables = ["EVIL=1", "KIND=2", "PYTHONPATH=/evil", "PROVOST_EVIL=3"];
    let options = Options::new().through(&[&["env"][..], &variables].concat()).serve(&["--config", &config]);
    let registry = Registry::of(options.start());
    put_bad(&scratch, "preload", "env_allow = ['PATH', 'LD_PRELOAD']\n", |_| {});
    put_bad(&scratch, "ours", "env_allow = ['PROVOST_EVIL']\n", |_| {});
    put_bad(&scratch, "python", "env_allow = ['PYTHONPATH']\n", |_| {});
    put_bad(&scratch, "all", "env_clear = false\n", |_| {});
    put_bad(&scratch, "refers", "[config]\na = [{ b = { '$env' = 'PROVOST_EVIL' } }]\n", |_| {});
    put_bad(&scratch, "sets", "env = { LD_PRELOAD = '/evil.so' }\n", |_| {});
    put_bad(&scratch, "file", "env_file = '/etc/environment'\n", |_| {});
    put(&scratch, "fine", "env_allow = ['KIND', 'EVIL=2', '']\n");
    expect_refused(
        &registry,
        &[
            ("preload", "the variable 'LD_PRELOAD', which the policy does not allow"),
            ("ours", "the variable 'PROVOST_EVIL'"),
            ("python", "the variable 'PYTHONPATH'"),
            ("all", "'env_clear = false' is not for plugins"),
            ("refers", "the variable 'PROVOST_EVIL'"),
            ("sets", "unknown key 'env'"),
            ("file", "unknown key 'env_file'"),
        ],
    );
    let environment = fs::read(format!("/proc/{}/environ", registry.pid("fine"))).expect("it runs");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.split('\0').any(|pair| pair == "KIND=2"), "{environment:?}");
    assert!(!environment.contains("evil") && !environment.contains("EVIL"), "{environment:?}");
}

#[test]
fn a_manifest_that_asks_for_more_than_the_policy_allows_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    let registry = watching(
        &scratch,
        "[registry.plugins]\nvariables = ['KIND']\nfiles = ['/run/secrets']\nlimits = { nofile = '64:128' }\n\
         landlock_read = ['/']\nlandlock_write = ['/tmp']\nlandlock_optional = true\n",
    );
    put_bad(&scratch, "variable", "env_allow = ['HOME']\n", |_| {});
    put_bad(&scratch, "reference", "[config]\nkey = { '$env' = 'HOME' }\n", |_| {});
    put_bad(&scratch, "secret", "[config]\nkey = { '$file' = '/etc/shadow' }\n", |_| {});
    put_bad(&scratch, "limit", "limits = { nofile = '1024:1024' }\n", |_| {});
    put_bad(&scratch, "write", "landlock_write = ['/etc']\n", |_| {});
    put_bad(&scratch, "write-dots", "landlock_write = ['/tmp/../etc']\n", |_| {});
    put(&scratch, "fine", "env_allow = ['KIND']\n");
    expect_refused(
        &registry,
        &[
            ("variable", "the variable 'HOME', which the policy does not allow"),
            ("reference", "the variable 'HOME'"),
            ("secret", "the file '/etc/shadow'"),
            ("limit", "more nofile than the policy allows"),
            ("write", "'/etc' by landlock"),
            ("write-dots", "by landlock"),
        ],
    );
    // One that asks for nothing has what the policy says.
    let limits = fs::read_to_string(format!("/proc/{}/limits", registry.pid("fine"))).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is there");
    assert_eq!(files.split_ascii_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["64", "128"]);
    until_said(&registry, "more nofile than the policy allows");
}
